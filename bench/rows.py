"""The rows of the table: what is deleted from where, by whom, and how fast is fast enough."""

import abc
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from bench import contenders
from bench.contenders import Contender
from bench.measuring import Bench
from bench.places import Container, Files, Place, RcloneBucket, SlowFiles, VeryLargeObjects
from bench.results import (
    LIMIT,
    SCRUBBER,
    UPSTREAM,
    Figure,
    Measured,
    Target,
    at_least,
    at_most,
    best_upstream,
    fastest,
    of,
)
from bench.scene import Images


class Row(abc.ABC):
    """Something to measure.

    :ivar key: for ``--only``, which also takes the beginning of it.
    :ivar title: for people.
    :ivar quick: whether it is measured without ``--full``, too.
    :cvar beside: what it varies, in the plural; none if nothing.
    """

    key: str
    title: str
    quick: bool = True
    beside: ClassVar[str] = ""

    @abc.abstractmethod
    def measure(self, bench: Bench) -> None: ...

    @abc.abstractmethod
    def figures(self, measured: Sequence[Measured]) -> list[Figure]:
        """What follows, of what could be measured."""


@dataclass(frozen=True)
class Speed(Row):
    """A store that every contender empties.

    :param images: for scrubber and the limit.
    :param upstream_images: for glance-scrubber, as many as take some seconds.
    :param live: images beside them.
    :param pool: of scrubber and the limit.
    :param upstream_pools: of glance-scrubber, the best of which counts: quick, and full.
    :param turns: at most so many, where each is dear.
    """

    key: str
    title: str
    place: type[Place]
    images: int
    upstream_images: int
    times_upstream: Target | None = None
    of_limit: Target | None = None
    database: str = "mariadb"
    live: int = 1000
    pool: int = 16
    upstream_pools: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    turns: int = 99
    quick: bool = True

    def measure(self, bench: Bench) -> None:
        idle = self._idle(bench)
        images = bench.effort.images(self.images)
        for turn in range(min(self.turns, bench.effort.repeat)):
            for name in (SCRUBBER, *self._limits()):
                self._empty(bench, Contender(name, self.pool), images, turn)
            for pool in self._upstream_pools(bench):
                few = bench.effort.images(self.upstream_images)
                self._empty(bench, Contender(UPSTREAM, pool), few, turn, idle)

    def _limits(self) -> tuple[str, ...]:
        return (LIMIT,) if self.place is not SlowFiles else ()

    def _upstream_pools(self, bench: Bench) -> tuple[int, ...]:
        pools: tuple[int, ...] = bench.effort.either(*self.upstream_pools)
        return pools

    def _idle(self, bench: Bench) -> float:
        """What glance-scrubber takes to find nothing, at best."""
        found: list[float] = []
        for pool in self._upstream_pools(bench)[-1:]:
            with (
                bench.surviving(f"{UPSTREAM} without images"),
                bench.scene(self.database, self.place, Images(0)) as scene,
            ):
                for turn in range(2):
                    idle = bench.measure(Contender(UPSTREAM, pool), scene, 0, turn=turn)
                    found.append(idle.seconds)
        return min(found, default=0.0)

    def _empty(
        self, bench: Bench, contender: Contender, images: int, turn: int, idle: float = 0.0
    ) -> None:
        with (
            bench.surviving(contender),
            bench.scene(self.database, self.place, Images(images, self._live(bench))) as scene,
        ):
            bench.measure(contender, scene, images, turn=turn, idle_seconds=idle)

    def _live(self, bench: Bench) -> int:
        return bench.effort.images(self.live)

    def figures(self, measured: Sequence[Measured]) -> list[Figure]:
        ours = fastest(of(measured, SCRUBBER))
        if ours is None:
            return []
        found = []
        if upstream := self.upstream(measured):
            times = ours.per_second / upstream.per_second_at(ours.images)
            found.append(Figure("of glance-scrubber's speed", times, self.times_upstream, " x"))
        if limit := self.limit(measured):
            found.append(Figure("of the limit", ours.per_second / limit, self.of_limit))
        return found

    def upstream(self, measured: Sequence[Measured]) -> Measured | None:
        """At its best pool size."""
        images = max((each.images for each in of(measured, SCRUBBER)), default=0)
        return best_upstream([each for each in measured if each.done], images)

    def limit(self, measured: Sequence[Measured]) -> float | None:
        """Deletes a second."""
        if self.place is SlowFiles:
            return self.pool / SlowFiles.latency
        limit = fastest(of(measured, LIMIT))
        return limit.per_second if limit else None


#: On SQLite its threads lock one another out.
_UPSTREAM_POOLS = {"sqlite": ((1,), (1, 4))}


def _file(database: str, name: str, times: float) -> Speed:
    return Speed(
        f"file-{database}",
        f"file store, {name}",
        Files,
        images=20_000,
        upstream_images=400,
        times_upstream=at_least(times),
        of_limit=at_least(0.4),
        database=database,
        upstream_pools=_UPSTREAM_POOLS.get(database, ((4, 16), (1, 4, 16))),
    )


def _slow(pool: int, upstream: bool = False) -> Speed:
    """Some seconds of work, so that starting is not what is measured."""
    return Speed(
        f"slow-{pool}",
        f"100 ms for each delete, pool {pool}",
        SlowFiles,
        images=int(25 * pool / SlowFiles.latency),
        upstream_images=800,
        times_upstream=at_least(5) if upstream else None,
        of_limit=at_least(0.95),
        pool=pool,
        upstream_pools=((pool,), (pool,)) if upstream else ((), ()),
        turns=1,
        quick=upstream,
    )


SPEED = (
    _file("mariadb", "MariaDB", 60),
    _file("sqlite", "SQLite", 30),
    _file("postgresql", "PostgreSQL", 30),
    _slow(64, upstream=True),
    _slow(16),
    _slow(256),
    Speed(
        "s3",
        "S3 (rclone), DeleteObjects",
        RcloneBucket,
        images=20_000,
        upstream_images=30,
        times_upstream=at_least(100),
        of_limit=at_least(0.8),
        upstream_pools=((1,), (1, 16)),
    ),
    Speed(
        "swift",
        "Swift, plain objects",
        Container,
        images=1_000,
        upstream_images=150,
        times_upstream=at_least(5),
        of_limit=at_least(0.8),
        live=10,
        upstream_pools=((16,), (1, 4, 16)),
    ),
    Speed(
        "dlo",
        f"Swift, DLO of {VeryLargeObjects.segments} segments",
        VeryLargeObjects,
        images=16,
        upstream_images=4,
        times_upstream=at_least(10),
        of_limit=at_least(0.8),
        live=1,
        upstream_pools=((4,), (4, 16)),
        turns=1,
        quick=False,
    ),
)


@dataclass(frozen=True)
class Workers(Row):
    """Two processes beside one, on a machine with as many cores.

    :param images: quick, and full.
    """

    key: str
    title: str
    place: type[Place]
    images: tuple[int, int]
    pool: int = 16
    target: Target = field(default=at_least(1.7))
    quick: bool = True

    def measure(self, bench: Bench) -> None:
        images = bench.effort.images(bench.effort.either(*self.images))
        for turn in range(bench.effort.repeat):
            for workers in (1, 2):
                contender = Contender(SCRUBBER, self.pool, workers=workers)
                with (
                    bench.surviving(contender),
                    bench.scene("mariadb", self.place, Images(images, 1000)) as scene,
                ):
                    bench.measure(contender, scene, images, turn=turn)

    def figures(self, measured: Sequence[Measured]) -> list[Figure]:
        one = fastest(of(measured, SCRUBBER, workers=1))
        two = fastest(of(measured, SCRUBBER, workers=2))
        if not (one and two):
            return []
        return [Figure("of one worker's speed", one.seconds / two.seconds, self.target, " x")]


#: Whose limit is its slots where deletes take time, and the processors, the database's share
#: included, where they do not.
WORKERS = (
    Workers("workers", "2 workers on 2 cores, file store, MariaDB", Files, (20_000, 100_000)),
    Workers(
        "workers-slow",
        "2 workers on 2 cores, 100 ms for each delete, pool 64",
        SlowFiles,
        (16_000, 32_000),
        pool=64,
    ),
)


@dataclass(frozen=True)
class Empty(Row):
    """What cron starts every few minutes, nearly always for nothing."""

    key: str = "empty"
    title: str = "a run that finds nothing, from start to exit"
    target: Target = field(default=at_most(0.5))

    def measure(self, bench: Bench) -> None:
        with bench.scene("mariadb", Files, Images(0, live=10)) as scene:
            with bench.surviving("the very first run"):  # which makes the state database
                contenders.measure(Contender(SCRUBBER), scene, 0)
            for turn in range(5 if bench.effort.full else 3):
                for contender in (Contender(SCRUBBER), Contender(UPSTREAM)):
                    with bench.surviving(contender):
                        bench.measure(contender, scene, 0, turn=turn)

    def figures(self, measured: Sequence[Measured]) -> list[Figure]:
        ours, theirs = fastest(of(measured, SCRUBBER)), fastest(of(measured, UPSTREAM))
        if not (ours and theirs):
            return []
        return [
            Figure("seconds", ours.seconds),
            Figure("of glance-scrubber's time", ours.seconds / theirs.seconds, self.target),
        ]

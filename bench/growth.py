"""What becomes of time and memory when there is more of everything."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import sqlalchemy as sa

from bench.contenders import Contender
from bench.measuring import Bench
from bench.places import Files
from bench.results import SCRUBBER, Figure, Measured, Target, at_most, fastest, of
from bench.rows import Row
from bench.scene import Images, Scene

SCAN = "one scan"

#: What nobody notices when so much else is done.
FEW = 1000


@dataclass(frozen=True)
class Pending(Row):
    """Memory and time for each image, whatever the backlog."""

    key: str = "memory"
    title: str = "memory and time per image, by pending images"
    counts: tuple[tuple[int, ...], tuple[int, ...]] = (
        (1_000, 10_000, 50_000),
        (1_000, 10_000, 100_000, 1_000_000),
    )
    beside: ClassVar[str] = "pending images"

    def measure(self, bench: Bench) -> None:
        with bench.surviving("no image"), bench.scene("mariadb", Files, Images(0)) as scene:
            idle = bench.measure(Contender(SCRUBBER), scene, 0).seconds
        for count in bench.effort.either(*self.counts):
            images = bench.effort.images(count)
            with (
                bench.surviving(f"{images:,} images"),
                bench.scene("mariadb", Files, Images(images, live=100)) as scene,
            ):
                bench.measure(Contender(SCRUBBER), scene, images, idle_seconds=idle, beside=images)

    def figures(self, measured: Sequence[Measured]) -> list[Figure]:
        points = sorted(of(measured, SCRUBBER), key=lambda each: each.beside)
        if not points or not points[-1].beside:
            return []
        figures = [Figure("peak memory", max(at.peak_mib for at in points), at_most(150), " MiB")]
        # With fewer images, starting is most of it.
        many = [each for each in points if each.beside >= 10_000]
        if len(many) > 1:
            memory = [each.peak_mib for each in many]
            seconds = [each.seconds_each for each in many]
            figures += [
                Figure("most memory over least", max(memory) / min(memory), at_most(1.2)),
                Figure("most time per image over least", max(seconds) / min(seconds), at_most(1.2)),
            ]
            # The kernel takes longer for a file the more there are in a directory.
            start = sum(each.own_seconds for each in points if not each.beside)
            own = [(each.own_seconds - start) / each.done for each in many]
            if min(own) > 0:
                figures.append(
                    Figure("likewise of processor time, the kernel's apart", max(own) / min(own))
                )
        return figures


@dataclass(frozen=True)
class Tombstones(Row):
    """A few pending images among many that were scrubbed long ago."""

    key: str
    title: str
    database: str
    counts: tuple[tuple[int, ...], tuple[int, ...]] = (
        (10_000, 100_000),
        (10_000, 100_000, 1_000_000),
    )
    turns: int = 3
    beside: ClassVar[str] = "tombstones"

    def measure(self, bench: Bench) -> None:
        with (
            bench.surviving(self.title),
            bench.scene(self.database, Files, Images(0, live=100)) as scene,
        ):
            there = 0
            for count in (0, *map(bench.effort.images, bench.effort.either(*self.counts))):
                scene.add(Images(0, live=0, tombstones=count - there))
                for turn in range(self.turns):
                    scene.add(Images(FEW, live=0))
                    bench.record(scan(scene, turn, count))
                    bench.measure(Contender(SCRUBBER), scene, FEW, turn=turn, beside=count)
                there = count + self.turns * FEW

    def figures(self, measured: Sequence[Measured]) -> list[Figure]:
        most = max((each.beside for each in measured), default=0)
        few = fastest(of(measured, SCRUBBER, beside=0))
        many = fastest(of(measured, SCRUBBER, beside=most))
        scans = of(measured, SCAN, beside=most)
        if not (most and few and many and scans):
            return []
        costs = many.seconds - few.seconds
        seconds = statistics.median(each.seconds for each in scans)
        return [
            Figure(f"seconds that {most:,} tombstones cost a run", costs),
            Figure("seconds of one scan", seconds),
            Figure("scans that they cost", costs / seconds, at_most(1.5)),
        ]


def scan(scene: Scene, turn: int, beside: int) -> Measured:
    """The pending images, read once in the plainest way."""
    query = sa.text("SELECT * FROM images WHERE deleted AND status = 'pending_delete' ORDER BY id")
    with scene.database.engine.connect() as connection:
        started = time.perf_counter()
        found = len(connection.execute(query).all())
        seconds = time.perf_counter() - started
    return Measured(SCAN, 1, 1, turn, FEW, found, seconds, beside=beside)


@dataclass(frozen=True)
class LiveImages(Row):
    """The check that no live image uses what is deleted, beside many of them."""

    key: str = "live"
    title: str = "20,000 pending images beside live ones"
    pending: int = 20_000
    counts: tuple[tuple[int, ...], tuple[int, ...]] = ((1_000, 100_000), (1_000, 1_000_000))
    target: Target = field(default=at_most(20))
    beside: ClassVar[str] = "live images"

    def measure(self, bench: Bench) -> None:
        pending = bench.effort.images(self.pending)
        with bench.surviving(self.title), bench.scene("mariadb", Files, Images(0, 0)) as scene:
            for count in map(bench.effort.images, bench.effort.either(*self.counts)):
                scene.add(Images(0, live=count - scene.live))
                for turn in range(2):
                    scene.add(Images(pending, live=0))
                    bench.measure(Contender(SCRUBBER), scene, pending, turn=turn, beside=count)

    def figures(self, measured: Sequence[Measured]) -> list[Figure]:
        counts = sorted({each.beside for each in measured})
        if len(counts) < 2:
            return []
        few = fastest(of(measured, SCRUBBER, beside=counts[0]))
        many = fastest(of(measured, SCRUBBER, beside=counts[-1]))
        assert few
        assert many
        share = (many.seconds - few.seconds) / many.seconds * 100
        return [
            Figure(f"of a run is for {counts[-1]:,} live images", share, self.target, " %"),
            Figure("peak memory then", many.peak_mib, None, " MiB"),
        ]


@dataclass(frozen=True)
class Locations(Row):
    """Images with a copy in each of several stores."""

    key: str = "locations"
    title: str = "images by locations of each, a file store for each of them"
    pending: tuple[int, int] = (5_000, 10_000)
    counts: tuple[int, ...] = (1, 2, 5)
    beside: ClassVar[str] = "locations"

    def measure(self, bench: Bench) -> None:
        pending = bench.effort.images(bench.effort.either(*self.pending))
        for count in self.counts:
            places = {f"store{number}": Files for number in range(count)}
            with (
                bench.surviving(f"{count} locations"),
                bench.scene("mariadb", places, Images(pending, live=100)) as scene,
            ):
                bench.measure(Contender(SCRUBBER), scene, pending, beside=count)

    def figures(self, measured: Sequence[Measured]) -> list[Figure]:
        return [
            Figure(
                f"locations a second, {each.beside} of each image", each.per_second * each.beside
            )
            for each in of(measured, SCRUBBER)
        ]


GROWTH = (
    Pending(),
    Tombstones("tombstones-mariadb", "1,000 pending images among tombstones, MariaDB", "mariadb"),
    Tombstones(
        "tombstones-postgresql", "1,000 pending images among tombstones, PostgreSQL", "postgresql"
    ),
    LiveImages(),
    Locations(),
)

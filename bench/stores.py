"""``python -m bench.stores``: every store, by pool size, round trip and requests, on real servers.

scrubber and glance-scrubber empty the same stores; a proxy counts what they ask, and can make
each request wait.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import contenders
from bench.conditions import conditions
from bench.contenders import Contender
from bench.measuring import STORE
from bench.places import (
    SEGMENTS,
    Container,
    Files,
    LargeObjects,
    Place,
    Pool,
    RcloneBucket,
    SwiftBucket,
)
from bench.report import table
from bench.results import SCRUBBER, UPSTREAM, Measured
from bench.scene import Images, Scene, scene
from lab.databases import MariaDB, Servers
from lab.glance import create_schema

#: For counting requests: little enough for the slowest, enough for what is once per run to vanish.
COUNTED = 200
COUNTED_POOL = 16


@dataclass(frozen=True)
class Task:
    """A store to be emptied.

    :param images: how many make a run of some seconds, by contender.
    :param milliseconds: the round trip to the server.
    """

    title: str
    server: str
    place: type[Place]
    images: dict[str, int]
    milliseconds: float = 0

    @property
    def talks(self) -> bool:
        """Whether there are requests to count; the distance does not change them."""
        return self.place is not Files and not self.milliseconds


def _images(scrubber: int, upstream: int) -> dict[str, int]:
    return {SCRUBBER: scrubber, UPSTREAM: upstream}


_DLO = f"swift, DLO of {SEGMENTS} segments"

TASKS = {
    "file": Task("file", "directory", Files, _images(15_000, 400)),
    "s3": Task("s3", "rclone", RcloneBucket, _images(12_000, 40)),
    "swift": Task("swift", "Swift", Container, _images(500, 150)),
    "swift-dlo": Task(_DLO, "Swift", LargeObjects, _images(50, 30)),
    "rbd": Task("rbd", "Ceph, memstore", Pool, _images(200, 60)),
    "s3-far": Task("s3", "rclone", RcloneBucket, _images(6_000, 40), 20),
    "swift-far": Task("swift", "Swift", Container, _images(400, 80), 20),
    "swift-dlo-far": Task(_DLO, "Swift", LargeObjects, _images(40, 30), 20),
    "s3-swift": Task("s3", "Swift's s3api", SwiftBucket, _images(500, 30)),
}


@dataclass(frozen=True)
class Counted:
    """What one contender asked of one store's server in a small run, all of it.

    :param requests: by method; those to Keystone apart.  None if nobody counts them.
    """

    images: int
    requests: dict[str, int] | None
    connections: int

    @property
    def per_delete(self) -> list[str]:
        """Requests and connections."""
        requests = "-"
        if self.requests is not None:
            requests = f"{sum(self.requests.values()) / self.images:.2f}"
        return [requests, f"{self.connections / self.images:.2f}"]


@dataclass(frozen=True)
class Emptied:
    """One store by one contender, with each pool size."""

    task: str
    contender: str
    measured: list[Measured]
    counted: Counted | None


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.stores", description=__doc__)
    parser.add_argument("--stores", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--pools", nargs="+", type=int, default=[1, 16, 64])
    parser.add_argument("--images", type=int, help="as many for every contender and store")
    parser.add_argument("--without-upstream", action="store_true")
    parser.add_argument("--without-counts", action="store_true", help="time only")
    parser.add_argument("--json", type=Path, help="write the measurements to this file")
    options = parser.parse_args()
    before = conditions(" ".join(["python -m bench.stores", *sys.argv[1:]]))
    emptied: list[Emptied] = []
    with Servers(create_schema) as servers:
        for name in options.stores:
            for contender in [SCRUBBER] if options.without_upstream else [UPSTREAM, SCRUBBER]:
                images = options.images or TASKS[name].images[contender]
                bench = Bench(servers, TASKS[name], contender)
                measured = list(bench.measure(images, options.pools))
                counts = TASKS[name].talks and not options.without_counts
                counted = bench.count(min(images, COUNTED)) if counts else None
                emptied.append(Emptied(name, contender, measured, counted))
            if options.json:
                write(options.json, before, emptied)
    print(json.dumps(before, indent=2))
    print(page(emptied, options.pools))


def write(file: Path, before: dict[str, Any], emptied: Sequence[Emptied]) -> None:
    """All that is known so far."""
    document = {"conditions": before, "emptied": [asdict(each) for each in emptied]}
    file.write_text(json.dumps(document, indent=1) + "\n")


class Bench:
    """Runs of one contender on fresh stores of one kind."""

    def __init__(self, servers: Servers, task: Task, contender: str) -> None:
        self._servers = servers
        self._task = task
        self._contender = contender

    def measure(self, images: int, pools: Sequence[int]) -> Iterator[Measured]:
        """With each pool size, after a run that finds nothing."""
        with self._scene(0, self._task.milliseconds or None) as empty:
            idle = contenders.measure(Contender(self._contender, pools[-1]), empty, 0).seconds
        for pool in pools:
            contender = Contender(self._contender, pool)
            with self._scene(images, self._task.milliseconds or None) as full:
                measured = contenders.measure(contender, full, images, idle_seconds=idle)
            print(
                f"{self._task.title}, {contender}: {measured.done} of {images} images in "
                f"{measured.seconds:.1f} s, CPU {measured.cpu_seconds:.1f} s, {servers(measured)}",
                flush=True,
            )
            yield measured

    def count(self, images: int) -> Counted:
        """What goes through a proxy; Ceph has none, and tells only connections."""
        proxied = 0.0 if self._task.place is not Pool else None
        with self._scene(images, proxied) as scene:
            before = scene.place.connections
            contenders.measure(Contender(self._contender, COUNTED_POOL), scene, images)
            if scene.wire is None:
                counted = Counted(images, None, scene.place.connections - before - 1)
            else:
                traffic = scene.wire.traffic()
                counted = Counted(images, traffic.requests, traffic.connections)
        print(f"{self._task.title}, {self._contender}: {counted}", flush=True)
        return counted

    def _scene(self, images: int, wire: float | None) -> AbstractContextManager[Scene]:
        server = self._servers.get(MariaDB.name)
        return scene(server, {STORE: self._task.place}, Images(images), wire=wire)


# What is printed


def page(emptied: Sequence[Emptied], pools: Sequence[int]) -> str:
    """In Markdown: deletes, requests, and where the time goes."""
    sizes = [f"pool {size}" for size in pools]
    titles = ["store (server, round trip)", "contender", "images"]
    per_delete = ["requests per delete", "connections per delete", "left"]
    rates = table([*titles, *sizes, *per_delete], (rate_cells(at, emptied) for at in emptied))
    titles = ["store (server, round trip)", "contender and pool", "seconds", "idle", "CPU"]
    times = table([*titles, "CPU of servers"], _times(emptied))
    return "\n".join([*rates, "", *times])


def rate_cells(at: Emptied, emptied: Sequence[Emptied]) -> list[str]:
    upstream = next(
        (other for other in emptied if (other.task, other.contender) == (at.task, UPSTREAM)), None
    )
    return [
        _title(at.task),
        at.contender,
        f"{at.measured[0].images:,}",
        *(_rate(each, upstream) for each in at.measured),
        *(at.counted.per_delete if at.counted else ["-", "-"]),
        str(sum(each.images - each.done for each in at.measured) or "nothing"),
    ]


def _rate(each: Measured, upstream: Emptied | None) -> str:
    """Deletes per second; without start-up; of that, how many times as many as upstream's."""
    rate = f"{_short(each.per_second)} ({_short(_without_start(each))})"
    same = (at for at in upstream.measured if at.pool == each.pool) if upstream else ()
    theirs = next(iter(same), None)
    if each.contender == UPSTREAM or theirs is None or not theirs.done:
        return rate
    return f"{rate} **x{_short(_without_start(each) / _without_start(theirs))}**"


def _without_start(each: Measured) -> float:
    return 1 / max(1e-6, each.seconds_each)


def _times(emptied: Sequence[Emptied]) -> Iterator[list[str]]:
    for at in emptied:
        for each in at.measured:
            yield [
                _title(at.task),
                f"{at.contender}, {each.pool}",
                f"{each.seconds:.1f}",
                f"{each.idle_seconds:.1f}",
                f"{each.cpu_seconds:.1f}",
                servers(each),
            ]


def servers(measured: Measured) -> str:
    """What they have used of the processors, in words."""
    used = measured.server_cpu_seconds.items()
    return ", ".join(f"{name} {seconds:.1f} s" for name, seconds in used)


def _title(name: str) -> str:
    task = TASKS[name]
    far = f", {task.milliseconds:g} ms" if task.milliseconds else ""
    return f"{task.title} ({task.server}{far})"


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.1f}"


if __name__ == "__main__":
    main()

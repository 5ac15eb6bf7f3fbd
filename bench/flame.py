"""``python -m bench.flame NAME``: where scrubber's time goes on the file store, as a flame graph.

py-spy samples a whole run from outside.  Written are the stacks, folded, one a line with its
number of samples (for comparisons, and for any other tool), and a picture of them.
"""

import argparse
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.contenders import scrubber_argv
from bench.measuring import STORE
from bench.places import Files
from bench.scene import Images, scene
from lab.databases import SERVERS, Servers
from lab.glance import create_schema

#: What is thinner than this share of all samples can neither be seen nor read.
LEAST = 0.003
TOP = 25

#: Frames that say nothing of their own: how Python imports.
_IMPORTING = "(<frozen importlib"
#: A native thread that waits for work looks busy from outside.
_WAITING = ("tworker", "Condition.wait")

_LINE = re.compile(r":\d+\)$")

#: By the beginning of a file's name; the rest is Python's own.
COLOURS = {
    "scrubber/": "#e8743b",
    "sqlalchemy/": "#5b9bd5",
    "oslo_db/": "#5b9bd5",
    "pymysql/": "#70ad47",
    "psycopg2/": "#70ad47",
    "eventlet/": "#b38cc6",
    "greenlet/": "#b38cc6",
}
OTHERS = "#d9d9d9"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="bench.flame", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.description = __doc__
    parser.add_argument("name", help="of the files, such as before")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--database", choices=SERVERS, default="mariadb")
    parser.add_argument("--rate", type=int, default=200, help="samples a second")
    parser.add_argument("--into", type=Path, default=Path("build/bench"), metavar="DIRECTORY")
    options = parser.parse_args()
    options.into.mkdir(parents=True, exist_ok=True)
    file = options.into / f"flame-{options.name}.folded"
    with Servers(create_schema) as servers:
        record(servers, options.database, options.images, options.rate, file)
    stacks = folded(file.read_text().splitlines())
    file.write_text("".join(f"{';'.join(stack)} {count}\n" for stack, count in stacks.items()))
    draw(tree(stacks), file.with_suffix(".png"))
    print(f"{file}, {file.with_suffix('.png')}\n")
    print("\n".join(busiest(stacks)))


def record(servers: Servers, database: str, images: int, rate: int, stacks: Path) -> None:
    """A run of scrubber that deletes so many images, sampled."""
    with scene(servers.get(database), {STORE: Files}, Images(images, live=1000)) as at:
        spy = [Path(sys.executable).with_name("py-spy"), "record", "--rate", str(rate)]
        spy += ["--format", "raw", "--function", "--output", stacks, "--"]
        with at.log.open("ab") as log:
            subprocess.run([*spy, *scrubber_argv(at)], stdout=log, stderr=log, check=True)
        assert at.left().nothing, "scrubber left something"


# Stacks, from the outermost function to the one that was at work -----------------------------

Stacks = dict[tuple[str, ...], int]


def folded(lines: Iterable[str], least: float = LEAST) -> Stacks:
    """As py-spy writes them, without line numbers; what is rare is counted where it was called."""
    stacks: Counter[tuple[str, ...]] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        names = tuple(_LINE.sub(")", at) for at in stack.split(";") if at and _IMPORTING not in at)
        if names and not _waits(names):
            stacks[names] += int(count)
    beginnings: Counter[tuple[str, ...]] = Counter()
    for names, count in stacks.items():
        for depth in range(1, len(names) + 1):
            beginnings[names[:depth]] += count
    seen: Counter[tuple[str, ...]] = Counter()
    enough = least * stacks.total()
    for names, count in stacks.items():
        depth = len(names)
        while depth > 1 and beginnings[names[:depth]] < enough:
            depth -= 1
        seen[names[:depth]] += count
    return dict(sorted(seen.items()))


def _waits(names: Sequence[str]) -> bool:
    thread, wait = _WAITING
    return names[-1].startswith(f"{wait} ") and any(at.startswith(f"{thread} ") for at in names)


def busiest(stacks: Stacks, top: int = TOP) -> Iterator[str]:
    """Functions by the share of samples in which they were on the stack, and at work."""
    total = sum(stacks.values())
    within, itself = Counter[str](), Counter[str]()
    for stack, count in stacks.items():
        itself[stack[-1]] += count
        for name in set(stack):
            within[name] += count
    yield " within  itself  function"
    for name, count in within.most_common(top):
        yield f"{count / total:7.1%} {itself[name] / total:7.1%}  {name}"


@dataclass
class Frame:
    """A function in the graph, with those that it called."""

    name: str
    samples: int = 0
    called: dict[str, "Frame"] = field(default_factory=dict)


def tree(stacks: Stacks) -> Frame:
    root = Frame("all")
    for stack, count in stacks.items():
        at = root
        at.samples += count
        for name in stack:
            at = at.called.setdefault(name, Frame(name))
            at.samples += count
    return root


@dataclass(frozen=True)
class Box:
    """Where a function is drawn, in shares of the width."""

    name: str
    left: float
    width: float
    depth: int


def boxes(frame: Frame, whole: int, left: float = 0.0, depth: int = 0) -> Iterator[Box]:
    width = frame.samples / whole
    yield Box(frame.name, left, width, depth)
    for called in frame.called.values():
        yield from boxes(called, whole, left, depth + 1)
        left += called.samples / whole


def draw(root: Frame, file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    drawn = list(boxes(root, root.samples))
    deepest = max(box.depth for box in drawn)
    figure, axes = pyplot.subplots(figsize=(16, 0.22 * (deepest + 2)))
    for box in drawn:
        place = (box.left, box.depth)
        colour = _colour(box.name)
        axes.add_patch(pyplot.Rectangle(place, box.width, 0.94, fc=colour, ec="white", lw=0.3))
        if room := int(box.width * 320):
            axes.text(box.left + 0.001, box.depth + 0.3, box.name[:room], fontsize=6, clip_on=True)
    axes.set(xlim=(0, 1), ylim=(0, deepest + 1))
    axes.axis("off")
    figure.tight_layout(pad=0)
    figure.savefig(file, dpi=100)
    pyplot.close(figure)


def _colour(name: str) -> str:
    where = name.partition("(")[2]
    return next((colour for start, colour in COLOURS.items() if where.startswith(start)), OTHERS)


if __name__ == "__main__":
    main()

"""What was measured, as a page in Markdown."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from bench.plots import PLOTS
from bench.results import (
    SCRUBBER,
    UPSTREAM,
    Figure,
    Measured,
    Result,
    Results,
    fastest,
    of,
    short,
)
from bench.rows import Row, Speed

HEAD = """\
# Measured

Written by `python -m bench`; [how to run and read it](README.md). All figures, of every turn:
[results.json](results.json).
"""


def page(rows: Sequence[Row], results: Results, directory: Path) -> str:
    """Of the rows that were measured; plots if they are in the directory."""
    known = [row for row in rows if row.key in results]
    speed = [row for row in known if isinstance(row, Speed)]
    others = [row for row in known if not isinstance(row, Speed)]
    parts = [HEAD, "## Speed\n", *speed_table(speed, results), ""]
    parts += ["## Time, memory and growth\n", *figures_table(others, results), ""]
    for row in others:
        parts += growth(row, results[row.key], directory)
    parts += ["## What failed\n", *failures(known, results), ""]
    parts += ["## Made\n", *made(known, results)]
    return "\n".join(parts) + "\n"


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The first column holds words, the others figures."""
    yield f"| {' | '.join(titles)} |"
    yield "|---|" + "---:|" * (len(titles) - 1)
    for row in rows:
        yield f"| {' | '.join(row)} |"


# Speed --------------------------------------------------------------------------------------


def speed_table(rows: Iterable[Speed], results: Results) -> Iterator[str]:
    titles = (
        "work",
        "images",
        "scrubber, images/s",
        "CPU each",
        "memory",
        "glance-scrubber, images/s (pool)",
        "scrubber is",
        "target",
        "the limit, images/s",
        "scrubber is",
        "target",
    )
    return table(titles, (speed_cells(row, results[row.key].measured) for row in rows))


def speed_cells(row: Speed, measured: Sequence[Measured]) -> list[str]:
    ours = fastest(of(measured, SCRUBBER))
    if ours is None:
        return [row.title, *["-"] * 10]
    upstream, limit = row.upstream(measured), row.limit(measured)
    figures = {figure.what: figure for figure in row.figures(measured)}
    return [
        row.title,
        f"{ours.images:,}",
        short(ours.per_second),
        f"{short(ours.cpu_each * 1e6)} µs",
        f"{ours.peak_mib:.0f} MiB",
        f"{short(upstream.per_second_at(ours.images))} ({upstream.pool})" if upstream else "-",
        *verdict(figures.get("of glance-scrubber's speed")),
        short(limit) if limit else "-",
        *verdict(figures.get("of the limit")),
    ]


def verdict(figure: Figure | None) -> list[str]:
    return [f"**{figure.said}**", figure.judged] if figure else ["-", ""]


# Growth -------------------------------------------------------------------------------------


def figures_table(rows: Iterable[Row], results: Results) -> Iterator[str]:
    cells = (
        [f"{row.title}: {figure.what}", figure.said, figure.judged]
        for row in rows
        for figure in row.figures(results[row.key].measured)
    )
    return table(("figure", "measured", "target"), cells)


def growth(row: Row, result: Result, directory: Path) -> Iterator[str]:
    """The points, and the plot."""
    yield f"### {row.title[0].upper()}{row.title[1:]}\n"
    titles = [row.beside or "workers", "who", "images", "seconds", "idle", "CPU", "memory"]
    yield from table(titles, (point(row, each) for each in best_points(result.measured)))
    yield ""
    if (plot := PLOTS.get(row.key)) and (directory / plot).exists():
        yield f"![{row.title}]({plot})\n"


def best_points(measured: Sequence[Measured]) -> Iterator[Measured]:
    """The best turn of each."""
    turns: dict[tuple[object, ...], list[Measured]] = {}
    for each in measured:
        turns.setdefault((each.beside, each.contender, each.pool, each.workers), []).append(each)
    for several in turns.values():
        yield min(several, key=lambda each: each.seconds)


def point(row: Row, each: Measured) -> list[str]:
    return [
        f"{each.beside:,}" if row.beside else str(each.workers),
        each.contender,
        f"{each.images:,}",
        f"{each.seconds:.2f}",
        f"{each.idle_seconds:.2f}" if each.idle_seconds else "",
        f"{each.cpu_seconds:.2f}" if each.cpu_seconds else "",
        f"{each.peak_mib:.0f} MiB" if each.peak_mib else "",
    ]


# Conditions ---------------------------------------------------------------------------------


def failures(rows: Iterable[Row], results: Results) -> Iterator[str]:
    found = [f"- {row.key}: {what}" for row in rows for what in results[row.key].failed]
    yield from found or ["Nothing."]


def made(rows: Sequence[Row], results: Results) -> Iterator[str]:
    """When and on what; versions once for each set of them."""
    titles = ("row", "date", "commit", "load before", "turns", "noise", "machine")
    yield from table(titles, (conditions(row, results[row.key]) for row in rows))
    seen: list[Mapping[str, str]] = []
    for row in rows:
        versions = results[row.key].conditions["versions"]
        if versions not in seen:
            seen.append(versions)
            yield f"\n{'; '.join(f'{name} {version}' for name, version in versions.items())}."


def conditions(row: Row, result: Result) -> list[str]:
    at = result.conditions
    return [
        row.key,
        at["date"],
        at["commit"],
        str(at["load"][0]),
        str(1 + max((each.turn for each in result.measured), default=0)),
        noise(result.measured),
        at["machine"],
    ]


def noise(measured: Sequence[Measured]) -> str:
    """How much longer than its best turn scrubber's worst one took, at most."""
    most = 0.0
    for best in best_points(of(measured, SCRUBBER)):
        same = of(measured, SCRUBBER, beside=best.beside, pool=best.pool, workers=best.workers)
        if len(same) > 1:
            most = max(most, max(each.seconds for each in same) / best.seconds - 1)
    return f"{most:.0%}" if most else "-"


def summary(row: Row, result: Result) -> Iterator[str]:
    """For the terminal."""
    for figure in row.figures(result.measured):
        judged = figure.judged.replace("*", "")
        yield f"  {figure.said} {figure.what}" + (f"  ({judged})" if judged else "")
    if UPSTREAM in {each.contender for each in result.measured} and isinstance(row, Speed):
        best = row.upstream(result.measured)
        if best:
            yield f"  glance-scrubber is at its best with pool {best.pool}"

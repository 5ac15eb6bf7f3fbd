"""What grows, drawn; needs matplotlib."""

import operator
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.growth import SCAN
from bench.results import LIMIT, SCRUBBER, UPSTREAM, Measured, Results, fastest, of
from bench.rows import SPEED

#: By row: the plot's file.
PLOTS = {
    "memory": "growth-pending.png",
    "tombstones-mariadb": "growth-tombstones-mariadb.png",
    "tombstones-postgresql": "growth-tombstones-postgresql.png",
    "live": "growth-live.png",
    "locations": "growth-locations.png",
}
RATES = "speed.png"

Line = tuple[str, list[Measured], Callable[[Measured], float]]


def draw(results: Results, directory: Path) -> None:
    """All of what was measured, into this directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for key, draw_row in _ROWS.items():
        if key in results and results[key].measured:
            draw_row(results[key].measured, directory / PLOTS[key])
    _draw_rates(results, directory / RATES)


def _points(measured: Sequence[Measured], contender: str) -> list[Measured]:
    """The best turn of each, in order."""
    values = sorted({each.beside for each in of(measured, contender)})
    best = (fastest(of(measured, contender, beside=value)) for value in values)
    return [each for each in best if each]


def _pending(measured: Sequence[Measured], file: Path) -> None:
    points = _points(measured, SCRUBBER)
    start = sum(each.cpu_seconds for each in points if not each.beside)
    points = [each for each in points if each.beside]
    with _Axes(file, 2) as (above, below):
        _line(above, points, "peak_mib", "memory")
        above.axhline(150, color="black", lw=1, ls="--", label="target")
        above.set(ylabel="MiB at most", xscale="log", ylim=(0, None))
        _line(below, points, lambda each: each.seconds_each * 1e6, "time")
        _line(below, points, lambda each: (each.cpu_seconds - start) / each.done * 1e6, "CPU")
        _line(below, points, lambda each: each.kernel_seconds / each.done * 1e6, "of it the kernel")
        below.set(xlabel="pending images", ylabel="µs per image, start not counted")
        below.set(xscale="log", ylim=(0, None))


def _tombstones(measured: Sequence[Measured], file: Path) -> None:
    with _Axes(file) as (axes,):
        points = _points(measured, SCRUBBER)
        base = points[0].seconds if points else 0
        _line(axes, points[1:], lambda each: each.seconds - base, "what they cost a run")
        scans = _points(measured, SCAN)[1:]
        _line(axes, scans, "seconds", "one scan of the pending images")
        axes.set(xlabel="tombstones", ylabel="seconds", xscale="log")


def _live(measured: Sequence[Measured], file: Path) -> None:
    with _Axes(file, 2) as (above, below):
        _line(above, _points(measured, SCRUBBER), "seconds", "run of 20,000 images")
        above.set(ylabel="seconds", xscale="log", ylim=(0, None))
        _line(below, _points(measured, SCRUBBER), "peak_mib", "memory")
        below.set(xlabel="live images", ylabel="MiB at most", xscale="log", ylim=(0, None))


def _locations(measured: Sequence[Measured], file: Path) -> None:
    with _Axes(file) as (axes,):
        points = _points(measured, SCRUBBER)
        _line(axes, points, "per_second", "images")
        _line(axes, points, lambda each: each.per_second * each.beside, "locations")
        axes.set(xlabel="locations of each image", ylabel="a second", ylim=(0, None))


_ROWS: dict[str, Callable[[Sequence[Measured], Path], None]] = {
    "memory": _pending,
    "tombstones-mariadb": _tombstones,
    "tombstones-postgresql": _tombstones,
    "live": _live,
    "locations": _locations,
}


def _draw_rates(results: Results, file: Path) -> None:
    """All stores at once, on a logarithmic scale."""
    rows = [row for row in SPEED if row.key in results and of(results[row.key].measured, SCRUBBER)]
    if not rows:
        return
    with _Axes(file, height=0.55 * len(rows) + 1.5) as (axes,):
        places = range(len(rows))
        for shift, who in enumerate((UPSTREAM, SCRUBBER, LIMIT)):
            rates = [_rate(row, results[row.key].measured, who) for row in rows]
            axes.barh([at + 0.27 * (shift - 1) for at in places], rates, 0.25, label=who)
        axes.set(xlabel="images a second", xscale="log")
        axes.set_yticks(list(places), [row.title for row in rows])
        axes.invert_yaxis()


def _rate(row: Any, measured: Sequence[Measured], who: str) -> float:
    ours = fastest(of(measured, SCRUBBER))
    assert ours
    if who == LIMIT:
        return row.limit(measured) or 0.0
    if who == SCRUBBER:
        return ours.per_second
    upstream = row.upstream(measured)
    return upstream.per_second_at(ours.images) if upstream else 0.0


def _line(
    axes: Any, points: Sequence[Measured], what: str | Callable[[Measured], float], label: str
) -> None:
    value = operator.attrgetter(what) if isinstance(what, str) else what
    axes.plot([at.beside for at in points], [value(at) for at in points], "o-", label=label)


class _Axes:
    """A figure's, saved at the end."""

    def __init__(self, file: Path, rows: int = 1, height: float = 0.0) -> None:
        self._file = file
        self._rows = rows
        self._height = height or 1.5 + 2.2 * rows

    def __enter__(self) -> Any:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        size = (8, self._height)
        self._figure, axes = pyplot.subplots(self._rows, figsize=size, squeeze=False)
        self._axes = [row[0] for row in axes]
        return self._axes

    def __exit__(self, kind: object, *_: object) -> None:
        from matplotlib import pyplot

        if kind is None:
            for axes in self._axes:
                axes.grid(alpha=0.3)
                axes.legend()
            self._figure.tight_layout()
            self._figure.savefig(self._file, dpi=100)
        pyplot.close(self._figure)

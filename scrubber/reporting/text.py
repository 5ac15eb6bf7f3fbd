"""Reports for people: one line for cron, tables and a progress line on a terminal."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from scrubber.model import Outcome
from scrubber.reporting.report import Left, Report

if TYPE_CHECKING:
    from rich.console import Console

_PLAIN_WIDTH = 120
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def size(number: float) -> str:
    """1536 as ``1.5 KiB``."""
    for unit in _UNITS[:-1]:
        if abs(number) < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} {_UNITS[-1]}"


def counted(number: int, noun: str) -> str:
    """``1 image``, ``2 images``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def lasting(seconds: float) -> str:
    """300 as ``5 min``; whole numbers, since nobody needs more."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def printable(words: str) -> str:
    """Without what would move a terminal's cursor or change its colours."""
    return "".join(at if at.isprintable() else at.encode("unicode_escape").decode() for at in words)


def summary(report: Report) -> str:
    """One line that says all that matters."""
    total = report.total
    outcomes = [
        f"{total.locations[outcome]} {outcome.value}"
        for outcome in Outcome
        if outcome not in (Outcome.DELETED, Outcome.LOST) and total.locations[outcome]
    ]
    parts = [
        f"{counted(total.images_scrubbed, 'image')} scrubbed",
        f"{counted(total.locations[Outcome.DELETED], 'location')} deleted",
        f"{size(total.bytes_freed)} freed",
        *outcomes,
    ]
    if report.rehearsal:
        parts[:3] = [
            f"would scrub {counted(total.images_scrubbed, 'image')}",
            f"delete {counted(total.locations[Outcome.DELETED], 'location')}",
            f"free {size(total.bytes_freed)}",
        ]
    if report.not_due:
        parts.append(f"{counted(report.not_due, 'image')} not due yet")
    if report.claimed_elsewhere:
        parts.append(f"{counted(report.claimed_elsewhere, 'image')} claimed by another scrubber")
    line = f"{report.status}: {', '.join(parts)}"
    reasons = [f"{left.locations} {left.outcome.value}: {left.reason}" for left in _most(report)]
    return " ".join("; ".join([line, *reasons, *paces(report), *report.alarms]).split())


def paces(report: Report) -> list[str]:
    """What is to be said of stores that ask for patience, or are left alone for a while."""
    said = [f"store {store} is paused by an operator" for store in report.paused_stores]
    for store, pace in sorted(report.paces.items()):
        if pace.throttled:
            limit = f", and takes {pace.limit:.3g} locations/s now" if pace.limit else ""
            said.append(f"store {store} asked for patience {pace.throttled} times{limit}")
        if pace.asked_again_in >= 1:
            said.append(f"store {store} is asked again in {pace.asked_again_in:.0f} s")
    return said


def _most(report: Report, so_many: int = 3) -> list[Left]:
    return sorted(report.left.values(), key=lambda left: -left.locations)[:so_many]


def progress(report: Report) -> str:
    """One line while the run goes on."""
    total = report.total
    left = sum(left.locations for left in report.left.values())
    return (
        f"{counted(total.images_scrubbed, 'image')} scrubbed, "
        f"{counted(total.locations[Outcome.DELETED], 'location')} deleted, "
        f"{size(total.bytes_freed)} freed, {left} left"
    )


def print_rows(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> bool:
    """A table on a terminal, else a line per row that nothing wraps; whether there was a row.

    The first column is never folded, so that ids can be copied.
    """
    found = [[printable(cell) for cell in row] for row in rows]
    if found and console().is_terminal:
        _print_table(headings, found)
    elif found:
        # Not by rich, which needs minutes for 100,000 rows.
        lines = [list(headings), *found]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            print("  ".join(cells).rstrip())
    return bool(found)


def _print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table()
    for number, heading in enumerate(headings):
        table.add_column(heading, overflow="fold", no_wrap=number == 0)
    for row in rows:
        table.add_row(*map(escape, row))
    console().print(table)


def console() -> "Console":
    """Standard output; wide enough for tables where it is no terminal."""
    from rich.console import Console

    found = Console()
    return found if found.is_terminal else Console(width=_PLAIN_WIDTH)


class ProgressLine:
    """A line on a terminal that says how far a run is; ``tick`` it now and then."""

    def __init__(self, line: Callable[[], str]) -> None:
        from rich.live import Live
        from rich.text import Text

        self._line = line
        self._text = Text
        # Its own refresh thread would be one more green thread; ticks do.
        self._live = Live(auto_refresh=False, transient=True)
        self._live.start()

    def tick(self) -> None:
        self._live.update(self._text(self._line()), refresh=True)

    def close(self) -> None:
        self._live.stop()


class Screen:
    """Lines that take the place of the former ones, on a terminal; elsewhere they follow them."""

    def __init__(self) -> None:
        from rich.live import Live

        self._console = console()
        self._live = Live(console=self._console, auto_refresh=False)

    def __enter__(self) -> "Screen":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def show(self, lines: Sequence[str]) -> None:
        from rich.text import Text

        if self._console.is_terminal:
            self._live.update(Text("\n".join(lines)), refresh=True)
        else:
            print(*lines, sep="\n", flush=True)

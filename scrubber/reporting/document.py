"""A report as tables, for people."""

from typing import TYPE_CHECKING, Any

from scrubber.model import Outcome
from scrubber.reporting.report import Report
from scrubber.reporting.text import console, counted, size, summary

if TYPE_CHECKING:
    from rich.table import Table

_SHOWN = tuple(outcome for outcome in Outcome if outcome is not Outcome.LOST)


def print_report(report: Report) -> None:
    """Its document, and the line that sums it up."""
    print_document(report.as_dict())
    print(summary(report))


def print_document(document: dict[str, Any]) -> None:
    """Tables by store (by project too, for a dry run), and what is left and why.

    :param document: ``Report.as_dict()``, of a run that may still go on.
    """
    to, rehearsal = console(), document["dry_run"]
    if document["stores"]:
        to.print(_tallies("Store", document["stores"], rehearsal))
    if document["owners"] and rehearsal:
        to.print(_tallies("Project", document["owners"], rehearsal))
    if document["left"]:
        to.print(_left(document["left"]))
    not_due = document["not_due"]
    if not_due["next_due_at"]:
        images = counted(not_due["images"], "image")
        to.print(f"Not due yet: {images}, the next at {not_due['next_due_at']}", highlight=False)


def _tallies(heading: str, tallies: dict[str, dict[str, Any]], rehearsal: bool) -> "Table":
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="A run would" if rehearsal else None, title_justify="left")
    outcomes = [at for at in _SHOWN if any(one["locations"][at.value] for one in tallies.values())]
    names = {Outcome.DELETED: "delete locations"} if rehearsal else {}
    table.add_column(heading, overflow="fold")
    table.add_column("scrub images" if rehearsal else "images scrubbed", justify="right")
    for outcome in outcomes:
        table.add_column(names.get(outcome, outcome.value), justify="right")
    table.add_column("free" if rehearsal else "freed", justify="right")
    for name, tally in sorted(tallies.items()):
        table.add_row(
            escape(name) or "(none)",
            str(tally["images"]["scrubbed"]),
            *(str(tally["locations"][outcome.value]) for outcome in outcomes),
            size(tally["bytes_freed"]),
        )
    return table


def _left(left: list[dict[str, Any]]) -> "Table":
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="Left behind", title_justify="left")
    for heading in ("", "locations", "store", "why", "for example image"):
        table.add_column(heading, overflow="fold")
    for one in left:
        table.add_row(
            one["outcome"],
            str(one["locations"]),
            escape(one["store"]),
            escape(one["reason"]),
            one["examples"][0]["image"] if one["examples"] else "",
        )
    return table

"""One report of several: the parts of a run that worker processes have done together."""

import datetime
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from scrubber.model import Outcome
from scrubber.reporting.report import REASONS, Left, Pace, Report, Stage, Stages, Tally


@dataclass(frozen=True, slots=True)
class Part:
    """What one worker said of its part of a run.

    :param document: ``Report.as_dict()`` of it.
    :param elsewhere: the images that it left to others; None as long as that is not known.
    :param lost: the worker died: what it was about to do is done by others, or left again.
    """

    document: dict[str, Any]
    elsewhere: frozenset[str] | None = None
    lost: bool = False

    @property
    def is_cancelled(self) -> bool:
        return bool(self.document["status"] == "cancelled")


def merge(into: Report, parts: Collection[Part]) -> None:
    """Bring the report up to what these parts say now; its id, times and own failure stay."""
    documents = [part.document for part in parts]
    into.stages = _stages(documents)
    into.total = _tally(documents)
    _replace_tallies(into.stores, [document["stores"] for document in documents])
    _replace_tallies(into.owners, [document["owners"] for document in documents])
    into.left = _left([part.document for part in parts if not part.lost])
    into.stopped_stores = {
        store: reason
        for document in documents
        for store, reason in document["stopped_stores"].items()
    }
    into.paused_stores = sorted({name for at in documents for name in at["paused_stores"]})
    for store in into.stores:
        into.paces[store] = _pace(
            [at["stores"][store] for at in documents if store in at["stores"]]
        )
    # Each has looked at all that is not due, and counts it.
    into.not_due = max((at["not_due"]["images"] for at in documents), default=0)
    into.next_due_at = min(
        (_moment(at["not_due"]["next_due_at"]) for at in documents if at["not_due"]["next_due_at"]),
        default=None,
    )
    into.claimed_elsewhere = len(_left_by_all(parts))
    into.alarms = [alarm for document in documents for alarm in document["alarms"]]


def failures(parts: Iterable[Part]) -> str | None:
    """Why runs failed, each reason once; None if none did."""
    reasons = dict.fromkeys(at.document["error"] for at in parts if at.document["error"])
    return "; ".join(reasons) or None


def _stages(documents: list[dict[str, Any]]) -> Stages:
    """All of them read the same rows; of what they claimed each has its own."""

    def added(name: str) -> Stage:
        figures = [document["stages"][name] for document in documents]
        return Stage(sum(at["images"] for at in figures), sum(at["locations"] for at in figures))

    def seen(name: str, least: Stage) -> Stage:
        figures = [document["stages"][name] for document in documents]
        return Stage(
            max([least.images, *(at["images"] for at in figures)]),
            max([least.locations, *(at["locations"] for at in figures)]),
        )

    claimed = added("claimed")
    due = seen("due", claimed)
    return Stages(
        seen("read", due), due, claimed, added("sent"), added("deleted"), added("recorded")
    )


def _replace_tallies(into: dict[str, Tally], tallies: list[dict[str, Any]]) -> None:
    for name in {name for at in tallies for name in at}:
        into[name] = _tally([at[name] for at in tallies if name in at])


def _tally(documents: Iterable[dict[str, Any]]) -> Tally:
    total = Tally()
    for document in documents:
        for outcome, locations in document["locations"].items():
            total.locations[Outcome(outcome)] += locations
        total.images_scrubbed += document["images"]["scrubbed"]
        total.bytes_freed += document["bytes_freed"]
    return total


def _left(documents: Iterable[dict[str, Any]]) -> dict[tuple[Outcome, str, str], Left]:
    found: dict[tuple[Outcome, str, str], Left] = {}
    for document in documents:
        for left in document["left"]:
            key = Outcome(left["outcome"]), left["reason"], left["store"]
            if len(found) >= REASONS and key not in found:
                key = key[0], "other reasons", ""
            known = found.setdefault(key, Left(*key))
            known.add(left["locations"], left["examples"])
    return found


def _pace(documents: list[dict[str, Any]]) -> Pace:
    """What all of them together get of a store; it is asked again by whoever may do so first."""
    errors: Counter[str] = Counter()
    for document in documents:
        errors.update(document["errors"])
    limits = [document["limit_per_second"] for document in documents]
    waits = [at["asked_again_in_seconds"] for at in documents if at["asked_again_in_seconds"]]
    return Pace(
        errors=dict(errors),
        limit=None if None in limits else sum(limits),
        asked_again_in=min(waits, default=0.0),
    )


def _left_by_all(parts: Iterable[Part]) -> frozenset[str]:
    """Claimed by a stranger: what one of us has, another of us has not left to others."""
    known = [part.elsewhere for part in parts if part.elsewhere is not None]
    return frozenset.intersection(*known) if known else frozenset()


def _moment(word: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(word).replace(tzinfo=None)

"""What scrubber processes say of themselves and of their runs, and what is wanted of them."""

import datetime
from dataclasses import dataclass, field, replace
from typing import Any

from scrubber.orders import StoreOrder
from scrubber.state.base import iso

#: A process that was not heard of for so long is taken for dead.
SILENCE = datetime.timedelta(seconds=60)

INTERRUPTED = "interrupted"
RUNNING = "running"


@dataclass(frozen=True, slots=True)
class Figures:
    """What a list says of a run's report, which may itself be long.

    :param locations: by outcome.
    :param summary: one line for people.
    """

    images_scrubbed: int
    locations: dict[str, int]
    bytes_freed: int
    locations_left: int
    summary: str

    @classmethod
    def of_report(cls, report: dict[str, Any]) -> "Figures":
        """:param report: the document of ``--format json``, with its ``summary``."""
        return cls(
            images_scrubbed=report["images"]["scrubbed"],
            locations=report["locations"],
            bytes_freed=report["bytes_freed"],
            locations_left=sum(left["locations"] for left in report["left"]),
            summary=report["summary"],
        )

    @classmethod
    def of_document(cls, document: dict[str, Any]) -> "Figures":
        """The opposite of ``as_dict``.

        :raises ValueError: and its like, for any other document.
        """
        return cls(
            images_scrubbed=count(document["images"]["scrubbed"]),
            locations={outcome: count(many) for outcome, many in document["locations"].items()},
            bytes_freed=count(document["bytes_freed"]),
            locations_left=count(document["locations_left"]),
            summary=str(document["summary"]),
        )

    def as_dict(self) -> dict[str, Any]:
        return {
            "images": {"scrubbed": self.images_scrubbed},
            "locations": self.locations,
            "bytes_freed": self.bytes_freed,
            "locations_left": self.locations_left,
            "summary": self.summary,
        }


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run as the state database knows it.

    :param report: the document of ``--format json``; empty in lists, which do not read it.
    """

    id: str
    process: str
    host: str
    pid: int
    trigger: str
    status: str
    started_at: datetime.datetime
    seen_at: datetime.datetime
    finished_at: datetime.datetime | None
    figures: Figures
    report: dict[str, Any] = field(default_factory=dict)
    cancel_asked: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For scripts: what a list says of a run."""
        return {
            "run": self.id,
            "host": self.host,
            "pid": self.pid,
            "trigger": self.trigger,
            "status": self.status,
            "started_at": iso(self.started_at),
            "seen_at": iso(self.seen_at),
            "finished_at": iso(self.finished_at) if self.finished_at else None,
            **self.figures.as_dict(),
        }

    def as_of(self, now: datetime.datetime) -> "RunRecord":
        """With the status that an operator should see: a dead process cannot write its own."""
        if self.status == RUNNING and now - self.seen_at > SILENCE:
            return replace(self, status=INTERRUPTED)
        return self


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """A scrubber process; ``doing`` says what it is at, as a document."""

    id: str
    host: str
    pid: int
    version: str
    started_at: datetime.datetime
    seen_at: datetime.datetime
    doing: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What operators want, of all processes or of one.

    :param stores: by name; the name ``""`` stands for all of them.
    :param run_asked_at: when somebody last asked this process for a run.
    :param cancel: whether its run is to end.
    """

    stores: dict[str, StoreOrder]
    run_asked_at: datetime.datetime | None
    cancel: bool


def count(found: object) -> int:
    """What a document or a row has as a count.

    :raises ValueError: it is none.
    """
    if not isinstance(found, int) or not 0 <= found < 2**63:
        raise ValueError(f"{found!r:.40} is not a count")
    return found

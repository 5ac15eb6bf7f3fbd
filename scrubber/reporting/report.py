"""The report of one run: what became of every location, and why something is left."""

import datetime
import os
import secrets
import socket
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

from scrubber.model import Candidate, Location, Outcome

#: So many locations are named for each reason; the rest is a number.
EXAMPLES = 20

#: So many reasons are told apart.
REASONS = 200

#: Outcomes in the order in which they are printed.
OUTCOMES = tuple(outcome for outcome in Outcome if outcome is not Outcome.LOST)


@dataclass(slots=True)
class Tally:
    """Counts of a store, of an owner, or of the whole run."""

    locations: Counter[Outcome] = field(default_factory=Counter)
    images_scrubbed: int = 0
    bytes_freed: int = 0

    def as_dict(self) -> dict[str, Any]:
        return {
            "images": {"scrubbed": self.images_scrubbed},
            "locations": {outcome.value: self.locations[outcome] for outcome in OUTCOMES},
            "bytes_freed": self.bytes_freed,
        }


@dataclass(slots=True)
class Stage:
    """How far a run has come."""

    images: int = 0
    locations: int = 0

    def add(self, candidates: Collection[Candidate]) -> None:
        self.images += len(candidates)
        self.locations += sum(len(candidate.locations) for candidate in candidates)


@dataclass(slots=True)
class Stages:
    """The counts of all stages, in their order; they grow while a run goes on.

    What was sent is counted anew if it was throttled and is sent once more.  Deleted is also
    what needed no delete; what is deleted is recorded a moment later.
    """

    read: Stage = field(default_factory=Stage)
    due: Stage = field(default_factory=Stage)
    claimed: Stage = field(default_factory=Stage)
    sent: Stage = field(default_factory=Stage)
    deleted: Stage = field(default_factory=Stage)
    recorded: Stage = field(default_factory=Stage)


@dataclass(frozen=True, slots=True)
class Pace:
    """How a store could be used.

    :param errors: its answers by kind of error, one for each location.
    :param limit: locations a second that it is known to take, None for no limit.
    :param asked_again_in: seconds from the end of the run, 0 for at once.
    """

    errors: Mapping[str, int] = field(default_factory=dict)
    limit: float | None = None
    asked_again_in: float = 0.0

    @property
    def throttled(self) -> int:
        """How often it asked for patience with a location."""
        return self.errors.get("throttled", 0)

    def as_dict(self) -> dict[str, Any]:
        return {
            "errors": dict(self.errors),
            "throttled": self.throttled,
            "limit_per_second": None if self.limit is None else round(self.limit, 1),
            "asked_again_in_seconds": round(self.asked_again_in),
        }


@dataclass(slots=True)
class Left:
    """What stays behind for one reason."""

    outcome: Outcome
    reason: str
    store: str
    locations: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)

    def add(self, locations: int, examples: Iterable[dict[str, Any]]) -> None:
        """So many more, of which these are a few."""
        self.locations += locations
        self.examples.extend(islice(examples, EXAMPLES - len(self.examples)))

    def as_dict(self) -> dict[str, Any]:
        return {
            "outcome": self.outcome.value,
            "reason": self.reason,
            "store": self.store,
            "locations": self.locations,
            "examples": self.examples,
        }


class Report:
    """Counts while a run goes on; ``as_dict`` is the document of ``--format json``.

    :param rehearsal: a dry run: the counts say what a run would have done.
    :param trigger: why the run is made.
    :param run: its id, where several processes have a part in it; else a new one.
    """

    def __init__(
        self,
        now: Callable[[], datetime.datetime],
        rehearsal: bool = False,
        trigger: str = "once",
        run: str | None = None,
    ) -> None:
        self._now = now
        #: Its name, in the state database and in the audit trail.
        self.run = run or secrets.token_hex(6)
        self.trigger = trigger
        self.host = socket.gethostname()
        self.process = os.getpid()
        self.rehearsal = rehearsal
        self.stages = Stages()
        #: Called before somebody reads what the run has not written here yet.
        self.before_look: Callable[[], None] = lambda: None
        self.started_at = now()
        self.finished_at: datetime.datetime | None = None
        self.total = Tally()
        self.stores: defaultdict[str, Tally] = defaultdict(Tally)
        self.owners: defaultdict[str, Tally] = defaultdict(Tally)
        self.left: dict[tuple[Outcome, str, str], Left] = {}
        self.stopped_stores: dict[str, str] = {}
        self.paused_stores: list[str] = []
        self.paces: defaultdict[str, Pace] = defaultdict(Pace)
        self.not_due = 0
        self.next_due_at: datetime.datetime | None = None
        self.claimed_elsewhere = 0
        self.alarms: list[str] = []
        self.failure: str | None = None
        self.cancelled = False

    # While the run goes on ------------------------------------------------------------

    def record(
        self,
        candidate: Candidate,
        location: Location,
        store: str,
        outcome: Outcome,
        reason: str = "",
        bytes_freed: int = 0,
    ) -> None:
        """One location is settled for this run."""
        for tally in self._tallies(candidate, [store]):
            tally.locations[outcome] += 1
            tally.bytes_freed += bytes_freed
        self.stages.deleted.locations += outcome.done
        if outcome.left:
            self._leave(outcome, reason, store, candidate, location)

    def leave_image(self, candidate: Candidate, store: str) -> None:
        """An image is left as it is though none of its locations is."""
        assert candidate.obstacle is not None
        self._leave(candidate.obstacle.outcome, candidate.obstacle.reason, store, candidate, None)

    def _leave(
        self,
        outcome: Outcome,
        reason: str,
        store: str,
        candidate: Candidate,
        location: Location | None,
    ) -> None:
        if len(self.left) >= REASONS and (outcome, reason, store) not in self.left:
            reason, store = "other reasons", ""
        left = self.left.setdefault((outcome, reason, store), Left(outcome, reason, store))
        example = {
            "image": candidate.image.id,
            "owner": candidate.image.owner,
            "location": location.id if location else None,
        }
        left.add(1, [example])

    def scrubbed(self, candidate: Candidate, stores: frozenset[str]) -> None:
        """All of an image is gone."""
        for tally in self._tallies(candidate, sorted(stores)):
            tally.images_scrubbed += 1
        self.stages.deleted.images += 1

    def _tallies(self, candidate: Candidate, stores: list[str]) -> list[Tally]:
        owner = candidate.image.owner or ""
        return [self.total, self.owners[owner], *(self.stores[store] for store in stores)]

    def wait_until(self, due_at: datetime.datetime) -> None:
        """A candidate that is not due yet: nothing is left undone by that."""
        self.not_due += 1
        self.next_due_at = min(due_at, self.next_due_at or due_at)

    def alarm(self, message: str) -> None:
        """Something happened that must not: a human should look."""
        self.alarms.append(message)

    # At its end -----------------------------------------------------------------------

    def finish(self) -> None:
        self.finished_at = self._now()

    @property
    def status(self) -> str:
        """``succeeded``, ``partial``, ``failed`` or ``cancelled``; ``running`` before the end."""
        if self.finished_at is None:
            return "running"
        if self.cancelled:
            return "cancelled"
        if self.failure:
            done = sum(self.total.locations[outcome] for outcome in Outcome if outcome.done)
            return "partial" if done or self.total.images_scrubbed else "failed"
        return "partial" if self.left or self.alarms else "succeeded"

    def as_dict(self) -> dict[str, Any]:
        if self.finished_at is None:
            self.before_look()
        return {
            "run": self.run,
            "trigger": self.trigger,
            "host": self.host,
            "process": self.process,
            "status": self.status,
            "dry_run": self.rehearsal,
            "started_at": _iso(self.started_at),
            "finished_at": _iso(self.finished_at),
            "error": self.failure,
            "stages": asdict(self.stages),
            **self.total.as_dict(),
            "stores": {
                store: tally.as_dict() | self.paces[store].as_dict()
                for store, tally in sorted(self.stores.items())
            },
            "owners": {owner: tally.as_dict() for owner, tally in sorted(self.owners.items())},
            "stopped_stores": self.stopped_stores,
            "paused_stores": self.paused_stores,
            "left": [left.as_dict() for left in self.left.values()],
            "not_due": {"images": self.not_due, "next_due_at": _iso(self.next_due_at)},
            "claimed_elsewhere": {"images": self.claimed_elsewhere},
            "alarms": self.alarms,
        }


def utcnow() -> datetime.datetime:
    """Now, as reports keep it: naive UTC."""
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)


def _iso(moment: datetime.datetime | None) -> str | None:
    return moment.replace(microsecond=0).isoformat() + "Z" if moment else None

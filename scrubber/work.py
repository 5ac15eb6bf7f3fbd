"""What a run has to do.

An image is a :class:`Job`, each of its locations a :class:`Piece`; what became of a piece is
a :class:`Verdict`.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scrubber.model import Candidate, Location, Outcome
from scrubber.sources.base import Claim

if TYPE_CHECKING:
    from scrubber.store_state import StoreState


@dataclass(frozen=True, slots=True)
class Piece:
    """One location to delete: in which store, and what that would delete there."""

    location: Location
    store: "StoreState"
    root: str
    identity: str


@dataclass(eq=False, slots=True)
class Job:
    """A claimed image on its way through the stores, one piece after another.

    :param deleted: identities of its pieces that are done with: two rows may be one object.
    :param held: how many pieces are missing in a store that has not proved itself.
    :param complete: whether all that its rows name is gone, as far as it got.
    :param sent: whether a store was asked to delete any of it.
    :param seconds: how long the store call took that came last, 0 where none was needed.
    """

    candidate: Candidate
    claim: Claim
    todo: deque[Piece]
    stores: frozenset[str]
    complete: bool = True
    deleted: set[str] = field(default_factory=set)
    held: int = 0
    sent: bool = False
    seconds: float = 0.0

    @property
    def ended(self) -> bool:
        return not self.todo and not self.held


#: What queues and batches consist of.
Entry = tuple[Job, Piece]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a piece; ``outcome`` is None while it is held to the end of the run.

    :param attempted: whether the store was asked and said no to this one piece.
    :param may_happen: whether the store may delete it yet: its claim is left to lapse, so that
        nobody takes the bytes for safe.
    """

    outcome: Outcome | None
    reason: str = ""
    bytes_freed: int = 0
    attempted: bool = False
    may_happen: bool = False


#: Not even tried, or refused for now: the piece goes back to its queue.
NOT_SENT = Verdict(Outcome.LOST, "not sent")
LOST = Verdict(Outcome.LOST)
HELD = Verdict(None)

"""What a run has to do, and the stores in which it does it.

An image is a :class:`Job`, each of its locations a :class:`Piece`; what became of a piece is
a :class:`Verdict`.  A :class:`StoreState` is a store in this run: what is queued for it, and
whether it is believed.
"""

import logging
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil

from scrubber import errors, pool
from scrubber.model import Candidate, Location, Looks, Outcome, Target
from scrubber.planning.order import FairQueue, Pace
from scrubber.planning.proof import Proof, judge
from scrubber.sources.base import Claim
from scrubber.stores import base
from scrubber.stores.call import call

LOG = logging.getLogger(__name__)

#: So many objects are looked at in one go before they are deleted.
LOOKED_AT = 8


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
    """

    candidate: Candidate
    claim: Claim
    todo: deque[Piece]
    stores: frozenset[str]
    complete: bool = True
    deleted: set[str] = field(default_factory=set)
    held: int = 0

    @property
    def ended(self) -> bool:
        return not self.todo and not self.held


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a piece; ``outcome`` is None while it is held to the end of the run."""

    outcome: Outcome | None
    reason: str = ""
    bytes_freed: int = 0


LOST = Verdict(Outcome.LOST)
HELD = Verdict(None)
NOT_SENT = Verdict(Outcome.LOST, "not sent")


@dataclass(eq=False, slots=True)
class RootState:
    """A root of a store during one run, and what is missing there.

    :param touched: locations that the store was asked about or to delete.
    :param missing: pieces that were not found and wait for a verdict at the end of the run.
    """

    proof: Proof = Proof.UNPROVEN
    touched: int = 0
    missing: list[tuple[Job, Piece]] = field(default_factory=list)
    again: pool.Flag | None = None


class StoreState:
    """A store during one run: its queue, its pace, and whether it is believed."""

    def __init__(self, driver: base.Driver, accepted: bool = False) -> None:
        self.driver = driver
        self.name = driver.store
        self.queue: FairQueue[tuple[Job, Piece]] = FairQueue()
        self.in_flight = 0
        self.pace = Pace(driver.abilities.seconds)
        self.roots: defaultdict[str, RootState] = defaultdict(RootState)
        self.stopped: str | None = None
        self._accepted = accepted

    @property
    def ready(self) -> bool:
        """Whether another call may be made now: there is work, and a connection for it."""
        return bool(self.queue) and self.in_flight < self.driver.connections

    def next_batch(self, slots: int) -> list[tuple[Job, Piece]]:
        """What the next call takes.

        :param slots: how many calls there may be at once in all stores.
        """
        share = ceil(len(self.queue) / min(slots, self.driver.connections))
        most = LOOKED_AT if self._looks_first else self.driver.abilities.batch
        size = self.pace.batch_size(most, share)
        return [self.queue.pop() for _ in range(min(size, len(self.queue)))]

    @property
    def _looks_first(self) -> bool:
        """Whether its objects may have to be looked at, one by one, before they are deleted."""
        if self.driver.abilities.says_gone or self._accepted:
            return False
        return any(root.proof is not Proof.PROVEN for root in self.roots.values())

    def prove(self, canaries: dict[str, list[Location]], timeout: float) -> None:
        """See that this is the store we think; else it is stopped for this run.

        :param canaries: for each root some live locations that should be there.
        """
        with self._stopping_on_trouble():
            call(self.driver, self.driver.probe, timeout=timeout)
            for root, locations in canaries.items():
                self._prove_root(root, locations, timeout)

    def _prove_root(self, root: str, canaries: list[Location], timeout: float) -> None:
        looks = self.look(canaries, timeout)
        state = self.roots[root]
        state.proof = judge(looks)
        if state.proof is Proof.DISPROVED and not self._accepted:
            missing = sum(isinstance(look, errors.Gone) for look in looks)
            where = f" in {root}" if root else ""
            self.stop(
                f"of {len(looks)} live images looked up{where} {missing} are missing: is it "
                f"mounted, and the right one? If it is, run once with --accept-missing {self.name}"
            )

    def prove_once_more(self, root: str, canaries: list[Location], timeout: float) -> None:
        """After the first object that is missing: the root may have gone since it was proven."""
        state = self.roots[root]
        if state.again is not None:
            state.again.wait()
            return
        state.again = pool.Flag()
        try:
            with self._stopping_on_trouble():
                self._prove_root(root, canaries, timeout)
        finally:
            state.again.set()

    def believes(self, root: str) -> bool:
        """Whether what is missing in that root was deleted before."""
        return self._accepted or self.roots[root].proof is Proof.PROVEN

    def look(self, locations: Sequence[Location], timeout: float) -> Looks:
        return call(
            self.driver, self.driver.look, [Target(at.url) for at in locations], timeout=timeout
        )

    @contextmanager
    def _stopping_on_trouble(self) -> Iterator[None]:
        try:
            yield
        except errors.Unavailable as unavailable:
            self.stop(str(unavailable))
        except Exception as error:
            LOG.exception("The driver of store %s failed", self.name)
            self.stop(f"defect in the driver: {type(error).__name__}")

    def stop(self, reason: str) -> None:
        if self.stopped is None:
            LOG.error("Store %s is stopped for this run: %s", self.name, reason)
            self.stopped = reason

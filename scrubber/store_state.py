"""A store during one run: what is queued for it, its calls, and whether it is used and believed."""

import logging
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from math import ceil

from scrubber import errors, pool
from scrubber.health import Health
from scrubber.model import Answers, Location, Looks, Target
from scrubber.planning.order import FairQueue, Pace
from scrubber.planning.proof import Proof, judge
from scrubber.stores import base
from scrubber.stores.call import call
from scrubber.work import Entry, Job, Piece, Verdict

LOG = logging.getLogger(__name__)

#: So many objects are looked at in one go before they are deleted.
LOOKED_AT = 8

#: A look at rows that takes longer keeps no slot for its store.
MOMENT_SECONDS = 0.5

#: A call that takes longer lends its slot to other stores.
STALL_SECONDS = 2.0

#: So many calls at once, until the store has answered one in this run: it may hang, and would
#: take half the slots from the others for as long as that is not known.
FIRST_CALLS = 2

#: A store that did nothing but ask for patience for so long, or asks for more, is left to the
#: next run.
PATIENCE_SECONDS = 60.0

_RESTS = "it asks for patience; the next runs go on with it"


@dataclass(eq=False, slots=True)
class RootState:
    """A root of a store during one run, and what is missing there.

    :param touched: locations that the store was asked about or to delete.
    :param missing: pieces that were not found and wait for a verdict at the end of the run.
    """

    proof: Proof = Proof.UNPROVEN
    touched: int = 0
    missing: list[Entry] = field(default_factory=list)
    again: pool.Flag | None = None


@dataclass(eq=False, slots=True)
class Batch:
    """What one call takes.

    :ivar taken_at: when it was taken from the queue, to be looked at.
    :ivar hindrances: what stands against each piece, None where nothing does.
    :ivar looked_at: when the look at its rows began that told them: a process that was stopped
        since then is to notice.
    :ivar sent_at: since when it has a slot.
    """

    entries: list[Entry]
    taken_at: float
    hindrances: Sequence[Verdict | None] = ()
    looked_at: float = 0.0
    sent_at: float = 0.0


class StoreState:
    """A store during one run: its queue, its pace, and whether it is used and believed.

    :param health: what is known of it from earlier runs.
    :param accepted: whether an operator vouches for it.
    :param why_paused: asked whether an operator has paused it, and what to say of that.
    :ivar queue: what no call has taken yet.
    :ivar looking: batches whose rows are looked at, in the order in which they were taken.
    :ivar ready: batches that only wait for a slot, oldest first.
    :ivar in_flight: batches that have one, likewise in the order in which they got it.
    :ivar errors: answers of its deletes by the kind of error.
    """

    def __init__(
        self,
        driver: base.Driver,
        health: Health,
        accepted: bool = False,
        why_paused: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.driver = driver
        self.name = driver.store
        self.health = health
        self.queue: FairQueue[Entry] = FairQueue()
        self.looking: dict[Batch, None] = {}
        self.ready: deque[Batch] = deque()
        self.in_flight: dict[Batch, None] = {}
        self.pace = Pace(driver.abilities.seconds)
        self.roots: defaultdict[str, RootState] = defaultdict(RootState)
        self.errors: Counter[str] = Counter()
        self._stopped: str | None = None
        self._left: str | None = None
        self._looking = 0
        self._looked = pool.Bell()
        self._throttled_since: float | None = None
        self._proven = False
        self._has_answered = False
        self._proof: pool.Flag | None = None
        self._accepted = accepted
        self._why_paused = why_paused

    # Its calls ------------------------------------------------------------------------

    @property
    def under_way(self) -> int:
        """Batches that were taken from the queue and are not settled yet."""
        return len(self.looking) + len(self.ready) + len(self.in_flight)

    def push(self, job: Job, piece: Piece) -> None:
        """Queue it."""
        self.queue.push(job.candidate.image.owner, (job, piece))

    @property
    def can_send(self) -> bool:
        """Whether a batch is ready, and a connection free for it."""
        return bool(self.ready) and len(self.in_flight) < self._most_calls

    def can_send_soon(self, now: float) -> bool:
        """Whether that will be so in a moment, at the latest."""
        if len(self.in_flight) >= self._most_calls:
            return False
        latest = next(reversed(self.looking), None)
        return latest is not None and now < latest.taken_at + MOMENT_SECONDS

    def ready_in(self, now: float, slots: pool.Pool) -> float | None:
        """Seconds until another batch may be taken; None while there is no work or no room."""
        if self.stopped or not self.queue or self.under_way >= self._most_under_way(slots):
            return None
        return max(0.0, self.health.limit.ready_at - now)

    def _most_under_way(self, slots: pool.Pool) -> int:
        """Batches, those included that wait for a slot, looked at.

        As many are ahead as there are calls: no slot waits for a look at rows, unless that
        takes longer than a call.
        """
        if not self._has_answered or self.health.limit.allowed is not None:
            # It may hang; or each call is paced, and is not to wait once its moment has come.
            return min(self._most_calls, len(self.in_flight) + slots.free)
        return 2 * min(slots.size, self._most_calls)

    def next_batch(self, slots: int) -> Batch:
        """What the next call takes; its rows are to be looked at."""
        share = ceil(len(self.queue) / min(slots, self.driver.connections))
        most = LOOKED_AT if self._looks_first else self.driver.abilities.batch
        size = self.pace.batch_size(most, max(share, self.driver.abilities.at_least))
        size = self.health.limit.batch_size(min(size, len(self.queue)))
        batch = Batch([self.queue.pop() for _ in range(size)], time.monotonic())
        self.health.sent(size)
        self.looking[batch] = None
        return batch

    def looked(self, batch: Batch, hindrances: Sequence[Verdict | None], begun: float) -> None:
        """It waits for a slot from now on."""
        batch.hindrances, batch.looked_at = hindrances, begun
        del self.looking[batch]
        self.ready.append(batch)

    def next_call(self) -> Batch:
        """The batch that gets a slot now."""
        batch = self.ready.popleft()
        batch.sent_at = time.monotonic()
        self.in_flight[batch] = None
        return batch

    def call_off(self) -> None:
        """Queue again what waits for a slot: nothing of it is to be sent now."""
        while self.ready:
            for job, piece in self.ready.popleft().entries:
                self.push(job, piece)

    def is_held_up(self, now: float) -> bool:
        """Whether it goes on at no pace of its own: limited, or all its calls take for ever."""
        if self.health.limit.allowed is not None:
            return True
        return bool(self.in_flight) and self.stalled(now) >= self._most_calls

    @property
    def _most_calls(self) -> int:
        most = self.driver.connections
        return most if self._has_answered else min(most, FIRST_CALLS)

    def room(self, page_size: int, lease: float) -> int:
        """How much may be queued: no more than it can do well within the lease of its claims."""
        allowed = self.health.limit.allowed
        if allowed is None:
            return page_size
        return int(max(1, min(page_size, allowed * lease / 4)))

    def stalled(self, now: float) -> int:
        """How many of its calls take so long that other stores should not wait for them."""
        return sum(
            1 for _ in takewhile(lambda at: now - at.sent_at >= STALL_SECONDS, self.in_flight)
        )

    def news_in(self, now: float) -> float | None:
        """Seconds until a call has stalled, or a look has kept a slot for long enough."""
        sent = (at.sent_at + STALL_SECONDS - now for at in self.in_flight)
        taken = (at.taken_at + MOMENT_SECONDS - now for at in self.looking)
        # The oldest come first, and only what is still to come is news.
        firsts = (next((left for left in each if left > 0), None) for each in (sent, taken))
        return min((left for left in firsts if left is not None), default=None)

    def heard(self, answers: Answers, sent_at: float) -> None:
        """What the store said to a batch."""
        self._has_answered = True
        self.health.heard(answers, sent_at)
        now = time.monotonic()
        throttled = sum(isinstance(answer, errors.Throttled) for answer in answers)
        if throttled < len(answers):
            self._throttled_since = None
        elif throttled and self._throttled_since is None:
            self._throttled_since = now
        if reason := self.health.circuit.reason:
            self._stop(reason)
        elif throttled and self._is_out_of_patience(now):
            self.leave(_RESTS)
        elif throttled:
            self.call_off()  # from now on each call has its moment

    def _is_out_of_patience(self, now: float) -> bool:
        waited = 0.0 if self._throttled_since is None else now - self._throttled_since
        return max(waited, self.health.limit.not_before - now) > PATIENCE_SECONDS

    def count(self, answers: Answers, seconds: float) -> None:
        """Of a call that took so long, whatever became of it."""
        kinds = Counter(answer.kind for answer in answers if isinstance(answer, errors.StoreError))
        del kinds[errors.NotSent.kind]  # our own doing
        self.errors.update(kinds)
        self.health.calls.add(seconds, kinds)

    # Whether it is used ---------------------------------------------------------------

    @property
    def stopped(self) -> str | None:
        """Why nothing is sent to it, for now or for the rest of this run; None while it is used."""
        return self._left or self._stopped

    def leave(self, reason: str) -> None:
        """Ask nothing more of it in this run, though it may well work."""
        if self._left is None:
            LOG.warning("Store %s is left alone for the rest of this run: %s", self.name, reason)
            self._left = reason

    def heed(self) -> None:
        """Take notice of an operator's pause; who resumes it means the next run."""
        if self._left is None and (reason := self._why_paused()):
            self.leave(reason)

    @property
    def wants_proof(self) -> bool:
        """Whether to ask it now what it is: at its first use, or after a failure once more."""
        if self._left is not None or self.proving:
            return False
        untried = not self._proven if self._stopped is None else bool(self.health.circuit.reason)
        return untried and self.health.may_be_asked

    @property
    def proving(self) -> bool:
        """Whether it is being asked just now."""
        return self._proof is not None

    def wait_for_proof(self, seconds: float | None = None) -> None:
        """Until it was asked, at most so many seconds."""
        if self._proof is not None:
            self._proof.wait(seconds)

    @property
    def _looks_first(self) -> bool:
        """Whether its objects may have to be looked at, one by one, before they are deleted."""
        if self.driver.abilities.says_gone or self._accepted:
            return False
        return any(root.proof is not Proof.PROVEN for root in self.roots.values())

    def prove(self, canaries: dict[str, list[Location]], timeout: float) -> None:
        """See, in the background, that this is the store we think; else it is stopped for now.

        :param canaries: for each root some live locations that should be there.
        """
        self._proof = pool.Flag()
        pool.Task(self._prove, self._proof, canaries, timeout)

    def _prove(self, proof: pool.Flag, canaries: dict[str, list[Location]], timeout: float) -> None:
        reason = self._reason_against(lambda: self._probe(canaries, timeout))
        # Only now: while it is asked nothing may be sent.
        self._proof, self._stopped = None, None
        try:
            self._conclude(reason)
        finally:
            proof.set()

    def _conclude(self, reason: str | None) -> None:
        if reason is not None:
            self.stop(reason)
            return
        self._proven = True
        if self.health.circuit.reason is not None:
            LOG.info("Store %s works again.", self.name)
            self.health.circuit = self.health.circuit.probed()

    def _probe(self, canaries: dict[str, list[Location]], timeout: float) -> None:
        call(self.driver, self.driver.probe, timeout=timeout)
        for root, locations in canaries.items():
            self._prove_root(root, locations, timeout)

    def leave_alone(self) -> None:
        """Not asked at all: it failed, or asked for patience, in an earlier run."""
        if self.stopped is None and not self._proven:
            self._stopped = self.health.circuit.reason or _RESTS

    @property
    def asked_again_in(self) -> float:
        """Seconds until it may be asked again, 0 if it may be now."""
        now, circuit = time.monotonic(), self.health.circuit
        broken = circuit.probe_at - now if circuit.reason else 0.0
        return max(0.0, broken, self.health.limit.not_before - now)

    @property
    def rests(self) -> bool:
        """Whether it asked for more patience than a run has."""
        return self._is_out_of_patience(time.monotonic())

    def _prove_root(self, root: str, canaries: list[Location], timeout: float) -> None:
        """:raises Unavailable: most of its live objects are not there."""
        looks = self.look(canaries, timeout)
        state = self.roots[root]
        state.proof = judge(looks)
        if state.proof is Proof.DISPROVED and not self._accepted:
            missing = sum(isinstance(look, errors.Gone) for look in looks)
            where = f" in {root}" if root else ""
            raise errors.Unavailable(
                f"of {len(looks)} live images looked up{where} {missing} are missing: is it "
                f"mounted, and the right one? If it is, run once with --accept-missing {self.name}"
            )

    def prove_once_more(
        self, root: str, canaries: Callable[[], list[Location]], timeout: float
    ) -> None:
        """After the first object that is missing: the root may have gone since it was proven.

        :param canaries: some live locations that should be there.
        """
        state = self.roots[root]
        if state.again is not None:
            state.again.wait()
            return
        state.again = pool.Flag()
        try:
            reason = self._reason_against(lambda: self._prove_root(root, canaries(), timeout))
            if reason is not None:
                self.stop(reason)
        finally:
            state.again.set()

    def believes(self, root: str) -> bool:
        """Whether what is missing in that root was deleted before."""
        return self._accepted or self.roots[root].proof is Proof.PROVEN

    def look(self, locations: Sequence[Location], timeout: float) -> Looks:
        # Those that look on behalf of another store are not among its own calls.
        while self._looking >= self.driver.connections:
            self._looked.wait()
        self._looking += 1
        try:
            targets = [Target(at.url) for at in locations]
            return call(self.driver, self.driver.look, targets, timeout=timeout)
        finally:
            self._looking -= 1
            self._looked.ring()

    def _reason_against(self, examine: Callable[[], None]) -> str | None:
        """Why the store cannot be used, if an examination says so."""
        try:
            examine()
        except (errors.Unavailable, errors.SourceUnavailable) as unavailable:
            return str(unavailable)
        except Exception as error:
            return self.defect(error)
        return None

    def defect(self, error: Exception) -> str:
        """What to say of an error that its driver should not have raised; logged here."""
        LOG.error("The driver of store %s failed", self.name, exc_info=error)
        return f"defect in the driver: {type(error).__name__}"

    def stop(self, reason: str) -> None:
        """It failed as a whole: nothing more is sent until it has proved itself once more."""
        if self._stopped is None:
            self.health.broke(reason)
            self._stop(reason)

    def _stop(self, reason: str) -> None:
        if self._stopped is None:
            LOG.error("Store %s is stopped for now: %s", self.name, reason)
            self._stopped = reason

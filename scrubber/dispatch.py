"""Sends claimed locations to their stores: one batch, one slot, one store call.

Work waits in its store's queue, never in a slot.  Of one image only one location is on
its way at a time.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from scrubber import errors, pool
from scrubber.live import LiveReferences
from scrubber.model import (
    Answer,
    Answers,
    Deleted,
    Found,
    Kind,
    Location,
    Look,
    Outcome,
    Target,
    Trashed,
)
from scrubber.planning import safety
from scrubber.planning.proof import Proof
from scrubber.sources.base import Source
from scrubber.stores import base
from scrubber.stores.call import call
from scrubber.work import (
    HELD,
    LOST,
    NOT_SENT,
    STALL_SECONDS,
    Batch,
    Job,
    Piece,
    StoreState,
    Verdict,
)

LOG = logging.getLogger(__name__)

#: After so many seconds a batch starts no further delete: the rest is queued once more.
CALL_SECONDS = 1.0

#: So long after the last look at its rows a batch may begin.
FIRST_SECONDS = 10.0

#: So many missing objects are held for a verdict at the end of a run; more stop the store.
MOST_MISSING = 2000


@dataclass(frozen=True, slots=True)
class _Timed:
    answers: Answers
    seconds: float


def _timed(driver: base.Driver, targets: list[Target], proceed: Callable[[], bool]) -> _Timed:
    """Runs where the call runs: the pace is the store's, not that of a busy process."""
    started = time.monotonic()
    answers = driver.delete(targets, proceed)
    return _Timed(answers, time.monotonic() - started)


def _targets(batch: Iterable[tuple[Job, Piece]]) -> list[Target]:
    return [Target(piece.location.url, job.candidate.image.size) for job, piece in batch]


class Dispatcher:
    """The GreenPool at work.

    :param state_of: the store that holds a location, None if there is none.
    :param send_within: seconds after a claim in which its locations may be sent.
    :param settle: told the verdict on each piece, in the order in which they come.
    """

    def __init__(
        self,
        slots: pool.Pool,
        source: Source,
        live: LiveReferences,
        stop: pool.Flag,
        *,
        state_of: Callable[[Location], StoreState | None],
        send_within: Callable[[], float],
        call_timeout: Callable[[], float],
        settle: Callable[[Job, Piece, Verdict], None],
    ) -> None:
        self._slots = slots
        self._source = source
        self._live = live
        self._stop = stop
        self._state_of = state_of
        self._send_within = send_within
        self._call_timeout = call_timeout
        self._settle = settle
        self._stores: deque[StoreState] = deque()
        self._followers: dict[str, list[tuple[Job, Piece]]] = {}
        self._closing = False
        self._failure: Exception | None = None
        self._task = pool.Task(self._fill_slots)

    @property
    def _queued(self) -> int:
        return sum(len(store.queue) for store in self._stores)

    @property
    def _in_flight(self) -> int:
        return sum(len(store.in_flight) for store in self._stores)

    def push(self, job: Job) -> None:
        """Queue the job's next piece."""
        piece = job.todo[0]
        if piece.identity in self._followers:
            # Another row of the same object is on its way: one delete serves both.
            self._followers[piece.identity].append((job, piece))
            return
        self._followers[piece.identity] = []
        if piece.store not in self._stores:
            self._stores.append(piece.store)
        piece.store.queue.push(job.candidate.image.owner, (job, piece))
        if self._slots.free:
            self._slots.changed.ring()

    def wait_for_room(self, page_size: int, lease: float, only: frozenset[str] | None) -> None:
        """Until there is too little work, or the run is to stop.

        :param only: the stores that are asked about; without them a store that is held up
            counts for nothing, since it must not hold up the others.
        """
        while not self._has_room(page_size, lease, only) and not self.ending:
            self._slots.changed.wait(self._next_moment())

    def _has_room(self, page_size: int, lease: float, only: frozenset[str] | None) -> bool:
        now = time.monotonic()
        if only is None:
            waiting = (len(store.queue) for store in self._stores if not store.is_held_up(now))
            return sum(waiting) < page_size
        asked = [store for store in self._stores if store.name in only]
        return not asked or any(
            len(store.queue) < store.room(page_size, lease) / 2 for store in asked
        )

    def drain(self) -> None:
        """Until nothing is queued or in flight; after a stop what is queued is dropped."""
        while True:
            # At once, not after what is in flight: that may hang. What follows in an image
            # may queue up in any store, even in a new one.
            while self.ending and (store := next((at for at in self._stores if at.queue), None)):
                self._conclude(*store.queue.pop(), LOST)
            if not self._in_flight and not self._queued:
                break
            self._slots.changed.wait()
        if self._failure:
            raise self._failure

    def abort(self, failure: Exception) -> None:
        """Send nothing more; ``drain`` raises this failure where somebody is listening."""
        self._failure = self._failure or failure
        self._slots.changed.ring()

    @property
    def ending(self) -> bool:
        """Whether nothing more is sent."""
        return bool(self._stop or self._failure)

    def close(self) -> None:
        self._closing = True
        self._slots.changed.ring()
        self._task.join()

    # Slots ----------------------------------------------------------------------------

    def _fill_slots(self) -> None:
        while not self._closing:
            try:
                self._slots.lend(self._stalled())
                while self._slots.free and not self.ending and (store := self._next_store()):
                    self._slots.spawn(self._send, store, store.next_batch(self._slots.size))
            except Exception as defect:
                self.abort(defect)
            self._slots.changed.wait(self._next_moment())
        self._slots.lend(0)

    def _next_store(self) -> StoreState | None:
        """The one with the fewest calls under way: a slow store leaves the others their share."""
        now = time.monotonic()
        ready = [store for store in self._stores if store.ready_in(now) == 0]
        if not ready:
            return None
        store = min(ready, key=lambda store: len(store.in_flight))
        self._stores.remove(store)
        self._stores.append(store)
        return store

    def _stalled(self) -> int:
        now = time.monotonic()
        return sum(store.stalled(now) for store in self._stores)

    def _next_moment(self) -> float | None:
        """Seconds until something is to be done though nothing has changed."""
        now = time.monotonic()
        sends = self._slots.free and not self.ending
        waits = [store.ready_in(now) for store in self._stores] if sends else []
        stalls = [
            batch.sent_at + STALL_SECONDS - now
            for store in self._stores
            for batch in store.in_flight
        ]
        moments = [at for at in waits if at is not None] + [at for at in stalls if at > 0]
        return min(moments, default=None)

    def _send(self, store: StoreState, batch: Batch) -> None:
        try:
            verdicts = self._carry_out(store, batch.entries)
            for (job, piece), verdict in zip(batch.entries, verdicts, strict=True):
                self._conclude(job, piece, verdict)
        except Exception as defect:
            self.abort(defect)
        finally:
            store.in_flight.remove(batch)

    # One batch ------------------------------------------------------------------------

    def _carry_out(self, store: StoreState, batch: list[tuple[Job, Piece]]) -> list[Verdict]:
        try:
            hindrances = self._hindrances(store, batch)
        except errors.SourceUnavailable as error:
            return [Verdict(Outcome.WAITING, str(error))] * len(batch)
        except errors.ScrubberError as error:
            self.abort(error)
            return [LOST] * len(batch)
        allowed = [
            entry for entry, hindrance in zip(batch, hindrances, strict=True) if hindrance is None
        ]
        answers = iter(self._delete(store, allowed))
        return [
            hindrance or self._judge(store, job, piece, next(answers))
            for (job, piece), hindrance in zip(batch, hindrances, strict=True)
        ]

    def _hindrances(
        self, store: StoreState, batch: list[tuple[Job, Piece]]
    ) -> list[Verdict | None]:
        """What stands against each piece at the last moment; None where nothing does.

        In this order: our claim is committed, so whoever restores or shares the bytes from
        now on finds it; then the rows are read once more, then the live references.
        """
        removed = {job.candidate.image.id for job, _ in batch if job.candidate.kind is Kind.REMOVED}
        reasons = [self._removed_hindrance(job, piece) for job, piece in batch]
        importing = self._source.importing(removed) if removed else frozenset()
        # As old as the rows read below: a renewal meanwhile says nothing of what they were.
        taken_at = [job.claim.taken_at for job, _ in batch]
        ours = self._source.still_ours(
            [(job.claim, job.candidate, piece.location) for job, piece in batch]
        )
        self._live.refresh()
        aliased = [self._alias_hindrance(piece) for _, piece in batch]
        used = self._live.used([(piece.identity, piece.location.id) for _, piece in batch])
        written = self._live.being_written(
            [(piece.identity, job.candidate.image.id) for job, piece in batch]
        )
        # Last, since all of this may have waited: a process that was paused notices here.
        too_late = time.monotonic() - self._send_within()
        hindrances: list[Verdict | None] = []
        for (job, piece), removed_reason, alias_reason, taken in zip(
            batch, reasons, aliased, taken_at, strict=True
        ):
            reason = store.stopped or removed_reason or alias_reason
            verdict: Verdict | None = None
            if self.ending or piece.location.id not in ours:
                verdict = LOST
            elif piece.identity in used:
                verdict = Verdict(Outcome.SHARED)
            elif piece.identity in written:
                verdict = Verdict(Outcome.WAITING, "Glance may be writing it for another image")
            elif job.candidate.image.id in importing:
                verdict = Verdict(Outcome.WAITING, "Glance is importing into the image")
            elif taken < too_late:
                verdict = Verdict(Outcome.WAITING, "the claim was about to run out")
            elif reason:
                verdict = Verdict(Outcome.WAITING, reason)
            hindrances.append(verdict)
        return hindrances

    def _removed_hindrance(self, job: Job, piece: Piece) -> str | None:
        """A location removed from a live image is looked at, and so are those that stay."""
        if job.candidate.kind is not Kind.REMOVED:
            return None
        timeout = self._call_timeout()
        try:
            found = piece.store.look([piece.location], timeout)[0]
            siblings: list[Look] = []
            for sibling in job.candidate.siblings:
                if (state := self._state_of(sibling)) is None:
                    continue  # no driver of ours, so no object that ours could delete
                if state.stopped:
                    return f"store {state.name}, which holds a live copy, cannot be looked at"
                siblings.extend(state.look([sibling], timeout))
        except errors.Unavailable as unavailable:
            return str(unavailable)
        return safety.hindrance(piece.location, found, siblings)

    def _alias_hindrance(self, piece: Piece) -> str | None:
        """The same name in another store, and live: it is looked at whether it is one object."""
        others = self._live.aliases(piece.identity, piece.location.id)
        if not others:
            return None
        timeout = self._call_timeout()
        try:
            (found,) = piece.store.look([piece.location], timeout)
            looks: list[Look] = []
            for other in others:
                if (state := self._state_of(other)) is None or state.stopped:
                    return f"it may be an object of store {other.store}, which cannot be looked at"
                looks.extend(state.look([other], timeout))
        except errors.Unavailable as unavailable:
            return str(unavailable)
        return safety.alias_hindrance(found, looks)

    def _delete(self, store: StoreState, batch: list[tuple[Job, Piece]]) -> Answers:
        if not batch:
            return []
        proceed = self._proceed(min(job.claim.taken_at for job, _ in batch))
        sent_at = time.monotonic()
        try:
            unseen = self._unseen(store, batch)
            seen = [entry for entry in batch if entry[1].location.id not in unseen]
            answers = iter(self._ask_to_delete(store, seen, proceed))
            all_answers = [unseen.get(piece.location.id) or next(answers) for _, piece in batch]
            store.heard(all_answers, sent_at)
            return all_answers
        except errors.Unavailable as unavailable:
            store.stop(str(unavailable))
            return [unavailable] * len(batch)
        except Exception as error:
            # A driver that breaks its contract: nothing of this batch counts as deleted.
            LOG.exception("The driver of store %s failed", store.name)
            failed = errors.Failed(f"defect in the driver: {type(error).__name__}")
            return [failed] * len(batch)

    def _unseen(
        self, store: StoreState, batch: list[tuple[Job, Piece]]
    ) -> dict[int, errors.StoreError]:
        """What is not there, by location id, in a store whose deletes do not tell.

        Once its root has proved itself that is not asked: then it was deleted before.
        """
        if store.driver.abilities.says_gone:
            return {}
        doubtful = [piece.location for _, piece in batch if not store.believes(piece.root)]
        if not doubtful:
            return {}
        looks = store.look(doubtful, self._call_timeout())
        return {
            location.id: look
            for location, look in zip(doubtful, looks, strict=True)
            if not isinstance(look, Found)
        }

    def _ask_to_delete(
        self, store: StoreState, batch: list[tuple[Job, Piece]], proceed: Callable[[], bool]
    ) -> Answers:
        if not batch:
            return []
        timed = call(store.driver, _timed, store.driver, _targets(batch), proceed)
        if len(timed.answers) != len(batch):
            raise ValueError(f"{len(timed.answers)} answers for {len(batch)} locations")
        tried = sum(not isinstance(answer, errors.NotSent) for answer in timed.answers)
        if tried:
            store.pace.learn(tried, timed.seconds)
        return timed.answers

    def _proceed(self, claimed_at: float) -> Callable[[], bool]:
        """Whether a batch under way may go on: a slow one, or one that was paused, may not.

        Its first location has more time: a store that is slow to begin with would otherwise
        never get anywhere.
        """
        begun = time.monotonic()
        first = min(begun + FIRST_SECONDS, claimed_at + self._send_within())
        others = min(begun + CALL_SECONDS, first)
        asked = False

        def proceed() -> bool:
            nonlocal asked
            until, asked = (others if asked else first), True
            return not self.ending and time.monotonic() < until

        return proceed

    def _judge(self, store: StoreState, job: Job, piece: Piece, answer: Answer) -> Verdict:
        if isinstance(answer, errors.NotSent | errors.Begun):
            return NOT_SENT
        if isinstance(answer, errors.Throttled) and not store.stopped:
            return NOT_SENT  # no failure, and no attempt: its turn comes again
        store.roots[piece.root].touched += 1
        if isinstance(answer, Deleted):
            return Verdict(Outcome.DELETED, bytes_freed=answer.bytes_freed)
        if isinstance(answer, Trashed):
            return Verdict(Outcome.TRASHED)
        if isinstance(answer, errors.Gone):
            return self._judge_missing(store, job, piece)
        if isinstance(answer, errors.Refused | errors.Unsupported):
            return Verdict(Outcome.REFUSED, str(answer))
        if isinstance(answer, errors.Unavailable):
            store.stop(str(answer))
        if isinstance(answer, errors.Unavailable | errors.Throttled):
            return Verdict(Outcome.WAITING, str(answer))
        outcome = Outcome.WAITING if isinstance(answer, errors.InUse) else Outcome.FAILED
        return Verdict(outcome, str(answer), attempted=True)

    def _judge_missing(self, store: StoreState, job: Job, piece: Piece) -> Verdict:
        """Not there: deleted before, or is the store not what we think?"""
        root = store.roots[piece.root]
        if root.proof is Proof.PROVEN:
            canaries = self._live.canaries(store.driver).get(piece.root, [])
            store.prove_once_more(piece.root, canaries, self._call_timeout())
        if store.stopped:
            return Verdict(Outcome.WAITING, store.stopped)
        if store.believes(piece.root):
            return Verdict(Outcome.GONE)
        if len(root.missing) >= MOST_MISSING:
            store.stop(f"more than {MOST_MISSING} objects are missing, and nothing proves it")
            return Verdict(Outcome.WAITING, store.stopped or "")
        root.missing.append((job, piece))
        return HELD

    # Verdicts -------------------------------------------------------------------------

    def _conclude(self, job: Job, piece: Piece, verdict: Verdict) -> None:
        """Settle a piece and those that follow it, and queue what their images still have."""
        if verdict is NOT_SENT and not self.ending:
            piece.store.queue.push(job.candidate.image.owner, (job, piece))
            return
        followers = self._followers.pop(piece.identity)
        self._advance(job, piece, verdict)
        for follower, same in followers:
            if verdict.outcome is Outcome.LOST and not self.ending:
                self.push(follower)  # nothing was deleted: now it is its turn
            elif verdict is HELD:
                same.store.roots[same.root].missing.append((follower, same))
                self._advance(follower, same, HELD)
            elif verdict.outcome is not None and verdict.outcome.done:
                self._advance(follower, same, Verdict(Outcome.SHARED))
            else:
                self._advance(follower, same, verdict)

    def _advance(self, job: Job, piece: Piece, verdict: Verdict) -> None:
        job.todo.popleft()
        if verdict.outcome is not None and verdict.outcome.done:
            job.deleted.add(piece.identity)
        self._settle(job, piece, verdict)
        if job.todo and job.todo[0].identity in job.deleted:
            self._advance(job, job.todo[0], Verdict(Outcome.SHARED))
        elif job.todo:
            self.push(job)

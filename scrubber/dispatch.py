"""Sends claimed locations to their stores: one batch, one slot, one store call.

Work waits in its store's queue, never in a slot, and its rows are looked at before a slot is
free for it.  Of one image only one location is on its way at a time.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from scrubber import errors, pool
from scrubber.deleter import Deleter
from scrubber.last_look import LastLook
from scrubber.model import Answers, Outcome
from scrubber.planning.ahead import Throughput
from scrubber.store_state import Batch, StoreState
from scrubber.verdicts import Judge
from scrubber.work import HELD, LOST, NOT_SENT, Entry, Job, Piece, Verdict

#: So long after the look at its rows began a batch may get its slot.
LOOK_SECONDS = 2.0

#: What others need may be what follows: an image was live at the look, and has been deleted since.
_NOTHING_DELETED = frozenset({Outcome.LOST, Outcome.SHARED})


class Dispatcher:
    """The GreenPool at work.

    :param should_end: whether the run is to end; asked before anything is sent.
    :param send_within: see :class:`~scrubber.deleter.Deleter`; so is ``call_timeout``.
    :param sending: told the jobs of each batch that goes to a store.
    :param settle: told the verdict on each piece, in the order in which they come.
    """

    def __init__(
        self,
        slots: pool.Pool,
        last_look: LastLook,
        judge: Judge,
        *,
        should_end: Callable[[], bool],
        send_within: Callable[[], float],
        call_timeout: Callable[[], float],
        sending: Callable[[Sequence[Job]], None],
        settle: Callable[[Job, Piece, Verdict], None],
    ) -> None:
        self._slots = slots
        self._last_look = last_look
        self._judge = judge
        self._should_end = should_end
        self._deleter = Deleter(
            is_ending=lambda: self.ending, send_within=send_within, call_timeout=call_timeout
        )
        self._sending = sending
        self._settle = settle
        self._stores: deque[StoreState] = deque()
        self._followers: dict[str, list[Entry]] = {}
        self._throughput = Throughput(time.monotonic())
        self._closing = False
        self._failure: Exception | None = None
        self._task = pool.Task(self._fill_slots)

    @property
    def _queued(self) -> int:
        return sum(len(store.queue) for store in self._stores)

    @property
    def _under_way(self) -> int:
        return sum(store.under_way for store in self._stores)

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
        piece.store.push(job, piece)
        self._slots.changed.ring()

    def wait_for_room(self, page_size: int, lease: float, only: frozenset[str] | None) -> None:
        """Until there is too little work, or the run is to stop.

        :param only: the stores that are asked about; without them a store that is held up
            counts for nothing, since it must not hold up the others.
        """
        while not self.has_room(page_size, lease, only) and not self.ending:
            self._slots.changed.wait(self._next_moment())

    def has_room(self, page_size: int, lease: float, only: frozenset[str] | None) -> bool:
        """Whether there is too little work; of one of these stores, if some are named."""
        now = time.monotonic()
        if only is None:
            waiting = (len(store.queue) for store in self._stores if not store.is_held_up(now))
            return sum(waiting) < self.portion(page_size)
        known = {store.name: store for store in self._stores}
        return any(
            name not in known or len(known[name].queue) < known[name].room(page_size, lease) / 2
            for name in only
        )

    def portion(self, page_size: int) -> int:
        """How many locations are to be claimed together."""
        self._throughput = self._throughput.after(0, time.monotonic())
        return self._throughput.portion(self._slots.size, page_size)

    def drain(self) -> None:
        """Until nothing is queued or in flight; after a stop what is queued is dropped."""
        while True:
            # At once, not after what is in flight: that may hang.
            self._give_back()
            if not self._under_way and not self._queued:
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
        return bool(self._failure or self._should_end())

    def close(self) -> None:
        self._closing = True
        self._slots.changed.ring()
        self._task.join()

    # Slots ----------------------------------------------------------------------------

    def _fill_slots(self) -> None:
        while not self._closing:
            try:
                self._give_back()
                self._slots.lend(self._stalled())
                while self._slots.free and (store := self._next_to_send()):
                    self._slots.spawn(self._send, store, store.next_call())
                self._look_ahead()
            except Exception as defect:
                self.abort(defect)
            self._slots.changed.wait(self._next_moment())
        self._slots.lend(0)

    def _give_back(self) -> None:
        """What is queued, but not to be sent any more in this run.

        What follows in an image may queue up in any store, even in a new one.
        """
        for state in list(self._stores):
            state.heed()
        gave_back = False
        for unwanted in filter(self._is_unwanted, self._stores):
            unwanted.call_off()
        while store := next(filter(self._holds_unwanted, self._stores), None):
            verdict = LOST if self.ending else Verdict(Outcome.WAITING, store.stopped or "")
            self._conclude(*store.queue.pop(), verdict)
            gave_back = True
        if gave_back:
            self._slots.changed.ring()  # who waits for room may have looked before

    def _holds_unwanted(self, store: StoreState) -> bool:
        return bool(store.queue) and self._is_unwanted(store)

    def _is_unwanted(self, store: StoreState) -> bool:
        return self.ending or store.stopped is not None

    def _next_to_send(self) -> StoreState | None:
        """None also if the slot is better kept for a moment, for who has fewer calls under way."""
        now = time.monotonic()
        store = _with_fewest_calls(
            at for at in self._stores if at.can_send or at.can_send_soon(now)
        )
        return self._taken(store) if store is not None and store.can_send else None

    def _next_to_look(self) -> StoreState | None:
        now = time.monotonic()
        ready = (at for at in self._stores if at.ready_in(now, self._slots) == 0)
        return self._taken(_with_fewest_calls(ready))

    def _taken(self, store: StoreState | None) -> StoreState | None:
        """It is the last one to be chosen once more, of those that have as many calls."""
        if store is not None:
            self._stores.remove(store)
            self._stores.append(store)
        return store

    def _stalled(self) -> int:
        now = time.monotonic()
        return sum(store.stalled(now) for store in self._stores)

    def _next_moment(self) -> float | None:
        """Seconds until something is to be done though nothing has changed."""
        now = time.monotonic()
        stores = () if self.ending else self._stores
        waits = [store.ready_in(now, self._slots) for store in stores]
        waits += [store.news_in(now) for store in self._stores]
        return min((at for at in waits if at is not None), default=None)

    def _look_ahead(self) -> None:
        while not self.ending and (store := self._next_to_look()):
            pool.Task(self._look, store, store.next_batch(self._slots.size))

    def _look(self, store: StoreState, batch: Batch) -> None:
        hindrances: Sequence[Verdict | None] = [LOST] * len(batch.entries)
        begun = time.monotonic()
        try:
            hindrances = self._hindrances(store, batch)
        except Exception as defect:
            self.abort(defect)
        finally:
            store.looked(batch, hindrances, begun)
            self._slots.changed.ring()

    def _send(self, first: StoreState, batch: Batch) -> None:
        """In a slot, which is kept as long as something is ready for it."""
        store: StoreState | None = first
        try:
            while store is not None:
                self._send_one(store, batch)
                store = None if self._slots.is_too_full else self._next_to_send()
                if store is not None:
                    batch = store.next_call()
                    self._slots.changed.ring()  # somebody else may be looked at now
        except Exception as defect:
            self.abort(defect)

    def _send_one(self, store: StoreState, batch: Batch) -> None:
        try:
            verdicts = self._carry_out(store, batch)
            for (job, piece), verdict in zip(batch.entries, verdicts, strict=True):
                self._conclude(job, piece, verdict)
            self._throughput = self._throughput.after(len(batch.entries), time.monotonic())
        finally:
            del store.in_flight[batch]

    # One batch ------------------------------------------------------------------------

    def _hindrances(self, store: StoreState, batch: Batch) -> Sequence[Verdict | None]:
        """What stands against each piece, as far as its rows and references tell."""
        number = len(batch.entries)
        if store.stopped is not None:
            return [Verdict(Outcome.WAITING, store.stopped)] * number
        try:
            return self._last_look.hindrances(store, batch.entries)
        except errors.SourceUnavailable as error:
            return [Verdict(Outcome.WAITING, str(error))] * number
        except errors.ScrubberError as error:
            self.abort(error)
            return [LOST] * number

    def _carry_out(self, store: StoreState, batch: Batch) -> list[Verdict]:
        if time.monotonic() > batch.looked_at + LOOK_SECONDS:
            # It has waited for a slot for longer than what was seen then may be believed.
            batch.hindrances = self._hindrances(store, batch)
        if self.ending:
            return [LOST] * len(batch.entries)
        if store.stopped is not None:
            return [Verdict(Outcome.WAITING, store.stopped)] * len(batch.entries)
        decided = list(zip(batch.entries, batch.hindrances, strict=True))
        allowed = [entry for entry, hindrance in decided if hindrance is None]
        answers = iter(self._delete(store, allowed))
        return [
            hindrance or self._judge.answer(store, job, piece, next(answers))
            for (job, piece), hindrance in decided
        ]

    def _delete(self, store: StoreState, entries: list[Entry]) -> Answers:
        if not entries:
            return []
        jobs = [job for job, _ in entries]
        self._sending(jobs)
        answered = self._deleter.delete(store, entries)
        for job in jobs:
            job.seconds = answered.seconds
        return answered.answers

    # Verdicts -------------------------------------------------------------------------

    def _conclude(self, job: Job, piece: Piece, verdict: Verdict) -> None:
        """Settle a piece and those that follow it, and queue what their images still have."""
        if verdict is NOT_SENT and not self.ending:
            piece.store.push(job, piece)
            return
        followers = self._followers.pop(piece.identity)
        self._advance(job, piece, verdict)
        for follower, same in followers:
            if verdict.outcome in _NOTHING_DELETED and not self.ending:
                self.push(follower)  # now it is its turn
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
        job.seconds = 0.0  # what follows may need no call
        if job.todo and job.todo[0].identity in job.deleted:
            self._advance(job, job.todo[0], Verdict(Outcome.SHARED))
        elif job.todo:
            self.push(job)


def _with_fewest_calls(stores: Iterable[StoreState]) -> StoreState | None:
    """A slow store leaves the others their share."""
    return min(stores, key=lambda store: len(store.in_flight), default=None)

"""One store call that deletes a batch, and what it answers, whatever goes wrong."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scrubber import errors
from scrubber.model import Answers, Found, Target
from scrubber.store_state import StoreState
from scrubber.stores import base
from scrubber.stores.call import call
from scrubber.work import Entry

#: After so many seconds a call starts no further delete: the rest is queued once more.
CALL_SECONDS = 1.0

#: So long a call that is slow to begin may take until its first delete.
FIRST_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer for each entry of a batch, and how many seconds the store took for them."""

    answers: Answers
    seconds: float


class Deleter:
    """Asks the stores of one run.

    :param is_ending: whether the run is to end: asked before each delete.
    :param send_within: seconds after a claim in which its locations may be sent.
    """

    def __init__(
        self,
        *,
        is_ending: Callable[[], bool],
        send_within: Callable[[], float],
        call_timeout: Callable[[], float],
    ) -> None:
        self._is_ending = is_ending
        self._send_within = send_within
        self._call_timeout = call_timeout

    def delete(self, store: StoreState, entries: Sequence[Entry]) -> Answered:
        """What the store says is known to its state as well."""
        sent_at = time.monotonic()
        try:
            answered = self._ask(store, entries)
            store.heard(answered.answers, sent_at)
        except errors.Unavailable as unavailable:
            store.stop(str(unavailable))
            answered = Answered([unavailable] * len(entries), time.monotonic() - sent_at)
        except Exception as error:
            # A driver that breaks its contract: nothing of this batch counts as deleted.
            failed = errors.Failed(store.defect(error))
            answered = Answered([failed] * len(entries), time.monotonic() - sent_at)
        store.count(answered.answers, answered.seconds)
        return answered

    def _ask(self, store: StoreState, entries: Sequence[Entry]) -> Answered:
        """Look, where deletes do not tell, then delete."""
        try:
            unseen = self._unseen(store, entries)
        except errors.Unanswered as unanswered:
            # It was only looked at: nothing of it goes when the call goes on.
            raise errors.Unavailable(str(unanswered)) from None
        if not unseen:
            return self._ask_to_delete(store, entries)
        seen = [entry for entry in entries if entry[1].location.id not in unseen]
        answered = self._ask_to_delete(store, seen)
        answers = iter(answered.answers)
        all_answers = [unseen.get(piece.location.id) or next(answers) for _, piece in entries]
        return Answered(all_answers, answered.seconds)

    def _unseen(self, store: StoreState, entries: Sequence[Entry]) -> dict[int, errors.StoreError]:
        """What is not there, by location id, in a store whose deletes do not tell.

        Once its root has proved itself that is not asked: then it was deleted before.
        """
        if store.driver.abilities.says_gone:
            return {}
        doubtful = [piece.location for _, piece in entries if not store.believes(piece.root)]
        if not doubtful:
            return {}
        looks = store.look(doubtful, self._call_timeout())
        return {
            location.id: look
            for location, look in zip(doubtful, looks, strict=True)
            if not isinstance(look, Found)
        }

    def _ask_to_delete(self, store: StoreState, entries: Sequence[Entry]) -> Answered:
        """:raises Unanswered: the call hangs, and may delete whenever it goes on."""
        if not entries:
            return Answered([], 0.0)
        driver = store.driver
        targets = [Target(piece.location.url, job.candidate.image.size) for job, piece in entries]
        proceed = self._proceed(store, min(job.claim.taken_at for job, _ in entries))
        patience = FIRST_SECONDS + self._call_timeout() if driver.abilities.may_hang else None
        answered = call(driver, _timed, driver, targets, proceed, timeout=patience)
        if len(answered.answers) != len(entries):
            raise ValueError(f"{len(answered.answers)} answers for {len(entries)} locations")
        tried = sum(not isinstance(answer, errors.NotSent) for answer in answered.answers)
        if tried:
            store.pace.learn(tried, answered.seconds)
        return answered

    def _proceed(self, store: StoreState, claimed_at: float) -> Callable[[], bool]:
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
            return not self._is_ending() and store.stopped is None and time.monotonic() < until

        return proceed


def _timed(driver: base.Driver, targets: list[Target], proceed: Callable[[], bool]) -> Answered:
    """Runs where the call runs: the pace is the store's, not that of a busy process."""
    started = time.monotonic()
    answers = driver.delete(targets, proceed)
    return Answered(answers, time.monotonic() - started)

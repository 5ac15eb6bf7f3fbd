"""The last look before a batch is sent: may each of its pieces still be deleted?"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from scrubber import errors, pool
from scrubber.live import LiveReferences
from scrubber.model import Kind, Location, Look, Outcome
from scrubber.planning import safety
from scrubber.sources.base import Source
from scrubber.store_state import StoreState
from scrubber.work import LOST, Entry, Job, Piece, Verdict

#: A look takes at most this part of the time until the next one begins, as long as that makes no
#: more than so many seconds: the more batches share it, the less it costs for each.
PART_OF_TIME = 0.25
REST_SECONDS = 0.04


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the source says of some entries, all of it read after it was asked for.

    :param taken_at: when the claims were taken that these rows showed, by location id.
    :param ours: location ids whose rows are as they were claimed.
    :param used: identities that something else needs; ``written`` those that Glance may be writing.
    :param importing: images that Glance is importing into.
    """

    taken_at: dict[int, float]
    ours: frozenset[int]
    used: frozenset[str]
    written: frozenset[str]
    importing: frozenset[str]


@dataclass(eq=False, slots=True)
class _Round:
    """Those who wait for the same look."""

    entries: list[Entry] = field(default_factory=list)
    facts: _Facts | None = None
    failure: Exception | None = None

    def outcome(self) -> _Facts:
        if self.failure is not None:
            raise self.failure
        assert self.facts is not None
        return self.facts


class LastLook:
    """Looks at rows, live references and, where names or times are in doubt, at objects.

    Batches that come up while a look goes on share the next one: the smaller the batches, the
    more of them come up meanwhile, and the rows of one cost hardly less than those of many.

    :param state_of: the store that holds a location, None if there is none; Unavailable if the
        run ends before that is known.
    :param send_within: seconds after a claim in which its locations may be sent.
    """

    def __init__(
        self,
        source: Source,
        live: LiveReferences,
        *,
        state_of: Callable[[Location], StoreState | None],
        send_within: Callable[[], float],
        call_timeout: Callable[[], float],
    ) -> None:
        self._source = source
        self._live = live
        self._state_of = state_of
        self._send_within = send_within
        self._call_timeout = call_timeout
        self._next = _Round()
        self._rests_until = 0.0
        self._one_at_a_time = pool.Lock()

    def hindrances(self, store: StoreState, batch: list[Entry]) -> list[Verdict | None]:
        """What stands against each piece at the last moment; None where nothing does.

        In this order: our claim is committed, so whoever restores or shares the bytes from
        now on finds it; then the rows are read once more, then the live references.

        :raises ScrubberError: nobody can say.
        """
        removed = [self._removed_hindrance(job, piece) for job, piece in batch]
        facts = self._facts(batch)
        aliases = self._live.aliases([piece for _, piece in batch])
        aliased = [
            self._alias_hindrance(piece, others)
            for (_, piece), others in zip(batch, aliases, strict=True)
        ]
        if any(aliases):
            facts = self._facts(batch)  # stores were asked meanwhile, and may have taken long
        # Last, since all of this may have waited: a process that was paused notices here.
        too_late = time.monotonic() - self._send_within()
        hindrances: list[Verdict | None] = []
        for (job, piece), removed_reason, alias_reason in zip(batch, removed, aliased, strict=True):
            number, hidden = piece.location.id, self._live.hindrance(piece.location.url)
            reason = store.stopped or hidden or removed_reason or alias_reason
            verdict: Verdict | None = None
            if number not in facts.ours:
                verdict = LOST
            elif piece.identity in facts.used:
                verdict = Verdict(Outcome.SHARED)
            elif piece.identity in facts.written:
                verdict = Verdict(Outcome.WAITING, "Glance may be writing it for another image")
            elif job.candidate.image.id in facts.importing:
                verdict = Verdict(Outcome.WAITING, "Glance is importing into the image")
            elif facts.taken_at[number] < too_late:
                verdict = Verdict(Outcome.WAITING, "the claim was about to run out")
            elif reason:
                verdict = Verdict(Outcome.WAITING, reason)
            hindrances.append(verdict)
        return hindrances

    # Rows -----------------------------------------------------------------------------

    def _facts(self, batch: list[Entry]) -> _Facts:
        """Of a look that begins after this call."""
        mine = self._next
        mine.entries += batch
        with self._one_at_a_time:
            if mine.facts is None and mine.failure is None:
                if (rest := self._rests_until - time.monotonic()) > 0:
                    pool.sleep(rest)
                begun = time.monotonic()
                self._next = _Round()  # who comes from now on may have come too late for this one
                try:
                    mine.facts = self._look(mine.entries)
                except Exception as failure:
                    mine.failure = failure
                ended = time.monotonic()
                others = (ended - begun) * (1 / PART_OF_TIME - 1)
                self._rests_until = ended + min(REST_SECONDS, others)
        return mine.outcome()

    def _look(self, entries: list[Entry]) -> _Facts:
        removed = {job.candidate.image.id for job, _ in entries if _is_removed(job)}
        importing = self._source.importing(removed) if removed else frozenset()
        # As old as the rows read below: a renewal meanwhile says nothing of what they were.
        taken_at = {piece.location.id: job.claim.taken_at for job, piece in entries}
        ours = self._source.still_ours(
            [(job.claim, job.candidate, piece.location) for job, piece in entries]
        )
        self._live.refresh()
        used = self._live.used([piece for _, piece in entries])
        written = self._live.being_written(
            [(piece.identity, job.candidate.image.id) for job, piece in entries]
        )
        return _Facts(taken_at, ours, used, written, importing)

    # Objects --------------------------------------------------------------------------

    def _removed_hindrance(self, job: Job, piece: Piece) -> str | None:
        """A location removed from a live image is looked at, and so are those that stay."""
        if not _is_removed(job):
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

    def _alias_hindrance(self, piece: Piece, others: list[Location]) -> str | None:
        """The same name in another store, and live: it is looked at whether it is one object."""
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


def _is_removed(job: Job) -> bool:
    return job.candidate.kind is Kind.REMOVED

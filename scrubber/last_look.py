"""The last look before a batch is sent: may each of its pieces still be deleted?"""

import time
from collections.abc import Callable

from scrubber import errors
from scrubber.live import LiveReferences
from scrubber.model import Kind, Location, Look, Outcome
from scrubber.planning import safety
from scrubber.sources.base import Source
from scrubber.work import LOST, Job, Piece, StoreState, Verdict


class LastLook:
    """Looks at rows, live references and, where names or times are in doubt, at objects.

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

    def hindrances(self, store: StoreState, batch: list[tuple[Job, Piece]]) -> list[Verdict | None]:
        """What stands against each piece at the last moment; None where nothing does.

        In this order: our claim is committed, so whoever restores or shares the bytes from
        now on finds it; then the rows are read once more, then the live references.

        :raises ScrubberError: nobody can say.
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
            hidden = self._live.hindrance(piece.location.url)
            reason = store.stopped or hidden or removed_reason or alias_reason
            verdict: Verdict | None = None
            if piece.location.id not in ours:
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

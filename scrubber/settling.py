"""What became of locations: for the report, the ledger and the recorder."""

import logging
from collections.abc import Callable, Iterable

from scrubber.model import Candidate, Location, Outcome, Settled
from scrubber.plans import NO_STORE, Plan
from scrubber.recorder import Recorder
from scrubber.reporting.report import Report
from scrubber.troubles import Troubles
from scrubber.work import Job, Piece, Verdict

LOG = logging.getLogger(__name__)


class Settler:
    """Of one run.

    :param is_ending: whether the run is to end: what is lost then is nobody else's.
    :ivar tried: the ids of the locations that this run has dealt with, and left.
    """

    def __init__(
        self,
        report: Report,
        recorder: Recorder,
        troubles: Troubles,
        is_ending: Callable[[], bool],
    ) -> None:
        self._report = report
        self._recorder = recorder
        self._troubles = troubles
        self._is_ending = is_ending
        self.tried: set[int] = set()
        self._elsewhere: set[str] = set()

    # Claimed --------------------------------------------------------------------------

    def settle(self, job: Job, piece: Piece, verdict: Verdict) -> None:
        """What became of a piece."""
        outcome, location = verdict.outcome, piece.location
        if outcome is None:
            job.held += 1
            return
        self._report.record(
            job.candidate, location, piece.store.name, outcome, verdict.reason, verdict.bytes_freed
        )
        if outcome is not Outcome.LOST:
            self._tell(job, location, piece.store.name, verdict)
        elif not self._is_ending():
            self.count_elsewhere([job.candidate])
        if outcome.done:
            self._troubles.done(location)
            self._recorder.finish_location(job.claim, location)
        else:
            self._leave(job, piece, verdict)
        if job.ended:
            self.end(job)

    def _leave(self, job: Job, piece: Piece, verdict: Verdict) -> None:
        candidate, location, store = job.candidate, piece.location, piece.store.name
        job.complete = False
        self.tried.add(location.id)
        if verdict.outcome is Outcome.REFUSED:
            self._troubles.refused(candidate, location, store, verdict.reason)
        elif verdict.attempted:
            self._troubles.failed(candidate, location, store, verdict.reason)
        if verdict.may_happen:
            self._recorder.leave_to_lapse(job.claim, location)
        else:
            self._recorder.give_back(job.claim, location)

    def finish_external(self, job: Job, location: Location) -> None:
        """A location on a web server: there is nothing to delete."""
        LOG.debug(
            "Location %s of image %s is on a web server: there is nothing to delete.",
            location.id,
            location.image_id,
        )
        store = location.store or NO_STORE
        self._report.record(job.candidate, location, store, Outcome.EXTERNAL)
        self._tell(job, location, store, Verdict(Outcome.EXTERNAL))
        self._recorder.finish_location(job.claim, location)

    def end(self, job: Job) -> None:
        """Nothing is left to do for an image."""
        if job.complete:
            self.finish_image(job.candidate, job.stores)

    def _tell(self, job: Job, location: Location, store: str, verdict: Verdict) -> None:
        """A line for the trail; before the ledger forgets what is done."""
        assert verdict.outcome is not None
        image = job.candidate.image
        self._recorder.tell(
            Settled(
                run=self._report.run,
                image=image.id,
                owner=image.owner,
                store=store,
                location=location.id,
                size=image.size,
                outcome=verdict.outcome,
                reason=verdict.reason,
                attempts=self._troubles.attempts(location) + verdict.attempted,
                seconds=job.seconds,
            )
        )

    # Unclaimed ------------------------------------------------------------------------

    def report_left(self, plan: Plan) -> None:
        """What cannot be acted on now."""
        for left in plan.left:
            outcome, reason = left.verdict.outcome, left.verdict.reason
            assert outcome is not None
            self._report.record(plan.candidate, left.location, left.store, outcome, reason)
            self.tried.add(left.location.id)
            if outcome is Outcome.REFUSED:
                self._troubles.refused(plan.candidate, left.location, left.store, reason)
        if plan.candidate.obstacle and not plan.candidate.locations:
            self._report.leave_image(plan.candidate, NO_STORE)

    def finish_image(self, candidate: Candidate, stores: frozenset[str]) -> None:
        """All of it is gone."""
        if not candidate.kind.is_whole:
            return  # live, or finished long ago: only its locations were due
        self._recorder.finish_image(candidate)
        self._report.scrubbed(candidate, stores)
        LOG.debug("Image %s is scrubbed.", candidate.image.id)

    # Others' --------------------------------------------------------------------------

    @property
    def elsewhere(self) -> frozenset[str]:
        """The images that others had claimed."""
        return frozenset(self._elsewhere)

    def count_elsewhere(self, candidates: Iterable[Candidate]) -> None:
        """Each image once, however often this run comes across it."""
        self._elsewhere.update(candidate.image.id for candidate in candidates)
        self._report.claimed_elsewhere = len(self._elsewhere)

    def count_ours(self, candidates: Iterable[Candidate]) -> None:
        """What others had claimed before may be free by now."""
        self._elsewhere.difference_update(candidate.image.id for candidate in candidates)

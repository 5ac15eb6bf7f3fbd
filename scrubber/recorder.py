"""Keeps what was claimed: renews it, gives it back, and records what was deleted.

Bytes first, then the audit trail, then the row: a crash in between repeats a delete instead of
leaking bytes, and no row says more than the trail.
A finish is tried until it succeeds or the process has to leave; then the rows simply
stay pending.
"""

import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

from scrubber import errors, pool
from scrubber.model import Candidate, Location, Settled
from scrubber.reporting.report import Report
from scrubber.sources.base import Claim, Finish, Source

LOG = logging.getLogger(__name__)

#: Whoever keeps the audit trail.
Audit = Callable[[Sequence[Settled]], None]

#: Lines and rows are written together: so many, or those of so many seconds.
BATCH = 1500
BATCH_SECONDS = 0.2

#: Between two tries of a finish that failed.
RETRY_SECONDS = 1.0


class Recorder:
    """Writes to the source in batches, in a green thread of its own.

    :param remember: writes down what failed: before another scrubber can claim it.
    :param lease: seconds a claim holds, now.
    :param patience: seconds that finishes may be retried once the run should end.
    :param on_trouble: told that a finish failed: nothing more should be deleted meanwhile.
    """

    def __init__(
        self,
        source: Source,
        report: Report,
        audit: Audit | None,
        remember: Callable[[], None],
        lease: Callable[[], float],
        patience: Callable[[], float],
        on_trouble: Callable[[Exception], None],
    ) -> None:
        self._source = source
        self._report = report
        self._audit = audit
        self._remember = remember
        self._lease = lease
        self._patience = patience
        self._on_trouble = on_trouble
        self._claims: dict[Claim, None] = {}  # the oldest first, and so renewed first
        self._told: list[Settled] = []
        self._locations: dict[int, tuple[Claim, Location]] = {}
        self._finishing: dict[int, tuple[Claim, Location]] = {}
        self._finished_lately: set[int] = set()
        self._images: set[str] = set()
        self._returned: defaultdict[Claim, set[int]] = defaultdict(set)
        self._waiting = 0
        self._since = 0.0
        self._changed = pool.Bell()
        self._ending = False
        self._give_up_at = math.inf
        # A release would not find the rows that a renewal has just written anew.
        self._one_at_a_time = pool.Lock()
        self._task = pool.Task(self._work)
        self._renewer = pool.Task(self._keep_renewing)

    # What the run says ----------------------------------------------------------------

    def hold(self, claim: Claim) -> None:
        """Keep this claim alive until all its locations are finished or given back."""
        self._claims[claim] = None

    def holds(self, location: Location) -> bool:
        """Whether it is claimed here and not given back, or was finished since ``look_again``."""
        if location.id in self._finished_lately:
            return True
        return any(location.id in claim.locations for claim in self._claims)

    def look_again(self) -> None:
        """Rows are read anew: what is finished by now does not show as pending in them."""
        self._finished_lately.clear()

    def tell(self, settled: Settled) -> None:
        """What became of a location, for the trail; before it is finished."""
        self._told.append(settled)
        self._touched()

    def finish_location(self, claim: Claim, location: Location) -> None:
        self._locations[location.id] = (claim, location)
        self._touched()

    def finish_image(self, candidate: Candidate) -> None:
        """All its locations were handed in before."""
        self._images.add(candidate.image.id)
        self._touched()

    def give_back(self, claim: Claim, location: Location) -> None:
        self._returned[claim].add(location.id)
        self._touched()

    def leave_to_lapse(self, claim: Claim, location: Location) -> None:
        """Neither renew nor release it: its bytes may go yet, so that nobody may restore them."""
        claim.locations.discard(location.id)

    def close(self) -> None:
        """Write what is left, then end."""
        self._ending = True
        self._give_up_at = time.monotonic() + self._patience()
        self._changed.ring()
        self._task.join()
        self._renewer.kill()

    # Writing --------------------------------------------------------------------------

    def _touched(self) -> None:
        self._waiting += 1
        if self._waiting == 1:
            self._since = time.monotonic()
        if self._waiting in (1, BATCH):
            self._changed.ring()

    def _work(self) -> None:
        while True:
            while self._waiting < BATCH and not self._ending:
                left = self._since + BATCH_SECONDS - time.monotonic() if self._waiting else None
                if left is not None and left <= 0:
                    break
                self._changed.wait(left)
            if self._waiting:
                self._write_safely()
            elif self._ending:
                return

    def _write_safely(self) -> None:
        try:
            self._write()
        except Exception as defect:  # the rows stay pending, a later run finishes them
            LOG.exception("A defect in scrubber: a batch was not recorded")
            self._alarm(f"a batch was not recorded: {type(defect).__name__}: {defect}")
            self._on_trouble(defect)

    def _write(self) -> None:
        self._waiting = 0
        told, self._told = self._told, []
        locations, self._locations = self._locations, {}
        self._finishing = locations
        images, self._images = self._images, set()
        returned, self._returned = self._returned, defaultdict(set)
        self._write_trail(told)
        if locations or images:
            self._finish(Finish(frozenset(locations), frozenset(images)), locations)
        if returned:
            self._give_all_back(returned)
        self._claims = {claim: None for claim in self._claims if claim.locations}

    def _write_trail(self, told: list[Settled]) -> None:
        if self._audit is None or not told:
            return
        try:
            self._audit(told)
        except Exception:
            LOG.exception("What became of %d locations is not in the audit trail", len(told))

    def _finish(self, finish: Finish, locations: dict[int, tuple[Claim, Location]]) -> None:
        while True:
            try:
                finished = self._source.finish(finish)
                break
            except errors.ScrubberError as error:
                self._on_trouble(error)
                if (left := self._give_up_at - time.monotonic()) <= 0:
                    self._could_not_record(locations, error)
                    return
                LOG.warning(
                    "%d deleted locations are not recorded yet, trying again: %s",
                    len(locations),
                    error,
                )
                self._changed.wait(min(RETRY_SECONDS, left))
                # What was under way ends meanwhile: the trail does not wait for a database.
                told, self._told = self._told, []
                self._write_trail(told)
        for claim, location in locations.values():
            claim.locations.discard(location.id)
        self._finished_lately.update(locations)
        recorded = self._report.stages.recorded
        recorded.locations += len(finish.locations - finished.changed_locations)
        recorded.images += len(finish.images - finished.changed_images)
        for number in finished.changed_locations:
            self._alarm(
                f"location {number} of image {locations[number][1].image_id} was deleted from its "
                "store, but its row was changed meanwhile: the image may lack data"
            )
        for image in finished.changed_images:
            self._alarm(f"image {image} was scrubbed, but its row was changed meanwhile")

    def _could_not_record(
        self, locations: dict[int, tuple[Claim, Location]], error: Exception
    ) -> None:
        for claim, location in locations.values():
            claim.locations.discard(location.id)
            LOG.error(
                "Location %s of image %s is deleted, its row still says pending_delete.",
                location.id,
                location.image_id,
            )
        self._alarm(
            f"{len(locations)} deleted locations could not be recorded ({error}); they stay "
            "pending_delete, and the next run finishes them"
        )

    def _alarm(self, message: str) -> None:
        LOG.error(message)
        self._report.alarm(message)

    def _give_all_back(self, returned: dict[Claim, set[int]]) -> None:
        try:
            self._remember()
        except errors.ScrubberError as error:
            self._on_trouble(error)
        for claim, ids in returned.items():
            self._release(claim, ids)

    def _release(self, claim: Claim, ids: set[int]) -> None:
        try:
            with self._one_at_a_time:
                self._source.release(claim, ids)
        except errors.ScrubberError as error:
            claim.locations -= ids
            LOG.warning("%d claims are left to lapse: %s", len(ids), error)

    # Renewing -------------------------------------------------------------------------

    def _keep_renewing(self) -> None:
        while True:
            pool.sleep(min(1.0, self._lease() / 10))
            for claim in list(self._claims):
                if claim.locations and time.monotonic() - claim.taken_at > self._lease() / 3:
                    self._renew(claim)

    def _renew(self, claim: Claim) -> None:
        try:
            with self._one_at_a_time:
                lost = self._source.renew(claim) - self._finishing.keys()
        except errors.ScrubberError as error:
            LOG.warning("A claim cannot be renewed now: %s", error)
            return
        if lost:
            LOG.warning(
                "Another scrubber took over %d locations that were claimed here.", len(lost)
            )

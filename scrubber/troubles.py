"""What a run remembers of locations that could not be deleted, and what it learns from that."""

import random
import time
from collections.abc import Callable, Iterable
from datetime import datetime

from scrubber.model import Candidate, Location
from scrubber.planning.retry import Patience, Trouble, after_failure
from scrubber.sources.base import Source
from scrubber.state.base import Entry, Key, Ledger

#: So many entries are read or written together.
BATCH = 1000

#: A run may go on for hours: what came up is written when a verdict comes so many seconds later.
BATCH_SECONDS = 5.0

_TRIED_LATER = "it failed before ({}); it is tried again later"
_PARKED = "parked, it failed {} times ({}); see scrubber-manage parked"


class Troubles:
    """The ledger as one run uses it: read page by page, written in batches.

    :param patience: the options of now.
    :param now: naive UTC.
    :param remembers: whether anything is written; a dry run only reads.
    """

    def __init__(
        self,
        ledger: Ledger,
        patience: Callable[[], Patience],
        now: Callable[[], datetime],
        remembers: bool = True,
    ) -> None:
        self._ledger = ledger
        self._patience = patience
        self._now = now
        self._remembers = remembers
        self._known: dict[int, Entry] = {}
        self._failed: dict[Key, Entry] = {}
        self._gone: set[Key] = set()
        self._written_at = time.monotonic()

    def recall(self, candidates: Iterable[Candidate]) -> None:
        """Read what is remembered of the locations of a page."""
        keys = [_key(at) for candidate in candidates for at in candidate.locations]
        self._known.update(self._ledger.of(keys))

    def reason_to_wait(self, location: Location) -> str | None:
        """Why a location is not to be tried now; None if it is."""
        if (entry := self._known.get(location.id)) is None:
            return None
        patience = self._patience()
        if entry.trouble.is_due(self._now(), patience):
            return None
        del self._known[location.id]
        trouble = entry.trouble
        if trouble.is_parked(patience):
            return _PARKED.format(trouble.attempts, trouble.last_error)
        return _TRIED_LATER.format(trouble.last_error)

    def attempts(self, location: Location) -> int:
        """How often it had failed when its page was read."""
        trouble = self._trouble(location)
        return trouble.attempts if trouble else 0

    def failed(self, candidate: Candidate, location: Location, store: str, reason: str) -> None:
        """A location was tried, and stays."""
        before = self._trouble(location)
        trouble = after_failure(before, reason, self._now(), self._patience(), random.random())
        self._remember(candidate, location, store, trouble)

    def refused(self, candidate: Candidate, location: Location, store: str, reason: str) -> None:
        """A location will not be tried as it is: parked, and looked at again in each run."""
        before, now = self._trouble(location), self._now()
        self._known.pop(location.id, None)
        attempts = self._patience().attempts
        if before and before.last_error == reason and before.attempts >= attempts:
            return  # nothing new, in any of many runs
        first = before.first_failed_at if before else now
        self._remember(candidate, location, store, Trouble(attempts, first, now, reason))

    def done(self, location: Location) -> None:
        """A location is gone."""
        if self._known.pop(location.id, None):
            self._failed.pop(_key(location), None)
            self._gone.add(_key(location))
            self._write_if_many()

    def _trouble(self, location: Location) -> Trouble | None:
        entry = self._known.get(location.id)
        return entry.trouble if entry else None

    def _remember(
        self, candidate: Candidate, location: Location, store: str, trouble: Trouble
    ) -> None:
        image = candidate.image
        entry = Entry(location.id, image.id, store, image.owner, image.size, trouble)
        self._failed[entry.key] = entry
        self._write_if_many()

    def _write_if_many(self) -> None:
        many = len(self._failed) + len(self._gone) >= BATCH
        if many or time.monotonic() - self._written_at >= BATCH_SECONDS:
            self.write()

    def write(self) -> None:
        """Write what has come up since the last time."""
        failed, self._failed = self._failed, {}
        gone, self._gone = self._gone, set()
        self._written_at = time.monotonic()
        if self._remembers and failed:
            self._ledger.record(failed.values())
        if self._remembers and gone:
            self._ledger.forget(gone)

    def forget_finished(self, source: Source) -> None:
        """Drop what others have finished.

        A row that was purged says nothing of its bytes: such an entry is all that is left to
        find them by, and stays.
        """
        entries = list(self._ledger.entries())
        for first in range(0, len(entries), BATCH):
            batch = entries[first : first + BATCH]
            images = source.images({entry.image for entry in batch})
            # By both: numbers may be used anew, and entries may be another cloud's.
            rows = {_key(row): row for row in source.locations({entry.image for entry in batch})}
            finished = {
                entry.key
                for entry in batch
                if (row := rows.get(entry.key)) is not None
                and row.status != "pending_delete"
                and not (row.status == "deleted" and images[entry.image].status == "pending_delete")
            }
            if self._remembers and finished:
                self._ledger.forget(finished)


def _key(location: Location) -> Key:
    return Key(location.image_id, location.id)

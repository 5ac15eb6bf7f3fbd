"""What is pending: how much, for whom, and whether Glance's own tools get in the way."""

import datetime
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from scrubber.checks.finding import Finding, ok, warning
from scrubber.checks.reading import PAGE, Hasty, most_common
from scrubber.checks.site import Site
from scrubber.checks.stores import homeless
from scrubber.model import Candidate, Kind, Location, Outcome, Selection
from scrubber.planning.due import Ages, due
from scrubber.reporting.text import counted
from scrubber.stores.registry import Stores

#: glance-manage db purge removes rows that were deleted so many days ago (--age_in_days).
PURGE_DAYS = 30

#: A store may be down for some days before the purge comes.
_MARGIN = datetime.timedelta(days=7)

_PURGE = f"glance-manage db purge (after {PURGE_DAYS} days by default)"
_DRY_RUN = "scrubber --dry-run names them"


@dataclass(slots=True)
class PendingRows:
    """What the rows say that a scrubber is to look at.

    :param due: images of which something may be deleted now.
    :param deleted: those that Glance deleted with delayed_delete.
    :param oldest: since when the oldest location is pending.
    :param claimed: locations that a scrubber holds.
    :param homeless: why no store holds some locations, and how many.
    :param refused: why nothing is done for some locations as they are, and how many.
    """

    stores: Stores
    now: datetime.datetime
    ages: Ages
    lease: datetime.timedelta
    images: int = 0
    due: int = 0
    deleted: int = 0
    locations: int = 0
    claimed: int = 0
    oldest: datetime.datetime | None = None
    homeless: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)

    def see(self, candidate: Candidate) -> None:
        self.images += 1
        self.deleted += candidate.kind is Kind.DELETED
        self.due += due(candidate, self.ages, self.now) is not None
        if candidate.obstacle and candidate.obstacle.outcome is Outcome.REFUSED:
            self.refused[candidate.obstacle.reason] += len(candidate.locations) or 1
        for location in candidate.locations:
            self._see(location, bool(candidate.obstacle))

    def _see(self, location: Location, is_held_up: bool) -> None:
        self.locations += 1
        self.claimed += self._is_claimed(location)
        if location.deleted_at is not None:
            self.oldest = min(self.oldest or location.deleted_at, location.deleted_at)
        if location.problem:
            self.refused[location.problem] += 1
        elif not is_held_up and (reason := homeless(self.stores, location)):
            self.homeless[reason] += 1

    def _is_claimed(self, location: Location) -> bool:
        """As rules.is_free says it of rows."""
        touched, gone = location.updated_at, location.deleted_at
        if touched is None or (gone is not None and touched <= gone):
            return False
        return abs(self.now - touched) < self.lease


def look(site: Site) -> Iterator[Finding]:
    """Read what is pending, as a dry run would, and judge it."""
    ages = Ages(site.conf.scrub_time, site.conf.scrubber.removed_location_age)
    lease = datetime.timedelta(seconds=site.lease)
    seen = PendingRows(site.stores, site.source.now(), ages, lease)
    pages = Hasty(site.source.candidates(Selection(), PAGE), site.patience_for_rows)
    for page in pages:
        for candidate in page:
            seen.see(candidate)
    yield from judge(seen, pages.note)
    yield judge_delayed_delete(seen, site.conf.delayed_delete)
    yield judge_purge(seen)


def judge(seen: PendingRows, note: str) -> Iterator[Finding]:
    """What there is to do, and what will be left."""
    yield ok(
        "pending",
        f"{counted(seen.images, 'image')} with {counted(seen.locations, 'location')}{note}, "
        f"{seen.due} due now",
    )
    if seen.claimed:
        message = f"{counted(seen.claimed, 'location')}{note} claimed by scrubbers at work"
        yield ok("claims", message)
    for reason, number in most_common(seen.homeless):
        yield warning(
            "pending",
            f"{counted(number, 'pending location')}{note}: {reason}: left behind by every run",
            "add that store as it is in glance-api.conf, under its old or a new id",
        )
    for reason, number in most_common(seen.refused):
        message = f"{counted(number, 'location')}{note} cannot be scrubbed as they are: {reason}"
        yield warning("pending", message, f"{_DRY_RUN}; docs/troubleshoot.md says what to do")


def judge_delayed_delete(seen: PendingRows, configured: bool) -> Finding:
    """:param configured: what these configuration files say."""
    if seen.deleted:
        return ok("delayed_delete", f"Glance left {counted(seen.deleted, 'deleted image')}")
    if configured:
        return ok("delayed_delete", "on")
    return warning(
        "delayed_delete",
        "it is off in this configuration, and no deleted image is pending",
        "is it on in glance-api.conf? Without it Glance deletes at once, and nothing is left to do",
    )


def judge_purge(seen: PendingRows) -> Finding:
    """Whether a purge would take rows while the bytes they name are still there."""
    limit = datetime.timedelta(days=PURGE_DAYS) - _MARGIN
    lost = "takes such rows, and nobody knows of their bytes any more"
    if seen.oldest is not None and seen.now - seen.oldest > limit:
        days = (seen.now - seen.oldest).days
        return warning(
            "purge",
            f"the oldest location has been pending for {days} days; {_PURGE} {lost}",
            f"scrub before you purge, or purge with --age_in_days above {days}; {_DRY_RUN}",
        )
    if seen.ages.scrub_time > limit.total_seconds():
        days = int(seen.ages.scrub_time // 86400) + _MARGIN.days
        return warning(
            "purge",
            f"option scrub_time keeps images for {seen.ages.scrub_time / 86400:.1f} days; "
            f"{_PURGE} {lost}",
            f"purge with --age_in_days {days} or more, or lower scrub_time",
        )
    return ok("purge", f"nothing pending is near the age of {_PURGE}")

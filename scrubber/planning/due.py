"""When a candidate may be deleted: one rule for each kind of row."""

import dataclasses
import datetime
from dataclasses import dataclass

from scrubber.model import Candidate, Kind, Location

#: An API process may still be in the middle of such a delete.
HALF_DELETED_AGE = 3600


@dataclass(frozen=True, slots=True)
class Ages:
    """Seconds; see the options of these names."""

    scrub_time: float
    removed_location_age: float


def due(candidate: Candidate, ages: Ages, now: datetime.datetime) -> Candidate | None:
    """The candidate with those of its locations that are due; None if it is not due itself."""
    if candidate.kind.is_whole:
        return candidate if due_at(candidate, ages) <= now else None
    locations = tuple(
        location
        for location in candidate.locations
        if location_due_at(location, candidate.kind, ages) <= now
    )
    return dataclasses.replace(candidate, locations=locations) if locations else None


def due_at(candidate: Candidate, ages: Ages) -> datetime.datetime:
    """When the image, or the first of its removed locations, is due."""
    if candidate.kind is Kind.HALF_DELETED:
        return _later(candidate.image.went_at, max(ages.scrub_time, HALF_DELETED_AGE))
    if candidate.kind.is_whole:
        return _later(candidate.image.went_at, ages.scrub_time)
    return min(
        (location_due_at(location, candidate.kind, ages) for location in candidate.locations),
        default=datetime.datetime.max,
    )


def location_due_at(location: Location, kind: Kind, ages: Ages) -> datetime.datetime:
    """When a location of an image that is live, or was done with long ago, is due."""
    if kind is Kind.REMOVED:
        return _later(location.went_at, max(ages.scrub_time, ages.removed_location_age))
    return _later(location.went_at, ages.scrub_time)


def _later(moment: datetime.datetime, seconds: float) -> datetime.datetime:
    try:
        return moment + datetime.timedelta(seconds=seconds)
    except OverflowError:
        return datetime.datetime.max

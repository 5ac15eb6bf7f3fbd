"""When a candidate may be deleted."""

import datetime
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrubber.model import Candidate, Kind
from scrubber.planning.due import HALF_DELETED_AGE, Ages, due, due_at
from unit.values import a_location, an_image

NOW = datetime.datetime(2026, 6, 1, 12)
SECOND = datetime.timedelta(seconds=1)
HOURS = Ages(scrub_time=7200, removed_location_age=3600)


def ago(seconds: float) -> datetime.datetime:
    return NOW - datetime.timedelta(seconds=seconds)


def candidate(kind: Kind, *location_ages: float, image_age: float = 0) -> Candidate:
    """Its rows were deleted so many seconds ago."""
    image = an_image(deleted_at=None if kind is Kind.HALF_DELETED else ago(image_age))
    image = replace(image, updated_at=ago(image_age))
    locations = tuple(
        a_location(id=number, deleted_at=ago(age)) for number, age in enumerate(location_ages)
    )
    return Candidate(image, kind, locations)


IMAGES = [
    # kind; scrub_time; age of the image at which it is due, and not a second before
    (Kind.DELETED, 0, 0),
    (Kind.DELETED, 7200, 7200),
    # Its own locations were marked before it, and do not count.
    (Kind.DELETED, 10, 10),
    # An API process may still be at it.
    (Kind.HALF_DELETED, 0, HALF_DELETED_AGE),
    (Kind.HALF_DELETED, 3599, HALF_DELETED_AGE),
    (Kind.HALF_DELETED, 7200, 7200),
]


@pytest.mark.parametrize(("kind", "scrub_time", "age"), IMAGES)
def test_an_image_is_due_at_its_age_and_not_a_second_before(
    kind: Kind, scrub_time: float, age: float
) -> None:
    ages = Ages(scrub_time, removed_location_age=10**6)
    old = candidate(kind, 10**7, 0, image_age=age)
    assert due(old, ages, NOW) == old
    assert due(old, ages, NOW - SECOND) is None
    assert due_at(old, ages) == NOW


LOCATIONS = [
    # kind; scrub_time; removed_location_age; age of the location at which it is due
    (Kind.REMOVED, 0, 3600, 3600),
    (Kind.REMOVED, 7200, 3600, 7200),
    (Kind.REMOVED, 0, 0, 0),
    (Kind.LEFTOVER, 0, 3600, 0),
    (Kind.LEFTOVER, 7200, 3600, 7200),
    (Kind.WRECK, 0, 3600, 0),
    (Kind.WRECK, 7200, 0, 7200),
]


@pytest.mark.parametrize(("kind", "scrub_time", "removed_age", "age"), LOCATIONS)
def test_a_location_is_due_at_its_own_age_and_not_a_second_before(
    kind: Kind, scrub_time: float, removed_age: float, age: float
) -> None:
    ages = Ages(scrub_time, removed_age)
    old = candidate(kind, age, image_age=10**7)
    assert due(old, ages, NOW) == old
    assert due(old, ages, NOW - SECOND) is None
    assert due_at(old, ages) == NOW


def test_of_a_live_image_only_the_due_locations_are_offered() -> None:
    mixed = candidate(Kind.REMOVED, 7200, 10, 8000)
    found = due(mixed, HOURS, NOW)
    assert found is not None
    assert [location.id for location in found.locations] == [0, 2]
    assert found.image == mixed.image


def test_a_stuck_image_is_due_without_any_location() -> None:
    stuck = candidate(Kind.DELETED, image_age=7200)
    assert due(stuck, HOURS, NOW) == stuck


@pytest.mark.parametrize("kind", [Kind.REMOVED, Kind.LEFTOVER, Kind.WRECK])
def test_nothing_is_due_of_a_live_image_without_pending_locations(kind: Kind) -> None:
    assert due(candidate(kind), HOURS, NOW) is None
    assert due_at(candidate(kind), HOURS) == datetime.datetime.max


TIMES = [
    # created_at, updated_at, deleted_at; the one that counts
    (ago(3), ago(2), ago(1), ago(1)),
    (ago(3), ago(2), None, ago(2)),
    (ago(3), None, None, ago(3)),
    # A row without any time is as old as can be: it must not wait for ever.
    (None, None, None, datetime.datetime.min),
]


@pytest.mark.parametrize(("created_at", "updated_at", "deleted_at", "expected"), TIMES)
def test_a_row_without_deleted_at_counts_from_the_last_time_it_has(
    created_at: datetime.datetime | None,
    updated_at: datetime.datetime | None,
    deleted_at: datetime.datetime | None,
    expected: datetime.datetime,
) -> None:
    times = {"created_at": created_at, "updated_at": updated_at, "deleted_at": deleted_at}
    ages = Ages(0, 0)
    image = Candidate(an_image(**times), Kind.DELETED, ())
    assert due_at(image, ages) == expected
    removed = Candidate(an_image(), Kind.REMOVED, (a_location(**times),))
    assert due_at(removed, ages) == expected


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("seconds", [10**10, 10**15, 10**30, 1e300])
def test_an_age_beyond_the_calendar_means_never(kind: Kind, seconds: float) -> None:
    ages = Ages(seconds, seconds)
    old = candidate(kind, 0, image_age=0)
    assert due(old, ages, NOW) is None
    if seconds > 10**12:
        assert due_at(old, ages) == datetime.datetime.max


@given(
    kind=st.sampled_from(list(Kind)),
    scrub_time=st.integers(0, 10**12),
    removed_age=st.integers(0, 10**12),
    image_age=st.integers(0, 10**8),
    location_ages=st.lists(st.integers(0, 10**8), max_size=4),
)
def test_nothing_is_ever_due_before_scrub_time(
    kind: Kind, scrub_time: int, removed_age: int, image_age: int, location_ages: list[int]
) -> None:
    ages = Ages(scrub_time, removed_age)
    found = due(candidate(kind, *location_ages, image_age=image_age), ages, NOW)
    if found is None:
        return
    if kind.is_whole:
        assert image_age >= scrub_time
    else:
        assert found.locations
        oldest_due = ago(max(scrub_time, removed_age if kind is Kind.REMOVED else 0))
        assert all(location.went_at <= oldest_due for location in found.locations)

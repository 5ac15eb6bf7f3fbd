"""Which rows of a deleted image a restore gives back, and whether it may."""

import datetime

import pytest

from scrubber import errors
from scrubber.model import Found, Location, Look
from scrubber.planning.giving_back import (
    WENT_WITH_IMAGE,
    Window,
    is_whole,
    refusal,
    went_between,
    went_with,
)
from unit.values import WENT_AT, a_location, an_image

SECOND = datetime.timedelta(seconds=1)
LATER = WENT_AT + datetime.timedelta(hours=1)


def row(status: str = "pending_delete", before: float = 0, **columns: object) -> Location:
    """A location deleted so many seconds before its image."""
    return a_location(status=status, deleted_at=WENT_AT - before * SECOND, **columns)


LIMIT = WENT_WITH_IMAGE / SECOND

ROWS = [
    # a location of an image deleted at WENT_AT; does it come back?
    (row(), True),
    # Glance marks locations one by one before the image itself.
    (row(before=1), True),
    (row(before=LIMIT), True),
    # A copy removed earlier stays removed.
    (row(before=LIMIT + 1), False),
    # Marked after the image, as by a clock that is behind.
    (row(before=-5), True),
    # A copy that ended while the image was destroyed.
    (row("deleted"), True),
    # Really deleted.
    (row("deleted", before=1), False),
    (row("deleted", before=-1), False),
    (row("active"), False),
    # Without deleted_at its other times count.
    (a_location(deleted_at=None), True),
    (a_location(deleted_at=None, updated_at=WENT_AT - 600 * SECOND), False),
]


@pytest.mark.parametrize(("location", "back"), ROWS)
def test_what_went_with_the_image_comes_back(location: Location, back: bool) -> None:
    assert went_with(an_image(), [location]) == ((location,) if back else ())


def test_without_an_instant_of_its_own_the_image_went_with_its_last_location() -> None:
    image = an_image(deleted_at=None)
    rows = [row(id=1, before=600), row(id=2, before=60), row(id=3)]
    assert [at.id for at in went_with(image, rows)] == [2, 3]
    assert went_with(image, []) == ()


def test_a_location_without_any_instant_is_no_late_copy() -> None:
    location = a_location(status="deleted", deleted_at=None)
    assert went_with(an_image(deleted_at=None), [location]) == ()


WINDOWS = [
    # image's status, deleted_at, updated_at; when its properties, tags and members went
    ("pending_delete", WENT_AT, WENT_AT, Window(WENT_AT - 3 * SECOND, WENT_AT)),
    ("active", WENT_AT, WENT_AT, Window(WENT_AT - 3 * SECOND, WENT_AT)),
    # Half-deleted: Glance stamped the image and purged its properties.
    (
        "pending_delete",
        None,
        WENT_AT,
        Window(WENT_AT - 3 * SECOND, WENT_AT + WENT_WITH_IMAGE),
    ),
    ("pending_delete", None, None, None),
    # A delete that crashed before that.
    ("active", None, WENT_AT, None),
]


@pytest.mark.parametrize(("status", "deleted_at", "updated_at", "expected"), WINDOWS)
def test_when_what_belongs_to_an_image_went_with_it(
    status: str,
    deleted_at: datetime.datetime | None,
    updated_at: datetime.datetime | None,
    expected: Window | None,
) -> None:
    image = an_image(status=status, deleted_at=deleted_at, updated_at=updated_at)
    assert went_between(image, [row(before=3), row(before=1)]) == expected


IMAGES = [
    # image's status, deleted, deleted_at; its locations' statuses; may it be restored?
    ("pending_delete", True, WENT_AT, ["pending_delete"], True),
    ("pending_delete", False, None, ["pending_delete"], True),
    ("pending_delete", True, WENT_AT, [], True),
    # Wrecks: an upstream --restore, with and without a copy since; a delete that crashed.
    ("active", False, WENT_AT, ["pending_delete"], True),
    ("active", False, WENT_AT, ["pending_delete", "active"], True),
    ("active", False, None, ["pending_delete"], True),
    ("deactivated", False, None, ["pending_delete"], True),
    # Whole images, and such as have nothing to give back.
    ("active", False, None, ["active"], False),
    ("active", False, None, ["active", "pending_delete"], False),
    ("active", False, None, [], False),
    ("queued", False, None, ["pending_delete"], False),
    ("deleted", True, WENT_AT, ["deleted"], False),
    ("deleted", True, WENT_AT, ["pending_delete"], False),
    ("saving", False, None, ["active"], False),
]


@pytest.mark.parametrize(("status", "deleted", "deleted_at", "rows", "allowed"), IMAGES)
def test_which_images_can_be_restored(
    status: str,
    deleted: bool,
    deleted_at: datetime.datetime | None,
    rows: list[str],
    allowed: bool,
) -> None:
    image = an_image(status=status, deleted=deleted, deleted_at=deleted_at)
    reason = refusal(image, [a_location(status=at) for at in rows], LATER)
    expected = (
        f"cannot restore the image from {status} to active (wanted from_state=pending_delete)"
    )
    assert reason == (None if allowed else expected)


GOING = [
    # its status; seconds since it was changed, and since its location was marked; deleted at;
    # may it be given back?
    ("pending_delete", 0, 300, None, False),
    ("pending_delete", 59, 300, None, False),
    ("pending_delete", 60, 60, None, True),
    ("pending_delete", 0, 0, WENT_AT, True),
    # It is not even marked itself.
    ("active", 300, 0, None, False),
    ("active", 300, 60, None, True),
    # As an upstream --restore leaves it.
    ("active", 0, 300, WENT_AT, True),
    # A clock that jumped keeps nobody out for ever.
    ("pending_delete", -59, 300, None, False),
    ("pending_delete", -61, 300, None, True),
]


@pytest.mark.parametrize(("status", "changed", "marked", "deleted_at", "allowed"), GOING)
def test_what_glance_is_deleting_just_now_waits_until_it_has(
    status: str,
    changed: float,
    marked: float,
    deleted_at: datetime.datetime | None,
    allowed: bool,
) -> None:
    """Else the rest of the delete would come over the image that was given back."""
    image = an_image(
        status=status, deleted=False, deleted_at=deleted_at, updated_at=LATER - changed * SECOND
    )
    location = a_location(status="pending_delete", deleted_at=LATER - marked * SECOND)
    reason = refusal(image, [location], LATER)
    assert reason is None if allowed else image.id in str(reason)


LOOKS: list[tuple[int | None, Look, bool | None]] = [
    # the image's size; what the store says; is the copy whole?
    (10, Found(10, WENT_AT, ""), True),
    (10, Found(9, WENT_AT, ""), False),
    (0, Found(0, WENT_AT, ""), True),
    (None, Found(7, WENT_AT, ""), True),
    (10, errors.Gone(""), False),
    # Nobody can say.
    (10, errors.Unavailable(""), None),
    (10, errors.Refused(""), None),
    (10, errors.Unsupported(""), None),
]


@pytest.mark.parametrize(("size", "look", "expected"), LOOKS)
def test_a_copy_is_whole_if_it_has_the_images_size(
    size: int | None, look: Look, expected: bool | None
) -> None:
    assert is_whole(an_image(size=size), look) is expected

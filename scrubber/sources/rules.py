"""Conditions on Glance's rows: each kind of row, live, claimed, by one name."""

import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, false, func, or_, select

from scrubber.model import Selection
from scrubber.sources.tables import IMAGES, LOCATIONS

#: Stands for a time that a row does not have.
EPOCH = datetime.datetime(1970, 1, 1)

_ABOUT_THE_SAME_TIME = datetime.timedelta(hours=1)

images = IMAGES.c
locations = LOCATIONS.c


def is_deleted(table: Any) -> ColumnElement[bool]:
    """A row that Glance has marked: read in the order of the primary key, past all others.

    Most rows of an old cloud are: to look up each through the index of ``deleted`` takes
    several times as long, and no database takes that for this way of asking.
    """
    return table.deleted.is_(True)  # type: ignore[no-any-return]


def is_not_deleted(table: Any) -> ColumnElement[bool]:
    """A row that Glance has not marked: found through the index of ``deleted``."""
    return table.deleted == false()  # type: ignore[no-any-return]


def went_between(
    now: datetime.datetime, older: float, younger: float | None
) -> ColumnElement[bool]:
    """Pending images that were deleted at least ``older``, less than ``younger`` seconds ago."""
    rules = [
        images.status == "pending_delete",
        images.deleted_at <= _before(now, older),
    ]
    if younger is not None:
        earliest = _before(now, younger)
        # Glance writes both when it deletes, and only updated_at has an index.
        touched = images.updated_at > earliest - _ABOUT_THE_SAME_TIME
        rules += [images.deleted_at > earliest, touched]
    return and_(*rules)


def _before(now: datetime.datetime, seconds: float) -> datetime.datetime:
    try:
        return now - datetime.timedelta(seconds=seconds)
    except OverflowError:
        return EPOCH


def is_unfinished() -> ColumnElement[bool]:
    """An image that is pending, or deleted with a status of those that stay: it is torn.

    What is pending without being deleted is half deleted: an API process died in mid-delete.
    """
    torn = and_(is_deleted(images), images.status != "deleted")
    return or_(images.status == "pending_delete", torn)


def is_live_or_finished() -> ColumnElement[bool]:
    """An image whose pending locations were removed, make it a wreck, or were left behind.

    The last happens where delayed_delete was switched off.
    """
    live = and_(is_not_deleted(images), images.status != "pending_delete")
    return or_(live, and_(is_deleted(images), images.status == "deleted"))


def with_deleted(deleted: bool) -> ColumnElement[bool]:
    """An image that is deleted, or one that is not, among images that are found otherwise.

    By the bare column SQLite would find them along its index: all the deleted ones.
    """
    return func.coalesce(images.deleted, images.deleted).is_(deleted)


def is_pending() -> ColumnElement[bool]:
    """A location that Glance left to a scrubber; whoever marked it has marked it deleted, too."""
    return and_(is_deleted(locations), locations.status == "pending_delete")


def unfinished_rows() -> Any:
    """The locations of the image that the query is about which may have bytes."""
    return (
        select(locations.id)
        .where(
            locations.image_id == images.id,
            or_(locations.status == "pending_delete", is_not_deleted(locations)),
        )
        .correlate(IMAGES)
    )


def is_live() -> ColumnElement[bool]:
    """A location whose bytes are in use."""
    return is_not_deleted(locations)


def is_of_wreck() -> ColumnElement[bool]:
    """Pending rows of an image that is live: its bytes are in use, whatever the rows say."""
    other = LOCATIONS.alias()
    active = exists(
        select(other.c.id).where(other.c.image_id == images.id, is_not_deleted(other.c))
    )
    return and_(
        locations.status == "pending_delete",
        is_not_deleted(images),
        images.status != "pending_delete",
        or_(images.deleted_at.is_not(None), and_(images.status != "queued", ~active)),
    )


def is_free(now: datetime.datetime, lease: float) -> ColumnElement[bool]:
    """Nobody's claim, or one that lapsed; one far in the future is of a clock that jumped."""
    touched = func.coalesce(locations.updated_at, EPOCH)
    return or_(
        touched <= func.coalesce(locations.deleted_at, EPOCH),
        touched <= now - datetime.timedelta(seconds=lease),
        touched > now + datetime.timedelta(seconds=lease),
    )


def chosen(selection: Selection) -> list[ColumnElement[bool]]:
    """What an operator narrowed the run to, as far as the image tells."""
    rules: list[ColumnElement[bool]] = []
    if selection.images:
        rules.append(images.id.in_(selection.images))
    if selection.owners:
        rules.append(images.owner.in_(selection.owners))
    return rules

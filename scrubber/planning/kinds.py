"""What kind of candidate an image is, from its row and those of its locations."""

from collections.abc import Sequence

from scrubber.model import Candidate, Image, Kind, Location, Obstacle, Outcome

_HALF_DELETED_AND_ACTIVE = Obstacle(
    Outcome.REFUSED,
    "half-deleted with an active location: delete the image once more through Glance",
)
_DELETED_AND_ACTIVE = Obstacle(
    Outcome.REFUSED,
    "deleted, with an active location: --restore the image, then delete it once more",
)
_TORN = Obstacle(
    Outcome.REFUSED,
    "deleted while it was being updated: set its status to pending_delete in the database, and "
    "a later run scrubs it",
)
_WRECK = Obstacle(
    Outcome.REFUSED,
    "a wreck: the image is live, its locations are pending: repair it with --restore",
)
_IMPORTING = Obstacle(Outcome.WAITING, "Glance is importing into the image")


def deleted(image: Image, rows: Sequence[Location]) -> Candidate:
    """A pending_delete image; without a location it is stuck, and only has to be finished."""
    kind = Kind.DELETED if image.deleted else Kind.HALF_DELETED
    mine = tuple([row for row in rows if row.status == "pending_delete" or is_late(row, image)])
    obstacle = None
    if live(rows):
        obstacle = _DELETED_AND_ACTIVE if image.deleted else _HALF_DELETED_AND_ACTIVE
    return Candidate(image, kind, mine, obstacle=obstacle)


def torn(image: Image, rows: Sequence[Location]) -> Candidate | None:
    """An image whose update was saved in the middle of its deletion; None if no bytes are left.

    It is deleted, with a status that no deleted image has.
    """
    left = tuple(row for row in rows if row.status != "deleted" or is_late(row, image))
    return Candidate(image, Kind.TORN, left, obstacle=_TORN) if left else None


def removed(image: Image, rows: Sequence[Location], importing: bool) -> Candidate:
    """A live image with pending locations: copies that were removed, unless it is a wreck."""
    if is_wreck(image, rows):
        return Candidate(image, Kind.WRECK, pending(rows), obstacle=_WRECK)
    obstacle = _IMPORTING if importing else None
    return Candidate(image, Kind.REMOVED, pending(rows), siblings=live(rows), obstacle=obstacle)


def leftover(image: Image, rows: Sequence[Location]) -> Candidate:
    """An image that was deleted for good while one of its locations was still pending."""
    return Candidate(image, Kind.LEFTOVER, pending(rows))


def of_pending(image: Image, row: Location) -> Candidate:
    """A pending location alone, whatever else its image has."""
    if image.status == "pending_delete":
        kind = Kind.DELETED if image.deleted else Kind.HALF_DELETED
    elif image.deleted:
        kind = Kind.LEFTOVER if image.status == "deleted" else Kind.TORN
    else:
        kind = Kind.REMOVED
    return Candidate(image, kind, (row,))


def is_late(row: Location, image: Image) -> bool:
    """A copy that ended while its image was destroyed.

    Glance marked it 'deleted' at the image's own instant, and its bytes stay.
    """
    return row.status == "deleted" and row.deleted_at == image.deleted_at is not None


def is_wreck(image: Image, rows: Sequence[Location]) -> bool:
    """A live image without its locations: an upstream --restore, or a delete that crashed.

    Glance lets nobody remove the last location of an image, unless that becomes queued.
    """
    if image.deleted or image.status == "pending_delete" or not pending(rows):
        return False
    return image.deleted_at is not None or (not live(rows) and image.status != "queued")


def pending(rows: Sequence[Location]) -> tuple[Location, ...]:
    """The locations that Glance left to a scrubber."""
    return tuple(row for row in rows if row.status == "pending_delete")


def live(rows: Sequence[Location]) -> tuple[Location, ...]:
    """The locations whose bytes the image uses."""
    return tuple([row for row in rows if row.status not in ("pending_delete", "deleted")])

"""Which rows of a deleted image a restore gives back, and whether it may."""

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scrubber import errors
from scrubber.model import Found, Image, Location, Look
from scrubber.planning import kinds

#: Glance marks an image's locations one by one before the image itself.
WENT_WITH_IMAGE = datetime.timedelta(minutes=2)


def went_with(image: Image, rows: Iterable[Location]) -> tuple[Location, ...]:
    """The locations that went when the image did; copies removed earlier stay removed.

    A late copy counts: it ended while its image was destroyed, so Glance marked it
    'deleted' at the image's own instant, and its bytes are there.
    """
    gone = [row for row in rows if row.status == "pending_delete" or kinds.is_late(row, image)]
    if not gone:
        return ()
    moment = image.deleted_at or max(row.went_at for row in gone)
    return tuple(row for row in gone if row.went_at >= moment - WENT_WITH_IMAGE)


#: So long Glance may yet be busy with an image whose status it has changed.
BEING_DELETED = datetime.timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Window:
    """From when to when, both included, an image's properties, tags and members went with it."""

    since: datetime.datetime
    until: datetime.datetime


def went_between(image: Image, gone: Sequence[Location]) -> Window | None:
    """When Glance deleted what belongs to the image; None if it did not come that far.

    It marks the locations first, purges the properties when it saves the image as
    pending_delete, and deletes tags and members with the image itself.

    :param gone: the locations that went with the image.
    """
    until = image.deleted_at
    if until is None and image.status == "pending_delete" and image.updated_at is not None:
        # Glance stamps the image first, then purges its properties, in one transaction.
        until = image.updated_at + WENT_WITH_IMAGE
    if until is None:
        return None
    return Window(min((row.went_at for row in gone), default=until), until)


def refusal(image: Image, rows: Sequence[Location], now: datetime.datetime) -> str | None:
    """Why this image cannot be restored at all; None if its state allows it.

    :param now: by the clock of the database.
    """
    if image.status == "pending_delete" or kinds.is_wreck(image, rows):
        return _still_going(image, rows, now)
    # The words are glance-scrubber's own: scripts look for them.
    return (
        f"cannot restore the image from {image.status} to active (wanted from_state=pending_delete)"
    )


def _still_going(image: Image, rows: Sequence[Location], now: datetime.datetime) -> str | None:
    """Glance marks locations, image and row one after another: the next would come over ours."""
    if image.deleted or image.deleted_at is not None:
        return None
    last = max((row.went_at for row in kinds.pending(rows)), default=None)
    moments = [at for at in (image.updated_at, last) if at is not None]
    if not any(now - BEING_DELETED < at <= now + BEING_DELETED for at in moments):
        return None
    return f"Glance is deleting image {image.id} just now, or was cut off: try again in a minute"


def is_whole(image: Image, look: Look) -> bool | None:
    """Whether a copy is all there; None if nobody can say."""
    if isinstance(look, Found):
        return None in (image.size, look.size) or look.size == image.size
    if isinstance(look, errors.Gone):
        return False
    return None

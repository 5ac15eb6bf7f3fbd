"""Rows of Glance's tables as values; what cannot be read becomes a location's problem."""

import datetime
import json
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from itertools import starmap
from typing import Any

from sqlalchemy import Column, ColumnElement, case, select
from sqlalchemy.engine import Connection

from scrubber.model import Image, Location
from scrubber.sources import encryption
from scrubber.sources.among import among
from scrubber.sources.tables import IMAGES, LOCATIONS

_LONGEST_STORE_ID = 255


def _unless_deleted(column: Column[datetime.datetime]) -> ColumnElement[datetime.datetime]:
    """Times that count only where a row does not say when it was deleted: NULL is quickly read."""
    missing = column.table.c.deleted_at.is_(None)
    return case((missing, column)).label(column.name)


#: Columns of an image, of a location, and of one as a reference, as the readers take them.
IMAGE = (
    IMAGES.c.id,
    IMAGES.c.owner,
    IMAGES.c.status,
    IMAGES.c.deleted,
    IMAGES.c.size,
    _unless_deleted(IMAGES.c.created_at),
    _unless_deleted(IMAGES.c.updated_at),
    IMAGES.c.deleted_at,
)
REFERENCE = (
    LOCATIONS.c.id,
    LOCATIONS.c.image_id,
    LOCATIONS.c.value,
    LOCATIONS.c.meta_data,
    LOCATIONS.c.status,
)
LOCATION = (
    *REFERENCE,
    _unless_deleted(LOCATIONS.c.created_at),
    LOCATIONS.c.updated_at,
    LOCATIONS.c.deleted_at,
)


def images(connection: Connection, ids: Collection[str], *, lock: bool = False) -> dict[str, Image]:
    """The images of these ids."""
    query = select(*IMAGE).where(among(IMAGES.c.id, ids)).order_by(IMAGES.c.id)
    if lock:
        query = query.with_for_update()
    return {image.id: image for image in starmap(Image, connection.execute(query))}


@dataclass(frozen=True, slots=True)
class State:
    """What must not have changed in an image between reading and claiming it."""

    status: str
    deleted: bool
    deleted_at: datetime.datetime | None

    @classmethod
    def of(cls, image: Any) -> "State":
        """Of an Image, or of a row with these columns."""
        return cls(image.status, bool(image.deleted), image.deleted_at)


class LocationReader:
    """Rows of ``image_locations``, decrypted.

    :param encryption_key: Glance's metadata_encryption_key, or None.
    """

    def __init__(self, encryption_key: str | None) -> None:
        self._read_url = encryption.reader(encryption_key)

    def location(
        self,
        number: int,
        image: str,
        value: str | None,
        meta_data: str | None,
        status: str,
        created_at: datetime.datetime | None = None,
        updated_at: datetime.datetime | None = None,
        deleted_at: datetime.datetime | None = None,
    ) -> Location:
        """A row of ``LOCATION``, or of ``REFERENCE``: one without its times."""
        url, store, problem = "", None, None
        try:
            url = self._read_url(value)
            store = _store(meta_data)
        except encryption.Unreadable as unreadable:
            problem = str(unreadable)
        return Location(
            number, image, url, store, status, created_at, updated_at, deleted_at, problem
        )


# Most rows say the same.
@lru_cache(maxsize=100)
def _store(meta_data: str | None) -> str | None:
    """The store id of a location's metadata; None in rows older than multiple stores."""
    if meta_data is None:
        return None
    try:
        metadata = json.loads(meta_data)
    except (ValueError, RecursionError):
        raise encryption.Unreadable("its metadata is not JSON") from None
    if metadata is None:
        return None
    store = metadata.get("store", "") if isinstance(metadata, dict) else None
    # Anybody who may add a location writes this: it must not write log lines as well.
    if not isinstance(store, str) or not store.isprintable() or len(store) > _LONGEST_STORE_ID:
        raise encryption.Unreadable("its metadata is not what Glance writes")
    return store or None

"""Rows of Glance's tables as values; what cannot be read becomes a location's problem."""

import datetime
import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from scrubber.model import Image, Location
from scrubber.sources import encryption

_LONGEST_STORE_ID = 255


def image(row: Row[Any]) -> Image:
    """A row of ``images``."""
    return Image(
        id=row.id,
        owner=row.owner,
        status=row.status,
        deleted=bool(row.deleted),
        size=row.size,
        created_at=row.created_at,
        updated_at=row.updated_at,
        deleted_at=row.deleted_at,
    )


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

    def location(self, row: Row[Any]) -> Location:
        url, store, problem = "", None, None
        try:
            url = self._read_url(row.value)
            store = _store(row.meta_data)
        except encryption.Unreadable as unreadable:
            problem = str(unreadable)
        return Location(
            id=row.id,
            image_id=row.image_id,
            url=url,
            store=store,
            status=row.status,
            created_at=row.created_at,
            updated_at=row.updated_at,
            deleted_at=row.deleted_at,
            problem=problem,
        )


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

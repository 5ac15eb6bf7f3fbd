"""Pending images in bulk: rows as Glance's delayed delete leaves them, and what they name."""

import datetime
import json
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa

from lab.databases import Database

SIZE = 64
OWNERS = 20
BATCH = 5000


class Store(Protocol):
    """Where the images lie."""

    def url(self, image_id: str) -> str:
        """As Glance writes it into the image's location."""

    def put(self, image_ids: Sequence[str]) -> None:
        """Put there what these images are."""


class Directory:
    """A store of files."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def url(self, image_id: str) -> str:
        return f"file://{self._path}/{image_id}"

    def put(self, image_ids: Sequence[str]) -> None:
        self._path.mkdir(parents=True, exist_ok=True)
        for image_id in image_ids:
            (self._path / image_id).write_bytes(b"x" * SIZE)


def fill(database: Database, store: Store, name: str, *, pending: int, live: int) -> None:
    """So many pending and live images, each with one location in the store of that name."""
    went = datetime.datetime.now(datetime.UTC).replace(tzinfo=None, microsecond=0)
    went -= datetime.timedelta(minutes=5)
    engine = database.engine
    metadata = sa.MetaData()
    metadata.reflect(engine, only=["images", "image_locations"])
    images, locations = metadata.tables["images"], metadata.tables["image_locations"]
    for numbers in _batches(pending + live):
        rows = [_rows(number, number < pending, store, name, went) for number in numbers]
        with engine.begin() as connection:
            connection.execute(sa.insert(images), [image for image, _ in rows])
            connection.execute(sa.insert(locations), [location for _, location in rows])
        store.put([str(image["id"]) for image, _ in rows])


def still_pending(database: Database) -> int:
    """How many images nobody has scrubbed."""
    query = sa.text("SELECT count(*) FROM images WHERE status = 'pending_delete'")
    with database.engine.connect() as connection:
        return int(connection.execute(query).scalar_one())


def _batches(count: int) -> Iterator[range]:
    for first in range(0, count, BATCH):
        yield range(first, min(first + BATCH, count))


def _rows(
    number: int, gone: bool, store: Store, name: str, went: datetime.datetime
) -> tuple[dict[str, object], dict[str, object]]:
    image_id = str(uuid.uuid4())
    times = {
        "created_at": went - datetime.timedelta(days=1),
        "updated_at": went,
        "deleted_at": went if gone else None,
        "deleted": gone,
        "status": "pending_delete" if gone else "active",
    }
    image = {
        "id": image_id,
        "name": f"image {number}",
        "size": SIZE,
        "visibility": "shared",
        "min_disk": 0,
        "min_ram": 0,
        "owner": f"project{number % OWNERS}",
        "protected": False,
        "os_hidden": False,
        **times,
    }
    location = {
        "image_id": image_id,
        "value": store.url(image_id),
        "meta_data": json.dumps({"store": name}),
        **times,
    }
    return image, location

"""Images in bulk: rows as Glance leaves them, and what they name in a store."""

import datetime
import io
import json
import os
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from lab.databases import Database

SIZE = 64
OWNERS = 20
BATCH = 10_000

_OF_BOTH = ("created_at", "updated_at", "deleted_at", "deleted", "status")
_IMAGES = (
    *("id", "name", "size", "visibility", "min_disk", "min_ram", "owner", "protected", "os_hidden"),
    *_OF_BOTH,
)
_LOCATIONS = ("image_id", "value", "meta_data", *_OF_BOTH)

_SCRUBBED = "deleted"

Row = tuple[object, ...]


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
        directory = os.open(self._path, os.O_RDONLY)
        try:
            for image_id in image_ids:
                file = os.open(image_id, os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=directory)
                os.write(file, b"x" * SIZE)
                os.close(file)
        finally:
            os.close(directory)


def fill(
    database: Database,
    stores: Mapping[str, Store],
    *,
    pending: int = 0,
    live: int = 0,
    tombstones: int = 0,
) -> None:
    """So many images of each kind, each with one location in every one of these stores.

    Tombstones are images that were deleted and scrubbed: nothing of them is in the store.
    """
    went = datetime.datetime.now(datetime.UTC).replace(tzinfo=None, microsecond=0)
    went -= datetime.timedelta(minutes=5)
    with _connected(database) as connection:
        for state, count in (
            (_State("pending_delete", went), pending),
            (_State("active", went, gone=False), live),
            (_State(_SCRUBBED, went), tombstones),
        ):
            for size in _batches(count):
                _add(connection, database, stores, state, size)
        # As a server that has been up for a while knows its tables.
        if analyse := _ANALYSE.get(database.server):
            connection.cursor().execute(analyse)
            connection.commit()


@contextmanager
def _connected(database: Database) -> Iterator[Any]:
    """The database driver's own connection, allowed to read files of this side."""
    options = {"local_infile": True} if database.server == "mariadb" else {}
    engine = sa.create_engine(database.url, poolclass=NullPool, connect_args=options)
    connection = engine.raw_connection()
    try:
        yield connection
    finally:
        connection.close()


def _add(
    connection: Any, database: Database, stores: Mapping[str, Store], state: "_State", count: int
) -> None:
    # In the order of the primary key, which is faster to write.
    ids = sorted(str(uuid.uuid4()) for _ in range(count))
    if state.name != _SCRUBBED:
        # First, as Glance does it: a scrubber may be at work already.
        for store in stores.values():
            store.put(ids)
    load = _LOADS[database.server]
    load(connection, "images", _IMAGES, (_image(image, state) for image in ids))
    load(connection, "image_locations", _LOCATIONS, _locations(ids, stores, state))
    connection.commit()


def still_pending(database: Database) -> int:
    """How many images nobody has scrubbed."""
    query = sa.text("SELECT count(*) FROM images WHERE status = 'pending_delete'")
    with database.engine.connect() as connection:
        return int(connection.execute(query).scalar_one())


@dataclass(frozen=True)
class _State:
    """What an image is, and its locations alike."""

    name: str
    went: datetime.datetime
    gone: bool = True

    @property
    def of_both(self) -> Row:
        """Values for _OF_BOTH."""
        went = _written(self.went)
        created = _written(self.went - datetime.timedelta(days=1))
        return (created, went, went if self.gone else None, int(self.gone), self.name)


def _written(at: datetime.datetime) -> str:
    """As SQLAlchemy writes it into SQLite, where times are compared as texts."""
    return f"{at:%Y-%m-%d %H:%M:%S.%f}"


def _batches(count: int) -> Iterator[int]:
    for first in range(0, count, BATCH):
        yield min(BATCH, count - first)


def _image(image_id: str, state: _State) -> Row:
    owner = f"project{int(image_id[:8], 16) % OWNERS}"
    return (image_id, "image", SIZE, "shared", 0, 0, owner, 0, 0, *state.of_both)


def _locations(ids: Sequence[str], stores: Mapping[str, Store], state: _State) -> Iterator[Row]:
    for name, store in stores.items():
        metadata, of_both = json.dumps({"store": name}), state.of_both
        for image_id in ids:
            yield (image_id, store.url(image_id), metadata, *of_both)


# The fastest way into each database


def _load_mariadb(connection: Any, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
    with tempfile.NamedTemporaryFile("w", prefix="scrubber-bench-") as file:
        file.writelines(_lines(rows))
        file.flush()
        connection.cursor().execute(
            f"LOAD DATA LOCAL INFILE '{file.name}' INTO TABLE {table} ({', '.join(columns)})"
        )


def _load_postgresql(
    connection: Any, table: str, columns: Sequence[str], rows: Iterable[Row]
) -> None:
    lines = io.StringIO("".join(_lines(rows)))
    connection.cursor().copy_expert(f"COPY {table} ({', '.join(columns)}) FROM STDIN", lines)


def _load_sqlite(connection: Any, table: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
    marks = ", ".join("?" * len(columns))
    connection.cursor().executemany(
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows
    )


_LOADS: dict[str, Callable[[Any, str, Sequence[str], Iterable[Row]], None]] = {
    "mariadb": _load_mariadb,
    "postgresql": _load_postgresql,
    "sqlite": _load_sqlite,
}


_ANALYSE = {
    "mariadb": "ANALYZE TABLE images, image_locations",
    "postgresql": "ANALYZE images, image_locations",
}


def _lines(rows: Iterable[Row]) -> Iterator[str]:
    """Tab-separated, as both LOAD DATA and COPY read it; no value has a tab or a backslash."""
    for row in rows:
        yield "\t".join(r"\N" if value is None else str(value) for value in row) + "\n"

"""What Glance and other scrubbers do to the rows that a source reads.

One interface, so that the contract of sources runs over each of them.
"""

import abc
import datetime
import json
import sqlite3
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from sqlalchemy import Insert, create_engine, insert, select, update
from sqlalchemy.pool import StaticPool

from contract.fake_source import FakeGlance, FakeSource
from scrubber import config, pool
from scrubber.model import Image, Location
from scrubber.sources.base import Source
from scrubber.sources.engine import Engine
from scrubber.sources.restoring import RestoringSource
from scrubber.sources.tables import IMAGES, LOCATIONS, MEMBERS, METADATA, PROPERTIES, TAGS

AN_HOUR = datetime.timedelta(hours=1)
LEASE = 300.0


@dataclass(frozen=True)
class RowState:
    status: str
    deleted: bool
    deleted_at: datetime.datetime | None
    updated_at: datetime.datetime | None


class World(abc.ABC):
    """A source, the rows behind it, and whoever else writes them.

    Times are given relative to the source's clock, as how long ago.
    """

    source: Source

    @abc.abstractmethod
    def rival(self) -> Source:
        """Another scrubber at work on the same rows."""

    def add_image(
        self,
        id: str | None = None,
        *,
        owner: str | None = "project",
        status: str = "pending_delete",
        deleted: bool = True,
        deleted_ago: datetime.timedelta | None = AN_HOUR,
    ) -> str:
        """An image; a pending one by default."""
        id = id or str(uuid.uuid4())
        self._insert_image(
            id,
            owner=owner,
            status=status,
            deleted=deleted,
            deleted_at=self.ago(deleted_ago),
            updated_at=self.ago(deleted_ago or AN_HOUR),
        )
        return id

    @abc.abstractmethod
    def _insert_image(self, id: str, **columns: Any) -> None: ...

    def add_location(
        self,
        image_id: str,
        url: str = "fake://fast/object",
        *,
        store: str | None = "fast",
        status: str = "pending_delete",
        deleted_ago: datetime.timedelta | None = AN_HOUR,
        unreadable: bool = False,
    ) -> int:
        """A location's row; a pending one by default, ``deleted`` as Glance sets it."""
        return self._insert_location(
            image_id,
            url,
            store,
            unreadable,
            status=status,
            deleted=status in ("pending_delete", "deleted"),
            deleted_at=self.ago(deleted_ago),
            updated_at=self.ago(deleted_ago or AN_HOUR),
        )

    @abc.abstractmethod
    def _insert_location(
        self, image_id: str, url: str, store: str | None, unreadable: bool, **columns: Any
    ) -> int: ...

    @abc.abstractmethod
    def change_image(self, id: str, **columns: Any) -> None: ...

    @abc.abstractmethod
    def change_location(self, number: int, **columns: Any) -> None: ...

    @abc.abstractmethod
    def image(self, id: str) -> RowState: ...

    @abc.abstractmethod
    def location(self, number: int) -> RowState: ...

    @abc.abstractmethod
    def start_import(self, image_id: str) -> None: ...

    def add_live(self, url: str = "fake://fast/live", **columns: Any) -> tuple[str, int]:
        """An active image with one active location."""
        image = self.add_image(status="active", deleted=False, deleted_ago=None)
        return image, self.add_location(image, url, status="active", deleted_ago=None, **columns)

    def ago(self, how_long: datetime.timedelta | None) -> datetime.datetime | None:
        if how_long is None:
            return None
        return (self.now() - how_long).replace(microsecond=0)

    def now(self) -> datetime.datetime:
        """The source's clock."""
        return self.source.now()

    def claimed_ago(self, number: int, how_long: datetime.timedelta) -> None:
        """Somebody's claim, this old."""
        self.change_location(number, updated_at=self.ago(how_long))

    def is_claimed(self, number: int) -> bool:
        row = self.location(number)
        early = datetime.datetime.min
        return (row.updated_at or early) > (row.deleted_at or early)

    def close(self) -> None:
        self.source.close()


class FakeWorld(World):
    def __init__(self) -> None:
        self.glance = FakeGlance()
        self.source = FakeSource(self.glance)

    def rival(self) -> Source:
        return FakeSource(self.glance)

    def _insert_image(self, id: str, **columns: Any) -> None:
        self.glance.add_image(id, **columns)

    def _insert_location(
        self, image_id: str, url: str, store: str | None, unreadable: bool, **columns: Any
    ) -> int:
        problem = "cannot be decrypted" if unreadable else None
        return self.glance.add_location(image_id, url, store=store, problem=problem, **columns)

    def change_image(self, id: str, **columns: Any) -> None:
        self.glance.change_image(id, **columns)

    def change_location(self, number: int, **columns: Any) -> None:
        self.glance.change_location(number, **columns)

    def image(self, id: str) -> RowState:
        row = self.glance.images[id]
        return RowState(row.status, row.deleted, row.deleted_at, row.updated_at)

    def location(self, number: int) -> RowState:
        row = self.glance.rows[number]
        at = row.location
        return RowState(at.status, row.deleted, at.deleted_at, at.updated_at)

    def start_import(self, image_id: str) -> None:
        self.glance.importing.add(image_id)


class DatabaseWorld(World):
    """The database source on SQLite, with no more than the columns that it uses."""

    def __init__(self, directory: Path) -> None:
        path = directory / "glance.sqlite"
        path.write_bytes(empty_database())
        self._writer = create_engine(f"sqlite:///{path}")
        self._conf = config.load(["--config-file", str(_config_file(directory, path))])
        self.source: RestoringSource = self._new_source()
        self._rivals: list[Source] = []

    def _new_source(self, key: str | None = None) -> RestoringSource:
        return RestoringSource(Engine(self._conf.database, pool.Flag()), key)

    def rival(self, key: str | None = None) -> RestoringSource:
        """Another source, which may have the key of encrypted locations."""
        rival = self._new_source(key)
        self._rivals.append(rival)
        return rival

    def close(self) -> None:
        for source in (self.source, *self._rivals):
            source.close()
        self._writer.dispose()

    @cached_property
    def _ahead(self) -> datetime.timedelta:
        return self.source.now() - datetime.datetime.now(datetime.UTC).replace(tzinfo=None)

    def now(self) -> datetime.datetime:
        """As the source said once: it asks the database each time."""
        return datetime.datetime.now(datetime.UTC).replace(tzinfo=None) + self._ahead

    def execute(self, statement: Any) -> Any:
        with self._writer.begin() as connection:
            result = connection.execute(statement)
            if isinstance(statement, Insert):
                return result.inserted_primary_key
            return list(result) if result.returns_rows else None

    def _insert_image(self, id: str, **columns: Any) -> None:
        values = {"id": id, "size": 1, "created_at": self.ago(24 * AN_HOUR)} | columns
        self.execute(insert(IMAGES).values(values))

    def _insert_location(
        self, image_id: str, url: str, store: str | None, unreadable: bool, **columns: Any
    ) -> int:
        return self.add_row(
            image_id,
            value="bm90IGEgVVJM" if unreadable else url,
            meta_data=json.dumps({"store": store} if store else {}),
            **columns,
        )

    def add_row(self, image_id: str, **columns: Any) -> int:
        """A location's row, column by column."""
        values = {
            "image_id": image_id,
            "value": "fake://fast/object",
            "meta_data": '{"store": "fast"}',
            "status": "pending_delete",
            "deleted": True,
            "created_at": self.ago(24 * AN_HOUR),
            "updated_at": self.ago(AN_HOUR),
            "deleted_at": self.ago(AN_HOUR),
        }
        key = self.execute(insert(LOCATIONS).values(values | columns))
        return int(key[0])

    def change_image(self, id: str, **columns: Any) -> None:
        self.execute(update(IMAGES).where(IMAGES.c.id == id).values(columns))

    def change_location(self, number: int, **columns: Any) -> None:
        self.execute(update(LOCATIONS).where(LOCATIONS.c.id == number).values(columns))

    def image(self, id: str) -> RowState:
        return self._state(IMAGES, id)

    def location(self, number: int) -> RowState:
        return self._state(LOCATIONS, number)

    def _state(self, table: Any, key: object) -> RowState:
        at = table.c
        query = select(at.status, at.deleted, at.deleted_at, at.updated_at).where(at.id == key)
        return RowState(*self.execute(query)[0])

    def start_import(self, image_id: str) -> None:
        self.add_property(image_id, "os_glance_import_task", "a-task")

    def add_property(self, image_id: str, name: str, value: str, **columns: Any) -> int:
        values = {"image_id": image_id, "name": name, "value": value, "deleted": False} | columns
        return int(self.execute(insert(PROPERTIES).values(values))[0])

    def add_belongings(self, image_id: str, **columns: Any) -> None:
        """A property, a tag and a member of the image."""
        for table in (PROPERTIES, TAGS, MEMBERS):
            values = {"image_id": image_id, "deleted": False} | columns
            self.execute(insert(table).values(values))

    def belongings(self, image_id: str) -> set[tuple[bool, datetime.datetime | None]]:
        """``deleted`` and ``deleted_at`` of the image's properties, tags and members."""
        states: set[tuple[bool, datetime.datetime | None]] = set()
        for table in (PROPERTIES, TAGS, MEMBERS):
            query = select(table.c.deleted, table.c.deleted_at).where(table.c.image_id == image_id)
            states.update((row.deleted, row.deleted_at) for row in self.execute(query))
        return states


@cache
def empty_database() -> bytes:
    """A SQLite file with the columns that scrubber uses, and no rows."""
    connection = sqlite3.connect(":memory:")
    engine = create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool)
    METADATA.create_all(engine)
    content = connection.serialize()
    engine.dispose()
    return content


def _config_file(directory: Path, database: Path) -> Path:
    path = directory / "scrubber.conf"
    path.write_text(f"[database]\nconnection = sqlite:///{database}\n")
    return path


def only(values: Iterator[list[Any]]) -> Any:
    """The only value of the only page."""
    [[value]] = list(values)
    return value


def image_and_locations(world: World, image_id: str) -> tuple[Image, list[Location]]:
    assert isinstance(world, DatabaseWorld)
    source = world.source
    return source.images([image_id])[image_id], source.locations([image_id])

"""Deleted images, thousands at once: rows as Glance writes them, with a file for each."""

import contextlib
import datetime
import itertools
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from chaos import invariants
from lab.databases import Database

IMAGES = sa.table(
    "images",
    *(
        sa.column(name)
        for name in ("id", "name", "owner", "size", "status", "min_disk", "min_ram", "visibility")
    ),
    sa.column("protected", sa.Boolean),
    sa.column("os_hidden", sa.Boolean),
    sa.column("deleted", sa.Boolean),
    *(sa.column(name, sa.DateTime) for name in ("created_at", "updated_at", "deleted_at")),
)
LOCATIONS = sa.table(
    "image_locations",
    *(sa.column(name) for name in ("id", "image_id", "value", "meta_data", "status")),
    sa.column("deleted", sa.Boolean),
    *(sa.column(name, sa.DateTime) for name in ("created_at", "updated_at", "deleted_at")),
)

AN_HOUR = datetime.timedelta(hours=1)
CONTENT = b"bytes"
_CHUNK = 5000


class Backlog:
    """The images of one file store: rows in a database, files in a directory."""

    def __init__(self, database: Database, directory: Path, store: str = "main") -> None:
        self.database = database
        self.directory = directory
        self.store = store
        self.pending: list[str] = []
        self.live: list[str] = []
        directory.mkdir(parents=True, exist_ok=True)

    def add_pending(
        self,
        count: int,
        *,
        content: bytes = CONTENT,
        owner: str = "owner",
        ago: datetime.timedelta = AN_HOUR,
    ) -> None:
        """Images deleted an hour ago, their files still there."""
        self.pending += self._add(count, "pending_delete", content, owner, ago)

    def add_live(self, count: int, *, content: bytes = CONTENT) -> None:
        """Images in use; they also prove that the store is the right one."""
        self.live += self._add(count, "active", content, "owner")

    def path(self, image: str) -> Path:
        return self.directory / image

    # What became of them --------------------------------------------------------------

    def recorded(self) -> set[str]:
        """Images that were pending and whose rows say deleted, image and location alike."""
        query = (
            sa.select(LOCATIONS.c.image_id)
            .join(IMAGES, IMAGES.c.id == LOCATIONS.c.image_id)
            .where(IMAGES.c.status == "deleted", LOCATIONS.c.status == "deleted")
        )
        return set(self._scalars(query)) & set(self.pending)

    def statuses(self) -> set[tuple[str, str]]:
        """Pairs of image status and location status that occur among the pending ones."""
        query = (
            sa.select(IMAGES.c.id, IMAGES.c.status, LOCATIONS.c.status.label("of_location"))
            .join(LOCATIONS, IMAGES.c.id == LOCATIONS.c.image_id)
            .distinct()
        )
        mine = set(self.pending)
        with self.database.engine.connect() as connection:
            rows = connection.execute(query).all()
        return {(row.status, row.of_location) for row in rows if row.id in mine}

    def files(self) -> set[str]:
        return set(os.listdir(self.directory))

    def claimed(self) -> set[str]:
        """Images with a location that a scrubber has claimed and not given back."""
        query = sa.select(LOCATIONS.c.image_id).where(
            LOCATIONS.c.status == "pending_delete",
            LOCATIONS.c.updated_at > LOCATIONS.c.deleted_at,
        )
        return set(self._scalars(query))

    def let_claims_lapse(self) -> None:
        """As if whoever holds one had not been heard of for most of an hour."""
        claims = LOCATIONS.c.updated_at > LOCATIONS.c.deleted_at
        with self.database.engine.begin() as connection:
            rows = connection.execute(
                sa.select(LOCATIONS.c.id, LOCATIONS.c.deleted_at).where(
                    LOCATIONS.c.status == "pending_delete", claims
                )
            ).all()
            for row in rows:
                connection.execute(
                    sa.update(LOCATIONS)
                    .where(LOCATIONS.c.id == row.id)
                    .values(updated_at=row.deleted_at + datetime.timedelta(seconds=1))
                )

    def objects(self) -> dict[str, int]:
        """Names and sizes of the files."""
        found: dict[str, int] = {}
        for name in self.files():
            with contextlib.suppress(FileNotFoundError):  # it has just been deleted
                found[name] = self.path(name).stat().st_size
        return found

    def name_of(self, url: str) -> str | None:
        directory, _, name = url.rpartition("/")
        return name if directory == f"file://{self.directory}" else None

    def assert_scrubbed(self) -> None:
        """Every pending image is deleted and recorded, every live one is there."""
        assert invariants.left(invariants.look(self.database, self), kept=self.live) == []
        assert self.recorded() == set(self.pending)

    def assert_truthful(self) -> None:
        """What is recorded as deleted has no file; what is live has one."""
        assert invariants.broken(invariants.look(self.database, self), kept=self.live) == []

    # Rows -----------------------------------------------------------------------------

    def _scalars(self, query: sa.Select[tuple[str]]) -> list[str]:
        with self.database.engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def _add(
        self,
        count: int,
        status: str,
        content: bytes,
        owner: str,
        ago: datetime.timedelta = AN_HOUR,
    ) -> list[str]:
        images = [str(uuid.uuid4()) for _ in range(count)]
        directory = os.open(self.directory, os.O_RDONLY)
        try:
            for image in images:
                file = os.open(image, os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=directory)
                if content:
                    os.write(file, content)
                os.close(file)
        finally:
            os.close(directory)
        with self.database.engine.begin() as connection:
            for chunk in _chunks(images):
                times = _times(status, ago)
                rows = [self._image(image, times, len(content), owner) for image in chunk]
                connection.execute(sa.insert(IMAGES), rows)
                rows = [self._location(image, times) for image in chunk]
                connection.execute(sa.insert(LOCATIONS), rows)
        return images

    def _image(
        self, image: str, times: dict[str, object], size: int, owner: str
    ) -> dict[str, object]:
        return {
            "id": image,
            "name": "image",
            "owner": owner,
            "size": size,
            "min_disk": 0,
            "min_ram": 0,
            "visibility": "shared",
            "protected": False,
            "os_hidden": False,
            **times,
        }

    def _location(self, image: str, times: dict[str, object]) -> dict[str, object]:
        return {
            "image_id": image,
            "value": f"file://{self.path(image)}",
            "meta_data": f'{{"store": "{self.store}"}}',
            **times,
        }


def _times(status: str, ago: datetime.timedelta) -> dict[str, object]:
    gone = datetime.datetime.now(datetime.UTC).replace(tzinfo=None, microsecond=0) - ago
    deleted = status != "active"
    return {
        "status": status,
        "created_at": gone - datetime.timedelta(days=1),
        "updated_at": gone,
        "deleted_at": gone if deleted else None,
        "deleted": deleted,
    }


def _chunks(images: list[str]) -> Iterator[list[str]]:
    rest = iter(images)
    while chunk := list(itertools.islice(rest, _CHUNK)):
        yield chunk

"""What Glance does to its rows and files, in as many transactions: others may come in between."""

import datetime
import os
import sqlite3
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from races.schedule import Schedule, step

EPOCH = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
LONG_AGO = "2023-01-01 00:00:00.000000"

#: Images, each as its locations: a store, and the number of the image whose name the file has.
Plan = Sequence[Sequence[tuple[str, int]]]


@dataclass(frozen=True)
class LiveFile:
    """A file that an active image names."""

    image: str
    path: Path

    @property
    def is_whole(self) -> bool:
        return self.path.exists() and self.path.read_bytes() == content(self.path.name)


def content(name: str) -> bytes:
    """Of the file of this name, in whichever store."""
    return f"bytes of {name}".encode()


class Glance:
    """Rows of images and their files, as its API and its import leave them."""

    def __init__(
        self, rows: sqlite3.Connection, stores: Mapping[str, Path], schedule: Schedule
    ) -> None:
        self._rows = rows
        self._stores = stores
        self._schedule = schedule

    # Images ---------------------------------------------------------------------------

    def make(self, plan: Plan) -> list[str]:
        """Active images; returns their ids."""
        chance = self._schedule.chance
        images = [str(uuid.UUID(int=chance.getrandbits(128))) for _ in plan]
        for image, locations in zip(images, plan, strict=True):
            self._execute(
                "INSERT INTO images (id, owner, status, deleted, size, created_at, updated_at) "
                "VALUES (?, 'project', 'active', 0, ?, ?, ?)",
                (image, len(content(image)), LONG_AGO, LONG_AGO),
            )
            for store, owner in locations:
                path = self._stores[store] / images[owner]
                self._write(path)
                self._add_row(image, store, path)
        return images

    def _write(self, path: Path) -> None:
        path.write_bytes(content(path.name))
        now = EPOCH.timestamp() + self._schedule.now
        os.utime(path, (now, now))

    def _add_row(self, image: str, store: str, path: Path) -> None:
        now = self._now()
        self._execute(
            "INSERT INTO image_locations "
            "(image_id, value, meta_data, status, deleted, created_at, updated_at) "
            "VALUES (?, ?, ?, 'active', 0, ?, ?)",
            (image, f"file://{path}", f'{{"store": "{store}"}}', now, now),
        )

    def _now(self) -> str:
        """As MySQL keeps it: whole seconds."""
        now = EPOCH + datetime.timedelta(seconds=int(self._schedule.now))
        return now.strftime("%Y-%m-%d %H:%M:%S.000000")

    def _execute(self, statement: str, parameters: tuple[object, ...] = ()) -> sqlite3.Cursor:
        while True:
            try:
                return self._rows.execute(statement, parameters)
            except sqlite3.OperationalError as error:
                if "locked" not in str(error):
                    raise
                step()  # a restore asks its stores while it holds the rows

    # What users ask for ---------------------------------------------------------------

    def delete(self, image: str) -> None:
        """Its locations one by one, then the image, then all that it still has."""
        for location in self._active(image):
            step(f"deletes {image[:8]}: location {location}")
            self._mark(location, "pending_delete")
        step(f"deletes {image[:8]}: status")
        self._execute(
            "UPDATE images SET status = 'pending_delete', updated_at = ? WHERE id = ?",
            (self._now(), image),
        )
        step(f"deletes {image[:8]}: row")
        now = self._now()
        with self._rows:
            self._execute("BEGIN IMMEDIATE")
            self._execute(
                "UPDATE images SET deleted = 1, deleted_at = ?, updated_at = ? WHERE id = ?",
                (now, now, image),
            )
            for location in self._active(image):
                self._mark(location, "deleted")

    def delete_at_once(self, image: str) -> None:
        """Before anybody else is there."""
        now = self._now()
        for location in self._active(image):
            self._mark(location, "pending_delete")
        self._execute(
            "UPDATE images SET status = 'pending_delete', deleted = 1, deleted_at = ?, "
            "updated_at = ? WHERE id = ?",
            (now, now, image),
        )

    def _mark(self, location: int, status: str) -> None:
        now = self._now()
        self._execute(
            "UPDATE image_locations SET status = ?, deleted = 1, deleted_at = ?, updated_at = ? "
            "WHERE id = ?",
            (status, now, now, location),
        )

    def remove(self, image: str, store: str) -> None:
        """A location of several: Glance lets nobody remove the last one."""
        step(f"removes {image[:8]} from {store}")
        mine = self._active(image, store)
        if self.is_active(image) and mine and len(self._active(image)) > len(mine):
            self._mark(mine[0], "pending_delete")

    def copy(self, image: str, store: str) -> None:
        """Mark the image, write the bytes, save the location, take the mark away."""
        path = self._stores[store] / image
        if not self.is_active(image) or self._active(image, store) or path.exists():
            return  # Glance refuses to write over a file
        self._execute(
            "INSERT INTO image_properties (image_id, name, value, deleted) "
            "VALUES (?, 'os_glance_importing_to_stores', ?, 0)",
            (image, store),
        )
        step(f"copies {image[:8]} to {store}: bytes")
        if not path.exists():
            self._write(path)
            step(f"copies {image[:8]} to {store}: row")
            if self._is_destroyed(image):
                path.unlink()
            else:
                self._add_row(image, store, path)
        step(f"copies {image[:8]} to {store}: done")
        self._execute("UPDATE image_properties SET deleted = 1 WHERE image_id = ?", (image,))

    # What there is --------------------------------------------------------------------

    def is_active(self, image: str) -> bool:
        query = "SELECT 1 FROM images WHERE id = ? AND status = 'active' AND NOT deleted"
        return self._execute(query, (image,)).fetchone() is not None

    def _is_destroyed(self, image: str) -> bool:
        query = "SELECT deleted FROM images WHERE id = ?"
        return bool(self._execute(query, (image,)).fetchone()[0])

    def _active(self, image: str, store: str = "") -> list[int]:
        query = (
            "SELECT id FROM image_locations WHERE image_id = ? AND NOT deleted "
            "AND meta_data LIKE ? ORDER BY id"
        )
        return [row[0] for row in self._execute(query, (image, f'%"{store}%'))]

    def live(self) -> Iterator[LiveFile]:
        query = (
            "SELECT i.id, l.value FROM images i JOIN image_locations l ON l.image_id = i.id "
            "WHERE i.status = 'active' AND NOT i.deleted AND NOT l.deleted"
        )
        for image, url in self._execute(query).fetchall():
            yield LiveFile(image, Path(url.removeprefix("file://")))

    def unfinished(self) -> list[str]:
        """What is deleted, and not done with: images and locations, each in words."""
        return [
            f"image {image[:8]} is {of_image}, location {location} is {of_location}"
            for image, of_image, location, of_location in self._execute(
                "SELECT i.id, i.status, l.id, l.status FROM images i "
                "JOIN image_locations l ON l.image_id = i.id "
                "WHERE 'pending_delete' IN (i.status, l.status)"
            )
        ]

    def torn(self) -> set[str]:
        """Images that are deleted, with a live one's status or with a live location.

        Somebody has copied one to another store while a restore that was then refused had it
        active: that copy is left to people.
        """
        query = (
            "SELECT id FROM images WHERE deleted AND (status = 'active' OR id IN "
            "(SELECT image_id FROM image_locations WHERE NOT deleted))"
        )
        return {row[0] for row in self._execute(query)}

    def unused(self) -> set[Path]:
        """Files that no live image names."""
        used = {file.path for file in self.live()}
        return {
            path
            for directory in self._stores.values()
            for path in directory.iterdir()
            if path not in used
        }

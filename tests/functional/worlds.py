"""Rows without a Glance, beside a store whose answers follow a script."""

import datetime
import itertools
import json
import subprocess
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from conftest import needed_programs
from functional import program
from functional.program import PROGRAM, Result, Running
from functional.rows import ANY_IMAGE, Tables, utcnow
from lab.databases import Database
from lab.glance import Backend, Glance, Options, merge
from scrubber import pool
from scrubber.state.database import StateDatabase
from scrubber.state.ledger import SqlLedger

#: The store whose answers follow a script, and the one of files that is always well.
ODD, WELL = "objects", "files"

LONG_AGO = datetime.timedelta(days=1)

#: Short enough that what hangs is noticed while somebody looks, long enough for a busy machine.
IMPATIENT: Options = {"scrubber": {"call_timeout": 3, "claim_lease": 30}}


class World:
    """Rows of a Glance that need not run, a store of files, and one of another kind."""

    def __init__(self, directory: Path, database: Database, backend: Backend) -> None:
        self.directory = directory
        self._files = directory / WELL
        self._glance = Glance(directory, database, {WELL: self._files}, backends={ODD: backend})
        self._state = f"sqlite:///{directory}/state/state.sqlite"
        self._numbers = itertools.count(1)
        self.tables = Tables(database)

    # Images

    def put(self, store: str, urls: Mapping[str, str], *, deleted: bool = True) -> None:
        """Rows as Glance leaves them, of live images or of deleted ones, with these URLs."""
        then = utcnow().replace(microsecond=0) - LONG_AGO
        both = {
            "created_at": then,
            "updated_at": then,
            "deleted_at": then if deleted else None,
            "deleted": deleted,
            "status": "pending_delete" if deleted else "active",
        }
        image = {
            "size": 5,
            "owner": "project",
            **ANY_IMAGE,
            **both,
        }
        location = {"meta_data": json.dumps({"store": store}), **both}
        images = [{"id": name, **image} for name in urls]
        locations = [{"image_id": name, "value": url, **location} for name, url in urls.items()]
        tables = self.tables
        tables.execute(
            sa.insert(tables.table("images")).values(images),
            sa.insert(tables.table("image_locations")).values(locations),
        )

    def put_files(self, count: int = 1, *, deleted: bool = True) -> set[str]:
        paths = {name: self._files / name for name in new_names(count)}
        for path in paths.values():
            path.write_bytes(b"bytes")
        self.put(WELL, {name: f"file://{path}" for name, path in paths.items()}, deleted=deleted)
        return set(paths)

    def files(self) -> set[str]:
        return {path.name for path in self._files.iterdir()}

    def statuses(self, images: Collection[str]) -> set[str]:
        """Of their rows, those of their locations included."""
        return {
            row["status"]
            for name in ("images", "image_locations")
            for row in self.tables.of_images(name, images)
        }

    def claimed(self) -> set[str]:
        """Images that some scrubber holds."""
        locations = self.tables.table("image_locations").c
        query = sa.select(locations.image_id).where(
            locations.status == "pending_delete", locations.updated_at > locations.deleted_at
        )
        return {row["image_id"] for row in self.tables.read(query)}

    # Programs

    def configuration(self, *several: Options) -> Path:
        file = self.directory / f"scrubber-{next(self._numbers)}.conf"
        state: Options = {"state": {"connection": self._state}}
        return self._glance.write_scrubber_configuration(file, merge(IMPATIENT, state, *several))

    def scrub(self, *flags: str, options: Options | None = None) -> Result:
        return program.run(self.configuration(options or {}), *flags)

    def start(self, *flags: str, options: Options | None = None) -> Running:
        name = f"running-{next(self._numbers)}"
        return Running(self.configuration(options or {}), self.directory, name, *flags)

    def manage(self, *words: str) -> Any:
        """What ``scrubber-manage`` prints, of locations."""
        done = subprocess.run(
            [
                *(PROGRAM.with_name("scrubber-manage"), *words, "--format", "json"),
                *("--config-file", self.configuration()),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)["locations"]

    def waiting(self) -> dict[str, int]:
        """The attempts by image, of all that the ledger holds."""
        with closing(SqlLedger(StateDatabase(self._state, pool.Flag(), create=False))) as ledger:
            return {entry.image: entry.trouble.attempts for entry in ledger.entries()}


def new_names(count: int) -> list[str]:
    return [str(uuid.uuid4()) for _ in range(count)]


NewWorld = Callable[[Backend], World]


@pytest.fixture
def new_world(tmp_path: Path, sqlite_database: Database) -> Iterator[NewWorld]:
    with ExitStack() as stack:

        def make(backend: Backend) -> World:
            with needed_programs():
                world = World(tmp_path, sqlite_database, backend)
            stack.callback(world.tables.close)
            world.put_files(deleted=False)
            return world

        yield make

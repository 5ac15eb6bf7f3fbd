"""Real servers for the tests that ask for them.

A server whose programs are missing skips its tests with the reason; with
``SCRUBBER_REQUIRE_SERVERS=1`` it fails them.
"""

import itertools
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from lab import Unavailable
from lab.databases import SERVERS, Database, Servers, Sqlite
from lab.glance import Glance, create_schema

NewDatabase = Callable[..., Database]
NewGlance = Callable[..., Glance]


@sa.event.listens_for(sa.Engine, "connect")
def do_not_wait_for_the_disk(connection: object, _record: object) -> None:
    """What is in a test's SQLite file need not survive a crash of the machine."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


@contextmanager
def needed_programs() -> Iterator[None]:
    try:
        yield
    except Unavailable as missing:
        if os.environ.get("SCRUBBER_REQUIRE_SERVERS") == "1":
            raise pytest.fail.Exception(str(missing), pytrace=False) from None
        raise pytest.skip.Exception(str(missing)) from None


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """The database servers, none of them started yet."""
    with Servers(create_schema) as servers:
        yield servers


@pytest.fixture(scope="session")
def database_names() -> Iterator[str]:
    return (f"glance_{number}" for number in itertools.count(1))


@pytest.fixture
def new_database(servers: Servers, database_names: Iterator[str]) -> Iterator[NewDatabase]:
    """Makes databases: ``new_database(server name)``, with Glance's tables unless ``empty``."""
    with ExitStack() as stack:

        def create(server_name: str, *, empty: bool = False) -> Database:
            with needed_programs():
                server = servers.get(server_name)
                database = server.create_database(next(database_names), empty=empty)
            stack.callback(server.drop_database, database)
            return database

        yield create


@pytest.fixture(params=list(SERVERS))
def database(request: pytest.FixtureRequest, new_database: NewDatabase) -> Database:
    """A database with Glance's tables; the test runs once on every kind of server."""
    return new_database(request.param)


@pytest.fixture
def sqlite_database(new_database: NewDatabase) -> Database:
    return new_database(Sqlite.name)


@pytest.fixture
def new_glance(tmp_path: Path) -> Iterator[NewGlance]:
    """Makes and starts a Glance: ``new_glance(database, **options of lab.glance.Glance)``.

    Without ``stores`` it has two, ``fast`` (the default) and ``slow``.
    """
    numbers = itertools.count(1)
    with ExitStack() as stack:

        def create(
            database: Database, stores: Mapping[str, Path] | Path | None = None, **options: Any
        ) -> Glance:
            directory = tmp_path / f"glance-{next(numbers)}"
            if stores is None:
                stores = {name: directory / "stores" / name for name in ("fast", "slow")}
            with needed_programs():
                glance = Glance(directory, database, stores, **options)
            return stack.enter_context(glance)

        yield create


@pytest.fixture
def glance(new_glance: NewGlance, sqlite_database: Database) -> Glance:
    """A running Glance on SQLite."""
    return new_glance(sqlite_database)


@pytest.fixture
def glance_on_database(new_glance: NewGlance, database: Database) -> Glance:
    """A running Glance; the test runs once on every kind of database."""
    return new_glance(database)

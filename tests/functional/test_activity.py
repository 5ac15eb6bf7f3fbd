"""The record of activity on servers, which several hosts share."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from conftest import needed_programs
from contract.activity_contract import *  # noqa: F403
from lab.databases import Database, MariaDB, PostgreSQL, Servers
from scrubber import pool
from scrubber.state.activity import PROCESSES, RUNS, STORES, Activity
from scrubber.state.database import StateDatabase


@pytest.fixture(params=[MariaDB.name, PostgreSQL.name], scope="module")
def shared(
    request: pytest.FixtureRequest, servers: Servers, database_names: Iterator[str]
) -> Iterator[Database]:
    """A database that is emptied for each test rather than made."""
    with needed_programs():
        server = servers.get(request.param)
    database = server.create_database(next(database_names), empty=True)
    yield database
    server.drop_database(database)


@pytest.fixture
def activity(shared: Database) -> Iterator[Activity]:
    with closing(StateDatabase(shared.url, pool.Flag())) as database:
        for table in (RUNS, PROCESSES, STORES):
            database.write(lambda connection, at=table: connection.execute(at.delete()))
        yield Activity(database)

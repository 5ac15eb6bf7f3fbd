"""The record of activity on servers, which several hosts share."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from contract.activity_contract import *  # noqa: F403
from lab.databases import Database
from scrubber import pool
from scrubber.state.activity import PROCESSES, RUNS, STORES, Activity
from scrubber.state.database import StateDatabase


@pytest.fixture
def activity(shared_state: Database) -> Iterator[Activity]:
    with closing(StateDatabase(shared_state.url, pool.Flag())) as database:
        for table in (RUNS, PROCESSES, STORES):
            database.write(lambda connection, at=table: connection.execute(at.delete()))
        yield Activity(database)

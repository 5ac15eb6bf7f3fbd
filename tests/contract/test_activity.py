"""The record of activity in SQLite; the servers are in tests/functional."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.activity_contract import *  # noqa: F403
from scrubber import pool
from scrubber.state.activity import Activity
from scrubber.state.database import StateDatabase


@pytest.fixture
def activity(tmp_path: Path) -> Iterator[Activity]:
    database = StateDatabase(f"sqlite:///{tmp_path}/state.sqlite", pool.Flag())
    yield Activity(database)
    database.close()

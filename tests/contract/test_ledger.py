"""The contract of ledgers, over SQLite, over what opens it again, and over the fake."""

from pathlib import Path

import pytest

from contract.fake_ledger import FakeLedger
from contract.ledger_contract import *  # noqa: F403
from contract.ledger_contract import NewLedger
from lab.state import state_url
from scrubber import pool
from scrubber.state.base import Entry, Key
from scrubber.state.database import StateDatabase
from scrubber.state.ledger import SqlLedger
from scrubber.state.opening import Reopening, ReopeningLedger


@pytest.fixture(params=["sqlite", "reopening", "fake"])
def new_ledger(request: pytest.FixtureRequest, tmp_path: Path) -> NewLedger:
    def in_sqlite() -> SqlLedger:
        return SqlLedger(StateDatabase(state_url(tmp_path), pool.Flag()))

    kept: dict[Key, Entry] = {}
    kinds: dict[str, NewLedger] = {
        "sqlite": in_sqlite,
        "reopening": lambda: ReopeningLedger(
            Reopening(in_sqlite, required=True), lambda ledger: ledger
        ),
        "fake": lambda: FakeLedger(kept),
    }
    return kinds[request.param]

"""The state database under kill -9, and under processes that come at the same moment."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from contract.ledger_contract import an_entry
from lab.ledger_writers import ENDLESS, migrate_at_once, record_at_once, start
from scrubber import pool
from scrubber.state.database import StateDatabase
from scrubber.state.ledger import SqlLedger


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "state.sqlite"


def rows(path: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


@pytest.mark.parametrize("batches", [1, 4])
def test_a_kill_while_recording_leaves_whole_batches(path: Path, batches: int) -> None:
    with start(f"sqlite:///{path}", 0, ENDLESS) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write("go\n")
        process.stdin.flush()
        for _ in range(batches):
            committed = int(process.stdout.readline())
        process.kill()
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    with closing(SqlLedger(StateDatabase(f"sqlite:///{path}", pool.Flag()))) as ledger:
        recorded = len(list(ledger.entries()))
        assert recorded >= committed
        assert recorded % 1000 == 0
        ledger.record([an_entry(10**9)])
        assert len(list(ledger.entries())) == recorded + 1


def test_processes_that_start_together_migrate_once(path: Path) -> None:
    migrate_at_once(f"sqlite:///{path}", 4)
    assert rows(path, "SELECT count(*) FROM scrubber_version") == [(1,)]
    assert rows(path, "SELECT count(*) FROM scrubber_retries") == [(0,)]


def test_processes_that_record_together_lose_nothing(path: Path) -> None:
    record_at_once(f"sqlite:///{path}", 3)
    assert rows(path, "SELECT count(*) FROM scrubber_retries") == [(3000,)]
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]

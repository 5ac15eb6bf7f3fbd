"""Versions of the state database: what was remembered outlives an upgrade."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory

from contract.ledger_contract import an_entry
from scrubber import errors, pool
from scrubber.state import versions
from scrubber.state.activity import PROCESSES, RUNS, STORES
from scrubber.state.database import StateDatabase
from scrubber.state.ledger import RETRIES, SqlLedger

NEWEST = versions._known(versions.MIGRATIONS)[-1]

NEXT = f"""
import sqlalchemy as sa
from alembic import op

revision = "9001"
down_revision = "{NEWEST}"


def upgrade():
    op.add_column("scrubber_retries", sa.Column("note", sa.String(20), server_default="unread"))
    op.execute("UPDATE scrubber_retries SET note = 'old'")
    op.create_table("scrubber_later", sa.Column("id", sa.Integer, primary_key=True))
"""

ONE_MORE = """
from alembic import op

revision = "9002"
down_revision = "9001"


def upgrade():
    op.execute("UPDATE scrubber_retries SET note = 'older'")
    op.execute("INSERT INTO nowhere VALUES (1)")
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite"


@pytest.fixture
def later(tmp_path: Path) -> Path:
    """The steps of a scrubber to come."""
    directory = tmp_path / "migrations"
    shutil.copytree(
        versions.MIGRATIONS, directory, ignore=shutil.ignore_patterns("__pycache__", "__init__.py")
    )
    (directory / "v9001_notes.py").write_text(NEXT)
    return directory


def a_ledger(path: Path, migrations: Path = versions.MIGRATIONS, create: bool = True) -> SqlLedger:
    return SqlLedger(
        StateDatabase(f"sqlite:///{path}", pool.Flag(), create=create, migrations=migrations)
    )


def rows(path: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement).fetchall()


def version(path: Path) -> list[tuple[object, ...]]:
    return rows(path, "SELECT version_num FROM scrubber_version")


def test_a_new_database_has_the_newest_version_and_keeps_it(path: Path) -> None:
    for _ in range(2):
        a_ledger(path).close()
        assert version(path) == [(NEWEST,)]


@pytest.mark.parametrize("table", [RETRIES, RUNS, PROCESSES, STORES], ids=lambda table: table.name)
def test_the_tables_are_those_that_are_used(path: Path, table: sa.Table) -> None:
    a_ledger(path).close()
    found = sa.inspect(sa.create_engine(f"sqlite:///{path}")).get_columns(table.name)
    assert [column["name"] for column in found] == [column.name for column in table.columns]
    for real, ours in zip(found, table.columns, strict=True):
        assert str(real["type"]) == str(ours.type), ours.name


@pytest.mark.parametrize("create", [True, False])
def test_an_upgrade_keeps_what_was_remembered(path: Path, later: Path, create: bool) -> None:
    entries = [an_entry(1), an_entry(2)]
    with closing(a_ledger(path)) as ledger:
        ledger.record(entries)
    with closing(a_ledger(path, later, create)) as ledger:
        assert list(ledger.entries()) == entries
    assert version(path) == [("9001",)]
    assert rows(path, "SELECT note FROM scrubber_retries") == [("old",), ("old",)]


def test_a_new_database_takes_all_the_steps(path: Path, later: Path) -> None:
    a_ledger(path, later).close()
    assert version(path) == [("9001",)]
    assert rows(path, "SELECT * FROM scrubber_later") == []


def test_a_steps_file_begins_with_its_version() -> None:
    """So that no start has to load them all."""
    steps = ScriptDirectory(
        str(versions.MIGRATIONS), version_locations=[str(versions.MIGRATIONS)]
    ).walk_revisions()
    assert [step.revision for step in steps][::-1] == versions._known(versions.MIGRATIONS)


def test_an_old_process_goes_on_while_a_new_one_upgrades(path: Path, later: Path) -> None:
    with closing(a_ledger(path)) as old:
        old.record([an_entry(1)])
        with closing(a_ledger(path, later)) as new:
            old.record([an_entry(2)])
            new.record([an_entry(3)])
            assert list(old.entries()) == list(new.entries())
            assert len(list(old.entries())) == 3


def test_a_newer_version_is_refused_and_left_as_it_is(path: Path, later: Path) -> None:
    with closing(a_ledger(path, later)) as ledger:
        ledger.record([an_entry()])
    before = path.read_bytes()
    for create in (True, False):
        with pytest.raises(
            errors.StateUnavailable, match=rf"9001.*up to {NEWEST}: upgrade"
        ) as refused:
            a_ledger(path, create=create)
        assert str(path) in str(refused.value)
    assert path.read_bytes() == before


def test_a_step_that_fails_leaves_the_former_version(path: Path, later: Path) -> None:
    with closing(a_ledger(path, later)) as ledger:
        ledger.record([an_entry()])
    before = rows(path, "SELECT note FROM scrubber_retries")
    broken = later / "v9002_broken.py"
    broken.write_text(ONE_MORE)
    with pytest.raises(errors.StateUnavailable, match="no such table: nowhere"):
        a_ledger(path, later)
    assert rows(path, "SELECT note FROM scrubber_retries") == before
    assert version(path) == [("9001",)]
    broken.unlink()
    with closing(a_ledger(path, later)) as ledger:
        assert list(ledger.entries()) == [an_entry()]


def test_a_crash_between_a_table_and_its_version_is_made_good(path: Path) -> None:
    with closing(a_ledger(path)) as ledger:
        ledger.record([an_entry()])
    rows(path, "DELETE FROM scrubber_version")
    with closing(a_ledger(path)) as ledger:
        assert list(ledger.entries()) == [an_entry()]
    assert version(path) == [(NEWEST,)]


def test_who_may_only_read_needs_no_lock_when_nothing_is_to_be_done(path: Path) -> None:
    with closing(a_ledger(path)) as ledger:
        ledger.record([an_entry()])
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        with closing(a_ledger(path, create=False)) as reader:
            assert list(reader.entries()) == [an_entry()]


def test_other_programs_versions_stay_as_they_are(path: Path) -> None:
    """Glance keeps its own, in alembic's usual table."""
    rows(path, "CREATE TABLE alembic_version (version_num VARCHAR(32))")
    rows(path, "INSERT INTO alembic_version VALUES ('2026_expand01')")
    a_ledger(path).close()
    assert rows(path, "SELECT * FROM alembic_version") == [("2026_expand01",)]

"""The file of the ledger: private, made once, and refused with a reason and an advice."""

import datetime
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from contract.ledger_contract import an_entry
from scrubber import errors, pool
from scrubber.state.database import StateDatabase
from scrubber.state.ledger import SqlLedger

NOON = datetime.datetime(2026, 1, 1, 12)


def a_ledger(path: Path, **options: bool) -> SqlLedger:
    return SqlLedger(StateDatabase(f"sqlite:///{path}", pool.Flag(), **options))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "scrubber" / "state.sqlite"


@pytest.fixture
def full(path: Path) -> Path:
    """A state database with an entry."""
    with closing(a_ledger(path)) as ledger:
        ledger.record([an_entry()])
    return path


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StateDatabase, "patience", 0.05)


@contextmanager
def a_umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def modes(path: Path) -> list[int]:
    return [at.stat().st_mode & 0o777 for at in (path.parent, path)]


def test_nobody_else_can_read_who_owned_what(path: Path) -> None:
    with a_umask(0):
        a_ledger(path).close()
    assert modes(path) == [0o700, 0o600]


def test_modes_that_an_operator_chose_stay(path: Path) -> None:
    path.parent.mkdir(mode=0o750)
    path.touch(0o640)
    a_ledger(path).close()
    assert modes(path) == [0o750, 0o640]


def test_only_the_last_directory_is_made(tmp_path: Path) -> None:
    with pytest.raises(errors.StateUnavailable, match="No such file"):
        a_ledger(tmp_path / "not" / "there" / "state.sqlite")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a b.sqlite", "50%.sqlite", "a?b.sqlite", "größe#1.sqlite", "&"])
def test_a_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    from sqlalchemy.engine import URL

    url = URL.create("sqlite", database=str(tmp_path / name)).render_as_string()
    if "?" in name:
        url = url.replace("a?b", "a%3Fb")
    with closing(SqlLedger(StateDatabase(url, pool.Flag()))) as ledger:
        ledger.record([an_entry()])
    assert len(list(tmp_path.iterdir())) == 1
    with closing(SqlLedger(StateDatabase(url, pool.Flag(), create=False))) as ledger:
        assert list(ledger.entries()) == [an_entry()]


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_ledger_in_memory(url: str) -> None:
    with closing(SqlLedger(StateDatabase(url, pool.Flag()))) as ledger:
        ledger.record([an_entry()])
        assert list(ledger.entries()) == [an_entry()]


def test_nothing_is_made_for_who_only_looks(path: Path) -> None:
    with pytest.raises(errors.StateMissing, match=str(path)):
        a_ledger(path, create=False)
    assert not path.parent.exists()
    path.parent.mkdir()
    path.touch()
    with pytest.raises(errors.StateMissing, match=str(path)):
        a_ledger(path, create=False)
    assert path.stat().st_size == 0


def test_one_file_and_no_other(full: Path) -> None:
    """What a backup copies is all there is."""
    assert [at.name for at in full.parent.iterdir()] == [full.name]


# What may be wrong ------------------------------------------------------------------------


def is_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def is_text(path: Path) -> None:
    path.write_text("this is no database, but it is longer than a header\n" * 100)


def lost_its_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:] = bytes(len(content) - 4096)
    path.write_bytes(content)


def was_cut(path: Path) -> None:
    os.truncate(path, 5000)


def holds_other_tables(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE scrubber_retries")


WRONG: list[tuple[Callable[[Path], None], list[str]]] = [
    # what is done to the file; what the message says
    (is_a_directory, ["unable to open", "write access"]),
    (is_text, ["not a database", "move the file away"]),
    (lost_its_middle, ["malformed", "move the file away"]),
    (was_cut, ["malformed", "move the file away"]),
    (holds_other_tables, ["no such table", "replaced"]),
]


@pytest.mark.parametrize(("damage", "words"), WRONG, ids=[str(d.__name__) for d, _ in WRONG])
def test_a_database_that_cannot_be_used_says_why_and_what_to_do(
    full: Path, damage: Callable[[Path], None], words: list[str]
) -> None:
    damage(full)
    with pytest.raises(errors.StateUnavailable) as refused:
        a_ledger(full).record([an_entry()])
    message = str(refused.value)
    for word in [str(full), *words]:
        assert word in message
    assert "\n" not in message
    assert "SELECT" not in message


def test_a_row_that_no_scrubber_wrote_is_named_so(full: Path) -> None:
    with closing(sqlite3.connect(full)) as connection, connection:
        connection.execute("UPDATE scrubber_retries SET next_try_at = 'soon'")
    with closing(a_ledger(full)) as ledger, pytest.raises(errors.StateUnavailable, match="soon"):
        ledger.of([an_entry().key])


def test_a_locked_database_is_not_waited_for_for_ever(full: Path) -> None:
    with closing(a_ledger(full)) as ledger, closing(sqlite3.connect(full)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert list(ledger.entries()) == [an_entry()], "readers need not wait"
        with pytest.raises(errors.StateUnavailable, match=r"locked.*find the process"):
            ledger.record([an_entry(2)])
        with pytest.raises(errors.StateUnavailable, match="locked"):
            a_ledger(full)
        other.rollback()
        ledger.record([an_entry(2)])
        assert len(list(ledger.entries())) == 2


def test_who_lists_page_by_page_locks_nobody_out(full: Path) -> None:
    with closing(a_ledger(full)) as ledger, closing(a_ledger(full)) as writer:
        ledger.record([an_entry(at) for at in range(1, 2500)])
        entries = ledger.entries()
        next(entries)
        writer.record([an_entry(1, attempts=9)])
        assert len(list(entries)) == 2498


def test_a_file_that_was_removed_is_not_made_anew_in_passing(full: Path) -> None:
    """It would be readable for all, and have no tables."""
    with closing(a_ledger(full)) as ledger:
        full.unlink()
        with pytest.raises(errors.StateUnavailable, match="unable to open"):
            ledger.record([an_entry()])
    assert not full.exists()


def test_a_batch_is_recorded_whole_or_not_at_all(
    full: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(full)) as connection, connection:
        connection.execute(
            "CREATE TRIGGER disk_full BEFORE INSERT ON scrubber_retries WHEN NEW.location_id = 700 "
            "BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END"
        )
    with closing(a_ledger(full)) as ledger:
        with pytest.raises(errors.StateUnavailable, match="make room"):
            ledger.record([an_entry(at, attempts=9) for at in range(1, 1000)])
        assert list(ledger.entries()) == [an_entry()]


BAD_URLS = ["nonsense", "oracle://secret@db/x", "mysql+mysqldb://u:secret@db/x", "sqlite+x://"]


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_url_that_cannot_be_used_is_a_mistake_of_the_configuration(url: str) -> None:
    with pytest.raises(errors.ConfigError, match=r"connection in section \[state\]") as refused:
        SqlLedger(StateDatabase(url, pool.Flag()))
    assert "secret" not in str(refused.value)


def test_an_advice_is_about_the_reason_and_not_about_the_name(tmp_path: Path) -> None:
    path = tmp_path / "not a database but malformed"
    path.mkdir()
    with pytest.raises(errors.StateUnavailable, match="write access") as refused:
        a_ledger(path)
    assert "move the file away" not in str(refused.value)

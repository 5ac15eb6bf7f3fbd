"""The connection to Glance's database."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from oslo_db import exception as db_exception
from sqlalchemy import exc, text
from sqlalchemy.engine import Connection

from scrubber import config, errors, pool, sql
from scrubber.sources import engine
from scrubber.sources.engine import Engine

DRIVERS = [
    # the URL as operators have it; the driver that is used
    ("mysql://glance:secret@db/glance", "mysql+pymysql"),
    ("mysql+pymysql://glance:secret@db/glance?charset=utf8", "mysql+pymysql"),
    ("mariadb://glance:secret@db/glance", "mariadb+pymysql"),
    ("mariadb+pymysql://glance:secret@db/glance", "mariadb+pymysql"),
    ("postgresql://glance:secret@db/glance", "postgresql+psycopg2"),
    ("postgresql+psycopg2://glance:secret@db/glance", "postgresql+psycopg2"),
    # SQLAlchemy itself has forgotten this one.
    ("postgres://glance:secret@db/glance", "postgresql+psycopg2"),
]


@pytest.mark.parametrize(("connection", "driver"), DRIVERS)
def test_a_url_gets_the_driver_that_suits_green_threads(connection: str, driver: str) -> None:
    url = engine._url(connection)
    assert url.drivername == driver
    assert (url.username, url.password, url.host, url.database) == (
        "glance",
        "secret",
        "db",
        "glance",
    )


def test_a_connection_attempt_ends_unless_the_operator_said_otherwise() -> None:
    assert engine._url("mysql://db/glance").query["connect_timeout"] == "10"
    assert engine._url("mysql://db/glance?connect_timeout=3").query["connect_timeout"] == "3"
    assert engine._url("postgresql://db/glance").query["connect_timeout"] == "10"


REFUSED = [
    # a URL whose driver would stop all green threads; what to write in its place
    ("mysql+mysqldb://glance:secret@db/glance", "mysql+pymysql://"),
    ("mysql+mysqlconnector://glance:secret@db/glance", "mysql+pymysql://"),
    ("mysql+aiomysql://glance:secret@db/glance", "mysql+pymysql://"),
    ("mysql+asyncmy://glance:secret@db/glance", "mysql+pymysql://"),
    ("mariadb+mariadbconnector://glance:secret@db/glance", "mysql+pymysql://"),
    ("postgresql+psycopg://glance:secret@db/glance", "postgresql+psycopg2://"),
    ("postgresql+asyncpg://glance:secret@db/glance", "postgresql+psycopg2://"),
    ("sqlite+aiosqlite:////glance.sqlite?password=secret", "sqlite://"),
    ("sqlite+pysqlcipher://:secret@//glance.sqlite", "sqlite://"),
]


@pytest.mark.parametrize(("connection", "instead"), REFUSED)
def test_a_driver_that_would_stop_all_parallel_work_is_refused_by_name(
    connection: str, instead: str
) -> None:
    with pytest.raises(errors.ConfigError) as refused:
        engine._url(connection)
    message = str(refused.value)
    assert connection.partition(":")[0] in message
    assert instead in message
    assert "[database]" in message
    assert "secret" not in message


def test_a_database_that_nobody_knows_is_refused_by_name() -> None:
    with pytest.raises(errors.ConfigError, match="oracle"):
        engine._url("oracle://glance:secret@db/glance")


NO_URLS = [
    None,
    "",
    "secret",
    "glance:secret@db/glance",
    "mysql//glance:secret@db/glance",
    "mysql://glance:secret@db:port/glance",
]


@pytest.mark.parametrize("connection", NO_URLS)
def test_what_is_no_database_url_is_refused_and_not_quoted(connection: str | None) -> None:
    with pytest.raises(errors.ConfigError) as refused:
        engine._url(connection)
    assert "connection in section [database]" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_missing_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def import_nothing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(sql.importlib, "import_module", import_nothing)
    with pytest.raises(errors.ConfigError, match=r"pip install scrubber\[postgresql\]"):
        engine._url("postgresql://glance:secret@db/glance")


def test_a_missing_sqlite_file_is_not_created(tmp_path: Path) -> None:
    path = tmp_path / "glance.sqlite"
    with pytest.raises(errors.ConfigError, match=str(path)):
        engine._url(f"sqlite:///{path}")
    assert not path.exists()
    path.touch()
    assert engine._url(f"sqlite:///{path}").database == str(path)


SAID = [
    # what was raised; conflict, lost connection; a word of the reason
    (db_exception.DBDeadlock(), True, False, ""),
    (exc.OperationalError("SELECT s", {}, Exception("database is locked")), True, False, "locked"),
    (
        db_exception.DBConnectionError(Exception("(2006, 'server has gone away')")),
        False,
        True,
        "gone away",
    ),
    (exc.TimeoutError("QueuePool limit of size 5"), False, True, "QueuePool"),
    # PostgreSQL says these in words only.
    (
        exc.OperationalError("SELECT s", {}, Exception("server closed the connection\nnow")),
        False,
        True,
        "closed the connection now",
    ),
    (
        exc.OperationalError(
            "", {}, Exception('connection to server at "db", port 5432 failed: Connection refused')
        ),
        False,
        True,
        "refused",
    ),
    (
        exc.OperationalError("", {}, Exception("FATAL:  the database system is starting up")),
        False,
        True,
        "starting up",
    ),
    (
        exc.OperationalError("", {}, Exception("FATAL:  sorry, too many clients already")),
        False,
        True,
        "too many clients",
    ),
    (
        exc.InternalError("", {}, Exception("cannot execute UPDATE in a read-only transaction")),
        False,
        True,
        "read-only",
    ),
    # psycopg2's LockNotAvailable, where an operator has set lock_timeout.
    (
        exc.OperationalError("", {}, Exception("canceling statement due to lock timeout")),
        True,
        False,
        "lock timeout",
    ),
    # Trying again does not help.
    (
        exc.OperationalError(
            "",
            {},
            Exception(
                'connection to server at "db" failed: FATAL:  password authentication failed '
                'for user "glance"'
            ),
        ),
        False,
        False,
        "password authentication failed",
    ),
    (
        exc.ProgrammingError("SELECT s", {"p": "s"}, Exception('column "x" does not exist')),
        False,
        False,
        "does not exist",
    ),
    (exc.OperationalError("", {}, Exception("no such table: images")), False, False, "no such"),
    (db_exception.DBError(Exception("Access denied for user")), False, False, "Access denied"),
]


@pytest.mark.parametrize(("error", "conflict", "lost", "word"), SAID)
def test_what_a_database_says_is_understood(
    error: Exception, conflict: bool, lost: bool, word: str
) -> None:
    assert sql.is_conflict(error) is conflict
    if not conflict:
        assert sql.is_connection_lost(error) is lost
    assert word in sql.reason(error)


def test_a_reason_is_one_line_without_statement_and_parameters() -> None:
    cause = Exception("first line\n  second line")
    error = exc.OperationalError("SELECT secret FROM t", {"key": "secret"}, cause)
    assert sql.reason(error) == "first line second line"
    assert sql.reason(db_exception.DBError(error)) == "first line second line"


class Flaky:
    """Work in a transaction that fails so many times."""

    def __init__(self, failures: int, error: Exception) -> None:
        self.calls = 0
        self._failures = failures
        self._error = error

    def __call__(self, connection: Connection) -> int:
        self.calls += 1
        if self.calls <= self._failures:
            raise self._error
        return connection.execute(text("SELECT 42")).scalar_one()


LOCKED = exc.OperationalError("", {}, Exception("database is locked"))
LOST = exc.OperationalError("", {}, Exception("server closed the connection"))
WRONG = exc.ProgrammingError("", {}, Exception("no such column"))


@pytest.fixture
def stop() -> pool.Flag:
    return pool.Flag()


@pytest.fixture
def new_engine(tmp_path: Path, stop: pool.Flag) -> Callable[[], Engine]:
    path = tmp_path / "glance.sqlite"
    path.touch()
    conf_file = tmp_path / "scrubber.conf"
    conf_file.write_text(f"[database]\nconnection = sqlite:///{path}\n")
    conf = config.load(["--config-file", str(conf_file)])
    return lambda: Engine(conf.database, stop)


@pytest.mark.parametrize("error", [LOCKED, LOST])
@pytest.mark.parametrize("method", ["read", "write"])
def test_a_conflict_or_a_lost_connection_is_tried_again(
    new_engine: Callable[[], Engine], method: str, error: Exception
) -> None:
    database = new_engine()
    work = Flaky(2, error)
    assert getattr(database, method)(work) == 42
    assert work.calls == 3
    database.close()


def test_patience_ends(new_engine: Callable[[], Engine]) -> None:
    database = new_engine()
    database.patience = 0.05
    started = time.monotonic()
    with pytest.raises(errors.SourceUnavailable, match="server closed the connection"):
        database.read(Flaky(1000, LOST))
    assert time.monotonic() - started < 5
    database.close()


def test_nothing_is_tried_again_after_a_stop(
    new_engine: Callable[[], Engine], stop: pool.Flag
) -> None:
    database = new_engine()
    stop.set()
    work = Flaky(1000, LOST)
    with pytest.raises(errors.SourceUnavailable):
        database.read(work)
    assert work.calls == 1
    database.close()


def test_what_the_database_refuses_is_not_tried_again(new_engine: Callable[[], Engine]) -> None:
    database = new_engine()
    work = Flaky(1000, WRONG)
    with pytest.raises(errors.SourceError, match="no such column"):
        database.write(work)
    assert work.calls == 1
    database.close()


def test_a_failed_transaction_leaves_nothing_behind(new_engine: Callable[[], Engine]) -> None:
    database = new_engine()
    database.write(lambda c: c.execute(text("CREATE TABLE t (x INTEGER)")))

    def fail(connection: Connection) -> None:
        connection.execute(text("INSERT INTO t VALUES (1)"))
        raise WRONG

    with pytest.raises(errors.SourceError):
        database.write(fail)
    assert database.read(lambda c: c.execute(text("SELECT count(*) FROM t")).scalar_one()) == 0
    database.close()


def test_a_writer_locks_sqlite_before_it_reads(
    new_engine: Callable[[], Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else two scrubbers could read the same free rows, and both claim them."""
    first, second = new_engine(), new_engine()
    monkeypatch.setattr(Engine, "patience", 0.05)

    def write_in_between(connection: Connection) -> None:
        connection.execute(text("SELECT 1"))
        with pytest.raises(errors.SourceUnavailable, match="locked"):
            second.write(lambda c: c.execute(text("SELECT 1")))
        second.read(lambda c: c.execute(text("SELECT 1")))

    first.write(write_in_between)
    first.close()
    second.close()

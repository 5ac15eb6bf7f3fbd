"""SQL databases under green threads: which drivers, when to try again, what they say.

Glance's database (sources/) and scrubber's own (state/) are both reached through here.
"""

import datetime
import importlib
import logging
import re
import time
from collections.abc import Callable
from typing import ClassVar, TypeVar

import sqlalchemy
from oslo_db import exception as db_exception
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import ConnectionPoolEntry

from scrubber import errors, pool

LOG = logging.getLogger(__name__)
T = TypeVar("T")

#: Drivers that let other green threads run while they wait; each with its module.
_DRIVERS = {
    "sqlite": ("sqlite", "sqlite3"),
    "sqlite+pysqlite": ("sqlite", "sqlite3"),
    "mysql": ("mysql+pymysql", "pymysql"),
    "mysql+pymysql": ("mysql+pymysql", "pymysql"),
    "mariadb": ("mariadb+pymysql", "pymysql"),
    "mariadb+pymysql": ("mariadb+pymysql", "pymysql"),
    "postgres": ("postgresql+psycopg2", "psycopg2"),
    "postgresql": ("postgresql+psycopg2", "psycopg2"),
    "postgresql+psycopg2": ("postgresql+psycopg2", "psycopg2"),
    "postgresql+pg8000": ("postgresql+pg8000", "pg8000"),
}
_EXTRA = {"psycopg2": "scrubber[postgresql]", "pg8000": "pg8000"}
_USE_INSTEAD = {"mysql": "mysql+pymysql", "mariadb": "mysql+pymysql", "sqlite": "sqlite"}

_WRITE = "scrubber_write"

#: PostgreSQL waits for ever for a row that a stopped process has locked.  As long as InnoDB does
#: by default; not in the URL, whose options PgBouncer refuses, and not if the operator has said.
_WAIT_NO_LONGER = (
    "SELECT set_config('lock_timeout', '50s', true) WHERE current_setting('lock_timeout') = '0'"
)

#: What a server that vanished without a word must not hold up for ever.
_LIMITS = {
    "pymysql": {"connect_timeout": "10", "read_timeout": "300", "write_timeout": "60"},
    "psycopg2": {"connect_timeout": "10", "keepalives_idle": "30", "tcp_user_timeout": "60000"},
    "pg8000": {},
}


class Database:
    """Transactions on one database, retried while that makes sense.

    :param section: of the configuration, which holds the option ``connection``.
    :param stop: when set, a database that does not answer is not asked again.
    """

    #: Seconds during which a lost connection or a deadlock is tried again.
    patience = 30.0

    #: What it is called in messages, and what is raised.
    title: str
    refused: ClassVar[type[errors.ScrubberError]]
    silent: ClassVar[type[errors.ScrubberError]]

    def __init__(self, engine: sqlalchemy.Engine, section: str, stop: pool.Flag) -> None:
        self._engine = engine
        self._section = section
        self._stop = stop
        self.dialect: str = engine.dialect.name
        if self.dialect == "sqlite":
            event.listen(engine, "checkout", _leave_begin_to_us)
            event.listen(engine, "begin", _begin)
        elif self.dialect in ("mysql", "mariadb"):
            event.listen(engine, "do_connect", _read_times_quickly)
            event.listen(engine, "connect", _read_committed)

    def connect(self) -> None:
        """See that the server is there and lets us in.

        :raises ConfigError: the driver does not know an argument of the URL.
        """
        try:
            self.read(lambda _connection: None)
        except (TypeError, AttributeError, LookupError, ValueError) as error:
            raise errors.ConfigError(
                f"option connection in section [{self._section}] cannot be used: {error}"
            ) from None

    def read(self, work: Callable[[Connection], T]) -> T:
        return self._transaction(work, write=False)

    def write(self, work: Callable[[Connection], T]) -> T:
        """One transaction, done again from its start after a deadlock or a lost connection.

        A connection lost at commit may have committed: the work must bear to be repeated.
        """
        return self._transaction(work, write=True)

    def _transaction(self, work: Callable[[Connection], T], write: bool) -> T:
        started = time.monotonic()
        pause = 0.01
        while True:
            try:
                with self._engine.connect() as connection:
                    connection.execution_options(**{_WRITE: write})
                    if not write:
                        return work(connection)  # closing it ends what it has begun
                    with connection.begin():
                        if write and self.dialect == "postgresql":
                            connection.exec_driver_sql(_WAIT_NO_LONGER)
                        return work(connection)
            except (db_exception.DBError, SQLAlchemyError) as error:
                conflict = is_conflict(error)
                if not conflict and not is_connection_lost(error):
                    raise self.refused(f"{self.title} refuses: {reason(error)}") from error
                # A conflict is no outage: it passes, also where an outage is said at once.
                patience = type(self).patience if conflict else self.patience
                if (self._stop and not conflict) or time.monotonic() + pause > started + patience:
                    raise self.silent(f"{self.title} does not answer: {reason(error)}") from error
                LOG.debug("Database transaction is tried again: %s", reason(error))
            if conflict:
                pool.sleep(pause)
            else:
                self._stop.wait(pause)
            pause = min(2 * pause, 0.5 if conflict else 2.0)

    def close(self) -> None:
        self._engine.dispose()


def database_url(connection: str | None, section: str, hint: str) -> URL:
    """The URL of option ``connection``, with a driver that suits green threads.

    :param hint: what to do if there is none.
    :raises ConfigError: no URL, or one with a driver that would stop all green threads.
    """
    where = f"option connection in section [{section}]"
    if not connection:
        raise errors.ConfigError(f"{where} is not set: {hint}")
    try:
        url = make_url(connection)
    except (ArgumentError, ValueError):
        raise errors.ConfigError(f"{where} is not a database URL") from None
    try:
        name, module = _DRIVERS[url.drivername]
    except KeyError:
        kind = url.drivername.partition("+")[0]
        instead = _USE_INSTEAD.get(kind, "postgresql+psycopg2")
        raise errors.ConfigError(
            f"{where}: driver {url.drivername} cannot be used, it would stop all parallel work "
            f"while it waits; write {instead}://"
        ) from None
    try:
        importlib.import_module(module)
    except ImportError:
        raise errors.ConfigError(
            f"{where} needs the Python module {module}: pip install {_EXTRA.get(module, module)}"
        ) from None
    url = url.set(drivername=name)
    if name == "sqlite":
        # A lock wait inside SQLite stops every green thread; 0 makes it our own retry.
        return url.update_query_dict({"timeout": "0"})
    return url.update_query_dict(
        {name: value for name, value in _LIMITS[module].items() if name not in url.query}
    )


def _leave_begin_to_us(_connection: object, record: ConnectionPoolEntry, _proxy: object) -> None:
    record.info["in_transaction"] = True  # else oslo.db begins, and always DEFERRED


def _begin(connection: Connection) -> None:
    """SQLite knows no FOR UPDATE: a writer locks the database before it reads."""
    write = connection.get_execution_options()[_WRITE]
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _read_times_quickly(
    _dialect: object, _record: object, _args: object, parameters: dict[str, object]
) -> None:
    """PyMySQL's own way with a time costs more than all else in a row."""
    from pymysql.constants import FIELD_TYPE
    from pymysql.converters import conversions, convert_datetime

    def moment(text: str) -> object:
        try:
            return datetime.datetime.fromisoformat(text)
        except ValueError:
            return convert_datetime(text)

    times = dict.fromkeys((FIELD_TYPE.DATETIME, FIELD_TYPE.TIMESTAMP), moment)
    parameters["conv"] = conversions | times


def _read_committed(connection: object, _record: object) -> None:
    """REPEATABLE READ would lock gaps in the tables and show yesterday's rows.

    On Galera a read must also wait for what other nodes have committed.
    """
    with connection.cursor() as cursor:  # type: ignore[attr-defined]
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        cursor.execute("SHOW VARIABLES WHERE Variable_name = 'wsrep_on'")
        row = cursor.fetchone()
        if row and row[1] == "ON":
            cursor.execute("SET SESSION wsrep_sync_wait = 1")


# What oslo.db takes for no deadlock: SQLite's words, and PostgreSQL's under lock_timeout.
_CONFLICT = re.compile(r"database is locked|due to lock timeout")


def is_conflict(error: Exception) -> bool:
    return isinstance(error, db_exception.DBDeadlock) or bool(_CONFLICT.search(str(error)))


# PostgreSQL has no error numbers for these, and oslo.db knows the words of older servers.
_LOST = re.compile(
    r"connection refused|server closed the connection|connection timed out|timeout expired"
    r"|terminating connection|connection to server .* failed: (?!fatal)|lost connection"
    r"|the database system is (starting|shutting)|too many (clients|connections)"
    r"|connection already closed|connection has been closed|read.only",
    re.IGNORECASE | re.DOTALL,
)


def is_connection_lost(error: Exception) -> bool:
    if isinstance(error, db_exception.DBConnectionError | PoolTimeoutError):
        return True
    cause = getattr(error, "inner_exception", None) or error
    return bool(getattr(cause, "connection_invalidated", False)) or bool(_LOST.search(str(cause)))


def reason(error: BaseException) -> str:
    """What the driver says, on one line, without the statement and its parameters."""
    for attribute in ("inner_exception", "orig"):
        error = getattr(error, attribute, None) or error
    return " ".join(str(error).split())

"""The connection to Glance's database: which drivers, which isolation, when to try again."""

import importlib
import logging
import os
import re
import time
from collections.abc import Callable
from typing import TypeVar

from oslo_config import cfg
from oslo_db import exception as db_exception
from oslo_db.sqlalchemy import engines
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

#: What a server that vanished without a word must not hold up for ever.
_LIMITS = {
    "pymysql": {"connect_timeout": "10", "read_timeout": "300", "write_timeout": "60"},
    "psycopg2": {"connect_timeout": "10", "keepalives_idle": "30", "tcp_user_timeout": "60000"},
    "pg8000": {},
}


class Engine:
    """Transactions on Glance's database, retried while that makes sense.

    :param stop: when set, nothing is tried again any more.
    """

    #: Seconds during which a lost connection or a deadlock is tried again.
    patience = 30.0

    def __init__(self, options: cfg.ConfigOpts.GroupAttr, stop: pool.Flag) -> None:
        self._stop = stop
        url = _url(options.connection)
        # Ours are the retries: oslo.db's own would hold up the first call for minutes.
        self._engine = engines.create_engine(
            url,
            max_retries=0,
            mysql_sql_mode=options.mysql_sql_mode,
            mysql_wsrep_sync_wait=options.mysql_wsrep_sync_wait,
            connection_recycle_time=options.connection_recycle_time,
            connection_debug=options.connection_debug,
            connection_parameters=options.connection_parameters,
            max_pool_size=options.max_pool_size,
            # A green thread waits for a connection sooner than it opens one: that costs
            # more than most queries, and databases have better uses for connections.
            max_overflow=0,
            # SQLite's pool has none, and oslo.db does not know that.
            pool_timeout=None if url.get_backend_name() == "sqlite" else options.pool_timeout,
        )
        self.dialect: str = self._engine.dialect.name
        if self.dialect == "sqlite":
            event.listen(self._engine, "checkout", _leave_begin_to_us)
            event.listen(self._engine, "begin", _begin)
        elif self.dialect in ("mysql", "mariadb"):
            event.listen(self._engine, "connect", _read_committed)

    @property
    def skips_locked(self) -> bool:
        """Whether the server knows SKIP LOCKED; without it a claim waits for another's."""
        if self.dialect == "postgresql":
            return True
        version = self._engine.dialect.server_version_info or (0,)
        if getattr(self._engine.dialect, "is_mariadb", False):
            return version >= (10, 6)
        return self.dialect == "mysql" and version >= (8, 0, 1)

    def connect(self) -> None:
        """See that the server is there and lets us in.

        :raises ConfigError: the driver does not know an argument of the URL.
        """
        try:
            self.read(lambda _connection: None)
        except (TypeError, AttributeError, LookupError, ValueError) as error:
            raise errors.ConfigError(
                f"option connection in section [database] cannot be used: {error}"
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
                    with connection.begin():
                        return work(connection)
            except (db_exception.DBError, SQLAlchemyError) as error:
                conflict = _is_conflict(error)
                if not conflict and not _is_connection_lost(error):
                    raise errors.SourceError(f"the database refuses: {_reason(error)}") from error
                # A conflict is no outage: it passes, also where an outage is said at once.
                patience = Engine.patience if conflict else self.patience
                if (self._stop and not conflict) or time.monotonic() + pause > started + patience:
                    raise errors.SourceUnavailable(
                        f"the database does not answer: {_reason(error)}"
                    ) from error
                LOG.debug("Database transaction is tried again: %s", _reason(error))
            self._stop.wait(pause)
            pause = min(2 * pause, 0.5 if conflict else 2.0)

    def close(self) -> None:
        self._engine.dispose()


def _url(connection: str | None) -> URL:
    """The URL with a driver that suits green threads.

    :raises ConfigError: no URL, or one with a driver that would stop all green threads.
    """
    where = "option connection in section [database]"
    if not connection:
        raise errors.ConfigError(f"{where} is not set: copy it from glance-api.conf")
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
        return _sqlite_url(url, where)
    return url.update_query_dict(
        {name: value for name, value in _LIMITS[module].items() if name not in url.query}
    )


def _sqlite_url(url: URL, where: str) -> URL:
    # SQLite would create an empty database and find no images in it.
    if url.database and not os.path.exists(url.database):
        raise errors.ConfigError(f"{where}: there is no file {url.database}")
    # A lock wait inside SQLite stops every green thread; 0 makes it our own retry.
    return url.update_query_dict({"timeout": "0"})


def _leave_begin_to_us(_connection: object, record: ConnectionPoolEntry, _proxy: object) -> None:
    record.info["in_transaction"] = True  # else oslo.db begins, and always DEFERRED


def _begin(connection: Connection) -> None:
    """SQLite knows no FOR UPDATE: a writer locks the database before it reads."""
    write = connection.get_execution_options()[_WRITE]
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _read_committed(connection: object, _record: object) -> None:
    """REPEATABLE READ would lock gaps in Glance's tables and show yesterday's rows.

    On Galera a read must also wait for what other nodes have committed.
    """
    with connection.cursor() as cursor:  # type: ignore[attr-defined]
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        cursor.execute("SHOW VARIABLES WHERE Variable_name = 'wsrep_on'")
        row = cursor.fetchone()
        if row and row[1] == "ON":
            cursor.execute("SET SESSION wsrep_sync_wait = 1")


def _is_conflict(error: Exception) -> bool:
    return isinstance(error, db_exception.DBDeadlock) or "database is locked" in str(error)


# PostgreSQL has no error numbers for these, and oslo.db knows the words of older servers.
_LOST = re.compile(
    r"connection refused|server closed the connection|connection timed out|timeout expired"
    r"|terminating connection|connection to server .* failed: (?!fatal)|lost connection"
    r"|the database system is (starting|shutting)|too many (clients|connections)"
    r"|connection already closed|connection has been closed|read.only",
    re.IGNORECASE | re.DOTALL,
)


def _is_connection_lost(error: Exception) -> bool:
    if isinstance(error, db_exception.DBConnectionError | PoolTimeoutError):
        return True
    cause = getattr(error, "inner_exception", None) or error
    return bool(getattr(cause, "connection_invalidated", False)) or bool(_LOST.search(str(cause)))


def _reason(error: BaseException) -> str:
    """What the driver says, on one line, without the statement and its parameters."""
    for attribute in ("inner_exception", "orig"):
        error = getattr(error, attribute, None) or error
    return " ".join(str(error).split())

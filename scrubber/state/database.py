"""The state database: its file or server, its version, its transactions.

SQLite keeps its default journal: one file, safe against kill -9 and power loss, and readable for
whoever may read that file. Writers are few and quick, so that readers need not pass them.
"""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

from oslo_db.sqlalchemy import engines
from sqlalchemy import DateTime, Insert, Table, select, update
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.engine import URL, Connection

from scrubber import errors, pool, sql
from scrubber.options import STATE_SECTION
from scrubber.state import versions

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

T = TypeVar("T")

#: A server that takes connections and says nothing is given up after so long: nobody waits for
#: what is remembered.
HANG_SECONDS = 15.0

#: A moment in naive UTC, to the microsecond.
MOMENT = DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")

#: A word of what a database says; what to do about it.
_ADVICE = {
    "not a database": "move the file away, and scrubber makes a new one",
    "malformed": "move the file away, and scrubber makes a new one",
    "readonly": "give this user write access to the file and its directory",
    "unable to open": "give this user write access to the file and its directory",
    "locked": "find the process that keeps it locked",
    "full": "make room",
    "no such table": "was the file replaced?",
}


class StateDatabase(sql.Database):
    """Transactions on the state database, none of which holds up a run for long.

    It is looked at, made and migrated at once.

    :param connection: its URL.
    :param stop: when set, a database that does not answer is not asked again.
    :param create: make the database if it is not there, and see that it can be written.
    :raises ConfigError: the URL cannot be used.
    :raises StateMissing: there is no database, and none was to be made.
    :raises StateUnavailable: the database cannot be used.
    """

    patience = 5.0
    refused = silent = errors.StateUnavailable

    def __init__(
        self,
        connection: str,
        stop: pool.Flag,
        *,
        create: bool = True,
        migrations: Path = versions.MIGRATIONS,
    ) -> None:
        url = sql.database_url(connection, STATE_SECTION, "give a URL")
        path = _path(url)
        self.title = f"state database {path or _without_secrets(url)}"
        if path:
            _see_to_file(path, create)
            url = _existing_file(url, path)
        if url.get_driver_name() == "pymysql":
            # Also if it was copied from Glance's: a store may say anything.
            url = url.update_query_dict({"charset": "utf8mb4"})
        # Retries are ours: oslo.db's own would hold up the first call for minutes.
        engine = engines.create_engine(url, max_retries=0, mysql_sql_mode="TRADITIONAL")
        super().__init__(engine, STATE_SECTION, stop)
        try:
            self.connect()
            versions.bring_up_to_date(self, create, migrations)
            if create:
                self.write(_try_to_write)
        except BaseException:
            self.close()
            raise

    def write_alone(self, work: Callable[[Connection], T]) -> T:
        """One writer at a time: what locks many rows, in whatever order, would lock out others."""

        def alone(connection: Connection) -> T:
            connection.execute(select(versions.VERSION).with_for_update())
            return work(connection)

        return self.write(alone)

    def _transaction(self, work: Callable[[Connection], T], write: bool) -> T:
        try:
            return pool.within(HANG_SECONDS, super()._transaction, work, write)
        except TimeoutError as late:
            raise errors.StateUnavailable(f"{self.title} does not answer: {late}") from None
        except errors.StateUnavailable as problem:
            said = str(problem).removeprefix(self.title)
            advice = next((f": {todo}" for word, todo in _ADVICE.items() if word in said), "")
            raise errors.StateUnavailable(f"{problem}{advice}") from problem


def _try_to_write(connection: Connection) -> None:
    """A file system or a server may let us read and refuse the first write."""
    version = versions.VERSION
    connection.execute(update(version).values(version_num=version.c.version_num))


def storable(text: str, longest: int) -> str:
    """Some databases refuse NULs, all of them half a character of UTF-16."""
    text = text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def upsert(table: Table, dialect: str) -> Insert:
    """A statement that writes rows whole, new ones and those of a known primary key."""
    key = [column.name for column in table.primary_key]
    others = [column.name for column in table.c if column.name not in key]
    if dialect in ("mysql", "mariadb"):
        insert = mysql.insert(table)
        return insert.on_duplicate_key_update({name: insert.inserted[name] for name in others})
    # The same words in two classes.
    into = sqlite.insert(table) if dialect == "sqlite" else _insert_of_postgresql(table)
    values = {name: into.excluded[name] for name in others}
    return into.on_conflict_do_update(index_elements=key, set_=values)


def _insert_of_postgresql(table: Table) -> "postgresql.Insert":
    from sqlalchemy.dialects import postgresql  # long to import, where others use another

    return postgresql.insert(table)


# The file of SQLite -----------------------------------------------------------------------


def _path(url: URL) -> Path | None:
    """The file that holds it; None for servers, for memory, and for SQLite's own URIs."""
    if url.get_backend_name() != "sqlite" or "uri" in url.query:
        return None
    return Path(url.database) if url.database and url.database != ":memory:" else None


def _see_to_file(path: Path, create: bool) -> None:
    """See that it is there; it and its directory are private, as images' owners are."""
    try:
        if _exists(path):
            return
        if not create:
            raise errors.StateMissing(
                f"there is no state database {path}: no scrubber has run with it yet"
            )
        with contextlib.suppress(FileExistsError):
            path.parent.mkdir(mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise errors.StateUnavailable(
            f"state database {path}: {error.filename}: {error.strerror}: make its directory and "
            "give it to this user"
        ) from error


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        return False
    return True


def _existing_file(url: URL, path: Path) -> URL:
    """SQLite would make a file that was removed anew, for all to read and without tables."""
    uri = f"file:{quote(str(path.absolute()))}"
    return url.set(database=uri).update_query_dict({"mode": "rw", "uri": "true"})


def _without_secrets(url: URL) -> str:
    return f"{url.database} at {url.host}" if url.host else str(url.database or "in memory")

"""The retry ledger in a database: SQLite by default, MySQL, MariaDB or PostgreSQL for many hosts.

SQLite keeps its default journal: one file, safe against kill -9 and power loss, and readable for
whoever may read that file. Writers are few and quick, so that readers need not pass them.
"""

import contextlib
import datetime
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from oslo_db.sqlalchemy import engines
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    DateTime,
    Insert,
    Integer,
    MetaData,
    Row,
    String,
    Table,
    Text,
    and_,
    delete,
    literal,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.engine import URL, Connection

from scrubber import config, errors, pool, sql
from scrubber.planning.retry import Trouble
from scrubber.state import versions
from scrubber.state.base import Entry, Key

T = TypeVar("T")

_MOMENT = DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")

RETRIES = Table(
    "scrubber_retries",
    MetaData(),
    Column("image_id", String(36), primary_key=True),
    Column("location_id", BigInteger, primary_key=True, autoincrement=False),
    Column("store", String(255)),
    Column("owner", String(255)),
    Column("size", BigInteger),
    Column("attempts", Integer),
    Column("first_failed_at", _MOMENT),
    Column("next_try_at", _MOMENT),
    Column("last_error", Text),
)
_COLUMNS = RETRIES.c
_KEY = tuple_(_COLUMNS.image_id, _COLUMNS.location_id)

#: Keys in one statement, entries in one read: SQLite takes 32,766 parameters.
_CHUNK = 1000

_LONGEST_NAME = 255
_LONGEST_ERROR = 1000
_MOST_ATTEMPTS = 2**31 - 1

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


class SqlLedger:
    """The ledger in the database of a URL; it is looked at, made and migrated at once.

    :param create: make the database if it is not there, and see that it can be written.
    :param stop: when set, a database that does not answer is not asked again.
    :raises ConfigError: the URL cannot be used.
    :raises StateMissing: there is no database, and none was to be made.
    :raises StateUnavailable: the database cannot be used.
    """

    def __init__(
        self,
        connection: str,
        stop: pool.Flag,
        *,
        create: bool = True,
        migrations: Path = versions.MIGRATIONS,
    ) -> None:
        url = sql.database_url(connection, config.STATE_SECTION, "give a URL")
        if path := _path(url):
            _see_to_file(path, create)
            url = _existing_file(url, path)
        self._database = StateDatabase(url, str(path or _without_secrets(url)), stop)
        try:
            self._database.connect()
            versions.bring_up_to_date(self._database, create, migrations)
            if create:
                self._write(_try_to_write)
        except BaseException:
            self.close()
            raise

    def of(self, keys: Collection[Key]) -> dict[int, Entry]:
        wanted, found = set(keys), dict[int, Entry]()
        for some in _chunks(sorted(wanted)):
            # By images alone: pairs cost nearly twice as much, and most have no entry at all.
            rows = select(RETRIES).where(_COLUMNS.image_id.in_({key.image for key in some}))
            found.update((at.location, at) for at in self._select(rows) if at.key in wanted)
        return found

    def record(self, entries: Collection[Entry]) -> None:
        # Once each: PostgreSQL refuses to update a row twice.
        rows = {entry.key: _row(entry) for entry in entries}
        statement = _upsert(self._database.dialect)
        if rows:
            self._write(lambda connection: connection.execute(statement, list(rows.values())))

    def forget(self, keys: Collection[Key]) -> None:
        chunks = list(_chunks(sorted(keys)))

        def work(connection: Connection) -> None:
            for some in chunks:
                connection.execute(delete(RETRIES).where(_among(some)))

        if chunks:
            self._write(work)

    def entries(self, store: str | None = None, image: str | None = None) -> Iterator[Entry]:
        """A page at a time, so that no writer waits for whoever reads the list."""
        order = (_COLUMNS.first_failed_at, _COLUMNS.image_id, _COLUMNS.location_id)
        rows = select(RETRIES).where(*_matching(image, store)).order_by(*order).limit(_CHUNK)
        page = self._select(rows)
        while page:
            yield from page
            page = self._select(rows.where(_after(page[-1])))

    def retry(
        self, now: datetime.datetime, image: str | None = None, store: str | None = None
    ) -> int:
        statement = update(RETRIES).where(*_matching(image, store)).values(next_try_at=now)
        return self._write(lambda connection: connection.execute(statement).rowcount)

    def close(self) -> None:
        self._database.close()

    def _write(self, work: Callable[[Connection], T]) -> T:
        """One writer at a time: what locks many rows, in whatever order, would lock out others."""

        def alone(connection: Connection) -> T:
            connection.execute(select(versions.VERSION).with_for_update())
            return work(connection)

        return self._database.write(alone)

    def _select(self, rows: Any) -> list[Entry]:
        try:
            return self._database.read(
                lambda connection: [_entry(row) for row in connection.execute(rows)]
            )
        except (ValueError, TypeError) as odd:
            raise errors.StateUnavailable(
                f"{self._database.title} holds what no scrubber wrote: {odd}"
            ) from odd


class StateDatabase(sql.Database):
    """Transactions on the state database, none of which holds up a run for long."""

    patience = 5.0
    refused = silent = errors.StateUnavailable

    def __init__(self, url: URL, name: str, stop: pool.Flag) -> None:
        self.title = f"state database {name}"
        if url.get_driver_name() == "pymysql":
            # Also if it was copied from Glance's: a store may say anything.
            url = url.update_query_dict({"charset": "utf8mb4"})
        # Retries are ours: oslo.db's own would hold up the first call for minutes.
        engine = engines.create_engine(url, max_retries=0, mysql_sql_mode="TRADITIONAL")
        super().__init__(engine, config.STATE_SECTION, stop)

    def _transaction(self, work: Callable[[Connection], T], write: bool) -> T:
        try:
            return super()._transaction(work, write)
        except errors.StateUnavailable as problem:
            said = str(problem).removeprefix(self.title)
            advice = next((f": {todo}" for word, todo in _ADVICE.items() if word in said), "")
            raise errors.StateUnavailable(f"{problem}{advice}") from problem


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


def _try_to_write(connection: Connection) -> None:
    """A file system or a server may let us read and refuse the first write."""
    nobody = Entry(0, f"probe-{os.getpid()}", "", None, None, Trouble(0, _LONG_AGO, _LONG_AGO, ""))
    connection.execute(_upsert(connection.dialect.name), [_row(nobody)])
    connection.execute(delete(RETRIES).where(_among([nobody.key])))


_LONG_AGO = datetime.datetime(2000, 1, 1)


# Statements -------------------------------------------------------------------------------


def _upsert(dialect: str) -> Insert:
    values = [column for column in _COLUMNS if not column.primary_key]
    if dialect in ("mysql", "mariadb"):
        insert = mysql.insert(RETRIES)
        return insert.on_duplicate_key_update({c.name: insert.inserted[c.name] for c in values})
    # The same words in two classes.
    into = sqlite.insert(RETRIES) if dialect == "sqlite" else postgresql.insert(RETRIES)
    return into.on_conflict_do_update(
        index_elements=[_COLUMNS.image_id, _COLUMNS.location_id],
        set_={c.name: into.excluded[c.name] for c in values},
    )


def _among(keys: Collection[Key]) -> ColumnElement[bool]:
    """The images too: not every database looks up pairs in an index."""
    return and_(
        _COLUMNS.image_id.in_({key.image for key in keys}),
        _KEY.in_([(key.image, key.location) for key in keys]),
    )


def _matching(image: str | None, store: str | None) -> list[ColumnElement[bool]]:
    wanted = ((_COLUMNS.image_id, image), (_COLUMNS.store, store))
    return [column == value for column, value in wanted if value is not None]


def _after(last: Entry) -> ColumnElement[bool]:
    first = last.trouble.first_failed_at
    return and_(
        _COLUMNS.first_failed_at >= first,
        tuple_(_COLUMNS.first_failed_at, _COLUMNS.image_id, _COLUMNS.location_id)
        > tuple_(literal(first, _MOMENT), literal(last.image), literal(last.location)),
    )


def _chunks(keys: list[Key]) -> Iterator[list[Key]]:
    return (keys[start : start + _CHUNK] for start in range(0, len(keys), _CHUNK))


# Rows -------------------------------------------------------------------------------------


def _row(entry: Entry) -> dict[str, object]:
    trouble = entry.trouble
    return {
        "image_id": entry.image,
        "location_id": entry.location,
        "store": _storable(entry.store, _LONGEST_NAME),
        "owner": None if entry.owner is None else _storable(entry.owner, _LONGEST_NAME),
        "size": entry.size,
        "attempts": min(trouble.attempts, _MOST_ATTEMPTS),
        "first_failed_at": trouble.first_failed_at,
        "next_try_at": trouble.next_try_at,
        "last_error": _storable(trouble.last_error, _LONGEST_ERROR),
    }


def _storable(text: str, longest: int) -> str:
    """Some databases refuse NULs, all of them half a character of UTF-16."""
    text = text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _entry(row: Row[Any]) -> Entry:
    return Entry(
        location=row.location_id,
        image=row.image_id,
        store=row.store,
        owner=row.owner,
        size=row.size,
        trouble=Trouble(row.attempts, row.first_failed_at, row.next_try_at, row.last_error),
    )

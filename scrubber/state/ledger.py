"""The retry ledger in the state database."""

import datetime
from collections.abc import Collection, Iterator
from typing import Any, TypeVar

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Integer,
    MetaData,
    Row,
    String,
    Table,
    Text,
    and_,
    delete,
    func,
    literal,
    select,
    tuple_,
    update,
)
from sqlalchemy.engine import Connection

from scrubber import errors
from scrubber.planning.retry import Trouble
from scrubber.state.base import Entry, Key
from scrubber.state.database import MOMENT, StateDatabase, storable, upsert

T = TypeVar("T")

RETRIES = Table(
    "scrubber_retries",
    MetaData(),
    Column("image_id", String(36), primary_key=True),
    Column("location_id", BigInteger, primary_key=True, autoincrement=False),
    Column("store", String(255)),
    Column("owner", String(255)),
    Column("size", BigInteger),
    Column("attempts", Integer),
    Column("first_failed_at", MOMENT),
    Column("next_try_at", MOMENT),
    Column("last_error", Text),
)
_COLUMNS = RETRIES.c
_KEY = tuple_(_COLUMNS.image_id, _COLUMNS.location_id)

#: Keys in one statement, entries in one read: SQLite takes 32,766 parameters.
_CHUNK = 1000

_LONGEST_NAME = 255
_LONGEST_ERROR = 1000
_MOST_ATTEMPTS = 2**31 - 1


class SqlLedger:
    """The ledger in the state database."""

    def __init__(self, database: StateDatabase) -> None:
        self._database = database

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
        statement = upsert(RETRIES, self._database.dialect)
        if rows:
            self._database.write_alone(
                lambda connection: connection.execute(statement, list(rows.values()))
            )

    def forget(self, keys: Collection[Key]) -> None:
        chunks = list(_chunks(sorted(keys)))

        def work(connection: Connection) -> None:
            for some in chunks:
                connection.execute(delete(RETRIES).where(_among(some)))

        if chunks:
            self._database.write_alone(work)

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
        return self._database.write_alone(lambda connection: connection.execute(statement).rowcount)

    def count(self) -> int:
        """How many locations are remembered."""
        counting = select(func.count()).select_from(RETRIES)
        return self._database.read(lambda connection: connection.execute(counting).scalar_one())

    def parked(self, attempts: int) -> dict[str, int]:
        """How many locations of each store have failed so often."""
        counting = (
            select(_COLUMNS.store, func.count())
            .where(_COLUMNS.attempts >= attempts)
            .group_by(_COLUMNS.store)
        )
        return self._database.read(
            lambda connection: dict(connection.execute(counting).tuples().all())
        )

    def close(self) -> None:
        self._database.close()

    def _select(self, rows: Any) -> list[Entry]:
        try:
            return self._database.read(
                lambda connection: [_entry(row) for row in connection.execute(rows)]
            )
        except (ValueError, TypeError) as odd:
            raise errors.StateUnavailable(
                f"{self._database.title} holds what no scrubber wrote: {odd}"
            ) from odd


# Statements -------------------------------------------------------------------------------


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
        > tuple_(literal(first, MOMENT), literal(last.image), literal(last.location)),
    )


def _chunks(keys: list[Key]) -> Iterator[list[Key]]:
    return (keys[start : start + _CHUNK] for start in range(0, len(keys), _CHUNK))


# Rows -------------------------------------------------------------------------------------


def _row(entry: Entry) -> dict[str, object]:
    trouble = entry.trouble
    return {
        "image_id": entry.image,
        "location_id": entry.location,
        "store": storable(entry.store, _LONGEST_NAME),
        "owner": None if entry.owner is None else storable(entry.owner, _LONGEST_NAME),
        "size": entry.size,
        "attempts": min(trouble.attempts, _MOST_ATTEMPTS),
        "first_failed_at": trouble.first_failed_at,
        "next_try_at": trouble.next_try_at,
        "last_error": storable(trouble.last_error, _LONGEST_ERROR),
    }


def _entry(row: Row[Any]) -> Entry:
    return Entry(
        location=row.location_id,
        image=row.image_id,
        store=row.store,
        owner=row.owner,
        size=row.size,
        trouble=Trouble(row.attempts, row.first_failed_at, row.next_try_at, row.last_error),
    )

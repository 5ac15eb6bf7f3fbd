"""What scrubber processes do, and what operators order: runs, processes and stores in SQL.

A process writes down its runs and now and then a sign of life; operators, on whatever host,
write what they want of it, and it looks twice a second.
"""

import datetime
import json
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

from sqlalchemy import (
    Boolean,
    Column,
    Executable,
    Float,
    Integer,
    MetaData,
    Row,
    Select,
    String,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Connection

from scrubber import errors
from scrubber.orders import StoreOrder
from scrubber.state.database import MOMENT, StateDatabase, storable, upsert
from scrubber.state.records import (
    RUNNING,
    SILENCE,
    Figures,
    ProcessRecord,
    RunRecord,
    Wishes,
    count,
)

LOG = logging.getLogger(__name__)
T = TypeVar("T")

_METADATA = MetaData()
_DOCUMENT = Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")

RUNS = Table(
    "scrubber_runs",
    _METADATA,
    Column("id", String(36), primary_key=True),
    Column("process_id", String(36)),
    Column("host", String(255)),
    Column("pid", Integer),
    Column("trigger_name", String(64)),
    Column("status", String(32)),
    Column("started_at", MOMENT),
    Column("seen_at", MOMENT),
    Column("finished_at", MOMENT),
    Column("cancel_asked", Boolean),
    Column("figures", _DOCUMENT),
    Column("report", _DOCUMENT),
)

PROCESSES = Table(
    "scrubber_processes",
    _METADATA,
    Column("id", String(36), primary_key=True),
    Column("host", String(255)),
    Column("pid", Integer),
    Column("version", String(32)),
    Column("started_at", MOMENT),
    Column("seen_at", MOMENT),
    Column("run_asked_at", MOMENT),
    Column("doing", _DOCUMENT),
)

STORES = Table(
    "scrubber_stores",
    _METADATA,
    Column("store", String(255), primary_key=True),
    Column("paused", Boolean),
    Column("max_rate", Float),
    Column("changed_at", MOMENT),
)

#: What reading a row raises that no scrubber wrote.
_ODD = (ValueError, TypeError, LookupError, AttributeError, RecursionError)


class Unreadable(errors.StateUnavailable):
    """What was asked for is nothing that a scrubber wrote; the database itself can be used."""


class Activity:
    """The three tables.

    Lists leave out what no scrubber wrote.

    :raises StateUnavailable: every method.
    """

    def __init__(self, database: StateDatabase) -> None:
        self._database = database

    # What a process says of itself ----------------------------------------------------

    def save_run(self, run: RunRecord) -> None:
        """As it is now; whether it is to be cancelled is not this process's to say."""
        values = {
            "process_id": run.process,
            "host": storable(run.host, 255),
            "pid": run.pid,
            "trigger_name": storable(run.trigger, 64),
            "status": run.status,
            "started_at": run.started_at,
            "seen_at": run.seen_at,
            "finished_at": run.finished_at,
            "figures": json.dumps(run.figures.as_dict()),
            "report": json.dumps(run.report),
        }
        self._save(RUNS, run.id, values, {"cancel_asked": False})

    def save_process(self, process: ProcessRecord) -> None:
        values = {
            "host": storable(process.host, 255),
            "pid": process.pid,
            "version": storable(process.version, 32),
            "started_at": process.started_at,
            "seen_at": process.seen_at,
            "doing": json.dumps(process.doing),
        }
        self._save(PROCESSES, process.id, values, {})

    def _save(
        self, table: Table, row: str, values: dict[str, object], at_first: dict[str, object]
    ) -> None:
        def work(connection: Connection) -> None:
            found = connection.execute(update(table).where(table.c.id == row).values(values))
            if not found.rowcount:
                connection.execute(insert(table).values(id=row, **values, **at_first))

        self._database.write(work)

    def forget_process(self, process: str) -> None:
        """It ended in peace."""
        statement = delete(PROCESSES).where(PROCESSES.c.id == process)
        self._database.write(lambda connection: connection.execute(statement))

    def forget_before(self, moment: datetime.datetime) -> None:
        """Runs and processes that were last heard of before that."""

        def work(connection: Connection) -> None:
            for table in (RUNS, PROCESSES):
                connection.execute(delete(table).where(table.c.seen_at < moment))

        self._database.write(work)

    def wishes(self, process: str, run: str | None) -> Wishes:
        asked = select(PROCESSES.c.run_asked_at).where(PROCESSES.c.id == process)
        cancelled = select(RUNS.c.cancel_asked).where(RUNS.c.id == run)

        def work(connection: Connection) -> Wishes:
            return Wishes(
                dict(_readable(connection, select(STORES), _named_order)),
                next(_readable(connection, asked, lambda row: _moment_or_none(row[0])), None),
                any(_readable(connection, cancelled, lambda row: bool(row[0]))),
            )

        return self._read(work)

    # What operators ask ---------------------------------------------------------------

    def runs(self, limit: int) -> list[RunRecord]:
        """The last ones, the newest first, without their reports."""
        columns = (column for column in RUNS.c if column is not RUNS.c.report)
        order = RUNS.c.started_at.desc(), RUNS.c.id.desc()
        return self._list(select(*columns).order_by(*order).limit(limit), _run)

    def last_ends(self) -> dict[str, datetime.datetime]:
        """When the last run of each status ended, on whatever host."""
        rows = (
            select(RUNS.c.status, func.max(RUNS.c.finished_at).label("ended_at"))
            .where(RUNS.c.finished_at.is_not(None))
            .group_by(RUNS.c.status)
        )
        return dict(self._list(rows, lambda row: (str(row.status), _moment(row.ended_at))))

    def run(self, which: str) -> RunRecord | None:
        """The one whose id begins so, if there is only one, with its report."""
        if not which:
            return None  # every id begins so
        rows = select(RUNS).where(RUNS.c.id.startswith(which, autoescape=True)).limit(2)

        def work(connection: Connection) -> list[RunRecord]:
            return [_whole_run(row) for row in connection.execute(rows)]

        found = self._read(work)
        return found[0] if len(found) == 1 else None

    def processes(self) -> list[ProcessRecord]:
        return self._list(
            select(PROCESSES).order_by(PROCESSES.c.host, PROCESSES.c.started_at), _process
        )

    def store_orders(self) -> dict[str, StoreOrder]:
        """By name; the name ``""`` stands for all stores."""
        return self.wishes("", None).stores

    def _list(self, rows: Select[Any], understand: Callable[[Row[Any]], T]) -> list[T]:
        return self._read(lambda connection: list(_readable(connection, rows, understand)))

    def _read(self, work: Callable[[Connection], T]) -> T:
        try:
            return self._database.read(work)
        except _ODD as odd:
            raise Unreadable(f"{self._database.title} holds what no scrubber wrote: {odd}") from odd

    def cancel(self, run: str) -> bool:
        """Ask for its end; whether it is under way."""
        statement = (
            update(RUNS).where(RUNS.c.id == run, RUNS.c.status == RUNNING).values(cancel_asked=True)
        )
        return bool(self._database.write(lambda connection: connection.execute(statement).rowcount))

    def ask_for_run(self, now: datetime.datetime, host: str | None = None) -> int:
        """Ask the processes of a host, or all, for a run now; how many were asked."""
        statement = (
            update(PROCESSES).values(run_asked_at=now).where(PROCESSES.c.seen_at > now - SILENCE)
        )
        if host is not None:
            statement = statement.where(PROCESSES.c.host == host)
        return self._database.write(lambda connection: connection.execute(statement).rowcount)

    def change(
        self, now: datetime.datetime, store: str, change: Callable[[StoreOrder], StoreOrder]
    ) -> StoreOrder:
        """Order something of this store, ``""`` for all, in the place of what held until now.

        :param change: makes the new order of the old one, maybe more than once; nobody else
            changes it meanwhile.
        :returns: what holds from now on.
        """
        of_store = STORES.c.store == store

        def work(connection: Connection) -> StoreOrder:
            known = dict(_readable(connection, select(STORES).where(of_store), _named_order))
            order = change(known.get(store, StoreOrder()))
            connection.execute(self._saving(now, store, order))
            return order

        return self._database.write_alone(work)

    def _saving(self, now: datetime.datetime, store: str, order: StoreOrder) -> Executable:
        if order == StoreOrder():
            return delete(STORES).where(STORES.c.store == store)
        return upsert(STORES, self._database.dialect).values(
            store=store, paused=order.paused, max_rate=order.max_rate, changed_at=now
        )


# Rows, which somebody else may have written -------------------------------------------------


def _readable(
    connection: Connection, rows: Select[Any], understand: Callable[[Row[Any]], T]
) -> Iterator[T]:
    """Those that are what a scrubber writes."""
    found = connection.execute(rows)
    while True:
        try:
            # One by one: the first odd one would end an iteration.
            row = found.fetchone()
            if row is None:
                return
            understood = understand(row)
        except _ODD as odd:
            LOG.debug("A row of the state database is left out: %r", odd)
            continue
        yield understood


def _run(row: Row[Any]) -> RunRecord:
    return RunRecord(
        id=str(row.id),
        process=str(row.process_id),
        host=str(row.host),
        pid=count(row.pid),
        trigger=str(row.trigger_name),
        status=str(row.status),
        started_at=_moment(row.started_at),
        seen_at=_moment(row.seen_at),
        finished_at=_moment_or_none(row.finished_at),
        figures=Figures.of_document(_document(row.figures)),
        cancel_asked=bool(row.cancel_asked),
    )


def _whole_run(row: Row[Any]) -> RunRecord:
    return replace(_run(row), report=_document(row.report))


def _process(row: Row[Any]) -> ProcessRecord:
    return ProcessRecord(
        id=str(row.id),
        host=str(row.host),
        pid=count(row.pid),
        version=str(row.version),
        started_at=_moment(row.started_at),
        seen_at=_moment(row.seen_at),
        doing=_document(row.doing),
    )


def _named_order(row: Row[Any]) -> tuple[str, StoreOrder]:
    rate = row.max_rate
    sensible = isinstance(rate, int | float) and math.isfinite(rate) and rate > 0
    return row.store, StoreOrder(bool(row.paused), rate if sensible else None)


def _document(written: str) -> dict[str, Any]:
    document = json.loads(written)
    if not isinstance(document, dict):
        raise ValueError("a document is not a JSON object")
    return document


def _moment(found: object) -> datetime.datetime:
    if not isinstance(found, datetime.datetime):
        raise ValueError(f"{found!r:.40} is not a moment")
    return found


def _moment_or_none(found: object) -> datetime.datetime | None:
    return None if found is None else _moment(found)

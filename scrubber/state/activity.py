"""What scrubber processes do, and what operators order: runs, processes and stores in SQL.

A process writes down its runs and now and then a sign of life; operators, on whatever host,
write what they want of it, and it looks twice a second.
"""

import datetime
import json
from dataclasses import dataclass, replace
from typing import Any

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

from scrubber.orders import StoreOrder
from scrubber.state.base import iso
from scrubber.state.database import MOMENT, StateDatabase, storable, upsert

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

#: A process that was not heard of for so long is taken for dead.
SILENCE = datetime.timedelta(seconds=60)

INTERRUPTED = "interrupted"
RUNNING = "running"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run as the state database knows it; ``report`` is the document of ``--format json``."""

    id: str
    process: str
    host: str
    pid: int
    trigger: str
    status: str
    started_at: datetime.datetime
    seen_at: datetime.datetime
    finished_at: datetime.datetime | None
    report: dict[str, Any]
    cancel_asked: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For scripts: what a list says of a run."""
        return {
            "run": self.id,
            "host": self.host,
            "pid": self.pid,
            "trigger": self.trigger,
            "status": self.status,
            "started_at": iso(self.started_at),
            "seen_at": iso(self.seen_at),
            "finished_at": iso(self.finished_at) if self.finished_at else None,
            "images": self.report["images"],
            "locations": self.report["locations"],
            "bytes_freed": self.report["bytes_freed"],
            "locations_left": sum(left["locations"] for left in self.report["left"]),
        }

    def as_of(self, now: datetime.datetime) -> "RunRecord":
        """With the status that an operator should see: a dead process cannot write its own."""
        if self.status == RUNNING and now - self.seen_at > SILENCE:
            return replace(self, status=INTERRUPTED)
        return self


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """A scrubber process; ``doing`` says what it is at, as a document."""

    id: str
    host: str
    pid: int
    version: str
    started_at: datetime.datetime
    seen_at: datetime.datetime
    doing: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What operators want, of all processes or of one.

    :param stores: by name; the name ``""`` stands for all of them.
    :param run_asked_at: when somebody last asked this process for a run.
    :param cancel: whether its run is to end.
    """

    stores: dict[str, StoreOrder]
    run_asked_at: datetime.datetime | None
    cancel: bool


class Activity:
    """The three tables.

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
            stores = connection.execute(select(STORES)).all()
            return Wishes(
                {row.store: StoreOrder(bool(row.paused), row.max_rate) for row in stores},
                connection.execute(asked).scalar(),
                run is not None and bool(connection.execute(cancelled).scalar()),
            )

        return self._database.read(work)

    # What operators ask ---------------------------------------------------------------

    def runs(self, limit: int) -> list[RunRecord]:
        """The last ones, the newest first."""
        rows = select(RUNS).order_by(RUNS.c.started_at.desc(), RUNS.c.id.desc()).limit(limit)
        return self._runs(rows)

    def last_ends(self) -> dict[str, datetime.datetime]:
        """When the last run of each status ended, on whatever host."""
        rows = (
            select(RUNS.c.status, func.max(RUNS.c.finished_at))
            .where(RUNS.c.finished_at.is_not(None))
            .group_by(RUNS.c.status)
        )
        return self._database.read(lambda connection: dict(connection.execute(rows).tuples().all()))

    def run(self, which: str) -> RunRecord | None:
        """The one whose id begins so, if there is only one."""
        begins = RUNS.c.id.startswith(which, autoescape=True)
        found = self._runs(select(RUNS).where(begins).limit(2))
        return found[0] if len(found) == 1 else None

    def _runs(self, rows: Select[Any]) -> list[RunRecord]:
        return self._database.read(
            lambda connection: [_run(row) for row in connection.execute(rows)]
        )

    def processes(self) -> list[ProcessRecord]:
        rows = select(PROCESSES).order_by(PROCESSES.c.host, PROCESSES.c.started_at)
        return self._database.read(
            lambda connection: [_process(row) for row in connection.execute(rows)]
        )

    def store_orders(self) -> dict[str, StoreOrder]:
        """By name; the name ``""`` stands for all stores."""
        return self.wishes("", None).stores

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

    def order(self, now: datetime.datetime, store: str, order: StoreOrder) -> None:
        """What holds for this store from now on, ``""`` for all."""
        statement: Executable
        if order == StoreOrder():
            statement = delete(STORES).where(STORES.c.store == store)
        else:
            statement = upsert(STORES, self._database.dialect).values(
                store=store, paused=order.paused, max_rate=order.max_rate, changed_at=now
            )
        self._database.write(lambda connection: connection.execute(statement))


def _run(row: Row[Any]) -> RunRecord:
    return RunRecord(
        id=row.id,
        process=row.process_id,
        host=row.host,
        pid=row.pid,
        trigger=row.trigger_name,
        status=row.status,
        started_at=row.started_at,
        seen_at=row.seen_at,
        finished_at=row.finished_at,
        report=json.loads(row.report),
        cancel_asked=bool(row.cancel_asked),
    )


def _process(row: Row[Any]) -> ProcessRecord:
    return ProcessRecord(
        id=row.id,
        host=row.host,
        pid=row.pid,
        version=row.version,
        started_at=row.started_at,
        seen_at=row.seen_at,
        doing=json.loads(row.doing),
    )

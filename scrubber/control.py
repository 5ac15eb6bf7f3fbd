"""A daemon as operators see and steer it through the admin API (scrubber.admin.control)."""

import datetime
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from scrubber import errors, pool
from scrubber.admin.control import Document
from scrubber.admin.server import Server
from scrubber.health import BOUNDS
from scrubber.model import Backlog
from scrubber.options import PROJECT
from scrubber.orders import StoreOrder
from scrubber.planning.retry import Patience
from scrubber.process import Process
from scrubber.reporting import text
from scrubber.reporting.audit import AuditTrail
from scrubber.reporting.metrics import Durations, Reading, StoreReading
from scrubber.reporting.report import Report, utcnow
from scrubber.service import Daemon, State
from scrubber.state.activity import Activity, Unreadable
from scrubber.state.base import iso
from scrubber.state.database import StateDatabase
from scrubber.state.ledger import SqlLedger
from scrubber.state.opening import Reopening
from scrubber.state.records import Figures, RunRecord
from scrubber.stores import base

T = TypeVar("T")

#: Seconds for which figures that cost a query are shown again, and for which one is waited for.
FRESH_SECONDS, ANSWER_SECONDS = 30.0, 5.0


class ProcessControl:
    """One process and its daemon; see the protocol for each method.

    :param describe: a line for people that says what it is at.
    :ivar server: where this is served.
    """

    def __init__(
        self,
        process: Process,
        daemon: Daemon,
        audit: AuditTrail,
        describe: Callable[[], str],
    ) -> None:
        self._process = process
        self._daemon = daemon
        self._audit = audit
        self._describe = describe
        self.server: Server | None = None
        self._backlog: Fresh[Backlog | None] = Fresh(self._ask_for_backlog)
        # A restart is no reason to forget when all went well for the last time.
        nothing: dict[str, datetime.datetime] = {}
        ends = self._state.ask(lambda state: Activity(state).last_ends(), nothing)
        process.totals.ended_at.update(ends)
        self._parked: Fresh[dict[str, int] | None] = Fresh(self._count_parked)

    # Probes ---------------------------------------------------------------------------

    def live(self) -> bool:
        """Whoever asks has an answer, so the hub turns; what hangs in a store hangs alone."""
        return True

    def unready(self) -> list[str]:
        state, reasons = self._daemon.status().state, []
        if state in (State.STARTING, State.STOPPING):
            reasons.append(str(state))
        last = self._process.last
        if last is not None and last.failure:
            reasons.append(f"the last run failed: {last.failure}")
        return reasons

    # What it does ---------------------------------------------------------------------

    def status(self) -> Document:
        status = self._daemon.status()
        run = self._process.run
        return status.as_dict() | {
            "next_in": status.next_in,
            "text": self._describe(),
            "run": run.report.run if run else None,
            "state_database": self._state.problem or "up",
            **self._process.workers(),
        }

    def runs(self, limit: int) -> list[Document]:
        now = utcnow()
        runs = self._remembered(lambda state: Activity(state).runs(limit))
        return [run.as_of(now).as_dict() for run in runs]

    def run(self, run: str) -> Document | None:
        for report in self._own_reports():
            if report.run == run:
                return _own(report)
        found = self._remembered(lambda state: Activity(state).run(run))
        return _whole(found) if found is not None and found.id == run else None

    def cancel(self, run: str) -> bool:
        for report in self._own_reports():
            if report.run == run:
                under_way = report.finished_at is None
                if under_way:
                    self._process.cancel()
                return under_way
        return self._remembered(lambda state: Activity(state).cancel(run))

    def _own_reports(self) -> list[Report]:
        """Of the present run and the one before, which need no state database."""
        run, last = self._process.run, self._process.last
        return [report for report in (run.report if run else None, last) if report is not None]

    def run_now(self) -> None:
        self._daemon.run_now()

    def threads(self) -> str:
        return "\n".join(pool.stacks())

    def parked(self, store: str | None, limit: int) -> list[Document]:
        patience = self._patience

        def first(state: StateDatabase) -> list[Document]:
            found: list[Document] = []
            for entry in SqlLedger(state).entries(store):
                if len(found) == limit:
                    break
                if entry.trouble.is_parked(patience):
                    found.append(entry.as_dict(patience))
            return found

        return self._remembered(first)

    # Stores ---------------------------------------------------------------------------

    def stores(self) -> list[Document]:
        drivers = self._process.stores.drivers
        return [self._store(drivers[name]) for name in sorted(drivers)]

    def _store(self, driver: base.Driver) -> Document:
        figures = self._process.figures(driver)
        order = self._process.orders.of(driver.store)
        return {
            "store": driver.store,
            "type": driver.section.kind,
            "paused": order.paused,
            "max_rate": order.most(driver.max_rate),
            "limit": figures.limit,
            "throttled": figures.errors.get("throttled", 0),
            "circuit": {
                "reason": figures.broken,
                "asked_again_in_seconds": figures.asked_again_in,
            }
            if figures.broken
            else None,
        }

    def ordered(self, store: str) -> StoreOrder:
        return self._process.orders.ordered(store)

    def change(self, store: str, change: Callable[[StoreOrder], StoreOrder]) -> StoreOrder:
        if not self._state.is_configured:
            return self._change_here(store, change)
        try:
            order = self._remembered(lambda state: Activity(state).change(utcnow(), store, change))
        except errors.StateUnavailable as problem:
            self._change_here(store, change)
            raise errors.StateUnavailable(
                f"{problem}; the order holds for this process until the database can be read again"
            ) from problem
        self._process.orders.order(store, order)
        return order

    def _change_here(self, store: str, change: Callable[[StoreOrder], StoreOrder]) -> StoreOrder:
        order = change(self.ordered(store))
        self._process.orders.order(store, order)
        return order

    # Metrics --------------------------------------------------------------------------

    def reading(self) -> Reading:
        process, parked = self._process, self._parked.value()
        return Reading(
            totals=process.totals,
            stores={
                driver.store: self._store_reading(driver, parked)
                for driver in process.stores.drivers.values()
            },
            backlog=self._backlog.value(),
            slots=process.load.slots,
            slots_busy=process.load.busy,
            remembers=self._state.problem is None,
            audit_lost=self._audit.lost + process.load.audit_lost,
            workers=process.load.workers,
            workers_up=process.load.workers_up,
            worker_deaths=process.load.worker_deaths,
            admin_failures=self.server.failures if self.server else 0,
        )

    def _store_reading(self, driver: base.Driver, parked: dict[str, int] | None) -> StoreReading:
        figures = self._process.figures(driver)
        return StoreReading(
            paused=self._process.orders.of(driver.store).paused,
            circuit_open=figures.broken is not None,
            limit=figures.limit,
            errors=figures.errors,
            calls=Durations(BOUNDS, figures.took, figures.seconds),
            parked=None if parked is None else parked.get(driver.store, 0),
        )

    def _ask_for_backlog(self) -> Backlog | None:
        source = self._process.source
        if source is None:
            return None
        try:
            return pool.within(ANSWER_SECONDS, source.backlog, self._process.conf.scrub_time)
        except (errors.ScrubberError, TimeoutError):
            return None

    def _count_parked(self) -> dict[str, int] | None:
        attempts = self._patience.attempts
        return self._state.ask(lambda state: SqlLedger(state).parked(attempts), None)

    # The state database ---------------------------------------------------------------

    @property
    def _state(self) -> Reopening[StateDatabase]:
        assert self._process.state is not None, "served only once the process is open"
        return self._process.state

    @property
    def _patience(self) -> Patience:
        ours = self._process.conf[PROJECT]
        return Patience(ours.retry_base, ours.retry_cap, ours.retry_attempts)

    def _remembered(self, question: Callable[[StateDatabase], T]) -> T:
        """:raises StateUnavailable: nobody can say."""

        def answer(state: StateDatabase) -> list[T | Unreadable]:
            try:
                return [question(state)]
            except Unreadable as odd:  # no reason to leave the database alone
                return [odd]

        answers: list[T | Unreadable] = self._state.ask(answer, [])
        if not answers:
            raise errors.StateUnavailable(self._state.problem or "there is none")
        if isinstance(answers[0], Unreadable):
            raise answers[0]
        return answers[0]


def _whole(run: RunRecord) -> Document:
    return run.report | run.as_of(utcnow()).as_dict()


def _own(report: Report) -> Document:
    """As :func:`_whole`, of what the state database need not know."""
    document = report.as_dict() | {"summary": text.summary(report)}
    heard = {"pid": report.process, "seen_at": iso(report.finished_at or utcnow())}
    return document | Figures.of_report(document).as_dict() | heard


class Fresh(Generic[T]):
    """A value that is asked for again once it is too old."""

    def __init__(self, ask: Callable[[], T]) -> None:
        self._ask = ask
        self._asked_at: float | None = None

    def value(self) -> T:
        now = time.monotonic()
        if self._asked_at is None or now - self._asked_at > FRESH_SECONDS:
            self._asked_at, self._value = now, self._ask()
        return self._value

"""A process that does nothing but remember what the admin API asked of it."""

import datetime
from collections.abc import Callable
from typing import Any

from scrubber.model import Backlog, Outcome
from scrubber.orders import ALL, StoreOrder
from scrubber.reporting.metrics import Durations, Reading, StoreReading
from scrubber.reporting.report import Report
from scrubber.reporting.totals import Totals

IMAGE = "11111111-2222-3333-4444-555555555555"
RUN, OVER = "0123456789ab", "ba9876543210"


class FakeControl:
    """Two stores, a run under way, a run that is over, one parked location."""

    def __init__(self) -> None:
        self.alive = True
        self.reasons: list[str] = []
        self.asked_for = 0
        self.cancelled: list[str] = []
        self.looked_up: list[str | None] = []
        self.orders: dict[str, StoreOrder] = {}
        self.trouble: Exception | None = None
        self.reading_now = a_reading()

    def live(self) -> bool:
        return self.alive

    def unready(self) -> list[str]:
        return self.reasons

    def status(self) -> dict[str, Any]:
        self._fail()
        return {"state": "running", "next_in": None}

    def runs(self, limit: int) -> list[dict[str, Any]]:
        self._fail()
        return [_run(RUN, "running"), _run(OVER, "succeeded")][:limit]

    def run(self, run: str) -> dict[str, Any] | None:
        self._fail()
        self.looked_up.append(run)
        return next((at for at in self.runs(2) if at["run"] == run), None)

    def cancel(self, run: str) -> bool:
        if run == OVER:
            return False
        self.cancelled.append(run)
        return True

    def run_now(self) -> None:
        self.asked_for += 1

    def stores(self) -> list[dict[str, Any]]:
        return [self._store("fast"), self._store("slow")]

    def ordered(self, store: str) -> StoreOrder:
        return self.orders.get(store, StoreOrder())

    def change(self, store: str, change: Callable[[StoreOrder], StoreOrder]) -> StoreOrder:
        self.orders[store] = change(self.ordered(store))
        self._fail()
        return self.orders[store]

    def parked(self, store: str | None, limit: int) -> list[dict[str, Any]]:
        self.looked_up.append(store)
        entry = {
            "image": IMAGE,
            "location": 1,
            "store": "fast",
            "owner": None,
            "size": 5,
            "attempts": 8,
            "first_failed_at": "2026-01-31T12:00:00Z",
            "next_try_at": "2026-01-31T18:00:00Z",
            "last_error": "permission denied",
        }
        return [entry][:limit] if store in (None, "fast") else []

    def threads(self) -> str:
        return "  File run.py, line 1\n"

    def reading(self) -> Reading:
        self._fail()
        return self.reading_now

    def _fail(self) -> None:
        if self.trouble:
            raise self.trouble

    def _store(self, name: str) -> dict[str, Any]:
        order = self.ordered(name)
        return {
            "store": name,
            "type": "file",
            "paused": order.paused or self.ordered(ALL).paused,
            "max_rate": order.max_rate,
            "limit": None,
            "circuit": {"reason": "no answer", "asked_again_in_seconds": 4.5},
            "throttled": 3,
        }


def _run(run: str, status: str) -> dict[str, Any]:
    return {
        "run": run,
        "host": "host",
        "trigger": "schedule",
        "status": status,
        "started_at": "2026-01-31T12:00:00Z",
        "finished_at": None,
    }


def a_report(locations: dict[tuple[str, Outcome], int] | None = None, **attributes: Any) -> Report:
    """A run that still goes on, with these counts."""
    report = Report(lambda: datetime.datetime(2026, 1, 31, 12))
    for (store, outcome), count in (locations or {}).items():
        for tally in (report.total, report.stores[store]):
            tally.locations[outcome] += count
    for name, value in attributes.items():
        setattr(report, name, value)
    return report


def a_reading() -> Reading:
    """One in which every metric has a value."""
    totals = Totals(lambda: ["fast", "slow"])
    totals.begin(a_report({("fast", Outcome.DELETED): 7}))
    report = a_report({("fast", Outcome.DELETED): 2, ("gone", Outcome.EXTERNAL): 1})
    totals.end()
    totals.begin(report)
    report.finish()
    totals.end()
    busy = StoreReading(
        circuit_open=True,
        limit=12.5,
        errors={"throttled": 3, "failed": 1},
        calls=Durations((0.1, 1.0), (4, 2, 1), 6.5),
        parked=2,
    )
    return Reading(
        totals,
        {"fast": busy, "slow": StoreReading(paused=True)},
        backlog=Backlog(3, 300, 42.0),
        slots=16,
        slots_busy=2,
        audit_lost=1,
        admin_failures=1,
        workers=3,
        workers_up=2,
        worker_deaths=1,
    )

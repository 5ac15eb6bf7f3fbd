"""``status``, ``watch``, ``runs`` and ``show``: what scrubbers do, and what they did."""

import datetime
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from scrubber import errors
from scrubber.manage.invocation import DONE, Invocation, add_command, minutes, print_json
from scrubber.orders import StoreOrder
from scrubber.reporting import text
from scrubber.reporting.document import print_document
from scrubber.reporting.report import utcnow
from scrubber.state.activity import Activity
from scrubber.state.base import iso
from scrubber.state.database import StateDatabase
from scrubber.state.ledger import SqlLedger
from scrubber.state.records import RUNNING, SILENCE, ProcessRecord, RunRecord
from scrubber.workers.status import State


def add_to(commands: Any) -> None:
    """Add these commands to those of the program."""
    add_command(
        commands,
        "status",
        _status,
        help="what scrubbers do now",
        description="Says what every scrubber that shares the state database does now, which runs "
        "are under way, and what is paused.",
    )
    watch = add_command(
        commands,
        "watch",
        _watch,
        help="the same, again and again",
        description="Prints the status again and again, until Ctrl-C.",
    )
    watch.add_argument(
        "--interval", type=_seconds, default=2.0, metavar="SECONDS", help="between two looks (2)"
    )
    runs = add_command(
        commands,
        "runs",
        _runs,
        help="list the last runs",
        description="Lists the last runs on all hosts, the newest first.",
    )
    runs.add_argument("--limit", type=_count, default=20, metavar="N", help="so many (20)")
    show = add_command(
        commands,
        "show",
        _show,
        help="the report of a run",
        description="Prints the report of a run: what became of everything, and what is left why.",
    )
    show.add_argument("run", metavar="RUN", help="its id, the beginning of it, or: latest")


def _seconds(word: str) -> float:
    return min(3600.0, max(0.1, float(word)))


def _count(word: str) -> int:
    return max(1, int(word))


# Status -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Status:
    """What all scrubbers do that share a state database."""

    now: datetime.datetime
    processes: list[ProcessRecord]
    running: list[RunRecord]
    last: RunRecord | None
    orders: dict[str, StoreOrder]
    waiting: int

    @classmethod
    def of(cls, database: StateDatabase) -> "Status":
        now, activity = utcnow(), Activity(database)
        runs = [run.as_of(now) for run in activity.runs(100)]
        ended = [run for run in runs if run.status != RUNNING]
        return cls(
            now=now,
            processes=activity.processes(),
            running=[run for run in runs if run.status == RUNNING],
            last=ended[0] if ended else None,
            orders=activity.store_orders(),
            waiting=SqlLedger(database).count(),
        )

    def as_dict(self) -> dict[str, Any]:
        return {
            "processes": [_process(process, self.now) for process in self.processes],
            "running": [run.as_dict() for run in self.running],
            "last_run": self.last.as_dict() if self.last else None,
            "paused": sorted(store for store, order in self.orders.items() if order.paused),
            "max_rates": {
                store: order.max_rate
                for store, order in sorted(self.orders.items())
                if order.max_rate is not None
            },
            "locations_that_failed": self.waiting,
        }

    def lines(self) -> Iterator[str]:
        """For people."""
        if not self.processes:
            yield "No scrubber runs with this state database."
        for process in self.processes:
            yield f"{process.host} (pid {process.pid}): {_doing(process, self.now)}"
        for run in self.running:
            yield f"run {run.id} on {run.host} since {minutes(run.started_at)}: {_figures(run)}"
        if self.last:
            at = minutes(self.last.finished_at or self.last.seen_at)
            yield f"last run {self.last.id}: {self.last.status} at {at}: {_figures(self.last)}"
        for store, order in sorted(self.orders.items()):
            name = f"store {store}" if store else "every store"
            if order.paused:
                yield f"{name} is paused (scrubber-manage resume{f' {store}' if store else ''})"
            if order.max_rate is not None:
                yield f"{name} gets at most {order.max_rate:g} locations/s, by order"
        if self.waiting:
            failed = text.counted(self.waiting, "location")
            yield f"{failed} failed and wait for the next try (scrubber-manage parked --all)"


def _status(invocation: Invocation) -> int:
    with invocation.state() as database:
        status = Status.of(database)
    if invocation.as_json:
        print_json(status.as_dict())
    else:
        for line in status.lines():
            print(text.printable(line))
    return DONE


def _watch(invocation: Invocation) -> int:
    with invocation.state() as database:
        if invocation.as_json:
            while True:
                print_json(Status.of(database).as_dict())
                time.sleep(invocation.options.interval)
        with text.Screen() as screen:
            while True:
                screen.show([text.printable(line) for line in Status.of(database).lines()])
                time.sleep(invocation.options.interval)


def _process(process: ProcessRecord, now: datetime.datetime) -> dict[str, Any]:
    return {
        "process": process.id,
        "host": process.host,
        "pid": process.pid,
        "version": process.version,
        "started_at": iso(process.started_at),
        "seen_at": iso(process.seen_at),
        "alive": now - process.seen_at <= SILENCE,
        "doing": process.doing,
    }


def _doing(process: ProcessRecord, now: datetime.datetime) -> str:
    silent = now - process.seen_at
    if silent > SILENCE:
        return f"not heard of since {minutes(process.seen_at)}"
    doing = str(process.doing.get("text") or process.doing.get("state") or "at work")
    heard = f"heard of {max(0.0, silent.total_seconds()):.0f} s ago"
    return "; ".join(filter(None, [doing, _workers(process.doing), heard]))


def _workers(doing: dict[str, Any]) -> str:
    """How many of a supervisor's workers can scrub; nothing without workers."""
    workers = doing.get("workers")
    if not isinstance(workers, list) or not all(isinstance(at, dict) for at in workers):
        return ""
    up = sum(at.get("state") in (State.IDLE, State.RUNNING) for at in workers)
    return f"{up} of {text.counted(len(workers), 'worker')} up"


# Runs ---------------------------------------------------------------------------------------


def _runs(invocation: Invocation) -> int:
    with invocation.state() as database:
        now = utcnow()
        runs = [run.as_of(now) for run in Activity(database).runs(invocation.options.limit)]
    if invocation.as_json:
        print_json({"runs": [run.as_dict() for run in runs]})
    elif not text.print_rows(_COLUMNS, map(_cells, runs)):
        print("No run is remembered.")
    return DONE


_COLUMNS = (
    "run",
    "host",
    "trigger",
    "status",
    "started (UTC)",
    "seconds",
    "images",
    "deleted",
    "freed",
    "left",
)


def _cells(run: RunRecord) -> Sequence[str]:
    figures = run.figures
    return (
        run.id,
        run.host,
        run.trigger,
        run.status,
        minutes(run.started_at),
        f"{((run.finished_at or run.seen_at) - run.started_at).total_seconds():.0f}",
        str(figures.images_scrubbed),
        str(figures.locations.get("deleted", 0)),
        text.size(figures.bytes_freed),
        str(figures.locations_left),
    )


def _figures(run: RunRecord) -> str:
    figures = run.figures
    return (
        f"{text.counted(figures.images_scrubbed, 'image')} scrubbed, "
        f"{text.size(figures.bytes_freed)} freed, {figures.locations_left} left"
    )


# One run ------------------------------------------------------------------------------------


def _show(invocation: Invocation) -> int:
    wanted = invocation.options.run
    with invocation.state() as database:
        activity = Activity(database)
        found = _latest(activity) if wanted == "latest" else activity.run(wanted)
    if found is None:
        raise errors.ScrubberError(
            "no run is remembered"
            if wanted == "latest"
            else f"no run, or more than one, has an id that begins {wanted}"
        )
    run = found.as_of(utcnow())
    if invocation.as_json:
        print_json({"run": run.report | {"status": run.status}})
    else:
        _print_run(run)
    return DONE


def _latest(activity: Activity) -> RunRecord | None:
    runs = activity.runs(20)  # the very last one may be unreadable
    return activity.run(runs[0].id) if runs else None


def _print_run(run: RunRecord) -> None:
    where = f"Run {run.id} on {run.host} (pid {run.pid}), trigger {run.trigger}"
    when = f"{minutes(run.started_at)} to {minutes(run.finished_at or run.seen_at)} UTC"
    print(text.printable(f"{where}: {run.status}; {when}"))
    try:
        print_document(run.report)
    except (LookupError, TypeError, ValueError, AttributeError) as odd:
        raise errors.StateUnavailable(f"its report is one that no scrubber wrote: {odd!r}") from odd
    print(text.printable(run.figures.summary))

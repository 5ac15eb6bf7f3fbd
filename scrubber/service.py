"""The daemon: run, wait, run again."""

import datetime
import enum
import logging
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from oslo_config import cfg

from scrubber import errors, pool
from scrubber.model import Backlog, Outcome
from scrubber.options import PROJECT
from scrubber.planning import wakeups
from scrubber.planning.wakeups import LastRun, Schedule, Trigger, Triggers, Wakeup
from scrubber.reporting import text
from scrubber.reporting.report import Report, utcnow
from scrubber.stores import base
from scrubber.stores.call import call

LOG = logging.getLogger(__name__)

#: So often a daemon looks whether it may go on, or a window has closed; the wall clock may jump.
LOOK_SECONDS = 1.0

#: So long the source or a store may take to answer about a trigger, and a store at start.
ANSWER_SECONDS = 10.0

#: MySQL keeps whole seconds: what was deleted as a run began may look this much older.
ROUNDING = 1.0


def try_stores(drivers: Iterable[base.Driver], seconds: float = ANSWER_SECONDS) -> None:
    """Ask each store, all at once, whether it can be used, and say so if not.

    One that cannot is no reason not to begin: the others can be scrubbed.
    """

    def probe(driver: base.Driver) -> None:
        try:
            call(driver, driver.probe, timeout=seconds)
        except errors.StoreError as error:
            LOG.warning("Store %s cannot be used now: %s", driver.store, error)
        except Exception:
            LOG.exception("The driver of store %s failed", driver.store)

    for task in [pool.Task(probe, driver) for driver in drivers]:
        task.join()


# What the options say -------------------------------------------------------------------------


def schedule(conf: cfg.ConfigOpts) -> Schedule:
    """When to run, as the options are now."""
    ours = conf[PROJECT]
    return Schedule(conf.wakeup_time, ours.wakeup_jitter / 100, ours.scrub_window)


def triggers(conf: cfg.ConfigOpts) -> Triggers:
    """What brings a run forward, as the options are now."""
    ours = conf[PROJECT]
    return Triggers(ours.trigger_images, ours.trigger_bytes, ours.trigger_age)


def again_in(report: Report) -> float | None:
    """Seconds until a store may be asked again that a run had to leave alone; None without."""
    waiting = {store for outcome, _, store in report.left if outcome is Outcome.WAITING}
    times = [report.paces[store].asked_again_in for store in waiting if store in report.paces]
    return min((seconds for seconds in times if seconds > 0), default=None)


# The daemon -----------------------------------------------------------------------------------


class State(enum.StrEnum):
    """What a daemon is at."""

    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting"
    PAUSED = "paused"
    OUTSIDE_WINDOW = "outside window"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Status:
    """What a daemon is at, and when it runs next.

    :param trigger: why the present run began, or why the next one will.
    :param next_in: seconds until the next run; None while one goes on, or none will come.
    """

    state: State
    trigger: Trigger | None = None
    next_in: float | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "state": self.state.value,
            "trigger": self.trigger.value if self.trigger else None,
            "next_run_in_seconds": None if self.next_in is None else round(self.next_in),
        }


class Pauses(Protocol):
    """Whether operators have paused everything."""

    @property
    def all_paused(self) -> bool: ...


class Lookout:
    """Looks for a reason to run before the next wake-up; asks nobody while no trigger is set.

    :param backlog: that of the source, see :class:`scrubber.sources.base.Source`.
    :param triggers: the options of now, like ``scrub_time``.
    """

    def __init__(
        self,
        backlog: Callable[[float, float], Backlog],
        drivers: Iterable[base.Driver],
        triggers: Callable[[], Triggers],
        scrub_time: Callable[[], float],
    ) -> None:
        self._backlog = backlog
        self._drivers = list(drivers)
        self._triggers = triggers
        self._scrub_time = scrub_time

    def look(self, ago: float) -> Trigger | None:
        """A reason to run now, if there is one.

        :param ago: seconds since the last run began.
        """
        triggers, scrub_time = self._triggers(), self._scrub_time()
        watches = [(driver, watch) for driver in self._drivers if (watch := driver.space_watch())]
        if not triggers and not watches:
            return None
        try:
            since = scrub_time + ago + ROUNDING
            backlog = pool.within(ANSWER_SECONDS, self._backlog, scrub_time, since)
        except (errors.ScrubberError, TimeoutError) as error:
            LOG.warning("Nobody can say what is pending: %s", error)
            return None
        if pulled := triggers.pulled(backlog, scrub_time):
            return pulled
        # Without anything new a run would free no space.
        short = backlog.images and any(_is_short(driver, watch) for driver, watch in watches)
        return Trigger.SPACE if short else None


def _is_short(driver: base.Driver, watch: Callable[[], bool]) -> bool:
    try:
        return call(driver, watch, timeout=ANSWER_SECONDS)
    except errors.StoreError as error:
        LOG.warning("Store %s does not say how much is free: %s", driver.store, error)
        return False


class Daemon:
    """Run, wait, run again, until ``stop``; a run that fails is followed by the next.

    :param execute: one run, from its trigger to its report.
    :param cancel: tells the run under way to end: what is in flight ends, nothing else begins.
    :param schedule: the options of now.
    :param changed: rings when ``stop`` is set or an option may have changed.
    :param look_out: looks for a reason to run now, given the seconds since the last run began;
        asked every ``look_interval`` seconds.
    """

    def __init__(
        self,
        execute: Callable[[Trigger], Report],
        cancel: Callable[[], None],
        schedule: Callable[[], Schedule],
        stop: pool.Flag,
        changed: pool.Bell,
        pauses: Pauses,
        look_out: Callable[[float], Trigger | None],
        look_interval: Callable[[], float],
        on_report: Callable[[Report], None],
    ) -> None:
        self._execute = execute
        self._cancel = cancel
        self._schedule = schedule
        self._stop = stop
        self._changed = changed
        self._pauses = pauses
        self._look_out = look_out
        self._look_interval = look_interval
        self._on_report = on_report
        self._running: Trigger | None = None
        self._pulled: Trigger | None = None
        self._last: LastRun | None = None
        self._began = self._ended = time.monotonic()
        self._serving = False

    def run_now(self, trigger: Trigger = Trigger.REQUEST) -> None:
        """Run at once, or after the present run; also outside the window."""
        LOG.info("A run is asked for (%s).", trigger)
        self._pull(trigger)

    def status(self) -> Status:
        if self._stop:
            return Status(State.STOPPING)
        if not self._serving:
            return Status(State.STARTING)
        if self._running:
            return Status(State.RUNNING, self._running)
        if self._pauses.all_paused:
            return Status(State.PAUSED)
        wakeup = self._next()
        window = self._schedule().window
        closed = window is not None and not window.is_open(_now())
        state = State.OUTSIDE_WINDOW if closed else State.WAITING
        return Status(state, wakeup.trigger, wakeup.seconds)

    def serve(self) -> None:
        """Until ``stop``."""
        self._serving = True
        lookout = pool.Task(self._keep_looking_out)
        try:
            while not self._stop:
                wakeup = self._next()
                if self._pauses.all_paused:
                    self._changed.wait(LOOK_SECONDS)
                elif wakeup.seconds > 0:
                    self._changed.wait(min(wakeup.seconds, LOOK_SECONDS))
                else:
                    self._run(wakeup.trigger)
        finally:
            lookout.kill()

    def _next(self) -> Wakeup:
        ago = time.monotonic() - self._ended
        return wakeups.next_wakeup(self._schedule(), self._last, ago, _now(), self._pulled)

    def _pull(self, trigger: Trigger) -> None:
        # Nothing that comes by itself takes the place of what an operator wants.
        if self._pulled is None or trigger.by_operator:
            self._pulled = trigger
            self._changed.ring()

    # A run ----------------------------------------------------------------------------

    def _run(self, trigger: Trigger) -> None:
        self._running, self._pulled = trigger, None
        self._began = time.monotonic()
        guard = pool.Task(self._end_with_the_window, trigger)
        report = None
        try:
            report = self._execute(trigger)
        except Exception:
            LOG.exception("A defect in scrubber ended this run")
        finally:
            guard.kill()
            self._running = None
            self._ended = time.monotonic()
        took = self._ended - self._began
        again = again_in(report) if report else None
        self._last = LastRun(took, again, random.random())  # noqa: S311 - no secret
        if report:
            LOG.info("Run ended after %.1f s: %s", took, text.summary(report))
            self._on_report(report)

    def _end_with_the_window(self, trigger: Trigger) -> None:
        """Ends the run when the window closes, unless an operator wants it."""
        while not trigger.by_operator:
            pool.sleep(LOOK_SECONDS)
            window = self._schedule().window
            if window is not None and not window.is_open(_now()):
                LOG.info("The run is told to end: scrub_window %s is over.", window)
                self._cancel()
                return

    # Triggers -------------------------------------------------------------------------

    def _keep_looking_out(self) -> None:
        looked = time.monotonic()
        while True:
            pool.sleep(LOOK_SECONDS)
            now = time.monotonic()
            if now - looked < self._look_interval() or not self._heeds_triggers:
                continue
            looked = now
            try:
                pulled = self._look_out(now - self._began)
            except Exception:
                LOG.exception("A defect in scrubber: no trigger is heeded now")
                continue
            if pulled and self._heeds_triggers:
                LOG.info("The next run begins at once: trigger %s.", pulled)
                self._pull(pulled)

    @property
    def _heeds_triggers(self) -> bool:
        """Whether one could bring the next run forward."""
        return self.status().state is State.WAITING


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def status_line(status: Status, report: Report | None) -> str:
    """What the daemon is at, for people.

    :param report: of the present run, if there is one.
    """
    if status.state is State.RUNNING and report is not None:
        done, left = report.total.images_scrubbed, sum(at.locations for at in report.left.values())
        rate = done / max(1.0, (utcnow() - report.started_at).total_seconds())
        return f"scrubbing: {text.counted(done, 'image')} done, {left} left, {rate:.0f}/s"
    if status.state in (State.WAITING, State.OUTSIDE_WINDOW) and status.next_in is not None:
        return f"{status.state}: next run in {text.lasting(status.next_in)} ({status.trigger})"
    return str(status.state)

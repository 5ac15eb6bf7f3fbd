"""Says in the state database what this process does, and hears there what operators want of it.

All of it may fail without harm: then nobody watches or steers, and scrubbing goes on.
"""

import datetime
import logging
import os
import socket
import time
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

from scrubber import __version__, errors, pool
from scrubber.orders import Orders
from scrubber.reporting import text
from scrubber.reporting.report import Report, utcnow
from scrubber.state.activity import Activity
from scrubber.state.database import StateDatabase
from scrubber.state.opening import Reopening
from scrubber.state.records import Figures, ProcessRecord, RunRecord, Wishes

LOG = logging.getLogger(__name__)
T = TypeVar("T")

#: Between two looks at what operators want.
HEAR_SECONDS = 0.5

#: Between two signs of life; well below activity.SILENCE.
TELL_SECONDS = 5.0

#: Between two looks for what is too old to be kept.
FORGET_SECONDS = 3600.0


class Steering:
    """A green thread between this process and the state database.

    :param doing: what this process is at, as a document; a new ``state`` is told at once.
    :param run_now: called when an operator asks for a run.
    :param history: seconds for which runs are kept.
    """

    def __init__(
        self,
        state: Reopening[StateDatabase],
        orders: Orders,
        doing: Callable[[], dict[str, Any]],
        run_now: Callable[[], object],
        history: Callable[[], float],
    ) -> None:
        self.process = uuid.uuid4().hex
        self.host = socket.gethostname()
        self._state = state
        self._orders = orders
        self._doing = doing
        self._run_now = run_now
        self._history = history
        self._started_at = utcnow()
        self._run_asked_at: datetime.datetime | None = None
        self._report: Report | None = None
        self._cancel: Callable[[], None] = lambda: None
        self._forgot_at = -FORGET_SECONDS
        self._problem: str | None = None
        self._told_state: object = None
        self._tell()
        self._hear()
        self._task = pool.Task(self._work)

    # What this process says -----------------------------------------------------------

    def begin(self, report: Report, cancel: Callable[[], None]) -> None:
        """A run begins.

        :param cancel: asks for its end.
        """
        self._report, self._cancel = report, cancel
        self._tell()

    def end(self) -> None:
        """The run ended; its report is complete."""
        self._tell()
        self._report = None

    def close(self) -> None:
        """This process ends."""
        self._task.kill()
        self._ask(lambda activity: activity.forget_process(self.process))

    def _tell(self) -> None:
        now, doing = utcnow(), self._doing()
        self._told_state = doing.get("state")
        process = ProcessRecord(
            id=self.process,
            host=self.host,
            pid=os.getpid(),
            version=__version__,
            started_at=self._started_at,
            seen_at=now,
            doing=doing,
        )
        self._ask(lambda activity: activity.save_process(process))
        if self._report is not None:
            run = self._record(self._report, now)
            self._ask(lambda activity: activity.save_run(run))

    def _record(self, report: Report, now: datetime.datetime) -> RunRecord:
        document = report.as_dict() | {"summary": text.summary(report)}
        return RunRecord(
            id=report.run,
            process=self.process,
            host=self.host,
            pid=os.getpid(),
            trigger=report.trigger,
            status=report.status,
            started_at=report.started_at,
            seen_at=now,
            finished_at=report.finished_at,
            figures=Figures.of_report(document),
            report=document,
        )

    # What operators say ---------------------------------------------------------------

    def _hear(self) -> None:
        run = self._report.run if self._report else None
        wishes = self._ask(lambda activity: activity.wishes(self.process, run))
        if wishes is not None:
            self._obey(wishes)

    def _obey(self, wishes: Wishes) -> None:
        self._orders.replace(wishes.stores)
        if wishes.cancel:
            self._cancel()
        # Not later than what: the clock is that of whoever asked.
        if wishes.run_asked_at not in (None, self._run_asked_at):
            self._run_asked_at = wishes.run_asked_at
            self._run_now()

    # The green thread -----------------------------------------------------------------

    def _work(self) -> None:
        told_at = time.monotonic()
        while True:
            pool.sleep(HEAR_SECONDS)
            try:
                self._hear()
                changed = self._doing().get("state") != self._told_state
                if changed or time.monotonic() - told_at >= TELL_SECONDS:
                    told_at = time.monotonic()
                    self._tell()
                    self._forget()
            except Exception:
                LOG.exception("A defect in scrubber: this process cannot be steered")

    def _forget(self) -> None:
        if time.monotonic() - self._forgot_at >= FORGET_SECONDS:
            self._forgot_at = time.monotonic()
            oldest = utcnow() - datetime.timedelta(seconds=self._history())
            self._ask(lambda activity: activity.forget_before(oldest))

    def _ask(self, question: Callable[[Activity], T]) -> T | None:
        """The answer; None while there is no state database."""
        try:
            answer = self._state.ask(lambda database: question(Activity(database)), None)
        except errors.StateUnavailable as problem:  # it is required: the run says more
            if str(problem) != self._problem:
                LOG.warning("Nobody can watch or steer this process now: %s", problem)
            self._problem = str(problem)
            return None
        self._problem = None
        return answer

"""The daemon: run, wait, run again; and the signals of both daemon and one-shot."""

import faulthandler
import logging
import os
import signal
import time
from collections.abc import Callable

from scrubber import errors, pool
from scrubber.reporting import text
from scrubber.reporting.report import Report

LOG = logging.getLogger(__name__)


class Stopping:
    """SIGTERM and SIGINT: the first asks to end, the second leaves at once, and so does a delay.

    :param stop: set by the first; nothing is sent to a store after that.
    :param grace: seconds in which calls in flight may end, 0 for ever.
    :param reload: called on SIGHUP.
    """

    def __init__(
        self, stop: pool.Flag, grace: Callable[[], float], reload: Callable[[], None]
    ) -> None:
        self._stop = stop
        self._grace = grace
        self._asked = False
        self._signals = pool.Signals(
            {signal.SIGTERM: stop.set, signal.SIGINT: stop.set, signal.SIGHUP: reload},
            at_once=self._at_once,
        )

    def _at_once(self, number: signal.Signals) -> None:
        """Runs inside the signal handler, also while the green threads are stuck."""
        if number is signal.SIGHUP:
            return
        if self._asked:
            os._exit(1)
        self._asked = True
        if grace := self._grace():
            # A thread in C: it fires even if no Python code runs any more.
            faulthandler.dump_traceback_later(grace, exit=True)

    def close(self) -> None:
        faulthandler.cancel_dump_traceback_later()
        self._signals.close()


def serve(
    run_once: Callable[[], Report],
    wakeup_time: Callable[[], float],
    stop: pool.Flag,
    changed: pool.Bell,
    on_report: Callable[[Report], None],
) -> None:
    """Run, wait, run again, until ``stop``; a run that fails is followed by the next.

    :param changed: rings when ``stop`` is set or ``wakeup_time`` may have changed.
    """
    while not stop:
        started = time.monotonic()
        report = run_once()
        LOG.info("Run ended after %.1f s: %s", time.monotonic() - started, text.summary(report))
        on_report(report)
        ended = time.monotonic()
        while not stop and (left := ended + max(1.0, wakeup_time()) - time.monotonic()) > 0:
            changed.wait(left)


def reloader(apply: Callable[[], None]) -> Callable[[], None]:
    """For SIGHUP: take over the changed files, or refuse them whole and go on as before."""

    def reload() -> None:
        try:
            apply()
        except errors.ConfigError as error:
            LOG.error("Configuration not reloaded, the old values stay: %s", error)
        except Exception:
            LOG.exception("Configuration not reloaded, the old values stay")
        else:
            LOG.info("Configuration reloaded.")

    return reload

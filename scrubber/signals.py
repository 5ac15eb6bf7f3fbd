"""The signals of daemon and one-shot: stop, leave at once, reload, run now, say what you do."""

import contextlib
import faulthandler
import logging
import os
import signal
import sys
from collections.abc import Callable

from scrubber import errors, pool
from scrubber.reporting import text

LOG = logging.getLogger(__name__)


class Handlers:
    """What each signal does, from now until ``close``.

    SIGTERM and SIGINT: the first asks to end, the second leaves at once, and so does a delay.
    SIGUSR2 says what every thread does, green or native.

    :param stop: set by the first; nothing is sent to a store after that.
    :param grace: seconds in which calls in flight may end, 0 for ever.
    :param reload: called on SIGHUP.
    :param run_now: called on SIGUSR1.
    :param leaving: called right before it leaves at once, inside the signal handler.
    :param leaves_at_second: whether a second signal means more than the first.
    """

    def __init__(
        self,
        stop: pool.Flag,
        grace: Callable[[], float],
        reload: Callable[[], None],
        run_now: Callable[[], object] = lambda: None,
        leaving: Callable[[], object] = lambda: None,
        leaves_at_second: bool = True,
    ) -> None:
        self._grace = grace
        self._leaving = leaving
        self._leaves_at_second = leaves_at_second
        self._asked = False
        self._signals = pool.Signals(
            {
                signal.SIGTERM: stop.set,
                signal.SIGINT: stop.set,
                signal.SIGHUP: reload,
                signal.SIGUSR1: run_now,
                signal.SIGUSR2: log_green_threads,
            },
            at_once=self._at_once,
        )
        self._tells_crashes = _tell_crashes()

    def _at_once(self, number: signal.Signals) -> None:
        """Runs inside the signal handler, also while the green threads are stuck."""
        if number is signal.SIGUSR2:
            _write_native_threads()
        if number not in (signal.SIGTERM, signal.SIGINT):
            return
        if self._asked:
            if self._leaves_at_second:
                self._leaving()
                os._exit(1)
            return
        self._asked = True
        if grace := self._grace():
            # A thread in C: it fires even if no Python code runs any more.
            faulthandler.dump_traceback_later(grace, exit=True)

    def close(self) -> None:
        faulthandler.cancel_dump_traceback_later()
        if self._tells_crashes:
            faulthandler.disable()
        self._signals.close()


def _tell_crashes() -> bool:
    """On standard error, should it crash, or systemd's watchdog abort it; False without one."""
    try:
        faulthandler.enable()
    except (AttributeError, RuntimeError, ValueError, OSError):
        return False  # it is closed, or no file
    return True


def _write_native_threads() -> None:
    """What every native thread does, on standard error.

    Not by ``faulthandler.register``: it reads the frames of threads that go on meanwhile, and
    has crashed the process.
    """
    # Whatever is raised here would come up in whatever was interrupted.
    with contextlib.suppress(Exception):
        words = "\n".join(["", "Native threads:", "", *pool.native_stacks()])
        if sys.stderr is not None:  # else its number may be anybody's
            os.write(sys.stderr.fileno(), words.encode(errors="backslashreplace"))


def log_green_threads() -> None:
    """What every green thread does, into the log."""
    stacks = pool.stacks()
    LOG.warning(
        "%s; the native threads are on standard error:\n\n%s",
        text.counted(len(stacks), "green thread"),
        "\n".join(stacks),
    )


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

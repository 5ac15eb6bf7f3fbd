"""What systemd wants to hear of a service (Type=notify), see sd_notify(3).

Written here since the libraries for it need a C library of systemd's, or are no longer kept.
"""

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from scrubber import pool

LOG = logging.getLogger(__name__)

#: So often systemd is told what the service is at, at most.
TELL_SECONDS = 1.0

#: While it stops systemd is asked for so much patience, again and again.
MORE_SECONDS = 10.0


class Notifier:
    """One message at a time to whoever started us; to nobody without NOTIFY_SOCKET.

    It never waits: a message that cannot be sent at once is lost.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self._socket: socket.socket | None = None
        self._failed = False
        self._ready = False
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
        self.watchdog_seconds = _watchdog(environment) if self._socket else None

    def __bool__(self) -> bool:
        """Whether anybody listens."""
        return self._socket is not None

    def send(self, **fields: object) -> None:
        if self._socket is None:
            return
        message = "\n".join(f"{name}={value}" for name, value in fields.items())
        try:
            self._socket.sendto(message.encode(), self._address)
        except OSError as error:
            if not self._failed:
                LOG.debug("systemd cannot be told how it goes: %s", error)
            self._failed = True

    def ready(self) -> None:
        """The service works: systemd starts what waits for it."""
        self._ready = True
        self.send(READY=1)

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """Round a reload."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        if self._ready:
            self.send(RELOADING=1, MONOTONIC_USEC=now)
        yield
        if self._ready:  # not before it was: it may still fail to start
            self.send(READY=1)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _address(name: str) -> str:
    """The socket's address; one that begins with @ is abstract."""
    return "\0" + name[1:] if name.startswith("@") else name


def _watchdog(environment: Mapping[str, str]) -> float | None:
    """After how many seconds of silence systemd takes us for stuck, if it does."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None  # meant for somebody else
    return int(microseconds) / 1e6 if microseconds.isdigit() and int(microseconds) else None


class Reporter:
    """A green thread that tells systemd what the service is at, and that its hub still turns.

    :param describe: one line for people, asked about once a second.
    """

    def __init__(self, notifier: Notifier, describe: Callable[[], str], stop: pool.Flag) -> None:
        self._notifier = notifier
        self._describe = describe
        self._stop = stop
        self._said = ""
        self._pinged = time.monotonic()
        self._task = pool.Task(self._work) if notifier else None

    def close(self) -> None:
        if self._task is not None:
            self._task.kill()

    def _work(self) -> None:
        silence = self._notifier.watchdog_seconds or 2 * TELL_SECONDS
        pause = min(TELL_SECONDS, silence / 4)
        while not self._stop:
            self._tell(self._ping())
            self._stop.wait(pause)
        self._notifier.send(STOPPING=1)
        while True:
            self._tell(self._ping() | {"EXTEND_TIMEOUT_USEC": int(MORE_SECONDS * 1e6)})
            pool.sleep(pause)

    def _ping(self) -> dict[str, object]:
        """A sign of life, where systemd waits for one, at least twice as often as it must be."""
        silence, now = self._notifier.watchdog_seconds, time.monotonic()
        if silence is None or now - self._pinged < silence / 4:
            return {}
        self._pinged = now
        return {"WATCHDOG": 1}

    def _tell(self, fields: dict[str, object]) -> None:
        line = self._line()
        if line != self._said:
            self._said = line
            fields = fields | {"STATUS": line}
        if fields:
            self._notifier.send(**fields)

    def _line(self) -> str:
        try:
            return " ".join(self._describe().split())
        except Exception:
            LOG.exception("A defect in scrubber: nobody can say what it is at")
            return "a defect in scrubber: see its log"

"""Child processes: started, waited for until they are ready, stopped, never left behind."""

import abc
import contextlib
import ctypes
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

LOCALHOST = "127.0.0.1"

T = TypeVar("T")

#: Below the kernel's own (net.ipv4.ip_local_port_range); whatever seeds are set, by real chance.
_PORTS = (14_000, 32_000)
_CHANCE = random.SystemRandom()

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


class ProcessFailed(RuntimeError):
    """A child ended, or was not ready, when it should have been; with the end of its log."""


class TimedOut(RuntimeError):
    """What was waited for did not happen before the deadline."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nobody listens now.

    None of those that the kernel gives away by itself: until our server has it, a client's
    connection could have taken it, or another test's server.
    """
    while True:
        port = _CHANCE.randrange(*_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((LOCALHOST, port))
            return port


def accepts_connections(port: int) -> bool:
    """Whether somebody listens on this port of 127.0.0.1."""
    try:
        socket.create_connection((LOCALHOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def wait_until(
    condition: Callable[[], T], *, what: str, seconds: float = 60, every: float = 0.02
) -> T:
    """Poll ``condition`` until it is truthy and return its value; TimedOut after ``seconds``.

    What comes at all comes sooner, on a machine that has as much else to do as it likes.
    """
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimedOut(f"{what}: not within {seconds:g} s")
        time.sleep(every)
    return value


def is_stopped(pid: int) -> bool:
    """Whether a SIGSTOP has reached all of its threads."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        states = [task.joinpath("stat").read_text().rpartition(")")[2].split()[0] for task in tasks]
    except OSError:
        return False  # one of them has just ended
    return set(states) == {"T"}


class Child:
    """One child process, leader of its own process group, its output in a log file.

    It gets ``death_signal`` from the kernel when the thread that started it ends without
    having stopped it: start children from the main thread.
    """

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
        user: str | None = None,
        death_signal: signal.Signals = signal.SIGKILL,
    ) -> None:
        """Start ``argv``; ``environment`` is added to our own; ``user`` needs root."""
        self.argv = [str(word) for word in argv]
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                cwd=directory,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
                start_new_session=True,
                preexec_fn=_follow_parent(death_signal),  # noqa: PLW1509 - two system calls
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._exited() is None

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal, None while it runs."""
        return self._exited()

    def log_tail(self, lines: int = 30) -> str:
        """The last lines it has written."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def wait_ready(self, ready: Callable[[], bool], *, seconds: float = 60) -> None:
        """Poll ``ready``; ProcessFailed at once if the child ends, or at the deadline."""

        def ready_or_over() -> bool:
            return not self.running or ready()

        try:
            wait_until(ready_or_over, what=self.argv[0], seconds=seconds)
            if not self.running:
                raise self._failure(f"ended with code {self.returncode} before it was ready")
        except TimedOut:
            self.stop()
            raise self._failure(f"not ready within {seconds:g} s") from None
        except BaseException:
            self.stop()
            raise

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the child alone; nothing happens if it has ended."""
        if self.running:
            os.kill(self.pid, number)

    def wait(self, *, seconds: float = 60) -> int:
        """Wait for it to end by itself and return the exit code; ProcessFailed if it does not."""
        try:
            wait_until(lambda: not self.running, what=self.argv[0], seconds=seconds)
        except TimedOut:
            raise self._failure(f"still running after {seconds:g} s") from None
        return self.stop()

    def stop(self, number: signal.Signals = signal.SIGTERM, *, seconds: float = 15) -> int:
        """Ask it to end, kill it after ``seconds``, and return the exit code; may be repeated."""
        if self._process.returncode is None:
            self.send(number)
            with contextlib.suppress(TimedOut):
                wait_until(lambda: not self.running, what=self.argv[0], seconds=seconds)
            self._kill_group()
        return self._process.wait()

    def _kill_group(self) -> None:
        # The leader is not reaped yet, so the group's number cannot belong to anybody else.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def _exited(self) -> int | None:
        """The exit code without reaping, so that pid and group stay ours until ``stop()``."""
        if self._process.returncode is not None:
            return self._process.returncode
        state = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if state is None:
            return None
        return state.si_status if state.si_code == os.CLD_EXITED else -state.si_status

    def _failure(self, what: str) -> ProcessFailed:
        return ProcessFailed(f"{' '.join(self.argv)}: {what}\n{self.log_tail()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


class Service(abc.ABC):
    """A server that runs while it is entered."""

    @abc.abstractmethod
    def start(self) -> None:
        """Start it and wait until it answers."""

    @abc.abstractmethod
    def stop(self) -> None: ...

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _follow_parent(death_signal: signal.Signals) -> Callable[[], None]:
    """What a child does before exec, so that it never outlives this process.

    Popen changes the user first: the kernel forgets the request at a change of user.
    """
    parent = os.getpid()

    def request() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(death_signal))
        if os.getppid() != parent:
            os._exit(1)

    return request

"""The workers of a supervisor: started, watched, told what to do, started again when they die."""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from scrubber import __version__, pool
from scrubber.health import Figures
from scrubber.orders import Orders
from scrubber.reporting.report import Report
from scrubber.workers.crew_run import CrewRun
from scrubber.workers.messages import (
    Alive,
    Begin,
    Channel,
    Ended,
    Failed,
    Message,
    Order,
    Ready,
    Reload,
    Stop,
)
from scrubber.workers.status import Load, State

LOG = logging.getLogger(__name__)

#: Seconds until a worker that died is started again: at first, and at most.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0

#: A worker that says nothing for so many seconds is stuck: it is killed and started again.
SILENCE, TICK = 60.0, 5.0

#: So long a worker that has hung up may take to leave.
LEAVING_SECONDS = 10.0

#: What systemd says to the supervisor is not meant for its workers.
_NOT_THEIRS = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Member:
    """One place of the crew, and the process that has it now.

    :param command: starts a worker; the channel is its standard input.
    :param heard: told each message, and None when the process has ended.
    """

    def __init__(
        self, number: int, command: Sequence[str], heard: Callable[["Member", Message | None], None]
    ) -> None:
        self.number = number
        self.state = State.STARTING
        self.pid: int | None = None
        self.problem: str | None = None
        self.deaths = 0
        self.last = Alive(0, 0, 0, {})
        self._command = command
        self._heard = heard
        self._channel: Channel | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._leaving = pool.Flag()
        self._silent = 0.0
        self._task = pool.Task(self._keep)

    # What the supervisor says ---------------------------------------------------------

    def tell(self, message: Message) -> None:
        if self._channel is not None:
            self._channel.send(message)

    def begin(self, begin: Begin) -> None:
        """Its part of a run."""
        self.state = State.RUNNING
        self.tell(begin)

    def leave(self) -> None:
        """End, and let nobody take the place."""
        self._leaving.set()
        self.tell(Stop())

    def kill(self) -> None:
        """At once; also from a signal handler."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    def join(self) -> None:
        """Until it is gone, after ``leave``."""
        self._task.join()

    def tick(self, seconds: float) -> None:
        """So many seconds have passed for the supervisor, which may itself have been stopped."""
        self._silent += seconds
        if self._silent > SILENCE and self.state is not State.DOWN:
            self.problem = f"was silent for {self._silent:.0f} s and is killed"
            self.kill()

    def as_dict(self) -> dict[str, Any]:
        return {
            "worker": self.number,
            "pid": self.pid,
            "state": self.state.value,
            "problem": self.problem,
        }

    # Its process ----------------------------------------------------------------------

    def _keep(self) -> None:
        pause = FIRST_PAUSE
        while not self._leaving:
            began = time.monotonic()
            self._employ()
            if self._leaving:
                return
            self.deaths += 1
            if time.monotonic() - began > LONGEST_PAUSE:
                pause = FIRST_PAUSE
            LOG.error(
                "Worker %d (process %s) %s. It is started again in %.0f s.",
                self.number,
                self.pid,
                self.problem,
                pause,
            )
            self._leaving.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _employ(self) -> None:
        """One process, from its start to its end."""
        self.state, self.problem, self._silent = State.STARTING, None, 0.0
        try:
            self._start()
            self._listen()
        except OSError as error:
            self.problem = f"cannot be started: {error.strerror}"
        except Exception:
            LOG.exception("A defect in scrubber: worker %d is not understood", self.number)
            self.problem = "said what its supervisor does not understand"
        finally:
            self._end()
        self.state = State.DOWN
        self._heard(self, None)

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        environment = {name: at for name, at in os.environ.items() if name not in _NOT_THEIRS}
        with theirs:
            # A group of its own: Ctrl-C reaches the supervisor alone, who tells the others.
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                self._command, stdin=theirs.fileno(), env=environment, process_group=0
            )
        self.pid = self._process.pid
        self._channel = Channel(ours)
        if self._leaving:
            self.tell(Stop())

    def _listen(self) -> None:
        assert self._channel is not None
        for message in self._channel:
            self._silent = 0.0
            self._note(message)
            self._heard(self, message)

    def _end(self) -> None:
        """It has hung up, or will find that we have."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
            status = self._reaped()
            self.problem = self.problem or _ending(status)

    def _note(self, message: Message) -> None:
        match message:
            case Ready(version) if version != __version__:
                self.problem = (
                    f"runs version {version} of scrubber and its supervisor {__version__}: "
                    "restart the service"
                )
                self.tell(Stop())
            case Ready() | Ended():
                self.state = State.IDLE
            case Failed(reason):
                self.problem = f"cannot scrub: {reason}"
            case Alive():
                self.last = message

    def _reaped(self) -> int:
        """Its exit status; it is given a moment to leave by itself."""
        assert self._process is not None
        deadline = time.monotonic() + LEAVING_SECONDS
        while (status := self._process.poll()) is None:
            if time.monotonic() > deadline:
                self._process.kill()
            pool.sleep(0.01)
        return status


def _ending(status: int) -> str:
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"


class Crew:
    """All of them.

    :param argv: the command line of the supervisor, which is theirs too.
    :param orders: what operators have ordered; ``pass_on`` says when that has changed.
    :param stop: when it is set they end, and nobody is started any more.
    :param changed: rung when any of them has said something, or has ended.
    """

    def __init__(
        self, argv: Sequence[str], size: int, orders: Orders, stop: pool.Flag, changed: pool.Bell
    ) -> None:
        self._orders = orders
        self._stop = stop
        self._changed = changed
        self._present: CrewRun | None = None
        self._past_audit_lost = 0
        self._past_figures: dict[str, Figures] = {}
        self.members = [
            Member(number, _command(argv, number, size), self._heard)
            for number in range(1, size + 1)
        ]
        self._watching = pool.Task(self._watch)
        self._stopping = pool.Task(self._stop_with_us)

    # Runs -----------------------------------------------------------------------------

    def new_run(self, report: Report) -> CrewRun:
        """A run of all of them that has not begun.

        :param report: what becomes of it.
        """
        return CrewRun(self, report, self._stop, self._changed)

    def attend(self, run: CrewRun | None) -> None:
        """From now on it is told what the workers say of it; None when it is over."""
        self._present = run

    # What they are told ---------------------------------------------------------------

    def pass_on(self) -> None:
        """What operators order now."""
        for member in self.members:
            self._tell_orders(member)

    def reload(self) -> None:
        for member in self.members:
            member.tell(Reload())

    def kill(self) -> None:
        """All of them at once; also from a signal handler."""
        for member in self.members:
            member.kill()

    def close(self) -> None:
        """They end, and are waited for."""
        for member in self.members:
            member.leave()
        for member in self.members:
            member.join()
        self._watching.kill()
        self._stopping.kill()

    def _tell_orders(self, member: Member) -> None:
        stores = {store: asdict(order) for store, order in self._orders.by_store.items()}
        member.tell(Order(stores))

    # What they say --------------------------------------------------------------------

    def _heard(self, member: Member, message: Message | None) -> None:
        if isinstance(message, Ready) and member.state is State.IDLE:
            self._tell_orders(member)
        if message is None:
            self._remember(member)
        if self._present is not None:
            self._present.heard(member, message)
        self._changed.ring()

    def _remember(self, member: Member) -> None:
        """What a process has counted; its successor begins at nothing."""
        for store, figures in _figures(member.last).items():
            counted = Figures(
                limit=0.0, took=figures.took, seconds=figures.seconds, errors=figures.errors
            )
            self._past_figures[store] = Figures.of_all(
                [self._past_figures.get(store, Figures(limit=0.0)), counted]
            )
        self._past_audit_lost += member.last.audit_lost
        member.last = Alive(0, 0, 0, {})

    def figures(self, store: str) -> Figures:
        """Of that store in all workers, and in those before them."""
        said = [_figures(member.last).get(store) for member in self.members]
        present = Figures.of_all(at for at in said if at is not None)
        past = self._past_figures.get(store)
        return present if past is None else Figures.of_all([present, past])

    @property
    def load(self) -> Load:
        said = [member.last for member in self.members]
        return Load(
            slots=sum(at.slots for at in said),
            busy=sum(at.slots_busy for at in said),
            audit_lost=self._past_audit_lost + sum(at.audit_lost for at in said),
            workers=len(self.members),
            workers_up=sum(at.state in (State.IDLE, State.RUNNING) for at in self.members),
            worker_deaths=sum(member.deaths for member in self.members),
        )

    # Watching -------------------------------------------------------------------------

    def _watch(self) -> None:
        while True:
            pool.sleep(TICK)
            for member in self.members:
                member.tick(TICK)

    def _stop_with_us(self) -> None:
        self._stop.wait()
        for member in self.members:
            member.leave()


def _figures(alive: Alive) -> dict[str, Figures]:
    return {
        store: Figures(**{**fields, "took": tuple(fields["took"])})
        for store, fields in alive.stores.items()
    }


def _command(argv: Sequence[str], number: int, size: int) -> list[str]:
    # Without the working directory on its path: anybody may have put a module there.
    python = [sys.executable, "-P", "-m", "scrubber.workers"]
    return [*python, str(number), str(size), *argv]

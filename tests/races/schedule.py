"""Processes that take turns as a seed has it: the same seed, the same turns.

Stands in for what ``scrubber.pool`` asks of eventlet: green threads, waiting and time.  Nothing
runs but one thread at a time, up to the next point where it waits or lets the others go first;
who goes on there, how late it is by then, and who is paused or crashes, is chance from a seed.
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from unittest import mock

import greenlet

from scrubber import pool

T = TypeVar("T")

#: The longest that one step takes, in seconds.
STEP = 0.05

#: One step in so many changes who is quick and who is slow.
CHANGE_OF_PACE = 20


#: No schedule takes so many: somebody goes round in circles.
TURNS = 100_000


class Stuck(Exception):
    """Everybody waits for somebody else."""


class Process:
    """Threads that are paused and crash together.

    :param pauses: one turn in so many pauses it instead, 0 for none.
    :param longest_pause: in seconds.
    :param crashes: one turn in so many is its end, 0 for none.
    """

    def __init__(
        self, name: str, *, pauses: int = 0, longest_pause: float = 0.0, crashes: int = 0
    ) -> None:
        self.name = name
        self.pauses = pauses
        self.longest_pause = longest_pause
        self.crashes = crashes
        self.dead = False
        self.paused_until = 0.0
        self.pace = 1.0


class _Thread(greenlet.greenlet):
    def __init__(self, schedule: "Schedule", process: Process, work: Callable[[], object]) -> None:
        super().__init__(self._work, parent=schedule.turns)
        self.schedule = schedule
        self.process = process
        self.over = False
        self.failure: Exception | None = None
        self.wakes_at: float | None = 0.0
        self.ended = Bell()
        self._do = work

    def _work(self) -> None:
        try:
            self._do()
        except Exception as failure:
            self.failure = failure
        finally:
            self.over = True
            if self in self.schedule.threads:
                self.schedule.threads.remove(self)
            self.ended.ring()


class Schedule:
    """Whose turn it is, and how late.

    :ivar now: seconds, as all processes see them.
    :ivar trace: what was done: when, by whom, what.
    """

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now = 1000.0
        self.threads: list[_Thread] = []
        self.trace: list[str] = []
        self.turns = greenlet.getcurrent()
        self._is_calm = False

    # For threads ----------------------------------------------------------------------

    def start(self, process: Process, work: Callable[[], object]) -> _Thread:
        thread = _Thread(self, process, work)
        self.threads.append(thread)
        return thread

    def step(self, what: str = "") -> None:
        """Let others go first; a crashed process gets no further than this."""
        self.wait_until(self.now)
        if what:
            self.say(what)

    def say(self, what: str) -> None:
        self._note(_running().process, what)

    def _note(self, process: Process, what: str) -> None:
        self.trace.append(f"{self.now:10.3f} {process.name:10} {what}")

    def happens(self, one_in: int) -> bool:
        """Something that goes wrong once in so many times, never with 0."""
        return bool(one_in) and not self._is_calm and self.chance.random() * one_in < 1

    def wait_until(self, moment: float | None) -> None:
        """None: until woken."""
        thread = _running()
        if thread.process.dead:
            raise greenlet.GreenletExit
        thread.wakes_at = moment
        self.turns.switch()

    # For who drives them --------------------------------------------------------------

    def run(self, *threads: _Thread) -> None:
        """Until these are over, or have crashed.

        :raises Stuck: they never will be.
        """
        for _ in range(TURNS):
            if all(thread.over for thread in threads):
                break
            self.now += self.chance.random() * STEP
            ready = [at for at in self.threads if self._is_ready(at)]
            if ready:
                self._take_turn(ready)
            else:
                self._pass_time()
        else:
            raise Stuck("they go on and on")
        for thread in threads:
            if thread.failure is not None:
                raise thread.failure

    def _is_ready(self, thread: _Thread) -> bool:
        wakes_at = thread.wakes_at
        return wakes_at is not None and max(wakes_at, thread.process.paused_until) <= self.now

    def _take_turn(self, ready: list[_Thread]) -> None:
        if self.chance.random() * CHANGE_OF_PACE < 1:
            self.chance.choice(ready).process.pace = 10 ** self.chance.uniform(-2, 1)
        (thread,) = self.chance.choices(ready, [at.process.pace for at in ready])
        process = thread.process
        if self.happens(process.crashes):
            self.crash(process)
        elif self.happens(process.pauses):
            process.paused_until = self.now + self.chance.random() * process.longest_pause
            self._note(process, f"is paused until {process.paused_until:.3f}")
        else:
            thread.switch()

    def calm_down(self) -> None:
        """From now on nothing goes wrong any more."""
        self._is_calm = True

    def close(self) -> None:
        """Whoever is not done never will be."""
        for process in {thread.process for thread in self.threads}:
            self.crash(process)

    def crash(self, process: Process) -> None:
        """It does nothing more, whatever its threads were at."""
        self._note(process, "ends")
        process.dead = True
        for thread in [at for at in self.threads if at.process is process]:
            thread.throw(greenlet.GreenletExit)
            thread.over = True
        self.threads = [at for at in self.threads if not at.over]

    def _pass_time(self) -> None:
        moments = [
            max(at.wakes_at, at.process.paused_until)
            for at in self.threads
            if at.wakes_at is not None
        ]
        if not moments:
            raise Stuck([at.process.name for at in self.threads])
        self.now = max(self.now, min(moments))


def _running() -> _Thread:
    thread = greenlet.getcurrent()
    assert isinstance(thread, _Thread), "nobody's turn"
    return thread


def step(what: str = "") -> None:
    """Of the thread whose turn it is."""
    _running().schedule.step(what)


# What stands in for the classes and functions of scrubber.pool ------------------------------


def _sleep(seconds: float = 0) -> None:
    schedule = _running().schedule
    schedule.wait_until(schedule.now + seconds)


def _within(_seconds: float, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Nothing here hangs; who is paused does not notice how long."""
    return function(*args, **kwargs)


def _blocking(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    step()
    result = function(*args, **kwargs)
    step()
    return result


class Bell:
    """As pool.Bell."""

    def __init__(self) -> None:
        self._waiting: list[_Thread] = []

    def ring(self) -> None:
        waiting, self._waiting = self._waiting, []
        for thread in waiting:
            thread.wakes_at = thread.schedule.now

    def wait(self, seconds: float | None = None) -> None:
        thread = _running()
        schedule = thread.schedule
        self._waiting.append(thread)
        schedule.wait_until(None if seconds is None else schedule.now + seconds)
        if thread in self._waiting:
            self._waiting.remove(thread)


class _Lock:
    def __init__(self) -> None:
        self._held = False
        self._released = Bell()

    def __enter__(self) -> None:
        while self._held:
            self._released.wait()
        self._held = True

    def __exit__(self, *_exception: object) -> None:
        self._held = False
        self._released.ring()


class _Task:
    def __init__(self, function: Callable[..., object], *args: Any) -> None:
        running = _running()
        self._thread = running.schedule.start(running.process, lambda: function(*args))

    def join(self) -> None:
        while not self._thread.over:
            self._thread.ended.wait()
        if self._thread.failure is not None:
            raise self._thread.failure

    def kill(self) -> None:
        if not self._thread.over:
            self._thread.parent = greenlet.getcurrent()  # where it goes on after that
            self._thread.throw(greenlet.GreenletExit)


class _Pool:
    def __init__(self, size: int) -> None:
        self.size = size
        self.running = 0
        self._lent = 0
        self.changed = Bell()
        self.tasks: list[_Task] = []

    @property
    def free(self) -> int:
        return max(0, self.size + self._lent - self.running)

    @property
    def is_too_full(self) -> bool:
        return self.running > self.size + self._lent

    def lend(self, slots: int) -> None:
        self._lent = slots

    def spawn(self, function: Callable[..., object], *args: Any) -> None:
        assert self.free
        self.running += 1

        def work() -> None:
            try:
                function(*args)
            finally:
                self.running -= 1
                self.changed.ring()

        self.tasks.append(_Task(work))

    def join(self) -> None:
        """Of those that have ended none may have failed: nobody else would hear of it."""
        for task in self.tasks:
            task.join()


@contextmanager
def in_place_of_eventlet() -> Iterator[None]:
    """Code of scrubber runs on schedules here, and its clock is theirs."""
    stand_ins = {
        "sleep": _sleep,
        "within": _within,
        "blocking": _blocking,
        "Bell": Bell,
        "Lock": _Lock,
        "Task": _Task,
        "Pool": _Pool,
    }
    real = time.monotonic

    def monotonic() -> float:
        thread = greenlet.getcurrent()
        return thread.schedule.now if isinstance(thread, _Thread) else real()

    with (
        mock.patch.multiple(pool, **stand_ins),
        mock.patch("time.monotonic", monotonic),
        mock.patch("time.sleep"),  # oslo.db lets others go first, who are not here
    ):
        yield

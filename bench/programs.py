"""Whole programs, started and measured to their end: seconds, CPU and memory of each process."""

import os
import resource
import select
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from lab.processes import Child

#: Nothing here takes longer, unless it hangs.
HARD_TIMEOUT = 900.0

_GLIMPSE_MILLISECONDS = 50


class ProgramFailed(RuntimeError):
    """It ended with another status than 0, or not in time; with the end of what it said."""


@dataclass(frozen=True)
class Program:
    """What to start.

    :param environment: added to our own.
    """

    argv: Sequence[str | Path]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Taken:
    """What it took, start-up included.

    :param cpu_seconds: user and system, of all processes that ended.
    :param kernel_seconds: of these, system.
    :param peak_mib: the most that each process had in memory at once, added up.
    :param server_cpu_seconds: of our other children meanwhile, by name.
    """

    seconds: float
    cpu_seconds: float
    kernel_seconds: float
    peak_mib: float
    server_cpu_seconds: dict[str, float]


def run(*programs: Program, log: Path, timeout: float = HARD_TIMEOUT) -> Taken:
    """Start them together, and wait until all have ended.

    :raises ProgramFailed: one of them has failed, or takes too long; the others are killed.
    """
    servers, before, started = _cpu_of_servers(), _of_ended(), time.perf_counter()
    peaks: dict[int, int] = {}
    with ExitStack() as stack:
        running = [
            stack.enter_context(Child(each.argv, log=log, environment=each.environment))
            for each in programs
        ]
        for child in running:
            _await(child, started + timeout, running, peaks)
        seconds = time.perf_counter() - started
        statuses = [child.stop() for child in running]
    if any(statuses):
        raise ProgramFailed(f"exit status {max(statuses, key=abs)}: {_tail(log)}")
    used, after = _cpu_of_servers(), _of_ended()
    kernel_seconds = after.ru_stime - before.ru_stime
    return Taken(
        seconds,
        after.ru_utime - before.ru_utime + kernel_seconds,
        kernel_seconds,
        sum(peaks.values()) / 1024,
        {name: used[name] - servers[name] for name in used if name in servers},
    )


def _await(child: Child, deadline: float, running: Sequence[Child], peaks: dict[int, int]) -> None:
    """Until it ends, looking at the memory of all of them now and then."""
    ends = os.pidfd_open(child.pid)
    try:
        poller = select.poll()
        poller.register(ends, select.POLLIN)
        while not poller.poll(_GLIMPSE_MILLISECONDS):
            if time.perf_counter() > deadline:
                raise ProgramFailed("it was still running when its time was over")
            for pid in (pid for each in running for pid in _family(each.pid)):
                peaks[pid] = max(peaks.get(pid, 0), high_water_mark(pid))
    finally:
        os.close(ends)


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return " | ".join(lines[-3:]) or "it said nothing"


def high_water_mark(pid: int) -> int:
    """A process's own, in KiB, which unlike getrusage's does not begin at its parent's."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return 0  # it is ending


def _family(pid: int) -> Iterator[int]:
    """A process and all that it has started."""
    yield pid
    for child in _children(pid):
        yield from _family(child)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            found += map(int, task.read_text().split())
    return found


def _cpu_of_servers() -> dict[str, float]:
    """Seconds, of our running children by name, their own children included."""
    seconds: dict[str, float] = {}
    for server in _children(os.getpid()):
        name = _name_of(Path("/proc", str(server), "cmdline").read_text().split("\0"))
        used = sum(_cpu_of(pid) for pid in _family(server))
        seconds[name] = seconds.get(name, 0) + used
    return {name: used for name, used in seconds.items() if used}


def _cpu_of(pid: int) -> float:
    """Of a process, and of its children that have ended."""
    with suppress(OSError):
        # After the name, which may hold anything: state is the third field of all.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return 0  # it has just ended


def _name_of(argv: Sequence[str]) -> str:
    """The program, or the script that Python runs."""
    return next((Path(word).name for word in argv if word.endswith(".py")), Path(argv[0]).name)


def _of_ended() -> resource.struct_rusage:
    """What our children that have ended took."""
    return resource.getrusage(resource.RUSAGE_CHILDREN)

"""Clocks of hosts that are an hour off, or jump: what counts is the database's clock.

libfaketime stands between the program and its wall clock; the monotonic one stays what it is.
"""

import glob
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from chaos.crew import RESTLESS, Crew
from chaos.invariants import Kind, Violation, repeated
from chaos.scenario import Injected, Scenario, Site, Terms
from lab import Unavailable
from lab.processes import wait_until
from process.program import Program
from process.rows import Backlog

SERVERS = ("mariadb", "postgresql")

LIBRARIES = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib64/faketime/libfaketimeMT.so.1")

IMAGES = 400

#: A deleted image may be restored for so long.
SCRUB_TIME = 30 * 60
DUE, NOT_DUE = timedelta(minutes=40), timedelta(minutes=20)

AHEAD, RIGHT, BEHIND = "+3600s", "+0s", "-3600s"


class Clock:
    """The wall clock of a host, for the programs that are started with it.

    :ivar offset: from the true time, as libfaketime writes it; heeded within a second.
    """

    def __init__(self, file: Path, offset: str) -> None:
        self._file = file
        self.set(offset)
        if not self._is_heeded(offset):
            raise Unavailable("libfaketime does not change this Python's clock")

    def _is_heeded(self, offset: str) -> bool:
        said = subprocess.run(
            [sys.executable, "-c", "import time; print(time.time() - time.monotonic())"],
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        wanted = time.time() - time.monotonic() + float(offset.rstrip("s"))
        return abs(float(said.stdout) - wanted) < 600

    def set(self, offset: str) -> None:
        # In one step: it is read at any moment.
        draft = self._file.with_suffix(".new")
        draft.write_text(offset)
        draft.replace(self._file)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": library(),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


def library() -> str:
    for pattern in LIBRARIES:
        for path in sorted(glob.glob(pattern)):
            return path
    raise Unavailable("libfaketime is not installed")


# The scene --------------------------------------------------------------------------------


def play(site: Site, terms: Terms) -> list[Injected]:
    injected: list[Injected] = []
    for chance in terms.rounds():
        for server in terms.some(SERVERS):
            with site.scene() as scene:
                injected += hours_apart(scene, server, chance, terms.count(IMAGES, least=80))
    return injected


def hours_apart(site: Site, server: str, chance: random.Random, images: int) -> list[Injected]:
    """Two hosts, two hours apart, and then both of them jump, again and again."""
    backlog = Backlog(site.database(server), site.directory("store"))
    backlog.add_live(10)
    young = Backlog(backlog.database, site.directory("young"), "young")
    young.add_pending(10, ago=NOT_DUE)
    clocks = [Clock(site.directory("clock") / "offset", offset) for offset in (AHEAD, BEHIND)]
    programs = [_program(site, [backlog, young], clock) for clock in clocks]
    with Crew(programs, backlog.database, backlog, backlog.live) as crew:
        early = restored_too_early(programs, backlog, images)
        seconds, found = crew.recover()
        apart = Injected(
            f"clocks an hour ahead and behind, {server}", 2, (*early, *found), (seconds,)
        )
        backlog.add_pending(images, ago=DUE)
        jumps = jump(clocks, chance, crew)
        seconds, found = crew.recover()
        found += [*scrubbed_too_early(young), *crew.end(), *_twice(programs, backlog)]
    return [
        apart,
        Injected(f"clocks that jump by an hour, {server}", jumps, tuple(found), (seconds,)),
    ]


def jump(clocks: Sequence[Clock], chance: random.Random, crew: Crew) -> int:
    """As long as there is work, and at least some times."""
    jumps = 0
    while jumps < 4 or (crew.is_busy and jumps < 40):
        chance.choice(clocks).set(chance.choice((AHEAD, RIGHT, BEHIND)))
        jumps += 1
        over = time.monotonic() + chance.uniform(0.5, 1.5)
        wait_until(lambda until=over: time.monotonic() > until, what="time")
    return jumps


def restored_too_early(
    programs: Sequence[Program], backlog: Backlog, images: int
) -> list[Violation]:
    """A claim that is alive keeps a restore off, --force or not, whatever the clocks say."""
    found: list[Violation] = []
    for program in programs:
        backlog.add_pending(images, ago=DUE)
        claimed = wait_until(lambda: backlog.claimed() & backlog.files(), what="a claim")
        # It goes through them in no order that we know: any may be next.
        image = max(claimed)
        ended = program.run("--restore", image, "--force")
        if ended.status != 1:
            found.append(Violation(image, Kind.TOO_EARLY))
    return found


def scrubbed_too_early(young: Backlog) -> list[Violation]:
    gone = set(young.pending) - young.files() | young.recorded()
    return [Violation(image, Kind.TOO_EARLY) for image in sorted(gone)]


def _twice(programs: Sequence[Program], backlog: Backlog) -> list[Violation]:
    journals = [program.journal.deletes() for program in programs]
    deletes = Counter(delete.image for journal in journals for delete in journal)
    return repeated(deletes, backlog.pending)


def _program(site: Site, backlogs: Sequence[Backlog], clock: Clock) -> Program:
    program = site.program()
    program.use(*backlogs, kind="slowfile", seconds=0.1)
    program.configure(
        RESTLESS, {"DEFAULT": {"scrub_time": SCRUB_TIME}, "scrubber": {"page_size": 1000}}
    )
    program.add_environment(clock.environment)
    return program


SCENARIO = Scenario(
    "clock",
    "hosts whose clocks are wrong share the work, and nobody scrubs or restores too early",
    play,
    small_size=0.25,
)

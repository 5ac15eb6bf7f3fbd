"""A scrubber that is struck at one point of its work, and the backlog that it leaves behind."""

import random
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chaos.crew import SHORT_WAITS
from chaos.invariants import Kind, Violation, broken, left, look
from chaos.scenario import Site
from chaos.struck import GAP, IN_DATABASE, MOMENTS, POINTS
from lab.processes import is_stopped
from process.program import Ended, Program, Running
from process.rows import Backlog

STRUCK = Path(__file__).with_name("struck.py")

#: The shortest that there is.
LEASE = 10

LIVE, PENDING, STUBBORN = 5, 40, 2

#: At which call: what comes only once in a short run, and what comes again and again.
_OFTEN = {"claim": 3, "delete": 6, "finish": 2, "report": 2}

OPTIONS = {
    "DEFAULT": {"scrub_pool_size": 4},
    "scrubber": {"claim_lease": LEASE, "call_timeout": 1, "page_size": 10},
}


@dataclass(frozen=True)
class Blow:
    """Where and when a scrubber is struck; ``number`` is the call at which it happens."""

    server: str
    point: str
    moment: str
    number: int

    @classmethod
    def any_of(
        cls, chance: random.Random, servers: Sequence[str], point: str, moment: str
    ) -> "Blow":
        return cls(chance.choice(servers), point, moment, chance.randint(1, _OFTEN.get(point, 1)))

    def __str__(self) -> str:
        return f"{self.moment} {self.point} {self.number} on {self.server}"


def everywhere(chance: random.Random, servers: Sequence[str]) -> list[Blow]:
    """One at each moment of each point, each on one of these database servers."""
    return [Blow.any_of(chance, servers, point, moment) for point in POINTS for moment in MOMENTS]


class Casualty:
    """One scrubber, its database, its store, and whoever carries on."""

    def __init__(self, site: Site, blow: Blow) -> None:
        self.blow = blow
        self.backlog = Backlog(site.database(blow.server), site.directory("store"))
        self.backlog.add_live(LIVE)
        # A claim is only renewed by whom a single delete takes long: no more is claimed than is
        # done in a second.
        slow = blow.point == "renew"
        self.backlog.add_pending(PENDING // 4 if slow else PENDING)
        self.stubborn: list[str] = []
        self.program = site.program()
        self.program.use(
            self.backlog, kind="slowfile", batch=1 if slow else 4, seconds=5 if slow else 0.02
        )
        state = {"connection": f"sqlite:///{self.program.directory}/state.sqlite"}
        self.program.configure(OPTIONS, {"state": state})
        if blow.point in ("release", "ledger"):
            self._be_stubborn()
        self.struck_at = 0.0
        self.running: Running

    def _be_stubborn(self) -> None:
        """Some files cannot be deleted: so claims are given back, and the ledger is written."""
        self.stubborn = self.backlog.pending[:STUBBORN]
        for image in self.stubborn:
            self.backlog.path(image).unlink()
            self.backlog.path(image).mkdir()

    def relent(self) -> None:
        """Whoever carries on has no such trouble."""
        self.program.configure({"main": {"seconds": 0}})
        for image in self.stubborn:
            self.backlog.path(image).rmdir()
            self.backlog.path(image).write_bytes(b"bytes")

    def die(self) -> Ended:
        """It is killed."""
        ended = self.program.main("--format", "json", wrapped=self._script(signal.SIGKILL))
        self.struck_at = time.monotonic()
        assert ended.status == -signal.SIGKILL, f"{self.blow} was never reached: {ended}"
        return ended

    def start(self) -> None:
        """It runs until it stops itself."""
        self.running = self.program.start(
            command=[
                *(sys.executable, "-P", *map(str, self._script(signal.SIGSTOP))),
                *self.program.command("--format", "json")[1:],
            ]
        )

    def _script(self, number: signal.Signals) -> tuple[str | Path, ...]:
        blow = self.blow
        return STRUCK, blow.point, blow.moment, str(blow.number), number.name

    @property
    def was_stopped(self) -> bool:
        assert self.running.running, f"{self.blow} was never reached: {self.running.stderr}"
        if not is_stopped(self.running.pid):
            return False
        self.struck_at = self.struck_at or time.monotonic()
        return True

    def go_on(self) -> None:
        self.running.child.send(signal.SIGCONT)

    @property
    def is_lapsed(self) -> bool:
        """Whether nothing that it has claimed is its own any more."""
        # A claim is written a second ahead of its time.
        return time.monotonic() > self.struck_at + LEASE + 2

    @property
    def holds_locks(self) -> bool:
        """Whether a transaction on Glance's database is open as long as it stands still."""
        return self.blow.moment == "amid" and self.blow.point in IN_DATABASE

    @property
    def is_in_the_gap(self) -> bool:
        return self.blow.moment == GAP

    def in_flight(self) -> set[str]:
        """Images to whose files a call is on its way."""
        return {delete.image for delete in self.program.journal.deletes() if not delete.ended}

    def heir(self, site: Site) -> Program:
        """A scrubber on another host, with a state database of its own."""
        heir = site.program()
        heir.use(self.backlog, kind="slowfile", batch=4)
        database = self.backlog.database
        heir.configure(
            OPTIONS, {"database": {"connection": database.url + SHORT_WAITS[database.server]}}
        )
        return heir

    def broken(self) -> list[Violation]:
        return broken(look(self.backlog.database, self.backlog), kept=self.backlog.live)

    def left(self, restored: Sequence[str] = ()) -> list[Violation]:
        kept = [*self.backlog.live, *restored]
        return left(look(self.backlog.database, self.backlog), kept=kept)

    def failed(self, ended: Ended, unless: str = "Traceback") -> list[Violation]:
        """A run that should have ended well; what it said is shown, for it is gone soon.

        :param unless: it says this, which excuses it.
        """
        sound = ended.status in (0, 3) or unless in ended.stderr
        if sound and "Traceback" not in ended.stderr:
            return []
        print(f"{self.blow}: exit status {ended.status}\n{ended.stderr}", flush=True)
        return [Violation(f"{self.blow}: exit status {ended.status}", Kind.RUN_FAILED)]

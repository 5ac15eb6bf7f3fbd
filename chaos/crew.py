"""Daemons that share a backlog while something goes wrong, and what must be true of it after."""

import json
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence

from chaos.invariants import Kind, Stock, Violation, broken, left, look
from lab.databases import Database
from lab.processes import wait_until
from process.program import Program, Running

#: What keeps them busy: a run a second, and no long waits for what failed.
RESTLESS = {
    "DEFAULT": {"wakeup_time": 1, "scrub_pool_size": 4},
    "scrubber": {
        "claim_lease": 10,
        "call_timeout": 2,
        "page_size": 50,
        "retry_base": 1,
        "retry_cap": 2,
        "graceful_shutdown_timeout": 10,
    },
}

#: What a session may wait for a lock, at the end of a URL, as operators set it who want no long
#: waits.
SHORT_WAITS = {
    "mariadb": "?init_command=SET+innodb_lock_wait_timeout%3D1",
    # Longer than it takes that server to notice a deadlock.
    "postgresql": "?options=-c+lock_timeout%3D2s",
}

#: After the last fault everything has to be done in this time: leases have to lapse.
PATIENCE = 120.0


class Crew:
    """Daemons at work; started and stopped by ``with``.

    :param database: as it is, past everything that stands in front of it.
    :param kept: images that nobody deletes.
    """

    def __init__(
        self,
        programs: Sequence[Program],
        database: Database,
        stock: Stock,
        kept: Sequence[str],
    ) -> None:
        self._programs = programs
        self._database = database
        self._stock = stock
        self._kept = list(kept)
        self._running: list[Running] = []
        self._ended: list[str] = []

    def __enter__(self) -> "Crew":
        self._running = [
            program.start("--daemon", "--format", "json") for program in self._programs
        ]
        for running in self._running:
            running.child.wait_ready(lambda at=running: at.runs_ended() >= 1)
        return self

    def __exit__(self, *_: object) -> None:
        for program in self._programs:
            program.close()

    # What must hold -------------------------------------------------------------------

    def broken(self) -> list[Violation]:
        return broken(look(self._database, self._stock), self._kept)

    @property
    def is_busy(self) -> bool:
        """Whether anything is pending."""
        return any(row.is_pending for row in look(self._database, self._stock).rows)

    def recover(self) -> tuple[float, list[Violation]]:
        """Seconds until all is scrubbed that was deleted; what is left if that takes too long."""
        started = time.monotonic()
        found: list[Violation] = []

        def is_done() -> bool:
            found[:] = left(look(self._database, self._stock), self._kept)
            return not found or time.monotonic() > started + PATIENCE

        wait_until(is_done, what="the end", seconds=2 * PATIENCE, every=0.3)
        return time.monotonic() - started, found

    def end(self) -> list[Violation]:
        """Tell them to end; a defect of one, or one that does not end well, is a violation."""
        for running in self._running:
            running.child.send(signal.SIGTERM)
        return [violation for running in self._running for violation in _failures(running)]

    def counted(self) -> Counter[str]:
        """What became of locations, as the reports of all runs have it together."""
        counts: Counter[str] = Counter()
        for running in self._running:
            for report in _reports(running):
                counts.update(report["locations"])
        return +counts

    @property
    def said(self) -> str:
        return "\n".join(running.stderr for running in self._running)


def _reports(running: Running) -> Iterator[dict[str, dict[str, int]]]:
    for line in running.stdout.splitlines():
        yield json.loads(line)


def _failures(running: Running) -> Iterator[Violation]:
    ended = running.wait()
    if ended.status != 0 or "Traceback" in ended.stderr:
        print(f"a daemon ended with {ended.status}\n{ended.stderr}", flush=True)
        yield Violation(f"a daemon ended with {ended.status}", Kind.RUN_FAILED)

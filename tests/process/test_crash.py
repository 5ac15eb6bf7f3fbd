"""A run that dies or is paused in mid-run: its claims lapse, and then they bind nobody."""

import contextlib
import signal
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from lab.databases import Database, Servers
from lab.processes import is_stopped, wait_until
from process.program import Program, Running
from process.rows import Backlog

LEASE = 10


@dataclass
class Interrupted:
    """A run that got a signal when about a fifth of its images was deleted."""

    program: Program
    backlog: Backlog
    running: Running
    moment: float
    claimed: set[str]
    begun: int


def interrupted(
    database: Database, directory: Path, cache: Path, number: signal.Signals
) -> Interrupted:
    backlog = Backlog(database, directory / "store")
    backlog.add_live(20)
    backlog.add_pending(300)
    program = Program(directory / "program", cache)
    program.use(backlog, kind="slowfile", seconds=0.1)
    program.configure({"scrubber": {"claim_lease": LEASE, "call_timeout": 1, "page_size": 100}})
    running = program.start()
    running.child.wait_ready(lambda: program.journal.ended() >= 60)
    while True:
        running.child.send(number)
        moment = time.monotonic()
        wait_until(lambda: not running.running or is_stopped(running.pid), what=number.name)
        if is_writable(database):
            break
        # Stopped in the middle of a transaction: on SQLite nobody could do anything then.
        running.child.send(signal.SIGCONT)
    claimed = backlog.claimed()
    assert claimed, "not in mid-run"
    return Interrupted(program, backlog, running, moment, claimed, program.journal.begun())


def is_writable(database: Database) -> bool:
    with contextlib.closing(
        sqlite3.connect(sa.make_url(database.url).database, timeout=0)
    ) as connection:
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            return False
        connection.rollback()
        return True


@pytest.fixture(scope="module")
def lapsed(
    servers: Servers, tmp_path_factory: pytest.TempPathFactory, cache: Path
) -> Iterator[dict[str, Interrupted]]:
    """A killed and a stopped run, a lease ago; a daemon waits for what the killed one held."""
    runs = {}
    server = servers.get("sqlite")
    for name, number in (("killed", signal.SIGKILL), ("stopped", signal.SIGSTOP)):
        database = server.create_database(name)
        runs[name] = interrupted(database, tmp_path_factory.mktemp(name), cache, number)
        if name == "killed":
            runs[name].backlog.assert_truthful()
            runs[name].program.configure({"DEFAULT": {"wakeup_time": 1}, "main": {"seconds": 0}})
            runs[name].running = runs[name].program.start("--daemon")
    over = time.monotonic() + LEASE + 1
    wait_until(lambda: time.monotonic() > over, what="the leases to lapse")
    yield runs
    for run in runs.values():
        run.program.close()
        server.drop_database(run.backlog.database)


def test_a_daemon_takes_over_from_a_killed_run_once_its_claims_lapse(
    lapsed: dict[str, Interrupted],
) -> None:
    killed = lapsed["killed"]
    backlog, daemon = killed.backlog, killed.running
    daemon.child.wait_ready(lambda: backlog.recorded() == set(backlog.pending))
    daemon.assert_stops()
    backlog.assert_scrubbed()

    # What had no claim was done at once; what had one not before its lease was over.
    later = killed.program.journal.deletes()[killed.begun :]
    free = [delete.began for delete in later if delete.image not in killed.claimed]
    taken_over = [delete.began for delete in later if delete.image in killed.claimed]
    assert max(free) < min(taken_over)
    assert min(taken_over) > killed.moment + LEASE / 2


def test_a_stopped_run_deletes_nothing_that_was_restored_once_its_claims_lapsed(
    lapsed: dict[str, Interrupted],
) -> None:
    stopped = lapsed["stopped"]
    program, backlog = stopped.program, stopped.backlog
    in_flight = {
        delete.image
        for delete in program.journal.deletes()
        if delete.ended is None or delete.ended >= stopped.moment
    }
    # What is in flight may still be deleted: --force is the operator's word that it is not.
    restored = sorted((stopped.claimed & backlog.files()) - in_flight)[:3]
    assert len(restored) == 3
    refused = program.run("--restore", restored[0])
    refused.assert_one_error("not been heard of", "--force")
    for image in restored:
        ended = program.run("--restore", image, "--force")
        assert ended.status == 0, ended
    stopped.running.child.send(signal.SIGCONT)
    ended = stopped.running.wait()

    assert ended.status in (0, 3)
    assert "Traceback" not in ended.stderr
    assert set(restored) <= backlog.files()
    tried = {delete.image for delete in program.journal.deletes()[stopped.begun :]}
    assert not tried & set(restored)

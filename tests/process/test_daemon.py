"""The daemon goes on: after each run comes the next, whatever became of the last."""

import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from lab.databases import Database, Servers
from lab.processes import wait_until
from process.program import Program, Running
from process.rows import Backlog

NewDatabase = Callable[..., Database]


def runs(running: Running, more: int) -> None:
    """Wait for so many more runs to end."""
    wanted = running.runs_ended() + more
    wait_until(lambda: running.runs_ended() >= wanted, what=f"run {wanted}")


def test_runs_follow_each_other_after_wakeup_time_and_pick_up_what_is_new(
    program: Program, backlog: Backlog
) -> None:
    backlog.add_live(2)
    program.use(backlog)
    program.configure({"DEFAULT": {"wakeup_time": 1}})
    running = program.start("--daemon")
    running.child.wait_ready(lambda: running.runs_ended() > 0)
    started, runs_before = time.monotonic(), running.runs_ended()
    for _ in range(3):
        backlog.add_pending(5)
        wait_until(lambda: backlog.recorded() == set(backlog.pending), what="the next run")
    assert running.runs_ended() - runs_before <= (time.monotonic() - started) / 1 + 1
    running.assert_stops()
    backlog.assert_scrubbed()


def held_by(running: Running) -> tuple[int, int]:
    """Descriptors and threads of the process."""
    process = psutil.Process(running.pid)
    return process.num_fds(), process.num_threads()


def test_many_runs_hold_no_more_than_one(
    program: Program, new_database: NewDatabase, tmp_path: Path
) -> None:
    backlog = Backlog(new_database("postgresql"), tmp_path / "store")
    backlog.add_live(2)
    backlog.add_pending(300)
    # Single calls, so that each native thread and each connection has its turn at once.
    program.use(backlog, kind="slowfile")
    program.configure({"DEFAULT": {"wakeup_time": 0}})
    running = program.start("--daemon")
    running.child.wait_ready(lambda: running.runs_ended() >= 2)
    before = held_by(running)
    for _ in range(4):
        backlog.add_pending(50)
        running.child.send(signal.SIGHUP)
        runs(running, 1)
    wait_until(lambda: backlog.recorded() == set(backlog.pending), what="all runs")

    assert held_by(running) == before
    running.assert_stops()


def test_a_store_that_cannot_be_used_keeps_nothing_else_waiting(
    program: Program, backlog: Backlog, tmp_path: Path
) -> None:
    other = Backlog(backlog.database, tmp_path / "other", store="other")
    for each in (backlog, other):
        each.add_live(2)
        each.add_pending(5)
    program.use(backlog, other)
    program.configure({"DEFAULT": {"wakeup_time": 1}})
    away = tmp_path / "away"
    other.directory.rename(away)

    running = program.start("--daemon")
    wait_until(lambda: backlog.recorded() == set(backlog.pending), what="the store that works")
    runs(running, 1)
    assert other.recorded() == set()
    assert other.claimed() == set()
    assert str(other.directory) in running.stderr

    # An empty directory is a mount point without its file system: not to be believed either.
    other.directory.mkdir()
    runs(running, 2)
    assert other.recorded() == set()

    other.directory.rmdir()
    shutil.move(away, other.directory)
    wait_until(lambda: other.recorded() == set(other.pending), what="the store that is back")
    running.assert_stops()
    for each in (backlog, other):
        each.assert_scrubbed()


@pytest.mark.slow
def test_a_run_without_its_database_is_followed_by_a_good_one(
    servers: Servers, new_database: NewDatabase, program: Program, tmp_path: Path, cache: Path
) -> None:
    """MariaDB and PostgreSQL at the same time, since a run is patient."""
    both = {}
    for name in ("mariadb", "postgresql"):
        backlog = Backlog(new_database(name), tmp_path / name)
        backlog.add_live(2)
        its_program = Program(tmp_path / f"program-{name}", cache)
        its_program.use(backlog)
        its_program.configure({"DEFAULT": {"wakeup_time": 1}})
        both[name] = (backlog, its_program, its_program.start("--daemon"))
    try:
        for _, _, running in both.values():
            running.child.wait_ready(lambda running=running: running.runs_ended() > 0)
        for name in both:
            servers.get(name).halt()
        for _, _, running in both.values():
            wait_until(
                lambda running=running: "failed: " in running.stderr,
                what="a run that failed",
            )
            assert running.running
        for name in both:
            servers.get(name).restart()
        for backlog, _, _ in both.values():
            backlog.add_pending(20)
        for backlog, _, running in both.values():
            wait_until(
                lambda backlog=backlog: backlog.recorded() == set(backlog.pending),
                what="a good run",
            )
            backlog.assert_scrubbed()
            running.assert_stops()
    finally:
        for name, (_, its_program, _) in both.items():
            its_program.close()
            servers.get(name).halt()
            servers.get(name).restart()

"""Operators watch and steer real scrubbers with scrubber-manage, from another process."""

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.processes import wait_until
from process.program import HARD_TIMEOUT, Ended, Program, Running
from process.rows import Backlog
from process.test_manage import MANAGE

#: More images than anybody waits for.
MANY = 500


class Operator:
    """Somebody with scrubber-manage and the scrubber's own configuration file."""

    def __init__(self, program: Program) -> None:
        self._program = program
        state = program.directory / "state.sqlite"
        program.configure({"state": {"connection": f"sqlite:///{state}"}})

    def manage(self, *words: str) -> str:
        return self._run(*words).stdout

    def document(self, *words: str) -> Any:
        return self._run(*words, "--format", "json").document

    def _run(self, *words: str) -> Ended:
        assert MANAGE is not None, "install scrubber beside this Python"
        started = time.monotonic()
        result = subprocess.run(
            [MANAGE, "--config-file", str(self._program.file), *words],
            capture_output=True,
            text=True,
            env=self._program.environment(),
            timeout=HARD_TIMEOUT,
            check=False,
        )
        took = time.monotonic() - started
        ended = Ended(result.returncode, result.stdout, result.stderr, took)
        assert ended.status == 0, ended
        return ended

    def wait_until(self, holds: Callable[[Any], object]) -> Any:
        """The status, once that holds for it."""
        status = [self.document("status")]

        def look() -> bool:
            status[0] = self.document("status")
            return bool(holds(status[0]))

        wait_until(look, what="a status")
        return status[0]


@pytest.fixture
def operator(program: Program) -> Operator:
    return Operator(program)


@pytest.fixture
def slow(program: Program, backlog: Backlog, operator: Operator) -> Backlog:
    """A store that takes its time: a run goes on until somebody ends it."""
    backlog.add_live(2)
    program.use(backlog, kind="slowfile", seconds=0.3)
    program.configure({"DEFAULT": {"scrub_pool_size": 1, "wakeup_time": 3600}})
    return backlog


def start(program: Program, slow: Backlog, *flags: str) -> Running:
    running = program.start(*flags)
    running.child.wait_ready(lambda: len(slow.recorded()) > 0)
    return running


def test_a_daemon_is_watched_cancelled_and_asked_for_a_run(
    program: Program, slow: Backlog, operator: Operator
) -> None:
    slow.add_pending(MANY)
    running = start(program, slow, "--daemon")
    status = operator.wait_until(lambda status: status["running"])
    (process,) = status["processes"]
    assert (process["pid"], process["alive"]) == (running.pid, True)
    (run,) = status["running"]
    assert run["trigger"] == "start"

    assert "asked to end" in operator.manage("cancel", run["run"])
    wait_until(lambda: running.runs_ended() == 1, what="the end of the cancelled run", seconds=5)
    shown = operator.document("show", run["run"])["run"]
    assert shown["status"] == "cancelled"
    assert shown["locations"]["deleted"] == len(slow.recorded()) < MANY
    assert not slow.claimed(), "what was not sent is given back"

    assert "1 scrubber" in operator.manage("run-now")
    run = operator.wait_until(lambda status: status["running"])["running"][0]
    assert run["trigger"] == "request"
    running.child.send(signal.SIGTERM)
    assert running.wait(10).status == 0
    assert operator.document("status")["processes"] == []
    assert [run["status"] for run in operator.document("runs")["runs"]] == ["cancelled"] * 2
    slow.assert_truthful()


def test_a_pause_holds_a_store_and_a_resume_lets_it_go(
    program: Program, slow: Backlog, operator: Operator
) -> None:
    slow.add_pending(MANY)
    running = start(program, slow, "--daemon")
    operator.manage("pause", slow.store)
    wait_until(lambda: running.runs_ended() == 1, what="the end of a run", seconds=5)
    deleted = len(slow.recorded())
    (run,) = operator.document("runs")["runs"]
    assert run["status"] == "partial"
    assert "paused" in operator.manage("show", "latest")
    # Asked for a run it makes one, and leaves the store alone.
    operator.manage("run-now")
    wait_until(lambda: running.runs_ended() == 2, what="another run")
    assert len(slow.recorded()) == deleted
    assert operator.document("status")["paused"] == [slow.store]
    operator.manage("resume", slow.store)
    operator.manage("run-now")
    wait_until(lambda: len(slow.recorded()) > deleted, what="deletes after the pause")
    slow.assert_truthful()


def test_a_cron_job_can_be_cancelled_too(
    program: Program, slow: Backlog, operator: Operator
) -> None:
    slow.add_pending(MANY)
    running = start(program, slow)
    (run,) = operator.wait_until(lambda status: status["running"])["running"]
    assert run["trigger"] == "once"
    operator.manage("cancel", run["run"])
    ended = running.wait(10)
    assert ended.status == 3
    assert "cancelled" in ended.stdout


def test_a_pause_of_everything_keeps_a_daemon_from_running_and_a_cron_job_from_deleting(
    program: Program, slow: Backlog, operator: Operator
) -> None:
    slow.add_pending(3)
    assert program.run("--dry-run").status == 0, "which makes no state database"
    assert not list(program.directory.glob("state*"))
    slow_once = program.run("--image", "00000000-0000-0000-0000-000000000000")
    assert slow_once.status == 0
    operator.manage("pause")
    ended = program.run()
    assert ended.status == 3
    assert "paused" in ended.stdout
    running = program.start("--daemon")
    operator.wait_until(
        lambda status: [at["doing"]["state"] for at in status["processes"]] == ["paused"]
    )
    operator.manage("resume")
    wait_until(lambda: slow.recorded() == set(slow.pending), what="the end of the pause")
    running.child.send(signal.SIGTERM)
    assert running.wait(10).status == 0
    slow.assert_scrubbed()


def test_what_is_pending_is_listed_and_can_be_restored(
    program: Program, backlog: Backlog, operator: Operator
) -> None:
    backlog.add_live(2)
    backlog.add_pending(2)
    program.use(backlog)
    program.configure({"DEFAULT": {"scrub_time": 7200}})
    images = operator.document("pending")["images"]
    assert {image["image"] for image in images} == set(backlog.pending)
    for image in images:
        assert image["size"] == 5
        assert image["due_at"] > image["deleted_at"]
    assert operator.document("pending", "--owner", "nobody")["images"] == []
    name = images[0]["name"]
    named = operator.document("pending", "--name", name, "--owner", "owner")["images"]
    assert images[0] in named
    lost, back = backlog.pending
    assert back in operator.manage("restore", back)
    assert [image["image"] for image in operator.document("pending")["images"]] == [lost]
    assert backlog.path(back).exists()


def test_a_state_database_that_goes_away_stops_no_run(
    program: Program, slow: Backlog, operator: Operator, tmp_path: Path
) -> None:
    slow.add_pending(MANY)
    running = start(program, slow, "--daemon")
    state = program.directory / "state.sqlite"
    state.rename(tmp_path / "elsewhere.sqlite")
    wait_until(lambda: "without a memory" in running.stderr, what="a warning")
    deleted = len(slow.recorded())
    wait_until(lambda: len(slow.recorded()) > deleted, what="more deletes")
    running.child.send(signal.SIGTERM)
    ended = running.wait(10)
    assert ended.status == 0
    assert "Traceback" not in ended.stderr
    slow.assert_truthful()

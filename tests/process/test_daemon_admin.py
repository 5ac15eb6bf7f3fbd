"""A real daemon in mid-run: what its admin API shows is what happens, what is ordered is done."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from lab import http_over_unix
from lab.http_over_unix import Answer
from lab.processes import wait_until
from process.program import Program, Running
from process.rows import Backlog

MANY = 500


class Admin:
    """A client on the daemon's Unix socket, which may do everything."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def ask(self, method: str, path: str, body: object = None) -> Answer:
        return http_over_unix.ask(self.path, method, path, body)

    def get(self, path: str) -> Any:
        answer = self.ask("GET", path)
        assert answer.status == 200, (path, answer)
        return answer.text if path == "/metrics" else answer.document

    def metric(self, name: str) -> float:
        (line,) = [at for at in self.get("/metrics").splitlines() if at.startswith(f"{name} ")]
        return float(line.rpartition(" ")[2])


@pytest.fixture
def admin(program: Program) -> Admin:
    path = program.directory / "admin.sock"
    program.configure({"admin": {"listen": f"unix:{path}"}})
    return Admin(path)


def start(program: Program, backlog: Backlog, admin: Admin) -> Running:
    program.use(backlog, kind="slowfile", seconds=0.3)
    state = f"sqlite:///{program.directory}/state.sqlite"
    program.configure(
        {"DEFAULT": {"scrub_pool_size": 1, "wakeup_time": 3600}, "state": {"connection": state}}
    )
    running = program.start("--daemon")
    running.child.wait_ready(lambda: admin.path.exists() and len(backlog.recorded()) > 0)
    return running


def test_a_run_is_shown_counted_and_cancelled(
    program: Program, backlog: Backlog, admin: Admin
) -> None:
    backlog.add_live(2)
    backlog.add_pending(MANY)
    running = start(program, backlog, admin)
    assert admin.get("/livez") == {"status": "live"}
    assert admin.get("/readyz") == {"status": "ready"}
    status = admin.get("/v1/status")
    assert status["state"] == "running"
    run = status["run"]
    assert admin.get("/v1/runs")["runs"][0]["run"] == run
    wait_until(lambda: admin.metric("scrubber_images_scrubbed_total") > 2, what="metrics that grow")
    assert admin.metric("scrubber_run_in_progress") == 1

    assert admin.ask("PATCH", f"/v1/runs/{run}", {"status": "cancelled"}).status == 202
    wait_until(lambda: running.runs_ended() == 1, what="the end of the run", seconds=5)
    assert admin.get(f"/v1/runs/{run}")["status"] == "cancelled"
    assert admin.ask("PATCH", f"/v1/runs/{run}", {"status": "cancelled"}).status == 409
    assert admin.metric("scrubber_images_scrubbed_total") == len(backlog.recorded())
    assert admin.metric('scrubber_runs_total{status="cancelled"}') == 1

    assert admin.ask("POST", "/v1/runs").status == 202
    wait_until(lambda: admin.get("/v1/status")["run"] not in (None, run), what="another run")
    backlog.assert_truthful()


def test_a_run_that_no_scrubber_wrote_is_no_reason_to_do_without_the_database(
    program: Program, backlog: Backlog, admin: Admin
) -> None:
    backlog.add_live(2)
    backlog.add_pending(MANY)
    start(program, backlog, admin)
    with closing(sqlite3.connect(program.directory / "state.sqlite")) as state, state:
        state.execute(
            "INSERT INTO scrubber_runs SELECT '0bad', process_id, host, pid, trigger_name, status,"
            " 'garbage', seen_at, NULL, 0, 'garbage', 'garbage' FROM scrubber_runs"
        )
    answer = admin.ask("GET", "/v1/runs/0bad")
    assert answer.status == 503
    assert "no scrubber wrote" in answer.document["detail"]
    (run,) = admin.get("/v1/runs")["runs"]
    assert run["run"] == admin.get("/v1/status")["run"]
    assert admin.metric("scrubber_state_database_up") == 1


def test_a_store_is_paused_and_slowed_down(
    program: Program, backlog: Backlog, admin: Admin
) -> None:
    backlog.add_live(2)
    backlog.add_pending(MANY)
    running = start(program, backlog, admin)
    path = f"/v1/stores/{backlog.store}"
    assert admin.ask("PATCH", path, {"max_rate": 1.5}).status == 200
    assert admin.get("/v1/stores")["stores"][0]["max_rate"] == 1.5
    assert admin.ask("PATCH", path, {"paused": True}).status == 200
    wait_until(lambda: running.runs_ended() == 1, what="the end of the run", seconds=5)
    deleted = len(backlog.recorded())
    (store,) = admin.get("/v1/stores")["stores"]
    assert (store["store"], store["type"], store["paused"]) == (backlog.store, "slowfile", True)
    assert store["max_rate"] == 1.5
    admin.ask("POST", "/v1/runs")
    wait_until(lambda: running.runs_ended() == 2, what="a run that deletes nothing")
    assert len(backlog.recorded()) == deleted
    # What is ordered here holds for the next process too.
    running.child.stop()
    again = program.run()
    assert again.status == 3
    assert "paused" in again.stdout


def test_what_a_green_thread_does_is_shown(
    program: Program, backlog: Backlog, admin: Admin
) -> None:
    backlog.add_live(2)
    backlog.add_pending(MANY)
    start(program, backlog, admin)
    assert "dispatch" in admin.ask("GET", "/v1/threads").text


def test_without_a_state_database_what_is_remembered_is_missed_and_nothing_else(
    program: Program, backlog: Backlog, admin: Admin
) -> None:
    backlog.add_live(2)
    backlog.add_pending(MANY)
    program.use(backlog, kind="slowfile", seconds=0.3)
    program.configure({"DEFAULT": {"scrub_pool_size": 1}})
    running = program.start("--daemon")
    running.child.wait_ready(lambda: admin.path.exists() and len(backlog.recorded()) > 0)
    assert admin.ask("GET", "/v1/runs").status == 503
    assert admin.ask("GET", "/v1/runs/0123").status == 503
    run = admin.get("/v1/status")["run"]
    present = admin.get(f"/v1/runs/{run}")
    assert (present["run"], present["status"], present["pid"]) == (run, "running", running.pid)
    path = f"/v1/stores/{backlog.store}"
    assert admin.ask("PATCH", path, {"paused": True}).status == 200
    wait_until(lambda: admin.get("/v1/status")["run"] != run, what="the end of the run")
    ended = admin.get(f"/v1/runs/{run}")
    assert ended["status"] == "partial"
    assert ended["locations"]["deleted"] == len(backlog.recorded())
    cancel = {"status": "cancelled"}
    assert admin.ask("PATCH", f"/v1/runs/{run}", cancel).status == 409

    assert admin.ask("PATCH", path, {"paused": False}).status == 200
    assert admin.ask("POST", "/v1/runs").status == 202
    wait_until(lambda: admin.get("/v1/status")["run"] not in (None, run), what="another run")
    another = admin.get("/v1/status")["run"]
    assert admin.ask("PATCH", f"/v1/runs/{another}", cancel).status == 202
    wait_until(
        lambda: admin.get(f"/v1/runs/{another}")["status"] == "cancelled", what="its end", seconds=5
    )
    assert admin.metric("scrubber_state_database_up") == 0


def test_an_order_holds_here_though_the_state_database_is_gone(
    program: Program, backlog: Backlog, admin: Admin
) -> None:
    backlog.add_live(2)
    backlog.add_pending(MANY)
    running = start(program, backlog, admin)
    state = program.directory / "state.sqlite"
    state.rename(program.directory / "elsewhere.sqlite")
    answer = admin.ask("PATCH", f"/v1/stores/{backlog.store}", {"paused": True})
    assert answer.status == 503
    assert "holds for this process" in answer.document["detail"]
    assert admin.get(f"/v1/stores/{backlog.store}")["paused"]
    wait_until(lambda: running.runs_ended() == 1, what="the end of the run", seconds=5)
    assert len(backlog.recorded()) < MANY

"""Several worker processes under one supervisor: one run, one report, one voice."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from pathlib import Path

import psutil
import pytest

from lab.processes import free_port, wait_until
from process.program import HARD_TIMEOUT, Program, Running
from process.rows import Backlog
from process.test_steering import Operator

WORKERS = ("--workers", "2")

#: Small pages, so that the workers meet all the time; short leases, to be waited for.
SMALL_PAGES = {"scrubber": {"page_size": 20, "claim_lease": 10, "call_timeout": 1}}


@pytest.fixture
def slow(program: Program, backlog: Backlog) -> Backlog:
    """A store that takes its time, so that every worker gets some of the work."""
    backlog.add_live(20)
    program.use(backlog, kind="slowfile", seconds=0.05)
    program.configure(
        {"DEFAULT": {"scrub_pool_size": 2, "wakeup_time": 3600, "use_stderr": True}}, SMALL_PAGES
    )
    return backlog


def workers_of(running: Running) -> list[psutil.Process]:
    """The processes that scrub for this one, in the order of their numbers."""
    found = {
        number: child
        for child in psutil.Process(running.pid).children()
        if (number := _number(child)) is not None
    }
    return [found[number] for number in sorted(found)]


def _number(process: psutil.Process) -> int | None:
    """That of a worker; None of what is none, or ends just now."""
    try:
        command = process.cmdline()
        return int(command[command.index("scrubber.workers") + 1])
    except (psutil.Error, ValueError):
        return None


def lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def deletes_by_image(program: Program) -> Counter[str]:
    return Counter(delete.image for delete in program.journal.deletes())


def test_workers_share_one_run_and_its_report_counts_everything_once(
    program: Program, slow: Backlog
) -> None:
    slow.add_pending(300)
    program.configure({"scrubber": {"audit_file": program.directory / "audit"}})
    ended = program.run(*WORKERS, "--format", "json")
    assert ended.status == 0, ended
    slow.assert_scrubbed()
    assert set(deletes_by_image(program).values()) == {1}

    report = ended.document
    assert report["status"] == "succeeded"
    assert report["images"]["scrubbed"] == report["locations"]["deleted"] == 300
    assert report["claimed_elsewhere"]["images"] == 0, "a colleague is nobody else"
    for stage in ("read", "due", "claimed", "sent", "deleted", "recorded"):
        assert report["stages"][stage]["images"] == 300, stage
    audit = [json.loads(line) for line in (program.directory / "audit").read_text().splitlines()]
    assert {line["run"] for line in audit} == {report["run"]}
    assert len(audit) == 300


def test_what_nobody_can_claim_is_reported_once(program: Program, slow: Backlog) -> None:
    slow.add_pending(30)
    slow.add_pending(5, owner="odd")
    with slow.database.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE image_locations SET value = 'nonsense' WHERE image_id IN "
            "(SELECT id FROM images WHERE owner = 'odd')"
        )
    ended = program.run(*WORKERS, "--format", "json")
    assert ended.status == 3, ended
    report = ended.document
    assert report["locations"]["deleted"] == 30
    assert report["locations"]["refused"] == 5
    assert [left["locations"] for left in report["left"]] == [5]


def test_a_worker_that_is_killed_is_replaced_and_the_others_finish(
    program: Program, slow: Backlog
) -> None:
    slow.add_pending(400)
    running = program.start(*WORKERS, "--format", "json")
    running.child.wait_ready(lambda: program.journal.ended() >= 60)
    victim = workers_of(running)[0]
    victim.kill()
    wait_until(
        lambda: (
            victim.pid not in {at.pid for at in workers_of(running)}
            and len(workers_of(running)) == 2
        ),
        what="another worker in its place",
    )
    ended = running.wait()

    assert ended.status == 3, ended
    report = json.loads(ended.stdout)
    assert report["status"] == "partial"
    assert any("SIGKILL" in alarm for alarm in report["alarms"])
    slow.assert_truthful()
    again = program.run("--format", "json")
    while slow.recorded() != set(slow.pending):
        again = program.run("--format", "json")  # until the claims of the killed one lapse
    assert again.status == 0, again
    slow.assert_scrubbed()


def test_a_daemon_stops_its_workers_and_gives_back_what_they_hold(
    program: Program, slow: Backlog, stop_signal: signal.Signals
) -> None:
    slow.add_pending(2000)
    running = program.start("--daemon", *WORKERS)
    running.child.wait_ready(lambda: program.journal.ended() >= 20)
    workers = workers_of(running)
    assert len(workers) == 2
    running.child.send(stop_signal)
    ended = running.wait()

    assert ended.status == 0, ended
    assert "Traceback" not in ended.stderr
    assert not any(map(lives, workers))
    assert not slow.claimed()
    slow.assert_truthful()


def test_a_second_signal_ends_the_workers_too(program: Program, slow: Backlog) -> None:
    program.configure({slow.store: {"seconds": 30}})
    slow.add_pending(50)
    running = program.start("--daemon", *WORKERS)
    running.child.wait_ready(lambda: program.journal.begun() >= 2)
    workers = workers_of(running)
    # Two of different kinds: the kernel would make one of two that are alike.
    running.child.send(signal.SIGTERM)
    running.child.send(signal.SIGINT)
    assert running.wait().status == 1
    wait_until(lambda: not any(map(lives, workers)), what="the end of the workers")


def test_workers_whose_supervisor_is_killed_end_in_order(program: Program, slow: Backlog) -> None:
    slow.add_pending(2000)
    running = program.start("--daemon", *WORKERS)
    running.child.wait_ready(lambda: program.journal.ended() >= 20)
    workers = workers_of(running)
    # The supervisor alone, not its whole group.
    os.kill(running.pid, signal.SIGKILL)
    wait_until(lambda: not any(map(lives, workers)), what="the end of the workers")
    assert not slow.claimed(), "they gave back what they held"
    slow.assert_truthful()


def test_a_worker_that_an_operator_ends_is_started_again(program: Program, slow: Backlog) -> None:
    running = program.start("--daemon", *WORKERS)
    running.child.wait_ready(lambda: running.runs_ended() == 1)
    before = {at.pid for at in workers_of(running)}
    os.kill(min(before), signal.SIGTERM)
    wait_until(
        lambda: len({at.pid for at in workers_of(running)} - before) == 1, what="a new worker"
    )
    running.assert_stops()


def test_operators_watch_pause_and_cancel_all_workers_as_one(
    program: Program, slow: Backlog
) -> None:
    operator = Operator(program)
    slow.add_pending(2000)
    running = program.start("--daemon", *WORKERS)
    running.child.wait_ready(lambda: program.journal.ended() >= 20)
    status = operator.wait_until(lambda status: status["running"])
    (process,) = status["processes"]
    assert process["pid"] == running.pid
    assert {at["pid"] for at in process["doing"]["workers"]} == {
        at.pid for at in workers_of(running)
    }
    (run,) = status["running"]
    operator.manage("cancel", run["run"])
    wait_until(lambda: running.runs_ended() == 1, what="the end of the run", seconds=10)
    shown = operator.document("show", run["run"])["run"]
    assert shown["status"] == "cancelled"
    assert shown["locations"]["deleted"] == len(slow.recorded())
    assert not slow.claimed()

    operator.manage("run-now")
    wait_until(lambda: program.journal.ended() >= shown["locations"]["deleted"] + 20, what="a run")
    operator.manage("pause", slow.store)
    wait_until(lambda: running.runs_ended() == 2, what="the end of the paused run", seconds=10)
    assert "paused" in operator.manage("show", "latest")
    running.assert_stops()
    slow.assert_truthful()


def test_one_port_shows_the_figures_of_all_workers(program: Program, slow: Backlog) -> None:
    port = free_port()
    program.configure({"admin": {"listen": f"127.0.0.1:{port}"}})
    slow.add_pending(200)
    running = program.start("--daemon", *WORKERS)

    def metrics() -> dict[str, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
            lines = response.read().decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    running.child.wait_ready(lambda: running.runs_ended() == 1)
    shown = metrics()
    assert shown['scrubber_locations_total{outcome="deleted",store="main"}'] == 200
    assert shown["scrubber_workers_up"] == shown["scrubber_workers"] == 2
    assert shown["scrubber_slots"] == 4
    calls = shown['scrubber_store_call_duration_seconds_count{store="main"}']
    assert calls == 200

    # What a worker had counted stays counted when another takes its place.
    workers_of(running)[0].kill()
    wait_until(lambda: metrics()["scrubber_worker_deaths_total"] == 1, what="a death")
    wait_until(lambda: metrics()["scrubber_workers_up"] == 2, what="another worker")
    assert metrics()['scrubber_store_call_duration_seconds_count{store="main"}'] == calls
    running.assert_stops()


def test_a_reload_reaches_the_workers(program: Program, slow: Backlog) -> None:
    slow.add_pending(300)
    program.configure({slow.store: {"scrub_max_rate": 4}})
    running = program.start("--daemon", *WORKERS)
    running.child.wait_ready(lambda: program.journal.ended() >= 4)
    program.configure({slow.store: {"scrub_max_rate": None}})
    running.child.send(signal.SIGHUP)
    wait_until(lambda: running.runs_ended() == 1, what="an end that four a second do not bring")
    assert running.stderr.count("Configuration reloaded") == 3
    running.assert_stops()
    slow.assert_scrubbed()


def test_a_worker_that_says_nothing_is_killed_and_replaced() -> None:
    result = subprocess.run(
        [sys.executable, Path(__file__).with_name("silent_worker.py")],
        capture_output=True,
        text=True,
        timeout=HARD_TIMEOUT,
        check=True,
    )
    assert "was silent" in result.stderr
    assert not psutil.pid_exists(int(result.stdout))


def test_no_worker_is_started_where_nothing_is_to_be_deleted_by_several(
    program: Program, slow: Backlog
) -> None:
    slow.add_pending(3)
    program.configure({"scrubber": {"workers": 3}})
    ended = program.run("--dry-run", "--format", "json")
    assert ended.document["locations"]["deleted"] == 3
    assert "Worker" not in ended.stderr
    assert program.run("--restore", slow.pending[0]).status == 0


def test_workers_of_glances_api_are_not_ours(program: Program, slow: Backlog) -> None:
    """The API's own option, in a file that both read."""
    slow.add_pending(3)
    program.configure({"DEFAULT": {"workers": 2, "debug": True}})
    ended = program.run()
    assert ended.status == 0
    assert "scrubber.workers" not in ended.stderr


def test_workers_need_the_database(program: Program) -> None:
    program.configure({"scrubber": {"source": "glance_api", "workers": 2}})
    program.run().assert_one_error("workers", "glance_api")

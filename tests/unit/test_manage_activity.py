"""scrubber-manage: what scrubbers do, what they did, and what operators order of them."""

import datetime
from pathlib import Path
from typing import Any

import pytest

from contract.activity_contract import a_process, a_run, mess_up
from scrubber.orders import ALL, StoreOrder
from scrubber.reporting.report import Report, utcnow
from scrubber.state.activity import PROCESSES, RUNS
from scrubber.state.records import RUNNING, SILENCE, Figures, RunRecord
from unit.managing import Manage
from unit.test_manage import EVIL

MINUTE = datetime.timedelta(minutes=1)


@pytest.fixture
def manage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Manage:
    manage = Manage(tmp_path, capsys)
    manage.configure("DEFAULT", "enabled_backends", "fast:file, slow:file, web:http")
    return manage


def a_report(**changes: object) -> dict[str, Any]:
    return Report(utcnow).as_dict() | {"summary": "succeeded: nothing"} | changes


def a_running(number: int = 1, **changes: Any) -> RunRecord:
    started = utcnow() - MINUTE + datetime.timedelta(seconds=number)
    report = changes.pop("report", None) or a_report()
    figures = Figures.of_report(report)
    values = {"started_at": started, "seen_at": utcnow(), "report": report, "figures": figures}
    return a_run(number, **values | changes)


def an_ended(number: int = 1, **changes: Any) -> RunRecord:
    return a_running(number, status="succeeded", finished_at=utcnow(), **changes)


# status -----------------------------------------------------------------------------------


def test_status_says_what_each_scrubber_does(manage: Manage) -> None:
    doing = {"state": "waiting", "text": "waiting: next run in 5 min (interval)"}
    with manage.activity() as activity:
        activity.save_process(a_process("p1", seen_at=utcnow(), doing=doing))
        activity.save_process(a_process("p2", "controller-2", seen_at=utcnow() - 2 * SILENCE))
        activity.save_run(a_running())
        activity.save_run(an_ended(2, report=a_report(bytes_freed=2048)))
        activity.change(utcnow(), "fast", lambda _: StoreOrder(paused=True))
        activity.change(utcnow(), "slow", lambda _: StoreOrder(max_rate=2.5))
    said = manage.run("status").stdout
    assert "controller-1 (pid 4711): waiting: next run in 5 min (interval)" in said
    assert "controller-2 (pid 4711): not heard of since" in said
    assert f"run {a_running().id} on controller-1" in said
    assert f"last run {an_ended(2).id}: succeeded" in said
    assert "2.0 KiB freed" in said
    assert "store fast is paused (scrubber-manage resume fast)" in said
    assert "store slow gets at most 2.5 locations/s" in said


@pytest.mark.parametrize(
    ("workers", "said"),
    [
        ([{"state": "idle"}, {"state": "down"}, {"state": "running"}], "; 2 of 3 workers up; "),
        ([], "at work; 0 of 0 workers up; "),
        (None, "at work; heard of "),
        # What no scrubber wrote is no reason to say nothing at all.
        ("many", "at work; heard of "),
        (["odd"], "at work; heard of "),
        ([{"state": ["odd"]}], "; 0 of 1 worker up; "),
    ],
)
def test_status_counts_workers_and_says_when_it_was_heard_of(
    manage: Manage, workers: object, said: str
) -> None:
    with manage.activity() as activity:
        activity.save_process(a_process("p1", seen_at=utcnow(), doing={"workers": workers}))
    assert said in manage.run("status").stdout


def test_status_as_a_document(manage: Manage) -> None:
    with manage.activity() as activity:
        activity.save_process(a_process("p1", seen_at=utcnow()))
        activity.save_process(a_process("p2", seen_at=utcnow() - 2 * SILENCE))
        activity.save_run(a_running())
        activity.change(utcnow(), ALL, lambda _: StoreOrder(paused=True))
    document = manage.run("status", "--format", "json").document
    assert [process["alive"] for process in document["processes"]] == [True, False]
    assert [run["run"] for run in document["running"]] == [a_running().id]
    assert document["last_run"] is None
    assert document["paused"] == [""]


def test_a_run_whose_process_died_is_shown_as_interrupted(manage: Manage) -> None:
    with manage.activity() as activity:
        activity.save_run(a_running(1, seen_at=utcnow() - 2 * SILENCE))
    assert "interrupted" in manage.run("runs").stdout
    assert "interrupted" in manage.run("show", "latest").stdout
    document = manage.run("status", "--format", "json").document
    assert document["running"] == []
    assert document["last_run"]["status"] == "interrupted"


# runs and show ----------------------------------------------------------------------------


def test_runs_lists_the_newest_first_and_only_so_many(manage: Manage) -> None:
    with manage.activity() as activity:
        for number in (1, 2, 3):
            activity.save_run(an_ended(number))
    document = manage.run("runs", "--limit", "2", "--format", "json").document
    assert [run["run"] for run in document["runs"]] == [an_ended(3).id, an_ended(2).id]
    lines = manage.run("runs").stdout.splitlines()
    assert len(lines) == 1 + 3
    assert lines[1].startswith(an_ended(3).id)


def test_show_prints_the_report_of_a_run(manage: Manage) -> None:
    left = {
        "outcome": "waiting",
        "reason": "its disk is on fire",
        "store": "slow",
        "locations": 7,
        "examples": [],
    }
    with manage.activity() as activity:
        activity.save_run(an_ended(1, report=a_report(left=[left], summary="partial: a lot")))
        activity.save_run(an_ended(2))
    said = manage.run("show", an_ended(1).id[:8]).stdout
    assert "its disk is on fire" in said
    assert "partial: a lot" in said
    document = manage.run("show", "latest", "--format", "json").document
    assert document["run"]["summary"] == "succeeded: nothing"


@pytest.mark.parametrize(
    ("column", "garbage"),
    [
        ("finished_at", "garbage"),
        ("figures", "garbage"),
        ("figures", "{}"),
        ("report", "garbage"),
        ("report", "[]"),
        ("report", "{}"),
        ("report", '{"stores": {"a": {}}, "left": 5, "dry_run": true}'),
    ],
)
def test_a_run_that_no_scrubber_wrote_hides_no_other(
    manage: Manage, column: str, garbage: str
) -> None:
    with manage.activity() as activity:
        activity.save_run(an_ended(1))
        activity.save_run(an_ended(2))
        mess_up(activity, RUNS, an_ended(2).id, column, garbage)
    for command in (["runs"], ["status"]):
        said = manage.run(*command)
        assert said.status == 0
        assert (an_ended(1).id if column != "report" else an_ended(2).id) in said.stdout
    manage.run("show", an_ended(2).id).assert_one_error("no scrubber wrote")
    latest = manage.run("show", "latest")
    if column == "report":
        latest.assert_one_error("no scrubber wrote")
    else:
        assert an_ended(1).id in latest.stdout


def test_a_process_that_is_none_hides_no_other(manage: Manage) -> None:
    with manage.activity() as activity:
        activity.save_process(a_process("p1", seen_at=utcnow()))
        activity.save_process(a_process("p2", "controller-2", seen_at=utcnow()))
        mess_up(activity, PROCESSES, "p1", "doing", "5")
    said = manage.run("status").stdout
    assert "controller-2" in said
    assert "controller-1" not in said


@pytest.mark.parametrize("wanted", ["latest", "nosuchrun"])
def test_a_run_that_nobody_knows_is_one_line(manage: Manage, wanted: str) -> None:
    with manage.activity():
        manage.run("show", wanted).assert_one_error("no run")


@pytest.mark.parametrize("command", ["show", "cancel"])
def test_no_id_is_the_beginning_of_no_run(manage: Manage, command: str) -> None:
    with manage.activity() as activity:
        activity.save_run(a_running())
        manage.run(command, "").assert_one_error("no run")
        assert not activity.wishes("p1", a_running().id).cancel


def test_nothing_remembered_is_said(manage: Manage) -> None:
    with manage.activity():
        assert manage.run("runs").stdout == "No run is remembered.\n"
        assert "No scrubber runs" in manage.run("status").stdout


def test_what_a_process_says_of_itself_cannot_write_on_the_terminal(manage: Manage) -> None:
    with manage.activity() as activity:
        activity.save_process(a_process(seen_at=utcnow(), host=EVIL, doing={"text": EVIL}))
        activity.save_run(an_ended(host=EVIL, trigger=EVIL))
    for command in (["status"], ["runs"], ["show", "latest"]):
        said = manage.run(*command).stdout
        assert "\x1b" not in said, command
        assert "\x07" not in said, command


# Orders -----------------------------------------------------------------------------------


def test_cancel_asks_a_run_to_end(manage: Manage) -> None:
    with manage.activity() as activity:
        activity.save_run(a_running())
        assert "asked to end" in manage.run("cancel", a_running().id[:6]).stdout
        assert activity.wishes("p1", a_running().id).cancel


def test_only_a_run_under_way_can_be_cancelled(manage: Manage) -> None:
    with manage.activity() as activity:
        activity.save_run(an_ended())
        activity.save_run(a_running(2, seen_at=utcnow() - 2 * SILENCE, status=RUNNING))
    manage.run("cancel", an_ended().id).assert_one_error("not under way", "succeeded")
    manage.run("cancel", "nosuchrun").assert_one_error("no run")


def test_a_pause_holds_until_it_is_lifted(manage: Manage) -> None:
    with manage.activity() as activity:
        activity.change(utcnow(), "fast", lambda _: StoreOrder(max_rate=5.0))
        assert "store fast" in manage.run("pause", "fast").stdout
        assert activity.store_orders() == {"fast": StoreOrder(paused=True, max_rate=5.0)}
        assert manage.run("resume", "slow").stdout == "Store slow is not paused.\n"
        assert manage.run("resume", "fast").stdout == "Resumed.\n"
        assert activity.store_orders() == {"fast": StoreOrder(max_rate=5.0)}


def test_a_pause_of_all_stores_is_lifted_only_as_a_whole(manage: Manage) -> None:
    with manage.activity() as activity:
        assert manage.run("pause").status == 0
        assert manage.run("pause", "slow").status == 0
        assert activity.store_orders()[ALL] == StoreOrder(paused=True)
        manage.run("resume", "slow").assert_one_error("all stores are paused")
        resumed = manage.run("resume", "--format", "json").document["resumed"]
        assert resumed == ["", "slow"]
        assert activity.store_orders() == {}
        assert manage.run("resume").stdout == "Nothing is paused.\n"


@pytest.mark.parametrize("command", ["pause", "resume"])
@pytest.mark.parametrize("store", ["fasst", "web", ""])
def test_only_a_configured_store_that_holds_something_can_be_paused(
    manage: Manage, command: str, store: str
) -> None:
    with manage.activity() as activity:
        manage.run(command, store).assert_one_error(store, "no such store", "fast, slow")
        assert activity.store_orders() == {}


def test_run_now_asks_the_daemons(manage: Manage) -> None:
    with manage.activity() as activity:
        manage.run("run-now").assert_one_error("no scrubber")
        activity.save_process(a_process("p1", seen_at=utcnow()))
        activity.save_process(a_process("p2", "controller-2", seen_at=utcnow()))
        assert "1 scrubber" in manage.run("run-now", "--host", "controller-2").stdout
        assert activity.wishes("p1", None).run_asked_at is None
        assert activity.wishes("p2", None).run_asked_at is not None
        assert "2 scrubbers" in manage.run("run-now").stdout
        manage.run("run-now", "--host", "nowhere").assert_one_error("no scrubber", "nowhere")


@pytest.mark.parametrize(
    "arguments", [["cancel"], ["show"], ["runs", "--limit", "x"], ["watch", "--interval", "no"]]
)
def test_a_wrong_command_line_is_said_with_exit_status_2(
    manage: Manage, arguments: list[str]
) -> None:
    ended = manage.run(*arguments)
    assert ended.status == 2
    assert "usage: scrubber-manage" in ended.stderr

"""What holds for the record of activity on every database."""

import datetime
from dataclasses import replace

import pytest

from contract.ledger_contract import NOON
from scrubber.orders import StoreOrder
from scrubber.state.activity import (
    INTERRUPTED,
    RUNNING,
    SILENCE,
    Activity,
    ProcessRecord,
    RunRecord,
)

SECOND = datetime.timedelta(seconds=1)


def a_run(number: int = 1, **changes: object) -> RunRecord:
    started = NOON + number * SECOND
    run = RunRecord(
        id=f"{number:08x}",
        process="p1",
        host="controller-1",
        pid=4711,
        trigger="interval",
        status=RUNNING,
        started_at=started,
        seen_at=started,
        finished_at=None,
        report={"bytes_freed": 2**40, "left": [{"reason": 'a "quoted" → reason'}]},
    )
    return replace(run, **changes)  # type: ignore[arg-type]  # names are checked by replace


def a_process(name: str = "p1", host: str = "controller-1", **changes: object) -> ProcessRecord:
    process = ProcessRecord(name, host, 4711, "0.1.0", NOON, NOON, {"state": "waiting"})
    return replace(process, **changes)  # type: ignore[arg-type]  # names are checked by replace


def test_a_run_is_found_as_it_was_last_saved(activity: Activity) -> None:
    activity.save_run(a_run())
    ended = a_run(status="partial", finished_at=NOON + 9 * SECOND, report={"bytes_freed": 1})
    activity.save_run(ended)
    assert activity.run(ended.id) == ended
    assert activity.runs(10) == [ended]


def test_runs_are_listed_newest_first_and_only_so_many(activity: Activity) -> None:
    for number in (2, 1, 3):
        activity.save_run(a_run(number))
    assert activity.runs(2) == [a_run(3), a_run(2)]


def test_the_last_end_of_each_status_is_known(activity: Activity) -> None:
    assert activity.last_ends() == {}
    for number, status in enumerate(("succeeded", "succeeded", "failed"), start=1):
        activity.save_run(a_run(number, status=status, finished_at=NOON + number * SECOND))
    activity.save_run(a_run(4))
    assert activity.last_ends() == {"succeeded": NOON + 2 * SECOND, "failed": NOON + 3 * SECOND}


def test_a_run_is_found_by_the_beginning_of_its_id(activity: Activity) -> None:
    activity.save_run(a_run(1, id="abc1"))
    activity.save_run(a_run(2, id="abd2"))
    found = activity.run("abc")
    assert found is not None
    assert found.id == "abc1"
    assert activity.run("ab") is None
    assert activity.run("%") is None
    assert activity.run("abc12") is None


def test_a_run_that_is_silent_was_interrupted() -> None:
    run = a_run()
    assert run.as_of(run.seen_at + SILENCE).status == RUNNING
    assert run.as_of(run.seen_at + SILENCE + SECOND).status == INTERRUPTED
    ended = a_run(status="succeeded")
    assert ended.as_of(run.seen_at + 2 * SILENCE) == ended


def test_a_wish_to_cancel_outlives_what_the_run_says_of_itself(activity: Activity) -> None:
    activity.save_run(a_run())
    assert not activity.wishes("p1", a_run().id).cancel
    assert activity.cancel(a_run().id)
    activity.save_run(a_run(seen_at=NOON + 5 * SECOND))
    assert activity.wishes("p1", a_run().id).cancel
    assert not activity.wishes("p1", None).cancel
    found = activity.run(a_run().id)
    assert found is not None
    assert found.cancel_asked


def test_only_a_run_under_way_is_cancelled(activity: Activity) -> None:
    activity.save_run(a_run(1, status="succeeded"))
    assert not activity.cancel(a_run(1).id)
    assert not activity.cancel("nosuchrun")


def test_a_run_is_asked_of_the_living_processes_of_a_host(activity: Activity) -> None:
    late = NOON + 2 * SILENCE
    activity.save_process(a_process("dead"))
    activity.save_process(a_process("p1", seen_at=late))
    activity.save_process(a_process("p2", "controller-2", seen_at=late))
    assert activity.ask_for_run(late, "controller-2") == 1
    assert activity.wishes("p1", None).run_asked_at is None
    assert activity.wishes("p2", None).run_asked_at == late
    assert activity.ask_for_run(late + SECOND) == 2
    activity.save_process(a_process("p1", seen_at=late + SECOND))
    assert activity.wishes("p1", None).run_asked_at == late + SECOND


def test_a_process_is_listed_until_it_ends(activity: Activity) -> None:
    here, there = a_process("p1"), a_process("p2", "controller-2", doing={"state": "running"})
    activity.save_process(there)
    activity.save_process(here)
    assert activity.processes() == [here, there]
    activity.forget_process("p1")
    assert activity.processes() == [there]


def test_what_holds_for_a_store_is_the_last_order(activity: Activity) -> None:
    activity.order(NOON, "fast", StoreOrder(paused=True))
    activity.order(NOON, "Fast", StoreOrder(max_rate=2.5))
    activity.order(NOON, "", StoreOrder(paused=True))
    activity.order(NOON, "fast", StoreOrder(paused=True, max_rate=7.0))
    activity.order(NOON, "", StoreOrder())
    wanted = {"fast": StoreOrder(paused=True, max_rate=7.0), "Fast": StoreOrder(max_rate=2.5)}
    assert activity.store_orders() == wanted
    assert activity.wishes("p1", None).stores == wanted


def test_what_is_old_is_forgotten(activity: Activity) -> None:
    activity.save_run(a_run(1))
    activity.save_run(a_run(2))
    activity.save_process(a_process())
    activity.forget_before(a_run(2).seen_at)
    assert activity.runs(10) == [a_run(2)]
    assert activity.processes() == []


@pytest.mark.parametrize("odd", ["\0", "\ud800", "ø" * 300, "'; DROP TABLE scrubber_runs; --"])
def test_odd_names_are_kept_as_well_as_a_database_can(activity: Activity, odd: str) -> None:
    activity.save_run(a_run(trigger=odd, host=odd, report={"error": odd}))
    (run,) = activity.runs(1)
    assert run.report == {"error": odd}
    assert run.host[:1] in (odd[:1], "\\")

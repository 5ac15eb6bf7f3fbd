"""What holds for the record of activity on every database."""

import datetime
import functools
import threading
from dataclasses import replace

import pytest
from sqlalchemy import Table, literal, update

from contract.ledger_contract import NOON
from scrubber import errors
from scrubber.orders import StoreOrder
from scrubber.state.activity import PROCESSES, RUNS, STORES, Activity
from scrubber.state.records import INTERRUPTED, RUNNING, SILENCE, Figures, ProcessRecord, RunRecord

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
        figures=Figures(2, {"deleted": 3}, 2**40, 1, 'a "quoted" → reason'),
        report={"bytes_freed": 2**40, "left": [{"reason": 'a "quoted" → reason'}]},
    )
    return replace(run, **changes)  # type: ignore[arg-type]  # names are checked by replace


def listed(run: RunRecord) -> RunRecord:
    """As a list has it."""
    return replace(run, report={})


def order(activity: Activity, store: str, order: StoreOrder) -> None:
    assert activity.change(NOON, store, lambda _: order) == order


def mess_up(activity: Activity, table: Table, row: str, column: str, value: object) -> None:
    """As somebody who knows no schema."""
    key = next(iter(table.primary_key))
    statement = update(table).where(key == row).values({column: literal(value)})
    activity._database.write(lambda connection: connection.execute(statement))


def a_process(name: str = "p1", host: str = "controller-1", **changes: object) -> ProcessRecord:
    process = ProcessRecord(name, host, 4711, "0.1.0", NOON, NOON, {"state": "waiting"})
    return replace(process, **changes)  # type: ignore[arg-type]  # names are checked by replace


def test_a_run_is_found_as_it_was_last_saved(activity: Activity) -> None:
    activity.save_run(a_run())
    ended = a_run(status="partial", finished_at=NOON + 9 * SECOND, report={"bytes_freed": 1})
    activity.save_run(ended)
    assert activity.run(ended.id) == ended
    assert activity.runs(10) == [listed(ended)]


def test_runs_are_listed_newest_first_and_only_so_many(activity: Activity) -> None:
    for number in (2, 1, 3):
        activity.save_run(a_run(number))
    assert activity.runs(2) == [listed(a_run(3)), listed(a_run(2))]


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
    order(activity, "fast", StoreOrder(paused=True))
    order(activity, "Fast", StoreOrder(max_rate=2.5))
    order(activity, "", StoreOrder(paused=True))
    order(activity, "fast", StoreOrder(paused=True, max_rate=7.0))
    order(activity, "", StoreOrder())
    wanted = {"fast": StoreOrder(paused=True, max_rate=7.0), "Fast": StoreOrder(max_rate=2.5)}
    assert activity.store_orders() == wanted
    assert activity.wishes("p1", None).stores == wanted


def test_no_change_of_an_order_is_lost(activity: Activity) -> None:
    """Somebody else changes it while this change is about to be written."""
    pause = functools.partial(replace, paused=True)
    other = threading.Thread(target=activity.change, args=(NOON, "fast", pause), daemon=True)

    def slow_down(order: StoreOrder) -> StoreOrder:
        if not other.ident:
            other.start()
            other.join(0.2)
        return replace(order, max_rate=2.5)

    activity.change(NOON, "fast", slow_down)
    other.join(10)
    assert activity.store_orders() == {"fast": StoreOrder(paused=True, max_rate=2.5)}


@pytest.mark.parametrize("rate", [0.0, -1.0])
def test_a_rate_that_is_none_is_no_order(activity: Activity, rate: float) -> None:
    order(activity, "fast", StoreOrder(paused=True, max_rate=5.0))
    mess_up(activity, STORES, "fast", "max_rate", rate)
    assert activity.store_orders() == {"fast": StoreOrder(paused=True)}
    assert activity.change(NOON, "fast", lambda order: order) == StoreOrder(paused=True)


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        "garbage",
        "[]",
        "{}",
        "null",
        "[" * 50_000,
        '{"images": 5}',
        '{"images": {"scrubbed": -1}, "locations": {}, "bytes_freed": 0, "locations_left": 0, '
        '"summary": ""}',
        '{"images": {"scrubbed": 1}, "locations": [], "bytes_freed": 0, "locations_left": 0, '
        '"summary": ""}',
        '{"images": {"scrubbed": 1}, "locations": {}, "bytes_freed": 1e400, "locations_left": 0, '
        '"summary": ""}',
    ],
)
def test_a_run_that_no_scrubber_wrote_is_left_out_of_the_list(
    activity: Activity, garbage: str
) -> None:
    activity.save_run(a_run(1))
    activity.save_run(a_run(2))
    mess_up(activity, RUNS, a_run(2).id, "figures", garbage)
    assert activity.runs(10) == [listed(a_run(1))]
    with pytest.raises(errors.StateUnavailable, match="no scrubber wrote"):
        activity.run(a_run(2).id)


@pytest.mark.parametrize("garbage", ["garbage", "[]", "5"])
def test_what_is_no_document_is_left_out(activity: Activity, garbage: str) -> None:
    activity.save_run(a_run())
    mess_up(activity, RUNS, a_run().id, "report", garbage)
    assert activity.runs(10) == [listed(a_run())], "which reads no report"
    with pytest.raises(errors.StateUnavailable, match="no scrubber wrote"):
        activity.run(a_run().id)
    here, there = a_process("p1"), a_process("p2", "controller-2")
    for process in (here, there):
        activity.save_process(process)
    mess_up(activity, PROCESSES, "p1", "doing", garbage)
    assert activity.processes() == [there]


def test_what_is_old_is_forgotten(activity: Activity) -> None:
    activity.save_run(a_run(1))
    activity.save_run(a_run(2))
    activity.save_process(a_process())
    activity.forget_before(a_run(2).seen_at)
    assert activity.runs(10) == [listed(a_run(2))]
    assert activity.processes() == []


@pytest.mark.parametrize("odd", ["\0", "\ud800", "ø" * 300, "'; DROP TABLE scrubber_runs; --"])
def test_odd_names_are_kept_as_well_as_a_database_can(activity: Activity, odd: str) -> None:
    activity.save_run(a_run(trigger=odd, host=odd, report={"error": odd}))
    (run,) = activity.runs(1)
    whole = activity.run(run.id)
    assert whole is not None
    assert whole.report == {"error": odd}
    assert run.host[:1] in (odd[:1], "\\")

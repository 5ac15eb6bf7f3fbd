"""The record of activity in SQLite; the servers are in tests/functional."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event, text

from contract.activity_contract import *  # noqa: F403
from contract.activity_contract import NOON, a_process, a_run, order
from lab.state import state_url
from scrubber import errors, pool
from scrubber.orders import StoreOrder
from scrubber.state.activity import Activity
from scrubber.state.database import StateDatabase


@pytest.fixture
def activity(tmp_path: Path) -> Iterator[Activity]:
    database = StateDatabase(state_url(tmp_path), pool.Flag())
    yield Activity(database)
    database.close()


@pytest.mark.parametrize("column", ["started_at", "seen_at", "finished_at"])
def test_a_moment_that_is_none_hides_no_other(activity: Activity, column: str) -> None:
    """SQLite keeps anything."""
    for number in (1, 2):
        activity.save_run(a_run(number, status=f"status{number}", finished_at=NOON))
    statement = text(f"UPDATE scrubber_runs SET {column} = 'garbage' WHERE status = 'status2'")
    activity._database.write(lambda connection: connection.execute(statement))
    assert [run.status for run in activity.runs(10)] == ["status1"]
    with pytest.raises(errors.StateUnavailable, match="no scrubber wrote"):
        activity.run(a_run(2).id)
    assert activity.last_ends()["status1"] == NOON


def test_an_order_that_is_none_hides_no_other(activity: Activity) -> None:
    order(activity, "fast", StoreOrder(paused=True, max_rate=5.0))
    order(activity, "slow", StoreOrder(paused=True))
    for odd in ("'fast'", "9e999", "x'00'"):
        statement = text(f"UPDATE scrubber_stores SET max_rate = {odd} WHERE store = 'fast'")
        activity._database.write(lambda connection, at=statement: connection.execute(at))
        assert activity.store_orders() == dict.fromkeys(("fast", "slow"), StoreOrder(paused=True))


def test_a_wish_that_cannot_be_read_hides_no_other(activity: Activity) -> None:
    activity.save_process(a_process("p1"))
    order(activity, "slow", StoreOrder(paused=True))
    statement = text("UPDATE scrubber_processes SET run_asked_at = 'garbage'")
    activity._database.write(lambda connection: connection.execute(statement))
    wishes = activity.wishes("p1", None)
    assert wishes.run_asked_at is None
    assert wishes.stores == {"slow": StoreOrder(paused=True)}


def test_a_list_reads_no_reports(activity: Activity) -> None:
    """They may be long, and many."""
    said: list[str] = []
    activity.save_run(a_run())
    engine = activity._database._engine
    event.listen(engine, "before_cursor_execute", lambda *of_call: said.append(of_call[2]))
    assert activity.runs(10)
    assert "figures" in said[-1]
    assert "report" not in said[-1]

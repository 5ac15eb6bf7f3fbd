"""A process says what it does, and obeys what operators write, through the state database."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from lab.processes import wait_until
from scrubber import errors, pool
from scrubber.orders import ALL, Orders, StoreOrder
from scrubber.reporting.report import Report, utcnow
from scrubber.state.activity import Activity
from scrubber.state.database import StateDatabase
from scrubber.state.opening import Reopening
from scrubber.state.records import RUNNING
from scrubber.steering import Steering


class Steered:
    """A process with a state database, seen from outside."""

    def __init__(self, state: Reopening[StateDatabase], activity: Activity) -> None:
        self.activity = activity
        self.orders = Orders()
        self.asked: list[str] = []
        self.doing: dict[str, Any] = {"state": "waiting"}
        self.steering = Steering(
            state,
            self.orders,
            doing=lambda: self.doing,
            run_now=lambda: self.asked.append("run"),
            history=lambda: 3600.0,
        )

    def eventually(self, holds: Callable[[], object]) -> None:
        wait_until(lambda: bool(_turn() and holds()), what="what was expected of the process")


def _turn() -> bool:
    pool.sleep(0.01)
    return True


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/state.sqlite"


@pytest.fixture
def steered(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Steered]:
    monkeypatch.setattr("scrubber.steering.HEAR_SECONDS", 0.01)
    monkeypatch.setattr("scrubber.steering.TELL_SECONDS", 0.02)
    state = Reopening(lambda: StateDatabase(url, pool.Flag()), required=False)
    with closing(StateDatabase(url, pool.Flag())) as database, closing(state):
        steered = Steered(state, Activity(database))
        yield steered
        steered.steering.close()


def a_report() -> Report:
    return Report(utcnow, trigger="interval")


def test_a_process_is_seen_from_its_start_to_its_end(steered: Steered) -> None:
    (process,) = steered.activity.processes()
    assert process.doing == {"state": "waiting"}
    steered.doing = {"state": "running"}
    steered.eventually(lambda: steered.activity.processes()[0].doing == {"state": "running"})
    assert steered.activity.processes()[0].seen_at > process.seen_at
    steered.steering.close()
    assert steered.activity.processes() == []


def test_a_run_is_seen_while_it_goes_on_and_kept_when_it_ended(steered: Steered) -> None:
    report = a_report()
    steered.steering.begin(report, cancel=lambda: None)
    found = steered.activity.run(report.run)
    assert found is not None
    assert (found.status, found.trigger, found.finished_at) == (RUNNING, "interval", None)
    report.alarm("look at this")
    steered.eventually(lambda: "look at this" in steered.activity.runs(1)[0].figures.summary)
    report.finish()
    steered.steering.end()
    (ended,) = steered.activity.runs(10)
    assert ended.status == "partial"
    assert ended.finished_at == report.finished_at
    assert "look at this" in ended.figures.summary
    whole = steered.activity.run(report.run)
    assert whole is not None
    assert whole.report["alarms"] == ["look at this"]


def test_a_cancel_reaches_the_run_it_is_for(steered: Steered) -> None:
    cancelled: list[str] = []
    first, second = a_report(), a_report()
    steered.steering.begin(first, cancel=lambda: cancelled.append("first"))
    first.finish()
    steered.steering.end()
    assert not steered.activity.cancel(first.run)
    steered.steering.begin(second, cancel=lambda: cancelled.append("second"))
    assert steered.activity.cancel(second.run)
    steered.eventually(lambda: cancelled)
    assert set(cancelled) == {"second"}


def test_a_pause_reaches_the_process_and_its_end_too(steered: Steered) -> None:
    steered.activity.change(utcnow(), "fast", lambda _: StoreOrder(paused=True))
    steered.eventually(lambda: steered.orders.of("fast").paused)
    assert not steered.orders.of("slow").paused
    steered.activity.change(utcnow(), ALL, lambda _: StoreOrder(paused=True))
    steered.eventually(lambda: steered.orders.all_paused)
    for store in ("fast", ALL):
        steered.activity.change(utcnow(), store, lambda _: StoreOrder())
    steered.eventually(lambda: not steered.orders.of("fast").paused)


def test_a_pause_is_known_before_the_first_run(url: str) -> None:
    with closing(StateDatabase(url, pool.Flag())) as database:
        Activity(database).change(utcnow(), "fast", lambda _: StoreOrder(paused=True))
        state = Reopening(lambda: StateDatabase(url, pool.Flag()), required=False)
        steered = Steered(state, Activity(database))
        assert steered.orders.of("fast").paused
        steered.steering.close()
        state.close()


def test_a_run_that_is_asked_for_is_made_once(steered: Steered) -> None:
    assert steered.activity.ask_for_run(utcnow()) == 1
    steered.eventually(lambda: steered.asked)
    seen = steered.activity.processes()[0].seen_at
    steered.eventually(lambda: steered.activity.processes()[0].seen_at > seen)
    assert steered.asked == ["run"]


def test_old_runs_are_forgotten(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scrubber.steering.HEAR_SECONDS", 0.01)
    monkeypatch.setattr("scrubber.steering.TELL_SECONDS", 0.02)
    with closing(StateDatabase(url, pool.Flag())) as database:
        activity = Activity(database)
        state = Reopening(lambda: StateDatabase(url, pool.Flag()), required=False)
        steered = Steered(state, activity)
        long_ago = a_report()
        record = steered.steering._record(long_ago, utcnow().replace(year=2001))
        activity.save_run(record)
        steered.eventually(lambda: not activity.runs(10))
        assert activity.processes()
        steered.steering.close()
        state.close()


@pytest.mark.parametrize("required", [False, True])
def test_without_its_database_a_process_goes_on_unseen(required: bool) -> None:
    alive = [True]

    def open_() -> StateDatabase:
        raise errors.StateUnavailable("no answer")

    state = _required(open_) if required else Reopening(open_, required=False)
    orders = Orders()
    steering = Steering(state, orders, dict, lambda: None, lambda: 0.0)
    orders.replace({"fast": StoreOrder(paused=True)})
    steering.begin(a_report(), cancel=alive.clear)
    steering.end()
    steering.close()
    assert alive
    assert orders.of("fast").paused, "what came by another way stays"


def _required(open_: Callable[[], StateDatabase]) -> Reopening[StateDatabase]:
    """One that could be opened at start."""
    state = Reopening.__new__(Reopening)
    with pytest.raises(errors.StateUnavailable):
        Reopening.__init__(state, open_, required=True)
    return state

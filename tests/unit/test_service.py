"""The daemon's loop: run, wait, run again, with runs, options and reasons of this test's own."""

import datetime
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from contract.fake_driver import FakeDriver
from contract.fake_source import FakeGlance, FakeSource
from scrubber import errors, pool, service
from scrubber.model import Outcome
from scrubber.planning import wakeups
from scrubber.planning.wakeups import Schedule, Trigger, Triggers, Window
from scrubber.reporting.report import Left, Pace, Report, utcnow
from scrubber.service import Daemon, Lookout, State, Status

#: Longer than any of this takes; a test that waits so long has failed.
PATIENCE = 10.0

PAUSE = 0.02


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds become hundredths."""
    monkeypatch.setattr(wakeups, "LEAST_PAUSE", PAUSE)
    monkeypatch.setattr(service, "LOOK_SECONDS", 0.01)


@dataclass
class Pauses:
    all_paused: bool = False


@dataclass
class Scene:
    """A daemon and all that it asks."""

    schedule: Schedule = field(default_factory=lambda: Schedule(wakeup_time=3600))
    stop: pool.Flag = field(default_factory=pool.Flag)
    changed: pool.Bell = field(default_factory=pool.Bell)
    pauses: Pauses = field(default_factory=Pauses)
    triggers: list[Trigger] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    looks: list[float] = field(default_factory=list)
    pulled: Trigger | None = None
    cancelled: int = 0
    during: Callable[[], object] = lambda: None

    def __post_init__(self) -> None:
        self.stop = pool.Flag(self.changed)
        self.daemon = Daemon(
            execute=self._execute,
            cancel=self._cancel,
            schedule=lambda: self.schedule,
            stop=self.stop,
            changed=self.changed,
            pauses=self.pauses,
            look_out=self._look,
            look_interval=lambda: 0.0,
            on_report=self.reports.append,
        )
        self._task: pool.Task | None = None

    def _execute(self, trigger: Trigger) -> Report:
        self.triggers.append(trigger)
        report = Report(utcnow)
        self.during()
        report.finish()
        return report

    def _cancel(self) -> None:
        self.cancelled += 1

    def _look(self, ago: float) -> Trigger | None:
        self.looks.append(ago)
        return self.pulled

    def start(self) -> None:
        self._task = pool.Task(self.daemon.serve)

    def run_until_cancelled(self) -> None:
        wait_until(lambda: self.cancelled > 0)

    def end(self) -> None:
        self.stop.set()
        if self._task:
            pool.within(PATIENCE, self._task.join)


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    scene.end()


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        pool.sleep(0.002)


def runs(scene: Scene, count: int) -> None:
    wait_until(lambda: len(scene.reports) >= count)


def for_a_while() -> None:
    """Long enough for many rounds of the loop."""
    pool.sleep(10 * PAUSE)


def hours(opens_in: float, closes_in: float) -> Window:
    """A window that opens and closes so many hours from now."""
    now = datetime.datetime.now(datetime.UTC)
    start, end = (now + datetime.timedelta(hours=at) for at in (opens_in, closes_in))
    return Window(start.time(), end.time(), datetime.UTC)


SHUT, OPEN = (6, 12), (-6, 6)


# Runs -----------------------------------------------------------------------------------------


def test_the_first_run_begins_at_once_and_the_next_after_wakeup_time(scene: Scene) -> None:
    scene.start()
    runs(scene, 1)
    for_a_while()
    assert scene.triggers == [Trigger.START]
    status = scene.daemon.status()
    assert (status.state, status.trigger) == (State.WAITING, Trigger.INTERVAL)
    assert status.next_in is not None
    assert 3590 < status.next_in <= 3600


def test_runs_never_overlap_and_never_follow_each_other_at_once(scene: Scene) -> None:
    scene.schedule = Schedule(wakeup_time=0)
    moments: list[tuple[float, float]] = []

    def work() -> None:
        began = time.monotonic()
        scene.daemon.run_now()
        pool.sleep(0.02)
        moments.append((began, time.monotonic()))

    scene.during = work
    scene.start()
    runs(scene, 5)
    for (_, ended), (began, _) in pairwise(moments):
        assert began - ended >= PAUSE * 0.9


def test_a_run_that_breaks_is_followed_by_the_next(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks() -> None:
        scene.during = lambda: None
        raise KeyError("x")

    scene.schedule = Schedule(wakeup_time=0)
    scene.during = breaks
    scene.start()
    runs(scene, 1)
    assert len(scene.triggers) == 2
    assert "A defect in scrubber ended this run" in caplog.text


def test_a_shorter_wakeup_time_holds_at_once(scene: Scene) -> None:
    scene.start()
    runs(scene, 1)
    scene.schedule = Schedule(wakeup_time=0)
    scene.changed.ring()
    runs(scene, 2)


def test_stop_ends_a_daemon_that_waits_and_nothing_is_run_any_more(scene: Scene) -> None:
    scene.start()
    runs(scene, 1)
    scene.daemon.run_now()
    scene.end()
    assert len(scene.triggers) == 1
    assert scene.daemon.status() == Status(State.STOPPING)
    assert not any("_keep_looking_out" in stack for stack in pool.stacks())


# Asked for ------------------------------------------------------------------------------------


def test_who_asks_for_a_run_gets_it_at_once(scene: Scene) -> None:
    scene.start()
    runs(scene, 1)
    for trigger in (Trigger.REQUEST, Trigger.SIGNAL):
        scene.daemon.run_now(trigger)
        runs(scene, len(scene.reports) + 1)
    assert scene.triggers == [Trigger.START, Trigger.REQUEST, Trigger.SIGNAL]


def test_many_requests_in_mid_run_are_one_more_run(scene: Scene) -> None:
    def ask() -> None:
        scene.during = lambda: None
        for _ in range(100):
            scene.daemon.run_now()

    scene.during = ask
    scene.start()
    runs(scene, 2)
    for_a_while()
    assert scene.triggers == [Trigger.START, Trigger.REQUEST]


def test_a_request_before_the_first_run_is_that_run(scene: Scene) -> None:
    scene.daemon.run_now(Trigger.SIGNAL)
    scene.start()
    runs(scene, 1)
    for_a_while()
    assert scene.triggers == [Trigger.SIGNAL]


# Paused ---------------------------------------------------------------------------------------


def test_a_paused_daemon_runs_nothing_and_forgets_no_request(scene: Scene) -> None:
    scene.pauses.all_paused = True
    scene.start()
    scene.daemon.run_now()
    for_a_while()
    assert scene.triggers == []
    assert scene.daemon.status() == Status(State.PAUSED)

    scene.pauses.all_paused = False
    runs(scene, 1)
    assert scene.triggers == [Trigger.REQUEST]


# Window ---------------------------------------------------------------------------------------


def test_nothing_runs_by_itself_outside_the_window(scene: Scene) -> None:
    scene.schedule = Schedule(0, window=hours(*SHUT))
    scene.pulled = Trigger.IMAGES
    scene.start()
    for_a_while()
    assert scene.triggers == []
    assert scene.looks == []
    status = scene.daemon.status()
    assert (status.state, status.trigger) == (State.OUTSIDE_WINDOW, Trigger.WINDOW)
    assert status.next_in is not None
    assert 5.9 * 3600 < status.next_in <= 6 * 3600

    scene.schedule = Schedule(3600, window=hours(*OPEN))
    scene.changed.ring()
    runs(scene, 1)


def test_a_run_is_told_to_end_once_when_the_window_closes(scene: Scene) -> None:
    scene.schedule = Schedule(3600, window=hours(*OPEN))

    def work() -> None:
        for_a_while()
        assert scene.cancelled == 0
        scene.schedule = Schedule(3600, window=hours(*SHUT))
        scene.run_until_cancelled()
        for_a_while()
        assert scene.cancelled == 1

    scene.during = work
    scene.start()
    runs(scene, 1)
    for_a_while()
    assert len(scene.triggers) == 1


def test_the_end_of_a_window_concerns_no_run_that_began_after_it(scene: Scene) -> None:
    scene.schedule = Schedule(3600, window=hours(*OPEN))
    scene.start()
    runs(scene, 1)
    scene.schedule = Schedule(3600, window=hours(*SHUT))
    scene.during = for_a_while
    scene.daemon.run_now()
    runs(scene, 2)
    assert scene.cancelled == 0


def test_what_an_operator_asks_for_runs_outside_the_window_to_its_end(scene: Scene) -> None:
    scene.schedule = Schedule(3600, window=hours(*SHUT))
    scene.during = for_a_while
    scene.start()
    scene.daemon.run_now()
    runs(scene, 1)
    assert scene.triggers == [Trigger.REQUEST]
    assert scene.cancelled == 0


# Triggers -------------------------------------------------------------------------------------


def test_a_trigger_brings_the_next_run_forward(scene: Scene) -> None:
    scene.start()
    runs(scene, 1)
    scene.pulled = Trigger.AGE
    runs(scene, 2)
    scene.pulled = None
    assert scene.triggers[:2] == [Trigger.START, Trigger.AGE]


def test_triggers_are_looked_for_only_while_the_daemon_waits(scene: Scene) -> None:
    def work() -> None:
        before = len(scene.looks)
        for_a_while()
        assert len(scene.looks) == before

    scene.during = work
    scene.start()
    runs(scene, 1)
    wait_until(lambda: scene.looks)
    scene.pauses.all_paused = True
    pool.sleep(0.02)
    before = len(scene.looks)
    for_a_while()
    assert len(scene.looks) == before


def test_a_look_that_breaks_stops_nothing(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.schedule = Schedule(wakeup_time=0.2)
    scene.daemon._look_out = lambda _ago: 1 // 0  # type: ignore[assignment, return-value]
    scene.start()
    runs(scene, 2)
    assert "no trigger is heeded now" in caplog.text


def test_a_request_is_not_overtaken_by_a_trigger_of_lower_rank(scene: Scene) -> None:
    scene.pauses.all_paused = True
    scene.daemon.run_now(Trigger.SIGNAL)
    scene.daemon._pull(Trigger.IMAGES)
    scene.pauses.all_paused = False
    scene.start()
    runs(scene, 1)
    assert scene.triggers == [Trigger.SIGNAL]


class Lookouts:
    """A lookout over a fake Glance and fake stores."""

    def __init__(self, *drivers: FakeDriver, **triggers: int) -> None:
        self.glance = FakeGlance()
        self.source = FakeSource(self.glance)
        self.asked = 0
        self.source.before["backlog"] = self._count
        self.lookout = Lookout(
            self.source.backlog, drivers, lambda: Triggers(**triggers), scrub_time=lambda: 60.0
        )

    def _count(self) -> None:
        self.asked += 1

    def deleted(self, seconds_ago: float) -> None:
        gone = self.glance.clock - datetime.timedelta(seconds=seconds_ago)
        self.glance.add_image(deleted_at=gone, updated_at=gone)


class FullDriver(FakeDriver):
    def space_watch(self) -> Callable[[], bool]:
        return lambda: True


class SilentDriver(FakeDriver):
    def space_watch(self) -> Callable[[], bool]:
        return self._say_nothing

    def _say_nothing(self) -> bool:
        raise errors.Unavailable("unmounted")


def test_without_a_trigger_nobody_is_asked() -> None:
    scene = Lookouts(FakeDriver("fast"))
    scene.deleted(100)
    assert scene.lookout.look(3600) is None
    assert scene.asked == 0


def test_only_what_has_become_due_since_the_last_run_began_pulls_a_trigger() -> None:
    scene = Lookouts(images=1)
    scene.deleted(30)  # not due for another half minute
    scene.deleted(60 + 12)  # the last run has seen it
    assert scene.lookout.look(10) is None
    scene.deleted(60 + 5)
    assert scene.lookout.look(10) is Trigger.IMAGES


def test_a_store_that_is_full_pulls_a_trigger_only_if_a_run_could_help() -> None:
    scene = Lookouts(FakeDriver("fast"), FullDriver("full"))
    assert scene.lookout.look(3600) is None
    scene.deleted(100)
    assert scene.lookout.look(3600) is Trigger.SPACE


def test_a_source_or_a_store_that_does_not_answer_is_said_and_no_trigger(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = Lookouts(SilentDriver("slow"), images=5)
    scene.deleted(100)
    assert scene.lookout.look(3600) is None
    assert "slow" in caplog.text

    def fails() -> None:
        raise errors.SourceUnavailable("gone fishing")

    scene.source.before["backlog"] = fails
    assert scene.lookout.look(3600) is None
    assert "gone fishing" in caplog.text


def test_a_source_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "ANSWER_SECONDS", 0.02)
    scene = Lookouts(images=1)
    scene.source.before["backlog"] = pool.Flag().wait
    assert scene.lookout.look(3600) is None


# What a run leaves ----------------------------------------------------------------------------


def a_report(*left: tuple[Outcome, str], **asked_again_in: float) -> Report:
    report = Report(utcnow)
    for outcome, store in left:
        report.left[outcome, "why", store] = Left(outcome, "why", store, locations=2)
    for store, seconds in asked_again_in.items():
        report.paces[store] = Pace(asked_again_in=seconds)
    return report


def test_the_next_run_comes_when_the_first_store_with_work_may_be_asked_again() -> None:
    waiting = Outcome.WAITING
    assert service.again_in(a_report()) is None
    assert service.again_in(a_report(fast=5)) is None
    assert service.again_in(a_report((waiting, "fast"), fast=0)) is None
    assert service.again_in(a_report((Outcome.FAILED, "fast"), fast=5)) is None
    both = a_report((waiting, "fast"), (waiting, "slow"), fast=50, slow=20, other=1)
    assert service.again_in(both) == 20


# At start -------------------------------------------------------------------------------------


class BrokenDriver(FakeDriver):
    def probe(self) -> None:
        raise errors.Unavailable("no such bucket")


class HangingDriver(FakeDriver):
    def probe(self) -> None:
        pool.Flag().wait()


def test_stores_that_cannot_be_used_are_named_and_hold_up_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    drivers = [FakeDriver("good"), BrokenDriver("broken"), HangingDriver("hung")]
    service.try_stores(drivers, seconds=0.05)
    lines = [record.message for record in caplog.records]
    assert len(lines) == 2
    assert any("broken" in line and "no such bucket" in line for line in lines)
    assert any("hung" in line for line in lines)


# For people -----------------------------------------------------------------------------------


def test_the_status_says_what_it_does() -> None:
    def line(state: State, next_in: float | None = None) -> str:
        return service.status_line(Status(state, Trigger.INTERVAL, next_in), None)

    assert line(State.WAITING, 300) == "waiting: next run in 5 min (interval)"
    assert line(State.OUTSIDE_WINDOW, 8 * 3600) == "outside window: next run in 8 h (interval)"
    assert line(State.PAUSED) == "paused"
    assert line(State.STOPPING) == "stopping"
    report = a_report((Outcome.WAITING, "fast"))
    report.total.images_scrubbed = 18000
    report.started_at -= datetime.timedelta(seconds=10)
    status = Status(State.RUNNING, Trigger.START)
    said = service.status_line(status, report)
    assert re.fullmatch(r"scrubbing: 18000 images done, 2 left, 1[78]\d\d/s", said)
    assert service.status_line(status, None) == "running"


def test_the_status_as_a_document_is_plain_values() -> None:
    assert Status(State.WAITING, Trigger.IMAGES, 2.6).as_dict() == {
        "state": "waiting",
        "trigger": "pending images",
        "next_run_in_seconds": 3,
    }

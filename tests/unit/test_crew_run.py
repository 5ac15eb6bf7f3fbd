"""A run of several workers: who is asked for a part of it, and when it is over."""

import datetime
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from scrubber import pool
from scrubber.reporting.report import Report
from scrubber.workers.crew_run import CrewRun
from scrubber.workers.messages import Alive, Begin, Cancel, Ended, Message
from scrubber.workers.status import State

NOW = datetime.datetime(2026, 1, 1)


def document(status: str = "succeeded", scrubbed: int = 0, alarm: str = "") -> dict[str, Any]:
    report = Report(lambda: NOW)
    report.total.images_scrubbed = scrubbed
    if alarm:
        report.alarm(alarm)
    if status == "cancelled":
        report.cancelled = True
    report.finish()
    return report.as_dict()


@dataclass(eq=False)
class FakeMember:
    """Notes what it is told."""

    number: int
    state: State = State.IDLE
    pid: int = 0
    problem: str | None = None
    told: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pid = 100 * self.number

    def tell(self, message: Message) -> None:
        self.told.append(message)

    def begin(self, begin: Begin) -> None:
        self.state = State.RUNNING
        self.told.append(begin)

    def replaced(self) -> None:
        """Another process took its place, and is ready."""
        self.state, self.pid = State.IDLE, self.pid + 1

    @property
    def begun(self) -> list[bool]:
        """For each part that it got, whether it was the first."""
        return [message.first for message in self.told if isinstance(message, Begin)]


class Scene:
    """A run in a green thread of its own, and the workers it asks."""

    def __init__(self, *states: State) -> None:
        self.members = [FakeMember(number, state) for number, state in enumerate(states, 1)]
        self.changed = pool.Bell()
        self.stop = pool.Flag(self.changed)
        self.report = Report(lambda: NOW, trigger="interval", run="run")
        self.run = CrewRun(self, self.report, self.stop, self.changed)  # type: ignore[arg-type]
        self.over = False
        pool.Task(self._execute)
        self.settle()

    def _execute(self) -> None:
        self.run.execute()
        self.over = True

    def attend(self, run: CrewRun | None) -> None:
        """As a crew's."""

    def settle(self, change: Callable[[], object] = lambda: None) -> None:
        change()
        self.changed.ring()
        for _ in range(5):
            pool.sleep(0)

    def ends(self, member: FakeMember, **more: Any) -> None:
        member.state = State.IDLE
        self.settle(lambda: self.run.heard(member, Ended(document(**more))))  # type: ignore[arg-type]

    def says(self, member: FakeMember, **more: Any) -> None:
        alive = Alive(1, 1, 0, {}, document(**more))
        self.settle(lambda: self.run.heard(member, alive))  # type: ignore[arg-type]

    def dies(self, member: FakeMember) -> None:
        member.state, member.problem = State.DOWN, "was ended by SIGKILL"
        self.settle(lambda: self.run.heard(member, None))  # type: ignore[arg-type]


def test_all_take_part_and_one_has_the_first_part() -> None:
    scene = Scene(State.IDLE, State.IDLE, State.IDLE)
    assert [member.begun for member in scene.members] == [[True], [False], [False]]
    for member in scene.members:
        assert not scene.over
        scene.ends(member, scrubbed=2)
    assert scene.over
    assert scene.report.total.images_scrubbed == 6
    assert scene.report.status == "succeeded"


def test_who_is_ready_later_joins_and_nobody_is_waited_for() -> None:
    scene = Scene(State.IDLE, State.STARTING, State.STARTING)
    scene.settle(scene.members[1].replaced)
    assert scene.members[1].begun == [False]
    scene.ends(scene.members[1])
    assert not scene.over
    scene.ends(scene.members[0])
    assert scene.over


def test_a_part_that_died_counts_as_far_as_it_got_and_is_an_alarm() -> None:
    scene = Scene(State.IDLE, State.IDLE)
    one, two = scene.members
    scene.says(two, scrubbed=3)
    scene.dies(two)
    assert not scene.over
    scene.ends(one, scrubbed=4)
    assert scene.over
    assert scene.report.total.images_scrubbed == 7
    assert scene.report.status == "partial"
    assert "SIGKILL" in scene.report.alarms[0]


def test_who_takes_a_dead_workers_place_takes_part() -> None:
    scene = Scene(State.IDLE, State.IDLE)
    one, two = scene.members
    scene.dies(two)
    scene.settle(two.replaced)
    assert two.begun == [False, False]
    scene.ends(one)
    scene.ends(two)
    assert scene.over


def test_the_first_part_of_a_dead_worker_goes_to_whoever_is_free() -> None:
    scene = Scene(State.IDLE, State.IDLE)
    one, two = scene.members
    scene.ends(two)
    scene.dies(one)
    assert two.begun == [False, True]
    scene.ends(two)
    assert scene.over


def test_if_all_die_the_run_is_over() -> None:
    scene = Scene(State.IDLE, State.IDLE)
    for member in scene.members:
        scene.says(member, scrubbed=1)
        scene.dies(member)
    assert scene.over
    assert len(scene.report.alarms) == 2
    assert scene.report.status == "partial"


def test_if_none_can_be_started_the_run_fails_and_says_why() -> None:
    scene = Scene(State.STARTING)
    (member,) = scene.members
    assert not scene.over
    member.state, member.problem = State.DOWN, "cannot scrub: wrong key"
    scene.settle()
    assert scene.over
    assert scene.report.status == "failed"
    assert "wrong key" in str(scene.report.failure)


@pytest.mark.parametrize("how", ["cancel", "stop"])
def test_an_ending_run_waits_for_those_under_way_and_asks_nobody_else(how: str) -> None:
    scene = Scene(State.IDLE, State.STARTING)
    one, two = scene.members
    scene.settle(scene.run.cancel if how == "cancel" else scene.stop.set)
    scene.settle(two.replaced)
    assert two.begun == []
    assert not scene.over
    if how == "cancel":
        assert Cancel() in one.told
    scene.ends(one, status="cancelled")
    assert scene.over
    assert scene.report.status == "cancelled"


def test_a_worker_that_was_ended_alone_makes_the_run_a_cancelled_one() -> None:
    """What it had is given back, so something is left that no list names."""
    scene = Scene(State.IDLE, State.IDLE)
    one, two = scene.members
    scene.ends(one)
    scene.ends(two, status="cancelled")
    assert scene.report.status == "cancelled"


def test_what_was_said_late_is_not_heard() -> None:
    scene = Scene(State.IDLE)
    (member,) = scene.members
    scene.ends(member, scrubbed=1)
    scene.says(member, scrubbed=5)
    assert scene.report.total.images_scrubbed == 1

"""A store that asks for patience gets it, one that is down costs nothing; others go on.

Every test has a hard limit in time: what hangs has failed.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from contract.fake_driver import FakeDriver
from scrubber import errors, pool
from scrubber.dispatch import Dispatcher
from scrubber.model import Candidate, Selection
from scrubber.orders import StoreOrder
from scrubber.planning import circuit
from scrubber.plans import Planner
from scrubber.reporting.report import Report, utcnow
from scrubber.stores.rehearsal import RehearsalDriver
from unit.scenes import PATIENCE, Scene, finish, outcomes, reasons, until

pytestmark = pytest.mark.timeout(3 * PATIENCE)


def refuse_each(driver: FakeDriver, times: int, retry_after: float | None = None) -> Counter[str]:
    """Every object is refused so often before it is deleted; returns how often they were sent."""
    sent: Counter[str] = Counter()

    def before_each(name: str) -> None:
        sent[name] += 1
        if sent[name] <= times:
            driver.answers[name] = errors.Throttled("slow down", retry_after)
        else:
            driver.answers.pop(name, None)

    driver.before_each = before_each
    return sent


def refuse_first(driver: FakeDriver, calls: int, retry_after: float | None = None) -> None:
    """The first calls are refused as a whole, those apart that have an answer of their own."""
    left = iter(range(calls))

    def before_delete(names: list[str]) -> None:
        if any(isinstance(driver.answers.get(name), errors.InUse) for name in names):
            return
        refused = next(left, None) is not None
        for name in names:
            if refused:
                driver.answers[name] = errors.Throttled("slow down", retry_after)
            elif isinstance(driver.answers.get(name), errors.Throttled):
                del driver.answers[name]

    driver.before_delete = before_delete


def run_again(scene: Scene) -> Report:
    scene.report = Report(utcnow)
    return scene.run()


# Throttled --------------------------------------------------------------------------------


def test_what_was_throttled_has_its_turn_again_in_the_same_run() -> None:
    scene = Scene()
    images = [scene.image(f"{number}") for number in range(5)]
    sent = refuse_each(scene.fast, times=1)
    report = scene.run()
    assert all(scene.is_finished(image) for image in images)
    assert set(sent.values()) == {2}
    assert outcomes(report) == {"deleted": 5}
    assert report.status == "succeeded"
    assert report.paces["fast"].throttled == 5
    assert report.paces["fast"].limit is not None


def test_the_order_of_an_images_locations_outlives_throttling() -> None:
    scene = Scene(FakeDriver("fast", batch=1), FakeDriver("slow", batch=1))
    scene.image("first", "slow/second")
    refuse_each(scene.fast, times=1)
    seen: list[bool] = []
    scene.stores["slow"].before_each = lambda _name: seen.append("first" in scene.fast.objects)
    scene.run()
    assert seen == [False]


def test_a_store_that_does_nothing_but_throttle_is_left_to_the_next_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("scrubber.store_state.PATIENCE_SECONDS", 0.2)
    scene = Scene(FakeDriver("fast"), FakeDriver("slow"))
    images, other = [scene.image(f"{number}") for number in range(5)], scene.image("slow/a")
    refuse_each(scene.fast, times=1_000_000)
    report = scene.run()
    assert all(scene.is_untouched(image) for image in images)
    assert scene.is_finished(other)
    assert outcomes(report, "fast") == {"waiting": 5}
    assert "patience" in report.stopped_stores["fast"]
    assert report.status == "partial"


def test_a_store_that_wants_a_long_pause_gets_it_across_runs() -> None:
    scene = Scene(FakeDriver("fast", batch=1), pool_size=1)
    images = [scene.image(f"{number}") for number in range(3)]
    sent = refuse_each(scene.fast, times=1, retry_after=3600)
    report = scene.run()
    assert sum(sent.values()) == 1
    assert report.paces["fast"].asked_again_in == pytest.approx(3600, abs=PATIENCE)
    report = run_again(scene)
    assert sum(sent.values()) == 1
    assert all(scene.is_untouched(image) for image in images)
    assert outcomes(report, "fast") == {"waiting": 3}


def test_a_throttled_store_holds_up_no_other() -> None:
    scene = Scene(FakeDriver("fast"), FakeDriver("slow"), pool_size=1)
    stuck = scene.image("a")
    others = [scene.image(f"slow/{number}") for number in range(20)]
    refuse_each(scene.fast, times=3, retry_after=0.3)
    task = scene.start()
    until(lambda: all(scene.is_finished(image) for image in others))
    assert not scene.is_finished(stuck)
    finish(task)
    assert scene.is_finished(stuck)


def test_a_throttled_stores_backlog_is_no_wall_before_the_others_work() -> None:
    """Far more than may be queued for it comes before them, page after page."""
    scene = Scene(FakeDriver("fast", batch=1), FakeDriver("slow"), pool_size=2, page_size=2)
    stuck = [scene.image(f"{number}", id=f"1{number:035}") for number in range(20)]
    others = [scene.image(f"slow/{number}", id=f"2{number:035}") for number in range(20)]
    late = [scene.image(f"{number}", id=f"3{number:035}") for number in range(50, 55)]
    refuse_first(scene.fast, calls=1, retry_after=0.3)
    task = scene.start()
    until(lambda: all(scene.is_finished(image) for image in others))
    assert not all(scene.is_finished(image) for image in stuck)
    finish(task)
    assert all(scene.is_finished(image) for image in [*stuck, *late])
    assert outcomes(scene.report) == {"deleted": 45}
    assert scene.report.claimed_elsewhere == 0
    assert scene.report.status == "succeeded"


def test_what_failed_is_not_tried_again_because_others_were_postponed() -> None:
    scene = Scene(FakeDriver("fast", batch=1), pool_size=1, page_size=2)
    bad = scene.image("bad", id="0" * 36)
    images = [scene.image(f"{number}", id=f"1{number:035}") for number in range(10)]
    refuse_first(scene.fast, calls=1)
    scene.fast.answers["bad"] = errors.InUse("has clones")
    report = scene.run()
    assert scene.fast.asked_to_delete.count("bad") == 1
    assert all(scene.is_finished(image) for image in images)
    assert scene.is_untouched(bad)
    assert outcomes(report) == {"deleted": 10, "waiting": 1}


def test_an_operators_limit_is_kept_from_the_first_location_on() -> None:
    scene = Scene(FakeDriver("fast", max_rate=40))
    for number in range(20):
        scene.image(f"{number}")
    began = time.monotonic()
    report = scene.run()
    assert time.monotonic() - began >= (20 - 4 - 4) / 40
    assert report.paces["fast"].limit == 40
    assert outcomes(report) == {"deleted": 20}


# Down -------------------------------------------------------------------------------------


def test_a_store_that_is_down_is_not_asked_again_before_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene()
    image = scene.image("a")
    mounted, scene.fast.mounted = scene.fast.mounted, None
    probes = count_probes(scene.fast, monkeypatch)
    scene.run()
    scene.fast.mounted = mounted
    report = run_again(scene)
    assert probes() == 1
    assert scene.is_untouched(image)
    assert "nothing is mounted" in reasons(report)
    assert report.paces["fast"].asked_again_in > 0


def test_a_store_that_was_down_is_used_again_after_one_probe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(circuit, "FIRST_STEP", 0.01)
    scene = Scene()
    image = scene.image("a")
    mounted, scene.fast.mounted = scene.fast.mounted, None
    probes = count_probes(scene.fast, monkeypatch)
    scene.run()
    scene.fast.mounted = mounted
    pool.sleep(0.02)
    report = run_again(scene)
    assert probes() == 2
    assert scene.is_finished(image)
    assert report.stopped_stores == {}
    assert scene.healths.of(scene.fast).circuit == circuit.Circuit()


def test_a_store_whose_probes_go_well_and_whose_deletes_fail_is_asked_ever_more_seldom(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(circuit, "FIRST_STEP", 0.001)
    scene = Scene()
    scene.image("a")

    def fail(_names: list[str]) -> None:
        raise errors.Unavailable("read-only")

    scene.fast.before_delete = fail
    steps = []
    for _ in range(4):
        run_again(scene)
        steps.append(scene.healths.of(scene.fast).circuit.step)
        pool.sleep(2 * steps[-1])
    assert steps == [0.001, 0.002, 0.004, 0.008]
    scene.fast.before_delete = lambda _names: None
    run_again(scene)
    assert scene.healths.of(scene.fast).circuit == circuit.Circuit()


def test_a_store_that_comes_back_in_mid_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was claimed when it failed waits for the next run; what is read later does not."""
    monkeypatch.setattr(circuit, "FIRST_STEP", 0.0)
    scene = Scene(FakeDriver("fast", batch=1), pool_size=1, page_size=1)
    images = [scene.image(f"{number}") for number in range(6)]
    failures = iter([errors.Unavailable("it is down")])

    def fail_once(names: list[str]) -> None:
        if failure := next(failures, None):
            raise failure

    scene.fast.before_delete = fail_once
    report = scene.run()
    assert 1 <= sum(scene.is_untouched(image) for image in images) < 6
    assert any(scene.is_finished(image) for image in images)
    assert report.stopped_stores == {}
    assert report.status == "partial"


def test_many_failures_in_a_row_are_the_stores() -> None:
    scene = Scene(FakeDriver("fast", batch=1), FakeDriver("slow"), pool_size=1)
    for number in range(2 * circuit.STREAK):
        scene.image(f"{number}")
        scene.fast.answers[f"{number}"] = errors.Failed("internal error")
    other = scene.image("slow/a")
    report = scene.run()
    assert len(scene.fast.sent) == circuit.STREAK
    assert outcomes(report, "fast") == {"failed": circuit.STREAK, "waiting": circuit.STREAK}
    assert scene.is_finished(other)


def count_probes(driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    probe, probes = driver.probe, list[int]()

    def counted() -> None:
        probes.append(1)
        probe()

    monkeypatch.setattr(driver, "probe", counted)
    return lambda: len(probes)


# Slow -------------------------------------------------------------------------------------


def test_calls_that_hang_in_every_slot_hold_up_no_other_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their slots are lent to the others."""
    monkeypatch.setattr("scrubber.store_state.STALL_SECONDS", 0.05)
    scene = Scene(
        FakeDriver("fast", batch=1), FakeDriver("slow", batch=1), pool_size=2, page_size=2
    )
    stuck = [scene.image(f"{number}", id=f"{number}" * 36) for number in range(2)]
    others = [scene.image(f"slow/{number}", id=f"{number}" * 36) for number in range(5, 9)]
    go_on = pool.Flag()
    scene.fast.before_delete = lambda _names: go_on.wait(PATIENCE)
    task = scene.start()
    until(lambda: all(scene.is_finished(image) for image in others))
    assert scene.fast.running == 2
    go_on.set()
    finish(task)
    assert all(scene.is_finished(image) for image in stuck)
    assert scene.slots.free == 2


@pytest.mark.parametrize("look_seconds", [0, 0.005])
def test_a_store_of_slow_calls_leaves_the_others_their_share_of_the_slots(
    look_seconds: float,
) -> None:
    """Also while their rows are looked at."""
    scene = Scene(FakeDriver("fast", batch=1), FakeDriver("slow", batch=1), pool_size=4)
    for number in range(10):  # claimed at once: it always has something to do
        scene.image(f"{number}")
        scene.image(f"slow/{number}")
    most: list[int] = []
    scene.stores["slow"].before_delete = lambda _names: pool.sleep(0.02)
    scene.fast.before_delete = lambda _names: most.append(scene.stores["slow"].running)
    scene.source.before["still_ours"] = lambda: pool.sleep(look_seconds)
    scene.run()
    assert len(most) == 10
    assert max(most) <= 2


def count_scans(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    scans: list[int] = []
    candidates = scene.source.candidates

    def counted(selection: Selection, page_size: int) -> Iterator[list[Candidate]]:
        scans.append(1)
        return candidates(selection, page_size)

    monkeypatch.setattr(scene.source, "candidates", counted)
    return scans


def test_a_backlog_at_a_low_limit_is_not_read_over_and_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What may be queued at that rate is less than half a page."""
    scene = Scene(
        FakeDriver("fast", batch=1, max_rate=20), page_size=100, claim_lease=4, call_timeout=1
    )
    for number in range(40):
        scene.image(f"{number}")
    scans = count_scans(scene, monkeypatch)
    report = scene.run()
    assert outcomes(report) == {"deleted": 40}
    assert len(scans) <= 20


def test_what_was_postponed_is_reported_when_its_store_then_stops() -> None:
    scene = Scene(FakeDriver("fast", batch=1), pool_size=2, page_size=2)
    for number in range(20):
        scene.image(f"{number}")
    calls = iter(range(1000))

    def before_delete(names: list[str]) -> None:
        if next(calls) == 0:
            scene.fast.answers[names[0]] = errors.Throttled("slow down", 0.2)
            return
        for name in names:
            scene.fast.answers.pop(name, None)
        if len(scene.fast.sent) > 4:
            raise errors.Unavailable("it is down")

    scene.fast.before_delete = before_delete
    report = scene.run()
    assert sum(outcomes(report).values()) == 20, outcomes(report)


def test_a_late_success_does_not_close_the_circuit_of_a_store_that_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else it would not be asked again for the rest of a run."""
    monkeypatch.setattr(circuit, "FIRST_STEP", 0.0)
    scene = Scene(FakeDriver("fast", batch=1), pool_size=2, page_size=2)
    images = [scene.image(f"{number}") for number in range(10)]
    failed, calls = pool.Flag(), iter(range(1000))

    def before_delete(names: list[str]) -> None:
        match next(calls):
            case 0:
                failed.wait(PATIENCE)  # it was on its way, and ends well
            case 1:
                pool.Task(failed.set)
                raise errors.Unavailable("it is down")

    scene.fast.before_delete = before_delete
    report = scene.run()
    assert report.stopped_stores == {}
    assert sum(scene.is_finished(image) for image in images) >= 5, outcomes(report)


def test_a_limit_that_is_lifted_takes_effect_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(FakeDriver("fast", batch=1, max_rate=0.01))
    images = [scene.image(f"{number}") for number in range(5)]
    task = scene.start()
    until(lambda: any(scene.is_finished(image) for image in images))
    scene.fast.section.conf.set_override("scrub_max_rate", 1000.0, group="fast")
    scene.slots.resize(4)
    finish(task)
    assert all(scene.is_finished(image) for image in images)


def test_nothing_is_busy_between_a_stop_and_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database may take its time, and work that is queued cannot be sent any more."""
    scene = Scene(FakeDriver("fast", batch=1, max_rate=1), page_size=2)
    for number in range(4):
        scene.image(f"{number}")
    turns: list[int] = []
    next_moment = Dispatcher._next_moment
    monkeypatch.setattr(
        Dispatcher, "_next_moment", lambda self: (turns.append(1), next_moment(self))[1]
    )
    claim = scene.source.claim

    def slowly(*arguments: Any) -> Any:
        if scene.fast.sent:
            scene.stop.set()
            turns.clear()
            pool.sleep(0.3)
        return claim(*arguments)

    monkeypatch.setattr(scene.source, "claim", slowly)
    scene.run()
    assert len(turns) < 20


def test_a_dry_run_is_held_up_by_no_limit() -> None:
    driver = RehearsalDriver(FakeDriver("fast", max_rate=0.01))
    assert driver.max_rate is None


def test_new_work_of_other_stores_does_not_wait_for_a_throttled_backlog(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Which may take many hours."""
    scene = Scene(FakeDriver("fast", batch=1), FakeDriver("slow"), pool_size=2, page_size=2)
    for number in range(20):
        scene.image(f"{number}", id=f"2{number:035}")
    refuse_first(scene.fast, calls=1)
    candidates, new = scene.source.candidates, list[str]()

    def later(selection: Selection, page_size: int) -> Iterator[list[Candidate]]:
        if scene.fast.sent and not new:
            new.append(scene.image("slow/new", id="1" * 36))
        return candidates(selection, page_size)

    monkeypatch.setattr(scene.source, "candidates", later)
    task = scene.start()
    until(lambda: new and scene.is_finished(new[0]))
    assert len(scene.fast.objects) > 10
    finish(task)
    assert outcomes(scene.report) == {"deleted": 21}
    assert scene.report.claimed_elsewhere == 0


def test_a_store_whose_probe_hangs_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(FakeDriver("fast"), FakeDriver("slow"), page_size=2)
    monkeypatch.setattr("scrubber.plans.PROOF_SECONDS", 0.01)
    stuck = [scene.image(f"{number}", id=f"1{number:035}") for number in range(5)]
    others = [scene.image(f"slow/{number}", id=f"2{number:035}") for number in range(5)]
    go_on = pool.Flag()
    probe = scene.fast.probe

    def hang() -> None:
        go_on.wait(PATIENCE)
        probe()

    monkeypatch.setattr(scene.fast, "probe", hang)
    task = scene.start()
    until(lambda: all(scene.is_finished(image) for image in others))
    assert not any(scene.is_finished(image) for image in stuck)
    go_on.set()
    finish(task)
    assert all(scene.is_finished(image) for image in stuck)
    assert outcomes(scene.report) == {"deleted": 10}


def test_a_store_whose_probe_never_ends_is_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(FakeDriver("fast"), FakeDriver("slow"), page_size=2, call_timeout=0.1)
    monkeypatch.setattr("scrubber.plans.PROOF_SECONDS", 0.01)
    stuck = [scene.image(f"{number}") for number in range(5)]
    other = scene.image("slow/a")
    monkeypatch.setattr(scene.fast, "probe", lambda: pool.Flag().wait(PATIENCE))
    report = scene.run()
    assert all(scene.is_untouched(image) for image in stuck)
    assert scene.is_finished(other)
    assert outcomes(report) == {"deleted": 1, "waiting": 5}
    assert "no answer within" in reasons(report)


def test_a_store_whose_probe_fails_in_mid_page_is_reported_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was planned before is postponed, so what was planned after must be as well."""
    monkeypatch.setattr("scrubber.plans.PROOF_SECONDS", 0.01)
    scene = Scene(FakeDriver("fast"), FakeDriver("slow"))
    before = scene.image("a", id="0" * 36)
    other = scene.image("slow/b", id="1" * 36)
    after = [scene.image(f"{number}", id=f"2{number:035}") for number in range(5)]
    probe, go_on = scene.stores["slow"].probe, pool.Flag()

    def fail() -> None:
        go_on.wait(PATIENCE)
        raise errors.Unavailable("it is down")

    def succeed() -> None:
        go_on.set()
        pool.sleep(0)
        probe()

    monkeypatch.setattr(scene.fast, "probe", fail)
    monkeypatch.setattr(scene.stores["slow"], "probe", succeed)
    report = scene.run()
    assert all(scene.is_untouched(image) for image in [before, *after])
    assert scene.is_finished(other)
    assert outcomes(report) == {"deleted": 1, "waiting": 6}


# Postponed --------------------------------------------------------------------------------


class SlowProof:
    """Keeps a store from proving itself from one of its probes on, until it is told to."""

    def __init__(
        self, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch, from_probe: int = 1
    ) -> None:
        self.go_on = pool.Flag()
        self.probes = 0
        #: What its first probe, and the one that was kept waiting, then say.
        self.says: Callable[[], None] = lambda: None
        self._from_probe = from_probe
        self._probe = driver.probe
        for module in ("plans", "run"):
            monkeypatch.setattr(f"scrubber.{module}.PROOF_SECONDS", 0.01)
        monkeypatch.setattr(driver, "probe", self)

    def __call__(self) -> None:
        self.probes += 1
        if self.is_under_way:
            self.go_on.wait(PATIENCE)
        self.says()
        self._probe()

    @property
    def is_under_way(self) -> bool:
        return self.probes >= self._from_probe and not self.go_on


def is_down() -> None:
    raise errors.Unavailable("it is down")


def call_before_plan(monkeypatch: pytest.MonkeyPatch, hook: Callable[[str], object]) -> None:
    """With the id of each image, whenever it is planned what to do with it."""
    plan = Planner.plan
    monkeypatch.setattr(
        Planner, "plan", lambda self, image: (hook(image.image.id), plan(self, image))[1]
    )


@pytest.mark.parametrize("is_used", [False, True], ids=["its first", "after a failure"])
def test_rows_are_not_read_over_and_over_while_one_store_proves_itself_and_another_is_limited(
    monkeypatch: pytest.MonkeyPatch, is_used: bool
) -> None:
    monkeypatch.setattr(circuit, "FIRST_STEP", 0.0)
    scene = Scene(FakeDriver("fast", batch=1), FakeDriver("slow", max_rate=50), page_size=2)
    if is_used:
        scene.image("bad", id="0" * 36)
        scene.fast.answers["bad"] = errors.Unavailable("broke down")
    for number in range(80):
        scene.image(f"slow/{number}", id=f"1{number:035}")
    last = scene.image("last", id="2" * 36)
    proof = SlowProof(scene.fast, monkeypatch, from_probe=2 if is_used else 1)
    scans: list[int] = []
    scene.source.before["candidates"] = lambda: scans.append(1)
    task = scene.start()
    slow = scene.stores["slow"]
    until(lambda: proof.is_under_way)
    scanned, sent = len(scans), len(slow.asked_to_delete)
    until(lambda: len(slow.asked_to_delete) >= sent + 10)
    assert len(scans) - scanned <= len(slow.asked_to_delete) - sent
    scene.stop.set()
    proof.go_on.set()
    finish(task)
    assert not scene.is_finished(last)


def test_a_store_that_has_proved_itself_waits_for_no_limited_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fast, slow = FakeDriver("fast"), FakeDriver("slow", batch=1, max_rate=0.01)
    scene = Scene(fast, slow, page_size=2)
    for number in range(10):
        scene.image(f"slow/{number}", id=f"1{number:035}")
    images = [scene.image(f"{number}", id=f"2{number:035}") for number in range(3)]
    proof, planned = SlowProof(fast, monkeypatch), list[str]()
    call_before_plan(monkeypatch, planned.append)
    task = scene.start()
    claimed = scene.report.stages.claimed
    until(lambda: images[-1] in planned and claimed.locations > len(slow.asked_to_delete) > 0)
    proof.go_on.set()
    until(lambda: all(scene.is_finished(image) for image in images))
    assert len(slow.objects) > 5
    scene.stop.set()
    finish(task)


def test_what_was_postponed_is_reported_when_a_live_url_then_stands_against_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A live row appears that nobody can read, before the last look of another store."""
    scene = Scene(FakeDriver("fast"), FakeDriver("hung"), FakeDriver("other"))
    postponed = scene.image("fast/a", id="0" * 36)
    scene.image("other/b", id="1" * 36)
    proof = SlowProof(scene.fast, monkeypatch)

    def appear() -> None:
        del scene.source.before["still_ours"]
        monkeypatch.setattr(scene.stores["hung"], "mentions", lambda _urls: is_down())
        scene.live_image("new", store="hung")

    scene.source.before["still_ours"] = appear
    task = scene.start()
    until(lambda: outcomes(scene.report))
    proof.go_on.set()
    finish(task)
    assert scene.is_untouched(postponed)
    assert outcomes(scene.report) == {"waiting": 2}
    assert outcomes(scene.report, "fast") == {"waiting": 1}
    assert scene.report.status == "partial"


@pytest.mark.parametrize(
    ("is_paused", "came_to"), [(False, {"deleted": 2, "waiting": 1}), (True, {"waiting": 3})]
)
def test_what_was_postponed_is_reported_when_its_store_comes_back_or_is_paused_in_mid_page(
    monkeypatch: pytest.MonkeyPatch, is_paused: bool, came_to: dict[str, int]
) -> None:
    """What was planned before that names a reason which holds no more."""
    scene = Scene()
    images = [scene.image(f"{number}", id=f"{number:036}") for number in range(3)]
    proof = SlowProof(scene.fast, monkeypatch)
    proof.says = is_down
    health = scene.healths.of(scene.fast)

    def change(image: str) -> None:
        if image == images[1] and health.circuit.reason:
            if is_paused:
                scene.orders.replace({"fast": StoreOrder(paused=True)})
            else:
                proof.says = lambda: None
                health.circuit = replace(health.circuit, probe_at=0.0)
        elif image == images[2]:
            proof.go_on.set()

    call_before_plan(monkeypatch, change)
    report = scene.run()
    assert scene.is_untouched(images[0])
    assert outcomes(report) == came_to


def test_what_was_reported_is_not_reported_again_because_others_were_postponed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its store fails at once when it is first asked, and later takes its time to fail."""
    monkeypatch.setattr(circuit, "FIRST_STEP", 0.0)
    scene = Scene(page_size=1)
    images = [scene.image(f"{number}", id=f"{number:036}") for number in range(4)]
    proof = SlowProof(scene.fast, monkeypatch, from_probe=2)
    proof.says = is_down
    call_before_plan(monkeypatch, lambda image: image == images[-1] and proof.go_on.set())
    report = scene.run()
    assert proof.probes > 2
    assert outcomes(report) == {"waiting": 4}


def test_a_store_that_works_again_is_not_reported_as_stopped_however_often_one_looks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(circuit, "FIRST_STEP", 0.0)
    scene = Scene(FakeDriver("fast"), FakeDriver("slow", batch=1), pool_size=1, page_size=1)
    scene.image("a", id="0" * 36)
    for number in range(4):
        scene.image(f"slow/{number}", id=f"1{number:035}")
    last = scene.image("last", id="2" * 36)
    probes = iter([is_down, scene.fast.probe])

    def probe() -> None:
        next(probes)()

    monkeypatch.setattr(scene.fast, "probe", probe)
    seen: list[dict[str, str]] = []
    scene.stores["slow"].before_each = lambda _name: seen.append(
        scene.report.as_dict()["stopped_stores"]
    )
    report = scene.run()
    assert "it is down" in seen[0]["fast"]
    assert scene.is_finished(last)
    assert report.stopped_stores == {}

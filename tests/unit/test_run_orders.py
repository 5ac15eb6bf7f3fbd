"""An operator's word in mid-run: stores are paused and slowed down, runs are cancelled."""

import time

import pytest

from contract.fake_driver import FakeDriver
from contract.fake_source import AN_HOUR
from scrubber import errors, pool
from scrubber.orders import StoreOrder
from scrubber.planning.circuit import Circuit
from scrubber.planning.due import Ages
from scrubber.reporting import text
from scrubber.reporting.report import Report, utcnow
from scrubber.sources.base import Finish, Finished
from scrubber.stores.registry import Stores
from scrubber.stores.rehearsal import RehearsalDriver
from unit.scenes import PATIENCE, Scene, finish, outcomes, reasons, until

pytestmark = pytest.mark.timeout(3 * PATIENCE)

PAUSED = StoreOrder(paused=True)


def run_again(scene: Scene) -> Report:
    scene.report = Report(utcnow)
    return scene.run()


# Pause ------------------------------------------------------------------------------------


def test_nothing_but_its_names_is_asked_of_a_paused_store_and_its_work_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(FakeDriver("fast"), FakeDriver("slow"))
    stuck, other = scene.image("a"), scene.image("slow/b")
    asked: list[str] = []
    for method in ("resolve", "probe", "look", "delete"):
        monkeypatch.setattr(scene.fast, method, lambda *_, name=method: asked.append(name))
    scene.orders.replace({"fast": PAUSED})
    report = scene.run()
    assert asked == ["resolve"], "its live images may be another store's pending ones"
    assert scene.is_untouched(stuck)
    assert scene.is_finished(other)
    assert outcomes(report) == {"deleted": 1, "waiting": 1}
    assert "paused by an operator; scrubber-manage resume fast" in reasons(report)
    assert report.paused_stores == ["fast"]
    assert "store fast is paused" in text.summary(report)
    assert report.status == "partial"


def test_a_pause_says_nothing_of_whether_the_store_works() -> None:
    scene = Scene()
    image = scene.image("a")
    scene.orders.replace({}, all_paused=True)
    scene.run()
    assert scene.healths.of(scene.fast).circuit == Circuit()
    scene.orders.replace({})
    report = run_again(scene)
    assert scene.is_finished(image)
    assert report.paused_stores == []


def test_a_store_that_failed_is_not_probed_while_it_is_paused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("scrubber.planning.circuit.FIRST_STEP", 0.0)
    scene = Scene()
    scene.image("a")
    mounted, scene.fast.mounted = scene.fast.mounted, None
    scene.run()
    scene.fast.mounted = mounted
    probes: list[int] = []
    monkeypatch.setattr(scene.fast, "probe", lambda: probes.append(1))
    scene.orders.replace({"fast": PAUSED})
    run_again(scene)
    assert probes == []


def test_a_pause_in_mid_run_gives_the_queue_back_and_records_what_is_in_flight() -> None:
    scene = Scene(FakeDriver("fast", batch=1), FakeDriver("slow", batch=1), pool_size=2)
    images = [scene.image(f"{number}") for number in range(20)]
    go_on = pool.Flag()
    scene.fast.before_each = lambda _name: (go_on.wait(PATIENCE), None)[1]
    task = scene.start()
    until(lambda: scene.fast.running == 2)
    scene.orders.replace({"fast": PAUSED})
    until(lambda: sum(scene.is_untouched(image) for image in images) == 18)
    go_on.set()
    finish(task)
    assert sum(scene.is_finished(image) for image in images) == 2
    assert len(scene.fast.sent) == 2
    assert outcomes(scene.report) == {"deleted": 2, "waiting": 18}
    assert "paused" in reasons(scene.report)
    assert "paused" in scene.report.stopped_stores["fast"]


def test_a_pause_ends_a_large_batch_after_the_object_under_way() -> None:
    scene = Scene(FakeDriver("fast", batch=100), pool_size=1)
    for number in range(8):
        scene.image(f"{number}")

    def pause(_name: str) -> None:
        scene.orders.replace({"fast": PAUSED})
        pool.sleep(0.01)  # as any real store, it lets others run

    scene.fast.before_each = pause
    report = scene.run()
    assert outcomes(report) == {"deleted": 1, "waiting": 7}


def test_a_pause_holds_up_no_other_store() -> None:
    scene = Scene(FakeDriver("fast", batch=1), FakeDriver("slow"), pool_size=1, page_size=2)
    for number in range(10):
        scene.image(f"{number}")
    others = [scene.image(f"slow/{number}") for number in range(10)]
    scene.fast.before_each = lambda _name: scene.orders.replace({"fast": PAUSED})
    report = scene.run()
    assert all(scene.is_finished(image) for image in others)
    assert outcomes(report) == {"deleted": 11, "waiting": 9}


def test_a_resume_means_the_next_run() -> None:
    scene = Scene(FakeDriver("fast", batch=1), pool_size=1)
    images = [scene.image(f"{number}") for number in range(5)]

    def pause_for_a_moment(_name: str) -> None:
        scene.orders.replace({"fast": PAUSED})
        pool.sleep(0.01)
        scene.orders.replace({})

    scene.fast.before_each = pause_for_a_moment
    assert outcomes(scene.run()) == {"deleted": 1, "waiting": 4}
    run_again(scene)
    assert sum(scene.is_finished(image) for image in images) == 2


def test_a_pause_counts_as_no_attempt() -> None:
    scene = Scene(FakeDriver("fast", batch=1), pool_size=1)
    for number in range(5):
        scene.image(f"{number}")
    scene.fast.before_each = lambda _name: scene.orders.replace({"fast": PAUSED})
    scene.run()
    assert {settled.attempts for settled in scene.audited} == {0}


def test_a_dry_run_looks_at_a_paused_store_and_says_that_it_is_paused() -> None:
    scene = Scene()
    scene.image("a")
    scene._registry = Stores([RehearsalDriver(scene.fast)], {})
    scene.report = Report(utcnow, rehearsal=True)
    scene.orders.replace({"fast": StoreOrder(paused=True, max_rate=0.01)})
    report = scene.run()
    assert outcomes(report) == {"deleted": 1}
    assert report.paused_stores == ["fast"]
    assert "a" in scene.fast.objects


# Slow down --------------------------------------------------------------------------------


def test_an_operators_order_slows_a_store_down_in_mid_run() -> None:
    scene = Scene(FakeDriver("fast", batch=1), pool_size=1)
    for number in range(12):
        scene.image(f"{number}")
    began: list[float] = []

    def slow_down(_names: list[str]) -> None:
        scene.orders.replace({"fast": StoreOrder(max_rate=40)})
        began.append(time.monotonic())

    scene.fast.before_delete = slow_down
    report = scene.run()
    assert began[-1] - began[0] >= (12 - 1 - 4 - 1) / 40
    assert report.paces["fast"].limit == 40


@pytest.mark.parametrize(("option", "order", "holds"), [(40, 100, 40), (100, 40, 40)])
def test_of_option_and_order_the_lower_limit_holds(option: float, order: float, holds: int) -> None:
    scene = Scene(FakeDriver("fast", max_rate=option))
    scene.image("a")
    scene.orders.replace({"fast": StoreOrder(max_rate=order)})
    assert scene.run().paces["fast"].limit == holds


def test_an_order_that_is_lifted_is_felt_at_once() -> None:
    scene = Scene(FakeDriver("fast", batch=1))
    images = [scene.image(f"{number}") for number in range(5)]
    scene.orders.replace({"fast": StoreOrder(max_rate=0.01)})
    task = scene.start()
    until(lambda: any(scene.is_finished(image) for image in images))
    scene.orders.replace({})
    finish(task)
    assert all(scene.is_finished(image) for image in images)


# Cancel -----------------------------------------------------------------------------------


def test_a_cancelled_run_sends_nothing_more_and_records_what_is_in_flight() -> None:
    scene = Scene(FakeDriver("fast", batch=1), pool_size=2)
    images = [scene.image(f"{number}") for number in range(20)]
    go_on = pool.Flag()
    scene.fast.before_each = lambda _name: (go_on.wait(PATIENCE), None)[1]
    run = scene.new_run()
    task = pool.Task(run.execute)
    until(lambda: scene.fast.running == 2)
    run.cancel()
    until(lambda: sum(scene.is_untouched(image) for image in images) == 18)
    go_on.set()
    finish(task)
    assert sum(scene.is_finished(image) for image in images) == 2
    assert len(scene.fast.sent) == 2
    assert scene.report.cancelled
    assert scene.report.status == "cancelled"


def test_a_cancelled_run_leaves_the_process_and_its_next_run_alone() -> None:
    scene = Scene(FakeDriver("fast", batch=1), pool_size=1)
    images = [scene.image(f"{number}") for number in range(5)]
    run = scene.new_run()
    scene.fast.before_each = lambda _name: run.cancel()
    pool.within(PATIENCE, run.execute)
    assert not scene.stop
    assert sum(scene.is_finished(image) for image in images) == 1
    scene.fast.before_each = lambda _name: None
    report = run_again(scene)
    assert all(scene.is_finished(image) for image in images)
    assert not report.cancelled


def test_a_run_is_cancelled_while_a_store_keeps_it_waiting() -> None:
    scene = Scene(FakeDriver("fast", batch=1, max_rate=0.01), page_size=2)
    for number in range(10):
        scene.image(f"{number}")
    run = scene.new_run()
    task = pool.Task(run.execute)
    until(lambda: scene.fast.sent)
    began = time.monotonic()
    run.cancel()
    finish(task)
    assert time.monotonic() - began < 1
    assert scene.report.cancelled


def test_a_cancel_does_not_wait_for_the_proof_of_a_store_that_holds_a_live_copy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last look at a location removed from a live image has to look there."""
    for module in ("plans", "run"):
        monkeypatch.setattr(f"scrubber.{module}.PROOF_SECONDS", 0.01)
    scene = Scene(FakeDriver("fast"), FakeDriver("slow"))
    live, removed_at = {"status": "active", "deleted_at": None}, scene.glance.clock - 5 * AN_HOUR
    image = scene.glance.add_image(deleted=False, **live)
    scene.glance.add_location(image, scene.fast.put("live"), store="fast", **live)
    scene.glance.add_location(
        image,
        scene.stores["slow"].put("removed"),
        store="slow",
        deleted_at=removed_at,
        updated_at=removed_at,
    )
    go_on, probes = pool.Flag(), list[str]()

    def hang() -> None:
        probes.append("begun")
        go_on.wait(PATIENCE)
        probes.append("ended")

    looks: list[object] = []
    monkeypatch.setattr(scene.fast, "probe", hang)
    monkeypatch.setattr(scene.fast, "look", looks.append)
    run = scene.new_run()
    task = pool.Task(run.execute)
    until(lambda: probes)
    run.cancel()
    finish(task)
    assert probes == ["begun"]
    assert looks == []
    assert "removed" in scene.stores["slow"].objects
    assert scene.report.status == "cancelled"
    go_on.set()


def test_a_run_ends_with_no_store_in_mid_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its driver may be closed right after."""
    monkeypatch.setattr("scrubber.plans.PROOF_SECONDS", 0.01)
    monkeypatch.setattr("scrubber.run.PROOF_SECONDS", PATIENCE)
    scene = Scene()
    scene.image("a")
    go_on, probes = pool.Flag(), list[str]()

    def slowly() -> None:
        probes.append("begun")
        go_on.wait(PATIENCE)
        probes.append("ended")

    monkeypatch.setattr(scene.fast, "probe", slowly)
    run = scene.new_run()
    task = pool.Task(run.execute)
    until(lambda: probes)
    run.cancel()
    with pytest.raises(TimeoutError):
        pool.within(0.05, task.join)
    go_on.set()
    finish(task)
    assert probes == ["begun", "ended"]


# The audit trail --------------------------------------------------------------------------


def test_each_location_that_was_claimed_is_told_once_with_what_became_of_it() -> None:
    scene = Scene(FakeDriver("fast", batch=1))
    gone = scene.image("a", owner="me", size=7)
    bad = scene.image("bad")
    scene.fast.answers["bad"] = errors.InUse("has clones")
    scene.fast.before_delete = lambda _names: pool.sleep(0.02)
    scene.run()
    told = {settled.image: settled for settled in scene.audited}
    assert len(scene.audited) == len(told) == 2
    assert (told[gone].outcome.value, told[gone].reason) == ("deleted", "")
    assert (told[gone].owner, told[gone].store, told[gone].size) == ("me", "fast", 7)
    assert (told[gone].location, told[gone].attempts) == (scene.numbers(gone)[0], 0)
    assert told[gone].seconds >= 0.02
    assert (told[bad].outcome.value, told[bad].reason) == ("waiting", "has clones")
    assert told[bad].attempts == 1
    assert {settled.run for settled in scene.audited} == {scene.report.run}


def test_what_needed_no_store_call_took_no_time() -> None:
    scene = Scene(FakeDriver("fast", batch=1))
    image = scene.image("a")
    scene.location(image, "a")
    scene.fast.before_delete = lambda _names: pool.sleep(0.02)
    scene.run()
    took = {settled.outcome.value: settled.seconds for settled in scene.audited}
    assert took["shared"] == 0 < took["deleted"]


def test_what_goes_back_unsent_is_not_told() -> None:
    scene = Scene(FakeDriver("fast", batch=1), pool_size=1)
    for number in range(5):
        scene.image(f"{number}")
    scene.fast.before_each = lambda _name: scene.stop.set()
    scene.run()
    assert [settled.outcome.value for settled in scene.audited] == ["deleted"]


def test_no_row_says_more_than_the_trail() -> None:
    scene = Scene(FakeDriver("fast", batch=1))
    for number in range(20):
        scene.image(f"{number}")
    finish = scene.source.finish
    missing: list[frozenset[int]] = []

    def see_the_trail(rows: Finish) -> Finished:
        missing.append(rows.locations - {settled.location for settled in scene.audited})
        return finish(rows)

    scene.source.finish = see_the_trail  # type: ignore[method-assign]
    scene.run()
    assert len(scene.audited) == 20
    assert missing
    assert not any(missing)


def test_the_trail_does_not_wait_for_a_database_that_takes_no_rows() -> None:
    scene = Scene(FakeDriver("fast", batch=1), pool_size=2)
    for number in range(2):
        scene.image(f"{number}")
    second = pool.Flag()
    scene.fast.before_each = lambda name: (second.wait(PATIENCE) if name == "1" else None, None)[1]

    def refuse() -> None:
        second.set()  # the other delete ends while the first one's row cannot be written
        raise errors.SourceUnavailable("lost connection")

    scene.source.before["finish"] = refuse
    task = scene.start()
    until(lambda: len(scene.audited) == 2)
    scene.source.before.clear()
    task.join()
    assert len(scene.audited) == 2


def test_an_audit_trail_that_cannot_be_written_stops_no_run() -> None:
    scene = Scene()
    images = [scene.image(f"{number}") for number in range(3)]

    class Broken(list):  # type: ignore[type-arg]
        def extend(self, _settled: object) -> None:
            raise OSError("the disk is full")

    scene.audited = Broken()
    report = scene.run()
    assert all(scene.is_finished(image) for image in images)
    assert report.status == "succeeded"


# How far it is ----------------------------------------------------------------------------


def test_the_report_says_how_far_each_stage_is_while_the_run_goes_on() -> None:
    ages = Ages(scrub_time=60, removed_location_age=3600)
    scene = Scene(FakeDriver("fast", batch=1), pool_size=2, ages=ages)
    for number in range(10):
        scene.image(f"{number}")
    scene.image("young", deleted_at=scene.glance.clock, updated_at=scene.glance.clock)
    go_on = pool.Flag()
    scene.fast.before_each = lambda _name: (go_on.wait(PATIENCE), None)[1]
    task = scene.start()
    until(lambda: scene.fast.running == 2)
    document = scene.report.as_dict()
    stages = {name: stage["locations"] for name, stage in document["stages"].items()}
    assert stages == {
        "read": 11,
        "due": 10,
        "claimed": 10,
        "sent": 2,
        "deleted": 0,
        "recorded": 0,
    }
    assert document["status"] == "running"
    go_on.set()
    finish(task)
    stages = scene.report.as_dict()["stages"]
    assert {stage["images"] for name, stage in stages.items() if name != "read"} == {10}
    assert {stage["locations"] for name, stage in stages.items() if name != "read"} == {10}


def test_what_is_throttled_and_sent_once_more_is_one_image() -> None:
    scene = Scene()
    scene.image("a")
    answers = iter([errors.Throttled("slow down")])

    def refuse_once(name: str) -> None:
        if answer := next(answers, None):
            scene.fast.answers[name] = answer
        else:
            scene.fast.answers.clear()

    scene.fast.before_each = refuse_once
    sent = scene.run().stages.sent
    assert (sent.images, sent.locations) == (1, 2)


def test_errors_are_counted_by_kind_while_the_run_goes_on() -> None:
    scene = Scene(FakeDriver("fast", batch=1), pool_size=1)
    for name, answer in {
        "used": errors.InUse("has clones"),
        "bad": errors.Failed("disk error"),
        "odd": errors.Refused("not ours"),
    }.items():
        scene.image(name)
        scene.fast.answers[name] = answer
    scene.image("last", id="f" * 36)
    seen: list[dict[str, int]] = []
    scene.fast.before_each = lambda name: (
        seen.append(scene.report.as_dict()["stores"]["fast"]["errors"]) if name == "last" else None
    )
    report = scene.run()
    assert seen == [{"in_use": 1, "failed": 1, "refused": 1}]
    assert report.as_dict()["stores"]["fast"]["errors"] == seen[0]
    assert scene.healths.of(scene.fast).calls.errors == seen[0]
    assert sum(scene.healths.of(scene.fast).calls.took) == 4


def test_each_run_has_a_name_of_its_own() -> None:
    reports = [Report(utcnow, trigger="signal") for _ in range(100)]
    assert len({report.run for report in reports}) == 100
    document = reports[0].as_dict()
    assert document["trigger"] == "signal"
    assert document["host"]
    assert document["process"] > 0

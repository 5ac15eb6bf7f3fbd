"""What could not be deleted is remembered, tried again ever more seldom, and listed.

Every test has a hard limit in time: what hangs has failed.
"""

import datetime
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from contract.fake_driver import FakeDriver
from scrubber import errors, pool
from scrubber.model import Selection
from scrubber.planning.retry import Patience
from scrubber.reporting.report import Report, utcnow
from scrubber.state.base import Entry
from scrubber.state.database import StateDatabase
from scrubber.state.ledger import SqlLedger
from unit.scenes import PATIENCE, Scene, finish, outcomes, reasons, until

pytestmark = pytest.mark.timeout(3 * PATIENCE)

A_DAY = datetime.timedelta(days=1)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """A scene with a ledger; chance always draws the longest wait."""
    monkeypatch.setattr("random.random", lambda: 1.0)
    scene = Scene(FakeDriver("fast", batch=1), FakeDriver("slow"), patience=Patience(attempts=2))
    scene.ledger = SqlLedger(StateDatabase(f"sqlite:///{tmp_path}/state.sqlite", pool.Flag()))
    yield scene
    scene.ledger.close()


def run(scene: Scene) -> Report:
    scene.report = Report(utcnow)
    return scene.run()


def later(monkeypatch: pytest.MonkeyPatch, how_much: datetime.timedelta) -> None:
    monkeypatch.setattr("scrubber.run.utcnow", lambda: utcnow() + how_much)


def entries(scene: Scene) -> list[Entry]:
    return list(scene.ledger.entries())


FAILURES = [errors.Failed("disk error"), errors.InUse("has clones")]


@pytest.mark.parametrize("failure", FAILURES)
def test_what_failed_is_remembered_and_left_until_its_time(
    scene: Scene, failure: errors.StoreError
) -> None:
    bad = scene.image("bad", owner="somebody", size=17)
    good = scene.image("good")
    scene.fast.answers["bad"] = failure
    run(scene)
    [entry] = entries(scene)
    assert (entry.image, entry.store, entry.owner, entry.size) == (bad, "fast", "somebody", 17)
    assert (entry.trouble.attempts, entry.trouble.last_error) == (1, str(failure))
    report = run(scene)
    assert scene.fast.asked_to_delete.count("bad") == 1
    assert scene.is_finished(good)
    assert outcomes(report) == {"waiting": 1}
    assert str(failure) in reasons(report)
    assert report.status == "partial"


def test_who_claims_next_what_failed_knows_of_it(scene: Scene) -> None:
    """It is given back long before the run ends, and while nothing else is written down."""
    scene.image("bad")
    scene.image("slow/good")
    scene.fast.answers["bad"] = errors.Failed("disk error")
    known: list[list[Entry]] = []
    scene.source.before["release"] = lambda: known.append(entries(scene))
    scene.stores["slow"].before_delete = lambda _names: until(lambda: bool(known))
    run(scene)
    assert [len(each) for each in known] == [1]


def test_it_is_tried_again_when_its_time_has_come_and_forgotten_when_it_is_gone(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = scene.image("bad")
    scene.fast.answers["bad"] = errors.Failed("disk error")
    run(scene)
    later(monkeypatch, datetime.timedelta(seconds=31))
    del scene.fast.answers["bad"]
    report = run(scene)
    assert scene.is_finished(image)
    assert report.status == "succeeded"
    assert entries(scene) == []


def test_after_enough_failures_it_is_parked_and_still_tried(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.image("bad")
    scene.fast.answers["bad"] = errors.Failed("disk error")
    run(scene)
    later(monkeypatch, datetime.timedelta(seconds=31))
    run(scene)
    [entry] = entries(scene)
    assert entry.trouble.is_parked(Patience(attempts=2))
    report = run(scene)
    assert "parked" in reasons(report)
    assert scene.fast.asked_to_delete.count("bad") == 2
    later(monkeypatch, A_DAY)
    run(scene)
    assert scene.fast.asked_to_delete.count("bad") == 3


def test_an_operator_who_names_the_image_has_it_tried_at_once(scene: Scene) -> None:
    image = scene.image("bad")
    scene.fast.answers["bad"] = errors.Failed("disk error")
    run(scene)
    del scene.fast.answers["bad"]
    scene.selection = Selection(images=frozenset({image}))
    run(scene)
    assert scene.is_finished(image)
    assert entries(scene) == []


NO_ATTEMPTS = [
    errors.Unavailable("it is down"),
    errors.Throttled("slow down", retry_after=3600),
]


@pytest.mark.parametrize("answer", NO_ATTEMPTS)
def test_a_store_that_is_down_or_throttled_costs_no_attempt(
    scene: Scene, answer: errors.StoreError
) -> None:
    scene.image("a")
    scene.fast.answers["a"] = answer
    run(scene)
    assert entries(scene) == []


def test_what_is_refused_is_parked_at_once_and_goes_as_soon_as_it_may(scene: Scene) -> None:
    """Nothing is waited for: an operator who mends the row or the configuration sees it go."""
    image = scene.image()
    number = scene.glance.add_location(image, "fake://elsewhere/a", store="fast")
    run(scene)
    [entry] = entries(scene)
    assert entry.trouble.is_parked(Patience(attempts=2))
    assert "not an object of store" in entry.trouble.last_error
    run(scene)
    assert entries(scene) == [entry]
    scene.glance.change_location(number, url=scene.fast.put("a"))
    run(scene)
    assert scene.is_finished(image)
    assert entries(scene) == []


def test_what_somebody_else_finished_is_forgotten_what_was_purged_is_not(scene: Scene) -> None:
    finished, purged, pending = (scene.image(name) for name in ("a", "b", "c"))
    for name in ("a", "b", "c"):
        scene.fast.answers[name] = errors.Failed("disk error")
    run(scene)
    scene.glance.change_image(finished, status="deleted")
    for number in scene.numbers(finished):
        scene.glance.change_location(number, status="deleted")
    for number in scene.numbers(purged):
        del scene.glance.rows[number]
    del scene.glance.images[purged]
    run(scene)
    assert {entry.image for entry in entries(scene)} == {purged, pending}


def test_a_dry_run_reads_what_is_remembered_and_writes_nothing(scene: Scene) -> None:
    scene.image("a")
    scene.fast.answers["a"] = errors.Failed("disk error")
    scene.report = Report(utcnow, rehearsal=True)
    scene.run()
    assert entries(scene) == []


def test_a_ledger_that_is_required_and_fails_ends_the_run(scene: Scene) -> None:
    image = scene.image("a")

    def fail(*_arguments: object) -> None:
        raise errors.StateUnavailable("the state database is locked")

    scene.ledger.of = fail  # type: ignore[method-assign, assignment]
    report = run(scene)
    assert report.failure == "the state database is locked"
    assert scene.is_untouched(image)
    assert report.status == "failed"


def test_entries_of_another_cloud_or_of_purged_images_stay(scene: Scene) -> None:
    """Their locations may have the numbers of rows that are here."""
    finished = scene.image("a")
    scene.fast.answers["a"] = errors.Failed("disk error")
    run(scene)
    [mine] = entries(scene)
    [number] = scene.numbers(finished)
    foreign = replace(mine, image="f" * 36, location=number)
    scene.ledger.record([foreign])
    scene.glance.change_image(finished, status="deleted")
    scene.glance.change_location(number, status="deleted")
    report = run(scene)
    assert report.failure is None
    assert entries(scene) == [foreign]


def test_what_failed_is_listed_while_the_run_goes_on(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may go on for hours at a limit, and be killed."""
    monkeypatch.setattr("scrubber.troubles.BATCH_SECONDS", 0.0)
    scene.image("bad", id="1" * 36)
    scene.image("slow/a", id="2" * 36)
    scene.fast.answers["bad"] = errors.Failed("disk error")
    go_on = pool.Flag()
    scene.stores["slow"].before_delete = lambda _names: go_on.wait(PATIENCE)
    scene.report = Report(utcnow)
    task = scene.start()
    try:
        until(lambda: entries(scene))
    finally:
        go_on.set()
        finish(task)

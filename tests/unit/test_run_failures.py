"""What is recorded, and how a run ends when something fails: never hanging, never lying.

Every test has a hard limit in time: what hangs has failed.
"""

import datetime
import logging

import pytest

from contract.fake_driver import FakeDriver
from scrubber import errors, pool, recorder
from scrubber.model import Location
from scrubber.reporting.report import Report
from scrubber.sources.base import Finish, Finished
from unit.scenes import PATIENCE, Scene, outcomes, until

pytestmark = pytest.mark.timeout(3 * PATIENCE)


@pytest.fixture(autouse=True)
def soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "RETRY_SECONDS", 0.01)


# Recording --------------------------------------------------------------------------------


def test_a_finish_that_fails_is_tried_again_until_it_succeeds() -> None:
    scene = Scene()
    image = scene.image("a")
    tries = 0

    def fail_twice() -> None:
        nonlocal tries
        tries += 1
        if tries <= 2:
            raise errors.SourceUnavailable("lost connection")

    scene.source.before["finish"] = fail_twice
    report = scene.run()
    assert tries == 3
    assert scene.is_finished(image)
    assert outcomes(report) == {"deleted": 1}


def test_nothing_more_is_deleted_while_a_finish_fails() -> None:
    scene = Scene(FakeDriver("fast", batch=1), pool_size=1, page_size=1)
    images = [scene.image(f"{number}") for number in range(10)]
    claims, finishes = 0, 0

    def first_fails() -> None:
        nonlocal finishes
        finishes += 1
        if finishes == 1:
            raise errors.SourceUnavailable("lost connection")

    def count() -> None:
        nonlocal claims
        claims += 1

    def wait_for_the_first_finish(_names: list[str]) -> None:
        if len(scene.fast.sent) == 2:
            until(lambda: finishes)

    scene.source.before["finish"] = first_fails
    scene.source.before["claim"] = count
    scene.fast.before_delete = wait_for_the_first_finish
    report = scene.run()
    assert len(scene.fast.sent) == 2
    assert claims <= 4, "it went on claiming what it would not delete"
    assert sum(scene.is_untouched(image) for image in images) == 10 - report.total.images_scrubbed
    assert report.failure
    assert "lost connection" in report.failure
    assert report.status == "partial"


def test_a_finish_given_up_is_told_and_the_row_stays_pending() -> None:
    scene = Scene(shutdown_timeout=0.05)
    image = scene.image("a")

    def fail() -> None:
        raise errors.SourceUnavailable("lost connection")

    scene.source.before["finish"] = fail
    report = scene.run()
    assert scene.statuses(image) == ["pending_delete"]
    assert any("could not be recorded" in alarm for alarm in report.alarms)
    assert report.status in ("partial", "failed")


def test_the_end_of_a_run_waits_no_longer_for_a_finish_than_its_time_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else the process is killed for its delay, and nobody is told what was not recorded."""
    monkeypatch.setattr(recorder, "RETRY_SECONDS", 6 * PATIENCE)
    scene = Scene(shutdown_timeout=0.05)
    scene.image("a")

    def fail() -> None:
        raise errors.SourceUnavailable("lost connection")

    scene.source.before["finish"] = fail
    report = scene.run()
    assert any("could not be recorded" in alarm for alarm in report.alarms)


def test_all_finishes_together_have_the_time_that_the_end_of_a_run_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(FakeDriver("fast", batch=1), pool_size=1, shutdown_timeout=0.5)
    images = [scene.image("a"), scene.image("b")]
    tried: list[frozenset[int]] = []

    def fail(finish: Finish) -> Finished:
        tried.append(finish.locations)
        raise errors.SourceUnavailable("lost connection")

    def wait_for_the_first_finish(_name: str) -> None:
        if len(scene.fast.sent) == 2:
            until(lambda: tried)

    monkeypatch.setattr(scene.source, "finish", fail)
    scene.fast.before_each = wait_for_the_first_finish
    report = scene.run()
    first, *_, last = tried
    assert tried.count(first) > 1
    assert tried.count(last) == 1, "its time was over when the first was given up"
    assert len([alarm for alarm in report.alarms if "could not be recorded" in alarm]) == 2
    assert {status for image in images for status in scene.statuses(image)} == {"pending_delete"}


def test_what_has_passed_since_a_signal_is_no_time_for_finishes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A report is to be made before the process is killed for its delay."""
    scene = Scene(shutdown_timeout=10 * PATIENCE)
    scene.image("a")

    def fail() -> None:
        scene.stop.set()
        raise errors.SourceUnavailable("lost connection")

    monkeypatch.setattr(pool.Flag, "set_for", 9 * PATIENCE)
    scene.source.before["finish"] = fail
    report = scene.run()
    assert any("could not be recorded" in alarm for alarm in report.alarms)


def test_a_shutdown_timeout_of_nought_never_gives_up_a_finish() -> None:
    """0 waits for ever, says the option."""
    scene = Scene(shutdown_timeout=0)
    image = scene.image("a")
    tries = 0

    def fail_twice() -> None:
        nonlocal tries
        tries += 1
        if tries <= 2:
            raise errors.SourceUnavailable("lost connection")

    scene.source.before["finish"] = fail_twice
    scene.run()
    assert scene.is_finished(image)


def test_a_row_that_was_changed_under_us_raises_an_alarm() -> None:
    scene = Scene()
    image, other = scene.image("a"), scene.image("b")
    [number] = scene.numbers(image)

    def restore(_names: list[str]) -> None:
        scene.glance.change_image(image, status="active", deleted=False, deleted_at=None)
        scene.glance.change_location(number, status="active", deleted=False, deleted_at=None)

    scene.fast.before_delete = restore
    report = scene.run()
    assert scene.is_finished(other)
    assert report.status == "partial"
    assert any(f"location {number} of image {image}" in alarm for alarm in report.alarms)
    assert any(alarm.startswith(f"image {image}") for alarm in report.alarms)
    assert scene.glance.status_of(number) == "active"


def test_bytes_go_before_their_row_and_locations_before_their_image() -> None:
    scene = Scene(FakeDriver("fast", batch=1), pool_size=1)
    image = scene.image("a", "b")
    order: list[str] = []
    scene.fast.before_delete = order.extend
    scene.source.before["finish"] = lambda: order.append("finish")
    scene.run()
    assert order[-1] == "finish"
    for finished in scene.source.finishes:
        if image in finished.images:
            done = {at for step in scene.source.finishes for at in step.locations}
            assert done == set(scene.numbers(image))


def test_many_finishes_are_written_together() -> None:
    scene = Scene()
    for number in range(200):
        scene.image(f"{number}")
    scene.run()
    assert len(scene.source.finishes) < 20


# Sources and code that fail ---------------------------------------------------------------

METHODS = ["candidates", "now", "references", "claim", "still_ours", "live_since", "finish"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("error", [errors.SourceUnavailable("lost"), errors.SourceError("refused")])
def test_a_source_that_fails_ends_the_run_without_a_lie(
    method: str, error: errors.ScrubberError
) -> None:
    scene = Scene(shutdown_timeout=0.05)
    image = scene.image("a")

    def fail() -> None:
        raise error

    scene.source.before[method] = fail
    report = scene.run()
    assert report.status in ("failed", "partial")
    assert scene.statuses(image) == ["pending_delete"]
    if method != "finish":
        assert scene.fast.sent == []


DEFECTS = [*METHODS, "release"]


@pytest.mark.parametrize("method", DEFECTS)
def test_a_defect_in_the_source_ends_the_run_and_never_hangs(method: str) -> None:
    scene = Scene(shutdown_timeout=0.05)
    image = scene.image("a")
    scene.image("bad")
    scene.fast.answers["bad"] = errors.Failed("so that there is something to release")

    def fail() -> None:
        raise ZeroDivisionError("a defect")

    scene.source.before[method] = fail
    report = scene.run()
    assert report.status in ("failed", "partial")
    assert report.finished_at
    if method != "release":
        assert scene.statuses(image) == ["pending_delete"]


@pytest.mark.parametrize(
    "where",
    [
        "scrubber.planning.order.Pace.batch_size",
        "scrubber.planning.order.FairQueue.pop",
        "scrubber.planning.safety.LiveIndex.users",
        "scrubber.verdicts.Judge.answer",
        "scrubber.dispatch.Dispatcher._conclude",
        "scrubber.dispatch.Dispatcher.push",
        "scrubber.settling.Settler.settle",
        "scrubber.run.due",
        "scrubber.reporting.report.Report.record",
        "scrubber.reporting.report.Report.scrubbed",
        "scrubber.recorder.Recorder.finish_location",
        "scrubber.recorder.Recorder.tell",
    ],
)
def test_a_defect_in_our_own_code_ends_the_run_and_never_hangs(
    monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    scene = Scene(shutdown_timeout=0.05)
    images = [scene.image(f"{number}") for number in range(3)]

    def defect(*_arguments: object, **_options: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(where, defect)
    report = scene.run()
    assert report.status in ("failed", "partial")
    assert report.failure
    assert "ZeroDivisionError" in report.failure
    for number, image in enumerate(images):
        assert not scene.is_finished(image) or f"{number}" not in scene.fast.objects


def test_what_was_done_before_a_failure_is_recorded() -> None:
    scene = Scene(FakeDriver("fast", batch=1), pool_size=1, page_size=1)
    images = [scene.image(f"{number}") for number in range(3)]

    def fail_later() -> None:
        if scene.fast.sent:
            raise errors.SourceUnavailable("lost connection")

    scene.source.before["claim"] = fail_later
    report = scene.run()
    done = len(scene.fast.sent)
    assert done >= 1
    assert sum(scene.is_finished(image) for image in images) == done
    assert report.status == "partial"


def test_a_run_after_a_failed_one_finishes_its_work() -> None:
    scene = Scene()
    images = [scene.image(f"{number}") for number in range(5)]

    def fail() -> None:
        raise errors.SourceUnavailable("lost connection")

    scene.source.before["still_ours"] = fail
    scene.run()
    scene.source.before.clear()
    scene.report = Report(lambda: datetime.datetime(2026, 1, 1))
    report = scene.run()
    assert report.status == "succeeded"
    assert all(scene.is_finished(image) for image in images)


def test_no_url_and_no_credential_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    scene = Scene()
    image = scene.image()
    scene.fast.put("a")
    scene.glance.add_location(image, "fake://user:secret@fast/a")
    scene.glance.add_location(image, "fake://user:secret@nowhere/b")
    scene.glance.add_location(image, "https://user:secret@host/c", store=None)
    report = scene.run()
    said = caplog.text + str(report.as_dict())
    assert "secret" not in said
    assert "fake://" not in said


def test_a_location_is_never_shown_with_its_url() -> None:
    location = Location(1, "image", "fake://user:secret@fast/a", None, "active", None, None, None)
    assert "secret" not in repr(location)

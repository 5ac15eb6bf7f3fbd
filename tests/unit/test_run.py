"""A whole run over stores and rows in memory: what it does with each kind of row.

Every test has a hard limit in time: what hangs has failed.
"""

from collections import Counter
from collections.abc import Callable

import pytest

from contract.fake_driver import FakeDriver
from contract.fake_source import AN_HOUR, NOW
from scrubber.model import Selection
from scrubber.planning.due import Ages
from unit.scenes import PATIENCE, Scene, outcomes, reasons

pytestmark = pytest.mark.timeout(3 * PATIENCE)


def test_a_deleted_image_is_deleted_and_recorded() -> None:
    scene = Scene()
    image = scene.image("a")
    report = scene.run()
    assert scene.is_finished(image)
    assert scene.fast.asked_to_delete == ["a"]
    assert "a" not in scene.fast.objects
    assert report.status == "succeeded"
    assert outcomes(report) == {"deleted": 1}
    assert report.total.images_scrubbed == 1
    assert report.total.bytes_freed == 1
    assert report.stores["fast"].images_scrubbed == 1


def test_nothing_to_do_is_a_success() -> None:
    report = Scene().run()
    assert report.status == "succeeded"
    assert outcomes(report) == {}


def test_a_backlog_of_many_pages_is_done_to_the_last_image() -> None:
    scene = Scene(page_size=7, pool_size=3)
    images = [scene.image(f"{n}-a", f"{n}-b", owner=f"project-{n % 3}") for n in range(50)]
    report = scene.run()
    assert all(scene.is_finished(image) for image in images)
    assert outcomes(report) == {"deleted": 100}
    assert report.total.images_scrubbed == 50
    assert Counter(scene.fast.asked_to_delete).most_common(1)[0][1] == 1
    assert sum(tally.images_scrubbed for tally in report.owners.values()) == 50


def test_a_stuck_image_is_finished() -> None:
    scene = Scene()
    image = scene.image()
    report = scene.run()
    assert scene.is_finished(image)
    assert report.total.images_scrubbed == 1
    assert scene.fast.sent == []


def test_a_late_copy_is_deleted_with_its_image() -> None:
    scene = Scene()
    image = scene.image("a")
    url = scene.fast.put("late")
    scene.glance.add_location(image, url, status="deleted")
    scene.run()
    assert "late" not in scene.fast.objects
    assert scene.is_finished(image)


def test_an_image_that_is_not_due_waits_and_says_until_when() -> None:
    scene = Scene(ages=Ages(scrub_time=7200, removed_location_age=0))
    early = scene.image("early", deleted_at=NOW - AN_HOUR)
    late = scene.image("late", deleted_at=NOW - AN_HOUR / 2)
    report = scene.run()
    assert scene.is_untouched(early)
    assert scene.is_untouched(late)
    assert report.status == "succeeded"
    assert report.not_due == 2
    assert report.next_due_at == NOW + AN_HOUR


def test_a_location_on_a_web_server_is_finished_without_a_delete() -> None:
    scene = Scene()
    image = scene.image("a")
    scene.glance.add_location(image, "https://example.org/image.qcow2", store=None)
    report = scene.run()
    assert scene.is_finished(image)
    assert scene.fast.asked_to_delete == ["a"]
    assert outcomes(report) == {"deleted": 1, "external": 1}


REFUSED_ROWS = [
    # a row that nobody can act on, and what the reason names
    ({"url": "fake://fast/x", "store": "renamed"}, None),  # one store could hold it: deleted
    ({"url": "fake://elsewhere/x", "store": "renamed"}, "renamed"),
    ({"url": "fake://elsewhere/x", "store": None}, "no store"),
    ({"url": "fake://elsewhere/x", "store": "fast"}, "fast"),
    ({"url": "rbd://pool/x", "store": "ceph"}, "rbd"),
    ({"store": "fast", "problem": "cannot be decrypted"}, "cannot be decrypted"),
]


@pytest.mark.parametrize(("row", "reason"), REFUSED_ROWS)
def test_a_row_that_nobody_can_act_on_is_left_with_a_reason(
    row: dict[str, str | None], reason: str | None
) -> None:
    scene = Scene(undriven={"ceph": "rbd"})
    odd, plain = scene.image(), scene.image("a")
    scene.fast.put("x")
    number = scene.glance.add_location(odd, **row)  # type: ignore[arg-type]
    report = scene.run()
    assert scene.is_finished(plain)
    if reason is None:
        assert scene.is_finished(odd)
        return
    assert scene.glance.status_of(number) == "pending_delete"
    assert not scene.glance.is_claimed(number)
    assert report.status == "partial"
    assert outcomes(report) == {"deleted": 1, "refused": 1}
    assert reason in reasons(report)
    [left] = report.left.values()
    assert left.examples == [{"image": odd, "owner": "project", "location": number}]


def test_a_readable_copy_is_deleted_beside_an_unreadable_one_and_the_image_stays() -> None:
    scene = Scene()
    image = scene.image("a")
    unreadable = scene.glance.add_location(image, problem="cannot be decrypted")
    report = scene.run()
    assert scene.fast.asked_to_delete == ["a"]
    assert report.total.images_scrubbed == 0
    assert scene.glance.status_of(unreadable) == "pending_delete"
    assert not scene.glance.is_claimed(unreadable)
    assert scene.glance.images[image].status == "pending_delete"


def test_a_wreck_is_never_touched_and_its_bytes_count_as_used() -> None:
    scene = Scene()
    wreck = scene.image("a", status="active", deleted=False)
    pending = scene.image("a")
    report = scene.run()
    assert scene.statuses(wreck) == ["pending_delete"]
    assert scene.glance.images[wreck].status == "active"
    assert "a" in scene.fast.objects
    assert scene.fast.sent == []
    assert scene.is_finished(pending)
    assert outcomes(report) == {"refused": 1, "shared": 1}


@pytest.mark.parametrize("pending", [True, False])
def test_a_half_deleted_image_with_an_active_location_is_left_as_it_is(pending: bool) -> None:
    """Its active location would be forgotten, bytes and all."""
    scene = Scene()
    image = scene.image(deleted=False, deleted_at=None, updated_at=NOW - 2 * AN_HOUR)
    if pending:
        scene.location(image, "a")
    scene.glance.add_location(image, scene.fast.put("b"), status="active", deleted_at=None)
    report = scene.run()
    assert scene.glance.images[image].status == "pending_delete"
    assert scene.fast.sent == []
    assert report.status == "partial"
    assert report.total.images_scrubbed == 0
    assert "half-deleted" in reasons(report)


def test_a_deleted_image_with_an_active_location_is_left_as_it_is() -> None:
    scene = Scene()
    image = scene.image("a")
    scene.glance.add_location(image, scene.fast.put("b"), status="active", deleted_at=None)
    report = scene.run()
    assert scene.fast.sent == []
    assert scene.glance.images[image].status == "pending_delete"
    assert "active location" in reasons(report)


def test_a_torn_image_is_reported_and_never_touched() -> None:
    scene = Scene()
    image = scene.image("a", status="active")
    before = scene.glance.images[image]
    report = scene.run()
    assert scene.fast.sent == []
    assert scene.glance.images[image] == before
    assert scene.statuses(image) == ["pending_delete"]
    assert outcomes(report) == {"refused": 1}


def test_a_half_deleted_image_is_deleted_whole_after_its_time() -> None:
    scene = Scene()
    fresh = scene.image("a", deleted=False, deleted_at=None, updated_at=NOW - AN_HOUR / 2)
    old = scene.image("b", deleted=False, deleted_at=None, updated_at=NOW - 2 * AN_HOUR)
    scene.run()
    assert scene.is_untouched(fresh)
    assert scene.is_finished(old)
    assert scene.glance.images[old].deleted


def test_a_leftover_is_deleted_and_its_image_stays_as_it_is() -> None:
    scene = Scene()
    image = scene.image("a", status="deleted")
    before = scene.glance.images[image]
    report = scene.run()
    assert scene.statuses(image) == ["deleted"]
    assert scene.glance.images[image] == before
    assert report.total.images_scrubbed == 0


SELECTIONS: list[tuple[Callable[[str], Selection], set[str]]] = [
    # what the run is narrowed to, given an image; which objects it deletes
    (lambda image: Selection(images=frozenset({image})), {"a", "b"}),
    (lambda image: Selection(owners=frozenset({"other"})), {"c"}),
    (lambda image: Selection(stores=frozenset({"slow"})), {"b"}),
    (lambda image: Selection(images=frozenset({image}), stores=frozenset({"fast"})), {"a"}),
    (lambda image: Selection(stores=frozenset({"unknown"})), set()),
]


@pytest.mark.parametrize(("selection", "expected"), SELECTIONS)
def test_a_narrowed_run_touches_nothing_else(
    selection: Callable[[str], Selection], expected: set[str]
) -> None:
    scene = Scene(FakeDriver("fast"), FakeDriver("slow"))
    image = scene.image("a", "slow/b")
    other = scene.image("c", owner="other")
    stuck = scene.image(owner="third")
    scene.selection = selection(image)
    report = scene.run()
    deleted = {name for store in scene.stores.values() for name in store.asked_to_delete}
    assert deleted == expected
    assert scene.is_finished(image) is (expected == {"a", "b"})
    assert report.total.images_scrubbed == scene.is_finished(image) + scene.is_finished(other)
    assert scene.is_finished(other) is ("c" in expected)
    assert scene.is_untouched(stuck)
    assert not any(
        scene.glance.is_claimed(at) for at in scene.numbers(image) + scene.numbers(other)
    )

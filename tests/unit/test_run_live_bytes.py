"""A run never deletes bytes that are in use, and every object once.

Every test has a hard limit in time: what hangs has failed.
"""

from dataclasses import replace
from datetime import timedelta

import pytest

from contract.fake_driver import FakeDriver
from contract.fake_source import AN_HOUR, NOW
from scrubber import errors
from scrubber.last_look import LastLook
from scrubber.model import Outcome, Selection
from scrubber.planning.due import Ages
from scrubber.reporting.report import Report, utcnow
from scrubber.store_state import StoreState
from scrubber.work import Job, Piece, Verdict
from unit.scenes import PATIENCE, Scene, outcomes, reasons

pytestmark = pytest.mark.timeout(3 * PATIENCE)


# Bytes in use -----------------------------------------------------------------------------


def test_bytes_that_a_live_image_uses_are_never_deleted() -> None:
    scene = Scene()
    scene.live_image("a")
    pending, other = scene.image("a"), scene.image("b")
    report = scene.run()
    assert "a" in scene.fast.objects
    assert scene.fast.asked_to_delete == ["b"]
    assert scene.is_finished(pending)
    assert scene.is_finished(other)
    assert outcomes(report) == {"deleted": 1, "shared": 1}
    assert report.total.bytes_freed == 1


def test_bytes_in_use_are_known_by_every_spelling_of_their_url() -> None:
    scene = Scene()
    live = scene.live_image("a")
    scene.glance.change_location(live, url="fake://user:secret@fast/./a")
    scene.image("a")
    scene.run()
    assert "a" in scene.fast.objects


def test_bytes_in_use_under_another_store_of_the_same_root_are_not_deleted() -> None:
    fast = FakeDriver("fast")
    scene = Scene(fast, FakeDriver("twin", twin_of=fast))
    scene.live_image("a", store="twin")
    scene.image("a", store="fast")
    scene.run()
    assert "a" in fast.objects


def test_bytes_that_come_into_use_after_the_claim_are_not_deleted() -> None:
    scene = Scene()
    image = scene.image("a")
    scene.source.before["still_ours"] = lambda: scene.live_image("a")
    scene.run()
    assert scene.fast.sent == []
    assert "a" in scene.fast.objects
    assert scene.is_finished(image)


def test_bytes_of_an_image_restored_in_mid_run_are_not_deleted() -> None:
    """Its row is an old one, so it is not among those that have come since."""
    scene = Scene()
    restored, pending = scene.image("a", id="0" * 36), scene.image("a", id="1" * 36)
    scene.selection = Selection(images=frozenset({pending}))

    def restore() -> None:
        scene.glance.change_image(restored, status="active", deleted=False, deleted_at=None)
        [number] = scene.numbers(restored)
        scene.glance.change_location(number, status="active", deleted=False, deleted_at=None)

    scene.source.before["still_ours"] = restore
    scene.run()
    assert scene.fast.sent == []
    assert "a" in scene.fast.objects


def test_bytes_of_a_deleted_image_that_can_still_be_restored_are_not_deleted() -> None:
    """Another row of the same object is due; the younger one will see to the bytes."""
    scene = Scene(ages=Ages(scrub_time=600, removed_location_age=3600))
    moment = NOW - timedelta(seconds=60)
    young = scene.image("a", deleted_at=moment, updated_at=moment)
    [number] = scene.numbers(young)
    scene.glance.change_location(number, deleted_at=moment, updated_at=moment)
    old = scene.image("a")
    report = scene.run()
    assert "a" in scene.fast.objects
    assert scene.is_finished(old)
    assert scene.is_untouched(young)
    assert outcomes(report) == {"shared": 1}
    scene.glance.clock += timedelta(seconds=600)
    scene.report = Report(utcnow)
    scene.run()
    assert "a" not in scene.fast.objects
    assert scene.is_finished(young)


def test_bytes_of_a_removed_location_that_can_still_come_back_are_not_deleted() -> None:
    scene = Scene(ages=Ages(scrub_time=0, removed_location_age=3 * 3600))
    live = scene.glance.rows[scene.live_image("b")].location.image_id
    scene.location(live, "a")
    old = scene.image("a")
    scene.run()
    assert "a" in scene.fast.objects
    assert scene.is_finished(old)


def test_bytes_no_longer_in_use_are_deleted() -> None:
    """The index of live locations was read before; the rows are asked once more."""
    scene = Scene()
    live = scene.live_image("a")
    image = scene.image("a")

    def delete_the_live_one() -> None:
        scene.glance.change_location(live, status="deleted", deleted=True)

    scene.source.before["still_ours"] = delete_the_live_one
    scene.run()
    assert "a" not in scene.fast.objects
    assert scene.is_finished(image)


def test_colliding_hashes_keep_nothing_and_delete_nothing_in_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("scrubber.planning.safety._hash", lambda _identity: 42)
    scene = Scene()
    scene.live_image("used")
    used, unused = scene.image("used"), scene.image("unused")
    scene.run()
    assert "used" in scene.fast.objects
    assert scene.is_finished(used)
    assert scene.is_finished(unused) or scene.is_untouched(unused)


def test_an_unreadable_live_location_stops_the_run() -> None:
    scene = Scene()
    live = scene.glance.add_image(status="active", deleted=False, deleted_at=None)
    scene.glance.add_location(live, status="active", deleted_at=None, problem="cannot be decrypted")
    image = scene.image("a")
    report = scene.run()
    assert scene.fast.sent == []
    assert scene.is_untouched(image)
    assert report.status == "failed"
    assert report.failure
    assert live in report.failure
    assert "metadata_encryption_key" in report.failure


def test_an_unreadable_live_location_can_be_ignored() -> None:
    scene = Scene(ignore_unreadable_live=True)
    live = scene.glance.add_image(status="active", deleted=False, deleted_at=None)
    scene.glance.add_location(live, status="active", deleted_at=None, problem="cannot be decrypted")
    image = scene.image("a")
    scene.run()
    assert scene.is_finished(image)


def test_an_unreadable_live_location_that_comes_later_stops_the_deletes() -> None:
    scene = Scene()
    image = scene.image("a")

    def appear() -> None:
        live = scene.glance.add_image(status="active", deleted=False, deleted_at=None)
        scene.glance.add_location(live, status="active", deleted_at=None, problem="unreadable")

    scene.source.before["still_ours"] = appear
    report = scene.run()
    assert scene.fast.sent == []
    assert scene.is_untouched(image)
    assert report.status == "failed"
    assert "metadata_encryption_key" in (report.failure or "")


WRITERS = [
    # the state of the other image whose id the object is named after; is it deleted?
    ({"status": "saving", "deleted": False}, False),
    ({"status": "queued", "deleted": False}, False),
    ({"status": "active", "deleted": False}, True),
    ({"status": "deleted", "deleted": True}, True),
]


@pytest.mark.parametrize(("state", "deleted"), WRITERS)
def test_an_object_that_glance_may_be_writing_for_another_image_waits(
    state: dict[str, object], deleted: bool
) -> None:
    scene = Scene()
    other = scene.glance.add_image(**state)  # type: ignore[arg-type]
    image = scene.image(other)
    scene.run()
    assert (other not in scene.fast.objects) is deleted
    assert scene.is_finished(image) is deleted
    assert scene.is_untouched(image) is not deleted


# Several rows of one object ---------------------------------------------------------------


def test_two_images_of_one_object_need_one_delete() -> None:
    scene = Scene(FakeDriver("fast", batch=1))
    images = [scene.image("a") for _ in range(4)]
    report = scene.run()
    assert scene.fast.asked_to_delete == ["a"]
    assert all(scene.is_finished(image) for image in images)
    assert outcomes(report) == {"deleted": 1, "shared": 3}
    assert report.total.bytes_freed == 1


def test_what_follows_an_object_that_others_needed_is_looked_at_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may be the row of an image that was live at the look, and has been deleted since."""
    scene = Scene(FakeDriver("fast", batch=1))
    images = [scene.image("a") for _ in range(2)]
    look, looks = LastLook.hindrances, list[int]()

    def needed_at_first(
        self: LastLook, store: StoreState, batch: list[tuple[Job, Piece]]
    ) -> list[Verdict | None]:
        looks.append(len(batch))
        return [Verdict(Outcome.SHARED)] if len(looks) == 1 else look(self, store, batch)

    monkeypatch.setattr(LastLook, "hindrances", needed_at_first)
    report = scene.run()
    assert scene.fast.asked_to_delete == ["a"]
    assert outcomes(report) == {"deleted": 1, "shared": 1}
    assert all(scene.is_finished(image) for image in images)


def test_two_rows_of_one_image_and_one_object_need_one_delete() -> None:
    scene = Scene(proven=False)
    scene.fast.put("something")
    image = scene.image("a", "a", "b")
    report = scene.run()
    assert scene.fast.asked_to_delete == ["a", "b"]
    assert scene.is_finished(image)
    assert outcomes(report) == {"deleted": 2, "shared": 1}


def test_two_stores_of_one_object_need_one_delete() -> None:
    fast = FakeDriver("fast")
    twin = FakeDriver("twin", twin_of=fast)
    scene = Scene(fast, twin)
    images = [scene.image("a"), scene.image("twin/a")]
    scene.run()
    assert len(fast.asked_to_delete + twin.asked_to_delete) == 1
    assert all(scene.is_finished(image) for image in images)


def test_the_second_row_of_an_object_that_failed_is_not_finished() -> None:
    scene = Scene()
    images = [scene.image("a"), scene.image("a")]
    scene.fast.answers["a"] = errors.Failed("disk error")
    report = scene.run()
    assert all(scene.is_untouched(image) for image in images)
    assert outcomes(report) == {"failed": 2}


def test_the_second_row_of_an_object_has_its_turn_when_the_first_is_lost() -> None:
    scene = Scene()
    first, second = scene.image("a", id="0" * 36), scene.image("a", id="1" * 36)
    restored: list[str] = []

    def restore_elsewhere() -> None:
        if not restored:
            restored.append(first)
            scene.glance.change_location(scene.numbers(first)[0], updated_at=NOW + 5 * AN_HOUR)

    scene.source.before["still_ours"] = restore_elsewhere
    scene.run()
    assert scene.is_finished(second)
    assert scene.fast.asked_to_delete == ["a"]
    assert scene.statuses(first) == ["pending_delete"]


def test_both_rows_of_a_missing_object_are_held_and_finished_together() -> None:
    scene = Scene(proven=False)
    scene.fast.put("something")
    images = [scene.image("a", there=False), scene.image("a", there=False)]
    report = scene.run()
    assert all(scene.is_finished(image) for image in images)
    assert outcomes(report) == {"gone": 2}


# Locations removed from live images -------------------------------------------------------


def removed(
    scene: Scene, sibling: str = "sibling", name: str = "removed", store: str = "fast"
) -> tuple[str, int]:
    """A live image with an active and a removed location."""
    image = scene.glance.add_image(status="active", deleted=False, deleted_at=None)
    other, _, kept = sibling.rpartition("/")
    driver = scene.stores[other or store]
    scene.glance.add_location(
        image, driver.put(kept), store=driver.store, status="active", deleted_at=None
    )
    number = scene.location(image, name, store=store)
    scene.glance.change_location(number, deleted_at=NOW - 2 * AN_HOUR, updated_at=NOW - 2 * AN_HOUR)
    return image, number


def test_a_removed_location_is_deleted_and_its_image_lives_on() -> None:
    scene = Scene()
    image, number = removed(scene)
    before = scene.glance.images[image]
    report = scene.run()
    assert scene.fast.asked_to_delete == ["removed"]
    assert "sibling" in scene.fast.objects
    assert scene.glance.status_of(number) == "deleted"
    assert scene.glance.images[image] == before
    assert outcomes(report) == {"deleted": 1}
    assert report.total.images_scrubbed == 0


def test_a_removed_location_whose_object_was_written_again_stays() -> None:
    scene = Scene()
    _image, number = removed(scene)
    scene.fast.put("removed", modified_at=NOW - AN_HOUR)
    report = scene.run()
    assert scene.fast.sent == []
    assert scene.glance.status_of(number) == "pending_delete"
    assert not scene.glance.is_claimed(number)
    assert "uploaded again" in reasons(report)


def test_a_removed_location_that_is_the_object_of_a_sibling_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two names, one object: hard links, or the same bucket under two stores."""
    scene = Scene()
    removed(scene)
    look = scene.fast.look
    monkeypatch.setattr(
        scene.fast,
        "look",
        lambda targets: [replace(at, fingerprint="one") for at in look(targets)],
    )
    report = scene.run()
    assert scene.fast.sent == []
    assert "another, live location" in reasons(report)


def test_a_removed_location_stays_while_a_siblings_store_cannot_be_looked_at() -> None:
    scene = Scene(FakeDriver("fast"), FakeDriver("slow"))
    removed(scene, sibling="slow/sibling")
    scene.stores["slow"].mounted = None
    report = scene.run()
    assert scene.fast.sent == []
    assert "slow" in reasons(report)


@pytest.mark.parametrize("when", ["before the run", "after the claim"])
def test_a_removed_location_stays_while_glance_imports_into_the_image(when: str) -> None:
    scene = Scene()
    image, number = removed(scene)
    if when == "before the run":
        scene.glance.importing.add(image)
    else:
        scene.source.before["claim"] = lambda: scene.glance.importing.add(image)
    report = scene.run()
    assert scene.fast.sent == []
    assert scene.glance.status_of(number) == "pending_delete"
    assert not scene.glance.is_claimed(number)
    assert "import" in reasons(report)


@pytest.mark.parametrize("trouble", [errors.Throttled("slow down"), errors.Failed("500")])
def test_a_removed_location_that_was_written_again_stays_though_a_look_at_it_fails(
    monkeypatch: pytest.MonkeyPatch, trouble: errors.StoreError
) -> None:
    """What cannot be looked at in one moment may be deleted in the next."""
    scene = Scene()
    _image, number = removed(scene)
    scene.fast.put("removed", modified_at=NOW - AN_HOUR)
    look = scene.fast.look
    monkeypatch.setattr(
        scene.fast,
        "look",
        lambda targets: [
            trouble if target.url.endswith("/removed") else one
            for target, one in zip(targets, look(targets), strict=True)
        ],
    )
    report = scene.run()
    assert scene.fast.sent == []
    assert scene.glance.status_of(number) == "pending_delete"
    assert str(trouble) in reasons(report)


# Names of servers ---------------------------------------------------------------------------


class OtherName(FakeDriver):
    """Takes the URLs of store ``fast``, and calls what they name by a name of its own."""

    def __init__(self, store: str, *, twin_of: FakeDriver | None = None) -> None:
        super().__init__(store, twin_of=twin_of)
        self.place = "fast"

    def identify(self, url: str) -> str:
        return f"{self.store}@{super().identify(url)}"


def live_in(scene: Scene, driver: FakeDriver, name: str) -> None:
    image = scene.glance.add_image(status="active", deleted=False, deleted_at=None)
    url = driver.put(name)
    scene.glance.add_location(image, url, store=driver.store, status="active", deleted_at=None)


def test_bytes_in_use_under_another_name_of_their_server_are_not_deleted() -> None:
    """Nobody can tell from two names that they are one server: the object itself tells."""
    fast = FakeDriver("fast")
    twin = OtherName("twin", twin_of=fast)
    scene = Scene(fast, twin)
    live_in(scene, twin, "a")
    image = scene.image("a")
    report = scene.run()
    assert "a" in fast.objects
    assert scene.is_untouched(image)
    assert "another store" in reasons(report)


def test_what_came_into_use_under_another_name_since_the_claim_is_not_deleted() -> None:
    fast = FakeDriver("fast")
    twin = OtherName("twin", twin_of=fast)
    scene = Scene(fast, twin)
    scene.image("a")
    scene.source.before["still_ours"] = lambda: live_in(scene, twin, "a")
    scene.run()
    assert "a" in fast.objects


def test_another_servers_object_of_the_same_name_holds_up_nothing() -> None:
    fast, other = FakeDriver("fast"), OtherName("other")
    scene = Scene(fast, other)
    live_in(scene, other, "a")
    image = scene.image("a")
    scene.run()
    assert scene.is_finished(image)
    assert "a" not in fast.objects
    assert "a" in other.objects


def test_bytes_that_a_store_which_cannot_be_asked_may_use_are_not_deleted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It did not say what its names lead to, so its live rows are known by other names."""
    fast = FakeDriver("fast")
    twin = OtherName("twin", twin_of=fast)

    def fail() -> None:
        raise errors.Unavailable("no login")

    monkeypatch.setattr(twin, "resolve", fail)
    monkeypatch.setattr(twin, "probe", fail)
    scene = Scene(fast, twin)
    live_in(scene, twin, "a")
    image, other = scene.image("a"), scene.image("b")
    scene.run()
    assert "a" in fast.objects
    assert scene.is_untouched(image)
    assert scene.is_finished(other)

"""What a run may do with what it claimed, and what it gives back.

Every test has a hard limit in time: what hangs has failed.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from contract.fake_driver import FakeDriver
from contract.fake_source import AN_HOUR, NOW, FakeGlance, FakeSource
from scrubber import errors, pool
from scrubber.planning.ahead import FIRST_PER_SLOT
from scrubber.sources.base import Claim
from unit.scenes import PATIENCE, Scene, finish, outcomes, reasons, until

pytestmark = pytest.mark.timeout(3 * PATIENCE)


# Claims -----------------------------------------------------------------------------------


def test_what_another_scrubber_claimed_is_left_to_it() -> None:
    scene = Scene()
    theirs, ours = scene.image("a"), scene.image("b")
    for number in scene.numbers(theirs):
        scene.glance.change_location(number, updated_at=NOW)
    report = scene.run()
    assert scene.fast.asked_to_delete == ["b"]
    assert scene.statuses(theirs) == ["pending_delete"]
    assert scene.is_finished(ours)
    assert report.claimed_elsewhere == 1
    assert report.status == "succeeded"


def test_two_scrubbers_at_once_delete_everything_once() -> None:
    scene, rival = Scene(page_size=3), Scene(proven=False, page_size=3)
    rival.glance = scene.glance
    rival.source = FakeSource(scene.glance)
    rival.fast.objects = scene.fast.objects
    rival.fast.mounted = scene.fast.mounted
    images = [scene.image(f"{number}") for number in range(40)]
    tasks = [scene.start(), rival.start()]
    for task in tasks:
        finish(task)
    sent = scene.fast.asked_to_delete + rival.fast.asked_to_delete
    assert sorted(sent) == sorted(f"{number}" for number in range(40))
    assert all(scene.is_finished(image) for image in images)


LOSSES: list[tuple[str, Callable[[FakeGlance, str, int], object]]] = [
    # what happens between our claim and the moment of sending
    (
        "taken over by another scrubber",
        lambda glance, _image, number: glance.change_location(number, updated_at=NOW + AN_HOUR),
    ),
    (
        "restored",
        lambda glance, image, number: (
            glance.change_image(image, status="active", deleted=False, deleted_at=None),
            glance.change_location(number, status="active", deleted=False, updated_at=NOW),
        ),
    ),
    (
        "restored by upstream, its rows as they were",
        lambda glance, image, _number: glance.change_image(image, status="active", deleted=False),
    ),
    (
        "finished by upstream's scrubber",
        lambda glance, _image, number: glance.change_location(number, status="deleted"),
    ),
    ("purged", lambda glance, _image, number: glance.rows.pop(number)),
]


@pytest.mark.parametrize("change", [loss[1] for loss in LOSSES], ids=[loss[0] for loss in LOSSES])
def test_nothing_is_deleted_once_the_claim_is_lost(
    change: Callable[[FakeGlance, str, int], object],
) -> None:
    scene = Scene()
    image, other = scene.image("a"), scene.image("b")
    [number] = scene.numbers(image)
    changed: list[int] = []

    def lose() -> None:
        if not changed:
            changed.append(number)
            change(scene.glance, image, number)

    scene.source.before["still_ours"] = lose
    report = scene.run()
    assert changed
    assert "a" in scene.fast.objects
    assert scene.fast.asked_to_delete == ["b"]
    assert scene.is_finished(other)
    assert outcomes(report) == {"deleted": 1, "lost": 1}
    assert not report.alarms


def test_nothing_is_sent_on_a_claim_that_is_too_old() -> None:
    """A process that was paused, or a source that took its time."""
    scene = Scene(claim_lease=300, call_timeout=60)
    images = [scene.image("a"), scene.image("b")]
    claims: list[Claim] = []
    claim = scene.source.claim

    def remember(*arguments: object) -> object:
        claimed = claim(*arguments)  # type: ignore[arg-type]
        claimed.claim.taken_at -= 241
        claims.append(claimed.claim)
        return claimed

    scene.source.claim = remember  # type: ignore[method-assign, assignment]
    report = scene.run()
    assert claims
    assert scene.fast.sent == []
    assert all(scene.is_untouched(image) for image in images)
    assert "claim" in reasons(report)
    assert report.status == "partial"


def test_claims_are_renewed_while_a_store_is_slow() -> None:
    scene = Scene(claim_lease=0.3, call_timeout=0.1)
    image = scene.image("a")
    renewed = pool.Flag()
    scene.source.before["renew"] = renewed.set
    scene.fast.before_delete = lambda _names: renewed.wait(PATIENCE)
    scene.run()
    assert renewed
    assert scene.is_finished(image)


def test_a_slow_store_leaves_unclaimed_what_it_cannot_do_soon() -> None:
    """Else another scrubber would be idle, and this one at work for minutes."""
    scene = Scene(FakeDriver("fast", batch=1), pool_size=2)
    images = {str(number): scene.image(str(number)) for number in range(80)}
    held: list[int] = []

    def slowly(_names: list[str]) -> None:
        there = [images[name] for name in images if name in scene.fast.objects]
        numbers = [number for image in there for number in scene.numbers(image)]
        held.append(sum(map(scene.glance.is_claimed, numbers)))
        pool.sleep(0.01)

    scene.fast.before_delete = slowly
    scene.run()
    assert all(map(scene.is_finished, images.values()))
    # Nobody knows yet how slow it is: for each slot a batch, and the same again while it waits;
    # and what is under way or about to be.
    assert max(held[:10]) <= 2 * FIRST_PER_SLOT * 2 + 2 * 2


def test_behind_another_scrubber_the_rest_of_a_page_is_asked_for_at_once() -> None:
    """Portion by portion it would be slower than that one, and behind it up to the end."""
    scene = Scene(pool_size=1)
    for number in range(20 * FIRST_PER_SLOT):
        (location,) = scene.numbers(scene.image(f"{number}"))
        scene.glance.change_location(location, updated_at=NOW)
    claims = 0

    def count_claims() -> None:
        nonlocal claims
        claims += 1

    scene.source.before["claim"] = count_claims
    assert scene.run().claimed_elsewhere == 20 * FIRST_PER_SLOT
    assert claims == 2


def test_a_renewal_that_fails_is_tried_again() -> None:
    scene = Scene(claim_lease=0.3, call_timeout=0.1)
    image = scene.image("a")
    tries = 0
    renewed = pool.Flag()

    def renew() -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise errors.SourceUnavailable("lost connection")
        renewed.set()

    scene.source.before["renew"] = renew
    scene.fast.before_delete = lambda _names: renewed.wait(PATIENCE)
    scene.run()
    assert renewed
    assert scene.is_finished(image)


def test_no_claim_is_left_at_the_end_of_a_run() -> None:
    scene = Scene(undriven={"ceph": "rbd"})
    images = [scene.image("a", "b", "c"), scene.image("d"), scene.image("e")]
    scene.fast.answers["b"] = errors.Failed("disk error")
    scene.fast.answers["d"] = errors.InUse("has clones")
    scene.glance.add_location(images[2], "rbd://pool/x", store="ceph")
    scene.run()
    pending = [
        number
        for image in images
        for number in scene.numbers(image)
        if scene.glance.status_of(number) == "pending_delete"
    ]
    assert len(pending) == 3
    assert not any(scene.glance.is_claimed(number) for number in pending)


# Stopping ---------------------------------------------------------------------------------


def test_a_stop_ends_what_is_in_flight_and_gives_back_the_rest() -> None:
    scene = Scene(FakeDriver("fast", batch=1), pool_size=2)
    images = [scene.image(f"{number}") for number in range(10)]
    go_on = pool.Flag()
    scene.fast.before_delete = lambda _names: go_on.wait(PATIENCE)
    task = scene.start()
    until(lambda: scene.fast.running == 2)
    scene.stop.set()
    go_on.set()
    finish(task)
    assert len(scene.fast.sent) == 2
    finished = [image for image in images if scene.is_finished(image)]
    assert all(scene.is_untouched(image) for image in images if image not in finished)
    assert {name for name in map(str, range(10)) if name not in scene.fast.objects} == {
        str(images.index(image)) for image in finished
    }
    assert scene.report.status == "cancelled"


def test_a_stop_ends_a_batch_between_two_objects() -> None:
    scene = Scene(FakeDriver("fast", batch=8), pool_size=1)
    images = [scene.image(f"{number}") for number in range(8)]
    scene.fast.before_delete = lambda _names: scene.stop.set()
    scene.run()
    assert len(scene.fast.objects) == 1 + 8
    assert all(scene.is_untouched(image) for image in images)


@pytest.mark.parametrize("moment", ["references", "claim", "still_ours", "live_since"])
def test_nothing_is_sent_after_a_stop(moment: str) -> None:
    scene = Scene()
    images = [scene.image(f"{number}") for number in range(5)]
    scene.source.before[moment] = scene.stop.set
    report = scene.run()
    assert scene.fast.sent == []
    assert all(scene.is_untouched(image) for image in images)
    assert report.status == "cancelled"


@pytest.mark.parametrize("moment", ["claim", "still_ours", "live_since"])
def test_a_stop_gives_back_images_with_copies_in_several_stores(moment: str) -> None:
    """What follows in an image queues up in a store that may not have had a queue yet."""
    scene = Scene(FakeDriver("fast", batch=1), FakeDriver("slow"), FakeDriver("third"), pool_size=1)
    images = [scene.image(f"{number}", f"slow/{number}") for number in range(5)]
    images += [scene.image(f"third/{number}", f"x-{number}") for number in range(5)]
    scene.source.before[moment] = scene.stop.set
    report = scene.run()
    assert report.failure is None
    assert report.status == "cancelled"
    assert all(scene.is_untouched(image) for image in images)


def test_a_stop_gives_back_rows_that_follow_another() -> None:
    scene = Scene(FakeDriver("fast", batch=1), FakeDriver("slow"), pool_size=1)
    images = [scene.image("same", f"slow/{number}") for number in range(5)]
    scene.source.before["still_ours"] = scene.stop.set
    report = scene.run()
    assert report.failure is None
    assert all(scene.is_untouched(image) for image in images)


def test_a_stop_before_the_first_page_does_nothing() -> None:
    scene = Scene()
    image = scene.image("a")
    scene.stop.set()
    report = scene.run()
    assert scene.is_untouched(image)
    assert report.status == "cancelled"


def test_a_stop_takes_no_more_pages() -> None:
    scene = Scene(FakeDriver("fast", batch=1), page_size=2, pool_size=1)
    images = [scene.image(f"{number}") for number in range(20)]
    scene.fast.before_delete = lambda _names: scene.stop.set()
    claims = 0

    def count() -> None:
        nonlocal claims
        claims += 1

    scene.source.before["claim"] = count
    scene.run()
    assert claims <= 2
    assert sum(scene.is_untouched(image) for image in images) >= 19


def test_an_image_of_another_scrubber_counts_once_however_often_it_is_read() -> None:
    """A store at its limit is scanned again and again."""
    scene = Scene(
        FakeDriver("fast", batch=1, max_rate=100), page_size=4, claim_lease=2, call_timeout=1
    )
    theirs = [scene.image(f"theirs{number}", f"other{number}") for number in range(3)]
    for image in theirs:
        for number in scene.numbers(image):
            scene.glance.change_location(number, updated_at=NOW)
    for number in range(30):
        scene.image(f"{number}")
    scans = 0

    def count_scans() -> None:
        nonlocal scans
        scans += 1

    scene.source.before["candidates"] = count_scans
    assert scene.run().claimed_elsewhere == 3
    assert scans > 1


def test_an_image_that_another_scrubber_gave_back_in_mid_run_is_ours() -> None:
    scene = Scene(
        FakeDriver("fast", batch=1, max_rate=50), page_size=4, claim_lease=2, call_timeout=1
    )
    theirs = scene.image("theirs", id="0" * 36)
    (number,) = scene.numbers(theirs)
    scene.glance.change_location(number, updated_at=NOW)
    for other in range(20):
        scene.image(f"{other}", id=f"1{other:035}")

    scans: list[int] = []

    def give_back() -> None:
        scans.append(1)
        if len(scans) == 2:
            scene.glance.change_location(number, updated_at=NOW - AN_HOUR)

    scene.source.before["candidates"] = give_back
    report = scene.run()
    assert scene.is_finished(theirs)
    assert report.claimed_elsewhere == 0


def test_what_was_finished_since_its_page_was_read_is_not_another_scrubbers() -> None:
    scene = Scene(FakeDriver("fast", batch=1, max_rate=200), page_size=4)
    scene.settings = replace(scene.settings, claim_lease=2, call_timeout=1)
    for number in range(60):
        scene.image(f"{number}")
    scans: list[int] = []

    def held() -> list[int]:
        pending = [n for n in scene.glance.rows if scene.glance.status_of(n) == "pending_delete"]
        return [number for number in pending if scene.glance.is_claimed(number)]

    def finish_meanwhile() -> None:
        if len(scans) == 2:  # its first page shows what the first scan has claimed
            until(lambda: not held())
            scans.append(2)

    scene.source.before["candidates"] = lambda: scans.append(1)
    scene.source.before["now"] = finish_meanwhile
    report = scene.run()
    assert outcomes(report) == {"deleted": 60}
    assert report.claimed_elsewhere == 0

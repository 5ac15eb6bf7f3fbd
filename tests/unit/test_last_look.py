"""The last look before a batch is sent: shared by batches, and never older than any of them."""

import time
from collections.abc import Sequence
from itertools import pairwise

import pytest

from contract.fake_driver import FakeDriver
from scrubber import dispatch, errors, pool, store_state
from scrubber.model import Candidate, Location
from scrubber.sources.base import Claim
from unit.scenes import PATIENCE, Scene, finish, outcomes, until


def slots_of_one(pool_size: int) -> Scene:
    """Each batch is one location."""
    return Scene(FakeDriver("fast", batch=1), pool_size=pool_size)


def test_batches_that_come_up_together_are_looked_at_together() -> None:
    scene = slots_of_one(pool_size=20)
    images = [scene.image(str(number)) for number in range(100)]
    looks = []
    scene.source.before["still_ours"] = lambda: (looks.append(1), pool.sleep(0.001))
    scene.run()
    assert all(map(scene.is_finished, images))
    assert len(scene.fast.sent) == 100
    assert len(looks) < 50


def test_a_batch_is_not_sent_on_a_look_that_had_begun_before_it_came_up() -> None:
    """It may have been restored in between."""
    scene = slots_of_one(pool_size=2)
    images = {name: scene.image(name) for name in ("a", "b")}
    seen: list[set[int]] = []
    still_ours, go_on = scene.source.still_ours, pool.Flag()

    def look(claimed: Sequence[tuple[Claim, Candidate, Location]]) -> frozenset[int]:
        seen.append({location.id for _, _, location in claimed})
        return still_ours(claimed)

    scene.source.still_ours = look  # type: ignore[method-assign]
    # By then the rows of the first look are read, and the look is not over.
    scene.source.before["live_since"] = lambda: go_on.wait(PATIENCE)
    task = scene.start()
    until(lambda: seen)
    pool.sleep()  # both came up at once, and the second one waits by now
    [late] = (image for image in images.values() if seen[0].isdisjoint(scene.numbers(image)))
    [number] = scene.numbers(late)
    scene.glance.change_image(late, status="active", deleted=False, deleted_at=None)
    scene.glance.change_location(number, status="active", deleted=False)
    go_on.set()
    finish(task)
    (lost,) = (name for name, image in images.items() if image == late)
    assert lost in scene.fast.objects
    assert outcomes(scene.report) == {"deleted": 1, "lost": 1}


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [
        (errors.SourceUnavailable("it is down"), "waiting"),
        (errors.SourceError("no such table"), None),
        (ZeroDivisionError(), None),
    ],
)
def test_all_that_share_a_look_learn_that_it_failed(
    failure: Exception, outcome: str | None
) -> None:
    scene = slots_of_one(pool_size=4)
    images = [scene.image(str(number)) for number in range(4)]

    def fail() -> None:
        raise failure

    scene.source.before["still_ours"] = fail
    report = scene.run()
    assert not scene.fast.sent
    if outcome is None:
        assert report.status == "failed"
    else:
        assert outcomes(report) == {outcome: 4}
        assert all(map(scene.is_untouched, images))


class Busy:
    """A store with one slot for its calls, whose second call waits until it is let go.

    The first has answered: so what follows is looked at before there is a slot.
    """

    def __init__(self) -> None:
        self.scene = slots_of_one(pool_size=1)
        self.images = [self.scene.image(name) for name in ("a", "b", "c", "d")]
        self.looked_at: list[int] = []
        self.go_on = pool.Flag()
        self.scene.fast.before_delete = self._wait
        still_ours = self.scene.source.still_ours

        def look(claimed: Sequence[tuple[Claim, Candidate, Location]]) -> frozenset[int]:
            self.looked_at += [location.id for _, _, location in claimed]
            return still_ours(claimed)

        self.scene.source.still_ours = look  # type: ignore[method-assign]

    def _wait(self, _names: list[str]) -> None:
        if len(self.scene.fast.sent) == 2:
            self.go_on.wait(PATIENCE)

    def start(self) -> pool.Task:
        """Until the next one is looked at, while the second call is under way."""
        task = self.scene.start()
        until(lambda: len(self.scene.fast.sent) == 2 and len(self.looked_at) == 3)
        pool.sleep(0.01)
        assert len(self.looked_at) == 3, "looked at too far ahead"
        return task

    @property
    def next(self) -> str:
        """The image that waits for the slot."""
        location = self.looked_at[2]
        return next(at for at in self.images if self.scene.numbers(at) == [location])

    def restore_next(self) -> None:
        self.scene.glance.change_image(self.next, status="active", deleted=False, deleted_at=None)
        self.scene.glance.change_location(self.looked_at[2], status="active", deleted=False)


def test_rows_are_looked_at_while_all_slots_are_busy() -> None:
    busy = Busy()
    task = busy.start()
    busy.go_on.set()
    finish(task)
    assert all(map(busy.scene.is_finished, busy.images))
    assert len(busy.looked_at) == len(busy.images), "looked at twice"


def test_what_has_waited_long_for_a_slot_is_looked_at_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    busy = Busy()
    task = busy.start()
    busy.restore_next()
    monkeypatch.setattr(dispatch, "LOOK_SECONDS", 0.0)
    busy.go_on.set()
    finish(task)
    assert len(busy.scene.fast.objects) == 2, "that of the live image, and the one restored"
    assert outcomes(busy.scene.report) == {"deleted": 3, "lost": 1}


def test_a_look_is_as_old_as_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process may have been stopped once its rows were read."""
    monkeypatch.setattr(dispatch, "LOOK_SECONDS", 0.02)
    scene = slots_of_one(pool_size=1)
    image = scene.image("a")
    (number,) = scene.numbers(image)
    looks: list[int] = []

    def restore_and_stop() -> None:
        looks.append(number)
        if len(looks) == 1:
            scene.glance.change_image(image, status="active", deleted=False, deleted_at=None)
            scene.glance.change_location(number, status="active", deleted=False)
            pool.sleep(0.05)

    scene.source.before["live_since"] = restore_and_stop
    report = scene.run()
    assert "a" in scene.fast.objects
    assert outcomes(report) == {"lost": 1}


def test_what_waits_for_a_slot_is_given_back_at_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_state, "STALL_SECONDS", 2 * PATIENCE)  # or it would get another slot
    busy = Busy()
    task = busy.start()
    image = busy.next
    busy.scene.stop.set()
    until(lambda: busy.scene.is_untouched(image))
    assert busy.scene.fast.running == 1, "it did not wait for the slot"
    busy.go_on.set()
    finish(task)
    assert outcomes(busy.scene.report) == {"deleted": 1, "lost": 3}


def test_what_waits_for_a_slot_waits_for_its_moment_once_the_store_asks_for_patience() -> None:
    busy = Busy()
    store, wait = busy.scene.fast, busy.scene.fast.before_delete

    def wait_and_ask_for_patience(names: list[str]) -> None:
        wait(names)
        if len(store.sent) == 2:
            store.answers[names[0]] = errors.Throttled("slow down", retry_after=0.1)
            asked_at.append(time.monotonic())
        elif len(store.sent) == 3:
            store.answers.clear()
            asked_at.append(time.monotonic())

    asked_at: list[float] = []
    store.before_delete = wait_and_ask_for_patience
    task = busy.start()
    busy.go_on.set()
    finish(task)
    assert asked_at[1] - asked_at[0] >= 0.1
    assert all(map(busy.scene.is_finished, busy.images))


def test_a_look_that_hangs_keeps_no_slot_from_the_others() -> None:
    """At an object, that of a location removed from a live image."""
    scene = Scene(FakeDriver("fast", batch=1), FakeDriver("slow", batch=1), pool_size=1)
    live = scene.image("slow/copy", status="active", deleted=False, deleted_at=None)
    removed = scene.location(live, "slow/removed")
    scene.glance.change_location(scene.numbers(live)[0], status="active", deleted=False)
    for number in range(20):
        scene.image(str(number))
    go_on = pool.Flag()

    def hang(urls: list[str]) -> None:
        if any("removed" in url for url in urls):
            go_on.wait(PATIENCE)

    scene.stores["slow"].before_look = hang
    task = scene.start()
    until(lambda: len(scene.fast.asked_to_delete) == 20)
    assert scene.glance.status_of(removed) == "pending_delete"
    go_on.set()
    finish(task)
    assert scene.glance.status_of(removed) == "deleted"


def test_looks_leave_the_source_alone_most_of_the_time() -> None:
    scene = slots_of_one(pool_size=1)
    for number in range(20):
        scene.image(str(number))
    began: list[float] = []
    scene.source.before["still_ours"] = lambda: (began.append(time.monotonic()), pool.sleep(0.005))
    scene.run()
    apart = [later - earlier for earlier, later in pairwise(began)]
    assert min(apart) >= 4 * 0.005

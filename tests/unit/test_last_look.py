"""The last look before a batch is sent: shared by batches, and never older than any of them."""

from collections.abc import Sequence

import pytest

from contract.fake_driver import FakeDriver
from scrubber import errors, pool
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
    until(lambda: seen and scene.slots.running == 2)
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

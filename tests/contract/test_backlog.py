"""What sources say is pending: the figures that triggers and metrics are made of."""

import datetime

from contract.worlds import World
from scrubber.model import Backlog


def minutes(number: float) -> datetime.timedelta:
    return datetime.timedelta(minutes=number)


def test_nothing_pending_is_nothing(world: World) -> None:
    world.add_live()
    world.add_image(status="deleted", deleted_ago=minutes(5))
    assert world.source.backlog() == Backlog()


def test_deleted_images_are_counted_with_their_bytes_and_the_age_of_the_oldest(
    world: World,
) -> None:
    world.add_live()
    for age in (5, 60, 20):
        world.add_image(deleted_ago=minutes(age))
    backlog = world.source.backlog()
    assert backlog.images == 3
    assert backlog.oldest is not None
    assert 3600 <= backlog.oldest < 3610
    size = backlog.bytes / 3
    assert size == int(size) > 0


def test_what_is_counted_can_be_narrowed_by_age(world: World) -> None:
    for age in (5, 20, 60):
        world.add_image(deleted_ago=minutes(age))

    def images(older: float, younger: float | None = None) -> int:
        return world.source.backlog(older * 60, None if younger is None else younger * 60).images

    assert images(0) == 3
    assert images(10) == 2
    assert images(10, 30) == 1
    assert images(0, 30) == 2
    assert images(0, 10) == 1
    assert images(10, 15) == 0
    assert images(1e12, 1e13) == 0


def test_an_image_without_a_size_or_a_date_breaks_nothing(world: World) -> None:
    world.change_image(world.add_image(deleted_ago=minutes(5)), size=None)
    world.add_image(deleted_ago=None)
    backlog = world.source.backlog()
    assert (backlog.images, backlog.bytes) == (1, 0)

"""What Glance and restores do to rows in the very moment in which their bytes are deleted.

A scrubber is stopped at two points: with its claims, before the last look at what it is to
delete, and after that look, in the delete itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from functional.cloud import Cloud
from functional.conftest import NewCloud, with_live_images
from functional.program import Disk, Result, Running
from lab.processes import wait_until

#: What comes next is looked at when what comes first is deleted, and not before.
ONE_BY_ONE = {"fast": {"scrub_max_connections": 1, "scrub_max_rate": 1}}


@pytest.fixture
def cloud(clouds: NewCloud) -> Cloud:
    """On a server: on SQLite a scrubber and Glance wait for each other."""
    return with_live_images(clouds("mariadb"))


@dataclass(frozen=True)
class Deleting:
    """A scrubber that has looked for the last time, and now deletes the file of that name."""

    scrubber: Running
    name: str

    def result(self) -> Result:
        return self.scrubber.result()


@contextmanager
def in_delete(cloud: Cloud, tmp_path: Path, *flags: str) -> Iterator[Deleting]:
    """It goes on, to its end, after what is done meanwhile."""
    gate = tmp_path / "gate"
    gate.touch()
    disk = Disk(gate=gate)
    with cloud.start(*flags, options=ONE_BY_ONE, disk=disk) as scrubber:
        wait_until(disk.reached.exists, what="the delete begins")
        yield Deleting(scrubber, disk.reached.read_text())
        gate.unlink()
        wait_until(lambda: not scrubber.running, what="its end")


def removed_copy(cloud: Cloud) -> str:
    """A live image whose copy in ``slow`` was removed."""
    image_id = cloud.keep("fast")
    cloud.glance.copy_to(image_id, "slow")
    cloud.staging.load(image_id=image_id)
    cloud.glance.remove_location(image_id, "slow")
    return image_id


# One file, several rows -------------------------------------------------------------------


def test_of_two_images_with_one_file_none_comes_back_while_it_is_deleted(
    cloud: Cloud, tmp_path: Path
) -> None:
    image_id = cloud.upload("fast")
    twin = cloud.upload("slow")
    url = f"file://{cloud.data_directories['fast']}/./{image_id}"
    cloud.staging.add_location(image_id=twin, url=url, store="fast")
    for deleted in (image_id, twin):
        cloud.glance.delete(deleted)
    path = cloud.file(image_id)

    with in_delete(cloud, tmp_path, "--image", image_id) as deleting:
        assert path.exists()
        refused = [cloud.restore(at) for at in (image_id, twin)]
        waiting = cloud.start("--restore", twin, "--wait", "60")
    with waiting:
        came_back = waiting.result()
    result = deleting.result()

    for at in refused:
        assert at.exit_status == 1, str(at)
        assert "is being scrubbed right now" in at.document["error"]
    assert (result.exit_status, result.outcomes) == (0, {"deleted": 1}), str(result)
    assert not path.exists()
    # What comes back is what is left: its own file, without the one that went.
    assert came_back.exit_status == 0, str(came_back)
    assert [row["store"] for row in came_back.document["restored"]] == ["slow"]
    assert [row["store"] for row in came_back.document["lost"]] == ["fast"]
    assert cloud.glance.download(twin) is not None
    assert cloud.scrub().exit_status == 0
    cloud.check_scrubbed([image_id])


def test_a_live_image_that_gets_a_claimed_file_keeps_it(cloud: Cloud, tmp_path: Path) -> None:
    """Its location is added after the claim, and before the last look."""
    both = {cloud.deleted("fast"), cloud.deleted("fast")}
    live = cloud.keep("slow")
    with in_delete(cloud, tmp_path) as deleting:
        (second,) = both - {deleting.name}
        assert is_claimed(cloud, second)
        url = f"file://{cloud.file(second)}"
        cloud.staging.add_location(image_id=live, url=url, store="fast")
    result = deleting.result()

    assert (result.exit_status, result.outcomes) == (0, {"deleted": 1, "shared": 1}), str(result)
    assert cloud.file(second).exists()
    assert not cloud.file(deleting.name).exists()
    cloud.check_kept()


def is_claimed(cloud: Cloud, image_id: str) -> bool:
    return all(row["updated_at"] > row["deleted_at"] for row in cloud.tables.locations(image_id))


# A location removed from a live image -----------------------------------------------------


def test_a_stale_image_saved_over_a_row_whose_bytes_are_deleted_is_an_alarm(
    cloud: Cloud, tmp_path: Path
) -> None:
    """Nobody can keep Glance from that; but it does not pass in silence."""
    image_id = removed_copy(cloud)
    row = cloud.tables.location(image_id, "slow")

    with in_delete(cloud, tmp_path) as deleting:
        cloud.staging.save_loaded(image_id=image_id)
        assert cloud.tables.location(image_id, "slow")["status"] == "active"
    result = deleting.result()

    assert result.exit_status == 3, str(result)
    assert [at for at in result.document["alarms"] if f"location {row['id']} of" in at]
    assert cloud.tables.location(image_id, "slow")["status"] == "active", "the row does not lie"
    cloud.check_kept()


def test_a_stale_image_saved_over_a_finished_row_costs_no_other_copy(cloud: Cloud) -> None:
    """Glance makes the row active again, whose bytes are gone: removed_location_age is its cure.

    The image keeps its other copy, and what is removed once more is finished once more.
    """
    image_id = removed_copy(cloud)
    assert cloud.scrub().outcomes == {"deleted": 1}
    cloud.check_finished(cloud.tables.location(image_id, "slow"))

    cloud.staging.save_loaded(image_id=image_id)

    assert cloud.tables.location_statuses(image_id) == ["active", "active"]
    result = cloud.scrub()
    assert (result.exit_status, result.outcomes) == (0, {}), str(result)
    cloud.glance.remove_location(image_id, "slow")
    result = cloud.scrub()
    assert (result.exit_status, result.outcomes) == (0, {"gone": 1}), str(result)
    cloud.check_finished(cloud.tables.location(image_id, "slow"))


def test_a_copy_made_again_while_the_removed_one_is_deleted(cloud: Cloud, tmp_path: Path) -> None:
    """Glance does not write over a file that is still there: there is no copy, or a whole one."""
    image_id = removed_copy(cloud)

    with (
        in_delete(cloud, tmp_path) as deleting,
        pytest.raises(RuntimeError, match="could not copy"),
    ):
        cloud.glance.copy_to(image_id, "slow")
    result = deleting.result()

    assert (result.exit_status, result.outcomes) == (0, {"deleted": 1}), str(result)
    assert cloud.tables.location_statuses(image_id) == ["active", "deleted"]
    assert not cloud.file(image_id, "slow").exists()
    cloud.check_kept()

"""A store that is not the one we think: nothing is recorded as deleted there."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from functional import program
from functional.cloud import Cloud
from functional.conftest import with_live_images
from functional.program import Disk


def missing(directory: Path) -> None:
    """Removed, or on a disk that is not there."""


def empty(directory: Path) -> None:
    """A mount point without its file system."""
    directory.mkdir()


def another(directory: Path) -> None:
    """Somebody else's directory, mounted in the wrong place."""
    directory.mkdir()
    for number in range(5):
        (directory / f"11111111-2222-3333-4444-55555555555{number}").write_bytes(b"not ours")


@contextmanager
def in_the_place_of(directory: Path, make: Callable[[Path], None]) -> Iterator[None]:
    """Another directory where that one was; in the end it is back."""
    aside = directory.rename(directory.with_name(directory.name + "-aside"))
    make(directory)
    try:
        yield
    finally:
        if directory.exists():
            for file in directory.iterdir():
                file.unlink()
            directory.rmdir()
        aside.rename(directory)


# A store with live images ----------------------------------------------------------------


@pytest.mark.parametrize("make", [missing, empty, another])
def test_a_store_without_its_live_images_is_stopped_and_no_row_is_marked(
    cloud: Cloud, make: Callable[[Path], None]
) -> None:
    fast = [cloud.deleted("fast") for _ in range(3)]
    slow = [cloud.deleted("slow") for _ in range(3)]
    both = cloud.upload("fast")
    cloud.glance.copy_to(both, "slow")
    cloud.glance.delete(both)
    removed = cloud.keep("slow")
    cloud.glance.copy_to(removed, "fast")
    cloud.glance.remove_location(removed, "fast")
    before = {image_id: cloud.tables.of_image(image_id) for image_id in (*fast, removed)}

    with in_the_place_of(cloud.data_directories["fast"], make):
        others = cloud.files("fast") if make is another else set()
        # Not cloud.scrub: Glance cannot serve the live images either.
        result = program.run(cloud.configuration())

        assert result.exit_status == 3, str(result)
        assert list(result.document["stopped_stores"]) == ["fast"]
        assert result.outcomes_by_store == {"fast": {"waiting": 5}, "slow": {"deleted": 4}}
        if make is another:
            assert cloud.files("fast") == others

    assert {image_id: cloud.tables.of_image(image_id) for image_id in before} == before
    row = cloud.tables.location(both, "fast")
    assert (row["status"], row["updated_at"]) == ("pending_delete", row["deleted_at"])
    assert cloud.tables.image(both)["status"] == "pending_delete"
    assert all(cloud.file(image_id).exists() for image_id in (*fast, both, removed))
    cloud.check_scrubbed(slow)

    # Mounted again, it is as if nothing had happened.
    assert cloud.scrub().exit_status == 0
    cloud.check_scrubbed([*fast, *slow, both])
    cloud.check_finished(cloud.tables.location(removed, "fast"))


@pytest.mark.parametrize("make", [empty, another])
def test_an_operators_word_finishes_what_a_store_has_lost(
    cloud: Cloud, make: Callable[[Path], None]
) -> None:
    fast = [cloud.deleted("fast") for _ in range(30)]

    with in_the_place_of(cloud.data_directories["fast"], make):
        rehearsal = program.run(cloud.configuration(), "--accept-missing", "fast", "--dry-run")
        result = program.run(cloud.configuration(), "--accept-missing", "fast")
        for done in (rehearsal, result):
            assert done.exit_status == 0, str(done)
            assert done.outcomes_by_store == {"fast": {"gone": 30}}
            assert done.document["stopped_stores"] == {}
        cloud.check_scrubbed(fast)
        assert cloud.files("fast") == ({*os.listdir(cloud.data_directories["fast"])})


def test_no_word_makes_a_missing_directory_believable(cloud: Cloud) -> None:
    image_id = cloud.deleted("fast")
    before = cloud.tables.dump()
    with in_the_place_of(cloud.data_directories["fast"], missing):
        result = program.run(cloud.configuration(), "--accept-missing", "fast")
    assert result.exit_status == 3, str(result)
    assert list(result.document["stopped_stores"]) == ["fast"]
    assert cloud.tables.dump() == before
    assert cloud.file(image_id).exists()


def test_a_directory_without_permission_stops_its_store(cloud: Cloud) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    image_id = cloud.deleted("fast")
    cloud.data_directories["fast"].chmod(0o500)
    try:
        result = cloud.scrub()
    finally:
        cloud.data_directories["fast"].chmod(0o700)
    assert result.exit_status == 3, str(result)
    assert list(result.document["stopped_stores"]) == ["fast"]
    assert cloud.file(image_id).exists()


@pytest.mark.parametrize(
    ("error", "outcome", "stopped"),
    [("EPERM", "failed", []), ("EIO", "waiting", ["fast"]), ("ESTALE", "waiting", ["fast"])],
)
def test_deletes_that_fail_leave_their_rows_and_are_no_success(
    cloud: Cloud, error: str, outcome: str, stopped: list[str]
) -> None:
    """A file that cannot be deleted is one thing, a file system in trouble another."""
    images = [cloud.deleted("fast") for _ in range(3)]
    before = cloud.tables.dump()

    with cloud.start(disk=Disk(unlink_error=error)) as scrubber:
        result = scrubber.result()

    assert result.exit_status == 3, str(result)
    assert result.outcomes == {outcome: 3}
    assert list(result.document["stopped_stores"]) == stopped
    assert result.left_images == set(images)
    assert cloud.tables.dump() == before
    assert set(images) < cloud.files("fast")
    assert cloud.scrub().outcomes == {"deleted": 3}


def test_what_a_scrubber_deleted_before_it_died_is_finished(cloud_on_database: Cloud) -> None:
    """Bytes first, then the row: whoever dies in between leaves a row without bytes."""
    cloud = cloud_on_database
    leftovers = cloud.many_deleted(40)
    for image_id in leftovers:
        cloud.file(image_id).unlink()

    result = cloud.scrub()

    assert (result.exit_status, result.outcomes) == (0, {"gone": 40}), str(result)
    assert result.document["bytes_freed"] == 0
    cloud.check_scrubbed(leftovers)


# A store without live images -------------------------------------------------------------


def lose(cloud: Cloud, images: list[str], count: int, store: str = "fast") -> list[str]:
    """The first of the images lose their bytes."""
    lost = images[:count]
    for image_id in lost:
        cloud.file(image_id, store).unlink()
    return lost


@pytest.mark.parametrize(
    ("pending", "missing", "pending_beside_it"),
    [
        (12, 10, 30),  # missing_threshold_count
        (110, 11, 109),  # missing_threshold_percent
    ],
)
def test_an_unproven_store_is_believed_about_a_few(
    bare_cloud: Cloud, pending: int, missing: int, pending_beside_it: int
) -> None:
    """One location more in ``slow``, or a smaller share, is too much."""
    cloud, too_many = bare_cloud, 11
    fast, slow = cloud.many_deleted(pending), cloud.many_deleted(pending_beside_it, "slow")
    believed, doubted = lose(cloud, fast, missing), lose(cloud, slow, too_many, "slow")

    result = cloud.scrub()

    assert result.exit_status == 3, str(result)
    assert result.outcomes_by_store == {
        "fast": {"deleted": pending - missing, "gone": len(believed)},
        "slow": {"deleted": pending_beside_it - too_many, "waiting": len(doubted)},
    }
    assert "--accept-missing slow" in result.document["left"][0]["reason"]
    cloud.check_scrubbed({*fast, *slow} - {*doubted})
    for image_id in doubted:
        assert cloud.tables.image(image_id)["status"] == "pending_delete"
        (row,) = cloud.tables.locations(image_id)
        assert (row["status"], row["updated_at"]) == ("pending_delete", row["deleted_at"])

    accepted = cloud.scrub("--accept-missing", "slow")
    assert (accepted.exit_status, accepted.outcomes) == (0, {"gone": too_many}), str(accepted)
    cloud.check_scrubbed(slow)


def test_most_of_an_unproven_store_missing_is_not_believed(bare_cloud: Cloud) -> None:
    images = bare_cloud.many_deleted(40)
    lost = lose(bare_cloud, images, 30)
    result = bare_cloud.scrub()
    assert (result.exit_status, result.outcomes) == (3, {"deleted": 10, "waiting": 30}), str(result)
    bare_cloud.check_scrubbed(set(images) - set(lost))
    assert all(bare_cloud.tables.statuses()[at] == "pending_delete" for at in lost)


def test_an_unproven_store_that_is_empty_is_not_believed_about_one(bare_cloud: Cloud) -> None:
    cloud = bare_cloud
    image_id = cloud.deleted("fast")
    lose(cloud, [image_id], 1)
    before = cloud.tables.dump()

    result = cloud.scrub()

    assert (result.exit_status, result.outcomes) == (3, {"waiting": 1}), str(result)
    assert cloud.tables.dump() == before


def test_an_unproven_store_that_holds_everything_is_scrubbed(bare_cloud: Cloud) -> None:
    images = bare_cloud.many_deleted(30)
    result = bare_cloud.scrub()
    assert (result.exit_status, result.outcomes) == (0, {"deleted": 30}), str(result)
    bare_cloud.check_scrubbed(images)


def test_the_thresholds_are_the_operators(bare_cloud: Cloud) -> None:
    images = bare_cloud.many_deleted(4)
    lose(bare_cloud, images, 2)
    strict = {"scrubber": {"missing_threshold_count": 1, "missing_threshold_percent": 0}}
    assert bare_cloud.scrub(options=strict).outcomes == {"deleted": 2, "waiting": 2}
    # Now all that the run touches is missing.
    (bare_cloud.data_directories["fast"] / "something").touch()
    lenient = {"scrubber": {"missing_threshold_count": 0, "missing_threshold_percent": 100}}
    assert bare_cloud.scrub(options=lenient).outcomes == {"gone": 2}
    bare_cloud.check_scrubbed(images)


def test_a_live_image_of_the_other_store_proves_nothing_here(bare_cloud: Cloud) -> None:
    cloud = bare_cloud
    cloud.keep("slow")
    images = cloud.many_deleted(20)
    lose(cloud, images, 20)
    (cloud.data_directories["fast"] / "something").touch()
    assert cloud.scrub().outcomes == {"waiting": 20}
    with_live_images(cloud)
    assert cloud.scrub().outcomes == {"gone": 20}
    cloud.check_scrubbed(images)

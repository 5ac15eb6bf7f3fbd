"""What a run is asked to do: not yet, only some, or only in rehearsal."""

import copy
import datetime
import os
from pathlib import Path
from typing import Any

from functional.cloud import Cloud
from functional.program import Result

HOUR = 3600


def disk(cloud: Cloud) -> dict[str, tuple[int, int, int]]:
    """Everything in the stores: inode, size and time of change."""
    found = {}
    for directory in cloud.data_directories.values():
        for path in [directory, *directory.rglob("*")]:
            status = path.lstat()
            found[str(path)] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found


def counts(result: Result) -> dict[str, Any]:
    """All of a document that a rehearsal and the run after it have in common."""
    document = copy.deepcopy(result.document)
    for name in ("dry_run", "run", "process", "started_at", "finished_at"):
        document.pop(name)
    for left in document["left"]:
        # Each scan begins somewhere else.
        left["examples"].sort(key=repr)
    document["left"].sort(key=repr)
    return document


def one_of_each_kind(cloud: Cloud, tmp_path: Path) -> None:
    """Deleted, copied, half-deleted, late, stuck, removed, shared, wrecked, damaged, gone."""
    cloud.deleted("fast", owner="one")
    cloud.deleted("slow", owner="two")
    copied = cloud.upload("fast", owner="two")
    cloud.glance.copy_to(copied, "slow")
    cloud.glance.delete(copied)
    half = cloud.upload("slow")
    cloud.staging.crash_before_destroy(image_id=half)
    cloud.age(half, 2 * HOUR)
    late = cloud.upload("fast")
    cloud.file(late, "slow").write_bytes(b"late")
    url = f"file://{cloud.file(late, 'slow')}"
    cloud.staging.delete_during_copy(image_id=late, url=url, store="slow")
    cloud.stuck("fast")
    removed, busy = cloud.keep("fast"), cloud.keep("fast")
    for image_id in (removed, busy):
        cloud.glance.copy_to(image_id, "slow")
        cloud.glance.remove_location(image_id, "slow")
    cloud.staging.begin_import(image_id=busy)
    shared = cloud.upload("slow")
    live = cloud.file(cloud.keep("fast"))
    cloud.staging.add_location(image_id=shared, url=f"file://{live}", store="fast")
    cloud.staging.add_location(image_id=shared, url=f"file://{tmp_path}/outside", store="fast")
    cloud.glance.delete(shared)
    cloud.staging.crash_in_delete(image_id=cloud.upload("fast"))
    damaged = cloud.deleted("fast")
    cloud.tables.change_location(cloud.tables.locations(damaged)[0]["id"], value="somewhere")
    cloud.file(cloud.deleted("fast")).unlink()
    claimed = cloud.deleted("fast")
    cloud.tables.claim([cloud.tables.locations(claimed)[0]["id"]])
    young = cloud.upload("fast")
    cloud.staging.crash_before_destroy(image_id=young)


# Not yet ---------------------------------------------------------------------------------


def test_images_wait_for_scrub_time(cloud_on_database: Cloud) -> None:
    cloud = cloud_on_database
    young, old = cloud.deleted("fast"), cloud.deleted("fast")
    cloud.age(old, 2 * HOUR)
    before = cloud.tables.of_image(young)
    options = {"DEFAULT": {"scrub_time": HOUR}}

    result = cloud.scrub(options=options)

    assert (result.exit_status, result.outcomes) == (0, {"deleted": 1}), str(result)
    not_due = result.document["not_due"]
    assert not_due["images"] == 1
    due_at = cloud.tables.image(young)["deleted_at"] + datetime.timedelta(seconds=HOUR)
    assert not_due["next_due_at"] == f"{due_at:%Y-%m-%dT%H:%M:%SZ}"
    assert cloud.tables.of_image(young) == before
    assert cloud.file(young).exists()
    cloud.check_scrubbed([old])
    assert cloud.scrub("--dry-run", options=options).document["not_due"] == not_due


# Only some -------------------------------------------------------------------------------


def both(cloud: Cloud, *flags: str) -> Result:
    """A dry run, which agrees with the run after it."""
    rehearsal, result = cloud.scrub("--dry-run", *flags), cloud.scrub(*flags)
    assert counts(rehearsal) == counts(result)
    return result


def test_a_run_can_be_narrowed_to_images(cloud: Cloud) -> None:
    first, second, other = (cloud.deleted("fast") for _ in range(3))
    before = cloud.tables.of_image(other)

    result = both(cloud, "--image", first, "--image", second)

    assert (result.exit_status, result.outcomes) == (0, {"deleted": 2}), str(result)
    assert cloud.tables.of_image(other) == before
    assert cloud.file(other).exists()
    cloud.check_scrubbed([first, second])


def test_a_run_can_be_narrowed_to_owners(cloud: Cloud) -> None:
    first = cloud.deleted("fast", owner="one", visibility="community")
    second, other = cloud.deleted("slow", owner="two"), cloud.deleted("slow", owner="three")
    before = cloud.tables.of_image(other)

    result = both(cloud, "--owner", "one", "--owner", "two")

    assert (result.exit_status, result.outcomes) == (0, {"deleted": 2}), str(result)
    assert set(result.document["owners"]) == {"one", "two"}
    assert cloud.tables.of_image(other) == before
    cloud.check_scrubbed([first, second])


def test_a_run_can_be_narrowed_to_stores(cloud: Cloud) -> None:
    copied = cloud.upload("fast")
    cloud.glance.copy_to(copied, "slow")
    cloud.glance.delete(copied)
    fast, slow, stuck = cloud.deleted("fast"), cloud.deleted("slow"), cloud.stuck("fast")
    before = cloud.tables.of_image(fast)

    result = both(cloud, "--store", "slow")

    assert result.exit_status == 0, str(result)
    assert result.outcomes_by_store == {"slow": {"deleted": 2}}
    assert cloud.tables.of_image(fast) == before
    assert cloud.file(copied, "fast").exists()
    assert cloud.tables.image(copied)["status"] == "pending_delete"
    assert cloud.tables.location(copied, "fast")["status"] == "pending_delete"
    cloud.check_scrubbed([slow])
    # The rest of the image is still there to be scrubbed, and to be finished.
    assert cloud.scrub().exit_status == 0
    cloud.check_scrubbed([copied, fast, slow, stuck])


def test_a_store_that_does_not_exist_is_a_mistake(cloud: Cloud) -> None:
    image_id = cloud.deleted("fast")
    for flag in ("--store", "--accept-missing"):
        result = cloud.scrub(flag, "fats")
        assert result.exit_status == 1, str(result)
        assert result.document == {
            "status": "failed",
            "error": f"{flag} fats: no such store; configured are fast, slow",
        }
        assert result.stderr == f"ERROR: {result.document['error']}\n"
    assert cloud.file(image_id).exists()


# Only in rehearsal -----------------------------------------------------------------------


def test_a_dry_run_changes_nothing_and_counts_what_the_run_then_does(
    cloud_on_database: Cloud, tmp_path: Path
) -> None:
    cloud = cloud_on_database
    one_of_each_kind(cloud, tmp_path)
    rows, files = cloud.tables.dump(), disk(cloud)

    rehearsal = cloud.scrub("--dry-run")

    assert rehearsal.exit_status == 3, str(rehearsal)
    assert rehearsal.document["dry_run"] is True
    assert cloud.tables.dump() == rows
    assert disk(cloud) == files
    # One and two, the copied image twice, half, late twice, removed, shared's own.
    assert rehearsal.outcomes == {
        "deleted": 9,
        "gone": 1,
        "shared": 1,
        "refused": 3,
        "waiting": 1,
    }
    assert rehearsal.images_scrubbed == 7
    assert rehearsal.document["not_due"]["images"] == 1
    assert rehearsal.document["claimed_elsewhere"]["images"] == 1

    result = cloud.scrub()

    assert result.exit_status == 3, str(result)
    assert result.document["dry_run"] is False
    assert counts(result) == counts(rehearsal)
    assert cloud.tables.dump() != rows


def test_a_dry_run_says_which_store_a_run_would_stop_at(cloud: Cloud) -> None:
    for _ in range(3):
        cloud.deleted("fast")
    for image_id in cloud.kept:
        if (file := cloud.file(image_id)).exists():
            hidden = file.rename(file.with_name("hidden"))
            kept = file
    cloud.kept.clear()
    rows = cloud.tables.dump()
    try:
        rehearsal, result = cloud.scrub("--dry-run"), cloud.scrub()
    finally:
        os.rename(hidden, kept)
    assert counts(rehearsal) == counts(result)
    assert list(result.document["stopped_stores"]) == ["fast"]
    assert cloud.tables.dump() == rows

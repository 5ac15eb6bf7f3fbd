"""Every kind of row that Glance leaves behind, and what one run does to it."""

import os
from pathlib import Path

from functional.cloud import Cloud

HOUR = 3600

#: removed_location_age is what operators get who set nothing.
DEFAULTS = {"scrubber": {"removed_location_age": 3600}}


def reupload(cloud: Cloud, image_id: str, store: str) -> None:
    """Bytes of the same name in the same store, as an import writes them, no row yet."""
    path = cloud.file(image_id, store)
    path.unlink()
    path.write_bytes(cloud.file(image_id, "fast").read_bytes())
    moment = cloud.tables.location(image_id, store)["deleted_at"].timestamp() + 120
    os.utime(path, (moment, moment))


# Deleted images --------------------------------------------------------------------------


def test_deleted_images_of_every_visibility_are_scrubbed(cloud: Cloud) -> None:
    images = [
        cloud.deleted("fast", visibility=visibility, owner=owner, data=b"x" * 1000)
        for visibility in ("private", "community", "shared", "public")
        for owner in ("one", "another")
    ]

    result = cloud.scrub()

    assert result.exit_status == 0, str(result)
    assert result.document["status"] == "succeeded"
    assert result.outcomes == {"deleted": 8}
    assert result.images_scrubbed == 8
    assert result.document["bytes_freed"] == 8000
    assert {
        owner: tally["images"]["scrubbed"] for owner, tally in result.document["owners"].items()
    } == {
        "one": 4,
        "another": 4,
    }
    cloud.check_scrubbed(images)


def test_all_copies_of_a_deleted_image_go(cloud: Cloud) -> None:
    both = cloud.upload("fast")
    cloud.glance.copy_to(both, "slow")
    cloud.glance.delete(both)
    one = cloud.deleted("slow")

    result = cloud.scrub()

    assert result.exit_status == 0, str(result)
    assert result.outcomes_by_store == {"fast": {"deleted": 1}, "slow": {"deleted": 2}}
    assert result.images_scrubbed == 2
    cloud.check_scrubbed([both, one])


def test_a_copy_that_ended_while_its_image_was_destroyed_goes_too(cloud: Cloud) -> None:
    image_id = cloud.upload("fast")
    late = cloud.file(image_id, "slow")
    late.write_bytes(b"a late copy")
    cloud.staging.delete_during_copy(image_id=image_id, url=f"file://{late}", store="slow")
    assert cloud.tables.location_statuses(image_id) == ["pending_delete", "deleted"]

    result = cloud.scrub()

    assert result.exit_status == 0, str(result)
    assert result.outcomes_by_store == {"fast": {"deleted": 1}, "slow": {"deleted": 1}}
    cloud.check_scrubbed([image_id])


def test_an_image_without_anything_left_to_delete_is_finished(cloud: Cloud) -> None:
    stuck = cloud.stuck("fast")
    assert cloud.tables.image(stuck)["status"] == "pending_delete"

    result = cloud.scrub()

    assert result.exit_status == 0, str(result)
    assert (result.outcomes, result.images_scrubbed) == ({}, 1)
    cloud.check_scrubbed([stuck])


def test_a_half_deleted_image_is_finished_with_all_that_belongs_to_it(cloud: Cloud) -> None:
    half = cloud.upload("fast", os_distro="debian", visibility="shared")
    cloud.glance.admin.image_tags.update(half, "golden")
    cloud.glance.admin.image_members.create(half, "neighbour")
    cloud.glance.copy_to(half, "slow")
    cloud.staging.crash_before_destroy(image_id=half)
    cloud.age(half, 2 * HOUR)
    image = cloud.tables.image(half)
    assert (image["status"], bool(image["deleted"])) == ("pending_delete", False)
    belongings = cloud.tables.belongings(half)
    assert not any(row["deleted"] for row in belongings["image_tags"] + belongings["image_members"])

    result = cloud.scrub()

    assert result.exit_status == 0, str(result)
    assert (result.outcomes, result.images_scrubbed) == ({"deleted": 2}, 1)
    assert all(cloud.tables.belongings(half).values())
    cloud.check_scrubbed([half])


def test_a_half_deleted_image_waits_an_hour_whatever_scrub_time_says(cloud: Cloud) -> None:
    half = cloud.upload("fast")
    cloud.staging.crash_before_destroy(image_id=half)
    cloud.age(half, HOUR - 60)
    before = cloud.tables.dump()

    result = cloud.scrub(options={"DEFAULT": {"scrub_time": 0}})

    assert result.exit_status == 0, str(result)
    assert (result.outcomes, result.document["not_due"]["images"]) == ({}, 1)
    assert cloud.tables.dump() == before
    assert cloud.file(half).exists()


def test_an_image_deleted_again_after_a_crash_is_scrubbed_at_once(cloud: Cloud) -> None:
    half = cloud.upload("fast")
    cloud.staging.crash_before_destroy(image_id=half)
    cloud.glance.delete(half)

    result = cloud.scrub()

    assert (result.exit_status, result.outcomes) == (0, {"deleted": 1}), str(result)
    cloud.check_scrubbed([half])


def test_locations_left_pending_when_delayed_delete_was_switched_off_go(cloud: Cloud) -> None:
    image_id = cloud.upload("fast")
    cloud.glance.copy_to(image_id, "slow")
    cloud.glance.remove_location(image_id, "slow")
    cloud.glance.delete(image_id)
    # What Glance's immediate delete leaves: it deletes the active copies and ends as 'deleted'.
    cloud.file(image_id, "fast").unlink()
    cloud.tables.change_location(cloud.tables.location(image_id, "fast")["id"], status="deleted")
    cloud.tables.change_image(image_id, status="deleted")

    result = cloud.scrub()

    assert result.exit_status == 0, str(result)
    assert result.outcomes_by_store["slow"] == {"deleted": 1}
    assert not cloud.file(image_id, "slow").exists()
    cloud.check_finished(cloud.tables.location(image_id, "slow"))


# Locations removed from live images ------------------------------------------------------


def test_locations_removed_from_live_images_go_whichever_way_they_were_removed(
    cloud: Cloud,
) -> None:
    patched, removed = cloud.keep("fast"), cloud.keep("fast")
    for image_id in (patched, removed):
        cloud.glance.copy_to(image_id, "slow")
    urls = {at["url"] for at in cloud.glance.locations(patched) if "/slow/" in at["url"]}
    cloud.glance.admin.images.delete_locations(patched, urls)
    cloud.glance.remove_location(removed, "slow")
    for image_id in (patched, removed):
        assert cloud.tables.location_statuses(image_id) == ["active", "pending_delete"]

    result = cloud.scrub()

    assert result.exit_status == 0, str(result)
    assert result.outcomes_by_store == {"slow": {"deleted": 2}}
    assert result.images_scrubbed == 0
    for image_id in (patched, removed):
        assert cloud.tables.image(image_id)["status"] == "active"
        assert cloud.tables.location_statuses(image_id) == ["active", "deleted"]
        cloud.check_finished(cloud.tables.location(image_id, "slow"))
        assert not cloud.file(image_id, "slow").exists()


def test_a_removed_location_stays_for_an_hour_where_nothing_else_is_set(cloud: Cloud) -> None:
    young, old = cloud.keep("fast"), cloud.keep("fast")
    for image_id in (young, old):
        cloud.glance.copy_to(image_id, "slow")
        cloud.glance.remove_location(image_id, "slow")
    cloud.age(old, HOUR + 60)
    before = cloud.tables.of_image(young)

    result = cloud.scrub(options=DEFAULTS)

    assert result.exit_status == 0, str(result)
    assert result.outcomes == {"deleted": 1}
    assert result.document["not_due"]["images"] == 1
    assert cloud.tables.of_image(young) == before
    assert cloud.file(young, "slow").exists()
    assert not cloud.file(old, "slow").exists()


def test_a_removed_location_waits_for_scrub_time_when_that_is_longer(cloud: Cloud) -> None:
    image_id = cloud.keep("fast")
    cloud.glance.copy_to(image_id, "slow")
    cloud.glance.remove_location(image_id, "slow")

    result = cloud.scrub(options={"DEFAULT": {"scrub_time": 600}})

    assert (result.exit_status, result.outcomes) == (0, {}), str(result)
    assert cloud.file(image_id, "slow").exists()


def test_nothing_is_removed_from_an_image_that_is_importing(cloud: Cloud) -> None:
    image_id = cloud.keep("fast")
    cloud.glance.copy_to(image_id, "slow")
    cloud.glance.remove_location(image_id, "slow")
    cloud.staging.begin_import(image_id=image_id)
    before = cloud.tables.dump()

    result = cloud.scrub()

    location = cloud.tables.location(image_id, "slow")["id"]
    assert result.exit_status == 3, str(result)
    assert result.left[location][0] == "waiting"
    assert "import" in result.reason(location)
    assert cloud.tables.dump() == before
    assert cloud.file(image_id, "slow").exists()

    cloud.staging.end_import(image_id=image_id)
    assert cloud.scrub().outcomes == {"deleted": 1}


def test_bytes_uploaded_again_under_the_removed_name_stay(cloud: Cloud) -> None:
    """An import to the same store has written its bytes; its location is not saved yet."""
    image_id = cloud.keep("fast")
    cloud.glance.copy_to(image_id, "slow")
    cloud.glance.remove_location(image_id, "slow")
    reupload(cloud, image_id, "slow")

    result = cloud.scrub()

    row = cloud.tables.location(image_id, "slow")
    assert result.exit_status == 3, str(result)
    assert result.left[row["id"]][0] == "waiting"
    assert "newer" in result.reason(row["id"])
    assert (row["status"], row["updated_at"]) == ("pending_delete", row["deleted_at"])
    assert cloud.file(image_id, "slow").read_bytes() == cloud.kept[image_id]


def test_a_copy_made_again_after_its_removal_stays(cloud: Cloud) -> None:
    image_id = cloud.keep("fast")
    cloud.glance.copy_to(image_id, "slow")
    cloud.glance.remove_location(image_id, "slow")
    # A scrubber died here, with the bytes deleted and the row not finished.
    cloud.file(image_id, "slow").unlink()
    cloud.glance.copy_to(image_id, "slow")
    statuses = [row["status"] for row in cloud.tables.locations(image_id)]
    assert statuses == ["active", "pending_delete", "active"]

    result = cloud.scrub()

    assert result.exit_status == 0, str(result)
    assert result.outcomes == {"shared": 1}
    assert result.document["bytes_freed"] == 0
    assert cloud.tables.location_statuses(image_id) == ["active", "deleted", "active"]
    assert cloud.file(image_id, "slow").read_bytes() == cloud.kept[image_id]
    cloud.glance.remove_location(image_id, "fast")
    cloud.check_kept()


def test_the_same_file_under_another_store_id_stays(cloud: Cloud) -> None:
    """Two store ids that are one file system: another path, the same inode."""
    image_id = cloud.keep("fast")
    cloud.glance.copy_to(image_id, "slow")
    cloud.file(image_id, "slow").unlink()
    cloud.file(image_id, "slow").hardlink_to(cloud.file(image_id, "fast"))
    cloud.glance.remove_location(image_id, "slow")

    result = cloud.scrub()

    row = cloud.tables.location(image_id, "slow")
    assert result.exit_status == 3, str(result)
    assert result.left[row["id"]][0] == "waiting"
    assert "another, live location" in result.reason(row["id"])
    assert row["status"] == "pending_delete"
    assert cloud.file(image_id, "slow").exists()


def test_the_same_file_under_the_id_of_a_store_that_is_a_link_stays(
    cloud: Cloud, tmp_path: Path
) -> None:
    """Two store ids whose directories are one."""
    link = tmp_path / "link"
    link.symlink_to(cloud.data_directories["fast"])
    image_id = cloud.keep("fast")
    cloud.staging.add_location(image_id=image_id, url=f"file://{link}/{image_id}", store="slow")
    cloud.staging.remove_location(image_id=image_id, store="slow")

    result = cloud.scrub(options={"slow": {"filesystem_store_datadir": link}})

    assert result.exit_status == 0, str(result)
    assert result.outcomes == {"shared": 1}
    assert cloud.file(image_id, "fast").read_bytes() == cloud.kept[image_id]


def test_a_location_removed_from_a_queued_image_goes(cloud: Cloud) -> None:
    """An upload that failed: the image is queued again, its location was removed."""
    image_id = cloud.upload("fast")
    cloud.staging.crash_in_delete(image_id=image_id)
    cloud.tables.change_image(image_id, status="queued")

    result = cloud.scrub()

    assert (result.exit_status, result.outcomes) == (0, {"deleted": 1}), str(result)
    assert cloud.tables.image(image_id)["status"] == "queued"
    assert not cloud.file(image_id).exists()


# Wrecks ----------------------------------------------------------------------------------


def test_live_images_without_their_locations_are_reported_untouched_and_repaired(
    cloud: Cloud,
) -> None:
    """One that upstream's --restore gave back, one whose delete crashed."""
    data = os.urandom(500)
    given_back, crashed = cloud.upload("fast", data=data), cloud.upload("fast", data=data)
    wrecks = [given_back, crashed]
    for image_id in wrecks:
        cloud.glance.copy_to(image_id, "slow")
    cloud.glance.delete(given_back)
    assert cloud.glance.run_upstream_scrubber("--restore", given_back).returncode == 0
    cloud.staging.crash_in_delete(image_id=crashed)
    for image_id in wrecks:
        cloud.age(image_id, 30 * 24 * HOUR)
        assert cloud.tables.image(image_id)["status"] == "active"
        assert cloud.tables.location_statuses(image_id) == ["pending_delete", "pending_delete"]
        assert cloud.glance.download(image_id) is None
    other = cloud.deleted("fast")
    before = {image_id: cloud.tables.of_image(image_id) for image_id in wrecks}

    result = cloud.scrub()

    assert result.exit_status == 3, str(result)
    assert result.outcomes == {"deleted": 1, "refused": 4}
    assert result.left_images == set(wrecks)
    assert {reason for _, reason in result.left.values()} == {
        "a wreck: the image is live, its locations are pending: repair it with --restore"
    }
    for image_id in wrecks:
        assert cloud.tables.of_image(image_id) == before[image_id]
        for store in ("fast", "slow"):
            assert cloud.file(image_id, store).read_bytes() == data
    cloud.check_scrubbed([other])

    for image_id in wrecks:
        restored = cloud.restore(image_id)
        assert restored.exit_status == 0, str(restored)
        assert cloud.glance.download(image_id) == data
        assert cloud.tables.location_statuses(image_id) == ["active", "active"]
        image = cloud.tables.image(image_id)
        assert (image["status"], image["deleted_at"]) == ("active", None)
    assert cloud.scrub().exit_status == 0


# All together ----------------------------------------------------------------------------


def test_a_second_run_finds_nothing_to_do(cloud: Cloud) -> None:
    cloud.deleted("fast")
    cloud.stuck("slow")
    removed = cloud.keep("fast")
    cloud.glance.copy_to(removed, "slow")
    cloud.glance.remove_location(removed, "slow")
    assert cloud.scrub().exit_status == 0
    before = cloud.tables.dump()

    result = cloud.scrub()

    assert result.exit_status == 0, str(result)
    assert (result.outcomes, result.images_scrubbed, result.document["left"]) == ({}, 0, [])
    assert cloud.tables.dump() == before


def test_a_glance_without_images_is_a_success(bare_cloud: Cloud) -> None:
    result = bare_cloud.scrub()
    assert (result.exit_status, result.document["status"]) == (0, "succeeded"), str(result)


def test_the_rows_of_every_database_end_as_glance_would_leave_them(
    cloud_on_database: Cloud,
) -> None:
    cloud = cloud_on_database
    plain = cloud.deleted("fast", os_distro="debian")
    copied = cloud.upload("fast")
    cloud.glance.copy_to(copied, "slow")
    cloud.glance.delete(copied)
    half = cloud.upload("slow", os_distro="debian")
    cloud.staging.crash_before_destroy(image_id=half)
    cloud.age(half, 2 * HOUR)
    late = cloud.upload("fast")
    cloud.file(late, "slow").write_bytes(b"late")
    cloud.staging.delete_during_copy(
        image_id=late, url=f"file://{cloud.file(late, 'slow')}", store="slow"
    )
    stuck = cloud.stuck("fast")
    removed = cloud.keep("fast")
    cloud.glance.copy_to(removed, "slow")
    cloud.glance.remove_location(removed, "slow")

    result = cloud.scrub()

    assert result.exit_status == 0, str(result)
    assert result.outcomes == {"deleted": 7}
    assert result.images_scrubbed == 5
    cloud.check_scrubbed([plain, copied, half, late, stuck])
    cloud.check_finished(cloud.tables.location(removed, "slow"))
    assert cloud.scrub().outcomes == {}

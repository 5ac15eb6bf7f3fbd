"""``--restore`` gives an image back whole, while Glance and daemons run."""

import os
import threading
from pathlib import Path

import pytest

from functional import program
from functional.cloud import Cloud
from functional.program import Result
from lab.processes import wait_until

HOUR = 3600


def refused(result: Result) -> str:
    """The message of a restore that was refused."""
    assert result.exit_status == 1, str(result)
    assert result.document["status"] == "failed"
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("ERROR:")]
    assert line == f"ERROR: {result.document['error']}"
    return line.removeprefix("ERROR: ")


def rich_image(cloud: Cloud, data: bytes) -> str:
    """Two copies, properties, tags and members."""
    image_id = cloud.upload("fast", data=data, os_distro="debian", os_version="12")
    cloud.glance.admin.image_tags.update(image_id, "golden")
    cloud.glance.admin.image_members.create(image_id, "neighbour")
    cloud.glance.copy_to(image_id, "slow")
    return image_id


def as_users_see_it(cloud: Cloud, image_id: str) -> dict[str, object]:
    shown = dict(cloud.glance.admin.images.get(image_id))
    shown.pop("updated_at")
    # Glance asks for rows in no order, and PostgreSQL gives those first that nobody has written.
    shown["locations"] = sorted(shown["locations"], key=lambda location: location["url"])
    shown["stores"] = sorted(shown["stores"].split(","))
    shown["members"] = [
        member["member_id"] for member in cloud.glance.admin.image_members.list(image_id)
    ]
    return shown


# What comes back -------------------------------------------------------------------------


def test_a_restored_image_is_as_it_was(cloud_on_database: Cloud) -> None:
    cloud, data = cloud_on_database, os.urandom(5000)
    image_id = rich_image(cloud, data)
    before = as_users_see_it(cloud, image_id)
    assert (before["os_distro"], before["tags"], before["members"]) == (
        "debian",
        ["golden"],
        ["neighbour"],
    )
    cloud.glance.delete(image_id)
    assert cloud.glance.download(image_id) is None

    result = cloud.restore(image_id)

    assert result.exit_status == 0, str(result)
    assert result.document["status"] == "succeeded"
    assert [row["store"] for row in result.document["restored"]] == ["fast", "slow"]
    assert (result.document["lost"], result.document["warnings"]) == ([], [])
    assert cloud.glance.download(image_id) == data
    assert as_users_see_it(cloud, image_id) == before
    for name, rows in cloud.tables.of_image(image_id).items():
        assert rows, name
        for row in rows:
            assert not row["deleted"], (name, row)
            assert row["deleted_at"] is None, (name, row)

    cloud.glance.remove_location(image_id, "fast")
    assert cloud.scrub().exit_status == 0
    assert cloud.glance.download(image_id) == data


def test_glance_purges_a_restored_image_no_more(cloud: Cloud) -> None:
    data = os.urandom(100)
    image_id, other = rich_image(cloud, data), cloud.deleted("fast")
    cloud.glance.delete(image_id)
    assert cloud.scrub("--image", other).exit_status == 0
    cloud.age(image_id, 60 * 24 * HOUR)
    cloud.age(other, 60 * 24 * HOUR)

    assert cloud.restore(image_id).exit_status == 0
    purged = cloud.glance.manage("db", "purge", "--age_in_days", "30")
    assert purged.returncode == 0, purged.stderr
    images = cloud.glance.manage("db", "purge_images_table", "--age_in_days", "30")
    assert images.returncode == 0, images.stderr

    assert other not in cloud.tables.statuses()
    assert cloud.glance.download(image_id) == data
    assert cloud.glance.admin.images.get(image_id)["os_distro"] == "debian"


def test_what_was_removed_before_the_delete_stays_removed(cloud: Cloud) -> None:
    """But for properties: Glance itself stamps all of them again when it deletes the image."""
    data = os.urandom(100)
    image_id = rich_image(cloud, data)
    admin = cloud.glance.admin
    cloud.glance.remove_location(image_id, "slow")
    admin.image_tags.update(image_id, "outdated")
    admin.image_tags.delete(image_id, "outdated")
    admin.image_members.create(image_id, "moved away")
    admin.image_members.delete(image_id, "moved away")
    gone = [
        (name, row["id"])
        for name, rows in cloud.tables.of_image(image_id).items()
        for row in rows
        if row["deleted"]
    ]
    assert len(gone) == 3
    cloud.age(image_id, 2 * HOUR)
    cloud.glance.delete(image_id)

    result = cloud.restore(image_id)

    assert result.exit_status == 0, str(result)
    assert [row["store"] for row in result.document["restored"]] == ["fast"]
    shown = as_users_see_it(cloud, image_id)
    assert (shown["os_distro"], shown["tags"], shown["members"]) == (
        "debian",
        ["golden"],
        ["neighbour"],
    )
    assert shown["stores"] == ["fast"]
    still_gone = [
        (name, row["id"])
        for name, rows in cloud.tables.of_image(image_id).items()
        for row in rows
        if row["deleted"]
    ]
    assert still_gone == gone
    assert cloud.glance.download(image_id) == data
    assert cloud.scrub().outcomes_by_store == {"slow": {"deleted": 1}}
    assert cloud.glance.download(image_id) == data


def test_a_half_deleted_image_comes_back_whole(cloud: Cloud) -> None:
    data = os.urandom(100)
    image_id = rich_image(cloud, data)
    before = as_users_see_it(cloud, image_id)
    cloud.staging.crash_before_destroy(image_id=image_id)
    early = cloud.restore(image_id)
    assert early.exit_status == 1
    assert "Glance is deleting image" in str(early), "it may not have crashed"
    cloud.age(image_id, 61)

    result = cloud.restore(image_id)

    assert result.exit_status == 0, str(result)
    aged = {"created_at": before["created_at"]}
    assert as_users_see_it(cloud, image_id) | aged == before
    assert cloud.glance.download(image_id) == data


def test_a_late_copy_comes_back_too(cloud: Cloud) -> None:
    data = os.urandom(100)
    image_id = cloud.upload("fast", data=data)
    late = cloud.file(image_id, "slow")
    late.write_bytes(data)
    cloud.staging.delete_during_copy(image_id=image_id, url=f"file://{late}", store="slow")

    result = cloud.restore(image_id)

    assert result.exit_status == 0, str(result)
    assert [row["store"] for row in result.document["restored"]] == ["fast", "slow"]
    cloud.glance.remove_location(image_id, "fast")
    assert cloud.glance.download(image_id) == data


def test_encrypted_urls_come_back(encrypted_cloud: Cloud) -> None:
    cloud, data = encrypted_cloud, os.urandom(100)
    image_id = rich_image(cloud, data)
    cloud.glance.delete(image_id)
    assert cloud.restore(image_id).exit_status == 0
    assert cloud.glance.download(image_id) == data


# Copies that are not whole ---------------------------------------------------------------


@pytest.mark.parametrize("damage", ["lost", "truncated"])
def test_an_image_comes_back_with_the_copy_that_is_whole(cloud: Cloud, damage: str) -> None:
    data = os.urandom(1000)
    image_id = rich_image(cloud, data)
    cloud.glance.delete(image_id)
    if damage == "lost":
        cloud.file(image_id, "fast").unlink()
    else:
        os.truncate(cloud.file(image_id, "fast"), 999)

    result = cloud.restore(image_id)

    assert result.exit_status == 0, str(result)
    assert [row["store"] for row in result.document["restored"]] == ["slow"]
    assert [row["store"] for row in result.document["lost"]] == ["fast"]
    (warning,) = result.document["warnings"]
    assert "store fast" in warning
    assert f"WARNING: {warning}" in result.stderr
    assert cloud.glance.download(image_id) == data
    # The lost copy is now a removed location; finishing it must not cost the other.
    scrubbed = cloud.scrub()
    assert scrubbed.exit_status == 0, str(scrubbed)
    assert cloud.tables.location_statuses(image_id) == ["deleted", "active"]
    assert cloud.glance.download(image_id) == data


@pytest.mark.parametrize("damage", ["lost", "truncated"])
def test_an_image_without_a_whole_copy_does_not_come_back(cloud: Cloud, damage: str) -> None:
    image_id = rich_image(cloud, os.urandom(1000))
    cloud.glance.delete(image_id)
    for store in ("fast", "slow"):
        file = cloud.file(image_id, store)
        if damage == "lost":
            file.unlink()
        else:
            os.truncate(file, 999)
    before = cloud.tables.dump()

    message = refused(cloud.restore(image_id))

    assert message.startswith(f"no whole copy of image {image_id} is found")
    assert "store fast" in message
    assert "store slow" in message
    assert cloud.tables.dump() == before
    assert refused(cloud.restore(image_id, "--force")).startswith("no whole copy")


def test_a_scrubbed_image_does_not_come_back(cloud: Cloud) -> None:
    image_id = cloud.deleted("fast")
    assert cloud.scrub().exit_status == 0

    message = refused(cloud.restore(image_id))

    assert message == (
        "cannot restore the image from deleted to active (wanted from_state=pending_delete)"
    )


def test_a_store_that_cannot_be_asked_is_no_reason_to_lose_or_to_restore(cloud: Cloud) -> None:
    data = os.urandom(100)
    image_id = cloud.upload("fast", data=data)
    cloud.glance.delete(image_id)
    fast = cloud.data_directories["fast"]
    aside = fast.rename(fast.with_name("aside"))
    before = cloud.tables.dump()

    result = program.run(cloud.configuration(), "--restore", image_id)

    assert refused(result).startswith(f"no whole copy of image {image_id} is found")
    assert "--force" in result.document["error"]
    assert cloud.tables.dump() == before
    aside.rename(fast)
    assert cloud.restore(image_id).exit_status == 0
    assert cloud.glance.download(image_id) == data


# Claims ----------------------------------------------------------------------------------


def test_a_claimed_image_comes_back_when_the_claim_is_released(cloud_on_database: Cloud) -> None:
    cloud, data = cloud_on_database, os.urandom(100)
    image_id = rich_image(cloud, data)
    cloud.glance.delete(image_id)
    claimed = [cloud.tables.locations(image_id)[1]["id"]]
    cloud.tables.claim(claimed)
    before = cloud.tables.dump()

    message = refused(cloud.restore(image_id))
    assert f"location {claimed[0]} of image {image_id} is being scrubbed right now" in message
    assert refused(cloud.restore(image_id, "--force")) == message, "force is for the dead only"
    assert cloud.tables.dump() == before

    releaser = threading.Timer(2, cloud.tables.release, [claimed])
    releaser.start()
    result = cloud.restore(image_id, "--wait", "60")
    releaser.join()

    assert result.exit_status == 0, str(result)
    assert cloud.glance.download(image_id) == data


def test_waiting_for_a_claim_ends(cloud: Cloud) -> None:
    image_id = cloud.deleted("fast")
    cloud.tables.claim([cloud.tables.locations(image_id)[0]["id"]])
    assert "is being scrubbed right now" in refused(cloud.restore(image_id, "--wait", "1"))


def test_a_lapsed_claim_falls_to_force_alone(cloud: Cloud) -> None:
    data = os.urandom(100)
    image_id = cloud.upload("fast", data=data)
    cloud.glance.delete(image_id)
    cloud.age(image_id, HOUR)
    cloud.tables.claim([cloud.tables.locations(image_id)[0]["id"]], seconds_ago=400)
    before = cloud.tables.dump()

    for flags in ((), ("--wait", "1")):
        message = refused(cloud.restore(image_id, *flags))
        assert "not been heard of since" in message
        assert "--force" in message
    assert cloud.tables.dump() == before

    assert cloud.restore(image_id, "--force").exit_status == 0
    assert cloud.glance.download(image_id) == data


def test_another_image_with_the_same_bytes_that_is_claimed_forbids_it(cloud: Cloud) -> None:
    data = os.urandom(100)
    image_id, other = cloud.upload("fast", data=data), cloud.upload("slow")
    url = f"file://{cloud.data_directories['fast']}/../fast//{image_id}"
    cloud.staging.add_location(image_id=other, url=url, store="fast")
    cloud.glance.delete(other)
    cloud.glance.delete(image_id)
    claimed = cloud.tables.location(other, "fast")["id"]
    cloud.tables.claim([claimed])
    before = cloud.tables.dump()

    message = refused(cloud.restore(image_id))

    assert f"location {claimed} of image {other} is being scrubbed right now" in message
    assert cloud.tables.dump() == before
    cloud.tables.release([claimed])
    assert cloud.restore(image_id).exit_status == 0
    # Now the other's location is that of a live image.
    scrubbed = cloud.scrub()
    assert (scrubbed.exit_status, scrubbed.outcomes) == (0, {"deleted": 1, "shared": 1}), str(
        scrubbed
    )
    assert cloud.glance.download(image_id) == data


# Beside daemons --------------------------------------------------------------------------


def test_images_come_back_while_a_daemon_runs(cloud: Cloud) -> None:
    options = {"DEFAULT": {"wakeup_time": 0, "scrub_time": HOUR}}
    data = {cloud.upload("fast", data=(own := os.urandom(100))): own for _ in range(4)}
    first = cloud.deleted("slow")
    cloud.age(first, 2 * HOUR)
    with cloud.start("--daemon", options=options) as daemon:
        wait_until(lambda: daemon.documents, what="the daemon's first run")
        for image_id in data:
            cloud.glance.delete(image_id)
        restored = [cloud.restore(image_id) for image_id in list(data)[:2]]
        assert [result.exit_status for result in restored] == [0, 0], str(restored)
        for image_id in data:
            cloud.age(image_id, 2 * HOUR)
        wait_until(
            lambda: list(cloud.tables.statuses().values()).count("deleted") == 3,
            what="the daemon scrubs what was not restored",
        )
        runs = len(daemon.documents)
        wait_until(lambda: len(daemon.documents) > runs + 1, what="another run")
        assert daemon.terminate().exit_status == 0

    back, gone = list(data)[:2], list(data)[2:]
    for image_id in back:
        assert cloud.glance.download(image_id) == data[image_id]
    cloud.check_scrubbed([*gone, first])


# The command line ------------------------------------------------------------------------


def test_the_texts_that_scripts_look_for(cloud: Cloud) -> None:
    live = cloud.keep("fast")
    unknown = "11111111-2222-3333-4444-555555555555"

    assert refused(cloud.restore(live)) == (
        "cannot restore the image from active to active (wanted from_state=pending_delete)"
    )
    assert refused(cloud.restore(unknown)) == f"No image found with ID {unknown}"
    for flags in (["-D"], ["--daemon", "true"]):
        assert refused(cloud.restore(live, *flags)).startswith(
            "The restore and daemon options should not be set together"
        )


def test_a_file_that_says_daemon_forbids_neither_restore_nor_dry_run(cloud: Cloud) -> None:
    daemon = {"DEFAULT": {"daemon": True}}
    image_id = cloud.deleted("fast")
    rehearsal = cloud.scrub("--dry-run", options=daemon)
    assert (rehearsal.exit_status, rehearsal.outcomes) == (0, {"deleted": 1}), str(rehearsal)

    assert cloud.restore(image_id, options=daemon).exit_status == 0

    assert cloud.tables.statuses()[image_id] == "active"
    assert cloud.scrub("--nodaemon", options=daemon).exit_status == 0


def test_people_read_one_line(cloud: Cloud) -> None:
    image_id = cloud.deleted("fast")
    configuration: Path = cloud.configuration()
    result = program.run(configuration, "--restore", image_id, format="text")
    assert result.exit_status == 0, str(result)
    assert result.stdout == f"Image {image_id} is active again, with its bytes in fast.\n"
    again = program.run(configuration, "--restore", image_id, format="text")
    assert (again.exit_status, again.stdout) == (1, "")
    assert again.stderr.startswith("ERROR: cannot restore the image from active to active")


def test_a_destroyed_encryption_key_is_named(cloud: Cloud) -> None:
    image_id = cloud.deleted("fast", cinder_encryption_key_deletion_policy="on_image_deletion")
    result = cloud.restore(image_id)
    assert result.exit_status == 0, str(result)
    (warning,) = result.document["warnings"]
    assert "cinder_encryption_key_deletion_policy" in warning

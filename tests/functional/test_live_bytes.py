"""No run deletes bytes that a live image uses, however the rows that name them are spelt."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from functional.cloud import Cloud

#: A path as it can be spelt by whoever may write a location.
SPELLINGS: dict[str, Callable[[Path], str]] = {
    "plain": lambda path: f"file://{path}",
    "two slashes": lambda path: f"file://{path.parent}//{path.name}",
    "dot": lambda path: f"file://{path.parent}/./{path.name}",
    "dots": lambda path: f"file://{path.parent}/x/../{path.name}",
    "dots above": lambda path: f"file://{path.parent}/../{path.parent.name}/{path.name}",
    "localhost": lambda path: f"file://localhost{path}",
    "other scheme": lambda path: f"filesystem://{path}",
    "leading slashes": lambda path: f"file:////{path}",
}
#: To the file store a percent sign is a letter like any other, to other readers of URLs not.
PERCENT: dict[str, Callable[[Path], str]] = {
    "percent": lambda path: f"file://{path.parent}/%{ord(path.name[0]):02x}{path.name[1:]}",
    "percent slash": lambda path: f"file://{path.parent}%2f{path.name}",
}


@pytest.fixture(params=["plain", "encrypted"])
def any_cloud(request: pytest.FixtureRequest) -> Cloud:
    """Location URLs as they are, and encrypted."""
    cloud: Cloud = request.getfixturevalue(
        "cloud" if request.param == "plain" else "encrypted_cloud"
    )
    return cloud


def pending_with(cloud: Cloud, url: str, store: str = "fast") -> str:
    """A deleted image of its own bytes in ``slow``, and of this URL."""
    image_id = cloud.upload("slow")
    cloud.staging.add_location(image_id=image_id, url=url, store=store)
    cloud.glance.delete(image_id)
    return image_id


# Bytes shared with a live image -----------------------------------------------------------


def test_a_pending_row_that_names_a_live_images_file_costs_nothing(any_cloud: Cloud) -> None:
    cloud = any_cloud
    images = {}
    for name, spell in (SPELLINGS | PERCENT).items():
        images[name] = pending_with(cloud, spell(cloud.file(cloud.keep("fast"))))
    elsewhere = images.pop("percent slash")

    result = cloud.scrub()

    assert result.exit_status == 3, str(result)
    assert result.outcomes_by_store == {
        # A file of the name with the percent sign never was there.
        "fast": {"shared": len(SPELLINGS), "gone": 1, "refused": 1},
        "slow": {"deleted": len(images) + 1},
    }
    assert result.left_images == {elsewhere}
    cloud.check_scrubbed(images.values())


def test_a_live_row_that_names_a_deleted_images_file_keeps_it(any_cloud: Cloud) -> None:
    cloud = any_cloud
    files = {}
    for name, spell in (SPELLINGS | PERCENT).items():
        image_id = cloud.upload("fast")
        files[name] = cloud.file(image_id)
        live = cloud.keep("slow")
        cloud.staging.add_location(image_id=live, url=spell(files[name]), store="fast")
        cloud.glance.delete(image_id)

    result = cloud.scrub()

    assert result.exit_status == 0, str(result)
    assert result.outcomes == {"shared": len(files)}
    assert [name for name, file in files.items() if not file.exists()] == []


def test_a_live_row_of_an_unknown_store_keeps_the_file(cloud: Cloud) -> None:
    image_id, live = cloud.upload("fast"), cloud.keep("slow")
    file = cloud.file(image_id)
    cloud.staging.add_location(image_id=live, url=f"file://{file}", store="renamed")
    cloud.glance.delete(image_id)
    assert cloud.scrub().outcomes == {"shared": 1}
    assert file.exists()


def test_an_image_that_is_not_deleted_is_live_whatever_its_status(cloud: Cloud) -> None:
    files = {}
    for status in ("deactivated", "queued", "saving", "killed"):
        live = cloud.upload("fast")
        files[status] = cloud.file(live)
        pending_with(cloud, f"file://{files[status]}")
        cloud.tables.change_image(live, status=status)

    result = cloud.scrub()

    assert result.exit_status == 0, str(result)
    assert result.outcomes == {"deleted": 4, "shared": 4}
    assert [status for status, file in files.items() if not file.exists()] == []


def test_a_file_that_glance_may_be_writing_for_another_image_stays(cloud: Cloud) -> None:
    """An upload has no location until its end, but its file has the image's name."""
    uploading = cloud.client("project").images.create(
        name="uploading", disk_format="raw", container_format="bare"
    )
    file = cloud.file(uploading.id)
    file.write_bytes(b"half of it")
    image_id = pending_with(cloud, f"file://{file}")
    cloud.tables.change_image(uploading.id, status="saving")

    result = cloud.scrub()

    row = cloud.tables.location(image_id, "fast")
    assert result.exit_status == 3, str(result)
    assert result.left[row["id"]] == ("waiting", "Glance may be writing it for another image")
    assert row["updated_at"] == row["deleted_at"], "still claimed"
    assert cloud.tables.image(image_id)["status"] == "pending_delete"
    assert file.exists()


def test_two_deleted_images_of_one_file_are_finished_with_one_delete(any_cloud: Cloud) -> None:
    cloud = any_cloud
    first = cloud.upload("fast")
    path = cloud.file(first)
    others = [pending_with(cloud, spell(path)) for spell in SPELLINGS.values()]
    cloud.glance.delete(first)

    result = cloud.scrub()

    assert result.exit_status == 0, str(result)
    outcomes = result.outcomes_by_store["fast"]
    assert outcomes.pop("deleted") == 1
    # "gone" where the other's delete was over before.
    assert outcomes.keys() <= {"shared", "gone"}
    assert sum(outcomes.values()) == len(others)
    cloud.check_scrubbed([first, *others])


def test_a_restored_image_keeps_its_bytes(any_cloud: Cloud) -> None:
    cloud = any_cloud
    image_id = cloud.upload("fast", data=(data := os.urandom(50)))
    twin = pending_with(cloud, f"file://{cloud.file(image_id)}")
    cloud.glance.delete(image_id)
    assert cloud.restore(image_id).exit_status == 0

    result = cloud.scrub()

    assert (result.exit_status, result.outcomes) == (0, {"shared": 1, "deleted": 1}), str(result)
    assert cloud.glance.download(image_id) == data
    cloud.check_scrubbed([twin])


def test_the_bytes_of_a_wreck_are_live(cloud: Cloud) -> None:
    wreck = cloud.upload("fast")
    pending_with(cloud, f"file://{cloud.file(wreck)}")
    cloud.staging.crash_in_delete(image_id=wreck)
    result = cloud.scrub()
    assert (result.exit_status, result.outcomes) == (3, {"refused": 1, "shared": 1, "deleted": 1})
    assert cloud.file(wreck).exists()


# What is no image file -------------------------------------------------------------------


def test_nothing_but_image_files_below_the_data_directory_is_ever_deleted(
    any_cloud: Cloud, tmp_path: Path
) -> None:
    cloud = any_cloud
    fast = cloud.data_directories["fast"]
    outside = tmp_path / "outside"
    outside.write_text("not an image")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("not an image")
    (fast / "link").symlink_to(outside)
    (fast / "dangling").symlink_to(tmp_path / "nowhere")
    (fast / "folder-link").symlink_to(tmp_path / "folder")
    (fast / "folder").mkdir()
    (fast / "folder" / "file").write_text("in it")
    os.mkfifo(fast / "pipe")
    beside = fast.with_name("fast-but-another")
    beside.mkdir(exist_ok=True)
    (beside / "file").write_text("not an image")
    urls = {
        "outside the data directories": f"file://{outside}",
        "outside by dots": f"file://{fast}/../../../{outside.relative_to(fast.parents[2])}"
        if outside.is_relative_to(fast.parents[2])
        else f"file://{fast}/../fast-but-another/file",
        "a directory of a similar name": f"file://{beside}/file",
        "the data directory itself": f"file://{fast}",
        "the data directory by dots": f"file://{fast}/folder/..",
        "a symbolic link": f"file://{fast}/link",
        "a dangling link": f"file://{fast}/dangling",
        "below a symbolic link": f"file://{fast}/folder-link/file",
        "a directory": f"file://{fast}/folder",
        "a pipe": f"file://{fast}/pipe",
        "below a file": f"file://{fast}/pipe/file",
        "another host": f"file://another{fast}/folder/file",
        "a relative path": "file://folder/file",
        "a query": f"file://{fast}/folder/file?x",
    }
    images = {name: pending_with(cloud, url) for name, url in urls.items()}
    good = cloud.deleted("fast")

    result = cloud.scrub()

    assert result.exit_status == 3, str(result)
    assert result.outcomes_by_store["fast"] == {"deleted": 1, "refused": len(urls)}
    for name, image_id in images.items():
        row = cloud.tables.locations(image_id)[1]
        outcome, reason = result.left[row["id"]]
        assert (outcome, bool(reason)) == ("refused", True), name
        assert row["status"] == "pending_delete", name
        assert row["updated_at"] == row["deleted_at"], f"{name}: still claimed"
        assert cloud.tables.image(image_id)["status"] == "pending_delete", name
    assert outside.read_text() == "not an image"
    assert (tmp_path / "folder" / "file").exists()
    assert (beside / "file").exists()
    assert (fast / "folder" / "file").exists()
    assert {"link", "dangling", "folder-link", "pipe"} <= cloud.files("fast")
    cloud.check_scrubbed([good])

"""Rows that are old, foreign or damaged: scrubbed where that is safe, else named with a reason."""

import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from functional.cloud import Cloud
from functional.conftest import NewCloud, with_live_images
from lab.glance import store_options

KEY = "0123456789abcdef"
OTHER_KEY = "another key 16 b"


# Rows without a usable store id ----------------------------------------------------------


def test_rows_without_a_store_belong_to_the_store_whose_files_they_name(cloud: Cloud) -> None:
    null, empty, nothing = (cloud.upload("fast") for _ in range(3))
    legacy = cloud.upload("slow")
    for image_id, meta_data in ((null, None), (empty, "{}"), (nothing, "null"), (legacy, None)):
        cloud.glance.delete(image_id)
        (row,) = cloud.tables.locations(image_id)
        cloud.tables.change_location(row["id"], meta_data=meta_data)

    result = cloud.scrub()

    assert result.exit_status == 0, str(result)
    assert result.outcomes_by_store == {"fast": {"deleted": 3}, "slow": {"deleted": 1}}
    cloud.check_scrubbed([null, empty, nothing, legacy])


def test_images_of_a_renamed_store_are_scrubbed_under_its_new_name(cloud: Cloud) -> None:
    image_id = cloud.deleted("fast")
    renamed = store_options(
        {"quick": cloud.data_directories["fast"], "slow": cloud.data_directories["slow"]}
    )

    result = cloud.scrub(options=renamed)

    assert result.exit_status == 0, str(result)
    assert result.outcomes_by_store == {"quick": {"deleted": 1}}
    cloud.check_scrubbed([image_id])


def test_images_of_a_store_that_is_not_configured_wait_for_it(cloud: Cloud) -> None:
    there, away = cloud.deleted("slow"), cloud.deleted("fast")
    both = cloud.upload("fast")
    cloud.glance.copy_to(both, "slow")
    cloud.glance.delete(both)
    before = cloud.tables.of_image(away)
    only_slow = store_options({"slow": cloud.data_directories["slow"]})

    result = cloud.scrub(options=only_slow)

    (row,) = cloud.tables.locations(away)
    assert result.exit_status == 3, str(result)
    assert result.outcomes == {"deleted": 2, "refused": 2}
    assert result.left[row["id"]] == (
        "refused",
        "store fast is not configured, and no configured store could hold such a URL",
    )
    assert cloud.tables.of_image(away) == before
    assert cloud.file(away).exists()
    cloud.check_scrubbed([there])
    assert cloud.tables.image(both)["status"] == "pending_delete"
    assert cloud.tables.location(both, "slow")["status"] == "deleted"

    assert cloud.scrub().exit_status == 0
    cloud.check_scrubbed([there, away, both])


def test_nobody_guesses_between_two_stores(cloud: Cloud, tmp_path: Path) -> None:
    """Two store ids for one directory, as after a careless migration."""
    image_id = cloud.deleted("fast")
    (row,) = cloud.tables.locations(image_id)
    cloud.tables.change_location(row["id"], meta_data=None)
    fast = cloud.data_directories["fast"]

    result = cloud.scrub(options=store_options({"one": fast, "two": fast}))

    assert result.exit_status == 3, str(result)
    assert result.left[row["id"]] == (
        "refused",
        "names no store, and several stores could hold such a URL",
    )
    assert cloud.file(image_id).exists()


# Damaged rows ----------------------------------------------------------------------------


def test_damaged_rows_are_named_and_stop_no_other(cloud: Cloud) -> None:
    damage = {
        "metadata that is not JSON": {"meta_data": "{store"},
        "metadata that is a list": {"meta_data": '["fast"]'},
        "a store that is a number": {"meta_data": '{"store": 7}'},
        "no URL": {"value": ""},
        "text that is no URL": {"value": "somewhere"},
        "a foreign scheme": {"value": "sheepdog://host/image"},
        "a URL of two lines": {"value": "file:///etc/passwd\nERROR: forged"},
        "a store that forges a line": {"meta_data": '{"store": "x\\nERROR: forged"}'},
        "a store with credentials": {"value": "swift+https://user:s3cret@host/container/object"},
    }
    images = {}
    for name, values in damage.items():
        images[name] = cloud.deleted("fast")
        (row,) = cloud.tables.locations(images[name])
        cloud.tables.change_location(row["id"], **values)
    good = [cloud.deleted("fast") for _ in range(3)]
    before = {image_id: cloud.tables.of_image(image_id) for image_id in images.values()}

    result = cloud.scrub("--debug")

    assert result.exit_status == 3, str(result)
    assert result.outcomes == {"deleted": 3, "refused": len(damage)}
    assert "s3cret" not in result.stdout + result.stderr
    assert "forged" not in result.stdout
    assert not [line for line in result.stderr.splitlines() if line.startswith("ERROR: forged")]
    for name, image_id in images.items():
        (row,) = cloud.tables.locations(image_id)
        assert result.left[row["id"]][0] == "refused", name
        assert result.reason(row["id"]), name
        assert cloud.tables.of_image(image_id) == before[image_id], name
        assert cloud.file(image_id).exists(), name
    cloud.check_scrubbed(good)
    # It stays so, run after run, and an operator sees it each time.
    assert cloud.scrub().outcomes == {"refused": len(damage)}


def test_a_damaged_row_cannot_be_restored(cloud: Cloud) -> None:
    image_id = cloud.deleted("fast")
    (row,) = cloud.tables.locations(image_id)
    cloud.tables.change_location(row["id"], value="somewhere")
    result = cloud.restore(image_id)
    assert result.exit_status == 1, str(result)
    assert result.document["error"].startswith(f"no whole copy of image {image_id} is found")


# Encrypted URLs --------------------------------------------------------------------------


def test_encrypted_and_plain_urls_stand_side_by_side(encrypted_cloud: Cloud) -> None:
    cloud = encrypted_cloud
    encrypted, plain = cloud.upload("fast"), cloud.upload("fast")
    cloud.glance.copy_to(encrypted, "slow")
    for image_id in (encrypted, plain):
        cloud.glance.delete(image_id)
    (row,) = cloud.tables.locations(plain)
    assert "file" not in row["value"]
    cloud.tables.change_location(row["id"], value=f"file://{cloud.file(plain)}")
    removed = cloud.keep("fast")
    cloud.glance.copy_to(removed, "slow")
    cloud.glance.remove_location(removed, "slow")

    result = cloud.scrub()

    assert (result.exit_status, result.outcomes) == (0, {"deleted": 4}), str(result)
    cloud.check_scrubbed([encrypted, plain])


def test_a_url_encrypted_with_another_key_stops_no_other(encrypted_cloud: Cloud) -> None:
    cloud = encrypted_cloud
    poisoned = [cloud.deleted("fast") for _ in range(20)]
    for image_id in poisoned:
        (row,) = cloud.tables.locations(image_id)
        url = cloud.staging.encrypt(key=OTHER_KEY, url=f"file://{cloud.file(image_id)}")
        cloud.tables.change_location(row["id"], value=url)
    good = [cloud.deleted("fast") for _ in range(3)]

    result = cloud.scrub("--debug")

    assert result.exit_status == 3, str(result)
    assert result.outcomes == {"deleted": 3, "refused": 20}
    assert {reason for _, reason in result.left.values()} == {
        "the URL cannot be decrypted with metadata_encryption_key"
    }
    assert result.left_images == set(poisoned)
    assert KEY not in result.stdout + result.stderr
    assert all(cloud.file(image_id).exists() for image_id in poisoned)
    cloud.check_scrubbed(good)


@pytest.mark.parametrize("key", [OTHER_KEY, None])
def test_a_live_url_that_cannot_be_read_stops_the_run(
    encrypted_cloud: Cloud, key: str | None
) -> None:
    """Nobody can say which bytes it uses."""
    cloud = encrypted_cloud
    plain = cloud.deleted("fast")
    (row,) = cloud.tables.locations(plain)
    cloud.tables.change_location(row["id"], value=f"file://{cloud.file(plain)}")
    before = cloud.tables.dump()
    # An empty value is what an operator gets who leaves the option as it is in the sample.
    options = {"DEFAULT": {"metadata_encryption_key": key or ""}}

    result = cloud.scrub(options=options)

    assert result.exit_status == 1, str(result)
    assert result.document["status"] == "failed"
    assert "metadata_encryption_key" in result.document["error"]
    assert cloud.tables.dump() == before
    assert cloud.file(plain).exists()

    ignored = cloud.scrub(options={**options, "scrubber": {"unreadable_live": "ignore"}})
    assert (ignored.exit_status, ignored.outcomes) == (0, {"deleted": 1}), str(ignored)


# Locations on web servers ----------------------------------------------------------------


@pytest.fixture
def web_server(tmp_path: Path) -> Iterator[http.server.HTTPServer]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, directory=str(tmp_path), **kwargs)  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

    (tmp_path / "image").write_bytes(os.urandom(50))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_location_on_a_web_server_is_finished_with_a_warning(
    clouds: NewCloud, web_server: http.server.HTTPServer
) -> None:
    web = {
        "DEFAULT": {"enabled_backends": "fast:file,slow:file,web:http"},
        "web": {"http_timeout": 5},
    }
    cloud = with_live_images(clouds(options=web))
    url = f"http://127.0.0.1:{web_server.server_port}/image"
    image_id, plain = cloud.upload("fast"), cloud.deleted("fast")
    cloud.staging.add_location(image_id=image_id, url=url, store="web")
    cloud.glance.delete(image_id)

    result = cloud.scrub(options=web)

    assert result.exit_status == 0, str(result)
    assert result.outcomes == {"deleted": 2, "external": 1}
    assert result.outcomes_by_store["web"] == {"external": 1}
    (warning,) = [line for line in result.stderr.splitlines() if "web server" in line]
    assert "nothing to delete of 1 location" in warning
    cloud.check_scrubbed([image_id, plain])

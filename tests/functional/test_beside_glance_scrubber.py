"""Glance's own scrubber may still run somewhere, on the same rows and at the same time."""

import subprocess
import threading

import pytest
import sqlalchemy as sa

from functional.cloud import Cloud
from functional.conftest import NewCloud, with_live_images
from functional.program import Disk
from lab.processes import wait_until

#: So slow that the other one gets its share of the work.
SLOWLY = {"DEFAULT": {"scrub_pool_size": 2}, "scrubber": {"page_size": 20}}
#: Both of them want every name at the same time.
THEIRS = {"DEFAULT": {"scrub_pool_size": 4}, "oslo_concurrency": {}}


def statuses(cloud: Cloud) -> set[tuple[str, str]]:
    """Those of all deleted images and of their locations."""
    images, locations = cloud.tables.table("images"), cloud.tables.table("image_locations")
    both = sa.select(images.c.status, locations.c.status.label("of_location"))
    both = both.join(locations, locations.c.image_id == images.c.id).where(images.c.deleted)
    return {(row["status"], row["of_location"]) for row in cloud.tables.read(both)}


@pytest.mark.parametrize("server", ["mariadb", "postgresql"])
def test_two_kinds_of_scrubbers_at_once(clouds: NewCloud, server: str) -> None:
    """All goes, nothing else does, and ours takes what the other did for what it is."""
    cloud = with_live_images(clouds(server))
    images = cloud.many_deleted(100)
    theirs: list[subprocess.CompletedProcess[str]] = []

    def run_theirs() -> None:
        theirs.append(cloud.glance.run_upstream_scrubber(options=THEIRS))

    upstream = threading.Thread(target=run_theirs)
    with cloud.start(options=SLOWLY, disk=Disk(0.1)) as ours:
        # It reads its list once, at its start: what ours has is in it.
        wait_until(lambda: len(cloud.files("fast")) < 100, what="a first delete")
        upstream.start()
        result = ours.result()
    upstream.join()

    assert theirs[0].returncode == 0, theirs[0].stderr
    assert result.exit_status == 0, str(result)
    assert result.document["alarms"] == []
    assert result.outcomes.keys() <= {"deleted", "gone"}
    cloud.check_scrubbed(images)
    cloud.check_kept()
    assert statuses(cloud) == {("deleted", "deleted")}


def test_what_glances_own_has_marked_without_its_bytes_is_not_undone(clouds: NewCloud) -> None:
    """It marks a location deleted whose file it did not find; ours has nothing to say to that."""
    cloud = with_live_images(clouds("mariadb"))
    image = cloud.deleted("fast")
    cloud.file(image).unlink()
    assert cloud.glance.run_upstream_scrubber(options=THEIRS).returncode == 0
    result = cloud.scrub()
    assert (result.exit_status, result.outcomes) == (0, {}), str(result)
    cloud.check_kept()

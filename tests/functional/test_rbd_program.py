"""The program and a real Glance on a real Ceph."""

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from conftest import needed_programs
from functional import program
from functional.cloud import Cloud
from functional.conftest import QUICK
from functional.program import Result
from lab.ceph import Ceph
from lab.ceph_pools import CephPool
from lab.databases import Servers
from lab.glance import Glance, Options, merge


class CephCloud:
    """A Glance with the stores ``fast``, of files, and ``ceph``."""

    def __init__(self, cloud: Cloud, pool: CephPool, options: Options) -> None:
        self.cloud = cloud
        self.pool = pool
        self._options = options

    def scrub(self, *flags: str) -> Result:
        """One run; the live images can be downloaded after it."""
        return self.cloud.scrub(*flags, options=self._options)

    def scrub_elsewhere(self, **ceph: object) -> Result:
        """One run that, with these options of store ``ceph``, may not see the live images."""
        options = merge(self._options, {"ceph": ceph})
        return program.run(self.cloud.configuration(options))


@pytest.fixture(scope="module")
def ceph_cloud(
    ceph: Ceph,
    servers: Servers,
    database_names: Iterator[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[CephCloud]:
    directory = tmp_path_factory.mktemp("ceph-cloud")
    ceph.create_pool("glance")
    options = {
        "DEFAULT": {"enabled_backends": "fast:file,ceph:rbd"},
        "ceph": {
            "rbd_store_pool": "glance",
            "rbd_store_user": "glance",
            "rbd_store_ceph_conf": ceph.create_user(
                "glance", mon="profile rbd", osd="profile rbd pool=glance"
            ),
        },
    }
    with ExitStack() as stack:
        # Glance and scrubber alike find Ceph's modules there.
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("PYTHONPATH", ceph.environment["PYTHONPATH"], prepend=os.pathsep)
        with needed_programs():
            database = servers.get("sqlite").create_database(next(database_names))
            stores = {"fast": directory / "stores" / "fast"}
            glance = Glance(directory, database, stores, options=merge(QUICK, options))
        cloud = Cloud(stack.enter_context(glance))
        stack.callback(cloud.close)
        yield CephCloud(cloud, CephPool(ceph, "glance"), options)


@pytest.fixture
def at(ceph_cloud: CephCloud) -> CephCloud:
    """The cloud with a live image in each of its stores."""
    ceph_cloud.cloud.reset()
    for image in ceph_cloud.pool.images:
        ceph_cloud.pool.wipe(image)
    for store in ("fast", "ceph"):
        ceph_cloud.cloud.keep(store)
    return ceph_cloud


def test_deleted_images_go_and_live_ones_stay(at: CephCloud) -> None:
    live = at.pool.images
    deleted = [at.cloud.deleted("ceph") for _ in range(5)]
    both = at.cloud.upload("fast")
    at.cloud.glance.copy_to(both, "ceph")
    at.cloud.glance.delete(both)

    rehearsal = at.scrub("--dry-run")
    assert rehearsal.outcomes_by_store == {"ceph": {"deleted": 6}, "fast": {"deleted": 1}}
    result = at.scrub()
    assert result.exit_status == 0, str(result)
    assert result.outcomes_by_store == {"ceph": {"deleted": 6}, "fast": {"deleted": 1}}
    assert result.document["stores"]["ceph"]["bytes_freed"] == 6 * 200
    at.cloud.check_scrubbed([*deleted, both])
    assert at.pool.images == live


def test_an_image_with_a_clone_waits_and_can_be_restored(at: CephCloud) -> None:
    data = os.urandom(500)
    image_id = at.cloud.upload("ceph", data=data)
    at.pool.clone(image_id, "volume")
    at.cloud.glance.delete(image_id)

    result = at.scrub()
    assert result.exit_status == 3, str(result)
    assert result.outcomes == {"waiting": 1}
    [(_, reason)] = result.left.values()
    assert "clones of it exist: at least 1" in reason

    assert at.scrub("--restore", image_id).exit_status == 0
    assert at.cloud.glance.download(image_id) == data
    at.cloud.glance.delete(image_id)
    at.pool.remove("volume")
    assert at.scrub().outcomes == {"deleted": 1}
    at.cloud.check_scrubbed([image_id])


def test_an_image_shared_by_an_old_url_loses_nothing(at: CephCloud) -> None:
    """Another live image's row, in the short form, names the same bytes."""
    [row] = at.cloud.tables.locations(next(iter(at.pool.images)))
    image_id = at.cloud.deleted("ceph")
    at.pool.put("another", data=b"bytes")
    at.cloud.tables.change_location(row["id"], value=f"rbd://{image_id}")
    at.cloud.kept = {name: data for name, data in at.cloud.kept.items() if name != row["image_id"]}

    result = at.scrub()
    assert result.outcomes == {"shared": 1}, str(result)
    assert image_id in at.pool.images


def test_another_cluster_of_the_same_pool_loses_nothing(at: CephCloud) -> None:
    deleted = at.cloud.deleted("ceph")
    before = at.cloud.tables.of_image(deleted)
    with Ceph("glance") as other:
        wrong = CephPool(other, "glance")
        for image in at.pool.images:
            wrong.put(image)
        images = wrong.images
        result = at.scrub_elsewhere(rbd_store_ceph_conf=other.configuration, rbd_store_user="admin")
        assert result.exit_status == 3, str(result)
        assert result.outcomes == {"refused": 1}
        assert "another Ceph cluster" in str(result.left)
        assert wrong.images == images
    assert at.cloud.tables.of_image(deleted) == before
    assert deleted in at.pool.images


def test_a_pool_without_the_live_images_is_stopped_and_no_row_is_marked(at: CephCloud) -> None:
    """Glance's own pool was renamed, and another one got its name."""
    deleted = at.cloud.deleted("ceph")
    before = at.cloud.tables.of_image(deleted)
    with at.pool.renamed("aside"):
        missing = at.scrub_elsewhere()
        at.pool.ceph.create_pool("glance")
        at.pool.put("somebody's")
        another = at.scrub_elsewhere()
        at.pool.ceph.delete_pool("glance")
    for result in (missing, another):
        assert result.exit_status == 3, str(result)
        assert list(result.document["stopped_stores"]) == ["ceph"]
        assert result.outcomes == {"waiting": 1}
    assert "rbd_store_pool" in missing.document["stopped_stores"]["ceph"]
    assert "live images" in another.document["stopped_stores"]["ceph"]
    assert at.cloud.tables.of_image(deleted) == before
    assert deleted in at.pool.images


def test_a_silent_cluster_holds_up_no_other_store(at: CephCloud) -> None:
    in_ceph, in_files = at.cloud.deleted("ceph"), at.cloud.deleted("fast")
    with at.pool.ceph.frozen("osd"):
        result = at.scrub_elsewhere(rados_connect_timeout=1)
    assert result.exit_status == 3, str(result)
    assert result.outcomes_by_store == {"ceph": {"waiting": 1}, "fast": {"deleted": 1}}
    assert list(result.document["stopped_stores"]) == ["ceph"]
    at.cloud.check_scrubbed([in_files])
    assert at.scrub().outcomes == {"deleted": 1}
    at.cloud.check_scrubbed([in_ceph])

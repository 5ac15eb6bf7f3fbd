"""Several scrubbers and a busy Glance on one database: each location is deleted exactly once."""

import threading
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from functional.cloud import Cloud
from functional.conftest import NewCloud, with_live_images
from functional.program import Disk, Running
from lab.glance import merge
from lab.processes import wait_until

#: Small pages, so that the scrubbers meet all the time.
SMALL_PAGES = {"DEFAULT": {"scrub_pool_size": 2}, "scrubber": {"page_size": 3}}
SHORT_LEASE = {
    "DEFAULT": {"scrub_pool_size": 1},
    "scrubber": {"page_size": 20, "claim_lease": 10, "call_timeout": 1},
}
AGAIN_AND_AGAIN = {"DEFAULT": {"wakeup_time": 0}, "scrubber": {"page_size": 20}}


def claimed(cloud: Cloud) -> list[str]:
    """The images that a scrubber holds."""
    locations = cloud.tables.table("image_locations")
    query = sa.select(locations.c.image_id).where(
        locations.c.status == "pending_delete", locations.c.updated_at > locations.c.deleted_at
    )
    return [row["image_id"] for row in cloud.tables.read(query)]


def none_is_pending(cloud: Cloud) -> bool:
    return "pending_delete" not in cloud.tables.statuses().values()


def test_two_scrubbers_delete_each_location_once(cloud_on_database: Cloud) -> None:
    cloud = cloud_on_database
    images = cloud.many_deleted(200)

    with (
        cloud.start(options=SMALL_PAGES, disk=Disk(0.1)) as one,
        cloud.start(options=SMALL_PAGES, disk=Disk(0.1)) as another,
    ):
        results = [one.result(), another.result()]

    cloud.check_kept()
    cloud.check_scrubbed(images)
    for result in results:
        assert result.exit_status == 0, str(result)
        assert result.outcomes.keys() == {"deleted"}, "each had its share, and nothing was gone"
        assert result.document["alarms"] == []
    assert sum(result.outcomes["deleted"] for result in results) == 200
    assert sum(result.images_scrubbed for result in results) == 200


def test_the_claims_of_a_killed_scrubber_are_taken_over_after_the_lease(
    cloud_on_database: Cloud,
) -> None:
    cloud = cloud_on_database
    images = cloud.many_deleted(60)
    with cloud.start(options=SHORT_LEASE, disk=Disk(0.1)) as victim:
        wait_until(lambda: claimed(cloud), what="a claim")
        victim.kill()
    held = set(claimed(cloud))
    assert held

    # Whatever this machine has to do meanwhile, that is within the lease.
    early = cloud.scrub(options=merge(SHORT_LEASE, {"scrubber": {"claim_lease": 300}}))

    assert early.exit_status == 0, str(early)
    assert early.document["claimed_elsewhere"]["images"] == len(held)
    statuses = cloud.tables.statuses()
    assert {at for at in images if statuses[at] == "pending_delete"} == held

    if cloud.glance.database.server != "postgresql":
        # To wait for the end of the lease once is enough.
        for image_id in held:
            cloud.age(image_id, 20)
    with cloud.start("--daemon", options=merge(SHORT_LEASE, AGAIN_AND_AGAIN)) as heir:
        wait_until(lambda: none_is_pending(cloud), what="the heir takes over", every=0.2)
        assert heir.terminate().exit_status == 0
    cloud.check_scrubbed(images)
    cloud.check_kept()


def test_a_claim_is_renewed_for_as_long_as_the_work_takes(clouds: NewCloud) -> None:
    """Nobody takes over what a slow scrubber still works on, though its lease is long over."""
    cloud = with_live_images(clouds("mariadb"))
    images = cloud.many_deleted(8)  # as many as it claims together
    options = merge(SHORT_LEASE, {"scrubber": {"page_size": 1000}})
    with cloud.start(options=options, disk=Disk(1.5)) as slow:
        wait_until(lambda: claimed(cloud), what="a claim")
        with cloud.start("--daemon", options=merge(SHORT_LEASE, AGAIN_AND_AGAIN)) as eager:
            result = slow.result()
            assert eager.terminate().exit_status == 0
            others = [report["locations"]["deleted"] for report in eager.documents]

    assert (result.exit_status, result.outcomes) == (0, {"deleted": 8}), str(result)
    assert set(others) == {0}
    assert len(others) > 5
    cloud.check_scrubbed(images)


def test_a_scrubber_that_lost_its_claims_sends_nothing_more(cloud: Cloud) -> None:
    """What was on its way when it fell asleep is all that it still deletes."""
    images = cloud.many_deleted(60)
    options = merge(SHORT_LEASE, {"scrubber": {"page_size": 1000}})
    with cloud.start(options=options, disk=Disk(0.1)) as sleeper:
        wait_until(lambda: len(cloud.files("fast")) < 60, what="the first delete")
        sleeper.freeze()
        held = claimed(cloud)
        for image_id in held:
            locations = [row["id"] for row in cloud.tables.locations(image_id)]
            cloud.tables.claim(locations, seconds_ago=100)
        heir = cloud.scrub(options=SHORT_LEASE)
        assert heir.exit_status == 0, str(heir)
        cloud.check_scrubbed(images)
        for image_id in images:
            cloud.file(image_id).write_bytes(b"the name is in use again")
        sleeper.thaw()
        result = sleeper.result()

    first_batch = 8
    assert len(set(images) - cloud.files("fast")) <= first_batch
    assert result.outcomes.get("deleted", 0) <= first_batch
    assert result.document["alarms"] == []
    cloud.check_kept()


def test_a_restore_beside_a_scrubber_at_work(clouds: NewCloud) -> None:
    """What it holds is refused, what it does not hold yet comes back whole and stays."""
    cloud = with_live_images(clouds("mariadb"))
    images = cloud.many_deleted(80)
    data = {image_id: cloud.file(image_id).read_bytes() for image_id in images}
    options = merge(SHORT_LEASE, {"scrubber": {"page_size": 5}})
    with cloud.start(options=options, disk=Disk(0.15)) as scrubber:
        first = wait_until(lambda: claimed(cloud), what="a claim")[0]
        # It goes up from where it began and round: these come long after that one.
        later = sorted(images, key=lambda at: (at < first, at))[50:52]
        restored = [cloud.restore(at) for at in later]
        # Else it might be done with that image before the restore has begun.
        held = wait_until(lambda: frozen_with_claims(cloud, scrubber), what="a claim")
        refused = cloud.restore(held[0])
        scrubber.thaw()
        result = scrubber.result()

    for at, back in zip(later, restored, strict=True):
        assert back.exit_status == 0, str(back)
        assert cloud.glance.download(at) == data[at]
    assert refused.exit_status == 1, str(refused)
    assert "is being scrubbed right now" in refused.document["error"]
    assert (result.exit_status, result.outcomes) == (0, {"deleted": 78}), str(result)
    cloud.check_scrubbed(set(images) - set(later))


def frozen_with_claims(cloud: Cloud, scrubber: Running) -> list[str]:
    """Images that it holds, their bytes still there, while it is frozen; none, and it goes on."""
    scrubber.freeze()
    locations = cloud.tables.table("image_locations")
    try:
        cloud.tables.read(sa.select(locations).with_for_update(nowait=True))
    except sa.exc.OperationalError:
        held = []  # frozen in the middle of a transaction: nobody else could do anything
    else:
        held = [at for at in claimed(cloud) if cloud.file(at).exists()]
    if not held:
        scrubber.thaw()
    return held


@pytest.mark.parametrize("server", ["mariadb", "postgresql"])
def test_glance_works_on_while_scrubbers_run(clouds: NewCloud, server: str) -> None:
    """Users upload, copy, remove and delete without noticing anything.

    Not on SQLite: there Glance alone answers two users at once with "database is locked".
    """
    cloud = with_live_images(clouds(server))
    errors: list[Exception] = []
    deleted = cloud.many_deleted(100)
    live: list[str] = []

    def use(work: Callable[[], None]) -> None:
        try:
            for _ in range(6):
                work()
        except Exception as error:
            errors.append(error)

    def come_and_go() -> None:
        image_id = cloud.upload("fast", os_distro="debian")
        cloud.glance.delete(image_id)
        deleted.append(image_id)

    def copy_and_remove() -> None:
        image_id = cloud.keep("fast")
        cloud.glance.copy_to(image_id, "slow")
        cloud.glance.remove_location(image_id, "slow")
        live.append(image_id)

    with (
        cloud.start("--daemon", options=AGAIN_AND_AGAIN) as one,
        cloud.start("--daemon", options=AGAIN_AND_AGAIN) as another,
    ):
        works = (come_and_go, come_and_go, copy_and_remove)
        users = [threading.Thread(target=use, args=(work,)) for work in works]
        for user in users:
            user.start()
        for user in users:
            user.join()
        wait_until(lambda: none_is_pending(cloud), what="all is scrubbed", every=0.2)
        ended = [one.terminate(), another.terminate()]

    assert errors == []
    for result in ended:
        assert result.exit_status == 0, str(result)
    for report in (*one.documents, *another.documents):
        assert (report["error"], report["alarms"], report["stopped_stores"]) == (None, [], {})
    cloud.check_scrubbed(deleted)
    cloud.check_kept()
    rest = cloud.scrub()
    assert rest.exit_status == 0, str(rest)
    assert not cloud.files("slow") & set(live)


@pytest.mark.parametrize("server", ["mariadb", "postgresql"])
def test_no_time_zone_moves_a_due_date_or_a_claim(clouds: NewCloud, server: str) -> None:
    """The servers run at +05:30, the scrubber anywhere."""
    cloud = clouds(server)
    cloud.keep("fast")
    young, old, claimed = (cloud.deleted("fast") for _ in range(3))
    for image_id in (old, claimed):
        cloud.age(image_id, 400)
    cloud.tables.claim([row["id"] for row in cloud.tables.locations(claimed)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "America/Caracas")
        result = cloud.scrub(options={"DEFAULT": {"scrub_time": 300}})
    assert (result.exit_status, result.outcomes) == (0, {"deleted": 1}), str(result)
    assert result.document["not_due"]["images"] == 1
    assert result.document["claimed_elsewhere"]["images"] == 1
    assert cloud.file(young).exists()
    cloud.check_scrubbed([old])

"""Whole runs of the program with a store of type cinder."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from functional import program
from functional.cloud import Cloud
from functional.conftest import NewCloud
from functional.program import Result
from lab.cinder import Cinder
from lab.glance import Options, merge

PASSWORD = "planted-secret$1"


@pytest.fixture(scope="module")
def running_cinder() -> Iterator[Cinder]:
    with Cinder(PASSWORD) as cinder:
        yield cinder


@pytest.fixture
def cinder(running_cinder: Cinder) -> Cinder:
    running_cinder.reset()
    return running_cinder


def with_cinder(cinder: Cinder, **section: Any) -> Options:
    """The stores of the cloud, and one more, ``cin``."""
    return {
        "DEFAULT": {"enabled_backends": "fast:file,slow:file,cin:cinder"},
        "cin": {**cinder.options, **section},
    }


def move(cloud: Cloud, image_id: str, volume_id: str, store: str | None = "cin") -> int:
    """As if the image had been uploaded into that volume; returns its location's id."""
    [row] = cloud.tables.locations(image_id)
    url = f"cinder://{store}/{volume_id}" if store else f"cinder://{volume_id}"
    meta_data = json.dumps({"store": store} if store else {})
    cloud.tables.change_location(row["id"], value=url, meta_data=meta_data)
    return int(row["id"])


def deleted(cloud: Cloud, volume_id: str, store: str | None = "cin") -> int:
    """A location, in that volume, of an image that was deleted."""
    return move(cloud, cloud.deleted(), volume_id, store)


def live(cloud: Cloud, volume_id: str, store: str | None = "cin") -> str:
    """A live image in that volume."""
    image_id = cloud.upload()
    move(cloud, image_id, volume_id, store)
    return image_id


def check_silent(cinder: Cinder, result: Result) -> None:
    shown = result.stdout + result.stderr
    for secret in (PASSWORD, "planted", cinder.token, cinder.url.removeprefix("http://")):
        assert secret not in shown, f"shows {secret!r}: {result}"


def statuses(cloud: Cloud, locations: list[int]) -> list[str]:
    table = cloud.tables.table("image_locations")
    rows = cloud.tables.read(table.select().where(table.c.id.in_(locations)))
    return [row["status"] for row in rows]


def test_pending_volumes_are_deleted_and_live_ones_stay(cloud: Cloud, cinder: Cinder) -> None:
    used, other = cinder.add(), cinder.add()
    live(cloud, used)
    pending = [cinder.add() for _ in range(20)]
    locations = [deleted(cloud, volume) for volume in pending]
    shared = deleted(cloud, used)
    crashed = deleted(cloud, str(uuid.uuid4()))

    result = cloud.scrub("--debug", options=with_cinder(cinder))

    assert result.exit_status == 0, str(result)
    assert result.outcomes_by_store == {"cin": {"deleted": 20, "shared": 1, "gone": 1}}
    assert set(cinder.volumes) == {used, other}
    assert set(statuses(cloud, [*locations, shared, crashed])) == {"deleted"}
    check_silent(cinder, result)


def test_a_dry_run_deletes_no_volume(cloud: Cloud, cinder: Cinder) -> None:
    live(cloud, cinder.add())
    deleted(cloud, cinder.add())
    result = cloud.scrub("--dry-run", options=with_cinder(cinder))
    assert result.outcomes_by_store == {"cin": {"deleted": 1}}
    assert len(cinder.volumes) == 2
    assert cinder.count("DELETE") == 0


def test_single_store_mode(clouds: NewCloud, cinder: Cinder) -> None:
    cloud = clouds(single_store=True)
    used, pending = cinder.add(), cinder.add()
    live(cloud, used, store=None)
    location = deleted(cloud, pending, store=None)
    options = {"glance_store": {"stores": "cinder", "default_store": "cinder", **cinder.options}}
    result = cloud.scrub("--debug", options=options)
    assert result.exit_status == 0, str(result)
    assert set(cinder.volumes) == {used}
    assert statuses(cloud, [location]) == ["deleted"]
    check_silent(cinder, result)


@pytest.mark.parametrize(
    ("requests", "status"),
    [
        ("POST .*/tokens", 401),  # the password was changed
        ("DELETE .*", 503),
        ("GET .*", 404),  # the wrong address
    ],
)
def test_a_cinder_that_fails_keeps_its_rows_and_no_other_store_waits(
    cloud: Cloud, cinder: Cinder, requests: str, status: int
) -> None:
    live(cloud, cinder.add())
    locations = [deleted(cloud, cinder.add()) for _ in range(3)]
    cloud.deleted("slow")
    with cinder.failing(requests, status):
        result = cloud.scrub("--debug", options=with_cinder(cinder))
    assert result.exit_status == 3, str(result)
    assert result.outcomes_by_store == {"cin": {"waiting": 3}, "slow": {"deleted": 1}}
    assert list(result.document["stopped_stores"]) == ["cin"]
    assert set(statuses(cloud, locations)) == {"pending_delete"}
    assert len(cinder.volumes) == 4
    check_silent(cinder, result)


def test_the_volumes_of_another_project_are_not_taken_for_deleted(
    cloud: Cloud, cinder: Cinder
) -> None:
    cinder.add()
    live(cloud, str(uuid.uuid4()))
    locations = [deleted(cloud, str(uuid.uuid4())) for _ in range(3)]
    result = cloud.scrub(options=with_cinder(cinder))
    assert result.exit_status == 3
    assert set(statuses(cloud, locations)) == {"pending_delete"}


def test_an_empty_project_is_not_believed(cloud: Cloud, cinder: Cinder) -> None:
    location = deleted(cloud, str(uuid.uuid4()))
    assert cloud.scrub(options=with_cinder(cinder)).outcomes == {"waiting": 1}
    assert statuses(cloud, [location]) == ["pending_delete"]
    accepted = cloud.scrub("--accept-missing", "cin", options=with_cinder(cinder))
    assert accepted.outcomes == {"gone": 1}


def test_volumes_that_cannot_go_wait_and_are_said(cloud: Cloud, cinder: Cinder) -> None:
    live(cloud, cinder.add())
    attached = deleted(cloud, cinder.add("in-use"))
    broken = deleted(cloud, cinder.add("error_deleting"))
    cloned = deleted(cloud, cinder.add(ends="available"))
    result = cloud.scrub(options=with_cinder(cinder))
    assert result.exit_status == 3
    assert {at: outcome for at, (outcome, _) in result.left.items()} == {
        attached: "waiting",
        broken: "failed",
        cloned: "waiting",
    }
    assert "error_deleting" in result.reason(broken)


def test_throttling_is_no_failure(cloud: Cloud, cinder: Cinder) -> None:
    location = deleted(cloud, cinder.add())
    with cinder.failing("DELETE .*", 429, headers={"Retry-After": "3600"}):
        result = cloud.scrub(options=with_cinder(cinder))
    assert result.outcomes == {"waiting": 1}
    assert statuses(cloud, [location]) == ["pending_delete"]


def test_a_restored_image_is_one_whose_volume_is_there(cloud: Cloud, cinder: Cinder) -> None:
    images = []
    for volume in (cinder.add(), cinder.add("deleting", looks=1000)):
        images.append(cloud.deleted())
        move(cloud, images[-1], volume)
    whole, going = images
    assert cloud.restore(whole, options=with_cinder(cinder)).exit_status == 0
    assert cloud.restore(going, options=with_cinder(cinder)).exit_status == 1
    assert cloud.tables.image(whole)["status"] == "active"
    assert cloud.tables.image(going)["status"] == "pending_delete"


def test_a_missing_credential_is_named(cloud: Cloud, cinder: Cinder) -> None:
    name = "cinder_store_user_name"
    options = with_cinder(cinder)
    without = {key: value for key, value in options["cin"].items() if key != name}
    result = program.run(cloud.configuration({**options, "cin": without}))
    assert result.exit_status == 1, str(result)
    assert name in result.stdout + result.stderr
    assert "[cin]" in result.stdout + result.stderr
    check_silent(cinder, result)


def test_what_the_section_does_not_set_comes_from_the_defaults_of_all(
    cloud: Cloud, cinder: Cinder
) -> None:
    """glance_store reads [backend_defaults], too."""
    live(cloud, cinder.add())
    deleted(cloud, cinder.add())
    options = with_cinder(cinder)
    shared = {"DEFAULT": options["DEFAULT"], "backend_defaults": options["cin"], "cin": {}}
    result = cloud.scrub(options=merge(shared))
    assert result.exit_status == 0, str(result)
    assert len(cinder.volumes) == 1

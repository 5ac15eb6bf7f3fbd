"""Runs of the program on images that a real Glance keeps in S3."""

import uuid
from typing import Any

import pytest
import sqlalchemy as sa

from functional import program
from functional.program import Result
from functional.s3_servers import BUCKET, STORE, S3Cloud
from lab.s3 import Proxy, S3Server

SECRETS = ("PLANTEDUSER", "PLANTEDSECRET")


def check_no_secret(result: Result, *servers: S3Server) -> None:
    keys = [key for server in servers for key in (server.access_key, server.secret_key)]
    for secret in (*SECRETS, *keys, "Authorization", "AWS4-HMAC", "X-Amz-"):
        assert secret not in result.stdout + result.stderr, secret


def many_deleted(s3_cloud: S3Cloud, count: int) -> set[str]:
    """Images like one that was deleted through the API, their objects included."""
    cloud, tables = s3_cloud.cloud, s3_cloud.cloud.tables
    model = cloud.deleted(STORE)
    image, [location] = tables.image(model), tables.locations(model)
    del location["id"]
    ids = {model}
    for _ in range(count - 1):
        image_id = str(uuid.uuid4())
        s3_cloud.server.owner.put_object(Bucket=BUCKET, Key=image_id, Body=b"bytes")
        url = location["value"].replace(model, image_id)
        tables.execute(
            sa.insert(tables.table("images")).values({**image, "id": image_id}),
            sa.insert(tables.table("image_locations")).values(
                {**location, "image_id": image_id, "value": url}
            ),
        )
        ids.add(image_id)
    return ids


def test_a_deleted_image_goes_and_a_live_one_stays(
    s3_cloud: S3Cloud,
) -> None:
    cloud = s3_cloud.cloud
    live = [cloud.keep(STORE), cloud.keep("fast")]
    both = cloud.keep("fast")
    cloud.glance.copy_to(both, STORE)
    deleted = [cloud.deleted(STORE), cloud.deleted("fast")]
    assert s3_cloud.keys() == {live[0], both, deleted[0]}

    result = cloud.scrub()

    assert result.exit_status == 0, str(result)
    assert result.outcomes_by_store == {"fast": {"deleted": 1}, STORE: {"deleted": 1}}
    cloud.check_scrubbed(deleted)
    assert s3_cloud.keys() == {live[0], both}

    cloud.glance.remove_location(both, STORE)
    assert cloud.scrub().outcomes_by_store == {STORE: {"deleted": 1}}
    assert s3_cloud.keys() == {live[0]}


def test_many_images_take_few_requests_and_connections(
    s3_cloud: S3Cloud,
    proxy: Proxy,
) -> None:
    cloud = s3_cloud.cloud
    live = cloud.keep(STORE)
    deleted = many_deleted(s3_cloud, 200)
    through_proxy = s3_cloud.section(s3_store_host=proxy.url, scrub_max_connections=4)

    result = cloud.scrub(options=through_proxy)

    assert result.exit_status == 0, str(result)
    assert result.outcomes == {"deleted": 200}
    cloud.check_scrubbed(deleted)
    assert s3_cloud.keys() == {live}
    assert not [request for request in proxy.requests if request.method == "DELETE"]
    assert len([request for request in proxy.requests if request.method == "POST"]) <= 50
    assert proxy.connections <= 16


def test_in_another_server_with_an_empty_bucket_of_that_name_nothing_is_marked(
    s3_cloud: S3Cloud,
    other_s3_server: S3Server,
) -> None:
    """S3 calls a key deleted that never was there: only live images that are missing tell."""
    cloud = s3_cloud.cloud
    for _ in range(3):
        cloud.keep(STORE)
    deleted = [cloud.deleted(STORE) for _ in range(5)]
    before, keys = cloud.tables.dump(), s3_cloud.keys()

    result = cloud.scrub(options={STORE: other_s3_server.options(BUCKET)})

    assert result.exit_status == 3, str(result)
    assert list(result.document["stopped_stores"]) == [STORE]
    assert result.outcomes == {"waiting": 5}
    assert cloud.tables.dump() == before
    assert s3_cloud.keys() == keys
    check_no_secret(result, s3_cloud.server, other_s3_server)

    assert cloud.scrub().outcomes == {"deleted": 5}
    cloud.check_scrubbed(deleted)


def test_a_bucket_that_is_not_the_stores_is_refused_until_it_is_named(
    s3_cloud: S3Cloud,
) -> None:
    cloud, owner = s3_cloud.cloud, s3_cloud.server.owner
    owner.create_bucket(Bucket="former")
    live = cloud.keep(STORE)
    image_id = cloud.deleted(STORE)
    [row] = cloud.tables.locations(image_id)
    owner.put_object(Bucket="former", Key=image_id, Body=b"bytes")
    url = row["value"].replace(f"/{BUCKET}/", "/former/")
    cloud.tables.change_location(row["id"], value=url)

    refused = cloud.scrub()
    assert refused.outcomes == {"refused": 1}, str(refused)
    assert "scrub_also_in" in refused.reason(row["id"])
    assert "Contents" in owner.list_objects_v2(Bucket="former")

    named = cloud.scrub(options=s3_cloud.section(scrub_also_in="former"))
    assert named.outcomes == {"deleted": 1}, str(named)
    assert "Contents" not in owner.list_objects_v2(Bucket="former")
    assert s3_cloud.keys() == {live, image_id}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"s3_store_secret_key": SECRETS[1]},
        {"scrub_also_in": "nowhere"},
        {"s3_store_host": "https://127.0.0.1:{port}"},
    ],
)
def test_no_secret_is_shown_whatever_goes_wrong(
    s3_cloud: S3Cloud,
    options: dict[str, Any],
) -> None:
    cloud = s3_cloud.cloud
    cloud.keep(STORE)
    fine, odd = cloud.deleted(STORE), cloud.deleted(STORE)
    planted = "s3://" + ":".join(SECRETS) + "@"
    [good_row], [odd_row] = cloud.tables.locations(fine), cloud.tables.locations(odd)
    with_credentials = good_row["value"].replace("s3://", planted)
    refused = odd_row["value"].replace("s3://", planted) + f"?{SECRETS[1]}"
    cloud.tables.change_location(good_row["id"], value=with_credentials)
    cloud.tables.change_location(odd_row["id"], value=refused)
    port = s3_cloud.server.port
    options = {name: value.format(port=port) for name, value in options.items()}

    result = program.run(cloud.configuration(s3_cloud.section(**options)), "--debug")

    assert "DEBUG" in result.stderr
    check_no_secret(result, s3_cloud.server)
    assert result.exit_status != 0
    if not options:
        assert result.outcomes == {"deleted": 1, "refused": 1}, str(result)
    else:
        assert {fine} <= s3_cloud.keys()
        assert f"[{STORE}]" in result.stdout + result.stderr

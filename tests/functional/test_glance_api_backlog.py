"""Ten thousand marked images through a real Glance: page by page, whatever goes meanwhile."""

import datetime
import gc
import uuid
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
import sqlalchemy as sa

from functional.conftest import NewCloud, with_live_images
from functional.glance_api import TAG, ApiOnly
from functional.rows import ANY_IMAGE, Tables, utcnow
from lab.glance_proxy import GlanceProxy
from scrubber.model import Candidate
from scrubber.planning.retirement import ApiImage

MANY = 10_000
PAGE = 500
AN_HOUR = datetime.timedelta(hours=1)


@pytest.fixture
def api(clouds: NewCloud) -> Iterator[ApiOnly]:
    cloud = with_live_images(clouds("mariadb", delayed_delete=False))
    with GlanceProxy(cloud.glance.url) as proxy:
        yield ApiOnly(cloud, proxy)


def add_tagged(tables: Tables, count: int) -> None:
    """Rows of images that were uploaded in the last years, an hour apart, and tagged just now.

    None of them is due: nobody looks for their bytes.
    """
    now = utcnow().replace(microsecond=0)
    ids = [str(uuid.uuid4()) for _ in range(count)]
    common = {"updated_at": now, "deleted": False}
    image = {
        "status": "active",
        "owner": "project",
        "size": 100,
        **ANY_IMAGE,
    }
    location = {"value": "file:///nowhere", "meta_data": '{"store": "fast"}', "status": "active"}
    rows = {
        "images": [
            {"id": id, "created_at": now - number * AN_HOUR, **image, **common}
            for number, id in enumerate(ids)
        ],
        "image_locations": [
            {"image_id": id, "created_at": now, **location, **common} for id in ids
        ],
        "image_tags": [{"image_id": id, "created_at": now, "value": TAG, **common} for id in ids],
    }
    for name, of_table in rows.items():
        tables.execute(*(sa.insert(tables.table(name)).values(at) for at in _chunks(of_table)))


def _chunks(rows: list[dict[str, object]]) -> Iterator[list[dict[str, object]]]:
    for first in range(0, len(rows), 1000):
        yield rows[first : first + 1000]


def held() -> int:
    """How many images of Glance's, and candidates made of them, are in this process's memory."""
    return sum(isinstance(at, ApiImage | Candidate) for at in gc.get_objects())


@pytest.mark.timeout(300)
def test_of_many_marked_images_only_a_page_is_held_and_none_is_missed(api: ApiOnly) -> None:
    due = {api.tagged("fast") for _ in range(10)}
    for number, image in enumerate(sorted(due), start=1):
        api.cloud.age(image, number * MANY / 11 * 3600)
    add_tagged(api.cloud.tables, MANY)
    most: list[int] = []
    markers: list[str] = []

    def note() -> None:
        """At each page but the first; at some, the image that it begins after is gone."""
        most.append(held())
        _, path = api.proxy.requests[-1]
        [marker] = parse_qs(urlsplit(path).query)["marker"]
        if len(most) % 5 == 0 and marker not in due:
            markers.append(marker)
            api.admin.images.delete(marker)

    api.proxy.on("GET", r"/v2/images\?.*marker=", note)
    options = {"DEFAULT": {"scrub_time": 3600}, "scrubber": {"page_size": PAGE}}
    result = api.scrub(options=options)
    assert (result.exit_status, result.outcomes) == (0, {"deleted": len(due)}), result
    assert result.document["stages"]["read"]["images"] == MANY + len(due)
    assert result.document["not_due"]["images"] == MANY
    assert not due & api.shown()
    assert len(markers) >= 3
    assert (
        MANY / PAGE - 2 < api.proxy.count("GET", rf"/v2/images\?.*limit={PAGE}") < MANY / PAGE + 20
    )
    assert max(most) <= 3 * PAGE, most

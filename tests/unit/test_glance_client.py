"""What Glance's API says, in the words of errors.py; and section [glance]."""

import datetime
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lab.glance_proxy import GlanceProxy, Reply
from lab.processes import LOCALHOST, free_port
from scrubber import config, errors
from scrubber.glance import section
from scrubber.glance.client import Copy, Glance, MarkerLost
from scrubber.glance.versions import Version

JSON = {"Content-Type": "application/json"}
IMAGE: dict[str, Any] = {
    "id": "an-image",
    "owner": "a",
    "name": None,
    "status": "active",
    "visibility": "shared",
    "protected": False,
    "size": 5,
    "created_at": "2026-01-31T12:00:00Z",
    "updated_at": "2026-01-31T13:00:00Z",
    "tags": ["x"],
    "stores": "fast,slow,fast",
    "locations": [],
    "os_distro": "debian",
    "self": "/v2/images/an-image",
}


def in_json(document: object, status: int = 200) -> Reply:
    return Reply(status, JSON, json.dumps(document).encode())


@pytest.fixture(scope="module")
def running_server() -> Iterator[GlanceProxy]:
    with GlanceProxy(f"http://{LOCALHOST}:{free_port()}") as server:
        yield server


@pytest.fixture
def server(running_server: GlanceProxy) -> GlanceProxy:
    """Answers as a test says; there is no Glance behind it."""
    running_server.forget()
    return running_server


@pytest.fixture
def glance(server: GlanceProxy, tmp_path: Path) -> Iterator[Glance]:
    glance = connected(tmp_path, f"endpoint_override = {server.url}\ntimeout = 1")
    yield glance
    glance.close()


def connected(directory: Path, options: str) -> Glance:
    file = directory / "scrubber.conf"
    file.write_text(f"[glance]\n{options}\n")
    return section.connect(config.load(["--config-file", str(file)]))


def with_images(server: GlanceProxy, *images: object) -> None:
    server.on("GET", "/v2/schemas/image", in_json({"name": "image", "properties": {}}))
    server.on("GET", r"/v2/images\?", in_json({"images": images}))
    server.on("GET", r"/v2/images/an-image$", in_json(IMAGE))


def test_an_image_is_what_the_api_shows(server: GlanceProxy, glance: Glance) -> None:
    with_images(server, IMAGE, {**IMAGE, "id": "another", "stores": None, "size": None})
    first, second = glance.page({"tag": ["x"], "os_hidden": "true"}, 10)
    assert (first.id, first.owner, first.size) == ("an-image", "a", 5)
    assert first.updated_at == datetime.datetime(2026, 1, 31, 13)
    assert first.stores == ("fast", "slow")
    assert first.properties == {"os_distro": "debian"}
    assert (second.stores, second.size) == ((), None)
    assert glance.image("an-image") == first
    [query] = [path for _, path in server.requests if "/v2/images?" in path]
    for part in ("tag=x", "os_hidden=true", "visibility=all", "limit=10", "sort=created_at:asc"):
        assert part in query


# The table of docs/glance-api.md
STATUSES: list[tuple[int, dict[str, str], type[errors.StoreError]]] = [
    (300, {}, errors.Failed),
    (400, {}, errors.Failed),
    (401, {}, errors.Unavailable),
    (403, {}, errors.Refused),
    (404, {}, errors.Gone),
    (405, {}, errors.Unsupported),
    (409, {}, errors.InUse),
    (410, {}, errors.Gone),
    (413, {}, errors.Throttled),
    (418, {}, errors.Failed),
    (429, {}, errors.Throttled),
    (429, {"Retry-After": "7"}, errors.Throttled),
    (500, {}, errors.Failed),
    (500, {"Retry-After": "7"}, errors.Failed),
    (501, {}, errors.Unsupported),
    (502, {}, errors.Failed),
    (503, {}, errors.Failed),
    (503, {"Retry-After": "7"}, errors.Throttled),
    (504, {}, errors.Failed),
]


@pytest.mark.parametrize(("status", "headers", "expected"), STATUSES)
def test_every_status_has_a_meaning(
    server: GlanceProxy,
    glance: Glance,
    status: int,
    headers: dict[str, str],
    expected: type[errors.StoreError],
) -> None:
    server.on("DELETE", "", Reply(status, {**headers, "Content-Type": "text/plain"}, b"no"))
    with pytest.raises(errors.StoreError) as raised:
        glance.delete("an-image")
    assert type(raised.value) is expected
    assert str(status) in str(raised.value)
    if isinstance(raised.value, errors.Throttled):
        assert raised.value.retry_after == (7.0 if headers else None)


def test_retry_after_may_be_a_date(server: GlanceProxy, glance: Glance) -> None:
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=100)
    date = later.strftime("%a, %d %b %Y %H:%M:%S GMT")
    server.on("DELETE", "", Reply(429, {"Retry-After": date}))
    with pytest.raises(errors.Throttled) as raised:
        glance.delete("an-image")
    assert raised.value.retry_after == pytest.approx(100, abs=5)


BODIES = [
    b"<html><head><title>502</title></head><body>nginx</body></html>",
    b'{"code": 500, "title": "no dictionary of dictionaries"}',
    b"[1]",
    b"{cut off",
    b"\xff\xfe no text",
]


@pytest.mark.parametrize("headers", [JSON, {"Content-Type": "text/html"}, {}], ids=str)
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("status", [200, 500])
def test_no_answer_of_anybody_is_a_defect_of_ours(
    server: GlanceProxy, glance: Glance, status: int, headers: dict[str, str], body: bytes
) -> None:
    server.on("GET", "/v2/schemas/image", in_json({"name": "image", "properties": {}}))
    server.on("GET", "", Reply(status, headers, body))
    with pytest.raises(errors.Failed):
        glance.image("an-image")


def test_a_message_is_one_line_and_shows_no_url(server: GlanceProxy, glance: Glance) -> None:
    said = b"cannot reach\n swift+https://user:secret@host/c  " + 1000 * b"x"
    server.on("DELETE", "", Reply(409, {"Content-Type": "text/plain"}, said))
    with pytest.raises(errors.InUse) as raised:
        glance.delete("an-image")
    message = str(raised.value)
    assert "secret" not in message
    assert "cannot reach (URL)" in message
    assert "\n" not in message
    assert len(message) < 250


def test_no_answer_in_time_is_worth_another_try(server: GlanceProxy, glance: Glance) -> None:
    over = threading.Event()

    def answer_late() -> Reply:
        over.wait(10)
        return Reply(204)

    server.on("DELETE", "", answer_late)
    with pytest.raises(errors.Failed, match="in time"):
        glance.delete("an-image")
    over.set()


def test_nobody_at_the_endpoint_stops_the_store(tmp_path: Path) -> None:
    glance = connected(tmp_path, f"endpoint_override = http://{LOCALHOST}:{free_port()}")
    with pytest.raises(errors.Unavailable, match="no connection to Glance"):
        glance.delete("an-image")


def test_a_marker_that_is_gone_is_told_from_a_wrong_filter(
    server: GlanceProxy, glance: Glance
) -> None:
    server.on("GET", "/v2/schemas/image", in_json({"name": "image", "properties": {}}))
    server.on("GET", "/v2/images", Reply(400))
    with pytest.raises(MarkerLost):
        glance.page({}, 10, marker="an-image")
    with pytest.raises(errors.Failed):
        glance.page({}, 10)


def test_connections_are_kept(server: GlanceProxy, glance: Glance) -> None:
    with_images(server, IMAGE)
    server.on("DELETE", "", Reply(204))
    for _ in range(5):
        glance.page({}, 10)
        glance.delete("an-image")
        glance.delete_copy(Copy("an-image", "fast"))
    assert server.connections == 1


def test_as_many_connections_are_kept_as_calls_were_made_at_once(
    server: GlanceProxy, glance: Glance
) -> None:
    together = threading.Barrier(20)

    def wait_for_the_others() -> Reply:
        together.wait(10)
        return Reply(204)

    server.on("DELETE", "", wait_for_the_others)
    for _ in range(2):
        with ThreadPoolExecutor(20) as calls:
            list(calls.map(glance.delete, ["an-image"] * 20))
    assert server.connections == 20


def test_the_clock_is_glances(server: GlanceProxy, glance: Glance) -> None:
    server.on("DELETE", "", Reply(204, {"Date": "Sat, 31 Jan 2037 12:00:00 GMT"}))
    glance.delete("an-image")
    assert abs(glance.now() - datetime.datetime(2037, 1, 31, 12)) < datetime.timedelta(minutes=1)


def test_only_members_that_have_accepted_count(server: GlanceProxy, glance: Glance) -> None:
    members = [
        {"member_id": "b", "status": "accepted"},
        {"member_id": "c", "status": "pending"},
        {"member_id": "a", "status": "accepted"},
    ]
    server.on("GET", "/v2/schemas/member", in_json({"name": "member", "properties": {}}))
    server.on("GET", "/v2/images/an-image/members", in_json({"members": members}))
    assert glance.accepted_members("an-image") == ["a", "b"]


def test_a_glance_with_one_store_names_none(server: GlanceProxy, glance: Glance) -> None:
    server.on("GET", "/v2/info/stores", Reply(404), times=1)
    assert glance.stores() == []
    server.on("GET", "/v2/info/stores", in_json({"stores": [{"id": "fast"}, {"id": "slow"}]}))
    assert glance.stores() == ["fast", "slow"]


def test_its_versions_are_those_that_it_names(server: GlanceProxy, glance: Glance) -> None:
    def says(*ids: str) -> Reply:
        return in_json({"versions": [{"id": at, "status": "SUPPORTED"} for at in ids]})

    server.on("GET", "/versions$", says("v2.9", "v2.15"), times=1)
    assert glance.versions() == {Version(2, 9), Version(2, 15)}
    server.on("GET", "/versions$", Reply(404), times=1)
    with pytest.raises(errors.Gone):
        glance.versions()
    server.on("GET", "/versions$", says("fifteen"), times=1)
    with pytest.raises(errors.Failed, match="cannot be understood"):
        glance.versions()


# Section [glance] -------------------------------------------------------------------------

WRONG = [
    # the section; what is said of it
    ("", "names no Glance"),
    ("auth_type = magic", "does not say how to log in: .*magic"),
    ("auth_type = password", "does not say how to log in: .*auth_url"),
    ("retire_query = size_min=lots", "option retire_query in section .glance. .*number of bytes"),
    ("timeout = soon", "option timeout in section .glance."),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_what_is_wrong_with_the_section_is_said_in_one_line(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(errors.ConfigError, match=message) as raised:
        connected(tmp_path, text)
    assert "\n" not in str(raised.value)


CLOUDS = [
    # clouds.yaml; what is said of it
    ("", "Cloud here was not found|empty or not a valid mapping"),
    ("clouds: {other: {}}", "Cloud here was not found"),
    ("clouds: [s3cret: {", "Cloud here was not found|cannot be understood"),
    ("- s3cret", "cannot be understood|not a valid mapping"),
    ("clouds: s3cret", "cannot be understood"),
    ("clouds: {here: s3cret}", "cannot be understood"),
    ("clouds: {here: {auth_type: magic}}", "magic could not be found"),
    ("clouds: {here: {auth: {password: s3cret}}}", "not given: auth_url"),
]


@pytest.mark.parametrize(("text", "message"), CLOUDS)
def test_what_is_wrong_with_a_cloud_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    file = tmp_path / "clouds.yaml"
    file.write_text(text)
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(file))
    with pytest.raises(errors.ConfigError, match=message) as raised:
        connected(tmp_path, "cloud = here")
    said = str(raised.value)
    assert "\n" not in said
    assert "s3cret" not in said
    assert "clouds.yaml in the working directory" in said


KEYSTONE = [
    (401, errors.Unavailable, r"refuses to log in \(401\)"),
    (403, errors.Unavailable, r"refuses to log in \(403\)"),
    (429, errors.Throttled, "429"),
    (404, errors.Unavailable, "see section .glance.|authentication"),
    (503, errors.Unavailable, r"authentication|see section"),
]


@pytest.mark.parametrize(("status", "expected", "message"), KEYSTONE)
def test_a_login_that_fails_stops_the_store(
    server: GlanceProxy,
    tmp_path: Path,
    status: int,
    expected: type[errors.StoreError],
    message: str,
) -> None:
    server.on("GET", "^/v3$", in_json({"version": {"id": "v3.14", "status": "stable"}}))
    server.on("POST", "/v3/auth/tokens", in_json({"error": {"message": "no"}}, status))
    glance = connected(
        tmp_path,
        f"auth_type = v3password\nauth_url = {server.url}/v3\nusername = a\npassword = s3cret\n"
        "user_domain_id = default\nproject_name = p\nproject_domain_id = default",
    )
    with pytest.raises(expected, match=message) as raised:
        glance.delete("an-image")
    assert "s3cret" not in str(raised.value)

"""The admin API: what each request does, who may ask for it, how errors look."""

import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from falcon import testing

from lab.fake_control import IMAGE, OVER, RUN, FakeControl
from scrubber import errors
from scrubber.admin import application
from scrubber.admin.authorisation import TokenFile
from scrubber.orders import ALL, StoreOrder

TOKEN = "0123456789abcdef0123456789abcdef"

UNIX: dict[str, Any] = {"extras": {"REMOTE_ADDR": "unix"}}
LOOPBACK: dict[str, Any] = {"host": "127.0.0.1", "remote_addr": "127.0.0.1"}
REMOTE: dict[str, Any] = {"host": "10.0.0.1", "remote_addr": "10.0.0.2"}
BEARER = {"Authorization": f"Bearer {TOKEN}"}

#: Every call that changes something.
CHANGES = [
    ("POST", "/v1/runs", None),
    ("PATCH", f"/v1/runs/{RUN}", {"status": "cancelled"}),
    ("PATCH", "/v1/stores", {"paused": True}),
    ("PATCH", "/v1/stores/fast", {"paused": True}),
]
OPEN = ["/livez", "/readyz", "/metrics", "/v1/openapi.json"]
#: Every GET that names images, projects, hosts or what went wrong.
GUARDED = [
    "/v1/status",
    "/v1/runs",
    f"/v1/runs/{RUN}",
    "/v1/stores",
    "/v1/stores/fast",
    "/v1/parked",
    "/v1/threads",
]


@pytest.fixture
def control() -> FakeControl:
    return FakeControl()


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o640)
    return file


@pytest.fixture
def client(control: FakeControl) -> testing.TestClient:
    """Without a token file."""
    return testing.TestClient(application.create_app(control, None))


@pytest.fixture
def guarded(control: FakeControl, token_file: Path) -> testing.TestClient:
    """With one."""
    return testing.TestClient(application.create_app(control, TokenFile(str(token_file))))


def assert_problem(result: testing.Result, status: int, *words: str) -> None:
    assert result.status_code == status
    assert result.headers["content-type"] == "application/problem+json"
    assert result.json["status"] == status
    assert result.json["title"]
    for word in words:
        assert word in result.json["detail"]


# What requests do ---------------------------------------------------------------------------


def test_a_process_that_makes_no_progress_is_to_be_started_anew(
    client: testing.TestClient, control: FakeControl
) -> None:
    assert client.get("/livez", **REMOTE).status_code == 200
    control.alive = False
    assert_problem(client.get("/livez", **REMOTE), 503)


def test_one_that_cannot_scrub_says_all_reasons(
    client: testing.TestClient, control: FakeControl
) -> None:
    assert client.get("/readyz", **REMOTE).json == {"status": "ready"}
    control.reasons = ["the database does not answer", "store fast is down"]
    assert_problem(client.get("/readyz", **REMOTE), 503, *control.reasons)


def test_metrics_are_those_of_the_moment(client: testing.TestClient, control: FakeControl) -> None:
    result = client.get("/metrics", **REMOTE)
    assert result.headers["content-type"].startswith("text/plain; version=")
    assert "scrubber_run_in_progress 0.0" in result.text


def test_a_run_is_asked_for(client: testing.TestClient, control: FakeControl) -> None:
    assert client.post("/v1/runs", **UNIX).status_code == 202
    assert control.asked_for == 1


def test_runs_are_listed_as_many_as_wanted(client: testing.TestClient) -> None:
    assert [at["run"] for at in client.get("/v1/runs", **UNIX).json["runs"]] == [RUN, OVER]
    assert len(client.get("/v1/runs?limit=1", **UNIX).json["runs"]) == 1


@pytest.mark.parametrize("limit", ["0", "-1", "101", "x", "1.5"])
def test_a_list_is_never_longer_than_a_process_can_bear(
    client: testing.TestClient, limit: str
) -> None:
    for path in ("/v1/runs", "/v1/parked"):
        assert_problem(client.get(f"{path}?limit={limit}", **UNIX), 400, "limit")


def test_a_run_is_cancelled_once(client: testing.TestClient, control: FakeControl) -> None:
    cancel = {"status": "cancelled"}
    assert client.patch(f"/v1/runs/{RUN}", json=cancel, **UNIX).status_code == 202
    assert_problem(client.patch(f"/v1/runs/{OVER}", json=cancel, **UNIX), 409)
    assert_problem(client.patch("/v1/runs/none", json=cancel, **UNIX), 404)
    assert control.cancelled == [RUN]


def test_an_order_changes_only_what_it_names(
    client: testing.TestClient, control: FakeControl
) -> None:
    client.patch("/v1/stores/fast", json={"max_rate": 5}, **UNIX)
    client.patch("/v1/stores/fast", json={"paused": True}, **UNIX)
    assert control.orders == {"fast": StoreOrder(paused=True, max_rate=5.0)}
    client.patch("/v1/stores/fast", json={"max_rate": None}, **UNIX)
    result = client.patch("/v1/stores/fast", json={"paused": False}, **UNIX)
    assert control.orders == {"fast": StoreOrder()}
    assert result.json["store"] == "fast"
    assert result.json["paused"] is False


def test_an_order_can_be_for_all_stores(client: testing.TestClient, control: FakeControl) -> None:
    result = client.patch("/v1/stores", json={"paused": True}, **UNIX)
    assert result.json["paused"] is True
    assert control.orders == {ALL: StoreOrder(paused=True)}


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "paused"),
        ({"paused": 1}, "paused"),
        ({"paused": None}, "paused"),
        ({"paused": True, "x": 1}, "nothing else"),
        ([True], "nothing else"),
        ({"max_rate": "5"}, "number"),
        ({"max_rate": True}, "number"),
        ({"max_rate": float("nan")}, "from 0.01"),
        ({"max_rate": float("inf")}, "from 0.01"),
        ({"max_rate": 0}, "paused"),
        ({"max_rate": -1}, "max_rate"),
        ({"max_rate": 1e7}, "max_rate"),
        ({"max_rate": 10**400}, "max_rate"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused_whole(
    client: testing.TestClient, control: FakeControl, body: Any, word: str
) -> None:
    assert_problem(client.patch("/v1/stores/fast", json=body, **UNIX), 400, word)
    assert control.orders == {}


def test_an_order_for_no_store_is_refused(client: testing.TestClient, control: FakeControl) -> None:
    assert_problem(client.patch("/v1/stores/none", json={"paused": True}, **UNIX), 404)
    assert control.orders == {}


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"[" * 512, "application/json", 400),
        (b"", "application/json", 400),
        (b'{"paused": true}', "text/plain", 415),
        (b"paused=true", "application/x-www-form-urlencoded", 415),
        (b" " * 513, "application/json", 413),
    ],
)
def test_what_is_no_small_json_document_is_refused(
    client: testing.TestClient, control: FakeControl, body: bytes, kind: str, status: int
) -> None:
    result = client.patch("/v1/stores/fast", body=body, content_type=kind, **UNIX)
    assert_problem(result, status)
    assert control.orders == {}


def test_parked_locations_of_one_store(client: testing.TestClient, control: FakeControl) -> None:
    assert client.get("/v1/parked", **UNIX).json["locations"][0]["image"] == IMAGE
    assert client.get("/v1/parked?store=slow", **UNIX).json == {"locations": []}


@pytest.mark.parametrize(
    "name", ["none", "", "FAST", "%00", "%ED%A0%80", "a" * 37, "%25", "0123456789AB", "0%0A"]
)
def test_what_cannot_be_there_is_looked_up_in_no_database(
    client: testing.TestClient, control: FakeControl, name: str
) -> None:
    cancel = {"status": "cancelled"}
    assert_problem(client.get(f"/v1/runs/{name}x", **UNIX), 404)
    assert_problem(client.patch(f"/v1/runs/{name}x", json=cancel, **UNIX), 404)
    assert_problem(client.get(f"/v1/stores/{name}", **UNIX), 404)
    if name:
        assert_problem(client.get(f"/v1/runs/{name}", **UNIX), 404)
        assert_problem(client.get(f"/v1/parked?store={name}", **UNIX), 404, "store")
    assert control.looked_up == []


def test_threads_are_text(client: testing.TestClient) -> None:
    assert "run.py" in client.get("/v1/threads", **UNIX).text


# Errors -------------------------------------------------------------------------------------


def test_every_error_is_a_problem_document(client: testing.TestClient) -> None:
    nothing_there = client.get("/none", **UNIX)
    assert nothing_there.json == {"status": 404, "title": "404 Not Found"}
    wrong_method = client.delete("/v1/runs", **UNIX)
    assert wrong_method.status_code == 405
    assert wrong_method.headers["allow"] == "GET, POST, OPTIONS"
    assert wrong_method.headers["content-type"] == "application/problem+json"


def test_without_the_state_database_the_rest_goes_on(
    client: testing.TestClient, control: FakeControl
) -> None:
    control.trouble = errors.StateUnavailable("it is locked")
    assert_problem(client.get("/v1/runs", **UNIX), 503, "it is locked")
    assert client.get("/livez", **UNIX).status_code == 200


def test_an_order_that_cannot_be_written_down_is_said_to_be_so_and_logged(
    client: testing.TestClient, control: FakeControl, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    control.trouble = errors.StateUnavailable("it is locked; the order holds for this process")
    for path in ("/v1/stores/fast", "/v1/stores"):
        result = client.patch(path, json={"paused": True}, **UNIX)
        assert_problem(result, 503, "holds for this process")
    assert set(control.orders.values()) == {StoreOrder(paused=True)}
    assert "store fast: paused=True" in caplog.text
    assert "all stores: paused=True" in caplog.text


def test_a_defect_is_logged_and_tells_clients_nothing(
    client: testing.TestClient, control: FakeControl, caplog: pytest.LogCaptureFixture
) -> None:
    control.trouble = RuntimeError("secret")
    result = client.get("/v1/runs", **UNIX)
    assert_problem(result, 500)
    assert "secret" not in result.text
    assert "secret" in caplog.text


def test_a_change_is_logged(client: testing.TestClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    client.patch("/v1/stores/fast", json={"paused": True}, **UNIX)
    assert "fast" in caplog.text
    assert "paused=True" in caplog.text


# Who may ask --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", OPEN)
def test_probes_and_metrics_are_open_to_all(
    client: testing.TestClient, guarded: testing.TestClient, path: str
) -> None:
    assert client.get(path, **REMOTE).status_code == 200
    assert guarded.get(path, **REMOTE).status_code == 200


@pytest.mark.parametrize("path", GUARDED)
def test_what_names_images_is_for_this_host_and_for_those_with_the_token(
    client: testing.TestClient, guarded: testing.TestClient, path: str
) -> None:
    for of_this_host in (UNIX, LOOPBACK):
        assert client.get(path, **of_this_host).status_code == 200
    assert_problem(client.get(path, **REMOTE), 403, "token_file")
    assert_problem(guarded.get(path, **REMOTE), 401)
    assert guarded.get(path, headers=BEARER, **REMOTE).status_code == 200


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
def test_changes_need_the_unix_socket_or_the_token(
    client: testing.TestClient, guarded: testing.TestClient, method: str, path: str, body: Any
) -> None:
    ask = {"method": method, "path": path, "json": body}
    assert_problem(client.simulate_request(**ask, **LOOPBACK), 403, "token_file")
    assert_problem(client.simulate_request(**ask, headers=BEARER, **LOOPBACK), 403)
    refused = guarded.simulate_request(**ask, **LOOPBACK)
    assert_problem(refused, 401)
    assert refused.headers["www-authenticate"] == "Bearer"
    for client_with in (
        client.simulate_request(**ask, **UNIX),
        guarded.simulate_request(**ask, headers=BEARER, **LOOPBACK),
        guarded.simulate_request(**ask, headers=BEARER, **REMOTE),
    ):
        assert client_with.status_code in (200, 202)


def test_every_path_is_in_the_lists_above() -> None:
    paths = {path for path, _ in application.routes(FakeControl())}
    named = {*OPEN, *GUARDED}
    assert {path.format(run=RUN, store="fast") for path in paths} == named


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", TOKEN],
)
def test_only_the_whole_token_opens(
    guarded: testing.TestClient, control: FakeControl, header: str
) -> None:
    result = guarded.post("/v1/runs", headers={"Authorization": header}, **LOOPBACK)
    assert_problem(result, 401)
    assert control.asked_for == 0


def test_a_new_token_holds_at_once(
    guarded: testing.TestClient, control: FakeControl, token_file: Path
) -> None:
    new = "f" * 32
    token_file.write_text(new)
    assert guarded.post("/v1/runs", headers=BEARER, **LOOPBACK).status_code == 401
    headers = {"Authorization": f"bearer {new}"}
    assert guarded.post("/v1/runs", headers=headers, **LOOPBACK).status_code == 202


def test_a_token_file_that_was_opened_to_everybody_opens_nothing(
    guarded: testing.TestClient, control: FakeControl, token_file: Path
) -> None:
    token_file.chmod(0o644)
    assert_problem(guarded.post("/v1/runs", headers=BEARER, **LOOPBACK), 503, "chmod o=")
    assert control.asked_for == 0


@pytest.mark.parametrize(
    "request_of",
    [
        # A page whose site's name leads to 127.0.0.1.
        {"host": "evil.example", "remote_addr": "127.0.0.1"},
        {"host": "127.0.0.1.evil.example", "remote_addr": "127.0.0.1"},
        {"host": "localhost.evil.example", "remote_addr": "127.0.0.1"},
        # Somebody else, through a proxy on this host.
        {**LOOPBACK, "headers": {"X-Forwarded-For": "10.0.0.2"}},
        {**LOOPBACK, "headers": {"Forwarded": "for=10.0.0.2"}},
        # An address that only looks like one.
        {"host": "127.0.0.1", "remote_addr": "128.0.0.1"},
    ],
)
def test_who_only_seems_to_be_on_this_host_is_not(
    client: testing.TestClient, request_of: dict[str, Any]
) -> None:
    assert_problem(client.get("/v1/runs", **request_of), 403)


@pytest.mark.parametrize(
    "request_of",
    [
        {"host": "localhost", "remote_addr": "127.0.0.1"},
        {"host": "LOCALHOST", "remote_addr": "127.5.0.1"},
        {"host": "[::1]", "remote_addr": "::1"},
        {"host": "127.0.0.1", "remote_addr": "::ffff:127.0.0.1"},
    ],
)
def test_this_host_has_several_names(
    client: testing.TestClient, request_of: dict[str, Any]
) -> None:
    assert client.get("/v1/runs", **request_of).status_code == 200


# The token file -----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o601])
def test_a_token_file_that_others_may_use_is_refused(token_file: Path, mode: int) -> None:
    token_file.chmod(mode)
    with pytest.raises(errors.ConfigError, match=re.escape(f"chmod o= {token_file}")):
        TokenFile(str(token_file)).read()


@pytest.mark.parametrize("content", ["", "\n", "short", f"{TOKEN} {TOKEN}", "a\n" * 20, "ü" * 20])
def test_a_token_file_without_a_good_token_is_refused(token_file: Path, content: str) -> None:
    token_file.write_text(content)
    with pytest.raises(errors.ConfigError, match="one line of 16 characters") as refused:
        TokenFile(str(token_file)).read()
    assert TOKEN not in str(refused.value)


def test_a_token_file_that_is_none_is_refused_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    for path, why in (
        (pipe, "is no file"),
        (tmp_path, "Is a directory"),
        (tmp_path / "missing", "No such file"),
    ):
        with pytest.raises(errors.ConfigError, match=f"token_file.*{why}"):
            TokenFile(str(path)).read()


# The description ----------------------------------------------------------------------------


def test_every_route_is_described_and_nothing_else() -> None:
    described = {
        (path, method.upper())
        for path, item in application.description()["paths"].items()
        for method in item
        if method != "parameters"
    }
    served = {
        (path, method.removeprefix("on_").upper())
        for path, resource in application.routes(FakeControl())
        for method in dir(resource)
        if method.startswith("on_")
    }
    assert described == served


def test_the_description_says_the_limits_that_hold(client: testing.TestClient) -> None:
    document = client.get("/v1/openapi.json", **REMOTE).json
    limit = document["components"]["parameters"]["limit"]["schema"]
    assert limit["maximum"] == application.LONGEST_LIST
    assert limit["default"] == application.LIST
    opened = [path for path, item in document["paths"].items() if item["get"].get("security") == []]
    assert sorted(opened) == sorted(OPEN)


# What it costs ------------------------------------------------------------------------------


def test_a_single_run_pays_for_none_of_it() -> None:
    """Cron starts it often: what only a daemon serves is not imported."""
    program = (
        "import sys; from scrubber import cli;"
        "print([at for at in ('falcon', 'prometheus_client', 'yaml') if at in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True
    )
    assert "falcon" not in found.stdout
    assert "prometheus_client" not in found.stdout

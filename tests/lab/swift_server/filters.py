"""What stands round the real Swift proxy: faults, a memcached and a Keystone in its process.

``PUT /__lab__/outer`` and ``/__lab__/inner`` set the faults between client and proxy, and
those that also meet requests of Swift's own to itself (bulk delete, large objects, S3);
``GET`` says what was seen.  ``DELETE /__lab__/tokens`` makes all tokens invalid.
"""

import json
import random
import re
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any

from eventlet import sleep

Environment = dict[str, Any]
StartResponse = Callable[..., Any]
App = Callable[[Environment, StartResponse], Iterable[bytes]]

#: A request with this header is neither spoilt nor counted.
WITNESS = "HTTP_X_LAB_WITNESS"

STATE: dict[str, "Faults"] = {}


class Memcached:
    """As much of Swift's memcache client as its middleware uses."""

    def __init__(self) -> None:
        self.values: dict[Any, tuple[Any, float]] = {}

    def get(self, key: Any, raise_on_error: bool = False) -> Any:
        value, until = self.values.get(key, (None, 0.0))
        return None if until and until < time.time() else value

    def set(self, key: Any, value: Any, time: float = 0, **_: Any) -> bool:
        self.values[key] = (value, _now() + time if time else 0.0)
        return True

    def incr(self, key: Any, delta: int = 1, time: float = 0) -> int:
        value = max(0, int(self.get(key) or 0) + delta)
        self.set(key, value, time)
        return value

    def decr(self, key: Any, delta: int = 1, time: float = 0) -> int:
        return self.incr(key, -delta, time)

    def delete(self, key: Any, server_key: Any = None) -> None:
        self.values.pop(key, None)

    def set_multi(
        self, mapping: dict[Any, Any], server_key: Any, time: float = 0, **_: Any
    ) -> None:
        for key, value in mapping.items():
            self.set(key, value, time)

    def get_multi(self, keys: Iterable[Any], server_key: Any) -> list[Any]:
        return [self.get(key) for key in keys]


def _now() -> float:
    return time.time()


MEMCACHED = Memcached()


def cache(_global: Any, **_options: str) -> Callable[[App], App]:
    def with_cache(app: App) -> App:
        def call(environment: Environment, start_response: StartResponse) -> Iterable[bytes]:
            environment["swift.cache"] = MEMCACHED
            return app(environment, start_response)

        return call

    return with_cache


def keystone(_global: Any, **options: str) -> Callable[[App], App]:
    """Identity v3 in front of tempauth: passwords and application credentials for its tokens."""
    return lambda app: Keystone(app, options["url"])


class Keystone:
    def __init__(self, app: App, url: str) -> None:
        self._app = app
        self._url = url

    def __call__(self, environment: Environment, start_response: StartResponse) -> Iterable[bytes]:
        path = environment["PATH_INFO"].rstrip("/")
        if path == "/v3":
            return _json(start_response, "200 OK", {"version": self._version})
        if path != "/v3/auth/tokens":
            return self._app(environment, start_response)
        request = json.loads(_body(environment))["auth"]
        user, key = _credentials(request)
        headers = self._tempauth(environment, user, key)
        if "x-auth-token" not in headers:
            error = {"code": 401, "message": "wrong", "title": "Unauthorized"}
            return _json(start_response, "401 Unauthorized", {"error": error})
        return _json(
            start_response,
            "201 Created",
            {"token": self._token(user, headers["x-storage-url"])},
            ("X-Subject-Token", headers["x-auth-token"]),
        )

    @property
    def _version(self) -> dict[str, Any]:
        return {
            "id": "v3.14",
            "status": "stable",
            "updated": "2020-04-07T00:00:00Z",
            "media-types": [],
            "links": [{"rel": "self", "href": f"{self._url}/v3/"}],
        }

    def _tempauth(self, environment: Environment, user: str, key: str) -> dict[str, str]:
        ours = ("wsgi.", "swift.", "SERVER", "REMOTE", "eventlet")
        request = {name: environment[name] for name in environment if name.startswith(ours)}
        request.update(
            REQUEST_METHOD="GET",
            PATH_INFO="/auth/v1.0",
            SCRIPT_NAME="",
            QUERY_STRING="",
            CONTENT_LENGTH="0",
            HTTP_X_AUTH_USER=user,
            HTTP_X_AUTH_KEY=key,
        )
        answer: dict[str, str] = {}

        def start_response(_status: str, headers: Any, _error: Any = None) -> None:
            answer.update({name.lower(): value for name, value in headers})

        b"".join(self._app(request, start_response))
        return answer

    def _token(self, user: str, storage_url: str) -> dict[str, Any]:
        project, _, name = user.partition(":")
        domain = {"id": "default", "name": "Default"}
        return {
            "methods": ["password"],
            "user": {"id": name, "name": name, "domain": domain},
            "project": {"id": project, "name": project, "domain": domain},
            "roles": [{"id": "admin", "name": "admin"}],
            "audit_ids": ["audit"],
            "issued_at": _moment(0),
            "expires_at": _moment(3600),
            "catalog": [
                _service("object-store", storage_url),
                _service("identity", f"{self._url}/v3"),
            ],
        }


def _credentials(request: dict[str, Any]) -> tuple[str, str]:
    """As tempauth wants them: ``project:user`` and key."""
    identity = request["identity"]
    if "application_credential" in identity:
        credential = identity["application_credential"]
        return credential["id"], credential["secret"]
    user = identity["password"]["user"]
    if user["domain"].get("id") != "default":
        return "nobody", ""
    project = request["scope"]["project"]
    return f"{project['name']}:{user['name']}", user["password"]


def _service(kind: str, url: str) -> dict[str, Any]:
    endpoints = [
        {"id": interface, "interface": interface, "region": "lab", "region_id": "lab", "url": url}
        for interface in ("public", "internal", "admin")
    ]
    return {"type": kind, "id": kind, "name": kind, "endpoints": endpoints}


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(time.time() + seconds))


def faults(_global: Any, **options: str) -> Callable[[App], App]:
    def with_faults(app: App) -> App:
        return STATE.setdefault(options["place"], Faults(app, options["place"]))

    return with_faults


class Faults:
    """Spoils a share of the requests that a rule describes, and counts what it sees."""

    def __init__(self, app: App, place: str) -> None:
        self._app = app
        self._inner = place == "inner"
        self.set({})

    def set(self, settings: dict[str, Any]) -> None:
        self.latency = settings.get("latency", 0)
        self.rules = settings.get("rules", [])
        self.requests: list[str] = []
        self.clients: set[str] = set()
        self.spoilt = 0

    def __call__(self, environment: Environment, start_response: StartResponse) -> Iterable[bytes]:
        if environment["PATH_INFO"].startswith("/__lab__/"):
            return _control(environment, start_response)
        if WITNESS in environment or (environment.get("swift.source") and not self._inner):
            return self._app(environment, start_response)
        self.requests.append(f"{environment['REQUEST_METHOD']} {_target(environment)}")
        self.clients.add(str(environment.get("REMOTE_PORT")))
        if self.latency:
            sleep(self.latency)
        for rule in self.rules:
            if _concerns(rule, environment):
                self.spoilt += 1
                sleep(rule.get("latency", 0))
                return self._spoil(rule, environment, start_response)
        return self._app(environment, start_response)

    def _spoil(
        self, rule: dict[str, Any], environment: Environment, start_response: StartResponse
    ) -> Iterable[bytes]:
        if rule.get("done"):
            b"".join(self._app(environment, lambda *_: lambda _data: None))
        elif environment["REQUEST_METHOD"] in ("PUT", "POST"):
            _body(environment)
        if "status" in rule:
            body = rule.get("body", "").encode()
            headers = [("Content-Length", str(len(body))), *rule.get("headers", {}).items()]
            start_response(rule["status"], headers)
            return [body]
        connection = environment["eventlet.input"].get_socket()
        if rule["connection"] == "half":
            start = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n"
            # A HEAD has no body that could end too early.
            is_head = environment["REQUEST_METHOD"] == "HEAD"
            connection.sendall(start[:12] if is_head else start + b"\r\n[")
        connection.shutdown(socket.SHUT_RDWR)
        start_response("200 OK", [("Content-Length", "0")])
        return [b""]


def _target(environment: Environment) -> str:
    query = environment.get("QUERY_STRING")
    return environment["PATH_INFO"] + (f"?{query}" if query else "")


def _concerns(rule: dict[str, Any], environment: Environment) -> bool:
    """Whether it is this request's turn."""
    if not re.fullmatch(rule.get("method", ".*"), environment["REQUEST_METHOD"]):
        return False
    if not re.search(rule.get("path", ""), _target(environment)) or rule.get("times", 1) <= 0:
        return False
    # Not every n-th: that could hit the same request of every attempt.
    chance = rule.setdefault("random", random.Random(rule.get("seed", 1)))
    if chance.random() >= rule.get("share", 1):
        return False
    if "times" in rule:
        rule["times"] -= 1
    return True


def _control(environment: Environment, start_response: StartResponse) -> Iterable[bytes]:
    what = environment["PATH_INFO"].removeprefix("/__lab__/")
    if what == "tokens":
        for key in [key for key in MEMCACHED.values if "/token/" in str(key)]:
            MEMCACHED.delete(key)
        return _json(start_response, "200 OK", {})
    place = STATE[what]
    if environment["REQUEST_METHOD"] == "PUT":
        place.set(json.loads(_body(environment)))
    seen = {
        "requests": place.requests,
        "connections": len(place.clients),
        "spoilt": place.spoilt,
    }
    return _json(start_response, "200 OK", seen)


def _body(environment: Environment) -> bytes:
    content: bytes = environment["wsgi.input"].read(int(environment.get("CONTENT_LENGTH") or 0))
    return content


def _json(
    start_response: StartResponse, status: str, document: object, *headers: tuple[str, str]
) -> list[bytes]:
    body = json.dumps(document).encode()
    length = ("Content-Length", str(len(body)))
    start_response(status, [("Content-Type", "application/json"), length, *headers])
    return [body]

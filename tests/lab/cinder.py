"""Looks like Cinder and Keystone, with volumes in memory.

Statuses and bodies are those of a real Cinder 26 (API on SQLite), where an accepted delete
waits for a volume service; how that one goes on is up to the test.
"""

import json
import re
import socket
import struct
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from lab.processes import LOCALHOST

#: What Cinder says whenever it does not delete a volume, whatever the reason.
NOT_NOW = (
    "Invalid volume: Volume status must be available or error or error_restoring or "
    "error_extending or error_managing and must not be migrating, attached, belong to a group, "
    "have snapshots, awaiting a transfer, or be disassociated from snapshots after volume transfer."
)
_DELETABLE = frozenset({"available", "error", "error_restoring", "error_extending"})


@dataclass
class Volume:
    """A volume, and what becomes of it once its delete is accepted.

    :param ends: its status after that; None: it is gone.
    :param looks: how often it is still seen as deleting before that.
    """

    status: str = "available"
    snapshots: bool = False
    ends: str | None = None
    looks: int = 0
    created_at: str = "2026-01-02T03:04:05.000000"

    @property
    def can_be_deleted(self) -> bool:
        return self.status in _DELETABLE and not self.snapshots


@dataclass
class Fault:
    """An answer in the place of the right one, to requests whose method and path match.

    :param status: 0: no answer, the connection is reset.
    :param cut: the connection ends after half of the body.
    """

    requests: str
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = "{}"
    times: int = 1_000_000
    cut: bool = False


@dataclass(frozen=True)
class _Answer:
    status: int
    document: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        return b"" if self.document is None else json.dumps(self.document).encode()


class Cinder:
    """A server of both services; ``with`` starts and ends it.

    :param password: what Keystone takes for the user ``glance`` in the project ``service``.
    """

    def __init__(self, password: str = "secret-password") -> None:
        self.password = password
        self.volumes: dict[str, Volume] = {}
        self.faults: list[Fault] = []
        #: Method and path of each request so far.
        self.requests: list[str] = []
        self.project = uuid.uuid4().hex
        self.token = f"token-{uuid.uuid4().hex}"
        #: Requests that match get no answer before the end.
        self.silent: re.Pattern[str] | None = None
        self._over = threading.Event()
        self._server = _Server((LOCALHOST, 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        return f"http://{LOCALHOST}:{self._server.server_address[1]}"

    @property
    def options(self) -> dict[str, str]:
        """The section of glance-api.conf for it."""
        return {
            "cinder_store_auth_address": f"{self.url}/identity/v3",
            "cinder_store_user_name": "glance",
            "cinder_store_password": self.password,
            "cinder_store_project_name": "service",
        }

    def add(self, status: str = "available", **how: Any) -> str:
        """A volume; returns its id."""
        volume_id = str(uuid.uuid4())
        self.volumes[volume_id] = Volume(status, **how)
        return volume_id

    def reset(self) -> None:
        """As it was at its start."""
        self.volumes.clear()
        self.faults.clear()
        self.requests.clear()
        self.silent = None

    def count(self, pattern: str) -> int:
        """How many requests so far match."""
        return sum(re.match(pattern, request) is not None for request in self.requests)

    @contextmanager
    def failing(self, requests: str, status: int, **how: Any) -> Iterator[None]:
        fault = Fault(requests, status, **how)
        self.faults.append(fault)
        try:
            yield
        finally:
            self.faults.remove(fault)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    # Requests

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> _Answer:
        if self.silent and self.silent.match(f"{method} {path}"):
            self._over.wait()
        if path == "/identity/v3/auth/tokens":
            return self._authenticate(json.loads(body))
        root = f"/volume/v3/{self.project}/volumes"
        if not path.startswith(root):
            return _Answer(404)
        if headers.get("X-Auth-Token") != self.token:
            return _error(401, "unauthorized", "The request you have made requires authentication.")
        name = path[len(root) :].partition("?")[0].removeprefix("/")
        if not name:
            return _Answer(200, {"volumes": [{"id": known} for known in self.volumes][:1]})
        return self._delete(name) if method == "DELETE" else self._show(name)

    def fault(self, request: str) -> Fault | None:
        for fault in self.faults:
            if fault.times and re.match(fault.requests, request):
                fault.times -= 1
                return fault
        return None

    def _authenticate(self, document: Any) -> _Answer:
        user = document["auth"]["identity"]["password"]["user"]
        project = document["auth"]["scope"]["project"]["name"]
        if (user["name"], user["password"], project) != ("glance", self.password, "service"):
            return _error(401, "error", "The request you have made requires authentication.")
        endpoint = {
            "interface": "public",
            "url": f"{self.url}/volume/v3/{self.project}",
            "region": "one",
            "region_id": "one",
            "id": "1",
        }
        token = {
            "methods": ["password"],
            "user": {"id": "1", "name": "glance", "domain": {"id": "default", "name": "Default"}},
            "project": {"id": self.project, "name": "service", "domain": {"id": "default"}},
            "issued_at": "2026-01-01T00:00:00.000000Z",
            "expires_at": "2999-01-01T00:00:00.000000Z",
            "catalog": [{"type": "volumev3", "name": "c", "id": "1", "endpoints": [endpoint]}],
            "roles": [],
        }
        return _Answer(201, {"token": token}, {"X-Subject-Token": self.token})

    def _show(self, name: str) -> _Answer:
        volume = self.volumes.get(name)
        if volume is not None and volume.status == "deleting":
            self._go_on(name, volume)
        if name not in self.volumes:
            return _not_found(name)
        volume = self.volumes[name]
        shown = {"id": name, "status": volume.status, "size": 1, "created_at": volume.created_at}
        return _Answer(200, {"volume": shown})

    def _go_on(self, name: str, volume: Volume) -> None:
        if volume.looks:
            volume.looks -= 1
        elif volume.ends is None:
            del self.volumes[name]
        else:
            volume.status = volume.ends

    def _delete(self, name: str) -> _Answer:
        if name not in self.volumes:
            return _not_found(name)
        if not self.volumes[name].can_be_deleted:
            return _error(400, "badRequest", NOT_NOW)
        self.volumes[name].status = "deleting"
        return _Answer(202)


def _not_found(name: str) -> _Answer:
    return _error(404, "itemNotFound", f"Volume {name} could not be found.")


def _error(status: int, name: str, message: str) -> _Answer:
    return _Answer(status, {name: {"code": status, "message": message}})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a request may hang, and is given up with its connection

    def handle_error(self, *_: object) -> None:
        """Clients may leave when they like."""


def _handler(cinder: Cinder) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _answer(self) -> None:
            request = f"{self.command} {self.path}"
            cinder.requests.append(request)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if fault := cinder.fault(request):
                self._spoil(fault)
            else:
                answer = cinder.answer(self.command, self.path, self.headers, body)
                self._send(answer.status, answer.headers, answer.body)

        def _spoil(self, fault: Fault) -> None:
            self.close_connection = fault.cut or not fault.status
            if fault.status:
                self._send(fault.status, fault.headers, fault.body.encode(), cut=fault.cut)
            else:
                linger = struct.pack("ii", 1, 0)  # the kernel sends a reset
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

        def _send(
            self, status: int, headers: Mapping[str, str], body: bytes, *, cut: bool = False
        ) -> None:
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if cut else body)

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - as http.server calls them

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    return Handler

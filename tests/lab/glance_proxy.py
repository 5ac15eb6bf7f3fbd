"""A proxy in front of Glance's API: it makes every caller an administrator, and can misbehave.

It runs in a thread of the test, so that a test can do something between two requests.
"""

import http.client
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from lab.processes import LOCALHOST

ADMIN = {
    "X-Identity-Status": "Confirmed",
    "X-Project-Id": "admin",
    "X-User-Id": "admin",
    "X-Roles": "admin,member,reader",
}
MEMBER = {**ADMIN, "X-Project-Id": "project", "X-User-Id": "user", "X-Roles": "member,reader"}

#: Meant for one connection only.
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})


@dataclass(frozen=True)
class Reply:
    """What the proxy answers in Glance's place."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass
class _Rule:
    method: str
    path: re.Pattern[str]
    action: Callable[[], Reply | None]
    times: int | None


class GlanceProxy:
    """``with GlanceProxy(url) as proxy``.

    ``requests`` is what has come by so far, ``token`` that of the last request.
    """

    def __init__(self, glance: str, identity: Mapping[str, str] = ADMIN) -> None:
        self.identity = identity
        self.requests: list[tuple[str, str]] = []
        self.connections = 0
        #: Seconds that each request takes beside what Glance takes.
        self.round_trip = 0.0
        self.token = ""
        self._glance = urlsplit(glance).netloc
        self._rules: list[_Rule] = []
        self._lock = threading.Lock()
        self._server = _Server((LOCALHOST, 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        return f"http://{LOCALHOST}:{self._server.server_address[1]}"

    def on(
        self,
        method: str,
        path: str,
        action: Reply | Callable[[], Reply | None],
        times: int | None = None,
    ) -> None:
        """Do this when such a request comes, so many times; what returns None is passed on.

        :param path: a regular expression, found anywhere in path and query.
        """
        act = action if callable(action) else lambda: action
        self._rules.append(_Rule(method, re.compile(path), act, times))

    def forget(self) -> None:
        """What has come by, and what was to be done then."""
        self._rules.clear()
        self.requests.clear()
        self.connections = 0

    def count(self, method: str, path: str) -> int:
        return sum(at[0] == method and bool(re.search(path, at[1])) for at in self.requests)

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        with self._lock:
            self.requests.append((method, path))
            self.token = headers.get("X-Auth-Token", "")
            rule = next((at for at in self._rules if self._applies(at, method, path)), None)
            if rule is not None and rule.times is not None:
                rule.times -= 1
        if rule is not None and (reply := rule.action()) is not None:
            return reply
        return self._pass_on(method, path, headers, body)

    @staticmethod
    def _applies(rule: _Rule, method: str, path: str) -> bool:
        return rule.times != 0 and rule.method == method and bool(rule.path.search(path))

    def _pass_on(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        time.sleep(self.round_trip)
        connection = http.client.HTTPConnection(self._glance, timeout=60)
        try:
            passed = {name: value for name, value in headers.items() if _is_passed(name)}
            connection.request(method, path, body or None, {**passed, **self.identity})
            answer = connection.getresponse()
            back = {name: value for name, value in answer.getheaders() if _is_passed(name)}
            return Reply(answer.status, back, answer.read())
        finally:
            connection.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """From now on nobody is there; may be repeated."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()


def _is_passed(header: str) -> bool:
    return header.lower() not in _HOP_BY_HOP


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 100

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away in mid-answer."""


def _handler(proxy: GlanceProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            proxy.connections += 1
            super().setup()

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            reply = proxy.answer(self.command, self.path, dict(self.headers), body)
            self.send_response_only(reply.status)
            headers = {name.lower(): value for name, value in reply.headers.items()}
            for name, value in ({"date": self.date_time_string()} | headers).items():
                self.send_header(name, value)
            if reply.status != http.client.NO_CONTENT:
                self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        do_GET = do_DELETE = do_PUT = do_POST = do_PATCH = do_HEAD = _answer  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            """Not on standard error."""

    return Handler

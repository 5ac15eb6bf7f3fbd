"""Swift's answers: connections that are reused, and what comes back over them.

What comes back other than success is raised as one of errors.py's: here, and nowhere else.
Redirects are not followed and nothing is tried again.
"""

import datetime
import http.client
import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import requests
import requests.adapters
import urllib3

from scrubber import errors
from scrubber.stores import base, http_date

#: At DEBUG these log URLs, and Keystone's answers.
_TALKATIVE = (
    "urllib3.connectionpool",
    "keystoneauth.session",
    "keystoneauth.discover",
    "keystoneauth.identity.base",
    "keystoneauth.identity.v3.base",
)

#: So many connections are kept, if so many calls were made at once.
_KEPT = 4096

_PATIENCE = re.compile(r"slow ?down|\brate\b|rate ?limit", re.IGNORECASE)


class ServerTrouble(errors.Failed):
    """Swift cannot do it now; for this object, or for all: ask for the container to know."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What Swift answered; header names in lower case."""

    status: int
    reason: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    def json(self) -> Any:
        """:raises Unavailable: it is none, or not all of it."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise errors.Unavailable("Swift's answer is cut off or no JSON") from None


class Web:
    """The connections of a store; each call uses one at a time, so there are no more than calls.

    :param verify: False, or True, or the file of certificates to trust.
    :param timeout: seconds that a request may take.
    """

    def __init__(self, verify: bool | str, timeout: Callable[[], float]) -> None:
        for name in _TALKATIVE:
            logging.getLogger(name).addFilter(_is_serious)
        self.verify = verify
        self.timeout = timeout
        self.session = requests.Session()
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, _Adapter(pool_maxsize=_KEPT))

    def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> Reply:
        """:raises Unavailable: no answer, or not all of it."""
        seconds = self.timeout()
        try:
            answer = self.session.request(
                method,
                url,
                headers=dict(headers),
                data=body,
                timeout=(min(10.0, seconds), seconds),
                verify=self.verify,
                allow_redirects=False,
            )
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise errors.Unavailable(_why_no_answer(error)) from None
        low = {name.lower(): value for name, value in answer.headers.items()}
        return Reply(answer.status_code, answer.reason or "", low, answer.content)

    def close(self) -> None:
        self.session.close()


def _is_serious(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING


def _why_no_answer(error: Exception) -> str:
    # Never str(error): it quotes the URL.
    if isinstance(error, requests.exceptions.SSLError):
        return "Swift's certificate is not trusted, or it speaks no TLS: see swift_store_cacert"
    if isinstance(error, requests.Timeout):
        return "Swift does not answer in time"
    return f"no connection to Swift, or it broke ({type(error).__name__})"


class _WholeHeaders(http.client.HTTPResponse):
    """An answer whose headers break off is none.

    To http.client they end where the connection does: without its last headers a manifest
    looks like a plain object, and would be deleted before its segments.
    """

    def begin(self) -> None:
        lines: Any = _Lines(self.fp)
        self.fp = lines
        super().begin()
        self.fp = lines.file
        if lines.last not in (b"\r\n", b"\n"):
            self.close()
            raise http.client.IncompleteRead(b"")


class _Lines:
    """A file that remembers the last line read."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.last = b""

    def readline(self, *size: int) -> bytes:
        self.last = self.file.readline(*size)
        return self.last

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


class _Connection(urllib3.connection.HTTPConnection):
    response_class = _WholeHeaders


class _TlsConnection(urllib3.connection.HTTPSConnection):
    response_class = _WholeHeaders


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _Adapter(requests.adapters.HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}


def trouble(reply: Reply, where: str = "") -> errors.StoreError:
    """What the caller may do after an answer that is no success."""
    status, start = reply.status, f"{where}: " if where else ""
    if status == http.client.NOT_FOUND:
        return base.Gone()
    if status in (429, 498) or (status == 503 and _asks_for_patience(reply)):
        return errors.Throttled(f"Swift asks for patience ({status})", retry_after(reply))
    if status == http.client.FORBIDDEN:
        return errors.Unavailable(f"{start}the user may not do that (403)")
    if http.client.MULTIPLE_CHOICES <= status < http.client.BAD_REQUEST:
        return errors.Unavailable(f"{start}Swift leads elsewhere ({status}): correct its address")
    if status == http.client.LOCKED:
        return errors.InUse("locked (423)")
    if status == http.client.CONFLICT:
        return errors.Failed("Swift has a newer state of it (409)")
    if status >= http.client.INTERNAL_SERVER_ERROR:
        return ServerTrouble(f"Swift cannot do it now ({status})")
    return errors.Failed(f"Swift answers {status}")


def _asks_for_patience(reply: Reply) -> bool:
    said = f"{reply.reason} {reply.body[:200].decode('latin-1')}"
    return "retry-after" in reply.headers or _PATIENCE.search(said) is not None


def retry_after(reply: Reply) -> float | None:
    """Seconds that the store asked for, None if it did not say."""
    now = datetime.datetime.now(datetime.UTC)
    return http_date.retry_after(reply.headers.get("retry-after"), now)

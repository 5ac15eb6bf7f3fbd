"""A real Swift: its four servers in one process, with faults that tests can switch on.

Swift lives in an environment of its own (``SCRUBBER_STORES_PYTHON``, by default the one that
``tox -e stores`` makes).  It answers to tempauth (v1), to an Identity v3 in front of it,
and to S3.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests

from lab import Unavailable
from lab.processes import LOCALHOST, Child, Service, accepts_connections, free_port

REPOSITORY = Path(__file__).resolve().parents[2]
SERVE = Path(__file__).with_name("swift_server") / "serve.py"


@dataclass(frozen=True)
class User:
    """Who may log in; ``name`` is ``project:user``, and the access key of S3."""

    name: str
    key: str
    groups: str = ".admin"

    @property
    def project(self) -> str:
        return self.name.partition(":")[0]


#: The account that tests use, another one, and a user of the first who may do nothing.
TESTER = User("test:tester", "secret-of-tester")
OTHER = User("other:somebody", "secret-of-somebody")
NOBODY = User("test:nobody", "secret-of-nobody", groups="")
#: An application credential of the first account: name and key are its id and secret.
CREDENTIAL = User("test:credential", "secret-of-credential")
USERS = (TESTER, OTHER, NOBODY, CREDENTIAL)


@dataclass(frozen=True)
class Seen:
    """What came in since the faults were set: ``METHOD path?query``, client connections."""

    requests: list[str]
    connections: int
    spoilt: int

    def count(self, start: str) -> int:
        return sum(request.startswith(start) for request in self.requests)


class Swift(Service):
    """One Swift while it is started.

    :param middleware: of ``bulk``, ``s3api``, ``slo``, ``dlo``: what this Swift offers.
    :param ratelimit: deletes and uploads per second in one container with objects; each one
        beyond is answered 498.
    :param limits: of ``[swift-constraints]``, such as ``container_listing_limit``.
    :param bulk_concurrency: how many deletes of a bulk request run at once.
    """

    def __init__(
        self,
        directory: Path,
        *,
        middleware: tuple[str, ...] = ("bulk", "s3api", "slo", "dlo"),
        ratelimit: int = 0,
        limits: Mapping[str, int] | None = None,
        bulk_concurrency: int = 2,
    ) -> None:
        self.directory = directory
        self._python = stores_python()
        self._port = free_port()
        self._child: Child | None = None
        directory.mkdir(parents=True, exist_ok=True)
        self._settings = directory / "settings.json"
        self._settings.write_text(
            json.dumps(
                {
                    "port": self._port,
                    "pipeline": pipeline(middleware, ratelimit),
                    "users": [self._tempauth(user) for user in USERS],
                    "ratelimit": ratelimit,
                    "limits": dict(limits or {}),
                    "bulk_concurrency": bulk_concurrency,
                }
            )
        )

    def _tempauth(self, user: User) -> str:
        project, _, name = user.name.partition(":")
        return f"user_{project}_{name} = {user.key} {user.groups} {self.storage_url(user)}"

    # The process

    @property
    def url(self) -> str:
        """Also the endpoint of its S3."""
        return f"http://{LOCALHOST}:{self._port}"

    @property
    def auth_v1(self) -> str:
        return f"{self.url}/auth/v1.0"

    @property
    def auth_v3(self) -> str:
        return f"{self.url}/v3"

    def storage_url(self, user: User = TESTER) -> str:
        return f"{self.url}/v1/AUTH_{user.project}"

    def start(self) -> None:
        """Start it and wait until it answers; again after ``stop()``, on the same port."""
        self._child = Child(
            [self._python, SERVE, self._settings],
            log=self.directory / "swift.log",
            environment={"PYTHONWARNINGS": "ignore"},
        )
        self._child.wait_ready(lambda: accepts_connections(self._port))

    def stop(self) -> None:
        if self._child is not None:
            self._child.stop()

    # Faults

    def set_faults(
        self, *rules: Mapping[str, Any], latency: float = 0, place: str = "outer"
    ) -> None:
        """From now on spoil what the rules describe, and count anew; without rules nothing.

        A rule has regular expressions ``method`` and ``path`` (with query), says how often
        (``share`` of them, the same for a ``seed``; ``times`` in all) and what instead:
        ``status`` with ``body`` and
        ``headers``, or ``connection``, ``"broken"`` or ``"half"``, after ``latency`` seconds.
        With ``done`` the
        request is carried out all the same.  ``place="inner"`` also meets what Swift asks
        itself, for bulk deletes and S3.
        """
        self._lab("PUT", place, json={"rules": list(rules), "latency": latency})

    def seen(self, place: str = "outer") -> Seen:
        return Seen(**self._lab("GET", place))

    def forget_tokens(self) -> None:
        """As if all tokens had run out."""
        self._lab("DELETE", "tokens")

    def _lab(self, method: str, what: str, **options: Any) -> dict[str, Any]:
        answer = requests.request(method, f"{self.url}/__lab__/{what}", timeout=30, **options)
        answer.raise_for_status()
        document: dict[str, Any] = answer.json()
        return document

    def account(self, user: User = TESTER) -> "Account":
        return Account(self, user)


class Account:
    """An account as its owner sees it, past the driver under test and past all faults."""

    def __init__(self, swift: Swift, user: User) -> None:
        self.user = user
        self._swift = swift
        self._session = requests.Session()
        self._session.headers["X-Lab-Witness"] = "yes"

    def close(self) -> None:
        self._session.close()

    def request(
        self,
        method: str,
        *path: str,
        data: bytes = b"",
        headers: Mapping[str, str] | None = None,
        **query: str,
    ) -> requests.Response:
        """Any request; ``path`` is empty, a container, or a container and an object."""
        url = "/".join([self._swift.storage_url(self.user), *(quote(part, "") for part in path)])
        for _ in range(2):
            answer = self._session.request(
                method, url, data=data, headers=headers, params=query, timeout=30
            )
            if answer.status_code != requests.codes.unauthorized:
                break
            self._log_in()
        return answer

    def _log_in(self) -> None:
        answer = self._session.get(
            self._swift.auth_v1,
            headers={"X-Auth-User": self.user.name, "X-Auth-Key": self.user.key},
            timeout=30,
        )
        answer.raise_for_status()
        self._session.headers["X-Auth-Token"] = answer.headers["X-Auth-Token"]

    def create(self, *containers: str) -> None:
        for container in containers:
            self.request("PUT", container).raise_for_status()

    def put(
        self, container: str, name: str, data: bytes, headers: Mapping[str, str] | None = None
    ) -> None:
        self.request("PUT", container, name, data=data, headers=headers).raise_for_status()

    def put_dlo(
        self, container: str, name: str, segments: int, size: int = 1, *, manifest: str = ""
    ) -> None:
        """As Glance does it: numbered segments beside the manifest."""
        for number in range(1, segments + 1):
            self.put(container, f"{name}-{number:05d}", b"x" * size)
        self.put(container, name, b"", {"X-Object-Manifest": manifest or f"{container}/{name}-"})

    def put_slo(self, container: str, name: str, segments: list[str], size: int = 1) -> None:
        """Segments are ``container/name``."""
        for segment in segments:
            self.put(*segment.split("/", 1), b"x" * size)
        manifest = json.dumps([{"path": f"/{segment}"} for segment in segments])
        answer = self.request(
            "PUT", container, name, data=manifest.encode(), **{"multipart-manifest": "put"}
        )
        answer.raise_for_status()

    def holds(self, container: str, name: str) -> bool:
        return self.request("HEAD", container, name).ok

    def names(self, container: str, prefix: str = "") -> list[str]:
        """All of a container, however small its listing's pages are."""
        found: list[str] = []
        while page := self.request(
            "GET", container, format="json", prefix=prefix, marker=found[-1] if found else ""
        ).json():
            found += [entry["name"] for entry in page]
        return found

    def clear(self) -> None:
        """Remove everything, and the account itself."""
        answer = self.request("GET", format="json")
        for container in answer.json() if answer.status_code == requests.codes.ok else []:
            self.remove(container["name"])

    def remove(self, container: str) -> None:
        """A container and all in it."""
        for name in self.names(container):
            self.request("DELETE", container, name)
        self.request("DELETE", container)


def pipeline(middleware: tuple[str, ...], ratelimit: int) -> list[str]:
    """The proxy's, in the order that Swift's manual asks for."""
    optional = {"bulk", "s3api", "slo", "dlo", "ratelimit"}
    offered = {*middleware, *(["ratelimit"] if ratelimit else [])}
    whole = (
        "outer catch_errors gatekeeper healthcheck cache bulk s3api keystone tempauth ratelimit "
        "copy slo dlo inner proxy-server"
    )
    return [name for name in whole.split() if name not in optional or name in offered]


def stores_python() -> Path:
    """The interpreter of the environment that has Swift; Unavailable if there is none."""
    default = REPOSITORY / ".tox" / "stores" / "bin" / "python"
    python = Path(os.environ.get("SCRUBBER_STORES_PYTHON") or default)
    if not python.exists():
        raise Unavailable(f"no Swift: {python} does not exist (tox -e stores makes it)")
    return python

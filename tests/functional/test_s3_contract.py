"""The contract of store drivers, kept by the S3 driver in front of real S3 servers."""

import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import ClassVar
from urllib.parse import urlsplit

import pytest

from contract.driver_contract import *  # noqa: F403 - every driver keeps all of it
from contract.driver_contract import Place, Trouble
from contract.sections import section
from lab.s3 import Proxy, Reply, Request, S3Account
from scrubber.stores.s3 import S3Driver

_NUMBERS = itertools.count(1)


class S3Place(Place):
    # A bucket has no identity of its own: another one of that name is the same to S3.
    notices_another_root: ClassVar[bool] = False

    def __init__(self, server: S3Account, proxy: Proxy, many: int) -> None:
        """:param proxy: in front of the server, for the driver."""
        self.many = many  # type: ignore[misc] # of this server
        self._client = server.owner
        self._bucket = f"contract-{next(_NUMBERS)}"
        self._client.create_bucket(Bucket=self._bucket)
        self._proxy = proxy
        self._host = proxy.url.partition("://")[2]
        options = server.options(self._bucket, s3_store_host=proxy.url)
        self.driver = S3Driver(section(S3Driver, call_timeout=lambda: self.call_timeout, **options))
        here = f"s3://{self._host}/{self._bucket}"
        self.refused = [  # type: ignore[misc] # they name the bucket
            f"s3://{self._host}/other-bucket/name",
            f"{here}/name?versionId=1",
            f"{here}/name#1",
            f"{here}/.",
            f"{here}/..",
            f"{here}/a\nb",
            f"{here}/a\x01b",
            f"{here}//",
            f"{here}//name/below",
            f"s3://{self._bucket}/name",
            f"s3://http://{self._host}/{self._bucket}/name",
            f"S3://{self._host}/{self._bucket}/name",
            "s3://",
            "rbd://pool/image",
            "http://host/bucket/image",
            "no URL",
            "",
        ]

    def url(self, name: str) -> str:
        return f"s3://{self._host}/{self._bucket}/{name}"

    def spellings(self, name: str) -> list[str]:
        rest = f"{self._host}/{self._bucket}/{name}"
        return [
            f"s3+http://{rest}",
            f"s3+https://{rest}",
            f"s3:///{rest}",
            f"s3://{rest}/",
            f"s3://user:secret@{rest}",
            f"s3://user:se/cret@{rest}",
        ]

    def put(self, name: str, size: int) -> None:
        self._client.put_object(Bucket=self._bucket, Key=name, Body=b"x" * size)

    def holds(self, name: str) -> bool:
        listed = self._client.list_objects_v2(Bucket=self._bucket, Prefix=name, MaxKeys=1)
        return any(entry["Key"] == name for entry in listed.get("Contents", ()))

    def remove_root(self) -> None:
        for entry in self._client.list_objects_v2(Bucket=self._bucket).get("Contents", ()):
            self._client.delete_object(Bucket=self._bucket, Key=entry["Key"])
        self._client.delete_bucket(Bucket=self._bucket)

    def replace_root(self) -> None:
        raise NotImplementedError

    def in_trouble(self, trouble: Trouble, name: str | None = None) -> AbstractContextManager[None]:
        method = "" if name is None else "POST"
        if trouble is Trouble.SILENT:
            return self._silent(method)
        if name is not None and trouble in CODES:
            return self._proxy.failing(self._all_but(name, CODES[trouble]), method)
        return self._proxy.failing(spoilt(trouble), method)

    @contextmanager
    def _silent(self, method: str) -> Iterator[None]:
        def hang(_request: Request, _forward: Callable[[], Reply]) -> None:
            self._proxy.released.wait(60)

        with self.impatient(), self._proxy.failing(hang, method):
            yield

    def _all_but(self, bad: str, code: str) -> Callable[[Request, Callable[[], Reply]], Reply]:
        """Deletes all objects of a request but this one."""

        def answer(request: Request, _forward: Callable[[], Reply]) -> Reply:
            good = [key for key in keys(request) if key != bad]
            for key in good:
                self._client.delete_object(Bucket=self._bucket, Key=key)
            error = f"<Error><Key>{bad}</Key><Code>{code}</Code></Error>"
            return Reply(200, result(good, error))

        return answer


#: S3's names of it.
CODES = {
    Trouble.THROTTLED: "SlowDown",
    Trouble.THROTTLED_FOR_A_WHILE: "SlowDown",
    Trouble.SERVER_ERROR: "InternalError",
}


def spoilt(trouble: Trouble) -> Callable[[Request, Callable[[], Reply]], Reply | None]:
    """What comes in the place of every answer."""

    def answer(request: Request, _forward: Callable[[], Reply]) -> Reply | None:
        match trouble:
            case Trouble.RESET:
                return None
            case Trouble.HALF:
                return Reply(200, result(keys(request)), cut=True)
        body = f"<Error><Code>{CODES[trouble]}</Code></Error>".encode()
        if trouble is Trouble.SERVER_ERROR:
            return Reply(500, body)
        patience = trouble.retry_after
        return Reply(503, body, {} if patience is None else {"Retry-After": str(patience)})

    return answer


def keys(request: Request) -> list[str]:
    """Those that it asks to delete."""
    return re.findall(r"<Key>(.*?)</Key>", request.body.decode())


def result(deleted: list[str], *others: str) -> bytes:
    entries = [f"<Deleted><Key>{key}</Key></Deleted>" for key in deleted]
    return f"<DeleteResult>{''.join([*entries, *others])}</DeleteResult>".encode()


#: By fixture: how many objects its largest batch holds.
SERVERS = {"s3_server": 250, "swift_s3": 25}


@pytest.fixture(params=list(SERVERS))
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    server = request.getfixturevalue(request.param)
    with Proxy(urlsplit(server.url).port) as proxy:
        place = S3Place(server, proxy, SERVERS[request.param])
        yield place
        place.driver.close()

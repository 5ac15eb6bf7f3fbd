"""The contract of store drivers, kept by the S3 driver in front of real S3 servers."""

import itertools
from collections.abc import Iterator
from typing import ClassVar

import pytest

from contract.driver_contract import *  # noqa: F403 - every driver keeps all of it
from contract.driver_contract import Place
from contract.sections import section
from functional.s3_servers import s3_server, swift_s3  # noqa: F401 - fixtures
from lab.s3 import S3Account
from scrubber.stores.s3 import S3Driver

_NUMBERS = itertools.count(1)


class S3Place(Place):
    # A bucket has no identity of its own: another one of that name is the same to S3.
    notices_another_root: ClassVar[bool] = False

    def __init__(self, server: S3Account, many: int) -> None:
        self.many = many  # type: ignore[misc] # of this server
        self._client = server.owner
        self._bucket = f"contract-{next(_NUMBERS)}"
        self._client.create_bucket(Bucket=self._bucket)
        self._host = server.url.partition("://")[2]
        self.driver = S3Driver(section(S3Driver, **server.options(self._bucket)))
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


#: By fixture: how many objects its largest batch holds.
SERVERS = {"s3_server": 250, "swift_s3": 25}


@pytest.fixture(params=list(SERVERS))
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    place = S3Place(request.getfixturevalue(request.param), SERVERS[request.param])
    yield place
    place.driver.close()

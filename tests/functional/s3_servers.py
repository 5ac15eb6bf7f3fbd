"""S3 servers that tests share, and a Glance that keeps images there."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from conftest import needed_programs
from functional.cloud import Cloud, NewCloud
from lab.glance import Backend
from lab.s3 import Proxy, S3Account, S3Server
from lab.swift import TESTER, Swift

#: The id of the store on an S3 server.
STORE = "objects"

BUCKET = "images"


@contextmanager
def new_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with needed_programs():
        server = S3Server(tmp_path_factory.mktemp("s3"))
    with server:
        server.owner.create_bucket(Bucket=BUCKET)
        yield server


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with new_server(tmp_path_factory) as server:
        yield server


@pytest.fixture(scope="session")
def other_s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Another one: other keys, and a bucket of the same name."""
    with new_server(tmp_path_factory) as server:
        yield server


@pytest.fixture(scope="session")
def swift_s3(swift: Swift) -> Iterator[S3Account]:
    """Swift's."""
    account = S3Account(swift.url, TESTER.name, TESTER.key)
    yield account
    account.owner.close()


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[Proxy]:
    """In front of the server."""
    with Proxy(s3_server.port) as proxy:
        yield proxy


class S3Cloud:
    """A Glance with the stores ``fast``, ``slow`` and, on an S3 server, ``objects``."""

    def __init__(self, cloud: Cloud, server: S3Server) -> None:
        self.cloud = cloud
        self.server = server

    def reset(self) -> None:
        """An empty bucket."""
        for key in self.keys():
            self.server.owner.delete_object(Bucket=BUCKET, Key=key)

    def keys(self) -> set[str]:
        pages = self.server.owner.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        return {entry["Key"] for page in pages for entry in page.get("Contents", ())}

    def section(self, **options: Any) -> dict[str, dict[str, object]]:
        """What is different in the store's section for one run."""
        return {STORE: options}


@pytest.fixture
def s3_cloud(clouds: NewCloud, s3_server: S3Server) -> S3Cloud:
    """Without an image."""
    cloud = clouds(backends={STORE: Backend("s3", s3_server.options(BUCKET))})
    made = S3Cloud(cloud, s3_server)
    made.reset()
    return made

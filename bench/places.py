"""Where images lie: each store on a real server of its own, started for one measurement."""

import abc
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from bench import backlog
from bench.backlog import SIZE
from lab.ceph import Ceph
from lab.ceph_pools import CephPool
from lab.glance import Backend
from lab.processes import LOCALHOST, Child, accepts_connections, free_port
from lab.s3 import S3Account, S3Server
from lab.swift import TESTER, Account, Swift
from lab.swift_stores import reference, write_references

NAME = "images"
SEGMENTS = 10

PROXY = Path(__file__).with_name("proxy.py")
PLUGIN = Path(__file__).with_name("plugin")


class Place(abc.ABC):
    """A store, while it is entered.

    :cvar kind: what ``enabled_backends`` calls it.
    :cvar objects: how many of them an image is.
    """

    kind: ClassVar[str]
    objects: ClassVar[int] = 1

    def __init__(self, directory: Path) -> None:
        """:param directory: for all that the server writes; made if need be."""
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with self._stack:
            self._start(self._stack)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @abc.abstractmethod
    def _start(self, stack: ExitStack) -> None: ...

    @property
    def port(self) -> int:
        """Where its server speaks HTTP; 0 if it does not."""
        return 0

    @abc.abstractmethod
    def options(self, port: int) -> Mapping[str, object]:
        """The store's section, for clients that reach the server at this port."""

    def backend(self, port: int) -> Backend:
        return Backend(self.kind, self.options(port))

    @abc.abstractmethod
    def url(self, image_id: str) -> str:
        """As Glance writes it."""

    @abc.abstractmethod
    def put(self, image_ids: Sequence[str]) -> None:
        """What these images are, in the store."""

    def bare(self) -> Mapping[str, object]:
        """What ``bench.bare_loop`` is told, to delete from here."""
        raise NotImplementedError(f"there is no bare loop for {self.kind}")

    @property
    @abc.abstractmethod
    def count(self) -> int:
        """How many objects there are, asked past the programs that are measured."""

    @property
    def connections(self) -> int:
        """Grows by one with each connection, and with each look at it; 0 if nobody knows."""
        return 0


class Files(Place):
    kind = "file"

    def _start(self, stack: ExitStack) -> None:  # noqa: ARG002 - there is no server
        self._images = self._directory / NAME
        self._images.mkdir()
        self._files = backlog.Directory(self._images)

    def options(self, port: int) -> Mapping[str, object]:  # noqa: ARG002
        return {"filesystem_store_datadir": self._images}

    def url(self, image_id: str) -> str:
        return self._files.url(image_id)

    def put(self, image_ids: Sequence[str]) -> None:
        self._files.put(image_ids)

    def bare(self) -> Mapping[str, object]:
        return {"store": "file"}

    @property
    def count(self) -> int:
        return len(os.listdir(self._images))


class SlowFiles(Files):
    """A driver for tests in each program: it sleeps before each delete."""

    kind = "slow"
    latency = 0.1

    def _start(self, stack: ExitStack) -> None:
        super()._start(stack)
        stack.enter_context(_python_path(PLUGIN))

    def options(self, port: int) -> Mapping[str, object]:
        return {**super().options(port), "seconds": self.latency}


class RcloneBucket(Place):
    kind = "s3"

    def _start(self, stack: ExitStack) -> None:
        # The server's buckets are directories, so nobody need upload thousands of objects.
        self._bucket = self._directory / "data" / NAME
        self._bucket.mkdir(parents=True)
        self._server = stack.enter_context(S3Server(self._directory))

    @property
    def port(self) -> int:
        return self._server.port

    def options(self, port: int) -> Mapping[str, object]:
        return self._server.options(NAME, s3_store_host=f"http://{LOCALHOST}:{port}")

    def url(self, image_id: str) -> str:
        return f"s3://{LOCALHOST}:{self.port}/{NAME}/{image_id}"

    def put(self, image_ids: Sequence[str]) -> None:
        backlog.Directory(self._bucket).put(image_ids)

    def bare(self) -> Mapping[str, object]:
        return {
            "store": "s3",
            "endpoint": self._server.url,
            "access_key": self._server.access_key,
            "secret_key": self._server.secret_key,
            "bucket": NAME,
        }

    @property
    def count(self) -> int:
        return len(os.listdir(self._bucket))


class Container(Place):
    kind = "swift"

    def _start(self, stack: ExitStack) -> None:
        self._swift = stack.enter_context(Swift(self._directory / "swift"))
        self._account: Account = self._swift.account()
        stack.callback(self._account.close)
        self._account.create(NAME)

    @property
    def port(self) -> int:
        return int(self._swift.url.rpartition(":")[2])

    def options(self, port: int) -> Mapping[str, object]:
        def at(url: str) -> str:
            return url.replace(f":{self.port}/", f":{port}/")

        login = reference(self._swift, auth_address=at(self._swift.auth_v3))
        file = write_references(self._directory / "references", {"ref1": login})
        return {
            "swift_store_config_file": file,
            "default_swift_reference": "ref1",
            "swift_store_container": NAME,
            # The catalogue names the server's own port.
            "swift_store_endpoint": at(self._swift.storage_url(TESTER)),
        }

    def url(self, image_id: str) -> str:
        return f"swift+config://ref1/{NAME}/{image_id}"

    def put(self, image_ids: Sequence[str]) -> None:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(self._put, image_ids))

    def _put(self, image_id: str) -> None:
        self._account.put(NAME, image_id, b"x" * SIZE)

    def bare(self) -> Mapping[str, object]:
        return {
            "store": "swift",
            "auth": self._swift.auth_v1,
            "user": TESTER.name,
            "key": TESTER.key,
            "url": self._swift.storage_url(TESTER),
            "container": NAME,
        }

    @property
    def count(self) -> int:
        return len(self._account.names(NAME))


class LargeObjects(Container):
    """Each image in segments, as Glance stores those above swift_store_large_object_size."""

    segments = SEGMENTS
    objects = 1 + SEGMENTS

    def _put(self, image_id: str) -> None:
        self._account.put_dlo(NAME, image_id, self.segments, SIZE)

    def bare(self) -> Mapping[str, object]:
        return {**super().bare(), "store": "dlo"}


class VeryLargeObjects(LargeObjects):
    """Images of a terabyte, at 5 GiB a segment."""

    segments = 200
    objects = 201


class SwiftBucket(Container):
    """The S3 of a Swift."""

    kind = "s3"

    def options(self, port: int) -> Mapping[str, object]:
        account = S3Account(f"http://{LOCALHOST}:{port}", TESTER.name, TESTER.key)
        return account.options(NAME)

    def url(self, image_id: str) -> str:
        return f"s3://{LOCALHOST}:{self.port}/{NAME}/{image_id}"


class Pool(Place):
    kind = "rbd"

    def _start(self, stack: ExitStack) -> None:
        self._ceph = stack.enter_context(Ceph(NAME))
        self._pool = CephPool(self._ceph, NAME)
        stack.enter_context(_python_path(self._ceph.modules))

    def options(self, port: int) -> Mapping[str, object]:  # noqa: ARG002 - it is in ceph.conf
        return {
            "rbd_store_pool": NAME,
            "rbd_store_user": "admin",
            "rbd_store_ceph_conf": self._ceph.configuration,
        }

    def url(self, image_id: str) -> str:
        return self._pool.url(image_id)

    def put(self, image_ids: Sequence[str]) -> None:
        with ThreadPoolExecutor(4) as threads:
            list(
                threads.map(lambda image_id: self._pool.put(image_id, data=b"x" * SIZE), image_ids)
            )

    @property
    def count(self) -> int:
        """In the trash as well."""
        return len(self._pool.images) + len(self._pool.trash)

    @property
    def connections(self) -> int:
        """The monitor numbers them."""
        connection: Any = self._ceph.connect()
        try:
            return int(connection.get_instance_id())
        finally:
            connection.shutdown()


@dataclass(frozen=True)
class Traffic:
    """What went through a proxy.

    :param requests: by method; those to Keystone apart.
    """

    connections: int
    requests: dict[str, int]


class Wire:
    """The proxy in front of a server, while it is entered.

    :param server: the server's port.
    :param milliseconds: the round trip that it pretends.
    """

    def __init__(self, server: int, directory: Path, milliseconds: float) -> None:
        self.port = free_port()
        self._argv = [sys.executable, PROXY, str(self.port), str(server), str(milliseconds)]
        self._log = directory / "proxy.log"

    def __enter__(self) -> Self:
        self._child = Child(self._argv, log=self._log)
        self._child.wait_ready(lambda: accepts_connections(self.port))
        return self

    def __exit__(self, *_: object) -> None:
        self._child.stop()

    def traffic(self) -> Traffic:
        """All of it; the proxy ends."""
        self._child.stop()
        counted = json.loads(self._child.log_tail(1))
        # The first connection was ours, to see that it is there.
        return Traffic(counted["connections"] - 1, counted["requests"])


@contextmanager
def _python_path(directory: Path) -> Iterator[None]:
    """The programs that are started meanwhile find modules there, too."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(directory), before]))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before

"""The contract of store drivers, kept by the rbd driver on a real Ceph."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import ClassVar
from urllib.parse import quote

import pytest

from contract.driver_contract import *  # noqa: F403 - every driver keeps all of it
from contract.driver_contract import Place, Trouble
from lab.ceph_pools import CephPool

OTHER_CLUSTER = "11111111-2222-3333-4444-555555555555"


class RbdPlace(Place):
    many = 10
    refused: ClassVar = [
        f"rbd://{OTHER_CLUSTER}/images/a/snap",
        "rbd://images/a",
        "rbd://a/b/c",
        "rbd://a/b/c/d/e",
        "rbd:///images/a/snap",
        "rbd://",
        "rbd:a",
        "RBD://a",
        "file:///etc/passwd",
        "no URL",
        "",
    ]

    def __init__(self, pool: CephPool) -> None:
        self._pool = pool
        self.driver = pool.driver()
        self.driver.resolve()

    def url(self, name: str) -> str:
        return self._pool.url(name)

    def spellings(self, name: str) -> list[str]:
        fsid, pool = self._pool.ceph.fsid, self._pool.name
        encoded = "".join(f"%{byte:02x}" for byte in name.encode())
        return [
            f"rbd://{name}",
            f"rbd://{fsid}/{pool}/{encoded}/snap",
            f"rbd://{fsid.upper()}/{quote(pool)}/{name}/other",
        ]

    def put(self, name: str, size: int) -> None:
        self._pool.put(name, size)

    def holds(self, name: str) -> bool:
        return name in self._pool.images

    def remove_root(self) -> None:
        self._pool.ceph.delete_pool(self._pool.name)

    def replace_root(self) -> None:
        names = self._pool.images
        self.remove_root()
        self._pool.ceph.create_pool(self._pool.name)
        for name in names:
            self._pool.put(name)

    def in_trouble(
        self, trouble: Trouble, name: str | None = None
    ) -> AbstractContextManager[None] | None:
        # librbd hides all else: it tries again until Ceph answers, or its time is up.
        return self._silent() if trouble is Trouble.SILENT and name is None else None

    @contextmanager
    def _silent(self) -> Iterator[None]:
        """For a driver of its own: librados is told once how long it may wait."""
        patient, self.driver = self.driver, self._pool.driver(rados_connect_timeout=1)
        try:
            self.driver.resolve()
            self.driver.probe()
            with self._pool.ceph.frozen("osd"):
                yield
        finally:
            self.driver.close()
            self.driver = patient


@pytest.fixture
def place(pool: CephPool) -> Iterator[Place]:
    place = RbdPlace(pool)
    yield place
    place.driver.close()

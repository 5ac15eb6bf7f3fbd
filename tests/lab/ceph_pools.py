"""Pools of a Ceph, with images as Glance makes them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from contract.sections import section
from lab.ceph import Ceph
from scrubber.stores.rbd import RbdDriver

SNAPSHOT = "snap"


class CephPool:
    """A pool, and what others than scrubber do with the images in it."""

    def __init__(self, ceph: Ceph, name: str) -> None:
        import rbd

        self.ceph = ceph
        self.name = name
        self.rbd: Any = rbd

    @contextmanager
    def renamed(self, other: str) -> Iterator[None]:
        """Its name is free."""
        self.ceph.command("osd pool rename", srcpool=self.name, destpool=other)
        try:
            yield
        finally:
            self.ceph.command("osd pool rename", srcpool=other, destpool=self.name)

    def driver(self, **options: Any) -> RbdDriver:
        """A driver that deletes from it, or from what ``options`` say."""
        return RbdDriver(
            section(
                RbdDriver,
                **{
                    "rbd_store_pool": self.name,
                    "rbd_store_ceph_conf": str(self.ceph.configuration),
                    **options,
                },
            )
        )

    def url(self, image: str, *, fsid: str = "", snapshot: str = SNAPSHOT) -> str:
        parts = (fsid or self.ceph.fsid, self.name, image, snapshot)
        return "rbd://" + "/".join(quote(part, safe="") for part in parts)

    def put(self, image: str, size: int = 1, *, data: bytes = b"") -> None:
        """As Glance does, snapshot and all."""
        with self.opened() as pool:
            self.rbd.RBD().create(pool, image, max(size, len(data)))
        with self.image(image) as opened:
            if data:
                opened.write(data, 0)
            opened.create_snap(SNAPSHOT)
            opened.protect_snap(SNAPSHOT)

    def clone(self, image: str, clone: str, *, format: int = 2, into: str = "") -> None:
        """Into another pool, or into this one."""
        target = CephPool(self.ceph, into or self.name)
        target.configure("rbd_default_clone_format", str(format))
        with self.opened() as pool, target.opened() as other:
            self.rbd.RBD().clone(pool, image, SNAPSHOT, other, clone)

    def configure(self, name: str, value: str) -> None:
        """As by ``rbd config pool set``."""
        with self.opened() as pool:
            self.rbd.RBD().config_set(pool, name, value)

    def remove_snapshot(self, image: str) -> None:
        """The one that Glance made."""
        with self.image(image) as opened:
            opened.unprotect_snap(SNAPSHOT)
            opened.remove_snap(SNAPSHOT)

    def remove(self, image: str) -> None:
        with self.opened() as pool:
            self.rbd.RBD().remove(pool, image)

    def wipe(self, image: str) -> None:
        """Remove an image that has no clones, with its snapshots."""
        with self.image(image) as opened:
            for name, protected in self.snapshots(image).items():
                if protected:
                    opened.unprotect_snap(name)
                opened.remove_snap(name)
        self.remove(image)

    @contextmanager
    def opened(self) -> Iterator[Any]:
        with self.ceph.pool(self.name) as pool:
            yield pool

    @contextmanager
    def image(self, name: str, **how: Any) -> Iterator[Any]:
        with self.opened() as pool, self.rbd.Image(pool, name, **how) as image:
            yield image

    @property
    def images(self) -> set[str]:
        with self.opened() as pool:
            return set(self.rbd.RBD().list(pool))

    @property
    def trash(self) -> dict[str, str]:
        """Ids of what is in the trash, by name."""
        with self.opened() as pool:
            return {entry["name"]: entry["id"] for entry in self.rbd.RBD().trash_list(pool)}

    def snapshots(self, image: str) -> dict[str, bool]:
        """Whether each is protected; those that only clones still need are not among them."""
        with self.image(image) as opened:
            names = [snap["name"] for snap in opened.list_snaps() if not snap["namespace"]]
            return {name: bool(opened.is_protected_snap(name)) for name in names}

    def read(self, image: str) -> bytes:
        """The image's bytes as Glance reads them."""
        with self.image(image, snapshot=SNAPSHOT, read_only=True) as opened:
            content: bytes = opened.read(0, opened.size())
            return content

"""A store's Ceph cluster: the connection, the pools that it deletes from, what Ceph says.

The one connection is made by ``resolve`` and ``probe``, which run while no other call is under
way; all others only use it.
"""

import errno
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from scrubber import errors
from scrubber.stores import base

_DIRECTORY_OF_IMAGES = "rbd_directory"

_DENIED = (
    "Ceph denies permission: see the keyring and the capabilities (profile rbd, in this pool) of "
    "rbd_store_user"
)

# What Ceph says for all of the store; anything else is about one image.
_OF_THE_STORE = {
    errno.EPERM: _DENIED,
    errno.EACCES: _DENIED,
    errno.ETIMEDOUT: "Ceph does not answer in time",
    errno.ESHUTDOWN: "Ceph has blocklisted this client; the next run connects anew",
    errno.ENOTCONN: "the connection to Ceph is lost; the next run connects anew",
    errno.ENOSPC: "Ceph is full, so full that it cannot even delete",
    errno.EDQUOT: "the pool's quota is used up",
}

_IN_USE = {
    errno.EBUSY: "it is open elsewhere, or being copied or migrated",
    errno.ENOTEMPTY: "it has a snapshot or clone",
    errno.ECHILD: "it has a clone",
    errno.EMLINK: "it is in a consistency group",
}

# A connection in this state never recovers.
_LOST = frozenset({errno.ESHUTDOWN, errno.ENOTCONN})


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool as it was probed; ``opened`` is its I/O context."""

    name: str
    number: int
    opened: Any
    holds_images: bool


@dataclass(frozen=True, slots=True)
class _Connected:
    """A connection; ``client`` is the number by which the cluster knows it."""

    connection: Any
    client: int
    pools: Mapping[str, Pool]

    def close_pools(self) -> None:
        for pool in self.pools.values():
            pool.opened.close()


class Cluster:
    """The cluster of one store.

    :param pools: the names of those that it deletes from, that of rbd_store_pool first.
    :param rados: Ceph's module of that name, as is ``rbd``.
    :ivar fsid: the cluster's id, empty while nobody knows it.
    """

    def __init__(self, section: base.Section, pools: Sequence[str], rados: Any, rbd: Any) -> None:
        self.fsid = ""
        self._section = section
        self._names = pools
        self._rados = rados
        self._rbd = rbd
        self._made: _Connected | None = None

    def resolve(self) -> None:
        if self._made is None:
            with self._concerning_the_store():
                connection = self._connect()
                self.fsid = connection.get_fsid()
                self._made = _Connected(connection, connection.get_instance_id(), {})

    def probe(self) -> None:
        with self._concerning_the_store():
            try:
                self._probe()
            except (self._rados.Error, self._rbd.Error) as error:
                # Whatever is wrong with the connection, the next one may be better.
                self.close()
                if number(error) not in _LOST:
                    raise
                self._probe()

    def _probe(self) -> None:
        self.resolve()
        cluster = self._connected
        pools = {name: self._open(name) for name in self._names}
        self._made = _Connected(cluster.connection, cluster.client, pools)
        cluster.close_pools()

    def _connect(self) -> Any:
        connection = self._configured()
        try:
            connection.connect()
        except self._rados.ObjectNotFound:
            raise errors.Unavailable(
                "neither monitors nor keyring to be found: see options rbd_store_ceph_conf and "
                f"rbd_store_user in section [{self._section.name}]"
            ) from None
        return connection

    def _configured(self) -> Any:
        options = self._section.options
        seconds = options.rados_connect_timeout
        if seconds <= 0:
            # Connecting and a first operation fit into the patience of who calls.
            seconds = max(1, int(self._section.call_timeout() / 2))
        settings = {
            "client_mount_timeout": str(seconds),
            "rados_mon_op_timeout": str(seconds),
            "rados_osd_op_timeout": str(seconds),
        }
        try:
            return self._rados.Rados(
                conffile=options.rbd_store_ceph_conf or "",
                rados_id=options.rbd_store_user,
                conf=settings,
            )
        except self._rados.Error as error:
            raise errors.Unavailable(
                f"option rbd_store_ceph_conf in section [{self._section.name}] names no ceph.conf "
                f"that can be read ({_name(error)})"
            ) from None

    def _open(self, name: str) -> Pool:
        """The pool as it is now.

        By the number that the monitors give: opened by its name it could be one that was
        deleted, and waiting for newer names has no time-out in librados.
        """
        now = self.pool_numbers().get(name)
        if now is None:
            option = "rbd_store_pool" if name == self._names[0] else "scrub_also_in"
            raise errors.Unavailable(
                f"option {option} in section [{self._section.name}] names a pool that the cluster "
                "does not have"
            )
        pool = self._connected.connection.open_ioctx2(now)
        # Deletes make room: they go on where the cluster is full.
        pool.set_osdmap_full_try()
        return Pool(name, now, pool, self._holds_images(pool))

    def pool_numbers(self) -> dict[str, int]:
        command = json.dumps({"prefix": "osd lspools", "format": "json"})
        code, output, _ = self._connected.connection.mon_command(command, b"")
        if code:
            raise self._rados.OSError("the monitors do not list the pools", errno=abs(code))
        return {entry["poolname"]: entry["poolnum"] for entry in json.loads(output)}

    def _holds_images(self, pool: Any) -> bool:
        with self._rados.ReadOpCtx() as operation:
            entries, _ = pool.get_omap_keys(operation, "", 1)
            try:
                pool.operate_read_op(operation, _DIRECTORY_OF_IMAGES)
            except self._rados.ObjectNotFound:
                return False
            return any(True for _ in entries)

    @property
    def _connected(self) -> _Connected:
        if self._made is None:
            raise errors.Unavailable("not connected to Ceph")
        return self._made

    def close(self) -> None:
        cluster, self._made = self._made, None
        if cluster is not None:
            cluster.close_pools()
            cluster.connection.shutdown()

    # Pools --------------------------------------------------------------------------------

    @property
    def pools(self) -> Collection[Pool]:
        """As they were probed; none without a connection."""
        return self._made.pools.values() if self._made else ()

    def pool(self, name: str) -> Pool:
        pool = self._connected.pools.get(name)
        if pool is None:
            raise errors.Unavailable("its pool was not probed")
        return pool

    @property
    def client(self) -> int:
        """The number by which the cluster knows this connection."""
        return self._connected.client

    # What Ceph says -----------------------------------------------------------------------

    @contextmanager
    def translated(self) -> Iterator[None]:
        """What Ceph says of an image, as what the caller may do next."""
        try:
            yield
        except (self._rados.Error, self._rbd.Error) as error:
            code = number(error)
            if code in _OF_THE_STORE:
                raise errors.Unavailable(_OF_THE_STORE[code]) from None
            if code in _IN_USE:
                raise errors.InUse(_IN_USE[code]) from None
            if code == errno.EROFS:
                raise errors.Failed("it is the mirror of an image elsewhere (EROFS)") from None
            raise errors.Failed(f"Ceph answers {_name(error)}") from None

    @contextmanager
    def _concerning_the_store(self) -> Iterator[None]:
        """Likewise, of the store as a whole.

        :raises Unavailable: whatever Ceph says.
        """
        try:
            with self.translated():
                yield
        except errors.Unavailable:
            raise
        except errors.StoreError as error:
            raise errors.Unavailable(str(error)) from None


def is_of_the_store(error: Exception) -> bool:
    """Whether Ceph would say the same of any other image."""
    return number(error) in _OF_THE_STORE


def number(error: Exception) -> int:
    return int(getattr(error, "errno", None) or 0)


def _name(error: Exception) -> str:
    """What may be shown of a foreign error: its text may quote names."""
    code = number(error)
    return errno.errorcode.get(code) or f"error {code} ({type(error).__name__})"

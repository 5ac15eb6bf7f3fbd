"""The rbd store: images are RBD images in a pool of a Ceph cluster, each with a snapshot.

Follows glance_store's ``rbd`` driver in what a URL means: ``rbd://fsid/pool/image/snapshot``
with each part percent-encoded, or ``rbd://image``, taken literally, in the configured pool.
Glance reads an image through its snapshot, so that VMs can start from clones of it.

Every method but the pure ones runs in native threads: nothing here logs or locks.  The one
connection is made by ``resolve`` and ``probe``, which run while no other call is under way;
``look`` and ``delete`` only use it.
"""

import datetime
import errno
import importlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from oslo_config import cfg

from scrubber import errors
from scrubber.model import Answer, Answers, Deleted, Found, Look, Looks, Target, Trashed
from scrubber.stores import base

T = TypeVar("T")

_OPTS = [
    cfg.StrOpt(
        "rbd_store_pool",
        default="images",
        help="Pool of the images, as in glance-api.conf.",
    ),
    cfg.StrOpt(
        "rbd_store_user",
        help="Ceph user (without 'client.') to delete as, as in glance-api.conf; its keyring must "
        "be readable for scrubber. librados' default without it.",
    ),
    cfg.StrOpt(
        "rbd_store_ceph_conf",
        default="",
        help="The cluster's ceph.conf, as in glance-api.conf; where librados finds one without it.",
    ),
    cfg.IntOpt(
        "rados_connect_timeout",
        default=-1,
        help="Seconds that connecting and each operation in the cluster may take; half of "
        "call_timeout if it is not above 0.",
    ),
    base.ALSO_IN,
    cfg.BoolOpt(
        "scrub_trash_in_use",
        default=False,
        help="Move an image that clones still use to the pool's trash and count it as done, as "
        "Glance itself would; 'rbd trash purge' frees its space once the clones are gone. Without "
        "it the image waits, whole, until then. Clones of format 1 make it wait in any case.",
    ),
]

_PREFIX = "rbd://"
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

# Namespaces of snapshots: those that users make, and those removed while a clone needs them.
_OF_USERS, _IN_TRASH = 0, 2


class RbdDriver(base.Driver):
    """One store of type ``rbd``.

    ``bytes_freed`` is the image's size, as Glance counts it; a sparse image occupied less.

    An image in use is left as it was, or made so again: Glance reads a restored one through its
    snapshot.  What goes to the trash instead loses its snapshot, which lives on, hidden, until the
    last clone is gone; ``rbd trash restore``, ``rbd snap create`` and ``rbd snap protect`` bring
    it back.  A delete that was cut off is finished by the next one.
    """

    abilities = base.Abilities(
        schemes=frozenset({"rbd"}),
        blocks=True,
        batch=8,
        seconds=0.5,
    )

    def __init__(self, section: base.Section) -> None:
        super().__init__(section)
        self._own_pool = section.required("rbd_store_pool")
        self._pools = (self._own_pool, *section.options.scrub_also_in)
        with section.importing(
            "Ceph's Python modules rados and rbd",
            "install python3-rados and python3-rbd of your distribution, and make scrubber's "
            "virtualenv by its interpreter with --system-site-packages",
        ):
            self._rados: Any = importlib.import_module("rados")
            self._rbd: Any = importlib.import_module("rbd")
        self._cluster: _Cluster | None = None
        #: The cluster's id, empty while nobody knows it.
        self._fsid = ""

    @classmethod
    def options(cls) -> list[cfg.Opt]:
        return _OPTS

    # The cluster --------------------------------------------------------------------------

    def resolve(self) -> None:
        if self._cluster is None:
            with self._concerning_the_store():
                connection = self._connect()
                self._fsid = connection.get_fsid()
                self._cluster = _Cluster(connection, connection.get_instance_id(), {})

    def probe(self) -> None:
        with self._concerning_the_store():
            try:
                self._probe()
            except (self._rados.Error, self._rbd.Error) as error:
                # Whatever is wrong with the connection, the next one may be better.
                self.close()
                if _number(error) not in _LOST:
                    raise
                self._probe()

    def _probe(self) -> None:
        self.resolve()
        cluster = self._connected
        pools = {name: self._open(name) for name in self._pools}
        self._cluster = _Cluster(cluster.connection, cluster.client, pools)
        cluster.close_pools()

    def _connect(self) -> Any:
        connection = self._configured()
        try:
            connection.connect()
        except self._rados.ObjectNotFound:
            raise errors.Unavailable(
                "neither monitors nor keyring to be found: see options rbd_store_ceph_conf and "
                f"rbd_store_user in section [{self.section.name}]"
            ) from None
        return connection

    def _configured(self) -> Any:
        options = self.section.options
        seconds = options.rados_connect_timeout
        if seconds <= 0:
            # Connecting and a first operation fit into the patience of who calls.
            seconds = max(1, int(self.section.call_timeout() / 2))
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
                f"option rbd_store_ceph_conf in section [{self.section.name}] names no ceph.conf "
                f"that can be read ({_name(error)})"
            ) from None

    def _open(self, name: str) -> "_Pool":
        """The pool as it is now.

        By the number that the monitors give: opened by its name it could be one that was
        deleted, and waiting for newer names has no time-out in librados.
        """
        number = self._pool_numbers().get(name)
        if number is None:
            option = "rbd_store_pool" if name == self._own_pool else "scrub_also_in"
            raise errors.Unavailable(
                f"option {option} in section [{self.section.name}] names a pool that the cluster "
                "does not have"
            )
        pool = self._connected.connection.open_ioctx2(number)
        # Deletes make room: they go on where the cluster is full.
        pool.set_osdmap_full_try()
        return _Pool(name, number, pool, self._holds_images(pool))

    def _pool_numbers(self) -> dict[str, int]:
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
    def _connected(self) -> "_Cluster":
        if self._cluster is None:
            raise errors.Unavailable("not connected to Ceph")
        return self._cluster

    def close(self) -> None:
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            cluster.close_pools()
            cluster.connection.shutdown()

    # URLs ---------------------------------------------------------------------------------

    def root(self, url: str) -> str:
        name = self._allowed(url)
        return f"{name.fsid}/{name.pool}"

    def holds_something(self, root: str) -> bool:
        pools = self._cluster.pools.values() if self._cluster else ()
        return any(pool.holds_images for pool in pools if root == f"{self._fsid}/{pool.name}")

    def identify(self, url: str) -> str:
        return self._allowed(url).identity

    def mentions(self, urls: Sequence[str]) -> list[Iterable[str]]:
        return [self._readings(url) for url in urls]

    def _readings(self, url: str) -> Iterable[str]:
        """What Glance may read: it takes any fsid for that of the cluster it is connected to."""
        name = _parsed(url)
        if name is None or not _is_encodable(name):
            return ()
        own = self._complete(name)
        if not own.fsid:
            raise errors.Unavailable("nobody knows yet to which cluster rbd://NAME leads")
        clusters = {own.fsid, name.fsid or own.fsid, self._fsid or own.fsid}
        images = {own.image, own.image.partition("\0")[0], unquote(own.image)}
        return {
            _Name(fsid, own.pool, image, None).identity for fsid in clusters for image in images
        }

    def _allowed(self, url: str) -> "_Name":
        """What this URL names.

        :raises Refused: not an image in a pool of ours.
        """
        name = _parsed(url)
        if name is None:
            raise errors.Refused("not the URL of an RBD image")
        if not _is_encodable(name) or any("\0" in part for part in name.parts):
            raise errors.Refused("the URL holds characters that no image's name has")
        name = self._complete(name)
        if self._fsid and name.fsid != self._fsid:
            raise errors.Refused("the URL names an image of another Ceph cluster")
        if name.pool not in self._pools:
            raise errors.Refused(
                "the URL names a pool that is neither rbd_store_pool nor in scrub_also_in of "
                f"store {self.store}"
            )
        return name

    def _complete(self, name: "_Name") -> "_Name":
        fsid = (name.fsid or self._fsid).lower()
        return _Name(fsid, name.pool or self._own_pool, name.image, name.snapshot)

    # Images -------------------------------------------------------------------------------

    def look(self, targets: Sequence[Target]) -> Looks:
        looks: list[Look] = []
        for target in targets:
            look = self._answer(self._look, target)
            if isinstance(look, errors.Unavailable):
                raise look
            looks.append(look)
        return looks

    def delete(self, targets: Sequence[Target], proceed: Callable[[], bool]) -> Answers:
        answers: list[Answer] = []
        rest: errors.StoreError = errors.NotSent("not sent")
        for target in targets:
            if not proceed():
                break
            answer = self._answer(self._delete, target)
            answers.append(answer)
            if isinstance(answer, errors.Unavailable):
                rest = answer
                break
        return answers + [rest] * (len(targets) - len(answers))

    def _answer(
        self, act: Callable[["_Pool", "_Name"], T], target: Target
    ) -> T | errors.StoreError:
        try:
            name = self._allowed(target.url)
            with self._translated():
                return act(self._probed(name.pool), name)
        except errors.StoreError as error:
            return error

    def _probed(self, name: str) -> "_Pool":
        pool = self._connected.pools.get(name)
        if pool is None:
            raise errors.Unavailable("its pool was not probed")
        return pool

    def _look(self, pool: "_Pool", name: "_Name") -> Found:
        try:
            with self._rbd.Image(pool.opened, name.image, read_only=True) as image:
                return Found(
                    size=image.size(),
                    # Ceph notes a change only once a minute.
                    modified_at=_latest(image.create_timestamp(), image.modify_timestamp()),
                    fingerprint=f"{self._fsid}/{pool.number}/{self._image_id(image) or name.image}",
                )
        except self._rbd.ImageNotFound:
            raise self._gone(pool, name) from None

    def _delete(self, pool: "_Pool", name: "_Name") -> Answer:
        try:
            with self._rbd.Image(pool.opened, name.image) as image:
                self._check_unused(image, name)
                size, image_id = image.size(), self._image_id(image)
                self._remove_snapshot(image, name)
        except self._rbd.ImageNotFound:
            return self._finish(pool, name)
        # Closed, since our own watch would keep it from being removed.
        return self._remove(pool, name, image_id, size)

    def _check_unused(self, image: Any, name: "_Name") -> None:
        """See that nobody uses it, as far as Ceph knows.

        :raises InUse: somebody does; it is as it was.
        """
        me = self._connected.client
        if any(watcher["id"] != me for watcher in image.watchers_list()):
            raise errors.InUse("it is open elsewhere")
        snapshots = list(image.list_snaps())
        if strangers := sum(not _goes_with(snapshot, name) for snapshot in snapshots):
            raise errors.InUse(f"somebody made snapshots of it: {strangers}")
        clones = sum(self._clones(image, snapshot["id"]) for snapshot in snapshots)
        if clones and not self._moves_to_trash:
            # A delete that was cut off may have taken it away.
            self._put_back_snapshot(image, name)
            raise errors.InUse(f"clones of it exist: at least {clones}")

    def _clones(self, image: Any, snapshot: int) -> int:
        """How many clones of a snapshot there are; any number of hidden ones counts as one.

        Glance's user may rarely read the pools of the volumes that are cloned from images.
        """
        image.set_snap_by_id(snapshot)
        try:
            return sum(1 for _ in image.list_children2())
        except self._rbd.Error as error:
            if _number(error) not in (errno.EPERM, errno.EACCES):
                raise
            return 1
        finally:
            image.set_snap(None)

    @property
    def _moves_to_trash(self) -> bool:
        return bool(self.section.options.scrub_trash_in_use)

    def _remove_snapshot(self, image: Any, name: "_Name") -> None:
        """Take Glance's snapshot off; one that clones of format 1 use is busy, and stays."""
        if not _has_snapshot(image, name):
            return
        # Invalid is what is not protected.
        with suppress(self._rbd.InvalidArgument):
            image.unprotect_snap(name.snapshot)
        image.remove_snap(name.snapshot)

    def _put_back_snapshot(self, image: Any, name: "_Name") -> None:
        """As Glance had made it: it reads a restored image through it."""
        if name.snapshot is None:
            return
        if not _has_snapshot(image, name):
            image.create_snap(name.snapshot)
        if not image.is_protected_snap(name.snapshot):
            image.protect_snap(name.snapshot)

    def _remove(self, pool: "_Pool", name: "_Name", image_id: str, size: int) -> Answer:
        try:
            self._rbd.RBD().remove(pool.opened, name.image)
        except (self._rbd.Error, self._rados.Error) as error:
            if _number(error) in _OF_THE_STORE:
                raise
            return self._not_removed(pool, name, error)
        return Trashed() if self._is_in_trash(pool, image_id) else Deleted(size)

    def _not_removed(self, pool: "_Pool", name: "_Name", error: Exception) -> Answer:
        """Clones of format 2 let their snapshot go, not the image; or somebody came meanwhile."""
        try:
            with self._rbd.Image(pool.opened, name.image) as image:
                only_clones = all(_goes_with(snapshot, name) for snapshot in image.list_snaps())
                has_clones = only_clones and isinstance(error, self._rbd.ImageHasSnapshots)
                if not (has_clones and self._moves_to_trash):
                    self._put_back_snapshot(image, name)
                    raise error
        except self._rbd.ImageNotFound:
            raise self._gone(pool, name) from None
        self._rbd.RBD().trash_move(pool.opened, name.image, 0)
        return Trashed()

    def _finish(self, pool: "_Pool", name: "_Name") -> Answer:
        """What cannot be opened may be half removed; or it is in the trash, its space not free."""
        try:
            self._rbd.RBD().remove(pool.opened, name.image)
        except self._rbd.ImageNotFound:
            trash = self._rbd.RBD().trash_list(pool.opened)
            if any(entry["name"] == name.image for entry in trash):
                return Trashed()
            raise self._gone(pool, name) from None
        return Deleted(0)

    def _is_in_trash(self, pool: "_Pool", image_id: str) -> bool:
        """Where the cluster is set to keep there what is removed."""
        if not image_id:
            return False
        try:
            self._rbd.RBD().trash_get(pool.opened, image_id)
        except self._rbd.ImageNotFound:
            return False
        return True

    def _image_id(self, image: Any) -> str:
        """Equal only for the same image; empty in the old format, which has none."""
        return "" if image.old_format() else str(image.id())

    def _gone(self, pool: "_Pool", name: "_Name") -> errors.StoreError:
        """What librbd does not find may be gone.

        It says so, too, of an image whose pool was deleted, or that is half removed, or that a
        full cluster keeps from its trash.
        """
        if self._pool_numbers().get(pool.name) != pool.number:
            return errors.Unavailable("its pool was deleted or replaced since this run began")
        if self._is_named(pool, name):
            return errors.Failed(
                "Ceph does not find it, yet its name is there: half removed, or is Ceph full?"
            )
        return base.Gone()

    def _is_named(self, pool: "_Pool", name: "_Name") -> bool:
        for holder in (f"rbd_id.{name.image}", f"{name.image}.rbd"):
            with suppress(self._rados.ObjectNotFound):
                pool.opened.stat(holder)
                return True
        return False

    # What Ceph says -----------------------------------------------------------------------

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """What Ceph says of an image, as what the caller may do next."""
        try:
            yield
        except (self._rados.Error, self._rbd.Error) as error:
            number = _number(error)
            if number in _OF_THE_STORE:
                raise errors.Unavailable(_OF_THE_STORE[number]) from None
            if number in _IN_USE:
                raise errors.InUse(_IN_USE[number]) from None
            if number == errno.EROFS:
                raise errors.Failed("it is the mirror of an image elsewhere (EROFS)") from None
            raise errors.Failed(f"Ceph answers {_name(error)}") from None

    @contextmanager
    def _concerning_the_store(self) -> Iterator[None]:
        """Likewise, of the store as a whole.

        :raises Unavailable: whatever Ceph says.
        """
        try:
            with self._translated():
                yield
        except errors.Unavailable:
            raise
        except errors.StoreError as error:
            raise errors.Unavailable(str(error)) from None


@dataclass(frozen=True, slots=True)
class _Name:
    """What a URL names."""

    fsid: str
    pool: str
    image: str
    snapshot: str | None

    @property
    def parts(self) -> tuple[str, ...]:
        return (self.fsid, self.pool, self.image, self.snapshot or "")

    @property
    def identity(self) -> str:
        return f"rbd:{self.fsid}/{quote(self.pool, '')}/{quote(self.image, '')}"


@dataclass(frozen=True, slots=True)
class _Pool:
    """A pool as it was probed; ``opened`` is its I/O context."""

    name: str
    number: int
    opened: Any
    holds_images: bool


@dataclass(frozen=True, slots=True)
class _Cluster:
    """A connection; ``client`` is the number by which the cluster knows it."""

    connection: Any
    client: int
    pools: Mapping[str, _Pool]

    def close_pools(self) -> None:
        for pool in self.pools.values():
            pool.opened.close()


def _parsed(url: str) -> _Name | None:
    """As glance_store reads it; fsid and pool empty in the short form."""
    if not url.startswith(_PREFIX):
        return None
    pieces = url[len(_PREFIX) :].split("/")
    if not all(pieces):
        return None
    match pieces:
        case [image]:
            return _Name("", "", image, None)
        case [_, _, _, _]:
            fsid, pool, image, snapshot = map(unquote, pieces)
            return _Name(fsid, pool, image, snapshot)
    return None


def _is_encodable(name: _Name) -> bool:
    try:
        "".join(name.parts).encode()
    except UnicodeEncodeError:
        return False
    return True


def _goes_with(snapshot: Mapping[str, Any], name: _Name) -> bool:
    """Whether it is Glance's own, or one that goes when the last clone of it goes."""
    if snapshot["namespace"] == _OF_USERS:
        return bool(snapshot["name"] == name.snapshot)
    return bool(snapshot["namespace"] == _IN_TRASH)


def _has_snapshot(image: Any, name: _Name) -> bool:
    return any(
        snapshot["name"] == name.snapshot and snapshot["namespace"] == _OF_USERS
        for snapshot in image.list_snaps()
    )


def _latest(*moments: datetime.datetime) -> datetime.datetime:
    """As naive UTC; librbd's own are naive in older releases only."""
    return max(
        moment.astimezone(datetime.UTC).replace(tzinfo=None) if moment.tzinfo else moment
        for moment in moments
    )


def _number(error: Exception) -> int:
    return int(getattr(error, "errno", None) or 0)


def _name(error: Exception) -> str:
    """What may be shown of a foreign error: its text may quote names."""
    number = _number(error)
    return errno.errorcode.get(number) or f"error {number} ({type(error).__name__})"

"""The rbd store itself.

Glance reads an image through its snapshot, so that VMs can start from clones of it.

Every method but the pure ones runs in native threads: nothing here logs or locks.
"""

import datetime
import errno
import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import unquote

from oslo_config import cfg

from scrubber import errors
from scrubber.model import Answer, Answers, Deleted, Found, Look, Looks, Target, Trashed
from scrubber.stores import base
from scrubber.stores.rbd.addresses import Name, parsed
from scrubber.stores.rbd.cluster import Cluster, Pool, is_of_the_store, number

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
        self._cluster = Cluster(section, self._pools, self._rados, self._rbd)

    @classmethod
    def options(cls) -> list[cfg.Opt]:
        return _OPTS

    # The cluster --------------------------------------------------------------------------

    def resolve(self) -> None:
        self._cluster.resolve()

    def probe(self) -> None:
        self._cluster.probe()

    def close(self) -> None:
        self._cluster.close()

    # URLs ---------------------------------------------------------------------------------

    def root(self, url: str) -> str:
        name = self._allowed(url)
        return f"{name.fsid}/{name.pool}"

    def holds_something(self, root: str) -> bool:
        return any(
            pool.holds_images
            for pool in self._cluster.pools
            if root == f"{self._cluster.fsid}/{pool.name}"
        )

    def identify(self, url: str) -> str:
        return self._allowed(url).identity

    def mentions(self, urls: Sequence[str]) -> list[Iterable[str]]:
        return [self._readings(url) for url in urls]

    def is_plain(self, url: str) -> bool:
        name = parsed(url)
        return name is not None and name.fsid == name.fsid.lower() and not {"%", "\0"} & {*url}

    def _readings(self, url: str) -> Iterable[str]:
        """What Glance may read: it takes any fsid for that of the cluster it is connected to."""
        name = parsed(url)
        if name is None or not name.is_encodable:
            return ()
        own = self._complete(name)
        if not own.fsid:
            raise errors.Unavailable("nobody knows yet to which cluster rbd://NAME leads")
        clusters = {own.fsid, name.fsid or own.fsid, self._cluster.fsid or own.fsid}
        images = {own.image, own.image.partition("\0")[0], unquote(own.image)}
        return {Name(fsid, own.pool, image, None).identity for fsid in clusters for image in images}

    def _allowed(self, url: str) -> Name:
        """What this URL names.

        :raises Refused: not an image in a pool of ours.
        """
        name = parsed(url)
        if name is None:
            raise errors.Refused("not the URL of an RBD image")
        if not name.is_encodable or any("\0" in part for part in name.parts):
            raise errors.Refused("the URL holds characters that no image's name has")
        name = self._complete(name)
        if self._cluster.fsid and name.fsid != self._cluster.fsid:
            raise errors.Refused("the URL names an image of another Ceph cluster")
        if name.pool not in self._pools:
            raise errors.Refused(
                "the URL names a pool that is neither rbd_store_pool nor in scrub_also_in of "
                f"store {self.store}"
            )
        return name

    def _complete(self, name: Name) -> Name:
        fsid = (name.fsid or self._cluster.fsid).lower()
        return Name(fsid, name.pool or self._own_pool, name.image, name.snapshot)

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
        return base.one_by_one(
            targets,
            lambda target: self._answer(self._delete, target),
            proceed,
            lambda answer: isinstance(answer, errors.Unavailable),
        )

    def _answer(self, act: Callable[[Pool, Name], T], target: Target) -> T | errors.StoreError:
        try:
            name = self._allowed(target.url)
            with self._cluster.translated():
                return act(self._cluster.pool(name.pool), name)
        except errors.StoreError as error:
            return error

    def _look(self, pool: Pool, name: Name) -> Found:
        pool_id = f"{self._cluster.fsid}/{pool.number}"
        try:
            with self._rbd.Image(pool.opened, name.image, read_only=True) as image:
                return Found(
                    size=image.size(),
                    # Ceph notes a change only once a minute.
                    modified_at=_latest(image.create_timestamp(), image.modify_timestamp()),
                    fingerprint=f"{pool_id}/{self._image_id(image) or name.image}",
                )
        except self._rbd.ImageNotFound:
            raise self._gone(pool, name) from None

    def _delete(self, pool: Pool, name: Name) -> Answer:
        try:
            with self._rbd.Image(pool.opened, name.image) as image:
                self._check_unused(image, name)
                size, image_id = image.size(), self._image_id(image)
                self._remove_snapshot(image, name)
        except self._rbd.ImageNotFound:
            return self._finish(pool, name)
        # Closed, since our own watch would keep it from being removed.
        return self._remove(pool, name, image_id, size)

    def _check_unused(self, image: Any, name: Name) -> None:
        """See that nobody uses it, as far as Ceph knows.

        :raises InUse: somebody does; it is as it was.
        """
        me = self._cluster.client
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
            if number(error) not in (errno.EPERM, errno.EACCES):
                raise
            return 1
        finally:
            image.set_snap(None)

    @property
    def _moves_to_trash(self) -> bool:
        return bool(self.section.options.scrub_trash_in_use)

    def _remove_snapshot(self, image: Any, name: Name) -> None:
        """Take Glance's snapshot off; one that clones of format 1 use is busy, and stays."""
        if not _has_snapshot(image, name):
            return
        # Invalid is what is not protected.
        with suppress(self._rbd.InvalidArgument):
            image.unprotect_snap(name.snapshot)
        image.remove_snap(name.snapshot)

    def _put_back_snapshot(self, image: Any, name: Name) -> None:
        """As Glance had made it: it reads a restored image through it."""
        if name.snapshot is None:
            return
        if not _has_snapshot(image, name):
            image.create_snap(name.snapshot)
        if not image.is_protected_snap(name.snapshot):
            image.protect_snap(name.snapshot)

    def _remove(self, pool: Pool, name: Name, image_id: str, size: int) -> Answer:
        try:
            self._rbd.RBD().remove(pool.opened, name.image)
        except (self._rbd.Error, self._rados.Error) as error:
            if is_of_the_store(error):
                raise
            return self._not_removed(pool, name, error)
        return Trashed() if self._is_in_trash(pool, image_id) else Deleted(size)

    def _not_removed(self, pool: Pool, name: Name, error: Exception) -> Answer:
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

    def _finish(self, pool: Pool, name: Name) -> Answer:
        """What cannot be opened may be half removed; or it is in the trash, its space not free."""
        try:
            self._rbd.RBD().remove(pool.opened, name.image)
        except self._rbd.ImageNotFound:
            trash = self._rbd.RBD().trash_list(pool.opened)
            if any(entry["name"] == name.image for entry in trash):
                return Trashed()
            raise self._gone(pool, name) from None
        return Deleted(0)

    def _is_in_trash(self, pool: Pool, image_id: str) -> bool:
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

    def _gone(self, pool: Pool, name: Name) -> errors.StoreError:
        """What librbd does not find may be gone.

        It says so, too, of an image whose pool was deleted, or that is half removed, or that a
        full cluster keeps from its trash.
        """
        if self._cluster.pool_numbers().get(pool.name) != pool.number:
            return errors.Unavailable("its pool was deleted or replaced since this run began")
        if self._is_named(pool, name):
            return errors.Failed(
                "Ceph does not find it, yet its name is there: half removed, or is Ceph full?"
            )
        return base.Gone()

    def _is_named(self, pool: Pool, name: Name) -> bool:
        for holder in (f"rbd_id.{name.image}", f"{name.image}.rbd"):
            with suppress(self._rados.ObjectNotFound):
                pool.opened.stat(holder)
                return True
        return False


def _goes_with(snapshot: Mapping[str, Any], name: Name) -> bool:
    """Whether it is Glance's own, or one that goes when the last clone of it goes."""
    if snapshot["namespace"] == _OF_USERS:
        return bool(snapshot["name"] == name.snapshot)
    return bool(snapshot["namespace"] == _IN_TRASH)


def _has_snapshot(image: Any, name: Name) -> bool:
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

"""The file store: images are files in one or several data directories.

Follows glance_store's ``filesystem`` driver in what a URL means (``file://`` or
``filesystem://`` and a literal path, percent signs and all) and is stricter in what it
deletes: a regular file, below a configured data directory, reached without a symbolic
link.
"""

import datetime
import errno
import os
import posixpath
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from urllib.parse import unquote

from oslo_config import cfg

from scrubber import errors, units
from scrubber.model import Answer, Answers, Deleted, Found, Look, Looks, Target
from scrubber.stores import base

_OPTS = [
    cfg.StrOpt(
        "filesystem_store_datadir",
        help="Directory of the images, as in glance-api.conf.",
    ),
    cfg.MultiStrOpt(
        "filesystem_store_datadirs",
        help="Directories of the images, each with an optional :priority, as in glance-api.conf.",
    ),
    cfg.Opt(
        "scrub_free_space",
        type=units.FreeSpace(),
        mutable=True,
        sample_default="10%",
        help="A daemon does not wait for wakeup_time while less than this is free in the file "
        "system of a data directory, and an image has become due since its last run began: a "
        "share, or bytes, or 500GB. Not set or 0: it waits.",
    ),
]

_DEFAULT_DATADIR = "/var/lib/glance/images"
_PREFIXES = ("file://", "filesystem://")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

# Where each image has a directory of its own, most are asked for again.
_MOST_PARENTS = 10_000

# With one of these a path can be another spelling of a file; without, it is the plain one.
_ODD_SPELLINGS = ("%", "//", "/.", "?", "#")

# As Glance writes it: nothing in it could mean anything else.
_PLAIN_URL = re.compile(r"(?:file|filesystem)://((?:/[\w-][\w.-]*)+)", re.ASCII)

# The file itself cannot be deleted; anything else the kernel says concerns the store.
_OF_ONE_FILE = frozenset({errno.EACCES, errno.EPERM, errno.EBUSY, errno.ETXTBSY, errno.EISDIR})


class FileDriver(base.Driver):
    """One store of type ``file``."""

    abilities = base.Abilities(
        schemes=frozenset({"file", "filesystem"}),
        blocks=True,
        batch=1000,
        # As each of sixteen threads sees it: they share the processors, and Python's lock.
        seconds=0.5,
        at_least=256,
        may_hang=True,
    )

    def __init__(self, section: base.Section) -> None:
        super().__init__(section)
        self._roots = [_Root(path) for path in self._directories(section.options)]
        self._parents: dict[str, str] = {}

    @classmethod
    def options(cls) -> list[cfg.Opt]:
        return _OPTS

    def _directories(self, options: cfg.ConfigOpts.GroupAttr) -> list[str]:
        single, several = options.filesystem_store_datadir, options.filesystem_store_datadirs
        if single and several:
            raise errors.ConfigError(
                f"section [{self.section.name}]: set filesystem_store_datadir or "
                "filesystem_store_datadirs, not both"
            )
        if several:
            return [_without_priority(value) for value in several]
        return [single or _DEFAULT_DATADIR]

    @property
    def family(self) -> str:
        return "file"

    def probe(self) -> None:
        for root in self._roots:
            root.probe()

    def resolve(self) -> None:
        # Until a root has answered what it said before counts for nothing.
        parents = self._parents = {}
        for root in self._roots:
            root.resolve()
            parents |= {root.path: root.real, root.real: root.real}

    def space_watch(self) -> Callable[[], bool] | None:
        watermark = self.section.options.scrub_free_space
        if watermark is None:
            return None
        return lambda: any(watermark.is_above(*root.space()) for root in self._roots)

    def root(self, url: str) -> str:
        return self._place(_path(url))[0].path

    def where(self, url: str) -> base.Place:
        root, rest = self._place(_path(url))
        return base.Place(root.path, f"{root.real}/{rest}")

    def holds_something(self, root: str) -> bool:
        return all(at.holds_something for at in self._roots if at.path == root)

    def identify(self, url: str) -> str:
        return self.where(url).identity

    def mentions(self, urls: Sequence[str]) -> list[Iterable[str]]:
        return [self._readings(url) for url in urls]

    def _readings(self, url: str) -> Iterable[str]:
        """Every file the URL may mean: literal or percent-decoded, links followed or not."""
        path = _literal_path(url)
        if path is None or "\0" in path:
            return ()
        if any(odd in path for odd in _ODD_SPELLINGS):
            cut = path.partition("?")[0].partition("#")[0]
            spellings = {path, cut, unquote(path), unquote(cut)}
            spellings = {spelling for spelling in spellings if "\0" not in spelling}
            readings = {os.path.realpath(spelling) for spelling in spellings}
            spellings = {_normal(spelling) for spelling in spellings}
        else:
            spellings, readings = {path}, set()
        for spelling in spellings:
            parent, name = posixpath.split(spelling)
            readings.add(f"{self._real_parent(parent)}/{name}")
        return readings

    def _real_parent(self, path: str) -> str:
        """Where a directory is: asked for once in a run, since its file system may hang later."""
        if (real := self._parents.get(path)) is None:
            real = os.path.realpath(path)
            if len(self._parents) < _MOST_PARENTS:
                self._parents[path] = real
        return real

    def is_plain(self, url: str) -> bool:
        return _PLAIN_URL.fullmatch(url) is not None

    def look(self, targets: Sequence[Target]) -> Looks:
        with _Opened() as opened:
            return [self._look(target, opened) for target in targets]

    def _look(self, target: Target, opened: "_Opened") -> Look:
        try:
            with self._parent(target, opened) as (directory, name):
                status = _regular_file(name, directory)
        except errors.Unavailable:
            raise
        except errors.StoreError as error:
            return error
        return Found(
            size=status.st_size,
            modified_at=_modified_at(status),
            fingerprint=f"{status.st_dev}:{status.st_ino}",
        )

    def delete(self, targets: Sequence[Target], proceed: Callable[[], bool]) -> Answers:
        answers: list[Answer] = []
        rest: errors.StoreError = errors.NotSent("not sent")
        with _Opened() as opened:
            for target in targets:
                try:
                    answers.append(self._delete(target, opened, proceed))
                except errors.NotSent:
                    break
                except errors.Unavailable as unavailable:
                    rest = unavailable
                    break
            if any(isinstance(answer, Deleted) for answer in answers):
                opened.sync()
        return answers + [rest] * (len(targets) - len(answers))

    def _delete(self, target: Target, opened: "_Opened", proceed: Callable[[], bool]) -> Answer:
        """:raises NotSent: it was not to go on."""
        try:
            with self._parent(target, opened) as (directory, name):
                status = _regular_file(name, directory)
                # As late as can be: all that comes before may have hung for hours.
                if not proceed():
                    raise errors.NotSent("not sent")
                os.unlink(name, dir_fd=directory)
                if directory not in opened:
                    _sync(directory)
        except (errors.NotSent, errors.Unavailable):
            raise
        except errors.StoreError as error:
            return error
        # Another hard link keeps the bytes.
        return Deleted(status.st_size if status.st_nlink == 1 else 0)

    @contextmanager
    def _parent(self, target: Target, opened: "_Opened") -> Iterator[tuple[int, str]]:
        """The directory that holds the file, reached without following a link, and its name."""
        root, rest = self._place(_path(target.url))
        root.check_unlinked(rest)
        directory = opened.root(root)
        *folders, name = rest.split("/")
        with _translated():
            if not folders:
                yield directory, name
                return
            with ExitStack() as stack:
                for folder in folders:
                    directory = os.open(folder, _DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
                    stack.callback(os.close, directory)
                yield directory, name

    def _place(self, path: str) -> tuple["_Root", str]:
        """The data directory that holds the path, and the rest of the path below it."""
        for root in self._roots:
            rest = root.below(path)
            if rest is not None:
                return root, rest
        raise errors.Refused(f"outside the data directories of store {self.store}")


class _Root:
    """A data directory, and what it was when it was probed."""

    def __init__(self, path: str) -> None:
        self.path = _normal(path)
        self._lead_to(self.path)
        self.holds_something = False
        self._linked: set[str] = set()
        self._probed: os.stat_result | None = None

    def below(self, path: str) -> str | None:
        for prefix in self._prefixes:
            if path.startswith(prefix):
                return path[len(prefix) :]
        return None

    def resolve(self) -> None:
        self._lead_to(os.path.realpath(self.path))

    def _lead_to(self, real: str) -> None:
        self.real = real
        self._prefixes = tuple(f"{path}/" for path in dict.fromkeys((self.path, real)))

    def probe(self) -> None:
        if os.path.realpath(self.path) != self.real:
            raise self._unavailable("it leads to another place than when this run began")
        try:
            self._scan()
            self._probed = os.stat(self.real)
        except OSError as error:
            raise self._unavailable(error.strerror) from None
        if not os.access(self.real, os.R_OK | os.W_OK | os.X_OK):
            raise self._unavailable(
                "no permission to read and write; run scrubber as the user of glance-api"
            )

    def _scan(self) -> None:
        """See whether there is anything, and which files somebody has made links to.

        A live image may be read through such a link; nobody else would tell.
        """
        names, linked = 0, set()
        with os.scandir(self.real) as entries:
            for entry in entries:
                names += 1
                if entry.is_symlink():
                    linked.add(os.path.realpath(entry.path))
        self.holds_something = names > 0
        self._linked = linked

    def space(self) -> tuple[int, int]:
        """Bytes that are free to us, and bytes altogether, in its file system."""
        try:
            status = os.statvfs(self.real)
        except OSError as error:
            raise self._unavailable(error.strerror) from None
        return status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize

    def check_unlinked(self, rest: str) -> None:
        """See that no symbolic link in the directory leads to this file.

        :raises Refused: one does.
        """
        if self._linked and f"{self.real}/{rest}" in self._linked:
            raise errors.Refused("a symbolic link beside it leads to this file")

    def open(self) -> int:
        """A descriptor of the directory, if it still is the one that was probed."""
        try:
            directory = os.open(self.real, _DIRECTORY)
        except OSError as error:
            raise self._unavailable(error.strerror) from None
        status = os.fstat(directory)
        if self._probed is None or not os.path.samestat(status, self._probed):
            os.close(directory)
            raise self._unavailable("it was mounted, unmounted or replaced since this run began")
        return directory

    def _unavailable(self, reason: str | None) -> errors.Unavailable:
        return errors.Unavailable(f"data directory {self.path}: {reason}")


class _Opened:
    """The data directories that one call uses: held open longer they could not be unmounted."""

    def __init__(self) -> None:
        self._directories: dict[_Root, int] = {}

    def __enter__(self) -> "_Opened":
        return self

    def __contains__(self, directory: int) -> bool:
        return directory in self._directories.values()

    def root(self, root: _Root) -> int:
        if root not in self._directories:
            self._directories[root] = root.open()
        return self._directories[root]

    def sync(self) -> None:
        """See that what was deleted stays deleted when the power fails: its row will say so.

        :raises Unavailable: nobody can say what is deleted.
        """
        for directory in self._directories.values():
            _sync(directory)

    def __exit__(self, *_exception: object) -> None:
        for directory in self._directories.values():
            os.close(directory)


def _without_priority(value: str) -> str:
    path, _, priority = value.rpartition(":")
    return path if path and priority.strip().isdigit() else value


def _literal_path(url: str) -> str | None:
    """The path as glance_store takes it, and ``localhost`` read as this host."""
    for prefix in _PREFIXES:
        if url.startswith(prefix):
            path = url[len(prefix) :].strip()
            return path.removeprefix("localhost") if path.startswith("localhost/") else path
    return None


def _normal(path: str) -> str:
    # normpath keeps two leading slashes, which POSIX lets mean something else.
    return "/" + posixpath.normpath(path).lstrip("/")


def _path(url: str) -> str:
    if plain := _PLAIN_URL.fullmatch(url):
        return plain[1]
    path = _literal_path(url)
    if path is None:
        raise errors.Refused("not the URL of a file")
    if not path.startswith("/"):
        raise errors.Refused("the URL names another host or a relative path")
    if any(odd in path for odd in "\0?#") or not _is_encodable(path):
        raise errors.Refused("the URL holds characters that no image file has")
    return _normal(path)


def _is_encodable(path: str) -> bool:
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return False
    return True


def _sync(directory: int) -> None:
    try:
        os.fsync(directory)
    except OSError as error:
        # Some file systems have no fsync for directories: then there is no more to be had.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise errors.Unavailable(f"the file system says: {error.strerror}") from None


def _modified_at(status: os.stat_result) -> datetime.datetime:
    try:
        moment = datetime.datetime.fromtimestamp(status.st_mtime, datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.datetime.max  # later than a calendar goes: newer than anything
    return moment.replace(tzinfo=None)


def _regular_file(name: str, directory: int) -> os.stat_result:
    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if stat.S_ISREG(status.st_mode):
        return status
    what = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "a directory or special file"
    raise errors.Refused(f"{what}, not an image file")


@contextmanager
def _translated() -> Iterator[None]:
    """What the kernel says, as what the caller may do next."""
    try:
        yield
    except FileNotFoundError:
        raise base.Gone from None
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            raise errors.Refused("a symbolic link or a file stands in the path") from None
        if error.errno == errno.ENAMETOOLONG:
            raise errors.Refused("the URL names a file longer than files can be named") from None
        if error.errno in _OF_ONE_FILE:
            raise errors.Failed(f"cannot be deleted: {error.strerror}") from None
        raise errors.Unavailable(f"the file system says: {error.strerror}") from None

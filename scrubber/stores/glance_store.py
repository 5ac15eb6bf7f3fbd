"""Stores that Glance's own library deletes from: cinder and vmware.

``glance_store`` reads its options, makes its client and sends the delete.  What it leaves
open is done here: which URL may be deleted at all, patience that ends, what an answer means,
and whether a volume that Cinder has accepted to delete is gone.
"""

import abc
import logging
import posixpath
import re
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

from keystoneauth1.session import TCPKeepAliveAdapter
from oslo_config import cfg

from scrubber import errors, pool
from scrubber.model import Answer, Answers, Deleted, Found, Look, Looks, Target
from scrubber.stores import base
from scrubber.stores.http_date import seconds_until

#: The section of single-store mode, in which glance_store's stores have no name.
_SINGLE_STORE = "glance_store"

#: What these say, with URLs and tracebacks, is said by us.
_TALKATIVE = (
    "cinderclient",
    "glance_store",
    "keystoneauth",
    "os_brick",
    "oslo_service",
    "oslo_vmware",
    "suds",
    "urllib3",
)

_CONNECT_SECONDS = 10.0


class GlanceStoreDriver(base.Driver):
    """One store, with one object of glance_store's for it, whose calls are green."""

    #: The name of glance_store's own driver, and of the extra that brings what it needs.
    kind: ClassVar[str]

    #: glance_store imports them without a word when they are missing.
    libraries: ClassVar[tuple[str, ...]]

    def __init__(self, section: base.Section) -> None:
        super().__init__(section)
        with section.importing("glance_store", f"pip install scrubber[{self.kind}]"):
            store_class = _store_class(self.kind)
            for library in self.libraries:
                import_module(library)
            self._location_class = import_module("glance_store.location").Location
        self._backend = None if section.name == _SINGLE_STORE else section.name
        self._glance_store = store_class(section.conf, backend=self._backend)

    @classmethod
    def options(cls) -> list[cfg.Opt]:
        try:
            return list(_store_class(cls.kind).OPTIONS)
        except ImportError:
            return []  # the constructor says so

    @classmethod
    def options_of_ours(cls) -> list[cfg.Opt]:
        return []  # glance-api.conf explains them

    def mentions(self, urls: Sequence[str]) -> list[Iterable[str]]:
        return [self._readings(url) for url in urls]

    def _readings(self, url: str) -> set[str]:
        """Every identity that the URL may stand for."""
        try:
            return {self.identify(url)}
        except errors.Refused:
            return set()

    def look(self, targets: Sequence[Target]) -> Looks:
        looks: list[Look] = []
        for target in targets:
            try:
                looks.append(self._look(target.url))
            except errors.Unavailable:
                raise
            except errors.StoreError as error:
                looks.append(error)
        return looks

    @abc.abstractmethod
    def _look(self, url: str) -> Found: ...

    def delete(self, targets: Sequence[Target], proceed: Callable[[], bool]) -> Answers:
        answers: list[Answer] = []
        rest: errors.StoreError = errors.NotSent("not sent")
        for target in targets:
            if not proceed():
                break
            try:
                answers.append(self._delete(target))
            except errors.StoreError as error:
                if _is_of_all(error):
                    rest = error
                    break
                answers.append(error)
        return answers + [rest] * (len(targets) - len(answers))

    def _delete(self, target: Target) -> Answer:
        """Let glance_store delete it.

        :raises StoreError: it did not.
        """
        self.identify(target.url)
        with self._translated():
            location = self._location(target.url)
            # glance_store waits for as long as it takes.
            pool.within(self.section.call_timeout(), self._glance_store.delete, location)
        return Deleted(target.size or 0)

    def _location(self, url: str) -> Any:
        """The URL as glance_store reads it."""
        return self._location_class(
            self.kind,
            self._glance_store.get_store_location_class(),
            self.section.conf,
            uri=url,
            backend=self._backend,
        )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """What the library raises, as what the caller may do next."""
        handled = sys.exception()  # it ends each chain of causes, and is none of them
        try:
            yield
        except Exception as error:
            raise meaning(error, handled) from None


def _is_of_all(answer: Answer) -> bool:
    """Whether the store would say the same to any other request."""
    return isinstance(answer, errors.Unavailable | errors.Throttled)


#: Seconds that a batch waits for Cinder to carry out what it accepted, and between two looks.
_PATIENCE = 10.0
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 1.0


class CinderDriver(GlanceStoreDriver):
    """One store of type ``cinder``: each image is a volume of Glance's own project.

    Cinder accepts a delete at once and carries it out later, or not: a volume with clones
    comes back as available.  So an accepted delete counts only when the volume is gone.
    """

    # The volumes of a batch go at the same time, so that it waits no longer than one would.
    abilities = base.Abilities(
        schemes=frozenset({"cinder"}), blocks=False, batch=8, seconds=_PATIENCE
    )
    kind = "cinder"
    # One of them missing makes glance_store do without all three; no delete calls os-brick.
    libraries = (
        "cinderclient.v3.client",
        "os_brick.initiator.connector",
        "oslo_privsep.priv_context",
    )

    def __init__(self, section: base.Section) -> None:
        super().__init__(section)
        self._holds_something = False
        self._not_found: Any = import_module("cinderclient.exceptions").NotFound
        self._check_credentials()
        self._client = self._own_client()
        self._glance_store.get_cinderclient = lambda *_args, **_kwargs: self._client

    def _check_credentials(self) -> None:
        if self._glance_store.is_user_overriden():
            return
        for option in ("auth_address", "user_name", "password", "project_name"):
            if not self._glance_store.store_conf.get(f"cinder_store_{option}"):
                raise self.section.wrong(
                    f"cinder_store_{option}",
                    "is not set: volumes can only be deleted with credentials of Glance's own, "
                    "since scrubber has no user's token",
                )

    def _own_client(self) -> Any:
        """A client with a session of its own.

        glance_store keeps one session, that of the first store, for all stores of the process:
        another store's volumes would be looked for with the wrong credentials.  And it never
        gives up waiting.
        """
        module: Any = sys.modules[type(self._glance_store).__module__]
        module.CINDER_SESSION = None
        client = self._glance_store.get_cinderclient()
        module.CINDER_SESSION = None
        adapter = _Adapter(self)
        for scheme in ("http://", "https://"):
            client.client.session.session.mount(scheme, adapter)
        return client

    @property
    def family(self) -> str:
        return "cinder"

    def probe(self) -> None:
        try:
            with self._translated():
                volumes = self._client.volumes.list(detailed=False, limit=1)
        except errors.Unavailable:
            raise
        except errors.StoreError as error:
            # Whatever it says to that concerns the store.
            raise errors.Unavailable(str(error)) from None
        self._holds_something = bool(volumes)

    def holds_something(self, root: str) -> bool:  # noqa: ARG002 - there is one
        return self._holds_something

    def identify(self, url: str) -> str:
        return f"cinder:{_volume_id(url)}"

    def _readings(self, url: str) -> set[str]:
        found = _ANY_UUID.findall(f"{url} {unquote(url)}")
        return {f"cinder:{_dashed(volume_id)}" for volume_id in found}

    def _look(self, url: str) -> Found:
        volume_id = _volume_id(url)
        volume = self._volume(volume_id)
        if volume.status == "deleting":
            raise errors.Gone("Cinder is deleting the volume")
        if volume.status == "error_deleting":
            raise _obstacle(volume.status)
        # Its size is that of the volume, in GiB.
        return Found(None, volume.created_at, fingerprint=volume_id)

    def delete(self, targets: Sequence[Target], proceed: Callable[[], bool]) -> Answers:
        answers = list(super().delete(targets, proceed))
        until = time.monotonic() + min(_PATIENCE, self.section.call_timeout() / 2)
        for number, target in enumerate(targets):
            if isinstance(answers[number], Deleted):
                # A Cinder that is silent may not cost each of them its whole patience.
                stop = next(filter(_is_of_all, answers), None)
                answers[number] = stop or self._end(target, until)
        return answers

    def _delete(self, target: Target) -> Answer:
        """See that Cinder has accepted to delete the volume, now or before."""
        volume_id = _volume_id(target.url)
        try:
            return super()._delete(target)
        except errors.InUse:
            pass
        except errors.Gone:
            # Anything on the way may say 404: only Cinder itself names the volume.
            self._volume(volume_id)
            raise errors.Failed("Cinder finds the volume, but not to delete it") from None
        status = self._volume(volume_id).status
        if status != "deleting":
            raise _obstacle(status)
        return Deleted(target.size or 0)

    def _end(self, target: Target, until: float) -> Answer:
        """What became of a volume that Cinder has accepted to delete."""
        volume_id = _volume_id(target.url)
        pause = _FIRST_PAUSE
        while True:
            try:
                status = self._volume(volume_id).status
            except errors.Gone:
                return Deleted(target.size or 0)
            except errors.StoreError as error:
                return error
            if status != "deleting":
                return _obstacle(status)
            if time.monotonic() > until:
                return errors.InUse("Cinder is still deleting the volume")
            pool.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _volume(self, volume_id: str) -> "_Volume":
        """Ask Cinder for the volume.

        :raises Gone: Cinder, and not something on the way, says that it has no such volume.
        """
        with self._translated():
            try:
                volume = self._client.volumes.get(volume_id)
            except self._not_found as not_found:
                if volume_id in str(not_found.message):
                    raise base.Gone from None
                raise errors.Unavailable(
                    "Cinder's address is not that of a Cinder: check the service catalog"
                ) from None
            if volume.id != volume_id:
                raise ValueError("another volume")
            return _Volume(str(volume.status), _moment(volume.created_at))

    def close(self) -> None:
        self._client.client.session.session.close()


_VOLUME = re.compile(
    r"cinder://(?:[^/?#@\\%\s]+/)?([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"
)
_ANY_UUID = re.compile(r"(?:[0-9a-f]-?){31}[0-9a-f]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Volume:
    """What Cinder says of a volume."""

    status: str
    created_at: datetime | None


def _volume_id(url: str) -> str:
    match = _VOLUME.fullmatch(url)
    if match is None:
        raise errors.Refused("not the URL of a Cinder volume as Glance writes it")
    return match[1]


def _dashed(digits: str) -> str:
    digits = digits.replace("-", "").lower()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _moment(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _obstacle(status: str) -> errors.StoreError:
    """Why Cinder does not delete a volume in this state."""
    if status == "error_deleting":
        return errors.Failed(
            "Cinder tried to delete the volume and failed (error_deleting): see the log of "
            "cinder-volume, then reset the volume's state"
        )
    if status == "available" or status.startswith("error"):
        return errors.InUse(
            "Cinder does not delete the volume: it has snapshots or clones, belongs to a group or "
            "awaits a transfer"
        )
    state = status if re.fullmatch(r"[a-z][a-z_-]{0,30}", status) else "unknown"
    return errors.InUse(f"Cinder does not delete the volume in its state ({state})")


class _Adapter(TCPKeepAliveAdapter):
    """Sends each request to Keystone and Cinder, with patience that ends.

    Throttling is seen here, since the client forgets how long it was asked to wait.
    """

    def __init__(self, driver: GlanceStoreDriver) -> None:
        self._driver = driver
        super().__init__(pool_maxsize=driver.connections)

    def send(self, request: Any, **options: Any) -> Any:  # type: ignore[override]
        seconds = self._driver.section.call_timeout()
        options["timeout"] = (min(_CONNECT_SECONDS, seconds), seconds)
        response = super().send(request, **options)
        wait = response.headers.get("Retry-After")
        if _is_throttling(response.status_code, wait):
            response.close()
            raise errors.Throttled("the service asks for patience", _seconds(wait))
        return response


class VmwareDriver(GlanceStoreDriver):
    """One store of type ``vmware``: files in the datastores that a vCenter serves."""

    abilities = base.Abilities(schemes=frozenset({"vsphere"}), blocks=False, batch=8)
    kind = "vmware"
    libraries = ("oslo_vmware.api",)

    def __init__(self, section: base.Section) -> None:
        super().__init__(section)
        options = self._glance_store.store_conf
        for option in ("server_host", "server_username", "server_password", "datastores"):
            if not getattr(options, f"vmware_{option}"):
                section.required(f"vmware_{option}")
        self._host = _host(options.vmware_server_host)
        self._folder = f"/folder/{options.vmware_store_image_dir.strip('/')}".rstrip("/")
        self._datastores = frozenset(map(self._datastore, options.vmware_datastores))
        self._configured = False
        self._glance_store.reset_session = self._login

    def _datastore(self, value: str) -> str:
        """Datacenter and datastore of ``datacenter_path:datastore_name[:weight]``."""
        datacenter, name, *_weight = [*map(str.strip, value.rsplit(":", 2)), ""]
        if not datacenter.strip("/") or not name:
            raise self.section.wrong(
                "vmware_datastores", "must be datacenter_path:datastore_name:weight"
            )
        return f"{datacenter.strip('/')}:{name}"

    def _login(self) -> Any:
        """A session as glance_store makes it, but one that gives up and does not try again."""
        store = self._glance_store
        store.session = import_module("oslo_vmware.api").VMwareAPISession(
            store.server_host,
            store.server_username,
            store.server_password,
            0,
            store.tpoll_interval,
            cacert=store.ca_file,
            insecure=store.api_insecure,
            pool_size=self.connections,
            connection_timeout=self.section.call_timeout(),
        )
        return store.session

    def probe(self) -> None:
        try:
            with self._translated():
                self._reach()
                if self._configured:
                    self._glance_store.configure_add()
                else:
                    self._glance_store.configure(re_raise_bsc=True)
                    self._configured = True
        except errors.Unavailable:
            raise
        except errors.StoreError as error:
            raise errors.Unavailable(str(error)) from None

    def _reach(self) -> None:
        # oslo.vmware goes on trying to log in for ever, in the background even.
        patience = min(_CONNECT_SECONDS, self.section.call_timeout())
        socket.create_connection((self._host, 443), timeout=patience).close()

    def root(self, url: str) -> str:
        return self._file(url).datastore

    def identify(self, url: str) -> str:
        return self._identity(self._file(url))

    def _identity(self, file: "_File") -> str:
        return f"vmware:{self._host}:{file.datastore}:{file.path}"

    def _file(self, url: str) -> "_File":
        file = _file(url)
        if file is None or not _PLAIN_PATH.fullmatch(file.path):
            raise errors.Refused("not the URL of a datastore's file as Glance writes it")
        if file.host != self._host:
            raise errors.Refused(f"on another server than vmware_server_host of store {self.store}")
        if file.datastore not in self._datastores:
            raise errors.Refused(f"in none of vmware_datastores of store {self.store}")
        if posixpath.dirname(file.path) != self._folder:
            raise errors.Refused(f"not in vmware_store_image_dir of store {self.store}")
        return file

    def _readings(self, url: str) -> set[str]:
        # The server may have other names, so each stands for it.
        files = [_file(url), _file(unquote(url))]
        return {
            self._identity(replace(file, path=posixpath.normpath(path)))
            for file in files
            if file is not None
            for path in (file.path, unquote(file.path))
        }

    def _look(self, url: str) -> Found:
        file = self._file(url)
        try:
            with self._translated():
                size = self._glance_store.get_size(self._location(url))
        except errors.Refused:
            # The URL is right: so glance_store calls whatever the server refuses.
            raise errors.Failed("the server answers with an HTTP error") from None
        return Found(size, None, fingerprint=self._identity(file))

    def close(self) -> None:
        # A vCenter takes only so many sessions, and ends idle ones late.
        if self._configured:
            self._glance_store.session.logout()


#: Without what a server may read in more than one way.
_PLAIN_PATH = re.compile(r"(?:/(?!\.)[0-9A-Za-z._-]+)+")


@dataclass(frozen=True, slots=True)
class _File:
    """A file as its URL names it; ``datastore`` is the datacenter's path and the name."""

    host: str
    datastore: str
    path: str


def _host(name: str) -> str:
    return name.lower().strip("[]")


def _file(url: str) -> _File | None:
    """What ``vsphere://host/folder/path?dcPath=…&dsName=…`` names; None if it is none."""
    try:
        parts = urlsplit(url)
        query = parse_qs(parts.query, keep_blank_values=True, strict_parsing=True)
    except ValueError:
        return None
    if not url.startswith("vsphere://") or parts.fragment or set(query) != {"dcPath", "dsName"}:
        return None
    (datacenter, *more), (name, *others) = query["dcPath"], query["dsName"]
    if more or others:
        return None
    return _File(_host(parts.netloc), f"{datacenter.strip('/')}:{name}", parts.path)


# What a library's exception means ----------------------------------------------------------

_IN_USE = partial(errors.InUse, "the store says that something still uses it")
_FORBIDDEN = partial(errors.Failed, "the store forbids it to these credentials")
_NO_LOGIN = partial(errors.Unavailable, "it refuses the credentials of the store's section")
_NO_ANSWER = partial(errors.Unavailable, "it cannot be reached, or does not answer in time")
_NO_ADDRESS = partial(errors.Unavailable, "Keystone has no address of the service that can be used")
_WRONG_SECTION = partial(
    errors.Unavailable, "glance_store cannot use the store's section: compare it with Glance's"
)

#: By top package and name of the class, or of one that it inherits from.
_NAMED: dict[str, Callable[[], errors.StoreError]] = {
    "glance_store.NotFound": base.Gone,
    "glance_store.InUseByStore": _IN_USE,
    "glance_store.HasSnapshot": _IN_USE,
    "glance_store.Forbidden": _FORBIDDEN,
    "glance_store.BadStoreUri": partial(errors.Refused, "glance_store refuses the URL"),
    "glance_store.BadStoreConfiguration": _WRONG_SECTION,
    "glance_store.StoreDeleteNotSupported": _WRONG_SECTION,
    "glance_store.MissingCredentialError": _WRONG_SECTION,
    "glance_store.BadAuthStrategy": _WRONG_SECTION,
    "glance_store.RegionAmbiguity": _NO_ADDRESS,
    "glance_store.NoServiceEndpoint": _NO_ADDRESS,
    "glance_store.AuthUrlNotFound": _NO_ADDRESS,
    "glance_store.AuthBadRequest": _NO_LOGIN,
    "glance_store.AuthorizationFailure": _NO_LOGIN,
    "glance_store.NotAuthenticated": _NO_LOGIN,
    "glance_store.RemoteServiceUnavailable": _NO_ANSWER,
    "glance_store.TimeoutError": _NO_ANSWER,
    "keystoneauth1.Unauthorized": _NO_LOGIN,
    "keystoneauth1.Forbidden": _NO_LOGIN,
    "keystoneauth1.CatalogException": _NO_ADDRESS,
    "keystoneauth1.DiscoveryFailure": _NO_ADDRESS,
    "keystoneauth1.NotFound": _NO_ADDRESS,
    # cinderclient asks Cinder in its own name, so this is Keystone or the connection.
    "keystoneauth1.ClientException": _NO_ANSWER,
    "oslo_vmware.FileNotFoundException": base.Gone,
    "oslo_vmware.FileLockedException": _IN_USE,
    "oslo_vmware.TaskInProgress": _IN_USE,
    "oslo_vmware.NoPermissionException": _FORBIDDEN,
    "oslo_vmware.CannotDeleteFileException": _FORBIDDEN,
    "oslo_vmware.NotAuthenticatedException": _NO_LOGIN,
    "oslo_vmware.ManagedObjectNotFoundException": _WRONG_SECTION,
    "oslo_vmware.VimConnectionException": _NO_ANSWER,
    "oslo_vmware.VimSessionOverLoadException": partial(
        errors.Throttled, "it has more sessions than it takes"
    ),
    "builtins.OSError": _NO_ANSWER,
}

#: What a vCenter says in a VimFaultException of no class of its own.
_LOGIN_FAULTS = frozenset({"InvalidLogin", "NotAuthenticated"})


def meaning(error: BaseException, handled: BaseException | None = None) -> errors.StoreError:
    """What the caller may do next, said by the first of a chain of causes that can tell.

    :param handled: what was being handled when the library was called: no cause of its error.
    """
    links = list(_links(error, handled))
    for link in links:
        if isinstance(link, errors.StoreError):
            return link
    for link in links:
        wait = _retry_after(link)
        if _is_throttling(_status(link), wait):
            return errors.Throttled("it asks for patience", _seconds(wait))
    for link in links:
        if known := _named(link) or _by_status(_status(link)):
            return known
    return errors.Failed(f"glance_store failed in an unknown way ({type(error).__name__})")


def _links(error: BaseException, handled: BaseException | None) -> Iterator[BaseException]:
    """The exception, and what it came from."""
    link: BaseException | None = error
    seen: set[int] = set()
    while link is not None and link is not handled and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _named(link: BaseException) -> errors.StoreError | None:
    if _LOGIN_FAULTS.intersection(getattr(link, "fault_list", None) or ()):
        return _NO_LOGIN()
    for ancestor in type(link).__mro__:
        name = f"{ancestor.__module__.partition('.')[0]}.{ancestor.__name__}"
        if name in _NAMED:
            return _NAMED[name]()
    return None


def _by_status(status: int | None) -> errors.StoreError | None:
    """What an HTTP status of the service means."""
    match status:
        case None:
            return None
        case 400 | 409:
            return _IN_USE()
        case 401:
            return _NO_LOGIN()
        case 403:
            return _FORBIDDEN()
        case 404:
            return base.Gone()
        case 502 | 503 | 504:
            return _NO_ANSWER()
    return errors.Failed(f"the service answers with HTTP status {status}")


def _status(link: BaseException) -> int | None:
    for name in ("code", "http_status"):
        if isinstance(status := getattr(link, name, None), int) and 400 <= status <= 599:
            return status
    return None


def _retry_after(link: BaseException) -> object:
    headers = getattr(getattr(link, "response", None), "headers", None) or {}
    return headers.get("Retry-After") or getattr(link, "retry_after", None) or None


def _is_throttling(status: int | None, retry_after: object) -> bool:
    return status in (413, 429) or (status == 503 and retry_after is not None)


def _seconds(retry_after: object) -> float | None:
    """How long that is, given in seconds or as a date; None if it says nothing."""
    text = str(retry_after or "")
    if text.isascii() and text.replace(".", "", 1).isdigit():
        return float(text)
    return seconds_until(text, datetime.now(UTC))


def _store_class(kind: str) -> Any:
    """glance_store's class of that type, with all that talks beside it silenced.

    :raises ImportError: the library, or one that the class needs, is not installed.
    """
    for talker in _TALKATIVE:
        logging.getLogger(talker).setLevel(logging.CRITICAL)
    for entry in entry_points(group="glance_store.drivers", name=kind):
        return entry.load()
    raise ImportError("it is not installed")

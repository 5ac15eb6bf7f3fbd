"""The vmware store: each image is a file in one of the datastores that a vCenter serves."""

import posixpath
import re
import socket
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from scrubber import errors
from scrubber.model import Found
from scrubber.stores import base
from scrubber.stores.glance_store.library import CONNECT_SECONDS, GlanceStoreDriver


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
        patience = min(CONNECT_SECONDS, self.section.call_timeout())
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

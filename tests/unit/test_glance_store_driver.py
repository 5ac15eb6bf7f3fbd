"""The drivers over glance_store: URLs, identities, and what its exceptions mean."""

import importlib.metadata
import socket
import sys
import time
import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import cinderclient.exceptions as cinder
import glance_store
import keystoneauth1.exceptions as keystone
import oslo_vmware.exceptions as vmware
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from contract.sections import section
from scrubber import errors, pool
from scrubber.model import Deleted, Found, Target
from scrubber.stores import base
from scrubber.stores.glance_store import CinderDriver, VmwareDriver, library
from scrubber.stores.glance_store.library import GlanceStoreDriver
from scrubber.stores.glance_store.meanings import meaning

ID = "8f14e45f-ceea-467f-a1f0-5f2e1d3c4b5a"

CREDENTIALS = {
    "cinder_store_auth_address": "http://keystone.example/v3",
    "cinder_store_user_name": "glance",
    "cinder_store_password": "secret",
    "cinder_store_project_name": "service",
}

VCENTER = {
    "vmware_server_host": "vc.example",
    "vmware_server_username": "glance",
    "vmware_server_password": "secret",
    "vmware_datastores": ["dc1:fast:100", "/folder/dc2:slow"],
}


def cinder_driver(**options: Any) -> CinderDriver:
    return CinderDriver(section(CinderDriver, store="cin", **{**CREDENTIALS, **options}))


def vmware_driver(**options: Any) -> VmwareDriver:
    return VmwareDriver(section(VmwareDriver, store="vmw", **{**VCENTER, **options}))


# Sections --------------------------------------------------------------------------------


@pytest.mark.parametrize("option", list(CREDENTIALS))
def test_a_missing_credential_of_cinder_is_named(option: str) -> None:
    with pytest.raises(errors.ConfigError) as wrong:
        cinder_driver(**{option: None})
    assert option in str(wrong.value)
    assert "[cin]" in str(wrong.value)


def test_an_application_credential_takes_the_place_of_a_password() -> None:
    cinder_driver(
        cinder_store_user_name=None,
        cinder_store_password=None,
        cinder_store_project_name=None,
        cinder_store_application_credential_id="id",
        cinder_store_application_credential_secret="secret",
    )


@pytest.mark.parametrize("option", list(VCENTER))
def test_a_missing_option_of_vmware_is_named(option: str) -> None:
    with pytest.raises(errors.ConfigError) as wrong:
        vmware_driver(**{option: None})
    assert option in str(wrong.value)
    assert "[vmw]" in str(wrong.value)


@pytest.mark.parametrize("datastores", [["fast"], ["dc1:"], [":fast"], ["dc1:fast", "/:slow:1"]])
def test_datastores_that_glance_refuses_are_refused(datastores: list[str]) -> None:
    with pytest.raises(errors.ConfigError, match="vmware_datastores"):
        vmware_driver(vmware_datastores=datastores)


@pytest.fixture
def without_glance_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "entry_points", lambda **_: importlib.metadata.EntryPoints())


@pytest.mark.parametrize(("driver", "extra"), [(CinderDriver, "cinder"), (VmwareDriver, "vmware")])
@pytest.mark.usefixtures("without_glance_store")
def test_a_missing_library_is_said_with_how_to_install_it(
    driver: type[GlanceStoreDriver], extra: str
) -> None:
    assert driver.options() == []
    with pytest.raises(errors.ConfigError) as missing:
        driver(section(driver, store="one"))
    assert f"pip install scrubber[{extra}]" in str(missing.value)
    assert "[one]" in str(missing.value)


@pytest.mark.parametrize("library", ["cinderclient", "os_brick", "oslo_privsep"])
def test_a_library_that_glance_store_does_without_is_missed(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == library]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(errors.ConfigError, match=library):
        cinder_driver()


def test_the_options_are_those_of_glance_store() -> None:
    names = {option.name for option in CinderDriver.options()}
    assert set(CREDENTIALS) <= names
    assert {"cinder_os_region_name", "cinder_ca_certificates_file", "cinder_api_insecure"} <= names
    assert set(VCENTER) <= {option.name for option in VmwareDriver.options()}
    assert not names & {option.name for option in base.COMMON_OPTS}


# Volumes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("url", [f"cinder://{ID}", f"cinder://cin/{ID}", f"cinder://old/{ID}"])
def test_a_volume_has_one_identity(url: str) -> None:
    driver = cinder_driver()
    assert driver.identify(url) == f"cinder:{ID}"
    assert driver.root(url) == ""
    assert set(driver.mentions([url])[0]) == {f"cinder:{ID}"}


@pytest.mark.parametrize(
    "url",
    [
        f"cinder://a/b/{ID}",  # glance_store takes the last part of anything
        f"cinder:///{ID}",
        f"cinder://{ID}/",
        f"cinder://{ID}?x=1",
        f"cinder://cin/{ID}#x",
        f"cinder://u:p@cin/{ID}",
        f"cinder://cin%2f/{ID}",
        f"cinder://cin/{ID.upper()}",  # one volume to MySQL, none to SQLite
        f"cinder://cin/{ID.replace('-', '')}",
        f"cinder://cin/{{{ID}}}",
        f"cinder://cin/urn:uuid:{ID}",
        f"CINDER://cin/{ID}",
        f" cinder://cin/{ID}",
        f"cinder://cin/{ID}\n",
        f"rbd://pool/{ID}",
        "cinder://cin/image",
        "cinder://",
        "",
    ],
)
def test_what_glance_does_not_write_is_refused(url: str) -> None:
    with pytest.raises(errors.Refused):
        cinder_driver().identify(url)


@given(st.uuids(), st.text(max_size=20))
def test_what_is_not_refused_is_the_volume_that_glance_store_means(
    volume: uuid.UUID, store: str
) -> None:
    driver = DRIVER
    url = f"cinder://{store}/{volume}"
    try:
        identity = driver.identify(url)
    except errors.Refused:
        return
    location = driver._location(url).store_location
    assert identity == f"cinder:{location.volume_id}"


DRIVER = cinder_driver()


@pytest.mark.parametrize(
    "written", [ID, ID.upper(), ID.replace("-", ""), f"{{{ID}}}", f"urn:uuid:{ID}", ID + "?x"]
)
def test_a_live_volume_is_protected_however_it_is_written(written: str) -> None:
    for url in (f"cinder://cin/{written}", f"cinder://{written}", f"CINDER://a/b/{written}"):
        assert f"cinder:{ID}" in set(DRIVER.mentions([url])[0])


@given(st.text())
def test_mentions_never_raise(text: str) -> None:
    urls = [text, f"cinder://{text}", f"vsphere://{text}", f"vsphere://h/p?{text}"]
    assert len(DRIVER.mentions(urls)) == len(urls)
    assert len(VMWARE.mentions(urls)) == len(urls)


def test_stores_of_type_cinder_read_each_others_urls() -> None:
    assert DRIVER.family == "cinder"


# Files in datastores ---------------------------------------------------------------------


VMWARE = vmware_driver()
FILE = f"vsphere://vc.example/folder/openstack_glance/{ID}"
GOOD = f"{FILE}?dsName=fast&dcPath=dc1"


@pytest.mark.parametrize(
    "url",
    [
        GOOD,
        f"{FILE}?dcPath=dc1&dsName=fast",
        f"{FILE}?dcPath=%2Fdc1&dsName=fast",
        GOOD.replace("vc.example", "VC.EXAMPLE"),
    ],
)
def test_a_file_has_one_identity(url: str) -> None:
    assert VMWARE.identify(url) == f"vmware:vc.example:dc1:fast:/folder/openstack_glance/{ID}"
    assert VMWARE.root(url) == "dc1:fast"
    assert VMWARE.identify(url) in set(VMWARE.mentions([url])[0])


def test_a_datacenter_may_lie_in_folders() -> None:
    url = f"{FILE}?dsName=slow&dcPath=%2Ffolder%2Fdc2"
    assert VMWARE.root(url) == "folder/dc2:slow"


@pytest.mark.parametrize(
    "url",
    [
        GOOD.replace("vc.example", "other.example"),  # the session would ask ours
        GOOD.replace("vc.example", "user:secret@vc.example"),
        GOOD.replace("vc.example", "vc.example:444"),
        GOOD.replace("vsphere:", "VSPHERE:"),
        GOOD.replace("vsphere:", "https:"),
        f"{FILE}?dsName=other&dcPath=dc1",
        f"{FILE}?dsName=slow&dcPath=dc1",  # that one is in the other datacenter
        f"{FILE}?dsName=fast",
        f"{FILE}?dcPath=dc1",
        f"{GOOD}&dsName=slow",  # glance_store takes the first
        f"{GOOD}&more=1",
        f"{GOOD}#fragment",
        FILE,
        GOOD.replace("openstack_glance", "vms"),
        GOOD.replace("openstack_glance/", "openstack_glance/../vms/"),
        GOOD.replace("openstack_glance/", "openstack_glance//"),
        GOOD.replace("openstack_glance/", "openstack_glance/%2e%2e/vms/"),
        GOOD.replace("openstack_glance", "openstack_glance2"),
        GOOD.replace("openstack_glance", "openstack_glance/more"),
        GOOD.replace(ID, ""),
        GOOD.replace(ID, f"{ID};x"),
        GOOD.replace(ID, f"{ID}%20"),
        "vsphere://[::1/folder",
        "vsphere://",
        "",
    ],
)
def test_what_is_not_in_the_stores_folders_is_refused(url: str) -> None:
    with pytest.raises(errors.Refused) as refused:
        VMWARE.root(url)
    assert "://" not in str(refused.value)
    with pytest.raises(errors.Refused):
        VMWARE.identify(url)


@pytest.mark.parametrize(
    "url",
    [
        GOOD.replace("vc.example", "10.0.0.1"),  # another name of the server
        GOOD.replace("openstack_glance/", "openstack_glance//"),
        GOOD.replace("openstack_glance/", "vms/../openstack_glance/"),
        GOOD.replace("openstack_glance/", "openstack%5Fglance/"),
        f"{FILE}?dcPath=/dc1/&dsName=fast",
    ],
)
def test_a_live_file_is_protected_however_it_is_written(url: str) -> None:
    assert VMWARE.identify(GOOD) in set(VMWARE.mentions([url])[0])


def test_the_identity_is_that_of_what_glance_store_deletes() -> None:
    location = VMWARE._location(GOOD).store_location
    assert location.server_host == "vc.example"
    assert location.datacenter_path == "dc1"
    assert location.datastore_name == "fast"
    assert location.path == f"/folder/openstack_glance/{ID}"


class Session:
    """In the place of oslo.vmware's session: a vCenter with some files."""

    def __init__(self, host: str, user: str, password: str, retries: int, *_: Any, **how: Any):
        self.login = (host, user, password, retries)
        self.patience = how["connection_timeout"]
        self.vim = SimpleNamespace(
            service_content=SimpleNamespace(searchIndex="index", fileManager="files"),
            client=SimpleNamespace(cookiejar=()),
        )
        FakeVcenter.current.sessions.append(self)

    def invoke_api(self, _module: Any, method: str, *args: Any, **how: Any) -> Any:
        return FakeVcenter.current.call(method, args, how)

    def logout(self) -> None:
        FakeVcenter.current.sessions.remove(self)

    def wait_for_task(self, task: Callable[[], None]) -> None:
        task()


class FakeVcenter:
    current: "FakeVcenter"

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.files = {f"[fast] /openstack_glance/{ID}"}
        self.datastores = {"fast": "dc1", "slow": "/folder/dc2"}
        self.raises: Exception | None = None

    def call(self, method: str, args: tuple[Any, ...], how: dict[str, Any]) -> Any:
        if self.raises:
            raise self.raises
        if method == "FindByInventoryPath":
            return how["inventoryPath"]
        if method == "DeleteDatastoreFile_Task":
            return lambda: self.delete(how["name"])
        return SimpleNamespace(
            ManagedObjectReference=[
                name for name, datacenter in self.datastores.items() if datacenter == args[1]
            ]
        )

    def delete(self, name: str) -> None:
        if name not in self.files:
            raise vmware.FileNotFoundException
        self.files.discard(name)


@pytest.fixture
def vcenter(monkeypatch: pytest.MonkeyPatch) -> FakeVcenter:
    FakeVcenter.current = FakeVcenter()
    monkeypatch.setattr("oslo_vmware.api.VMwareAPISession", Session)
    monkeypatch.setattr(
        "oslo_vmware.objects.datastore.get_datastore_by_ref",
        lambda _session, name: SimpleNamespace(name=name, ref=name),
    )
    reached = SimpleNamespace(close=bool)
    monkeypatch.setattr(socket, "create_connection", lambda *_args, **_how: reached)
    return FakeVcenter.current


def test_a_file_is_deleted_through_glance_store(vcenter: FakeVcenter) -> None:
    driver = vmware_driver()
    assert vcenter.sessions == [], "nothing is asked before the probe"
    driver.probe()
    driver.probe()
    other = GOOD.replace(ID, str(uuid.uuid4()))
    answers = driver.delete([Target(GOOD, 7), Target(other), Target("vsphere://")], base.always)
    assert [type(answer) for answer in answers] == [Deleted, base.Gone, errors.Refused]
    assert vcenter.files == set()
    [session] = vcenter.sessions
    assert session.login == ("vc.example", "glance", "secret", 0)
    assert session.patience == 30
    driver.close()
    assert vcenter.sessions == []


def test_a_vcenter_that_does_not_end_a_task_is_unavailable(
    vcenter: FakeVcenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vcenter, "delete", lambda _name: pool.sleep(60))
    driver = vmware_driver(call_timeout=0.01)
    driver.probe()
    answers = driver.delete([Target(GOOD), Target(GOOD)], base.always)
    assert [type(answer) for answer in answers] == [errors.Unavailable] * 2


def test_a_datastore_that_is_not_there_is_unavailable(vcenter: FakeVcenter) -> None:
    del vcenter.datastores["slow"]
    driver = vmware_driver()
    for _ in range(2):
        with pytest.raises(errors.Unavailable, match="section"):
            driver.probe()


@pytest.mark.parametrize(
    "fault",
    [
        vmware.VimConnectionException("http://vc.example"),
        vmware.VimFaultException(["InvalidLogin"], "secret"),
        vmware.VimSessionOverLoadException("secret"),
        ValueError("secret"),
    ],
)
def test_a_vcenter_that_fails_is_unavailable(vcenter: FakeVcenter, fault: Exception) -> None:
    vcenter.raises = fault
    with pytest.raises(errors.Unavailable) as unavailable:
        vmware_driver().probe()
    assert "secret" not in str(unavailable.value)
    assert "://" not in str(unavailable.value)


def test_a_vcenter_that_cannot_be_reached_is_never_asked_to_log_in(
    vcenter: FakeVcenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: Any, **_how: Any) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(errors.Unavailable):
        vmware_driver().probe()
    assert vcenter.sessions == []


@pytest.mark.parametrize(
    ("status", "expected"),
    [(200, Found), (404, base.Gone), (403, errors.Failed), (503, errors.Failed)],
)
def test_a_look_asks_for_the_file(
    vcenter: FakeVcenter, monkeypatch: pytest.MonkeyPatch, status: int, expected: type
) -> None:
    asked: list[str] = []

    def request(_self: Any, method: str, url: str, **_how: Any) -> Any:
        asked.append(f"{method} {url}")
        raw = SimpleNamespace(status=status, getheader=lambda *_: "12")
        return SimpleNamespace(raw=raw, is_redirect=False, close=bool)

    monkeypatch.setattr(requests.Session, "request", request)
    driver = vmware_driver()
    driver.probe()
    [look] = driver.look([Target(GOOD)])
    assert type(look) is expected
    assert asked == [f"HEAD {GOOD.replace('vsphere', 'https')}"]
    if isinstance(look, Found):
        assert look == Found(12, None, driver.identify(GOOD))


# What exceptions mean --------------------------------------------------------------------


def wrapped(inner: Exception, outer: Exception) -> Exception:
    """As glance_store does it: one raised while the other is handled."""
    try:
        try:
            raise inner
        except Exception:
            raise outer  # noqa: B904 - glance_store does not say from what
    except Exception as error:
        return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (glance_store.NotFound(image=ID), errors.Gone),
        (glance_store.InUseByStore(), errors.InUse),
        (glance_store.HasSnapshot(), errors.InUse),
        (glance_store.Forbidden(), errors.Failed),
        (glance_store.BadStoreUri(uri="x"), errors.Refused),
        (glance_store.BadStoreConfiguration(store_name="x", reason="y"), errors.Unavailable),
        (glance_store.StoreDeleteNotSupported(), errors.Unavailable),
        (glance_store.NotAuthenticated(), errors.Unavailable),
        (glance_store.RemoteServiceUnavailable(), errors.Unavailable),
        (glance_store.BackendException("x"), errors.Failed),  # says nothing
        (cinder.BadRequest(400), errors.InUse),
        (cinder.Unauthorized(401), errors.Unavailable),
        (cinder.Forbidden(403), errors.Failed),
        (cinder.NotFound(404), errors.Gone),
        (cinder.OverLimit(413), errors.Throttled),
        (cinder.ClientException(429), errors.Throttled),
        (cinder.ClientException(500), errors.Failed),
        (cinder.ClientException(503), errors.Unavailable),
        (keystone.Unauthorized(), errors.Unavailable),
        (keystone.NotFound(), errors.Unavailable),  # Keystone's address, no volume
        (keystone.EndpointNotFound(), errors.Unavailable),
        (keystone.ConnectFailure("x"), errors.Unavailable),
        (keystone.ConnectTimeout("x"), errors.Unavailable),
        (keystone.SSLError("x"), errors.Unavailable),
        (keystone.InternalServerError(), errors.Unavailable),
        (keystone.RequestEntityTooLarge(), errors.Throttled),
        (keystone.HttpError(http_status=429), errors.Throttled),
        (keystone.ServiceUnavailable(), errors.Unavailable),
        (requests.ReadTimeout(), errors.Unavailable),
        (TimeoutError(), errors.Unavailable),
        (ConnectionResetError(), errors.Unavailable),
        (vmware.FileNotFoundException(), errors.Gone),
        (vmware.FileLockedException(), errors.InUse),
        (vmware.CannotDeleteFileException(), errors.Failed),
        (vmware.NoPermissionException(), errors.Failed),
        (vmware.NotAuthenticatedException(), errors.Unavailable),
        (vmware.ManagedObjectNotFoundException(), errors.Unavailable),
        (vmware.VimConnectionException("x"), errors.Unavailable),
        (vmware.VimSessionOverLoadException("x"), errors.Throttled),
        (vmware.VimFaultException(["InvalidLogin"], "x"), errors.Unavailable),
        (vmware.VimFaultException(["NotAuthenticated"], "x"), errors.Unavailable),
        (vmware.VimFaultException(["Other"], "x"), errors.Failed),
        (errors.Throttled("x", 3), errors.Throttled),
        (KeyError("x"), errors.Failed),
    ],
    ids=lambda value: getattr(value, "__name__", None) or repr(value)[:40],
)
def test_what_an_exception_means_wherever_it_is_in_the_chain(
    error: Exception, expected: type[errors.StoreError]
) -> None:
    backend = glance_store.BackendException("Failed")
    for raised in (error, wrapped(error, backend), wrapped(wrapped(error, backend), backend)):
        said = meaning(raised)
        assert isinstance(said, expected)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7.0), ("0.5", 0.5), ("0", 0.0), ("", None), ("soon", None), ("-3", None), ("nan", None)],
)
def test_throttling_keeps_what_the_service_asked_for(value: str, seconds: float | None) -> None:
    response = SimpleNamespace(headers={"Retry-After": value})
    inner = keystone.HttpError(http_status=429, response=response)
    said = meaning(wrapped(inner, glance_store.BackendException("x")))
    assert isinstance(said, errors.Throttled)
    assert said.retry_after == seconds


def test_a_date_is_as_long_as_it_is_away() -> None:
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 1000))
    response = SimpleNamespace(headers={"Retry-After": date})
    said = meaning(keystone.HttpError(http_status=503, response=response))
    assert isinstance(said, errors.Throttled)
    assert said.retry_after is not None
    assert 0 < said.retry_after <= 1000


def test_what_was_handled_before_is_no_cause() -> None:
    handled = errors.Gone("of another store")
    error = wrapped(handled, KeyError("x"))
    assert isinstance(meaning(error), errors.Gone)
    assert type(meaning(error, handled)) is errors.Failed


@pytest.mark.parametrize(
    "error",
    [
        cinder.ClientException(418, message="secret"),
        glance_store.BackendException("http://secret"),
        keystone.ConnectFailure("http://secret"),
        vmware.VimException("secret"),
        OSError("secret"),
        ValueError("secret"),
    ],
)
def test_nothing_of_a_foreign_message_is_quoted(error: Exception) -> None:
    assert "secret" not in str(meaning(error))


def test_no_session_is_left_where_glance_store_shares_it() -> None:
    driver = cinder_driver()
    shared = sys.modules[type(driver._glance_store).__module__]
    assert vars(shared)["CINDER_SESSION"] is None

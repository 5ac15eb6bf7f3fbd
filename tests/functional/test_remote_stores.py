"""What an operator does to a scrubber of remote stores, and what it may never show of them.

It is told to end while requests are under way, its files change while it runs, a library is
missing, and everything that goes wrong is read by people who may not know the keys.
"""

import re
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from functional.program import Result, Running
from functional.s3_servers import BUCKET
from functional.worlds import ODD, NewWorld, World, new_names
from lab.ceph import Ceph
from lab.ceph_pools import CephPool
from lab.glance import Backend, Options
from lab.processes import free_port, wait_until
from lab.s3 import Fault, Proxy, Reply, Request, S3Server
from lab.swift import TESTER, Account, Swift
from lab.swift_stores import CONTAINER

#: More than two calls take at first.
MANY = 60

#: In options and in URLs, and in no other place.
PLANTED = "PLANTED-secret"


class Store:
    """A store behind a proxy, with a live image that proves it; its rows hold credentials."""

    def __init__(self, proxy: Proxy, world: World, wrong_key: Mapping[str, str]) -> None:
        self.proxy = proxy
        self.world = world
        #: Options with which the store refuses the login.
        self.wrong_key = wrong_key
        [self.live] = self.put(1, deleted=False)

    def put(self, count: int, *, deleted: bool = True) -> set[str]:
        names = new_names(count)
        for name in names:
            self.put_object(name)
        self.world.put(ODD, {name: self.url(name) for name in names}, deleted=deleted)
        return set(names)

    def put_object(self, name: str) -> None:
        raise NotImplementedError

    def url(self, name: str) -> str:
        raise NotImplementedError

    def names(self) -> set[str]:
        """Of all objects in the store."""
        raise NotImplementedError

    @property
    def secrets(self) -> set[str]:
        """In options and URLs, and what the program has shown to the store in their place."""
        headers = [request.headers for request in self.proxy.requests]
        tokens = {header.get("X-Auth-Token") for header in headers}
        signed = {
            match[1]
            for header in headers
            if (match := re.search(r"Signature=(\w+)", header.get("Authorization", "")))
        }
        return {PLANTED, *filter(None, tokens), *signed, *self._keys}

    @property
    def _keys(self) -> set[str]:
        raise NotImplementedError


class S3Store(Store):
    def __init__(self, server: S3Server, proxy: Proxy, new_world: NewWorld) -> None:
        self._server = server
        options = {**server.options(BUCKET), "s3_store_host": proxy.url}
        world = new_world(Backend("s3", options))
        super().__init__(proxy, world, {"s3_store_secret_key": PLANTED})

    def put_object(self, name: str) -> None:
        self._server.owner.put_object(Bucket=BUCKET, Key=name, Body=b"bytes")

    def url(self, name: str) -> str:
        who = f"{self._server.access_key}:{self._server.secret_key}"
        return f"s3://{who}@{urlsplit(self.proxy.url).netloc}/{BUCKET}/{name}"

    def names(self) -> set[str]:
        found = self._server.owner.list_objects_v2(Bucket=BUCKET).get("Contents", ())
        return {entry["Key"] for entry in found}

    @property
    def _keys(self) -> set[str]:
        return {self._server.access_key, self._server.secret_key}


class SwiftStore(Store):
    def __init__(self, account: Account, proxy: Proxy, new_world: NewWorld) -> None:
        self._account = account
        options = {
            "swift_store_auth_address": f"{proxy.url}/v3",
            "swift_store_user": TESTER.name,
            "swift_store_key": TESTER.key,
            "swift_store_endpoint": f"{proxy.url}/v1/AUTH_{TESTER.project}",
            "swift_store_container": CONTAINER,
        }
        world = new_world(Backend("swift", options))
        super().__init__(proxy, world, {"swift_store_key": PLANTED})

    def put_object(self, name: str) -> None:
        self._account.put(CONTAINER, name, b"bytes")

    def url(self, name: str) -> str:
        who = f"{quote(TESTER.name, safe='')}:{TESTER.key}"
        return f"swift+http://{who}@{urlsplit(self.proxy.url).netloc}/v3/{CONTAINER}/{name}"

    def names(self) -> set[str]:
        return set(self._account.names(CONTAINER))

    @property
    def _keys(self) -> set[str]:
        return {TESTER.key, TESTER.name, quote(TESTER.name, safe="")}


@contextmanager
def s3_store(request: pytest.FixtureRequest, new_world: NewWorld) -> Iterator[Store]:
    server: S3Server = request.getfixturevalue("s3_server")
    with Proxy(server.port) as proxy:
        store = S3Store(server, proxy, new_world)
        yield store
        for name in store.names():
            server.owner.delete_object(Bucket=BUCKET, Key=name)


@contextmanager
def swift_store(request: pytest.FixtureRequest, new_world: NewWorld) -> Iterator[Store]:
    swift: Swift = request.getfixturevalue("swift")
    account = swift.account()
    account.create(CONTAINER)
    with Proxy(urlsplit(swift.url).port or 0) as proxy:
        yield SwiftStore(account, proxy, new_world)
    account.clear()
    account.close()


@pytest.fixture(params=[s3_store, swift_store])
def store(request: pytest.FixtureRequest, new_world: NewWorld) -> Iterator[Store]:
    with request.param(request, new_world) as store:
        yield store


class Traffic:
    """A fault: counts what is under way, and has each delete wait until it may go on.

    :param may_go: asked whenever a request comes or goes, or :meth:`look_again` was called.
    :param patience: seconds after which a delete goes on all the same.
    """

    def __init__(self, may_go: Callable[["Traffic"], bool], patience: float = 60) -> None:
        self.under_way = 0
        self.most = 0
        self.deletes = 0
        self._may_go = may_go
        self._patience = patience
        self._change = threading.Condition()

    def __call__(self, request: Request, forward: Callable[[], Reply]) -> Reply:
        with self._change:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            self._change.notify_all()
            if is_delete(request):
                self.deletes += 1
                self._change.wait_for(lambda: self._may_go(self), self._patience)
        try:
            return forward()
        finally:
            with self._change:
                self.under_way -= 1
                self._change.notify_all()

    def look_again(self) -> None:
        with self._change:
            self._change.notify_all()


def is_delete(request: Request) -> bool:
    # Keystone's tokens are asked for by POST, too.
    bulk = request.method == "POST" and "delete" in request.path.partition("?")[2]
    return bulk or request.method == "DELETE"


# Told to end ------------------------------------------------------------------------------


def test_who_is_told_to_end_waits_for_what_is_under_way(store: Store) -> None:
    world, opened = store.world, threading.Event()
    pending = store.put(MANY)
    traffic = Traffic(lambda _: opened.is_set())
    few = {ODD: {"scrub_max_connections": 2}, "scrubber": {"call_timeout": 30, "claim_lease": 120}}
    with store.proxy.failing(traffic), world.start(options=few) as running:
        wait_until(lambda: traffic.deletes == 2, what="two deletes under way")
        wait_until(lambda: world.claimed() == pending, what="claims on all")
        running.send(signal.SIGTERM)
        wait_until(
            lambda: not running.running or world.claimed() != pending,
            what="what is queued is given back",
        )
        under_way = world.claimed()
        assert running.running, running.log
        assert traffic.under_way == 2, "a request was cut off"
        opened.set()
        traffic.look_again()
        result = running.result()
        assert traffic.under_way == 0, "a request was cut off"

    deleted = pending - store.names()
    assert 0 < len(deleted) < MANY
    assert deleted <= under_way
    assert traffic.deletes == 2, "something was sent after the signal"
    assert (result.exit_status, result.document["status"]) == (3, "cancelled"), str(result)
    assert result.document["locations"]["deleted"] == len(deleted)
    assert world.statuses(deleted) == {"deleted"}
    assert world.statuses(pending - deleted) == {"pending_delete"}
    assert world.statuses({store.live}) == {"active"}
    assert world.claimed() == set()
    assert world.waiting() == {}


# New files --------------------------------------------------------------------------------

RELOADED, REFUSED = "Configuration reloaded.", "Configuration not reloaded"


def reload(daemon: Running, answer: str) -> str:
    """Send SIGHUP; the line that says what became of it."""
    before = lines_with(daemon, answer)
    daemon.send(signal.SIGHUP)
    return wait_until(lambda: lines_with(daemon, answer)[len(before) :], what=answer)[0]


def lines_with(daemon: Running, words: str) -> list[str]:
    return [line for line in daemon.log.split("\n")[:-1] if words in line]


def most_at_once(store: Store, patience: float) -> int:
    """Requests while the daemon deletes some, each of which waits a while for a second one."""
    traffic = Traffic(lambda traffic: traffic.most > 1, patience)
    with store.proxy.failing(traffic):
        names = store.put(MANY)
        wait_until(lambda: store.world.statuses(names) == {"deleted"}, what="a run")
    assert not names & store.names()
    assert traffic.deletes > 1
    return traffic.most


def test_the_limit_of_a_store_takes_effect_and_a_bad_value_none(store: Store) -> None:
    world = store.world
    options = {"DEFAULT": {"wakeup_time": 1}, ODD: {"scrub_max_connections": 4}}
    file = world.configuration(options)
    good = file.read_text()
    with Running(file, world.directory, "daemon", "--daemon") as daemon:
        assert most_at_once(store, 20) > 1

        bad = "[DEFAULT]\nscrub_pool_size = 1\n" + section(scrub_max_connections="few")
        file.write_text(good + bad)
        line = reload(daemon, REFUSED)
        assert "scrub_max_connections" in line
        assert f"[{ODD}]" in line
        assert str(file) in line
        assert most_at_once(store, 20) > 1, "the refused file has changed something"

        file.write_text(good + section(scrub_max_connections=1))
        reload(daemon, RELOADED)
        assert most_at_once(store, 0.1) == 1

        result = daemon.terminate()
    assert result.exit_status == 0, str(result)
    assert "Traceback" not in result.stderr
    assert len([line for line in result.stderr.splitlines() if REFUSED in line]) == 1


def section(**options: object) -> str:
    return "\n".join([f"[{ODD}]", *(f"{name} = {value}" for name, value in options.items()), ""])


# A library is missing -----------------------------------------------------------------------

S3_NOWHERE = {
    "s3_store_host": f"http://127.0.0.1:{free_port()}",
    "s3_store_access_key": "access",
    "s3_store_secret_key": PLANTED,
    "s3_store_bucket": BUCKET,
}


# What swift needs comes with python-glanceclient, without which there is no scrubber.
@pytest.mark.parametrize(("kind", "options", "missing"), [("s3", S3_NOWHERE, "botocore")])
def test_a_missing_library_is_said_in_one_line(
    new_world: NewWorld,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    options: Mapping[str, str],
    missing: str,
) -> None:
    world = new_world(Backend(kind, options))
    pending = world.put_files(3)
    package = tmp_path / "missing" / missing
    package.mkdir(parents=True)
    text = f"raise ModuleNotFoundError(\"No module named '{missing}'\", name={missing!r})\n"
    (package / "__init__.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))

    result = world.scrub()

    assert result.exit_status == 1, str(result)
    [line] = result.stderr.splitlines()
    assert line == f"ERROR: {result.document['error']}"
    for word in (f"[{ODD}]", missing, f"scrubber[{kind}]"):
        assert word in line, word
    assert world.statuses(pending) == {"pending_delete"}


# Secrets ----------------------------------------------------------------------------------


def gossiping(store: Store, status: int, code: str, **headers: str) -> Reply:
    """An answer that repeats all secrets."""
    told = " ".join(sorted(store.secrets))
    body = f"<Error><Code>{code}</Code><Message>{told}</Message></Error>"
    return Reply(status, body.encode(), headers)


@contextmanager
def refusing_the_login(store: Store) -> Iterator[Options]:
    yield {ODD: store.wrong_key}


@contextmanager
def throttling(store: Store) -> Iterator[Options]:
    """For longer than a run has patience."""
    reply = gossiping(store, 503, "SlowDown", **{"Retry-After": "3600"})
    with store.proxy.failing(deletes_answered(reply)):
        yield {}


@contextmanager
def denying(store: Store) -> Iterator[Options]:
    with store.proxy.failing(deletes_answered(gossiping(store, 403, "AccessDenied"))):
        yield {}


def deletes_answered(reply: Reply) -> Fault:
    return lambda request, forward: reply if is_delete(request) else forward()


def test_no_secret_is_shown_whatever_goes_wrong(store: Store) -> None:
    """They are in the URLs of pending and of live rows; some of each no store can read."""
    world = store.world
    pending, odd_pending, odd_live = store.put(3), new_names(2), new_names(1)
    scheme, _, rest = store.url("").partition("://")
    odd = [f"{store.url('odd')}?{PLANTED}", f"{scheme}://{PLANTED}:{PLANTED}@[{rest}"]
    world.put(ODD, dict(zip(odd_pending, odd, strict=True)))
    world.put(ODD, {name: f"{store.url(name)}?{PLANTED}" for name in odd_live}, deleted=False)

    for trouble in (refusing_the_login, throttling, denying):
        with trouble(store) as options:
            result = world.scrub("--debug", options=options)
        check_no_secret(result, store.secrets)
        assert result.exit_status == 3, str(result)
        assert list(result.document["stopped_stores"]) == [ODD], str(result)
        assert pending <= store.names()
        assert world.statuses(pending) == {"pending_delete"}

    result = world.scrub("--debug")
    check_no_secret(result, store.secrets)
    assert result.outcomes == {"deleted": 3, "refused": 2}, str(result)


def check_no_secret(result: Result, secrets: set[str]) -> None:
    assert "DEBUG" in result.stderr
    for secret in (*secrets, "Authorization", "X-Auth-", "AWS4-HMAC"):
        assert secret not in result.stdout + result.stderr, secret


def test_the_key_of_a_ceph_user_is_not_shown(
    ceph: Ceph, new_world: NewWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    ceph.create_pool(BUCKET)
    configuration = ceph.create_user("images", mon="profile rbd", osd="profile rbd")
    other = ceph.create_user("other", mon="profile rbd", osd="profile rbd")
    keys = {key_of(file.with_suffix(".keyring")) for file in (configuration, other)}
    options = {
        "rbd_store_pool": BUCKET,
        "rbd_store_user": "images",
        "rbd_store_ceph_conf": configuration,
    }
    world, pool = new_world(Backend("rbd", options)), CephPool(ceph, BUCKET)
    live, pending = new_names(2)
    for name, deleted in ((live, False), (pending, True)):
        pool.put(name)
        world.put(ODD, {name: pool.url(name)}, deleted=deleted)
    keyring = configuration.with_suffix(".keyring")
    good = keyring.read_text()
    monkeypatch.setenv("PYTHONPATH", ceph.environment["PYTHONPATH"])

    keyring.write_text(good.replace(key_of(keyring), key_of(other.with_suffix(".keyring"))))
    refused = world.scrub("--debug")
    keyring.write_text(good)
    done = world.scrub("--debug")

    for result in (refused, done):
        check_no_secret(result, keys)
    assert refused.exit_status == 3, str(refused)
    assert list(refused.document["stopped_stores"]) == [ODD]
    assert (done.exit_status, done.outcomes) == (0, {"deleted": 1}), str(done)


def key_of(keyring: Path) -> str:
    return keyring.read_text().partition("key = ")[2].strip()

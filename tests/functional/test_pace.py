"""Limits, outages and failures of real stores, as the program and its operator meet them.

A store that asks for patience gets it, one that is down costs nothing, and what cannot go is
neither forgotten nor in the way.
"""

import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from conftest import needed_programs
from functional.s3_servers import BUCKET
from functional.worlds import ODD, WELL, NewWorld, new_names
from lab.glance import Backend, Options, merge
from lab.processes import free_port, wait_until
from lab.s3 import Fault, Proxy, Reply, Request, S3Server
from lab.swift import Swift
from lab.swift_stores import CONTAINER, reference, write_references

# A limit ----------------------------------------------------------------------------------


def test_all_goes_in_one_run_though_swift_limits_it(new_world: NewWorld, tmp_path: Path) -> None:
    count = 60
    with needed_programs():
        unlimited = Swift(tmp_path / "swift")
    names = new_names(count + 1)
    with unlimited:
        account = unlimited.account()
        account.create(CONTAINER)
        for name in names:
            account.put(CONTAINER, name, b"bytes")
        account.close()
    swift = Swift(tmp_path / "swift", ratelimit=20, bulk_concurrency=10)
    references = write_references(tmp_path / "references", {"ref1": reference(swift)})
    options = {
        "swift_store_config_file": references,
        "default_swift_reference": "ref1",
        "swift_store_container": CONTAINER,
    }
    world = new_world(Backend("swift", options))
    live, *pending = names
    urls = {name: f"swift+config://ref1/{CONTAINER}/{name}" for name in names}
    world.put(ODD, {live: urls.pop(live)}, deleted=False)
    world.put(ODD, urls)
    with swift:
        # An answer of 498 is no failure: the first would be one too many.
        result = world.scrub(options={"scrubber": {"retry_attempts": 1, "call_timeout": 20}})
        account = swift.account()
        left = account.names(CONTAINER)
        account.close()

    assert (result.exit_status, result.outcomes) == (0, {"deleted": count}), str(result)
    assert left == [live]
    assert world.statuses(pending) == {"deleted"}
    pace = result.document["stores"][ODD]
    assert pace["throttled"] > 0
    assert 0 < pace["limit_per_second"] < 1000
    assert world.waiting() == {}


# A store that is down beside one that is well -----------------------------------------------


class Bucket:
    """An S3 store behind a proxy, with a live image that proves it."""

    def __init__(self, server: S3Server, proxy: Proxy, new_world: NewWorld) -> None:
        self.proxy = proxy
        self._server = server
        options = {**server.options(BUCKET), "s3_store_host": proxy.url}
        self.world = new_world(Backend("s3", options))
        [self.live] = self.put(deleted=False)

    def put(self, count: int = 1, *, deleted: bool = True) -> set[str]:
        place = f"s3://{self.proxy.url.removeprefix('http://')}/{BUCKET}"
        names = new_names(count)
        for name in names:
            self._server.owner.put_object(Bucket=BUCKET, Key=name, Body=b"bytes")
        self.world.put(ODD, {name: f"{place}/{name}" for name in names}, deleted=deleted)
        return set(names)

    def keys(self) -> set[str]:
        found = self._server.owner.list_objects_v2(Bucket=BUCKET).get("Contents", ())
        return {entry["Key"] for entry in found}

    def clear(self) -> None:
        for key in self.keys():
            self._server.owner.delete_object(Bucket=BUCKET, Key=key)

    def denying(self, names: Collection[str]) -> Fault:
        """Deletes all but these, which it denies one by one."""

        def answer(request: Request, forward: Callable[[], Reply]) -> Reply:
            if request.method != "POST":
                return forward()
            keys = re.findall(r"<Key>(.*?)</Key>", request.body.decode())
            for key in set(keys) - set(names):
                self._server.owner.delete_object(Bucket=BUCKET, Key=key)
            return Reply(200, _deletes(keys, names).encode())

        return answer


def _deletes(keys: Collection[str], denied: Collection[str]) -> str:
    """What S3 says to a request for many deletes."""
    deleted = [f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys if key not in denied]
    errors = [
        f"<Error><Key>{escape(key)}</Key><Code>AccessDenied</Code><Message>no</Message></Error>"
        for key in keys
        if key in denied
    ]
    return f"<DeleteResult>{''.join(deleted + errors)}</DeleteResult>"


@pytest.fixture
def bucket(s3_server: S3Server, proxy: Proxy, new_world: NewWorld) -> Iterator[Bucket]:
    bucket = Bucket(s3_server, proxy, new_world)
    yield bucket
    bucket.clear()


def unavailable(proxy: Proxy) -> Fault:
    return lambda _request, _forward: Reply(502, b"no upstream")


def resetting(proxy: Proxy) -> Fault:
    return lambda _request, _forward: None


def hanging(proxy: Proxy) -> Fault:
    def hang(_request: Request, _forward: Callable[[], Reply]) -> None:
        proxy.released.wait()

    return hang


def throttling(proxy: Proxy) -> Fault:
    """For longer than a run has patience."""
    return lambda _request, _forward: Reply(503, b"slow down", {"Retry-After": "3600"})


FROM_THE_START, IN_ITS_DELETES = "", "POST"

CASES = [
    (unavailable, FROM_THE_START),
    (hanging, FROM_THE_START),
    (resetting, IN_ITS_DELETES),
    (throttling, IN_ITS_DELETES),
]


@pytest.mark.parametrize(("fault", "method"), CASES)
def test_a_store_that_fails_holds_up_no_other_and_loses_nothing(
    bucket: Bucket, fault: Callable[[Proxy], Fault], method: str
) -> None:
    world = bucket.world
    stuck = bucket.put(30)
    others = world.put_files(100)
    before = {image: world.tables.of_image(image) for image in stuck}

    with bucket.proxy.failing(fault(bucket.proxy), method):
        result = world.scrub()

    assert result.exit_status == 3, str(result)
    assert result.outcomes_by_store == {WELL: {"deleted": 100}, ODD: {"waiting": 30}}
    assert world.statuses(others) == {"deleted"}
    assert not others & world.files()
    assert {image: world.tables.of_image(image) for image in stuck} == before, "a row was marked"
    assert bucket.keys() == {bucket.live, *stuck}
    assert result.document["stopped_stores"][ODD]
    assert all(left["reason"] for left in result.document["left"])
    assert result.document["stores"][ODD]["asked_again_in_seconds"] > 0
    assert world.waiting() == {}, "an outage counted as an attempt"


def test_a_store_that_nobody_serves_holds_up_no_other(
    bucket: Bucket,
) -> None:
    world = bucket.world
    stuck, others = bucket.put(5), world.put_files(50)
    nowhere = {ODD: {"s3_store_host": f"http://127.0.0.1:{free_port()}"}}
    result = world.scrub(options=nowhere)
    assert result.exit_status == 3, str(result)
    assert world.statuses(others) == {"deleted"}
    assert world.statuses(stuck) == {"pending_delete"}
    assert bucket.keys() == {bucket.live, *stuck}


def test_a_daemon_uses_a_store_again_by_itself(bucket: Bucket) -> None:
    world = bucket.world
    stuck = bucket.put(5)
    with world.start("--daemon", options={"DEFAULT": {"wakeup_time": 1}}) as daemon:
        with bucket.proxy.failing(unavailable(bucket.proxy)):
            wait_until(lambda: daemon.documents, what="a run")
            assert daemon.documents[0]["stopped_stores"].keys() == {ODD}
            late = world.put_files()
            wait_until(lambda: world.statuses(late) == {"deleted"}, what="the other store's")
        wait_until(lambda: world.statuses(stuck) == {"deleted"}, what="it is used again")
        assert daemon.terminate().exit_status == 0
    assert bucket.keys() == {bucket.live}


def test_who_is_told_to_end_leaves_a_throttled_store_and_gives_all_back(bucket: Bucket) -> None:
    world = bucket.world
    stuck = bucket.put(20)
    patient = Reply(503, b"slow down", {"Retry-After": "50"})
    with bucket.proxy.failing(patient, "POST"), world.start() as running:
        posted = lambda: [at for at in bucket.proxy.requests if at.method == "POST"]  # noqa: E731
        wait_until(posted, what="a delete")
        assert world.claimed() & stuck
        result = running.terminate()
    assert result.document["status"] == "cancelled", str(result)
    assert world.claimed() == set()
    assert world.statuses(stuck) == {"pending_delete"}
    assert world.waiting() == {}


# What fails alone -----------------------------------------------------------------------------

#: Nothing that failed is due again while a test looks, so that it is tried when it is told to.
SLOWLY: Options = {"scrubber": {"retry_base": 3600, "retry_cap": 36000}}


def test_what_fails_alone_is_listed_left_and_tried_again_when_told_to(bucket: Bucket) -> None:
    world = bucket.world
    [bad], good = bucket.put(), bucket.put(5)
    with bucket.proxy.failing(bucket.denying([bad])):
        result = world.scrub(options=parking(1))
    assert result.exit_status == 3, str(result)
    assert result.outcomes == {"deleted": 5, "failed": 1}
    assert world.statuses(good) == {"deleted"}
    [entry] = world.manage("parked", "--all")
    assert (entry["image"], entry["store"], entry["owner"]) == (bad, ODD, "project")
    assert (entry["attempts"], entry["size"]) == (1, 5)
    assert "access denied" in entry["last_error"]

    bucket.proxy.forget()
    left = world.scrub(options=parking(1))
    assert left.exit_status == 3, str(left)
    assert left.outcomes == {"waiting": 1}
    assert "parked" in left.reason(entry["location"])
    assert not [request for request in bucket.proxy.requests if request.method == "POST"]

    assert world.manage("retry", bad) == 1
    tried = world.scrub(options=parking(1))
    assert (tried.exit_status, tried.outcomes) == (0, {"deleted": 1}), str(tried)
    assert world.waiting() == {}
    assert bucket.keys() == {bucket.live}


def parking(attempts: int) -> Options:
    """What failed so often is parked, and waits at least for half of the cap."""
    return merge(SLOWLY, {"scrubber": {"retry_attempts": attempts}})


def test_what_failed_is_known_after_a_kill(bucket: Bucket) -> None:
    world = bucket.world
    bad = bucket.put(3)
    always = {"DEFAULT": {"wakeup_time": 1}}
    with world.start("--daemon", options=merge(parking(1), always)) as daemon:
        with bucket.proxy.failing(bucket.denying(bad)):
            wait_until(lambda: daemon.documents, what="a run")
        with bucket.proxy.failing(hanging(bucket.proxy), "POST"):
            [another] = bucket.put()
            wait_until(lambda: another in world.claimed(), what="a delete on its way")
            daemon.kill()
    bucket.proxy.released.set()
    assert world.waiting() == dict.fromkeys(bad, 1)

    world.tables.release([row["id"] for row in world.tables.locations(another)])
    result = world.scrub(options=parking(1))
    assert result.outcomes == {"deleted": 1, "waiting": 3}, str(result)
    assert world.waiting() == dict.fromkeys(bad, 1)


def test_two_scrubbers_share_what_they_know(bucket: Bucket) -> None:
    world = bucket.world
    bad = bucket.put(8)
    good = bucket.put(20) | world.put_files(100)
    small = merge(parking(1), {"DEFAULT": {"scrub_pool_size": 2}, "scrubber": {"page_size": 10}})
    with bucket.proxy.failing(bucket.denying(bad)):
        with world.start(options=small) as one, world.start(options=small) as another:
            results = [one.result(), another.result()]
        assert sum(result.outcomes.get("failed", 0) for result in results) == 8, str(results)
        assert sum(result.outcomes.get("deleted", 0) for result in results) == 120
        assert world.waiting() == dict.fromkeys(bad, 1)
    assert world.statuses(good) == {"deleted"}
    assert world.manage("retry", "--store", ODD) == 8
    assert world.scrub(options=small).outcomes == {"deleted": 8}
    assert world.waiting() == {}

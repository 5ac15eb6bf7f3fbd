"""The swift store against a real Swift: large objects, faults, credentials."""

import itertools
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from conftest import needed_programs
from lab.processes import free_port
from lab.swift import CREDENTIAL, NOBODY, OTHER, TESTER, Account, Swift
from lab.swift_stores import CONTAINER, reference, swift_driver
from scrubber import errors, pool
from scrubber.model import Answer, Deleted, Found, Target
from scrubber.stores import base
from scrubber.stores.swift import SwiftDriver, deletion, large, session

IMAGE = "3a1f7b52-0000-4000-8000-00000000000a"
OTHER_IMAGE = "3a1f7b52-0000-4000-8000-00000000000b"

NewDriver = Callable[..., SwiftDriver]


@pytest.fixture
def new_driver(swift: Swift, tmp_path: Path) -> Iterator[NewDriver]:
    """Makes drivers: ``new_driver(references, probe=True, **options)``."""
    numbers = itertools.count()
    with ExitStack() as stack:

        def make(
            references: Mapping[str, Mapping[str, str]] | None = None,
            *,
            probe: bool = True,
            **options: Any,
        ) -> SwiftDriver:
            file = tmp_path / f"references-{next(numbers)}"
            references = references or {"ref1": reference(swift)}
            driver = stack.enter_context(swift_driver(file, references, **options))
            if probe:
                driver.resolve()
                driver.probe()
            return driver

        yield make


@pytest.fixture
def driver(account: Account, new_driver: NewDriver) -> SwiftDriver:
    return new_driver()


def url(name: str, container: str = CONTAINER, at: str = "ref1") -> str:
    return f"swift+config://{at}/{container}/{name}"


def delete(driver: SwiftDriver, *names: str, container: str = CONTAINER) -> list[Answer]:
    targets = [Target(url(name, container)) for name in names]
    return list(driver.delete(targets, base.always))


def without_bulk(swift: Swift, driver: SwiftDriver) -> None:
    """As where /info is kept from clients."""
    swift.set_faults({"path": "^/info", "status": "403 Forbidden"})
    driver.probe()
    swift.set_faults()


# Large objects ---------------------------------------------------------------------------


@pytest.mark.parametrize("bulk", [True, False])
@pytest.mark.parametrize("page", [3, 1000])
def test_a_dynamic_large_object_goes_with_all_its_segments(
    swift: Swift,
    account: Account,
    driver: SwiftDriver,
    monkeypatch: pytest.MonkeyPatch,
    page: int,
    bulk: bool,
) -> None:
    monkeypatch.setattr(large, "PAGE", page)
    monkeypatch.setattr(large, "BULK", 4)
    if not bulk:
        without_bulk(swift, driver)
    account.put_dlo(CONTAINER, IMAGE, 13, size=10)
    account.put_dlo(CONTAINER, OTHER_IMAGE, 2, size=10)
    assert delete(driver, IMAGE) == [Deleted(130)]
    left = [f"{OTHER_IMAGE}-00001", f"{OTHER_IMAGE}-00002"]
    assert account.names(CONTAINER) == [OTHER_IMAGE, *left]


@pytest.mark.parametrize("bulk", [True, False])
def test_a_static_large_object_goes_with_all_its_segments(
    swift: Swift, account: Account, driver: SwiftDriver, bulk: bool
) -> None:
    if not bulk:
        without_bulk(swift, driver)
    segments = [f"{CONTAINER}/{IMAGE}/slo/{number}" for number in range(5)]
    account.put_slo(CONTAINER, IMAGE, [*segments, segments[0]], size=10)
    assert delete(driver, IMAGE) == [Deleted(50)]
    assert account.names(CONTAINER) == []


@pytest.mark.parametrize(
    "manifest",
    [
        f"{CONTAINER}/{OTHER_IMAGE}-",  # another image's segments
        f"{CONTAINER}/3",  # all images whose id begins so
        f"{CONTAINER}/{IMAGE[:8]}-",
        f"other/{IMAGE}-",  # another container
        f"{CONTAINER}%2Fx/{IMAGE}-",  # the header is quoted
    ],
)
def test_a_manifest_that_points_elsewhere_is_refused(
    account: Account, driver: SwiftDriver, manifest: str
) -> None:
    account.create("other")
    account.put_dlo("other", IMAGE, 1)
    account.put_dlo(CONTAINER, OTHER_IMAGE, 1)
    account.put_dlo(CONTAINER, IMAGE, 2, manifest=manifest)
    before = account.names(CONTAINER)
    [answer] = delete(driver, IMAGE)
    assert isinstance(answer, errors.Refused)
    assert account.names(CONTAINER) == before
    assert len(account.names("other")) == 2


def test_an_object_named_after_the_beginning_of_an_id_takes_no_image_with_it(
    account: Account, driver: SwiftDriver
) -> None:
    account.put_dlo(CONTAINER, IMAGE[:8], 3)
    account.put(CONTAINER, IMAGE, b"another image")
    before = account.names(CONTAINER)
    [answer] = delete(driver, IMAGE[:8])
    assert isinstance(answer, errors.Refused)
    assert account.names(CONTAINER) == before


@pytest.mark.parametrize(
    "segment",
    [
        f"{CONTAINER}/{OTHER_IMAGE}",  # another image
        f"{CONTAINER}/{OTHER_IMAGE}-00001",  # its segment
        f"{CONTAINER}/{IMAGE}-by-hand",
        f"other/{IMAGE}-00001",
    ],
)
def test_a_static_manifest_of_what_is_not_its_own_is_refused(
    account: Account, driver: SwiftDriver, segment: str
) -> None:
    account.create("other")
    account.put_slo(CONTAINER, IMAGE, [f"{CONTAINER}/{IMAGE}-00001", segment])
    before = account.names(CONTAINER)
    [answer] = delete(driver, IMAGE)
    assert isinstance(answer, errors.Refused)
    assert account.names(CONTAINER) == before


def test_a_large_object_made_of_large_objects_is_refused(
    account: Account, driver: SwiftDriver
) -> None:
    account.put_slo(CONTAINER, f"{IMAGE}-1", [f"{CONTAINER}/{IMAGE}-2"])
    manifest = f'[{{"path": "/{CONTAINER}/{IMAGE}-1"}}]'.encode()
    account.request("PUT", CONTAINER, IMAGE, data=manifest, **{"multipart-manifest": "put"})
    before = account.names(CONTAINER)
    [answer] = delete(driver, IMAGE)
    assert isinstance(answer, errors.Refused)
    assert account.names(CONTAINER) == before


def test_a_large_object_is_stopped_between_its_segments_and_finished_later(
    account: Account, driver: SwiftDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large, "BULK", 2)
    account.put_dlo(CONTAINER, IMAGE, 7)
    for left in (5, 3, 1):
        asked = itertools.count(1)
        [answer] = driver.delete([Target(url(IMAGE))], lambda asked=asked: next(asked) == 1)
        # Not NotSent: that would say that the object is as it was.
        assert isinstance(answer, errors.Begun)
        assert len(account.names(CONTAINER, f"{IMAGE}-")) == left
        assert account.holds(CONTAINER, IMAGE)
    assert delete(driver, IMAGE) == [Deleted(1)]
    assert account.names(CONTAINER) == []


def test_what_a_listing_shows_though_it_is_gone_does_not_keep_the_manifest(
    swift: Swift, account: Account, driver: SwiftDriver
) -> None:
    """Listings lag behind: here one is always of before."""
    account.put_dlo(CONTAINER, IMAGE, 2, size=10)
    listed = [{"name": f"{IMAGE}-{number:05d}", "bytes": 10} for number in (1, 2, 3)]
    page = json.dumps(listed)
    first = {"method": "GET", "path": "prefix=.*marker=$", "status": "200 OK", "body": page}
    for bulk in (True, False):
        if not bulk:
            without_bulk(swift, driver)
            account.put_dlo(CONTAINER, IMAGE, 2, size=10)
        swift.set_faults(first)
        assert delete(driver, IMAGE) == [Deleted(20)]
        assert account.names(CONTAINER) == []


@pytest.mark.parametrize("bulk", [True, False])
@pytest.mark.parametrize("static", [True, False])
def test_a_segment_that_stays_keeps_the_manifest(
    swift: Swift, account: Account, driver: SwiftDriver, static: bool, bulk: bool
) -> None:
    if static:
        segments = [f"{CONTAINER}/{IMAGE}-{number:05d}" for number in (1, 2, 3)]
        account.put_slo(CONTAINER, IMAGE, segments)
    else:
        account.put_dlo(CONTAINER, IMAGE, 3)
    if not bulk:
        without_bulk(swift, driver)
    swift.set_faults(
        {"method": "DELETE", "path": "-00002", "status": "409 Conflict"}, place="inner"
    )
    [answer] = delete(driver, IMAGE)
    assert type(answer) is errors.Failed
    assert account.names(CONTAINER) == [IMAGE, f"{IMAGE}-00002"]
    swift.set_faults(place="inner")
    assert delete(driver, IMAGE) == [Deleted(1)]
    assert account.names(CONTAINER) == []


# Faults ----------------------------------------------------------------------------------


class Image:
    """Images of one kind in the container, and what must hold for them at any time."""

    names: list[str]

    def __init__(self, account: Account) -> None:
        self._account = account

    def check(self) -> None:
        """No segment without its manifest: nobody would ever find it."""
        names = set(self._account.names(CONTAINER))
        for name in names - set(self.names):
            assert name[: len(IMAGE)] in names, f"{name} is leaked"

    @property
    def left(self) -> list[str]:
        return self._account.names(CONTAINER)


class Plain(Image):
    names = [f"{IMAGE[:-2]}{number:02d}" for number in range(25)]

    def put(self) -> None:
        for name in self.names:
            self._account.put(CONTAINER, name, b"x")


class Dynamic(Image):
    names = [IMAGE, OTHER_IMAGE]

    def put(self) -> None:
        for name in self.names:
            self._account.put_dlo(CONTAINER, name, 12)


class Static(Image):
    names = [IMAGE, OTHER_IMAGE]

    def put(self) -> None:
        for name in self.names:
            segments = [f"{CONTAINER}/{name}/{number:02d}" for number in range(12)]
            self._account.put_slo(CONTAINER, name, segments)


FAULTS = {
    "498": {"status": "498 Rate Limited", "body": "Slow down"},
    "503": {"status": "503 Service Unavailable"},
    "broken": {"connection": "broken"},
    "half": {"connection": "half"},
    "answer-lost": {"connection": "broken", "done": True},
}


@pytest.mark.parametrize("bulk", [True, False], ids=["bulk", "single"])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", [Plain, Dynamic, Static])
def test_faults_leave_no_segment_behind_and_end_with_nothing_left(
    swift: Swift,
    account: Account,
    driver: SwiftDriver,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[Image],
    fault: str,
    bulk: bool,
) -> None:
    """Every tenth request fails, whatever it is, and every fifth inside a bulk request."""
    monkeypatch.setattr(large, "BULK", 5)
    monkeypatch.setattr(large, "PAGE", 5)
    images = kind(account)
    images.put()
    if not bulk:
        without_bulk(swift, driver)
    if bulk and "status" in FAULTS[fault]:
        swift.set_faults({**FAULTS[fault], "method": "DELETE", "share": 0.2}, place="inner")
    swift.set_faults({**FAULTS[fault], "share": 0.1})

    def proceed() -> bool:
        images.check()
        return True

    answered: set[str] = set()
    failures: set[type[Answer]] = set()
    for _ in range(40):
        todo = [name for name in images.names if name not in answered]
        try:
            answers = driver.delete([Target(url(name)) for name in todo], proceed)
        except errors.Unavailable:
            continue
        finally:
            images.check()
        left = images.left
        for name, answer in zip(todo, answers, strict=True):
            if isinstance(answer, Deleted | errors.Gone):
                assert name not in left
                assert not [at for at in left if at.startswith(name)]
                answered.add(name)
            else:
                failures.add(type(answer))
        if not left:
            break
    assert images.left == []
    assert swift.seen().spoilt > 0
    expected = (errors.Throttled, errors.Failed, errors.Unavailable)
    assert all(issubclass(failure, expected) for failure in failures)


def test_headers_that_break_off_do_not_make_a_manifest_a_plain_object(
    swift: Swift, account: Account, driver: SwiftDriver
) -> None:
    """Without its last headers it would look like one, and go before its segments."""
    account.put_dlo(CONTAINER, IMAGE, 2)
    before = account.names(CONTAINER)
    swift.set_faults({"method": "HEAD", "connection": "half"})
    [answer] = delete(driver, IMAGE)
    assert isinstance(answer, errors.Unavailable)
    assert account.names(CONTAINER) == before


def test_a_real_rate_limit_is_throttling_and_costs_nothing_but_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with needed_programs():
        swift = Swift(tmp_path / "swift")
    names = [f"{IMAGE[:-2]}{number:02d}" for number in range(30)]
    with swift:
        account = swift.account()
        account.create(CONTAINER)
        for name in names:
            account.put(CONTAINER, name, b"x")
        account.close()
    swift = Swift(tmp_path / "swift", ratelimit=20, bulk_concurrency=10)
    with (
        swift,
        swift_driver(tmp_path / "references", {"ref1": reference(swift)}) as driver,
    ):
        driver.resolve()
        driver.probe()
        answers: list[Answer] = []
        throttled = 0
        for _ in range(40):
            targets = [Target(url(name)) for name in names]
            answers = list(driver.delete(targets, base.always))
            throttled += sum(isinstance(answer, errors.Throttled) for answer in answers)
            names = [
                name
                for name, answer in zip(names, answers, strict=True)
                if not isinstance(answer, Deleted | errors.Gone)
            ]
            if not names:
                break
        account = swift.account()
        assert account.names(CONTAINER) == names == []
        account.close()
        assert throttled > 0


def test_errors_inside_a_bulk_success_are_told_object_by_object(
    swift: Swift, account: Account, driver: SwiftDriver
) -> None:
    for name in "abcde":
        account.put(CONTAINER, name, b"x")
    swift.set_faults(
        {"method": "DELETE", "path": "/a$", "status": "409 Conflict"},
        {"method": "DELETE", "path": "/c$", "status": "498 Rate Limited"},
        {"method": "DELETE", "path": "/e$", "status": "503 Service Unavailable"},
        place="inner",
    )
    a, b, c, d, e = delete(driver, *"abcde")
    assert swift.seen("inner").count("DELETE") >= 5
    assert [type(answer) for answer in (a, c)] == [errors.Failed, errors.Throttled]
    assert isinstance(e, errors.Failed)
    assert b == d == Deleted(1)
    assert account.names(CONTAINER) == ["a", "c", "e"]


@pytest.mark.parametrize(
    "body", ["", "{", "[]", '{"Errors": []}', '{"Errors": 3, "Number Deleted": 1}']
)
def test_a_bulk_answer_that_nobody_understands_deletes_nothing(
    swift: Swift, account: Account, driver: SwiftDriver, body: str
) -> None:
    account.put(CONTAINER, "a", b"x")
    account.put(CONTAINER, "b", b"x")
    swift.set_faults({"path": "bulk-delete", "status": "200 OK", "body": body})
    for answer in delete(driver, "a", "b"):
        assert isinstance(answer, errors.Unavailable)


def test_a_bulk_delete_that_broke_off_says_deleted_of_nothing(
    swift: Swift, account: Account, driver: SwiftDriver
) -> None:
    account.put(CONTAINER, "a", b"x")
    account.put(CONTAINER, "b", b"x")
    body = '{"Errors": [], "Number Deleted": 1, "Number Not Found": 0, "Response Status": "500"}'
    swift.set_faults({"path": "bulk-delete", "status": "200 OK", "body": body})
    for answer in delete(driver, "a", "b"):
        assert isinstance(answer, errors.Failed)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"status": "409 Conflict"}, errors.Failed),
        ({"status": "423 Locked"}, errors.InUse),
        ({"status": "429 Too Many Requests"}, errors.Throttled),
        ({"status": "503 Slow Down"}, errors.Throttled),
        ({"status": "503 Service Unavailable", "headers": {"Retry-After": "7"}}, errors.Throttled),
        ({"status": "503 Service Unavailable"}, errors.Failed),
        ({"status": "500 Internal Error"}, errors.Failed),
        ({"status": "412 Precondition Failed"}, errors.Failed),
        ({"status": "403 Forbidden"}, errors.Unavailable),
        ({"status": "301 Moved", "headers": {"Location": "/v1/AUTH_other"}}, errors.Unavailable),
        ({"connection": "broken"}, errors.Unavailable),
    ],
)
def test_what_an_answer_means_for_one_object(
    swift: Swift,
    account: Account,
    driver: SwiftDriver,
    fault: dict[str, Any],
    expected: type[errors.StoreError],
) -> None:
    account.put(CONTAINER, "a", b"x")
    swift.set_faults({**fault, "path": f"/{CONTAINER}/a$"})
    [answer] = delete(driver, "a")
    assert isinstance(answer, expected)
    if "headers" in fault and isinstance(answer, errors.Throttled):
        assert answer.retry_after == 7
    assert account.holds(CONTAINER, "a")


def test_a_token_follows_no_redirect(swift: Swift, account: Account, driver: SwiftDriver) -> None:
    swift.set_faults(
        {
            "path": f"/{CONTAINER}/a$",
            "status": "307 Temporary Redirect",
            "headers": {"Location": f"{swift.url}/elsewhere"},
        }
    )
    [answer] = delete(driver, "a")
    assert isinstance(answer, errors.Unavailable)
    assert not any("elsewhere" in request for request in swift.seen().requests)


def test_trouble_with_the_container_too_is_trouble_with_the_store(
    swift: Swift, account: Account, driver: SwiftDriver
) -> None:
    account.put(CONTAINER, "a", b"x")
    swift.set_faults({"path": f"/{CONTAINER}", "status": "503 Service Unavailable"})
    for answer in delete(driver, "a", "b"):
        assert isinstance(answer, errors.Unavailable)
    with pytest.raises(errors.Unavailable):
        driver.probe()


# Logging in ------------------------------------------------------------------------------


def test_many_deletes_log_in_once_and_keep_their_connection(
    swift: Swift, account: Account, new_driver: NewDriver
) -> None:
    for number in range(40):
        account.put(CONTAINER, str(number), b"x")
    swift.set_faults()
    driver = new_driver()
    for number in range(40):
        assert delete(driver, str(number)) == [Deleted(1)]
    seen = swift.seen()
    assert seen.count("POST /v3/auth/tokens") == 1
    assert seen.connections == 1


def test_a_token_that_ran_out_is_renewed_once(
    swift: Swift, account: Account, driver: SwiftDriver
) -> None:
    for name in "abc":
        account.put(CONTAINER, name, b"x")
    swift.set_faults()
    swift.forget_tokens()
    assert delete(driver, *"abc") == [Deleted(1)] * 3
    assert swift.seen().count("POST /v3/auth/tokens") == 1


def test_a_token_that_is_refused_again_stops_the_store(
    swift: Swift, account: Account, driver: SwiftDriver
) -> None:
    account.put(CONTAINER, "a", b"x")
    swift.set_faults({"path": "^/v1/", "status": "401 Unauthorized"})
    for answer in delete(driver, "a", "b"):
        assert isinstance(answer, errors.Unavailable)
        assert "[fast]" in str(answer)
    assert account.holds(CONTAINER, "a")


def v1(swift: Swift) -> dict[str, str]:
    return reference(swift, auth_version="1", auth_address=swift.auth_v1)


@pytest.mark.parametrize("how", ["v1", "credential", "no version", "endpoint"])
def test_ways_to_log_in(swift: Swift, account: Account, new_driver: NewDriver, how: str) -> None:
    account.put(CONTAINER, "a", b"xyz")
    options: dict[str, Any] = {}
    references = {"ref1": reference(swift)}
    match how:
        case "v1":
            references = {"ref1": v1(swift)}
        case "credential":
            references = {"ref1": reference(swift, CREDENTIAL)}
        case "no version":
            references["ref1"]["auth_address"] = swift.url
        case "endpoint":
            options = {"swift_store_endpoint": swift.storage_url()}
    assert delete(new_driver(references, **options), "a") == [Deleted(3)]


@pytest.mark.parametrize("user", [{"key": "wrong"}, {"user": "test:unknown"}])
@pytest.mark.parametrize("how", ["v1", "v3"])
def test_a_wrong_key_or_user_stops_the_store(
    swift: Swift, account: Account, new_driver: NewDriver, how: str, user: dict[str, str]
) -> None:
    references = {"ref1": {**(v1(swift) if how == "v1" else reference(swift)), **user}}
    driver = new_driver(references, probe=False)
    with pytest.raises(errors.Unavailable, match=r"\[fast\], reference ref1.*refused"):
        driver.resolve()
    with pytest.raises(errors.Unavailable, match=r"\[fast\], reference ref1.*refused"):
        driver.probe()
    # Identities do not change in mid-run.
    assert driver.identify(url("a")).startswith("swift:test:")


@pytest.mark.parametrize(
    "change",
    [
        {"swift_store_region": "elsewhere"},
        {"swift_store_service_type": "shared-file-system"},
        {"swift_store_container": "unknown"},
        {"scrub_also_in": ["unknown"]},
    ],
)
def test_what_is_not_there_stops_the_store(
    account: Account, new_driver: NewDriver, change: dict[str, Any]
) -> None:
    driver = new_driver(probe=False, **change)
    with pytest.raises(errors.Unavailable):
        driver.probe()


def test_nobody_at_the_address_stops_the_store(swift: Swift, new_driver: NewDriver) -> None:
    for address in (f"http://127.0.0.1:{free_port()}/v3", f"{swift.url}/nothing/v3"):
        for version in ("1", "3"):
            references = {"ref1": reference(swift, auth_address=address, auth_version=version)}
            with pytest.raises(errors.Unavailable, match="ref1"):
                new_driver(references)


def test_a_user_without_rights_and_an_account_without_the_container_stop_the_store(
    swift: Swift, account: Account, new_driver: NewDriver
) -> None:
    for user in (NOBODY, OTHER):
        with pytest.raises(errors.Unavailable):
            new_driver({"ref1": reference(swift, user)})


def test_two_references_to_one_account_are_one_and_others_are_not(
    swift: Swift, account: Account, new_driver: NewDriver
) -> None:
    references = {
        "ref1": reference(swift),
        "old": v1(swift),
        "credential": reference(swift, CREDENTIAL),
        "other": reference(swift, OTHER),
    }
    driver = new_driver(references)
    names = {at: driver.identify(url("a", at=at)) for at in references}
    assert names["ref1"] == names["old"] == names["credential"] != names["other"]
    for at in references:
        assert names[at] in set(driver.mentions([url("a", at=at)])[0])
    # A URL with another account in it may lead to any that we know.
    foreign = "swift+https://somebody:else:secret@elsewhere/v3/glance/a"
    assert set(driver.mentions([foreign])[0]) == set(names.values())


def test_a_dead_reference_makes_no_two_names_of_one_account(
    swift: Swift, account: Account, new_driver: NewDriver
) -> None:
    """Nobody could say whether a live URL through it means the same object."""
    references = {"ref1": reference(swift), "old": reference(swift, key="expired")}
    driver = new_driver(references, probe=False)
    with pytest.raises(errors.Unavailable, match="reference old"):
        driver.resolve()
    with pytest.raises(errors.Unavailable, match="reference old"):
        driver.probe()


# Containers ------------------------------------------------------------------------------


def test_only_glances_own_containers_are_deleted_from(
    account: Account, new_driver: NewDriver
) -> None:
    driver = new_driver(
        scrub_also_in=["other"], swift_store_multiple_containers_seed=3, probe=False
    )
    account.create("other", "glance_3a1", "glance_3a1f7b52-0", "elsewhere", "glance_3b")
    driver.resolve()
    driver.probe()
    for container in (CONTAINER, "other", "glance_3a1", "glance_3a1f7b52-0"):
        account.put(container, IMAGE, b"xy")
        assert delete(driver, IMAGE, container=container) == [Deleted(2)]
    for container in ("elsewhere", "glance_3b", "glance_", "glance_3"[:6]):
        [answer] = delete(driver, IMAGE, container=container)
        assert isinstance(answer, errors.Refused if container != CONTAINER else errors.Gone)
    [answer] = delete(driver, "3a1", container="glance_3a1")
    assert isinstance(answer, errors.Refused)  # no image's id


def test_containers_that_glance_makes_on_demand_prove_themselves_together(
    account: Account, new_driver: NewDriver
) -> None:
    driver = new_driver(swift_store_multiple_containers_seed=2)
    first, second = url(IMAGE, "glance_3a"), url(f"4b{IMAGE[2:]}", "glance_4b")
    assert driver.root(first) == driver.root(second) != driver.root(url(IMAGE))
    [answer] = delete(driver, IMAGE, container="glance_3a")
    assert isinstance(answer, errors.Failed)  # no container: not gone
    account.remove(CONTAINER)
    driver.probe()


def test_a_look_knows_large_objects_as_a_whole(account: Account, driver: SwiftDriver) -> None:
    account.put_dlo(CONTAINER, IMAGE, 3, size=5)
    account.put_slo(CONTAINER, OTHER_IMAGE, [f"{CONTAINER}/{OTHER_IMAGE}/1"], size=7)
    looks = driver.look([Target(url(IMAGE)), Target(url(OTHER_IMAGE))])
    assert [look.size for look in looks if isinstance(look, Found)] == [15, 7]


def test_no_library_logs_an_address_or_a_secret(
    swift: Swift,
    account: Account,
    new_driver: NewDriver,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    account.put(CONTAINER, IMAGE, b"x")
    caplog.clear()
    for references in ({"ref1": reference(swift)}, {"ref1": v1(swift)}):
        driver = new_driver(references)
        delete(driver, IMAGE)
    with pytest.raises(errors.Unavailable):
        new_driver({"ref1": reference(swift, key="wrong-secret")})
    assert "secret" not in caplog.text
    assert "://" not in caplog.text
    assert IMAGE not in caplog.text
    assert TESTER.key not in caplog.text


class Interrupted:
    """An account whose server does not answer in time."""

    def resolve(self) -> str:
        raise KeyboardInterrupt  # no Exception, as eventlet's Timeout is none


def test_accounts_that_were_not_found_out_in_time_stop_the_store(
    account: Account, driver: SwiftDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else identities would change between the live rows and the delete."""
    with monkeypatch.context() as patch:
        patch.setitem(driver._accounts, "ref1", Interrupted())
        with pytest.raises(KeyboardInterrupt):
            driver.resolve()
    with pytest.raises(errors.Unavailable):
        driver.probe()
    driver.resolve()
    driver.probe()


# Parts of live images --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_a_location_that_names_a_segment_takes_nothing_from_the_image(
    account: Account, driver: SwiftDriver, kind: str
) -> None:
    """Whoever may add locations could name it; no live URL does."""
    segment = f"{IMAGE}-00002"
    if kind == "dynamic":
        account.put_dlo(CONTAINER, IMAGE, 3, size=10)
    else:
        account.put_slo(CONTAINER, IMAGE, [f"{CONTAINER}/{segment}"], size=10)
    [answer] = delete(driver, segment)
    assert isinstance(answer, errors.InUse)
    assert account.holds(CONTAINER, segment)


def test_a_name_like_a_segments_is_deleted_beside_a_plain_object_or_none(
    account: Account, driver: SwiftDriver
) -> None:
    for name in (f"{IMAGE}-00001", OTHER_IMAGE, f"{OTHER_IMAGE}-00001"):
        account.put(CONTAINER, name, b"xy")
    names = [f"{IMAGE}-00001", f"{OTHER_IMAGE}-00001"]
    assert delete(driver, *names) == [Deleted(2)] * 2
    assert account.names(CONTAINER) == [OTHER_IMAGE]


# A Keystone that hangs -------------------------------------------------------------------


def test_calls_that_wait_for_a_login_fail_with_it(
    account: Account, driver: SwiftDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each of them would wait for the same time-out in turn, and a stop for them all."""
    at = driver._accounts["ref1"]
    waiting = ["all but the first"] * 3
    answers: list[Answer] = []

    def answer() -> None:
        answers.extend(delete(driver, "a"))

    def hang() -> session.Login:
        assert waiting, "somebody logged in once more"
        tasks.extend(pool.Task(answer) for _ in waiting)
        waiting.clear()
        pool.sleep()
        raise errors.Unavailable("Keystone does not answer in time")

    tasks: list[pool.Task] = []
    monkeypatch.setattr(at, "_login", None)
    monkeypatch.setattr(at, "_authenticated", hang)
    answer()
    for task in tasks:
        task.join()
    assert [str(one) for one in answers] == ["Keystone does not answer in time"] * 4


def test_a_login_that_failed_is_tried_again_by_the_next_call(
    swift: Swift, account: Account, driver: SwiftDriver
) -> None:
    account.put(CONTAINER, "a", b"x")
    swift.forget_tokens()
    swift.set_faults({"path": "^/v3/auth", "status": "503 Service Unavailable"})
    assert isinstance(delete(driver, "a")[0], errors.Unavailable)
    swift.set_faults()
    assert delete(driver, "a") == [Deleted(1)]


# A process that is paused ----------------------------------------------------------------


def test_what_was_looked_at_before_a_long_pause_is_not_sent_after_it(
    account: Account, driver: SwiftDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its claims may have run out, and an operator may have restored the images."""
    for name in "ab":
        account.put(CONTAINER, name, b"x")
    asked: list[str] = []
    now = 0.0

    def proceed() -> bool:
        nonlocal now
        asked.append("once more")
        if len(asked) == 2:
            now += driver.section.call_timeout() + 1
        return len(asked) < 2

    monkeypatch.setattr(deletion.time, "monotonic", lambda: now)
    answers = driver.delete([Target(url(name)) for name in "ab"], proceed)
    assert [type(answer) for answer in answers] == [errors.NotSent] * 2
    assert account.names(CONTAINER) == ["a", "b"]


# Two stores in one account ---------------------------------------------------------------


def test_one_object_looks_the_same_through_two_endpoints(
    swift: Swift, account: Account, driver: SwiftDriver, new_driver: NewDriver
) -> None:
    """An image may have a copy in each store: what is removed of one is that of the other."""
    endpoint = swift.storage_url().replace("127.0.0.1", "localhost")
    other = new_driver(swift_store_endpoint=endpoint)
    for name in (IMAGE, OTHER_IMAGE):
        account.put(CONTAINER, name, b"x")
    [look], [same] = (at.look([Target(url(IMAGE))]) for at in (driver, other))
    [another] = other.look([Target(url(OTHER_IMAGE))])
    assert isinstance(look, Found)
    assert isinstance(same, Found)
    assert isinstance(another, Found)
    assert look.fingerprint == same.fingerprint != another.fingerprint


# Containers with versions ----------------------------------------------------------------


def test_where_a_delete_brings_an_older_version_back_nothing_is_deleted(
    swift: Swift, account: Account, driver: SwiftDriver
) -> None:
    rule = {"method": "HEAD", "path": f"/{CONTAINER}$", "status": "204 No Content"}
    swift.set_faults({**rule, "headers": {"X-Versions-Location": "older"}})
    with pytest.raises(errors.Unavailable, match="x-versions-location"):
        driver.probe()
    swift.set_faults()


@pytest.mark.parametrize("how", ["X-Versions-Enabled", "X-History-Location"])
def test_where_old_versions_are_kept_no_byte_is_said_to_be_freed(
    swift: Swift, account: Account, driver: SwiftDriver, how: str
) -> None:
    rule = {"method": "HEAD", "path": f"/{CONTAINER}$", "status": "204 No Content"}
    swift.set_faults({**rule, "headers": {how: "True"}})
    driver.probe()
    swift.set_faults()
    for name in "abc":
        account.put(CONTAINER, name, b"xy")
    account.put_dlo(CONTAINER, IMAGE, 2, size=10)
    assert delete(driver, *"ab", IMAGE) == [Deleted(0)] * 3
    assert account.names(CONTAINER) == ["c"]
    driver.probe()  # they are kept no longer
    assert delete(driver, "c") == [Deleted(2)]

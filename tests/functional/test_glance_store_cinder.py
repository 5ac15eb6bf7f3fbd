"""The cinder driver with the real glance_store and cinderclient, and what looks like Cinder."""

import json
import logging
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import Any, ClassVar

import pytest

from contract.driver_contract import *  # noqa: F403 - every driver keeps all of it
from contract.driver_contract import PATIENCE, Place, Trouble, delete
from contract.sections import section
from lab.cinder import Cinder, Fault, Volume
from scrubber import errors
from scrubber.model import Answer, Deleted, Found, Target
from scrubber.stores.glance_store import CinderDriver
from scrubber.stores.glance_store import cinder as module

NAMES = uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
VOLUMES = "GET .*/volumes/"
DELETES = "DELETE .*/volumes/"

#: What Cinder answers.
FAULTS: dict[Trouble, dict[str, Any]] = {
    Trouble.THROTTLED: {"status": 429},
    Trouble.THROTTLED_FOR_A_WHILE: {"status": 429, "headers": {"Retry-After": str(PATIENCE)}},
    Trouble.SERVER_ERROR: {"status": 500},
    Trouble.RESET: {"status": 0},
    Trouble.HALF: {"status": 200, "body": '{"volume": {}}', "cut": True},
}


def url(volume_id: str) -> str:
    return f"cinder://cin/{volume_id}"


class CinderPlace(Place):
    """Each name is a volume of its own."""

    notices_another_root: ClassVar = False
    says_size: ClassVar = False
    many: ClassVar = 20
    knows_plain_urls = False

    refused: ClassVar = [
        "cinder://",
        "cinder://cin/",
        "cinder://cin/image",
        "cinder://cin/more/8f14e45f-ceea-467f-a1f0-5f2e1d3c4b5a",
        "cinder://user@cin/8f14e45f-ceea-467f-a1f0-5f2e1d3c4b5a",
        "cinder://cin/8f14e45fceea467fa1f05f2e1d3c4b5a",
        "cinder://cin/8F14E45F-CEEA-467F-A1F0-5F2E1D3C4B5A",
        "CINDER://cin/8f14e45f-ceea-467f-a1f0-5f2e1d3c4b5a",
        "rbd://pool/image",
        "no URL",
        "",
    ]

    def __init__(self, cinder: Cinder, **options: Any) -> None:
        self.cinder = cinder
        self.driver = driver(cinder, **{"call_timeout": lambda: self.call_timeout, **options})

    def url(self, name: str) -> str:
        return url(self._id(name))

    def spellings(self, name: str) -> list[str]:
        return [f"cinder://{self._id(name)}", f"cinder://old-name/{self._id(name)}"]

    def put(self, name: str, size: int) -> None:
        # Cinder's sizes are GiB of the volume.
        self.cinder.volumes[self._id(name)] = Volume()

    def holds(self, name: str) -> bool:
        return self._id(name) in self.cinder.volumes

    def remove_root(self) -> None:
        self.cinder.reset()
        self.cinder.faults.append(Fault(".*", 503))

    def replace_root(self) -> None:
        raise NotImplementedError

    def in_trouble(self, trouble: Trouble, name: str | None = None) -> AbstractContextManager[None]:
        requests = ".*" if name is None else f"DELETE .*{self._id(name)}"
        if trouble is Trouble.SILENT:
            return self._silent(requests)
        return self.cinder.failing(requests, **FAULTS[trouble])

    @contextmanager
    def _silent(self, requests: str) -> Iterator[None]:
        self.cinder.silent = re.compile(requests)
        try:
            with self.impatient():
                yield
        finally:
            self.cinder.silent = None

    def _id(self, name: str) -> str:
        return str(uuid.uuid5(NAMES, name))


def driver(
    cinder: Cinder, *, call_timeout: float | Callable[[], float] = 20, **options: Any
) -> CinderDriver:
    merged = {**cinder.options, **options}
    return CinderDriver(section(CinderDriver, store="cin", call_timeout=call_timeout, **merged))


@pytest.fixture(scope="module")
def running_cinder() -> Iterator[Cinder]:
    with Cinder() as cinder:
        yield cinder


@pytest.fixture
def cinder(running_cinder: Cinder, monkeypatch: pytest.MonkeyPatch) -> Cinder:
    running_cinder.reset()
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.001)
    return running_cinder


@pytest.fixture
def place(cinder: Cinder) -> Iterator[CinderPlace]:
    place = CinderPlace(cinder)
    yield place
    place.driver.close()


def answer(place: CinderPlace, volume_id: str) -> Answer:
    [answer] = delete(place, url(volume_id), size=9)
    return answer


# Deletes that go on ----------------------------------------------------------------------


def test_an_accepted_delete_counts_when_the_volume_is_gone(place: CinderPlace) -> None:
    volume = place.cinder.add(looks=3)
    assert answer(place, volume) == Deleted(9)
    assert volume not in place.cinder.volumes
    assert place.cinder.count(DELETES) == 1


def test_a_volume_that_is_being_deleted_already_is_waited_for(place: CinderPlace) -> None:
    assert answer(place, place.cinder.add("deleting", looks=2)) == Deleted(9)


@pytest.mark.parametrize(
    ("ends", "error", "word"),
    [
        ("error_deleting", errors.Failed, "error_deleting"),  # the backend could not
        ("available", errors.InUse, "clones"),  # the backend found clones
        ("error", errors.InUse, "clones"),
        ("in-use", errors.InUse, "in-use"),
    ],
)
def test_an_accepted_delete_that_cinder_gave_up_is_not_recorded(
    place: CinderPlace, ends: str, error: type[errors.StoreError], word: str
) -> None:
    said = answer(place, place.cinder.add(ends=ends))
    assert type(said) is error
    assert word in str(said)


def test_a_delete_that_goes_on_is_left_to_a_later_run(
    place: CinderPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.0)
    slow, quick = place.cinder.add(looks=1_000_000), place.cinder.add()
    said = delete(place, url(slow), url(quick))
    assert isinstance(said[0], errors.InUse)
    assert "still deleting" in str(said[0])
    assert said[1] == Deleted(0)
    place.cinder.volumes[slow].looks = 0
    assert isinstance(answer(place, slow), Deleted | errors.Gone)


@pytest.mark.parametrize(
    ("status", "error", "word"),
    [
        ("in-use", errors.InUse, "in-use"),
        ("attaching", errors.InUse, "attaching"),
        ("backing-up", errors.InUse, "backing-up"),
        ("error_deleting", errors.Failed, "error_deleting"),
        ("<script>", errors.InUse, "unknown"),  # not quoted
    ],
)
def test_a_volume_that_cannot_be_deleted_stays_and_says_why(
    place: CinderPlace, status: str, error: type[errors.StoreError], word: str
) -> None:
    volume = place.cinder.add(status)
    said = answer(place, volume)
    assert type(said) is error
    assert word in str(said)
    assert place.cinder.volumes[volume].status == status


def test_a_volume_with_snapshots_is_in_use(place: CinderPlace) -> None:
    volume = place.cinder.add(snapshots=True)
    said = answer(place, volume)
    assert isinstance(said, errors.InUse)
    assert "snapshots" in str(said)


@pytest.mark.parametrize(
    ("created_at", "modified_at"),
    [
        ("2026-01-02T03:04:05.000000", datetime(2026, 1, 2, 3, 4, 5)),
        ("2026-01-02T03:04:05+02:00", datetime(2026, 1, 2, 1, 4, 5)),
        ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5)),
        ("yesterday", None),
    ],
)
def test_a_volume_is_as_old_as_cinder_says_in_utc(
    place: CinderPlace, created_at: str, modified_at: datetime | None
) -> None:
    [look] = place.driver.look([Target(url(place.cinder.add(created_at=created_at)))])
    assert isinstance(look, Found)
    assert look.modified_at == modified_at


def test_a_look_takes_a_volume_that_is_being_deleted_for_gone(place: CinderPlace) -> None:
    deleting = place.cinder.add("deleting", looks=5)
    broken, whole = place.cinder.add("error_deleting"), place.cinder.add()
    looks = place.driver.look([Target(url(volume)) for volume in (deleting, broken, whole)])
    assert [type(look) for look in looks] == [errors.Gone, errors.Failed, Found]


# What the services say -------------------------------------------------------------------


@pytest.mark.parametrize("status", [413, 429])
@pytest.mark.parametrize("requests", [DELETES, VOLUMES])
def test_throttling_says_how_long_to_wait(place: CinderPlace, requests: str, status: int) -> None:
    volume = place.cinder.add()
    with place.cinder.failing(requests, status, headers={"Retry-After": "17"}):
        said = answer(place, volume)
    assert isinstance(said, errors.Throttled)
    assert said.retry_after == 17


def test_a_busy_service_that_says_when_to_come_back_is_throttling(place: CinderPlace) -> None:
    with place.cinder.failing(DELETES, 503, headers={"Retry-After": "2.5"}):
        said = answer(place, place.cinder.add())
    assert isinstance(said, errors.Throttled)
    assert said.retry_after == 2.5


def test_throttling_ends_the_batch_and_nothing_is_tried_again(place: CinderPlace) -> None:
    volumes = [place.cinder.add() for _ in range(3)]
    with place.cinder.failing(DELETES, 429, headers={"Retry-After": "1"}):
        said = delete(place, *map(url, volumes))
    assert [type(one) for one in said] == [errors.Throttled] * 3
    assert place.cinder.count(DELETES) == 1


def test_a_throttled_keystone_is_throttling(cinder: Cinder) -> None:
    place = CinderPlace(cinder)
    with cinder.failing("POST .*/tokens", 429, headers={"Retry-After": "3"}):
        said = answer(place, cinder.add())
    assert isinstance(said, errors.Throttled)
    assert said.retry_after == 3


@pytest.mark.parametrize("status", [401, 502, 503, 504])
def test_a_service_that_fails_as_a_whole_is_unavailable(place: CinderPlace, status: int) -> None:
    volumes = [place.cinder.add() for _ in range(3)]
    with place.cinder.failing(DELETES, status):
        said = delete(place, *map(url, volumes))
    assert [type(one) for one in said] == [errors.Unavailable] * 3
    assert set(volumes) == set(place.cinder.volumes)


@pytest.mark.parametrize("status", [403, 500, 418])
def test_one_volume_that_fails_does_not_stop_the_others(place: CinderPlace, status: int) -> None:
    bad, good = place.cinder.add(), place.cinder.add()
    with place.cinder.failing(f"DELETE .*{bad}", status):
        failed, deleted = delete(place, url(bad), url(good))
    assert type(failed) is errors.Failed
    assert isinstance(deleted, Deleted)


@pytest.mark.parametrize(
    "body", ["", "{}", "not json", '{"volume": {', "<html>no such page</html>"]
)
def test_a_404_that_does_not_name_the_volume_is_not_gone(place: CinderPlace, body: str) -> None:
    volume = place.cinder.add()
    with place.cinder.failing(f".*{volume}", 404, body=body):
        said = answer(place, volume)
        assert isinstance(said, errors.Unavailable)
        with pytest.raises(errors.Unavailable):
            place.driver.look([Target(url(volume))])


@pytest.mark.parametrize("body", ["", "{}", '{"volume": {}}', '{"volume": []}', "<html></html>"])
def test_half_an_answer_proves_nothing(place: CinderPlace, body: str) -> None:
    volume = place.cinder.add()
    with place.cinder.failing(f".*{volume}", 200, body=body):
        assert type(answer(place, volume)) is errors.Failed
        [look] = place.driver.look([Target(url(volume))])
        assert type(look) is errors.Failed
    assert place.cinder.volumes[volume].status == "available"


def test_another_volume_than_asked_for_proves_nothing(place: CinderPlace) -> None:
    other = {"id": str(uuid.uuid4()), "status": "available", "created_at": "2026-01-01T00:00:00"}
    body = json.dumps({"volume": other})
    with place.cinder.failing(VOLUMES, 200, body=body):
        [look] = place.driver.look([Target(url(place.cinder.add()))])
    assert type(look) is errors.Failed


def test_patience_ends(cinder: Cinder) -> None:
    place = CinderPlace(cinder, call_timeout=0.3)
    place.driver.probe()
    cinder.silent = re.compile(DELETES)
    said = answer(place, cinder.add())
    assert isinstance(said, errors.Unavailable)
    place.driver.close()


def test_a_silent_cinder_costs_a_batch_its_patience_once(cinder: Cinder) -> None:
    place = CinderPlace(cinder, call_timeout=0.3)
    cinder.silent = re.compile(VOLUMES)
    said = delete(place, *(url(cinder.add()) for _ in range(4)))
    assert [type(one) for one in said] == [errors.Unavailable] * 4
    assert cinder.count(VOLUMES) == 1
    place.driver.close()


def test_a_server_that_is_not_there_is_unavailable(cinder: Cinder) -> None:
    nowhere = driver(cinder, cinder_store_auth_address="http://127.0.0.1:1/v3")
    with pytest.raises(errors.Unavailable):
        nowhere.probe()


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
@pytest.mark.parametrize("requests", ["POST .*/tokens", "GET .*limit=1"])
def test_a_probe_that_fails_is_unavailable(place: CinderPlace, requests: str, status: int) -> None:
    with place.cinder.failing(requests, status), pytest.raises(errors.Unavailable):
        place.driver.probe()


def test_a_wrong_password_is_unavailable_and_not_shown(cinder: Cinder) -> None:
    wrong = driver(cinder, cinder_store_password="planted-secret")
    with pytest.raises(errors.Unavailable) as unavailable:
        wrong.probe()
    assert "credentials" in str(unavailable.value)
    assert "planted" not in str(unavailable.value)


def test_no_message_quotes_what_the_service_says(place: CinderPlace) -> None:
    body = '{"error": {"message": "planted-secret at http://elsewhere"}}'
    for status in (400, 401, 403, 404, 409, 429, 500, 503):
        with place.cinder.failing(".*/volumes/", status, body=body):
            said = answer(place, place.cinder.add())
        assert "planted" not in str(said)
        assert "://" not in str(said)


# Connections -----------------------------------------------------------------------------


def test_two_stores_use_their_own_credentials(cinder: Cinder) -> None:
    """glance_store itself gives every store the session of the first one."""
    with Cinder(password="another") as other:
        first, second = driver(cinder), driver(other)
        for each in (first, second, first):
            each.probe()
        volume = other.add()
        assert isinstance(second.look([Target(url(volume))])[0], Found)
        assert isinstance(first.look([Target(url(volume))])[0], errors.Gone)


def test_a_token_is_asked_for_once(place: CinderPlace) -> None:
    place.driver.probe()
    for _ in range(3):
        answer(place, place.cinder.add())
    assert place.cinder.count("POST") == 1


def test_a_token_that_is_taken_back_is_renewed(place: CinderPlace) -> None:
    place.driver.probe()
    place.cinder.token = "another-token"
    assert answer(place, place.cinder.add()) == Deleted(9)
    assert place.cinder.count("POST") == 2


def test_a_call_while_an_error_is_handled_is_not_taken_for_that_error(place: CinderPlace) -> None:
    try:
        raise errors.Gone("of another store")
    except errors.Gone:
        with place.cinder.failing(DELETES, 500):
            said = answer(place, place.cinder.add())
    assert type(said) is errors.Failed


def test_nothing_that_is_logged_holds_a_url(
    cinder: Cinder, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        place = CinderPlace(cinder)
        answer(place, cinder.add())
        with cinder.failing(".*", 500):
            answer(place, cinder.add())
    assert "://" not in caplog.text
    assert cinder.token not in caplog.text

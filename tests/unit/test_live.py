"""Which objects another location needs: by the index and by the rules of their names alike."""

import uuid
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.fake_driver import FakeDriver
from contract.fake_source import AN_HOUR, NOW, FakeGlance, FakeSource
from contract.file_store import file_driver
from contract.sections import section
from scrubber import errors
from scrubber.canaries import Canaries
from scrubber.health import Health
from scrubber.live import LiveReferences
from scrubber.model import Location
from scrubber.planning import naming
from scrubber.planning.due import Ages
from scrubber.store_state import StoreState
from scrubber.stores import base
from scrubber.stores.registry import Stores
from scrubber.stores.swift.driver import SwiftDriver
from scrubber.work import Piece

PAGE = 3


@dataclass
class Cloud:
    """Two stores with the same objects by two names, and one of its own."""

    glance: FakeGlance = field(default_factory=FakeGlance)

    def __post_init__(self) -> None:
        self.fast = FakeDriver("fast")
        self.twin = FakeDriver("twin", twin_of=self.fast)
        self.slow = FakeDriver("slow")
        self.stores = Stores([self.fast, self.twin, self.slow], {})

    @cached_property
    def live(self) -> LiveReferences:
        """Everything is read when this is asked for first."""
        live = LiveReferences(
            FakeSource(self.glance),
            self.stores,
            tolerate=lambda: False,
            call_timeout=lambda: 5,
            ages=lambda: Ages(scrub_time=0, removed_location_age=0),
        )
        live.load(PAGE)
        live.refresh()
        return live

    def pending(self, url: str = "", *, image: str = "", store: str = "fast") -> Location:
        image = image or self.glance.add_image()
        return self._add(image, url or f"fake://fast/{image}", store, "pending_delete")

    def in_use(self, url: str = "", *, store: str = "fast") -> Location:
        image = self.glance.add_image(status="active", deleted=False, deleted_at=None)
        return self._add(image, url or f"fake://fast/{image}", store, "active")

    def _add(self, image: str, url: str, store: str, status: str) -> Location:
        deleted_at = None if status == "active" else NOW - AN_HOUR
        number = self.glance.add_location(
            image, url, store=store, status=status, deleted_at=deleted_at
        )
        return self.glance.rows[number].location

    def piece(self, location: Location) -> Piece:
        driver = self.stores.drivers[location.store or ""]
        state = StoreState(driver, Health(driver))
        return Piece(location, state, driver.root(location.url), driver.identify(location.url))

    def is_used(self, *locations: Location) -> list[bool]:
        pieces = [self.piece(location) for location in locations]
        used = self.live.used(pieces)
        return [piece.identity in used for piece in pieces]


@pytest.fixture(params=[1, 2, 1_000_000], ids=["by rule at once", "by rule", "by index"])
def cloud(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    monkeypatch.setattr(naming, "ENOUGH", request.param)
    cloud = Cloud()
    for _ in range(2 * PAGE):
        cloud.in_use()
    return cloud


def test_an_object_that_only_its_own_image_names_is_free(cloud: Cloud) -> None:
    assert cloud.is_used(cloud.pending(), cloud.pending("fake://fast/odd")) == [False, False]


def test_the_object_of_a_live_image_is_used_whoever_else_names_it(cloud: Cloud) -> None:
    live = cloud.in_use()
    assert cloud.is_used(cloud.pending(live.url)) == [True]


def test_an_object_that_a_live_image_of_another_name_uses_is_used(cloud: Cloud) -> None:
    pending = cloud.pending()
    cloud.in_use(pending.url)
    assert cloud.is_used(pending) == [True]


def test_a_second_location_of_the_same_image_is_a_user_of_its_own(cloud: Cloud) -> None:
    pending = cloud.pending()
    other = cloud.pending(pending.url, image=pending.image_id)
    assert cloud.is_used(pending) == [False]
    cloud.glance.change_location(other.id, status="active", deleted=False)
    assert cloud.is_used(pending) == [True]


def test_of_two_pieces_that_are_one_object_each_is_the_others_user(cloud: Cloud) -> None:
    """One is restored after both have been claimed: its object stays."""
    first = cloud.pending("fake://fast/shared")
    second = cloud.pending("fake://fast/shared")
    third = cloud.pending()
    fourth = cloud.pending(third.url)
    assert cloud.is_used(first, second, third, fourth) == [False] * 4
    for restored in (second, fourth):
        cloud.glance.change_location(restored.id, status="active", deleted=False)
    assert cloud.is_used(first, second, third, fourth) == [True] * 4
    assert cloud.is_used(second, first, fourth, third) == [True] * 4


def test_of_two_pieces_of_one_image_each_is_the_others_user(cloud: Cloud) -> None:
    first = cloud.pending()
    second = cloud.pending(first.url, image=first.image_id)
    assert cloud.is_used(first, second) == [False, False]
    cloud.glance.change_location(second.id, status="active", deleted=False)
    assert cloud.is_used(first, second) == [True, True]


def test_objects_in_folders_named_after_images_are_all_read(cloud: Cloud) -> None:
    """Their names do not end with the image's id: nobody would look for that image."""
    live = []
    for _ in range(3 * PAGE):
        image = cloud.glance.add_image(status="active", deleted=False, deleted_at=None)
        live.append(cloud._add(image, f"fake://fast/{image}/data", "fast", "active"))
    assert cloud.is_used(*[cloud.pending(at.url) for at in live]) == [True] * len(live)


def test_what_comes_after_the_reading_is_seen(cloud: Cloud) -> None:
    pending = cloud.pending()
    assert cloud.is_used(pending) == [False]
    cloud.in_use(pending.url)
    cloud.live.refresh()
    assert cloud.is_used(pending) == [True]


def test_another_spelling_of_the_url_is_the_same_object(cloud: Cloud) -> None:
    pending = cloud.pending()
    cloud.in_use(f"fake://fast/./{pending.image_id}")
    assert cloud.is_used(pending) == [True]


def test_the_same_name_in_another_place_is_another_object(cloud: Cloud) -> None:
    live = cloud.in_use()
    pending = cloud.pending(f"fake://slow/{live.image_id}", store="slow")
    assert cloud.is_used(pending) == [False]


def test_the_same_name_in_another_store_is_an_alias(cloud: Cloud) -> None:
    live = cloud.in_use()
    odd = cloud.in_use("fake://fast/odd")
    pending = [cloud.pending(live.url, store="twin"), cloud.pending(odd.url, store="twin")]
    free = cloud.pending()
    pieces = [cloud.piece(location) for location in [*pending, free]]
    assert cloud.live.aliases(pieces) == [[live], [odd], []]


def test_an_unreadable_live_location_stops_all(cloud: Cloud) -> None:
    image = cloud.glance.add_image(status="active", deleted=False, deleted_at=None)
    cloud.glance.add_location(image, status="active", deleted_at=None, problem="not decrypted")
    with pytest.raises(errors.UnreadableLive, match=image):
        cloud.is_used()


def test_few_locations_are_read_of_those_that_follow_a_rule(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(naming, "ENOUGH", 2)
    cloud = Cloud()
    for _ in range(10 * PAGE):
        cloud.in_use()
        cloud.pending()
    odd = cloud.in_use("fake://fast/odd")
    # Two of each kind; and a page is read ahead before its rule is known.
    assert len(cloud.live._loaded) <= 5 * PAGE
    assert cloud.live._loaded.users("fake:fast/odd") == [odd.id]


def test_a_driver_that_does_not_know_plain_urls_has_all_of_them_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(naming, "ENOUGH", 1)
    monkeypatch.setattr(FakeDriver, "is_plain", base.Driver.is_plain)
    cloud = Cloud()
    for _ in range(4 * PAGE):
        cloud.in_use()
    assert len(cloud.live._loaded) == 4 * PAGE


_STATES = st.sampled_from(["active", "pending_delete"])
_NAMES = st.one_of(st.sampled_from(["{own}", "odd", "{own}.part"]), st.integers(0, 5).map(str))


def _id(number: int) -> str:
    """Some are not as Glance gives them."""
    return str(number) if number % 3 == 2 else str(uuid.UUID(int=number))


@given(st.lists(st.tuples(_STATES, st.sampled_from(["fast", "twin"]), _NAMES), max_size=15))
def test_rules_and_index_say_the_same(rows: list[tuple[str, str, str]]) -> None:
    """Names that are numbers are those of another image, if there is such a row."""
    ids = [_id(number) for number in range(len(rows))]
    answers = []
    for enough in (1, 1_000_000):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(naming, "ENOUGH", enough)
            cloud, pending = Cloud(), []
            for (status, store, name), id in zip(rows, ids, strict=True):
                what = ids[int(name) % len(ids)] if name.isdigit() else name.format(own=id)
                cloud.glance.add_image(id, status=status, deleted=status != "active")
                row = cloud._add(id, f"fake://fast/{what}", store, status)
                pending += [row] if status == "pending_delete" else []
            aliases = cloud.live.aliases([cloud.piece(at) for at in pending])
            found = [sorted(at.id for at in each) for each in aliases]
            answers.append((cloud.is_used(*pending), found))
    assert answers[0] == answers[1]


def _swift(store: str, host: str) -> SwiftDriver:
    return SwiftDriver(
        section(
            SwiftDriver,
            store=store,
            swift_store_auth_address=f"https://{host}/v3",
            swift_store_user="project:user",
            swift_store_key="secret",
            swift_store_auth_version="3",
            swift_store_container="glance",
        )
    )


def test_of_two_pieces_one_may_be_the_others_object_to_another_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A URL that names no store is read by all of them; and restored after both were claimed."""
    monkeypatch.setattr(naming, "ENOUGH", 1)
    cloud = Cloud()
    cloud.stores = Stores([_swift("one", "a.example"), _swift("two", "b.example")], {})
    url = "swift+https://project%3Auser:secret@{}/v3/glance/"
    of_one, of_two = url.format("a.example"), url.format("b.example")
    for _ in range(4 * PAGE):
        image = cloud.glance.add_image()
        cloud.glance.add_location(image, of_one + image, store=None)
    image = cloud.glance.add_image()
    number = cloud.glance.add_location(image, of_one + image, store=None)
    first = replace(cloud.glance.rows[number].location, store="one")
    second = cloud.pending(of_two + image, store="two")
    pieces = [cloud.piece(second), replace(cloud.piece(first), location=replace(first, store=None))]
    assert cloud.live.used(pieces) == frozenset()
    cloud.glance.change_location(number, status="active", deleted=False)
    assert pieces[0].identity in cloud.live.used(pieces)


def test_what_lies_below_a_linked_folder_follows_no_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is another object to who reads it than to who deletes it."""
    monkeypatch.setattr(naming, "ENOUGH", 1)
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    driver = file_driver(tmp_path)
    driver.resolve()
    cloud = Cloud()
    cloud.stores = Stores([driver], {})
    for _ in range(4 * PAGE):
        image = cloud.glance.add_image()
        cloud.pending(f"file://{tmp_path}/link/{image}", image=image)
    image = cloud.glance.add_image()
    first = cloud.pending(f"file://{tmp_path}/link/{image}", image=image)
    second = cloud.pending(f"file://{tmp_path}/real/{image}")
    pieces = [cloud.piece(first), cloud.piece(second)]
    assert cloud.live.used(pieces) == frozenset()
    cloud.glance.change_location(first.id, status="active", deleted=False)
    assert pieces[1].identity in cloud.live.used(pieces)


# Canaries ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "deleted"),
    [("deactivated", False), ("saving", False), ("deleted", True), ("pending_delete", False)],
)
def test_a_store_is_proven_by_active_images_only(status: str, deleted: bool) -> None:
    cloud = Cloud()
    active, other = cloud.in_use(), cloud.in_use()
    cloud.glance.change_image(other.image_id, status=status, deleted=deleted)
    assert cloud.live.canaries(cloud.fast) == {"": [active]}


def test_an_image_deleted_since_the_reading_is_no_canary() -> None:
    cloud = Cloud()
    first, second = cloud.in_use(), cloud.in_use()
    assert len(cloud.live.canaries(cloud.fast)[""]) == 2
    cloud.glance.change_image(first.image_id, status="pending_delete", deleted=True)
    assert cloud.live.canaries(cloud.fast) == {"": [second]}
    cloud.glance.change_image(second.image_id, status="pending_delete", deleted=True)
    assert cloud.live.canaries(cloud.fast) == {}


def test_a_backlog_that_is_read_first_leaves_live_images_to_prove_the_store_by() -> None:
    cloud = Cloud()
    for _ in range(2 * naming.ENOUGH):
        cloud.pending()
    for _ in range(2 * naming.ENOUGH):
        cloud.in_use()
    assert len(cloud.live.canaries(cloud.fast)[""]) == 8


def test_canaries_are_few_and_from_all_that_was_seen() -> None:
    cloud = Cloud()
    canaries = Canaries(cloud.stores, FakeSource(cloud.glance).images)
    locations = [cloud.in_use() for _ in range(500)]
    for location in locations:
        canaries.consider(location)
    of_many = [at.id for _ in range(20) for at in canaries.of(cloud.fast)[""]]
    assert len(of_many) == 20 * 8
    assert len(set(of_many)) > 8
    assert max(of_many) > 8 * 8


def test_canaries_are_as_many_of_each_kind_as_there_are_locations_of_it() -> None:
    """The oldest are read whole, of all others a sample: it stands for these."""
    cloud = Cloud()
    old, newer = [cloud.in_use() for _ in range(1000)], [cloud.in_use() for _ in range(100)]
    first_newer, found = newer[0].id, []
    for _ in range(10):
        canaries = Canaries(cloud.stores, FakeSource(cloud.glance).images)
        for location in old:
            canaries.consider(location)
        for location in newer:
            canaries.consider(location, stands_for=100)
        found += canaries.of(cloud.fast)[""]
    assert sum(at.id >= first_newer for at in found) > len(found) / 2

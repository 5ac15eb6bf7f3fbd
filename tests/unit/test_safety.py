"""Which bytes a live image uses."""

import datetime
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrubber import errors
from scrubber.model import Found, Look
from scrubber.planning import safety
from scrubber.planning.safety import LiveIndex, foreign_images, hindrance
from unit.values import WENT_AT, a_location

SECOND = datetime.timedelta(seconds=1)

IDENTITIES = st.lists(st.tuples(st.text(max_size=20), st.integers(0, 2**62)), max_size=40)


@pytest.mark.parametrize("run", [1, 7, 50_000])
@given(early=IDENTITIES, late=IDENTITIES)
def test_no_live_location_is_ever_forgotten(
    run: int, early: list[tuple[str, int]], late: list[tuple[str, int]]
) -> None:
    """However many are sorted together."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(safety, "_RUN", run)
        index = LiveIndex.of(early)
    for identity, location in late:
        index.add(identity, location)
    assert len(index) == len(early) + len(late)
    for identity, location in early + late:
        assert location in index.users(identity)


@pytest.mark.parametrize("hashes", [1, 2, 3])
@given(early=IDENTITIES, late=IDENTITIES, unknown=st.text(max_size=20))
def test_colliding_hashes_name_too_many_and_never_too_few(
    hashes: int, early: list[tuple[str, int]], late: list[tuple[str, int]], unknown: str
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(safety, "_hash", lambda identity: len(identity) % hashes * (2**63 - 1))
        index = LiveIndex.of(early)
        for identity, location in late:
            index.add(identity, location)
        for identity, location in early + late:
            assert location in index.users(identity)
        same_hash = {at for at, _ in early + late if len(at) % hashes == len(unknown) % hashes}
        assert len(index.users(unknown)) == sum(at in same_hash for at, _ in early + late)


def test_what_nobody_uses_has_no_users() -> None:
    index = LiveIndex.of([("a", 1), ("b", 2), ("a", 3)])
    assert sorted(index.users("a")) == [1, 3]
    assert index.users("c") == []
    assert LiveIndex().users("a") == []


@pytest.mark.parametrize("location", [0, 1, 2**31, 2**62])
@pytest.mark.parametrize("hashed", [0, 1, 2**63, 2**64 - 1])
def test_the_ends_of_the_ranges_fit(
    monkeypatch: pytest.MonkeyPatch, hashed: int, location: int
) -> None:
    monkeypatch.setattr(safety, "_hash", lambda _identity: hashed)
    assert LiveIndex.of([("a", location)]).users("a") == [location]


def test_names_that_are_no_text_can_be_looked_up() -> None:
    name = b"/images/\xff\xfe".decode("utf-8", "surrogateescape")
    assert LiveIndex.of([(name, 7)]).users(name) == [7]


OWN = "11111111-2222-3333-4444-555555555555"
OTHER = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"

FOREIGN = [
    # an identity; the images, other than its own, that it names
    (f"/images/{OWN}", set()),
    (f"/images/{OTHER}", {OTHER}),
    # Databases differ in whether case matters.
    (f"/images/{OTHER.upper()}", {OTHER, OTHER.upper()}),
    (f"/images/{OWN.upper()}", set()),
    # Glance's staging area, and a copy's temporary name.
    (f"/images/{OTHER}.tmp", {OTHER}),
    (f"ceph:fsid/images/{OWN}/{OTHER}", {OTHER}),
    # Ids may stand close together.
    (f"{OTHER}{OWN}", {OTHER}),
    ("/images/no-uuid", set()),
    ("/images/11111111222233334444555555555555", set()),
    ("", set()),
]


@pytest.mark.parametrize(("identity", "expected"), FOREIGN)
def test_other_images_are_found_in_the_names_of_objects(identity: str, expected: set[str]) -> None:
    assert foreign_images(identity, OWN) == expected


def test_its_own_id_is_known_however_it_is_written() -> None:
    assert foreign_images(f"/images/{OWN}", OWN.upper()) == set()


@given(st.uuids(), st.text(max_size=5), st.text(max_size=5))
def test_an_id_is_found_whatever_stands_around_it(id: uuid.UUID, before: str, after: str) -> None:
    edges = before[-1:] + after[:1]
    if not any(letter in "0123456789abcdefABCDEF-" for letter in edges):
        assert str(id) in foreign_images(f"{before}{id}{after}", OWN)


def found(modified_at: datetime.datetime = WENT_AT, fingerprint: str = "1") -> Found:
    return Found(1, modified_at, fingerprint)


HINDRANCES: list[tuple[Look, list[Look], str | None]] = [
    # the removed location's object, those of its siblings; what stands against the delete
    (found(), [], None),
    (found(), [found(fingerprint="2")], None),
    # Written before it was removed, in the same second, and later.
    (found(WENT_AT - SECOND), [], None),
    (found(WENT_AT + SECOND), [], None),
    (found(WENT_AT + SECOND + SECOND / 10), [], "newer"),
    (found(WENT_AT + 3600 * SECOND), [found(fingerprint="2")], "newer"),
    # The same object under another store id.
    (found(), [found(fingerprint="2"), found(fingerprint="1")], "another, live"),
    (found(), [errors.Gone(""), found(fingerprint="1")], "another, live"),
    # Nobody can say.
    (found(), [errors.Refused("")], "cannot be looked at"),
    (found(), [found(fingerprint="2"), errors.Failed("")], "cannot be looked at"),
    # Nothing to compare with.
    (found(), [errors.Gone("")], None),
    (errors.Gone(""), [found()], None),
    (errors.Refused(""), [found()], None),
]


@pytest.mark.parametrize(("removed", "siblings", "expected"), HINDRANCES)
def test_the_object_of_a_removed_location_stays_while_it_may_be_in_use(
    removed: Look, siblings: list[Look], expected: str | None
) -> None:
    reason = hindrance(a_location(), removed, siblings)
    if expected is None:
        assert reason is None
    else:
        assert reason is not None
        assert expected in reason


@pytest.mark.parametrize(
    "trouble", [errors.Throttled("slow down"), errors.Failed("500"), errors.InUse("open")]
)
def test_what_could_not_be_looked_at_stays_for_the_delete_might_succeed(
    trouble: errors.StoreError,
) -> None:
    reason = hindrance(a_location(), trouble, [])
    assert reason is not None
    assert str(trouble) in reason

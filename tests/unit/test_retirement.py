"""Which images are to go through Glance's API, and which of them stay."""

import datetime
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrubber.model import Kind, Outcome
from scrubber.planning.retirement import ApiImage, Query, obstacle

NOON = datetime.datetime(2026, 1, 31, 12)
IMAGE = ApiImage(
    id="an-image",
    owner="a",
    name="old",
    status="active",
    visibility="private",
    protected=False,
    size=100,
    created_at=NOON,
    updated_at=NOON,
    tags=frozenset({"retire"}),
    stores=("fast", "slow"),
    properties={"os_distro": "debian"},
)

MARKS: list[tuple[dict[str, Any], bool]] = [
    # what is different; whether the image is to go
    ({}, True),
    ({"tags": frozenset({"Retire"})}, False),
    ({"tags": frozenset()}, False),
    ({"tags": frozenset(), "status": "pending_delete"}, True),
    # Glance shows it for a moment, while somebody deletes it.
    ({"status": "deleted"}, False),
]


@pytest.mark.parametrize(("values", "expected"), MARKS)
def test_only_what_is_tagged_or_half_deleted_is_marked(
    values: dict[str, Any], expected: bool
) -> None:
    assert replace(IMAGE, **values).is_marked("retire") is expected


OBSTACLES: list[tuple[dict[str, Any], Outcome | None]] = [
    ({}, None),
    ({"protected": True}, Outcome.REFUSED),
    ({"status": "deactivated"}, None),
    ({"status": "queued"}, None),
    ({"status": "killed"}, None),
    ({"status": "saving"}, Outcome.WAITING),
    ({"status": "uploading"}, Outcome.WAITING),
    ({"status": "importing"}, Outcome.WAITING),
    # One that nobody knows yet.
    ({"status": "pondering"}, Outcome.WAITING),
    ({"properties": {"os_glance_import_task": "a-task"}}, Outcome.WAITING),
    ({"properties": {"os_glance_importing_to_stores": "slow"}}, Outcome.WAITING),
    ({"properties": {"os_glance_importing_to_stores": ""}}, None),
    # Its deletion has begun: nothing holds it any more.
    ({"protected": True, "status": "pending_delete"}, None),
]


@pytest.mark.parametrize(("values", "expected"), OBSTACLES)
def test_what_stands_against_a_deletion(values: dict[str, Any], expected: Outcome | None) -> None:
    stands = obstacle(replace(IMAGE, **values))
    assert (stands.outcome if stands else None) is expected


def test_only_an_active_image_goes_copy_by_copy() -> None:
    assert IMAGE.steps == ("fast", "slow")
    assert replace(IMAGE, status="deactivated").steps == ()
    assert replace(IMAGE, stores=()).steps == ()
    assert IMAGE.kind is Kind.RETIRED
    assert replace(IMAGE, status="pending_delete").kind is Kind.HALF_DELETED


QUERIES = [
    # the query; whether the image is in it
    ("", True),
    ("owner=a", True),
    ("owner=b", False),
    ("visibility=private", True),
    ("visibility=public", False),
    ("name=old", True),
    ("name=ol", False),
    ("size_min=100&size_max=100", True),
    ("size_min=101", False),
    ("size_max=99", False),
    ("created_before=2026-01-31T12:00:01", True),
    ("created_before=2026-01-31T12:00:00", False),
    ("created_before=2026-01-31T13:30:00%2B01:00", True),
    ("created_before=2026-01-31T13:00:00%2B01:00", False),
    ("os_distro=debian", True),
    ("os_distro=cirros", False),
    ("os_version=12", False),
    ("owner=a&name=old&os_distro=debian", True),
    ("owner=a&name=old&os_distro=cirros", False),
]


@pytest.mark.parametrize(("text", "expected"), QUERIES)
def test_a_query_narrows(text: str, expected: bool) -> None:
    assert Query.parse(text).matches(IMAGE) is expected


def test_an_image_of_unknown_size_is_small() -> None:
    unknown = replace(IMAGE, size=None)
    assert not Query.parse("size_min=1").matches(unknown)
    assert Query.parse("size_max=0").matches(unknown)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("owner", "bad query field"),
        ("size_min=1GB", "number of bytes"),
        ("size_max=-1", "number of bytes"),
        ("created_before=yesterday", "a date as"),
        ("owner=a&owner=b", "owner is there twice"),
    ],
)
def test_a_query_that_cannot_be_understood_says_why(text: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        Query.parse(text)


@given(
    st.dictionaries(
        st.sampled_from(["owner", "visibility", "name", "os_distro", "a b", "ä&="]),
        st.text(st.characters(exclude_categories=["Cs"])),
    )
)
def test_what_the_listing_is_narrowed_to_holds_all_that_matches(values: dict[str, str]) -> None:
    """Glance's own filters only save work: they must never hide what the query names."""
    query = Query.parse(urlencode(values))
    assert query.filters == values
    image = replace(
        IMAGE,
        owner=values.get("owner"),
        visibility=values.get("visibility", "private"),
        name=values.get("name"),
        properties=values,
    )
    assert query.matches(image)

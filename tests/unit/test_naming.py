"""The rules that the names of objects follow."""

import pytest

from scrubber.planning.naming import ENOUGH, MOST, MOST_COUNTED, Naming, Namings, named_image

ID = "0f1e2d3c-0000-4000-8000-00000000abcd"

NAMINGS = {
    "file": (f"file:///images/{ID}", ("file:///images/", "")),
    "rbd": (f"rbd://fsid/pool/{ID}/snap", ("rbd://fsid/pool/", "/snap")),
    "its container is named so, too": (f"swift://x/{ID}/{ID}", None),
    "its snapshot is named so, too": (f"rbd://fsid/pool/{ID}/{ID}", None),
    "another image's": ("file:///images/ffffffff-0000-4000-8000-00000000abcd", None),
    "another spelling of the id": (f"file:///images/{ID.upper()}", None),
    # MariaDB takes a wide question mark for a plain one, and a driver might not.
    "not ASCII": (f"file:///images\uff1f/{ID}", None),
    "unreadable": ("", None),
}


@pytest.mark.parametrize(("url", "expected"), NAMINGS.values(), ids=NAMINGS)
def test_what_a_url_is_beside_its_images_id(url: str, expected: tuple[str, str] | None) -> None:
    found = Naming.of(url, ID, "metadata", True)
    assert (found and (found.before, found.after)) == expected


@pytest.mark.parametrize("image_id", ["1234", "", "x" * 37, "0f1e2d3c-0000-4000-8000-00000000ab'd"])
def test_only_ids_as_glance_gives_them_make_a_naming(image_id: str) -> None:
    """Those of other lengths are not found at the end of an identity."""
    assert Naming.of(f"file:///images/{image_id}", image_id, None, True) is None
    assert named_image(f"file:/images/{image_id}") != image_id


def test_the_image_that_an_object_is_named_after() -> None:
    assert named_image(f"file:/images/{ID}") == ID
    assert named_image(f"cinder:{ID}") == ID
    assert named_image(f"file:/images/{ID}.part") is None
    assert named_image("file:/a'b") is None


def test_a_naming_shows_nobodys_password() -> None:
    assert "secret" not in repr(Naming.of(f"s3://key:secret@host/bucket/{ID}", ID, None, True))


def test_a_naming_is_known_once_enough_locations_follow_it_if_it_is_a_rule() -> None:
    namings, rule, none = Namings(), Naming("a", "", None, True), Naming("b", "", None, True)
    for _ in range(ENOUGH - 1):
        namings.consider(rule, lambda: True)
    assert namings.known == ()
    for _ in range(ENOUGH):
        namings.consider(rule, lambda: True)
        namings.consider(none, lambda: False)
    assert namings.known == (rule,)


def test_where_each_object_is_named_in_its_own_way_few_are_remembered() -> None:
    namings = Namings()
    for number in range(2 * MOST_COUNTED):
        namings.consider(Naming(str(number), "", None, True), lambda: True)
    assert len(namings._found) == MOST_COUNTED


def test_no_more_namings_are_known_than_a_database_should_compare() -> None:
    namings = Namings()
    for number in range(2 * MOST):
        for _ in range(ENOUGH):
            namings.consider(Naming(str(number), "", None, True), lambda: True)
    assert len(namings.known) == MOST

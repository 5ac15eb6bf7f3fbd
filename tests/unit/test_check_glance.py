"""What is said of the versions of Glance's API, and of stores that differ from scrubber's."""

from typing import Any

import pytest

from scrubber.checks.finding import Severity
from scrubber.checks.glance import compare, judge_companion, judge_source
from scrubber.glance.versions import Version

FILE = {"id": "fast", "type": "file", "properties": {"data_dir": "/images"}}
RBD = {"id": "ceph", "type": "rbd", "properties": {"pool": "images"}}

CASES: list[tuple[str, dict[str, str], dict[str, Any], list[dict[str, Any]], list[str]]] = [
    # what it is; scrubber's types and places; Glance's stores; a word of each finding
    ("the same", {"fast": "file"}, {"fast": "/images/"}, [FILE], []),
    ("a place that is not said", {"fast": "file"}, {}, [FILE], []),
    ("missing here", {"fast": "file"}, {}, [FILE, RBD], ["store ceph, and scrubber has not"]),
    ("missing there", {"fast": "file", "old": "rbd"}, {}, [FILE], ["none of that name"]),
    ("renamed", {"quick": "file"}, {}, [FILE], ["none of that name", "scrubber has not"]),
    ("another type", {"fast": "rbd"}, {"fast": "images"}, [FILE], ["rbd here, and file in"]),
    (
        "another directory",
        {"fast": "file"},
        {"fast": "/other"},
        [FILE],
        ["filesystem_store_datadir in section [fast] is /other, and /images in Glance"],
    ),
    ("another pool", {"ceph": "rbd"}, {"ceph": "vms"}, [RBD], ["rbd_store_pool"]),
    ("web", {"fast": "file"}, {}, [FILE, {"id": "web", "type": "http"}], []),
    ("no details", {"fast": "file"}, {"fast": "/x"}, [{"id": "fast"}], []),
]


@pytest.mark.parametrize(
    ("kinds", "places", "theirs", "words"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_every_difference_is_said_with_what_to_do(
    kinds: dict[str, str],
    places: dict[str, Any],
    theirs: list[dict[str, Any]],
    words: list[str],
) -> None:
    findings = list(compare(kinds, places, theirs))
    assert len(findings) == len(words)
    for finding, word in zip(findings, words, strict=True):
        assert word in finding.message
        assert finding.advice
        assert finding.severity > Severity.OK


# Versions -----------------------------------------------------------------------------------

OK, WARNING, FAILURE = Severity.OK, Severity.WARNING, Severity.FAILURE

AS_SOURCE: list[tuple[str, bool, Severity, str]] = [
    # the versions; whether there are several stores; what is said
    ("v2.17 v2.15 v2.9 v2.0", False, OK, "its API is v2.17"),
    ("v2.18 v2.10 v2.8", True, OK, "its API is v2.18"),
    ("v2.10", True, OK, "its API is v2.10"),
    # Nine is less than ten, though not as text.
    ("v2.9 v2.8", True, WARNING, "v2.9; before v2.10 it deletes no single copy"),
    ("v2.9", False, OK, "its API is v2.9"),
    ("v2.7", False, OK, "its API is v2.7"),
    ("v2.6 v2.5", False, FAILURE, "v2.6; before v2.7 scrubber finds no image"),
    ("v1.1 v1.0", False, FAILURE, "no version 2, only v1.0, v1.1"),
    ("v3.0", False, FAILURE, "no version 2, only v3.0"),
    ("v3.0 v2.18", False, OK, "its API is v2.18"),
    ("", False, WARNING, "does not say which versions it has"),
]

AS_COMPANION: list[tuple[str, Severity, str]] = [
    ("v2.17 v2.15", OK, "its API is v2.17"),
    ("v2.15", OK, "its API is v2.15"),
    ("v2.13 v2.8", WARNING, "v2.13; before v2.15 it does not say where its stores are"),
    ("v1.1", FAILURE, "no version 2, only v1.1"),
    ("", WARNING, "does not say which versions it has"),
]


def versions(text: str) -> list[Version]:
    return [Version.parse(at) for at in text.split()]


@pytest.mark.parametrize(("found", "with_stores", "severity", "word"), AS_SOURCE)
def test_a_source_that_is_too_old_is_said_with_what_to_do(
    found: str, with_stores: bool, severity: Severity, word: str
) -> None:
    finding = judge_source(versions(found), with_stores)
    assert finding.severity is severity
    assert word in finding.message
    assert bool(finding.advice) is (severity > OK)


@pytest.mark.parametrize(("found", "severity", "word"), AS_COMPANION)
def test_beside_the_database_it_is_said_what_cannot_be_compared(
    found: str, severity: Severity, word: str
) -> None:
    finding = judge_companion(versions(found))
    assert finding.severity is severity
    assert word in finding.message
    assert bool(finding.advice) is (severity > OK)


@pytest.mark.parametrize("text", ["", "v2", "2.15", "v2.x", "v2.15 ", "v2.15.1", "v-2.1"])
def test_what_is_no_version_is_not_guessed_at(text: str) -> None:
    with pytest.raises(ValueError, match="no version"):
        Version.parse(text)

"""How scrubber's stores differ from those that Glance's API names."""

from typing import Any

import pytest

from scrubber.checks.finding import Severity
from scrubber.checks.glance import compare

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

"""What the S3 driver takes from glance_store, held against the one of Glance's environment."""

import json
import random
import subprocess
from typing import Any

import pytest

from conftest import needed_programs
from lab.glance import ISOLATED, glance_python
from scrubber.stores.base import ALSO_IN
from scrubber.stores.s3 import S3Driver, read

# Its options; and of each URL what it would delete, None where it reads nothing.
ASKED = """
import json, logging, sys
from glance_store import exceptions
from glance_store._drivers import s3

logging.disable()

def read(url):
    location = s3.StoreLocation({}, None)
    try:
        location.parse_uri(url)
    except (exceptions.BadStoreUri, ValueError):
        return None
    return [location.bucket, location.key]

options = {at.name: [repr(at.type), at.default, at.secret] for at in s3._S3_OPTS}
print(json.dumps({"options": options, "readings": [read(url) for url in json.load(sys.stdin)]}))
"""

_PIECES = ["/", "/", "?", "#", ";", "@", ":", "[", "]", "%2F", "..", ".", " ", "\t", "\n"]
_PIECES += ["host", "images", "key", "ü", "://", "\x01", "\u2100"]


def odd_urls(count: int) -> list[str]:
    """Always the same ones."""
    chance = random.Random(17)
    schemes = ["s3://", "s3+http://", "s3+https://", "s3://host/", "s3://host/images/", "S3://"]
    return [
        chance.choice(schemes) + "".join(chance.choices(_PIECES, k=chance.randrange(8)))
        for _ in range(count)
    ]


URLS = odd_urls(3000)


@pytest.fixture(scope="module")
def theirs() -> dict[str, Any]:
    with needed_programs():
        python = glance_python()
    done = subprocess.run(
        [python, *ISOLATED, "-W", "ignore", "-c", ASKED],
        input=json.dumps(URLS),
        capture_output=True,
        text=True,
        check=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_options_have_glance_stores_names_types_and_defaults(theirs: dict[str, Any]) -> None:
    options = theirs["options"]
    ours = {
        option.name: [repr(option.type), option.default, option.secret]
        for option in S3Driver.options()
        if option.name != ALSO_IN.name
    }
    assert ours == {name: options[name] for name in ours}
    # Of the others none matters to a delete.
    assert options.keys() - ours.keys() == {
        "s3_store_create_bucket_on_put",
        "s3_store_large_object_size",
        "s3_store_large_object_chunk_size",
        "s3_store_thread_pools",
        # A delete's checksum is required, and an answer has none.
        "s3_store_enable_data_integrity_protection",
        "s3_store_request_checksum_calculation",
        "s3_store_response_checksum_validation",
    }


def test_urls_are_read_as_glance_store_reads_them(theirs: dict[str, Any]) -> None:
    """At least as much is read: what a live image may be must never be missed."""
    for url, reading in zip(URLS, theirs["readings"], strict=True):
        row = read(url)
        if reading is not None:
            assert row is not None, url
            assert [row.bucket, row.key] == reading, url
        elif row is not None:
            assert not row.plain, url
    assert sum(reading is not None for reading in theirs["readings"]) > 300

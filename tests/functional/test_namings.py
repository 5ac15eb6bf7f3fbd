"""What a run passes over because it follows a rule does so to the letter, whatever a server thinks.

MariaDB's collations take letters of either case, with or without accents, for the same.
"""

import json
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from conftest import NewDatabase
from functional.rows import ANY_IMAGE, Tables, scrubbers_engine
from lab.databases import MariaDB, PostgreSQL
from scrubber.planning.naming import Naming
from scrubber.sources.database import DatabaseSource

PLAIN = 60
FAST = json.dumps({"store": "fast"})

RULE = Naming("file:///images/", "", FAST, is_live=True)

COLLATIONS = {
    "MariaDB": (MariaDB.name, None),
    "MariaDB, whole of Unicode": (MariaDB.name, "utf8mb4 COLLATE utf8mb4_unicode_ci"),
    "MariaDB, another than that of ids": (MariaDB.name, "utf8mb3 COLLATE utf8mb3_unicode_ci"),
    "MariaDB, none": (MariaDB.name, "utf8mb3 COLLATE utf8mb3_bin"),
    "PostgreSQL": (PostgreSQL.name, None),
}


def wide(text: str) -> str:
    """In letters as wide as those of East Asia."""
    return "".join(chr(ord(letter) + 0xFEE0) for letter in text)


def rows(image: str) -> dict[str, tuple[str, str | None]]:
    """URL and metadata of locations of an image which follow no rule, and look alike."""
    url = f"file:///images/{image}"
    return {
        "another case": (f"file:///images/{image.upper()}", FAST),
        "another case before it": (f"file:///IMAGES/{image}", FAST),
        "accents": (f"file:///images/{image.replace('a', 'ä')}", FAST),
        "wide letters": (f"file:///images/{wide(image)}", FAST),
        "a blank behind it": (f"{url} ", FAST),
        "a control character behind it": (f"{url}\x01", FAST),
        "a hyphen that is not to be seen": (f"{url}\xad", FAST),
        "another case of the store": (url, FAST.upper().replace("STORE", "store")),
        "a blank behind the store": (url, f"{FAST} "),
        "no store": (url, None),
    }


#: Ids that nobody would find at the end of an object's name.
ODD_IDS = [
    "17",
    "0f1e2d3c00004000800000000000abcd",
    "image.c-0000-4000-8000-00000000abcde",
    "d\u00e9bian-12-000-4000-8000-0000000abcd",
    # Of 36 bytes; the last may be k to a server that does not mind the case.
    "0f1e2d3c-0000-4000-8000-000000000\u212a",
]


class Cloud:
    """Live locations in a server."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def add(self, image: str, *locations: tuple[str, str | None]) -> set[int]:
        """A live image; returns the ids of its locations."""
        both = {"status": "active", "deleted": False, "created_at": sa.func.now()}
        insert = sa.insert(self._tables.table("image_locations"))
        self._tables.execute(
            sa.insert(self._tables.table("images")).values(id=image, **ANY_IMAGE, **both),
            *[
                insert.values(image_id=image, value=url, meta_data=metadata, **both)
                for url, metadata in locations
            ],
        )
        return {row["id"] for row in self._tables.locations(image)}


@pytest.fixture(params=COLLATIONS.values(), ids=COLLATIONS)
def source_and_cloud(
    request: pytest.FixtureRequest, new_database: NewDatabase, tmp_path: Path
) -> Iterator[tuple[DatabaseSource, Cloud]]:
    server, collation = request.param
    database = new_database(server)
    source = DatabaseSource(scrubbers_engine(database, tmp_path), None)
    with closing(Tables(database)) as tables, closing(source):
        if collation:
            for column in ("value", "meta_data"):
                change = f"MODIFY {column} TEXT CHARACTER SET {collation}"
                tables.execute(sa.text(f"ALTER TABLE image_locations {change}"))
        yield source, Cloud(tables)


def test_only_what_is_the_same_to_the_letter_is_passed_over(
    source_and_cloud: tuple[DatabaseSource, Cloud],
) -> None:
    source, cloud = source_and_cloud
    plain, odd = set[int](), set[int]()
    for _ in range(PLAIN):
        image = str(uuid.uuid4())
        plain |= cloud.add(image, (f"file:///images/{image}", FAST))
    for number in range(3):
        odd |= cloud.add(image := f"aeae{number}" + str(uuid.uuid4())[5:], *rows(image).values())
    for image in ODD_IDS:
        odd |= cloud.add(image, (f"file:///images/{image}", FAST))

    read = {at.location.id for page in source.references(20, lambda: [RULE]) for at in page}

    assert odd <= read
    # Of the others a few are, as a sample.
    assert len(read - odd) <= 1

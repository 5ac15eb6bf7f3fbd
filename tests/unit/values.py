"""Rows as values, with nothing special about them."""

import datetime
from dataclasses import replace
from typing import Any

from scrubber.model import Candidate, Image, Kind, Location

WENT_AT = datetime.datetime(2026, 6, 1, 10)

_IMAGE = Image(
    id="11111111-2222-3333-4444-555555555555",
    owner="project",
    status="pending_delete",
    deleted=True,
    size=1,
    created_at=WENT_AT,
    updated_at=WENT_AT,
    deleted_at=WENT_AT,
)

_LOCATION = Location(
    id=1,
    image_id=_IMAGE.id,
    url="file:///images/a",
    store="fast",
    status="pending_delete",
    created_at=WENT_AT,
    updated_at=WENT_AT,
    deleted_at=WENT_AT,
)


def an_image(**columns: Any) -> Image:
    return replace(_IMAGE, **columns)


def a_location(**columns: Any) -> Location:
    return replace(_LOCATION, **columns)


def a_candidate(*locations: Location, kind: Kind = Kind.DELETED, **columns: Any) -> Candidate:
    return Candidate(an_image(**columns), kind, locations or (a_location(),))

"""What is pending, for operators: Glance's API shows such images to nobody."""

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, String, column, select

from scrubber.model import Image, Kind
from scrubber.sources import rows
from scrubber.sources.engine import Engine
from scrubber.sources.tables import IMAGES

_name = column("name", String(255))
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class PendingImage:
    """An image that waits for its bytes to be deleted."""

    image: Image
    name: str | None
    kind: Kind

    @property
    def went_at(self) -> datetime.datetime:
        return self.image.went_at


def pending_images(
    engine: Engine, owner: str | None = None, name: str | None = None
) -> Iterator[PendingImage]:
    """Those of a project or of this very name, or all; by id, a page at a time.

    :raises SourceError: the database cannot be used.
    """
    wanted: list[ColumnElement[bool]] = [IMAGES.c.status == "pending_delete"]
    if owner is not None:
        wanted.append(IMAGES.c.owner == owner)
    if name is not None:
        wanted.append(_name == name)
    query = select(*rows.IMAGE, _name).where(*wanted).order_by(IMAGES.c.id).limit(_PAGE)
    page = _read(engine, query)
    while page:
        yield from page
        page = _read(engine, query.where(IMAGES.c.id > page[-1].image.id))


def _read(engine: Engine, query: Select[Any]) -> list[PendingImage]:
    return engine.read(
        lambda connection: [
            _pending_image(Image(*columns), name) for *columns, name in connection.execute(query)
        ]
    )


def _pending_image(image: Image, name: str | None) -> PendingImage:
    return PendingImage(image, name, Kind.DELETED if image.deleted else Kind.HALF_DELETED)

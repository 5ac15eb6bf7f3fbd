"""Candidates in Glance's tables, page by page: images whose bytes may be deleted one day.

A scan passes every tombstone and every live image, and a cloud may keep a million of each.  So
there are two: one of images, one of locations.
"""

import random
import uuid
from collections.abc import Callable, Collection, Iterator
from itertools import starmap
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.engine import Connection

from scrubber.model import Candidate, Image, Location, Selection
from scrubber.planning import kinds
from scrubber.sources import rows, rules
from scrubber.sources.among import among
from scrubber.sources.engine import Engine
from scrubber.sources.tables import IMAGES, LOCATIONS

_images = IMAGES.c
_locations = LOCATIONS.c

_IMAGE_WIDTH = len(rows.IMAGE)

#: Likewise without the image's id, which the image has itself.
_LOCATION = tuple(column for column in rows.LOCATION if column is not _locations.image_id)


class _Found(NamedTuple):
    """An image with all its rows, oldest first."""

    image: Image
    locations: list[Location]


class Candidates:
    """The candidates of one source.

    :param importing: which of some images Glance is importing into.
    """

    def __init__(
        self,
        engine: Engine,
        reader: rows.LocationReader,
        importing: Callable[[Collection[str]], frozenset[str]],
    ) -> None:
        self._engine = engine
        self._reader = reader
        self._importing = importing

    def pages(self, selection: Selection, size: int) -> Iterator[list[Candidate]]:
        """See :meth:`scrubber.sources.base.Source.candidates`."""
        chosen = rules.chosen(selection)
        for found in self._pages_by_image([*chosen, rules.is_unfinished()], size):
            if page := list(filter(None, starmap(_whole, found))):
                yield page
        for found in self._pages_by_location([*chosen, rules.is_live_or_finished()], size):
            if page := self._parts(found):
                yield page

    def _parts(self, found: list[_Found]) -> list[Candidate]:
        """Of images that stay, or went long ago."""
        live = [at.image.id for at in found if not at.image.deleted]
        importing = self._importing(live) if live else frozenset()
        candidates = [
            kinds.leftover(image, locations)
            if image.deleted
            else kinds.removed(image, locations, image.id in importing)
            for image, locations in found
        ]
        # Another scrubber may have finished one since its page was begun.
        return [candidate for candidate in candidates if candidate.locations]

    # By image -------------------------------------------------------------------------

    def _pages_by_image(
        self, which: list[ColumnElement[bool]], size: int
    ) -> Iterator[list[_Found]]:
        """By primary key, from somewhere round to it again."""
        # Every process starts at a place of its own, so that several do not queue up.
        start = str(uuid.UUID(int=random.getrandbits(128)))
        for first, end in ((start, None), ("", start)):
            last = first
            while page := self._page_by_image(which, last, end, size):
                yield page
                if len(page) < size:
                    break
                last = page[-1].image.id

    def _page_by_image(
        self, which: list[ColumnElement[bool]], after: str, upto: str | None, size: int
    ) -> list[_Found]:
        query = select(*rows.IMAGE).where(*which, _images.id > after)
        if upto is not None:
            query = query.where(_images.id <= upto)
        return self._engine.read(
            lambda connection: self._found(connection, query.order_by(_images.id).limit(size))
        )

    def _found(self, connection: Connection, images: Any) -> list[_Found]:
        """These images with their locations: of one instant, since one statement reads both.

        In two, another scrubber could finish an image in between, and it would look stuck.
        """
        page = images.subquery("page")
        query = (
            select(*page.c, *_LOCATION)
            .outerjoin_from(page, LOCATIONS, _locations.image_id == page.c.id)
            .order_by(page.c.id)
        )
        found: dict[str, _Found] = {}
        for row in connection.execute(query):
            if (at := found.get(row[0])) is None:
                at = found[row[0]] = _Found(Image(*row[:_IMAGE_WIDTH]), [])
            if (number := row[_IMAGE_WIDTH]) is not None:
                its = row[_IMAGE_WIDTH + 1 :]
                at.locations.append(self._reader.location(number, row[0], *its))
        for at in found.values():
            if len(at.locations) > 1:
                at.locations.sort(key=lambda location: location.id)
        return list(found.values())

    # By location ----------------------------------------------------------------------

    def _pages_by_location(
        self, which: list[ColumnElement[bool]], size: int
    ) -> Iterator[list[_Found]]:
        """Images with pending locations, each once; likewise along the locations' primary key."""
        start = random.getrandbits(64) % (self._newest_location() + 1)
        several = set[str]()
        for first, end in ((start, None), (0, start)):
            last = first
            while pending := self._pending(which, last, end, size):
                page = self._of(set(pending.values()) - several)
                several.update(at.image.id for at in page if len(kinds.pending(at.locations)) > 1)
                yield page
                last = max(pending)

    def _newest_location(self) -> int:
        newest = select(func.max(_locations.id))
        return self._engine.read(lambda c: c.execute(newest).scalar_one()) or 0

    def _of(self, images: Collection[str]) -> list[_Found]:
        query = select(*rows.IMAGE).where(among(_images.id, images))
        return self._engine.read(lambda connection: self._found(connection, query))

    def _pending(
        self, which: list[ColumnElement[bool]], after: int, upto: int | None, size: int
    ) -> dict[int, str]:
        """The images of some pending locations, by location id."""
        query = (
            select(_locations.id, _locations.image_id)
            .join_from(LOCATIONS, IMAGES, _images.id == _locations.image_id)
            .where(*which, rules.is_pending(), _locations.id > after)
        )
        if upto is not None:
            query = query.where(_locations.id <= upto)
        query = query.order_by(_locations.id).limit(size)
        return self._engine.read(lambda c: {row.id: row.image_id for row in c.execute(query)})


def _whole(image: Image, locations: list[Location]) -> Candidate | None:
    """An image that goes as a whole; None if nothing of it is left."""
    is_pending = image.status == "pending_delete"
    return kinds.deleted(image, locations) if is_pending else kinds.torn(image, locations)

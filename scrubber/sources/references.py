"""Rows of Glance's tables as references: which bytes live images use, or may use again."""

from collections.abc import Collection, Iterator, Mapping
from itertools import starmap
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, or_, select

from scrubber.model import Candidate, Location
from scrubber.planning import kinds
from scrubber.sources import rows, rules
from scrubber.sources.among import among, not_among_given
from scrubber.sources.base import LiveLocation
from scrubber.sources.engine import Engine
from scrubber.sources.tables import IMAGES, LOCATIONS

#: Ids are given before they are committed: so many are read again behind the newest.
ID_OVERLAP = 1000

_images = IMAGES.c
_locations = LOCATIONS.c

_WITH_IMAGE = LOCATIONS.join(IMAGES, _images.id == _locations.image_id)

_PROVES_STORE = and_(
    _locations.status == "active", _images.status == "active", rules.is_not_deleted(_images)
)


class References:
    """Location rows without their times, by the thousand."""

    def __init__(self, engine: Engine, reader: rows.LocationReader) -> None:
        self._engine = engine
        self._reader = reader
        self._newest = 0
        self._recent: set[int] = set()

    # Live -----------------------------------------------------------------------------

    def live(self, page_size: int) -> Iterator[list[LiveLocation]]:
        """See :meth:`scrubber.sources.base.Source.live_locations`."""
        self._newest, self._recent = 0, set()
        yield from self._live_pages(rules.is_live(), page_size)
        yield from self._live_pages(rules.is_of_wreck(), page_size)

    def _live_pages(self, rule: ColumnElement[bool], size: int) -> Iterator[list[LiveLocation]]:
        last = 0
        while True:
            query = _live(rule, _locations.id > last).order_by(_locations.id).limit(size)
            if page := self._read_live(query):
                yield page
            if len(page) < size:
                return
            last = page[-1].location.id

    def live_since(self) -> list[LiveLocation]:
        """Those not yet seen, of the newest."""
        horizon = self._newest - ID_OVERLAP
        known = [number for number in self._recent if number > horizon]
        return self._read_live(_LIVE_SINCE, {"horizon": horizon, "known": known or [0]})

    def _read_live(self, query: Any, given: Mapping[str, Any] | None = None) -> list[LiveLocation]:
        found = self._engine.read(lambda c: c.execute(query, given).all())
        page = [LiveLocation(self._reader.location(*row), bool(proves)) for *row, proves in found]
        self._recent.update(live.location.id for live in page)
        self._newest = max(self._newest, page[-1].location.id if page else 0)
        if len(self._recent) > 4 * ID_OVERLAP:
            horizon = self._newest - ID_OVERLAP
            self._recent = {known for known in self._recent if known > horizon}
        return page

    def still_live(self, locations: Collection[int]) -> frozenset[int]:
        """See :meth:`scrubber.sources.base.Source.still_live`."""
        query = (
            select(_locations.id)
            .select_from(_WITH_IMAGE)
            .where(among(_locations.id, locations), or_(rules.is_live(), rules.is_of_wreck()))
        )
        return self._engine.read(lambda c: frozenset(c.execute(query).scalars()))

    def live_among(self, locations: Collection[int]) -> list[Location]:
        """See :meth:`scrubber.sources.base.Source.live_among`."""
        return self._locations(among(_locations.id, self.still_live(locations)))

    # Pending --------------------------------------------------------------------------

    def pending(self, page_size: int) -> Iterator[list[Location]]:
        """See :meth:`scrubber.sources.base.Source.pending_locations`."""
        last = 0
        while found := self._pending_page(last, page_size):
            yield found
            last = found[-1].id

    def _pending_page(self, after: int, size: int) -> list[Location]:
        query = (
            select(*rows.REFERENCE)
            .where(rules.is_pending(), _locations.id > after)
            .order_by(_locations.id)
            .limit(size)
        )
        found = self._engine.read(lambda c: c.execute(query).all())
        return list(starmap(self._reader.location, found))

    def pending_among(self, locations: Collection[int]) -> list[Candidate]:
        """See :meth:`scrubber.sources.base.Source.pending_among`."""
        pending = self._locations(
            among(_locations.id, locations), _locations.status == "pending_delete"
        )
        of_these = {location.image_id for location in pending}
        images = self._engine.read(lambda c: rows.images(c, of_these))
        return [
            kinds.of_pending(images[location.image_id], location)
            for location in pending
            if location.image_id in images
        ]

    def _locations(self, *rules: ColumnElement[bool]) -> list[Location]:
        query = select(*rows.LOCATION).where(*rules)
        return self._engine.read(lambda c: list(starmap(self._reader.location, c.execute(query))))


def _live(*rules: ColumnElement[bool]) -> Any:
    proves_store = _PROVES_STORE.label("proves_store")
    return select(*rows.REFERENCE, proves_store).select_from(_WITH_IMAGE).where(*rules)


# Ordered, so that one more statement is planned like the pages are: by primary key.
_LIVE_SINCE = _live(
    rules.is_live(),
    _locations.id > bindparam("horizon"),
    not_among_given(_locations.id, "known"),
).order_by(_locations.id)

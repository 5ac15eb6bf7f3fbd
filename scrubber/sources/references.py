"""Rows of Glance's tables as references: which bytes live images use, or may use again."""

import random
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import starmap
from typing import Any

from sqlalchemy import (
    ColumnElement,
    and_,
    bindparam,
    case,
    false,
    func,
    literal,
    or_,
    select,
    true,
)

from scrubber.model import Candidate, Location
from scrubber.planning import kinds
from scrubber.planning.naming import ID_CHARACTERS, ID_LENGTH, Naming
from scrubber.sources import rows, rules
from scrubber.sources.among import among, among_given, not_among_given
from scrubber.sources.base import Reference
from scrubber.sources.engine import Engine
from scrubber.sources.exactly import Exactly, has_only
from scrubber.sources.tables import IMAGES, LOCATIONS

#: Ids are given before they are committed: so many are read again behind the newest.
ID_OVERLAP = 1000

#: One of so many locations is read that follow a rule; a prime, since the ids of a cluster of
#: databases come in steps.
SAMPLED = 101

_images = IMAGES.c
_locations = LOCATIONS.c

_WITH_IMAGE = LOCATIONS.join(IMAGES, _images.id == _locations.image_id)


class References:
    """Location rows without their times, by the thousand."""

    def __init__(self, engine: Engine, reader: rows.LocationReader) -> None:
        self._engine = engine
        self._reader = reader
        self._newest = 0
        self._recent: set[int] = set()

    def all(
        self, page_size: int, known: Callable[[], Collection[Naming]]
    ) -> Iterator[list[Reference]]:
        """See :meth:`scrubber.sources.base.Source.references`."""
        # What comes after this is new, whether a page shows it or it follows a rule.
        self._newest, self._recent = self._last(), set()
        last, sample = 0, random.randrange(SAMPLED)
        while True:
            query = _REFERENCES.where(_HAS_BYTES, _locations.id > last)
            if namings := frozenset(known()):
                query = query.where(_is_to_be_read(namings, sample))
            page = self._read(query.order_by(_locations.id).limit(page_size), known=namings)
            if page:
                yield page
            if len(page) < page_size:
                return
            last = page[-1].location.id

    def _last(self) -> int:
        newest = select(func.max(_locations.id)).where(rules.is_live())
        return self._engine.read(lambda c: c.execute(newest).scalar_one()) or 0

    def live_since(self) -> list[Reference]:
        """Those not yet seen, of the newest."""
        horizon = self._newest - ID_OVERLAP
        recent = [number for number in self._recent if number > horizon]
        return self._read(_LIVE_SINCE, {"horizon": horizon, "recent": recent or [0]})

    def _read(
        self,
        query: Any,
        given: Mapping[str, Any] | None = None,
        known: Collection[Naming] = frozenset(),
    ) -> list[Reference]:
        found = self._engine.read(lambda c: c.execute(query, given).all())
        locations = list(starmap(self._reader.location, (row[:-1] for row in found)))
        doubtful = {at.id for at in locations if at.problem}
        live = self.still_live(doubtful) if doubtful else frozenset()
        references = [
            _reference(row, location, bool(row.live) or location.id in live, known)
            for location, row in zip(locations, found, strict=True)
        ]
        self._see([at.location.id for at in references if at.is_live])
        return references

    def _see(self, live: list[int]) -> None:
        self._recent.update(live)
        self._newest = max([self._newest, *live])
        if len(self._recent) > 4 * ID_OVERLAP:
            horizon = self._newest - ID_OVERLAP
            self._recent = {known for known in self._recent if known > horizon}

    def of_images(self, images: Collection[str], besides: Collection[int]) -> list[Location]:
        """See :meth:`scrubber.sources.base.Source.references_of`."""
        given = {"images": images, "besides": besides or [0]}
        return self._engine.read(
            lambda c: list(starmap(self._reader.location, c.execute(_OF_IMAGES, given)))
        )

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


_HAS_BYTES = or_(rules.is_live(), rules.is_pending())

_REFERENCES = select(*rows.REFERENCE, rules.is_live().label("live"))

_OF_IMAGES = select(*rows.REFERENCE).where(
    among_given(_locations.image_id, "images"),
    not_among_given(_locations.id, "besides"),
    _HAS_BYTES,
)

# Ordered, so that one more statement is planned like the pages are: by primary key.
_LIVE_SINCE = _REFERENCES.where(
    rules.is_live(),
    _locations.id > bindparam("horizon"),
    not_among_given(_locations.id, "recent"),
).order_by(_locations.id)


def _reference(row: Any, location: Location, is_live: bool, known: Collection[Naming]) -> Reference:
    naming = None
    if row.value == location.url:  # what was decrypted must not appear in a query
        naming = Naming.of(location.url, row.image_id, row.meta_data, is_live)
    return Reference(location, is_live, naming, SAMPLED if naming in known else 1)


def _is_to_be_read(known: Collection[Naming], sample: int) -> ColumnElement[bool]:
    """Whether it follows none of the rules, or is one of the sample."""
    follows = or_(*map(_follows, known))
    passed_over = and_(follows, _locations.id % SAMPLED != sample)
    return case((passed_over, false()), else_=true())  # what is NULL is read


def _follows(naming: Naming) -> ColumnElement[bool]:
    """As ``Naming.of`` says: no row may be passed over that nobody would look for."""
    url = literal(naming.before) + _locations.image_id + literal(naming.after)
    return and_(
        rules.is_live() if naming.is_live else rules.is_pending(),
        Exactly(_locations.value) == Exactly(url),
        has_only(_locations.image_id, ID_CHARACTERS, ID_LENGTH),
        _locations.meta_data.is_(None)
        if naming.metadata is None
        else Exactly(_locations.meta_data) == naming.metadata,
    )

"""Glance's own database as the source: candidates, claims, live references, finish.

A claim is a lease kept in the location row itself: ``updated_at`` later than
``deleted_at``, and not older than the lease.  Glance writes both alike when it deletes,
the statuses stay Glance's own, so every other tool goes on working on the same rows.
"""

import datetime
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import starmap

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from scrubber import errors
from scrubber.model import Backlog, Candidate, Image, Location, Selection
from scrubber.planning.naming import Naming
from scrubber.sources import claims, finishing, rows, rules
from scrubber.sources.among import among
from scrubber.sources.base import Claim, Claimed, Finish, Finished, Reference
from scrubber.sources.candidates import Candidates
from scrubber.sources.engine import Engine
from scrubber.sources.references import References
from scrubber.sources.tables import IMAGES, LOCATIONS, METADATA, PROPERTIES

#: Set on an image while Glance imports into it (glance/async_/flows/api_image_import.py).
_IMPORT_MARKS = ("os_glance_import_task", "os_glance_importing_to_stores")

#: Image statuses in which Glance may be writing bytes.
_BEING_WRITTEN = ("queued", "saving", "uploading", "importing")

_images = IMAGES.c
_locations = LOCATIONS.c


class DatabaseSource:
    """See :class:`scrubber.sources.base.Source`.

    :param encryption_key: Glance's metadata_encryption_key, or None.
    """

    def __init__(self, engine: Engine, encryption_key: str | None) -> None:
        self._engine = engine
        self._reader = rows.LocationReader(encryption_key)
        self._references = References(engine, self._reader)

    def check(self) -> None:
        # At start a database that is down is said at once, not after half a minute.
        self._engine.patience, patience = 0.0, self._engine.patience
        try:
            self._engine.connect()
            self._see_columns()
        finally:
            self._engine.patience = patience

    def _see_columns(self) -> None:
        try:
            self._engine.read(_select_all_columns)
        except errors.SourceError as error:
            raise errors.SourceError(
                "the database of option connection in section [database] is not Glance's, or its "
                f"schema is older than scrubber knows (glance-manage db sync): {error}"
            ) from None

    def close(self) -> None:
        self._engine.close()

    def now(self) -> datetime.datetime:
        return self._engine.read(self._engine.now)

    # Candidates -----------------------------------------------------------------------

    def candidates(self, selection: Selection, page_size: int) -> Iterator[list[Candidate]]:
        return Candidates(self._engine, self._reader, self.importing).pages(selection, page_size)

    def locations(self, image_ids: Collection[str]) -> list[Location]:
        """All rows of these images, an image's own together and oldest first."""
        query = (
            select(*rows.LOCATION)
            .where(among(_locations.image_id, image_ids))
            .order_by(_locations.image_id, _locations.id)
        )
        return self._engine.read(lambda c: list(starmap(self._reader.location, c.execute(query))))

    def images(self, ids: Collection[str]) -> dict[str, Image]:
        return self._engine.read(lambda connection: rows.images(connection, ids))

    def backlog(self, older: float = 0, younger: float | None = None) -> Backlog:
        def work(connection: Connection) -> Backlog:
            now = self._engine.now(connection)
            rule = rules.went_between(now, older, younger)
            figures = select(func.count(), func.sum(_images.size), func.min(_images.deleted_at))
            images, size, first = connection.execute(figures.where(rule)).one()
            oldest = (now - first).total_seconds() if first else None
            return Backlog(images, int(size or 0), oldest)

        return self._engine.read(work)

    def importing(self, images: Collection[str]) -> frozenset[str]:
        marks = select(PROPERTIES.c.image_id).where(
            among(PROPERTIES.c.image_id, images),
            PROPERTIES.c.name.in_(_IMPORT_MARKS),
            PROPERTIES.c.deleted.is_(False),
            func.coalesce(PROPERTIES.c.value, "") != "",
        )
        return self._engine.read(lambda c: frozenset(c.execute(marks).scalars()))

    # Claims ---------------------------------------------------------------------------

    def claim(self, candidates: Sequence[Candidate], lease: float) -> Claimed:
        return claims.claim(self._engine, candidates, lease)

    def renew(self, claim: Claim) -> frozenset[int]:
        return claims.renew(self._engine, claim)

    def release(self, claim: Claim, locations: Collection[int]) -> None:
        claims.release(self._engine, claim, locations)

    def still_ours(self, claimed: Sequence[tuple[Claim, Candidate, Location]]) -> frozenset[int]:
        return claims.still_ours(self._engine, claimed)

    # Live references ------------------------------------------------------------------

    def references(
        self, page_size: int, known: Callable[[], Collection[Naming]] = tuple
    ) -> Iterator[list[Reference]]:
        return self._references.all(page_size, known)

    def references_of(self, images: Collection[str], besides: Collection[int]) -> list[Location]:
        return self._references.of_images(images, besides)

    def live_since(self) -> list[Reference]:
        return self._references.live_since()

    def still_live(self, locations: Collection[int]) -> frozenset[int]:
        return self._references.still_live(locations)

    def live_among(self, locations: Collection[int]) -> list[Location]:
        return self._references.live_among(locations)

    def pending_among(self, locations: Collection[int]) -> list[Candidate]:
        return self._references.pending_among(locations)

    def busy_images(self, images: Collection[str]) -> frozenset[str]:
        written = select(_images.id).where(
            among(_images.id, images),
            _images.deleted.is_(False),
            _images.status.in_(_BEING_WRITTEN),
        )
        busy = self._engine.read(lambda c: frozenset(c.execute(written).scalars()))
        return busy | self.importing(images)

    # Finish ---------------------------------------------------------------------------

    def finish(self, finish: Finish) -> Finished:
        return finishing.finish(self._engine, finish)


def _select_all_columns(connection: Connection) -> None:
    for table in METADATA.sorted_tables:
        connection.execute(select(*table.c).limit(0))

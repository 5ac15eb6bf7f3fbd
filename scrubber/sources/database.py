"""Glance's own database as the source: candidates, claims, live references, finish.

A claim is a lease kept in the location row itself: ``updated_at`` later than
``deleted_at``, and not older than the lease.  Glance writes both alike when it deletes,
the statuses stay Glance's own, so every other tool goes on working on the same rows.
"""

import datetime
import random
import time
import uuid
from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import ColumnElement, exists, func, or_, select, update
from sqlalchemy.engine import Connection

from scrubber import errors
from scrubber.model import Backlog, Candidate, Image, Location, Selection
from scrubber.planning import kinds
from scrubber.sources import rows, rules
from scrubber.sources.base import Claim, Claimed, Finish, Finished, LiveLocation
from scrubber.sources.engine import Engine
from scrubber.sources.tables import BELONGINGS, IMAGES, LOCATIONS, METADATA, PROPERTIES

#: Set on an image while Glance imports into it (glance/async_/flows/api_image_import.py).
_IMPORT_MARKS = ("os_glance_import_task", "os_glance_importing_to_stores")

#: Image statuses in which Glance may be writing bytes.
_BEING_WRITTEN = ("queued", "saving", "uploading", "importing")

#: Ids are given before they are committed: so many are read again behind the newest.
_ID_OVERLAP = 1000

_images = IMAGES.c
_locations = LOCATIONS.c


class DatabaseSource:
    """See :class:`scrubber.sources.base.Source`.

    :param encryption_key: Glance's metadata_encryption_key, or None.
    """

    def __init__(self, engine: Engine, encryption_key: str | None) -> None:
        self._engine = engine
        self._reader = rows.LocationReader(encryption_key)
        self._newest_live = 0
        self._recent_live: set[int] = set()

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
        return self._engine.read(self._now)

    def _now(self, connection: Connection) -> datetime.datetime:
        if self._engine.dialect == "sqlite":
            return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
        clock = (
            func.timezone("utc", func.clock_timestamp())
            if self._engine.dialect == "postgresql"
            else func.utc_timestamp(6)
        )
        now: datetime.datetime = connection.execute(select(clock)).scalar_one()
        return now

    # Candidates -----------------------------------------------------------------------

    def candidates(self, selection: Selection, page_size: int) -> Iterator[list[Candidate]]:
        chosen = rules.chosen(selection)
        # Every process starts at a place of its own, so that several do not queue up.
        start = str(uuid.UUID(int=random.getrandbits(128)))
        for rule, build in (
            (rules.is_deleted, self._deleted_candidates),
            (rules.is_half_deleted, self._deleted_candidates),
            (rules.has_removed_location, self._removed_candidates),
            (rules.has_leftover, self._leftover_candidates),
            (rules.is_torn, self._torn_candidates),
        ):
            for images in self._image_pages([*chosen, rule()], start, page_size):
                if page := build(images):
                    yield page

    def _image_pages(
        self, rules: list[ColumnElement[bool]], start: str, size: int
    ) -> Iterator[list[Image]]:
        """By primary key, from ``start`` round to it again."""
        for first, end in ((start, None), ("", start)):
            last = first
            while images := self._image_page(rules, last, end, size):
                yield images
                if len(images) < size:
                    break
                last = images[-1].id

    def _image_page(
        self, rules: list[ColumnElement[bool]], after: str, upto: str | None, size: int
    ) -> list[Image]:
        query = select(*IMAGES.c).where(*rules, _images.id > after)
        if upto is not None:
            query = query.where(_images.id <= upto)
        query = query.order_by(_images.id).limit(size)
        return self._engine.read(lambda c: [rows.image(row) for row in c.execute(query)])

    def _deleted_candidates(self, images: list[Image]) -> list[Candidate]:
        found = self._locations_of(images)
        candidates = [kinds.deleted(image, found.get(image.id, [])) for image in images]
        return self._without_finished(candidates)

    def _without_finished(self, candidates: list[Candidate]) -> list[Candidate]:
        """Another scrubber may finish an image between our two reads: then it looks stuck."""
        bare = [candidate.image.id for candidate in candidates if not candidate.locations]
        if not bare:
            return candidates
        pending = {image.id for image in self.images(bare).values() if image.status != "deleted"}
        return [at for at in candidates if at.locations or at.image.id in pending]

    def _removed_candidates(self, images: list[Image]) -> list[Candidate]:
        found = self._locations_of(images)
        importing = self.importing([image.id for image in images])
        return [
            kinds.removed(image, found.get(image.id, []), image.id in importing) for image in images
        ]

    def _leftover_candidates(self, images: list[Image]) -> list[Candidate]:
        found = self._locations_of(images)
        return [kinds.leftover(image, found.get(image.id, [])) for image in images]

    def _torn_candidates(self, images: list[Image]) -> list[Candidate]:
        found = self._locations_of(images)
        torn = [kinds.torn(image, found.get(image.id, [])) for image in images]
        return [candidate for candidate in torn if candidate is not None]

    def pending_locations(self, page_size: int) -> Iterator[list[Location]]:
        last = 0
        while found := self._pending_page(last, page_size):
            yield found
            last = found[-1].id

    def _pending_page(self, after: int, size: int) -> list[Location]:
        query = (
            select(*LOCATIONS.c)
            .where(
                _locations.deleted.is_(True),
                _locations.status == "pending_delete",
                _locations.id > after,
            )
            .order_by(_locations.id)
            .limit(size)
        )
        return self._engine.read(lambda c: [self._reader.location(row) for row in c.execute(query)])

    def locations(self, image_ids: Collection[str]) -> list[Location]:
        """All rows of these images, an image's own together and oldest first."""
        query = (
            select(*LOCATIONS.c)
            .where(_locations.image_id.in_(image_ids))
            .order_by(_locations.image_id, _locations.id)
        )
        return self._engine.read(lambda c: [self._reader.location(row) for row in c.execute(query)])

    def _locations_of(self, images: list[Image]) -> dict[str, list[Location]]:
        locations = self.locations([image.id for image in images])
        return {
            image_id: list(group) for image_id, group in groupby(locations, lambda at: at.image_id)
        }

    def backlog(self, older: float = 0, younger: float | None = None) -> Backlog:
        def work(connection: Connection) -> Backlog:
            now = self._now(connection)
            rule = rules.went_between(now, older, younger)
            figures = select(func.count(), func.sum(_images.size), func.min(_images.deleted_at))
            images, size, first = connection.execute(figures.where(rule)).one()
            oldest = (now - first).total_seconds() if first else None
            return Backlog(images, int(size or 0), oldest)

        return self._engine.read(work)

    def importing(self, images: Collection[str]) -> frozenset[str]:
        marks = select(PROPERTIES.c.image_id).where(
            PROPERTIES.c.image_id.in_(images),
            PROPERTIES.c.name.in_(_IMPORT_MARKS),
            PROPERTIES.c.deleted.is_(False),
            func.coalesce(PROPERTIES.c.value, "") != "",
        )
        return self._engine.read(lambda c: frozenset(c.execute(marks).scalars()))

    # Claims ---------------------------------------------------------------------------

    def claim(self, candidates: Sequence[Candidate], lease: float) -> Claimed:
        taken_at = time.monotonic()

        def work(connection: Connection) -> Claimed:
            now = self._now(connection)
            # A whole second (MySQL keeps no less) that is later than any due deleted_at.
            token = now.replace(microsecond=0) + datetime.timedelta(seconds=1)
            mine, lost = self._claimable(connection, candidates, now, lease, lock=True)
            ids = [location.id for candidate in mine for location in candidate.locations]
            if ids:
                connection.execute(
                    update(LOCATIONS).where(_locations.id.in_(ids)).values(updated_at=token)
                )
            claim = Claim(token, taken_at, locations=set(ids), taken_over=_lapsed(mine))
            return Claimed(claim, tuple(mine), tuple(lost))

        return self._engine.write(work)

    def claimable(self, candidates: Sequence[Candidate], lease: float) -> Claimed:
        """What ``claim`` would get; writes nothing."""

        def work(connection: Connection) -> Claimed:
            now = self._now(connection)
            mine, lost = self._claimable(connection, candidates, now, lease, lock=False)
            return Claimed(Claim(None, time.monotonic()), tuple(mine), tuple(lost))

        return self._engine.read(work)

    def _claimable(
        self,
        connection: Connection,
        candidates: Sequence[Candidate],
        now: datetime.datetime,
        lease: float,
        lock: bool,
    ) -> tuple[list[Candidate], list[Candidate]]:
        """Candidates unchanged since they were read with all locations free; and the others."""
        locations = [location for candidate in candidates for location in candidate.locations]
        free_rows = select(_locations.id, _locations.status).where(
            _locations.id.in_([location.id for location in locations]),
            rules.is_free(now, lease),
            func.coalesce(_locations.deleted_at, rules.EPOCH) <= now,
        )
        if lock:
            free_rows = free_rows.with_for_update(skip_locked=self._engine.skips_locked)
        free = {row.id: row.status for row in connection.execute(free_rows)}
        images = _states(connection, [candidate.image.id for candidate in candidates])
        mine: list[Candidate] = []
        lost: list[Candidate] = []
        for candidate in candidates:
            unchanged = images.get(candidate.image.id) == rows.State.of(candidate.image)
            has_all = all(free.get(at.id) == at.status for at in candidate.locations)
            (mine if unchanged and has_all else lost).append(candidate)
        return mine, lost

    def renew(self, claim: Claim) -> frozenset[int]:
        ids = set(claim.locations)
        taken_at = time.monotonic()
        # Not yet the token of this renewal: another's claim may have it in the same second.
        tokens = {token for token in (claim.token, claim.renewing) if token}

        def work(connection: Connection) -> frozenset[int]:
            token = self._now(connection).replace(microsecond=0) + datetime.timedelta(seconds=1)
            # Set before the rows are: a check in between may see either.
            claim.renewing = token
            ours = select(_locations.id).where(
                _locations.id.in_(ids), _locations.updated_at.in_(tokens)
            )
            kept = set(connection.execute(ours.with_for_update()).scalars())
            tokens.add(token)  # written, should the commit's answer get lost
            connection.execute(
                update(LOCATIONS).where(_locations.id.in_(kept)).values(updated_at=token)
            )
            return frozenset(ids - kept)

        lost = self._engine.write(work)
        claim.token, claim.renewing, claim.taken_at = claim.renewing, None, taken_at
        claim.locations -= lost
        return lost

    def release(self, claim: Claim, locations: Collection[int]) -> None:
        ids = set(locations)
        mine = update(LOCATIONS).where(_locations.updated_at == claim.token)
        free = mine.where(_locations.id.in_(ids - claim.taken_over.keys()))

        def work(connection: Connection) -> None:
            connection.execute(free.values(updated_at=_locations.deleted_at))
            for number in ids & claim.taken_over.keys():
                # Its first claimer may only be paused: for a restore it stays a lapsed claim.
                lapsed = claim.taken_over[number] + datetime.timedelta(seconds=1)
                connection.execute(mine.where(_locations.id == number).values(updated_at=lapsed))

        if ids:
            self._engine.write(work)
        claim.locations -= ids

    def still_ours(self, claimed: Sequence[tuple[Claim, Candidate, Location]]) -> frozenset[int]:
        query = (
            select(
                _locations.id,
                _locations.status,
                _locations.updated_at,
                _images.status.label("image_status"),
                _images.deleted.label("image_deleted"),
            )
            .join(IMAGES, _images.id == _locations.image_id)
            .where(_locations.id.in_([location.id for _, _, location in claimed]))
        )
        rows = self._engine.read(lambda c: {row.id: row for row in c.execute(query)})
        return frozenset(
            location.id
            for claim, candidate, location in claimed
            if (row := rows.get(location.id)) is not None
            and claim.is_mine(row.updated_at)
            and row.status == location.status
            and row.image_status == candidate.image.status
            and row.image_deleted == candidate.image.deleted
        )

    # Live references ------------------------------------------------------------------

    def live_locations(self, page_size: int) -> Iterator[list[LiveLocation]]:
        self._newest_live, self._recent_live = 0, set()
        yield from self._live_pages(rules.is_live(), page_size)
        yield from self._live_pages(rules.is_of_wreck(), page_size)

    def _live_pages(self, rule: ColumnElement[bool], size: int) -> Iterator[list[LiveLocation]]:
        last = 0
        while True:
            query = rules.with_image(rule).where(_locations.id > last)
            page = self._live(query.order_by(_locations.id).limit(size))
            if page:
                yield page
            if len(page) < size:
                return
            last = page[-1].location.id

    def live_since(self) -> list[LiveLocation]:
        after = self._newest_live - _ID_OVERLAP
        query = select(_locations.id).where(rules.is_live(), _locations.id > after)
        there = self._engine.read(lambda c: set(c.execute(query).scalars()))
        unknown = there - self._recent_live
        if not unknown:
            return []
        return self._live(rules.with_image(_locations.id.in_(unknown)))

    def _live(self, query: Any) -> list[LiveLocation]:
        rows = self._engine.read(lambda c: list(c.execute(query)))
        for row in rows:
            self._newest_live = max(self._newest_live, row.id)
            self._recent_live.add(row.id)
        if len(self._recent_live) > 4 * _ID_OVERLAP:
            horizon = self._newest_live - _ID_OVERLAP
            self._recent_live = {known for known in self._recent_live if known > horizon}
        return [
            LiveLocation(
                self._reader.location(row),
                proves_store=row.status == "active"
                and row.image_status == "active"
                and not row.image_deleted,
            )
            for row in rows
        ]

    def still_live(self, locations: Collection[int]) -> frozenset[int]:
        query = (
            select(_locations.id)
            .join(IMAGES, _images.id == _locations.image_id)
            .where(_locations.id.in_(locations), or_(rules.is_live(), rules.is_of_wreck()))
        )
        return self._engine.read(lambda c: frozenset(c.execute(query).scalars()))

    def live_among(self, locations: Collection[int]) -> list[Location]:
        query = select(*LOCATIONS.c).where(_locations.id.in_(self.still_live(locations)))
        return self._engine.read(lambda c: [self._reader.location(row) for row in c.execute(query)])

    def pending_among(self, locations: Collection[int]) -> list[Candidate]:
        query = select(*LOCATIONS.c).where(
            _locations.id.in_(locations), _locations.status == "pending_delete"
        )
        pending = self._engine.read(
            lambda c: [self._reader.location(row) for row in c.execute(query)]
        )
        images = self.images({location.image_id for location in pending})
        return [
            kinds.of_pending(images[location.image_id], location)
            for location in pending
            if location.image_id in images
        ]

    def busy_images(self, images: Collection[str]) -> frozenset[str]:
        written = select(_images.id).where(
            _images.id.in_(images), _images.deleted.is_(False), _images.status.in_(_BEING_WRITTEN)
        )
        busy = self._engine.read(lambda c: frozenset(c.execute(written).scalars()))
        return busy | self.importing(images)

    # Finish ---------------------------------------------------------------------------

    def finish(self, finish: Finish) -> Finished:
        def work(connection: Connection) -> Finished:
            now = self._now(connection)
            half = _lock_images(connection, finish.images)
            _finish_locations(connection, finish.locations, now)
            _finish_images(connection, finish.images, now)
            if half:
                delete_belongings(connection, _finished(connection, half), now)
            return _what_changed(connection, finish)

        return self._engine.write(work)

    def images(self, ids: Collection[str]) -> dict[str, Image]:
        return self._engine.read(lambda connection: self._images(connection, ids))

    def _images(
        self, connection: Connection, ids: Collection[str], lock: bool = False
    ) -> dict[str, Image]:
        query = select(*IMAGES.c).where(_images.id.in_(ids)).order_by(_images.id)
        if lock:
            query = query.with_for_update()
        return {row.id: rows.image(row) for row in connection.execute(query)}


def _select_all_columns(connection: Connection) -> None:
    for table in METADATA.sorted_tables:
        connection.execute(select(*table.c).limit(0))


# Finish ---------------------------------------------------------------------------------


def _lock_images(connection: Connection, ids: Collection[str]) -> list[str]:
    """Lock the images; returns those that are only half deleted."""
    # Images before locations, in one order, here and in restore: no deadlocks among us.
    query = select(_images.id, _images.deleted).where(_images.id.in_(ids)).order_by(_images.id)
    rows = connection.execute(query.with_for_update())
    return [row.id for row in rows if not row.deleted]


def _finished(connection: Connection, ids: Collection[str]) -> list[str]:
    """Those of these images that are deleted by now: somebody may have restored one."""
    query = select(_images.id).where(_images.id.in_(ids), _images.deleted.is_(True))
    return list(connection.execute(query).scalars())


def _finish_locations(connection: Connection, ids: Collection[int], now: datetime.datetime) -> None:
    # deleted_at moves as upstream's does: left as it was it would look like a late copy.
    connection.execute(
        update(LOCATIONS)
        .where(_locations.id.in_(ids), _locations.status.in_(("pending_delete", "deleted")))
        .values(status="deleted", deleted=True, updated_at=now, deleted_at=now)
    )


def _finish_images(connection: Connection, ids: Collection[str], now: datetime.datetime) -> None:
    connection.execute(
        update(IMAGES)
        .where(
            _images.id.in_(ids),
            _images.status == "pending_delete",
            ~exists(rules.unfinished_rows()),
        )
        .values(
            status="deleted",
            deleted=True,
            deleted_at=func.coalesce(_images.deleted_at, now),
            updated_at=now,
        )
    )


def delete_belongings(
    connection: Connection, images: Collection[str], now: datetime.datetime
) -> None:
    for table in BELONGINGS:
        connection.execute(
            update(table)
            .where(table.c.image_id.in_(images), table.c.deleted.is_(False))
            .values(deleted=True, deleted_at=now)
        )


def _what_changed(connection: Connection, finish: Finish) -> Finished:
    locations = select(_locations.id).where(
        _locations.id.in_(finish.locations), _locations.status != "deleted"
    )
    images = select(_images.id).where(
        _images.id.in_(finish.images), _images.status.not_in(("deleted", "pending_delete"))
    )
    return Finished(
        changed_locations=frozenset(connection.execute(locations).scalars()),
        changed_images=frozenset(connection.execute(images).scalars()),
    )


def _lapsed(candidates: Sequence[Candidate]) -> dict[int, datetime.datetime]:
    """The locations that somebody had claimed before, with their deleted_at."""
    return {
        location.id: location.deleted_at
        for candidate in candidates
        for location in candidate.locations
        if location.updated_at and location.deleted_at and location.updated_at > location.deleted_at
    }


def _states(connection: Connection, ids: Collection[str]) -> dict[str, rows.State]:
    query = select(_images.id, _images.status, _images.deleted, _images.deleted_at)
    return {
        row.id: rows.State.of(row) for row in connection.execute(query.where(_images.id.in_(ids)))
    }

"""Claims in Glance's rows: a lease is ``updated_at`` later than ``deleted_at``, and not too old.

Of a thousand rows nearly always all are as they were read.  So they are counted where they lie,
and only if that is not all of them they are read, to see which.
"""

import datetime
import time
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from oslo_db.exception import DBDeadlock
from sqlalchemy import bindparam, func, select, update
from sqlalchemy.engine import Connection

from scrubber.model import Candidate, Location
from scrubber.sources import rows, rules
from scrubber.sources.among import among, among_given
from scrubber.sources.base import Claim, Claimed
from scrubber.sources.engine import Engine
from scrubber.sources.tables import IMAGES, LOCATIONS

_images = IMAGES.c
_locations = LOCATIONS.c

_WITH_IMAGE = LOCATIONS.join(IMAGES, _images.id == _locations.image_id)


def claim(engine: Engine, candidates: Sequence[Candidate], lease: float) -> Claimed:
    """See :meth:`scrubber.sources.base.Source.claim`."""
    taken_at = time.monotonic()

    def work(connection: Connection) -> Claimed:
        now = engine.now(connection)
        found = _Page(candidates, now, lease).free(connection, engine, lock=True)
        ids = [location.id for candidate in found.mine for location in candidate.locations]
        token = _token(now)
        free = update(LOCATIONS).where(among(_locations.id, ids), rules.is_free(now, lease))
        if ids and connection.execute(free.values(updated_at=token)).rowcount != len(ids):
            # The locks should not have let anybody else in; whoever was: begin again.
            raise DBDeadlock
        claim = Claim(token, taken_at, locations=set(ids), taken_over=_lapsed(found.mine))
        return Claimed(claim, found.mine, found.lost)

    return engine.write(work)


def claimable(engine: Engine, candidates: Sequence[Candidate], lease: float) -> Claimed:
    """What ``claim`` would get; writes nothing."""

    def work(connection: Connection) -> Claimed:
        page = _Page(candidates, engine.now(connection), lease)
        found = page.free(connection, engine, lock=False)
        return Claimed(Claim(None, time.monotonic()), found.mine, found.lost)

    return engine.read(work)


def _token(now: datetime.datetime) -> datetime.datetime:
    """A whole second (MySQL keeps no less) that is later than any due deleted_at."""
    return now.replace(microsecond=0) + datetime.timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class _Found:
    """Candidates unchanged since they were read with all locations free; and the others."""

    mine: tuple[Candidate, ...]
    lost: tuple[Candidate, ...]


class _Page:
    """Candidates that are claimed together."""

    def __init__(
        self, candidates: Sequence[Candidate], now: datetime.datetime, lease: float
    ) -> None:
        self._candidates = candidates
        self._locations = [at for candidate in candidates for at in candidate.locations]
        self._ids = [location.id for location in self._locations]
        self._is_free = rules.is_free(now, lease)
        self._now = now

    def free(self, connection: Connection, engine: Engine, *, lock: bool) -> _Found:
        rows = select(_locations.id, _locations.status).where(
            among(_locations.id, self._ids),
            self._is_free,
            func.coalesce(_locations.deleted_at, rules.EPOCH) <= self._now,
        )
        if lock:
            rows = rows.with_for_update(skip_locked=engine.skips_locked)
        if self._are_all_free(connection, rows):
            return _Found(tuple(self._candidates), ())
        return self._which_are_free(connection, rows)

    def _are_all_free(self, connection: Connection, free_rows: Any) -> bool:
        """False also if that cannot be said by counting."""
        statuses = {location.status for location in self._locations}
        states = {(at.image.status, at.image.deleted) for at in self._candidates}
        if len(statuses) != 1 or len(states) != 1:
            return False
        if not all(candidate.locations for candidate in self._candidates):
            return False  # of an image is seen what its locations' rows lead to
        free = free_rows.where(_locations.status == statuses.pop()).subquery()
        return self._are_all(connection, free) and self._are_all(
            connection, self._with_unchanged_images(*states.pop()).subquery()
        )

    def _with_unchanged_images(self, status: str, deleted: bool) -> Any:
        newest = max(at.image.deleted_at or rules.EPOCH for at in self._candidates)
        return (
            select(_locations.id)
            .select_from(_WITH_IMAGE)
            .where(
                among(_locations.id, self._ids),
                _images.status == status,
                rules.with_deleted(deleted),
                # One that was restored and deleted once more has gone later than all of these.
                func.coalesce(_images.deleted_at, rules.EPOCH) <= newest,
            )
        )

    def _are_all(self, connection: Connection, these: Any) -> bool:
        count = connection.execute(select(func.count()).select_from(these)).scalar_one()
        return bool(count == len(self._ids))

    def _which_are_free(self, connection: Connection, free_rows: Any) -> _Found:
        free = {row.id: row.status for row in connection.execute(free_rows)}
        images = _states(connection, [candidate.image.id for candidate in self._candidates])
        mine: list[Candidate] = []
        lost: list[Candidate] = []
        for candidate in self._candidates:
            unchanged = images.get(candidate.image.id) == rows.State.of(candidate.image)
            has_all = all(free.get(at.id) == at.status for at in candidate.locations)
            (mine if unchanged and has_all else lost).append(candidate)
        return _Found(tuple(mine), tuple(lost))


def _states(connection: Connection, ids: Collection[str]) -> dict[str, rows.State]:
    query = select(_images.id, _images.status, _images.deleted, _images.deleted_at)
    found = connection.execute(query.where(among(_images.id, ids)))
    return {row.id: rows.State.of(row) for row in found}


def _lapsed(candidates: Sequence[Candidate]) -> dict[int, datetime.datetime]:
    """The locations that somebody had claimed before, with their deleted_at."""
    return {
        location.id: location.deleted_at
        for candidate in candidates
        for location in candidate.locations
        if location.updated_at and location.deleted_at and location.updated_at > location.deleted_at
    }


# While they are held ----------------------------------------------------------------------


def renew(engine: Engine, claim: Claim) -> frozenset[int]:
    """See :meth:`scrubber.sources.base.Source.renew`."""
    ids = set(claim.locations)
    taken_at = time.monotonic()
    # Not yet the token of this renewal: another's claim may have it in the same second.
    tokens = set(_tokens(claim))

    def work(connection: Connection) -> frozenset[int]:
        token = _token(engine.now(connection))
        # Set before the rows are: a check in between may see either.
        claim.renewing = token
        ours = select(_locations.id).where(
            among(_locations.id, ids), _locations.updated_at.in_(tokens)
        )
        kept = set(connection.execute(ours.with_for_update()).scalars())
        tokens.add(token)  # written, should the commit's answer get lost
        connection.execute(
            update(LOCATIONS).where(among(_locations.id, kept)).values(updated_at=token)
        )
        return frozenset(ids - kept)

    lost = engine.write(work)
    claim.token, claim.renewing, claim.taken_at = claim.renewing, None, taken_at
    claim.locations -= lost
    return lost


def release(engine: Engine, claim: Claim, locations: Collection[int]) -> None:
    """See :meth:`scrubber.sources.base.Source.release`."""
    ids = set(locations)
    mine = update(LOCATIONS).where(_locations.updated_at == claim.token)
    free = mine.where(among(_locations.id, ids - claim.taken_over.keys()))

    def work(connection: Connection) -> None:
        connection.execute(free.values(updated_at=_locations.deleted_at))
        for number in ids & claim.taken_over.keys():
            # Its first claimer may only be paused: for a restore it stays a lapsed claim.
            lapsed = claim.taken_over[number] + datetime.timedelta(seconds=1)
            connection.execute(mine.where(_locations.id == number).values(updated_at=lapsed))

    if ids:
        engine.write(work)
    claim.locations -= ids


# The last look ----------------------------------------------------------------------------

#: How many locations are as they were claimed, those of deleted images and of others.
_UNTOUCHED = {
    deleted: select(func.count())
    .select_from(_WITH_IMAGE)
    .where(
        among_given(_locations.id, "ids"),
        _locations.updated_at.in_(bindparam("tokens", expanding=True)),
        _locations.status == bindparam("status"),
        _images.status == bindparam("image_status"),
        rules.with_deleted(deleted),
    )
    for deleted in (False, True)
}

Claimings = Sequence[tuple[Claim, Candidate, Location]]


def still_ours(engine: Engine, claimed: Claimings) -> frozenset[int]:
    """See :meth:`scrubber.sources.base.Source.still_ours`."""
    by_claim: defaultdict[Claim, list[tuple[Claim, Candidate, Location]]] = defaultdict(list)
    for each in claimed:
        by_claim[each[0]].append(each)

    def work(connection: Connection) -> frozenset[int]:
        return frozenset().union(*(_ours(connection, its) for its in by_claim.values()))

    return engine.read(work)


def _ours(connection: Connection, claimed: Claimings) -> Collection[int]:
    """Of the locations of one claim those that nobody has changed."""
    ids = [location.id for _, _, location in claimed]
    states = {(row.status, at.image.status, at.image.deleted) for _, at, row in claimed}
    if len(states) == 1:
        ((status, image_status, image_deleted),) = states
        given = {
            "ids": ids,
            "tokens": _tokens(claimed[0][0]),
            "status": status,
            "image_status": image_status,
        }
        if connection.execute(_UNTOUCHED[image_deleted], given).scalar_one() == len(ids):
            return ids
    return _which_are_ours(connection, claimed)


def _tokens(claim: Claim) -> list[datetime.datetime]:
    return [token for token in (claim.token, claim.renewing) if token]


def _which_are_ours(connection: Connection, claimed: Claimings) -> list[int]:
    query = (
        select(
            _locations.id,
            _locations.status,
            _locations.updated_at,
            _images.status.label("image_status"),
            _images.deleted.label("image_deleted"),
        )
        .select_from(_WITH_IMAGE)
        .where(among(_locations.id, [location.id for _, _, location in claimed]))
    )
    rows = {row.id: row for row in connection.execute(query)}
    return [
        location.id
        for claim, candidate, location in claimed
        if (row := rows.get(location.id)) is not None
        and claim.is_mine(row.updated_at)
        and row.status == location.status
        and row.image_status == candidate.image.status
        and row.image_deleted == candidate.image.deleted
    ]

"""The finish in Glance's rows: locations whose bytes are gone, images that are done with."""

import datetime
from collections.abc import Collection

from sqlalchemy import case, exists, func, select, update
from sqlalchemy.engine import Connection

from scrubber.sources import rules
from scrubber.sources.among import among
from scrubber.sources.base import Finish, Finished
from scrubber.sources.engine import Engine
from scrubber.sources.tables import BELONGINGS, IMAGES, LOCATIONS

_images = IMAGES.c
_locations = LOCATIONS.c


def finish(engine: Engine, finish: Finish) -> Finished:
    """See :meth:`scrubber.sources.base.Source.finish`."""

    def work(connection: Connection) -> Finished:
        now = engine.now(connection)
        half = _lock_images(connection, finish.images)
        changed_locations = _finish_locations(connection, finish.locations, now)
        changed_images = _finish_images(connection, finish.images, now)
        if half:
            delete_belongings(connection, _finished(connection, half), now)
        return Finished(changed_locations, changed_images)

    return engine.write(work)


def _lock_images(connection: Connection, ids: Collection[str]) -> list[str]:
    """Lock the images; returns those that are only half deleted."""
    # Images before locations, in one order, here and in restore: no deadlocks among us.
    rows = select(_images.id, _images.deleted).where(among(_images.id, ids)).order_by(_images.id)
    locked = rows.with_for_update().subquery()
    # Nearly always none is, so they are counted: rows that nobody needs cost more than all else.
    counting = select(func.count(case((locked.c.deleted.is_(False), 1))))
    if not connection.execute(counting).scalar_one():
        return []
    half = select(_images.id).where(among(_images.id, ids), _images.deleted.is_(False))
    return list(connection.execute(half).scalars())


def _finished(connection: Connection, ids: Collection[str]) -> list[str]:
    """Those of these images that are deleted by now: somebody may have restored one."""
    query = select(_images.id).where(among(_images.id, ids), _images.deleted.is_(True))
    return list(connection.execute(query).scalars())


def _finish_locations(
    connection: Connection, ids: Collection[int], now: datetime.datetime
) -> frozenset[int]:
    """Returns those that somebody else has changed."""
    # deleted_at moves as upstream's does: left as it was it would look like a late copy.
    finished = connection.execute(
        update(LOCATIONS)
        .where(among(_locations.id, ids), _locations.status.in_(("pending_delete", "deleted")))
        .values(status="deleted", deleted=True, updated_at=now, deleted_at=now)
    )
    if finished.rowcount == len(ids):
        return frozenset()
    changed = select(_locations.id).where(among(_locations.id, ids), _locations.status != "deleted")
    return frozenset(connection.execute(changed).scalars())


def _finish_images(
    connection: Connection, ids: Collection[str], now: datetime.datetime
) -> frozenset[str]:
    """Returns those that somebody else has changed."""
    finished = connection.execute(
        update(IMAGES)
        .where(
            among(_images.id, ids),
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
    if finished.rowcount == len(ids):
        return frozenset()
    changed = select(_images.id).where(
        among(_images.id, ids), _images.status.not_in(("deleted", "pending_delete"))
    )
    return frozenset(connection.execute(changed).scalars())


def delete_belongings(
    connection: Connection, images: Collection[str], now: datetime.datetime
) -> None:
    """The properties, tags and members of images, as Glance would have."""
    for table in BELONGINGS:
        connection.execute(
            update(table)
            .where(among(table.c.image_id, images), table.c.deleted.is_(False))
            .values(deleted=True, deleted_at=now)
        )

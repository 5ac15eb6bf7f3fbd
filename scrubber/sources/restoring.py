"""Gives an image back in Glance's database: what ``--restore`` writes."""

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.engine import Connection

from scrubber import errors
from scrubber.model import Image, Location
from scrubber.planning import giving_back
from scrubber.sources import rows, rules
from scrubber.sources.database import DatabaseSource
from scrubber.sources.finishing import delete_belongings
from scrubber.sources.rows import State
from scrubber.sources.tables import BELONGINGS, IMAGES, LOCATIONS, PROPERTIES

_images = IMAGES.c
_locations = LOCATIONS.c


#: MySQL keeps whole seconds, and each node of a cluster has a clock of its own.
_CLOCKS_APART = datetime.timedelta(seconds=5)

#: Of an image that was given back.
_ACTIVE = State("active", False, None)


@dataclass(frozen=True, slots=True)
class Held:
    """A claim that forbids a restore.

    :param lapsed: its lease is over, but a paused scrubber may still carry it out.
    """

    location: int
    image: str
    lapsed: bool


class RestoringSource(DatabaseSource):
    """The database source of a process that restores."""

    def give_back(
        self,
        image: Image,
        back: Sequence[Location],
        leave: Sequence[Location],
        same: Callable[[Location], bool],
        since: datetime.datetime,
        lease: float,
        force: bool,
    ) -> Held | None:
        """Make an image active again with these locations, unless a scrubber holds its bytes.

        Written first and looked at again afterwards: a scrubber claims first and looks at
        the live rows afterwards, so at least one of the two sees the other.

        :param back: the locations that become active.
        :param leave: those that went as well and are lost: left to be scrubbed.
        :param same: whether another row is the same object as one of ``back``.
        :param since: before the objects were looked at, by the database's clock.
        :param lease: seconds after which a claim has lapsed.
        :param force: whether a lapsed claim is passed over.
        :returns: the claim that forbids it, None when it is done.
        :raises RestoreRefused: the image has changed since it was read.
        """

        written: list[datetime.datetime] = []

        def work(connection: Connection) -> Held | None:
            now = self._engine.now(connection).replace(microsecond=0)
            there = rows.images(connection, [image.id], lock=True).get(image.id)
            if written and there is not None and there.updated_at in written:
                return None  # an earlier attempt was committed, only its answer got lost
            _see_unchanged(there, image)
            held = self._held(connection, [*back, *leave], same, since, now, lease, force)
            if held is None:
                _see_unscrubbed(connection, image, [*back, *leave])
                _reactivate(connection, image, back, leave, now)
                written.append(now)
            return held

        held = self._engine.write(work)
        if held is not None:
            return held

        undone: list[Held] = []

        def look_again(connection: Connection) -> Held | None:
            there = rows.images(connection, [image.id], lock=True).get(image.id)
            is_active = there is not None and State.of(there) == _ACTIVE
            if undone and not is_active:
                return undone[-1]  # likewise
            now = self._engine.now(connection)
            held = self._held(connection, [], same, since, now, lease, force)
            if held is not None:
                if not is_active:
                    raise _changed(image)  # deleted again: the claim may be on its own rows
                _undo_reactivation(connection, image, [*back, *leave])
                undone.append(held)
            return held

        return self._engine.write(look_again)

    def _held(
        self,
        connection: Connection,
        own: Sequence[Location],
        same: Callable[[Location], bool],
        since: datetime.datetime,
        now: datetime.datetime,
        lease: float,
        force: bool,
    ) -> Held | None:
        """The first claim on one of the own rows, or on another row of the same object.

        Or one that is finished by now: the bytes that were seen may have gone with it.
        """
        own_ids = [location.id for location in own]
        connection.execute(
            select(_locations.id).where(_locations.id.in_(own_ids)).with_for_update()
        )
        deleted_at = func.coalesce(_locations.deleted_at, rules.EPOCH)
        is_claimed = func.coalesce(_locations.updated_at, rules.EPOCH) > deleted_at
        # A finish moves deleted_at.
        is_finished = and_(
            _locations.status == "deleted",
            deleted_at >= since - _CLOCKS_APART,
            _locations.id.not_in(own_ids),
        )
        claimed = select(*rows.LOCATION).where(
            _locations.deleted.is_(True),
            _locations.status.in_(("pending_delete", "deleted")),
            or_(is_claimed, is_finished),
        )
        age = datetime.timedelta(seconds=lease)
        for row in connection.execute(claimed):
            ended = (row.updated_at or rules.EPOCH) <= (row.deleted_at or rules.EPOCH)
            lapsed = not ended and not now - age < row.updated_at <= now + age
            if lapsed and force:
                continue
            if row.id in own_ids or same(self._reader.location(*row)):
                return Held(row.id, row.image_id, lapsed)
        return None

    def destroys_encryption_key(self, image_id: str) -> bool:
        """Whether Glance has destroyed the image's key when the image was deleted."""
        policy = select(PROPERTIES.c.id).where(
            PROPERTIES.c.image_id == image_id,
            PROPERTIES.c.name == "cinder_encryption_key_deletion_policy",
            PROPERTIES.c.value == "on_image_deletion",
        )
        return self._engine.read(lambda c: c.execute(policy).first() is not None)


def _see_unchanged(now: Image | None, seen: Image) -> None:
    if now is None or State.of(now) != State.of(seen):
        raise _changed(seen)


def _changed(image: Image) -> errors.RestoreRefused:
    return errors.RestoreRefused(f"image {image.id} has just been changed by somebody: try again")


def _see_unscrubbed(connection: Connection, image: Image, seen: Sequence[Location]) -> None:
    """A row that was finished since it was read looks like that of a late copy.

    :raises RestoreRefused: one is not as it was read.
    """
    query = select(_locations.id, _locations.status, _locations.deleted_at)
    ids = [location.id for location in seen]
    now = {row.id: row for row in connection.execute(query.where(_locations.id.in_(ids)))}
    for location in seen:
        row = now.get(location.id)
        if row is None or (row.status, row.deleted_at) != (location.status, location.deleted_at):
            raise errors.RestoreRefused(f"image {image.id} has just been scrubbed")


def _reactivate(
    connection: Connection,
    image: Image,
    back: Sequence[Location],
    leave: Sequence[Location],
    now: datetime.datetime,
) -> None:
    its = update(LOCATIONS).where(_locations.image_id == image.id)
    connection.execute(
        its.where(_locations.id.in_([location.id for location in back])).values(
            status="active", deleted=False, deleted_at=None, updated_at=now
        )
    )
    # A late copy that is not whole becomes a removed location, so that it is scrubbed.
    connection.execute(
        its.where(_locations.id.in_([location.id for location in leave])).values(
            status="pending_delete"
        )
    )
    connection.execute(
        update(IMAGES)
        .where(_images.id == image.id)
        .values(status="active", deleted=False, deleted_at=None, updated_at=now)
    )
    if window := giving_back.went_between(image, [*back, *leave]):
        for table in BELONGINGS:
            connection.execute(
                update(table)
                .where(
                    table.c.image_id == image.id,
                    table.c.deleted.is_(True),
                    table.c.deleted_at.between(window.since, window.until),
                )
                .values(deleted=False, deleted_at=None)
            )


def _undo_reactivation(connection: Connection, image: Image, seen: Sequence[Location]) -> None:
    """Everything as it was read before."""
    for location in seen:
        connection.execute(
            update(LOCATIONS)
            .where(_locations.id == location.id)
            .values(
                status=location.status,
                deleted=True,
                deleted_at=location.deleted_at,
                updated_at=location.deleted_at,
            )
        )
    connection.execute(
        update(IMAGES)
        .where(_images.id == image.id)
        .values(status=image.status, deleted=image.deleted, deleted_at=image.deleted_at)
    )
    if window := giving_back.went_between(image, seen):
        delete_belongings(connection, [image.id], window.until)

"""What must hold whatever happens: a database beside its store, each violation by name.

Three questions, since not all is promised at any moment: ``broken`` is asked at any time,
``left`` once all is over, ``repeated`` where each location is to be deleted once.
"""

import enum
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import sqlalchemy as sa

from lab.databases import Database

_ROWS = sa.text(
    "SELECT i.id, i.status, i.size, l.value, l.status AS of_location "
    "FROM images i LEFT JOIN image_locations l ON l.image_id = i.id"
)


class Kind(enum.Enum):
    """What can be violated; the value is how it reads."""

    RECORDED_BUT_THERE = "its row says deleted, and its bytes are there"
    LIVE_BYTES_GONE = "it is live, and its bytes are gone"
    LIVE_ROW_CHANGED = "nobody deleted it, and its rows are not live"
    STILL_PENDING = "it is pending in the end"
    BYTES_LEFT = "no image uses these bytes in the end"
    DELETED_AGAIN = "it was deleted more than once"
    NEVER_DELETED = "it was never deleted"
    TOO_EARLY = "it was scrubbed or restored too early"
    MISCOUNTED = "that is what the reports count, and it is not so"
    IDLE = "it stood idle while there was work"
    RUN_FAILED = "it failed, or found a defect in itself"
    RACE_LOST = "one order of steps in which a promise is not kept"
    NOT_FOUND = "a bug of that name was planted, and not found"


@dataclass(frozen=True, order=True)
class Violation:
    """What was violated, and by which image, object or run."""

    subject: str
    kind: Kind

    def __str__(self) -> str:
        return f"{self.subject}: {self.kind.value}"


class Stock(Protocol):
    """What lies in a store, seen past the programs under test."""

    def objects(self) -> Mapping[str, int]:
        """Names and sizes."""

    def name_of(self, url: str) -> str | None:
        """The object that a location names; None if it lies elsewhere."""


@dataclass(frozen=True, slots=True)
class Row:
    """An image and one of its locations in this store, or none of them.

    :param size: the image's, in bytes.
    """

    image: str
    status: str
    size: int
    name: str | None
    of_location: str | None

    @property
    def is_live(self) -> bool:
        return self.of_location == "active" and self.status not in ("pending_delete", "deleted")

    @property
    def is_recorded(self) -> bool:
        """Whether it says that the bytes are gone."""
        return "deleted" in (self.status, self.of_location)

    @property
    def is_pending(self) -> bool:
        return "pending_delete" in (self.status, self.of_location)


@dataclass(frozen=True)
class View:
    """A database and a store as they were together."""

    rows: tuple[Row, ...]
    objects: Mapping[str, int]

    @property
    def live(self) -> set[str]:
        """The names of objects that a live image uses."""
        return {row.name for row in self.rows if row.name and row.is_live}


def look(database: Database, stock: Stock) -> View:
    """See both, while programs are at work.

    Bytes go before their row is written: a row that was read before its object is looked for
    cannot be ahead of it.  What was live before that and after it was live when it was looked for.
    """
    before = list(_rows(database, stock))
    objects = stock.objects()
    after = set(_rows(database, stock))
    return View(tuple(row for row in before if not row.is_live or row in after), objects)


def _rows(database: Database, stock: Stock) -> Iterator[Row]:
    with database.engine.connect() as connection:
        for image, status, size, url, of_location in connection.execute(_ROWS):
            name = stock.name_of(url) if url is not None else None
            if url is None or name is not None:
                yield Row(image, status, size or 0, name, of_location)


# The questions ----------------------------------------------------------------------------


def broken(view: View, kept: Collection[str] = ()) -> list[Violation]:
    """What must not be at any moment.

    :param kept: images that nobody has deleted, whatever their rows say.
    """
    found = {*_recorded_but_there(view), *_live_bytes_gone(view), *_live_rows_changed(view, kept)}
    return sorted(found, key=str)


def left(view: View, kept: Collection[str] = ()) -> list[Violation]:
    """What must not be once every deleted image should be scrubbed; ``broken`` included."""
    used = view.live
    found = {Violation(row.image, Kind.STILL_PENDING) for row in view.rows if row.is_pending}
    found |= {Violation(name, Kind.BYTES_LEFT) for name in view.objects if name not in used}
    return sorted({*broken(view, kept), *found}, key=str)


def repeated(deletes: Mapping[str, int], wanted: Collection[str]) -> list[Violation]:
    """What was not deleted exactly once.

    :param deletes: how often each object was deleted, counted at the store.
    :param wanted: the objects that were to be deleted.
    """
    times = Counter(dict.fromkeys(wanted, 0))
    times.update(deletes)
    kinds = {
        name: Kind.DELETED_AGAIN if count else Kind.NEVER_DELETED
        for name, count in times.items()
        if count != 1
    }
    return sorted((Violation(name, kind) for name, kind in kinds.items()), key=str)


def _recorded_but_there(view: View) -> Iterator[Violation]:
    # Bytes that another row still names are that row's: the first is finished without them.
    others = {row.name for row in view.rows if not row.is_recorded}
    for row in view.rows:
        if row.is_recorded and row.name in view.objects and row.name not in others:
            yield Violation(row.image, Kind.RECORDED_BUT_THERE)


def _live_bytes_gone(view: View) -> Iterator[Violation]:
    for row in view.rows:
        if row.is_live and row.name and view.objects.get(row.name, -1) < row.size:
            yield Violation(row.image, Kind.LIVE_BYTES_GONE)


def _live_rows_changed(view: View, kept: Collection[str]) -> Iterator[Violation]:
    live = {row.image for row in view.rows if row.is_live}
    for image in kept:
        if image not in live:
            yield Violation(image, Kind.LIVE_ROW_CHANGED)

"""The values that pass between the stages: frozen, plain, free of I/O.

Times are naive UTC datetimes, as Glance's tables keep them; sizes are bytes.
"""

import datetime
import enum
from collections.abc import Sequence
from dataclasses import dataclass, field

from scrubber import errors


class Kind(enum.Enum):
    """Why an image is a candidate (the kinds of design, one rule each in planning/due.py)."""

    DELETED = "deleted image"
    RETIRED = "image marked for deletion"
    HALF_DELETED = "half-deleted image"
    REMOVED = "location removed from a live image"
    LEFTOVER = "location left behind by a deleted image"
    WRECK = "wreck"
    TORN = "image torn between update and deletion"

    @property
    def is_whole(self) -> bool:
        """The image itself is to go, not only some of its locations."""
        return self in (Kind.DELETED, Kind.RETIRED, Kind.HALF_DELETED)


class Outcome(enum.Enum):
    """What became of one location in one run; the values are the report's keys."""

    DELETED = "deleted"
    GONE = "gone"
    TRASHED = "trashed"
    REQUESTED = "requested"
    SHARED = "shared"
    EXTERNAL = "external"
    FAILED = "failed"
    REFUSED = "refused"
    WAITING = "waiting"
    LOST = "lost"

    # Each is one object, and Enum's own costs more than what is counted by it.
    __hash__ = object.__hash__

    @property
    def done(self) -> bool:
        """Nothing is left to delete: the row may be finished."""
        return self in _DONE

    @property
    def left(self) -> bool:
        """Something stays behind that this run should have removed."""
        return self in _LEFT


_DONE = frozenset(
    {
        Outcome.DELETED,
        Outcome.GONE,
        Outcome.TRASHED,
        Outcome.REQUESTED,
        Outcome.SHARED,
        Outcome.EXTERNAL,
    }
)
_LEFT = frozenset({Outcome.FAILED, Outcome.REFUSED, Outcome.WAITING})


@dataclass(frozen=True, slots=True)
class Image:
    """One row of Glance's ``images``, the columns scrubber needs.

    ``created_at`` and ``updated_at`` may be None where ``deleted_at`` is not.
    """

    id: str
    owner: str | None
    status: str
    deleted: bool
    size: int | None
    created_at: datetime.datetime | None
    updated_at: datetime.datetime | None
    deleted_at: datetime.datetime | None

    @property
    def went_at(self) -> datetime.datetime:
        """When it was deleted, as well as its row can tell."""
        return self.deleted_at or self.updated_at or self.created_at or datetime.datetime.min


@dataclass(frozen=True, slots=True)
class Location:
    """One row of ``image_locations``; ``url`` is decrypted and may hold credentials.

    ``problem`` says why the row cannot be read (undecryptable URL, odd metadata);
    then ``url`` is empty and nothing may be deleted for it.
    """

    id: int
    image_id: str
    url: str = field(repr=False)
    store: str | None
    status: str
    created_at: datetime.datetime | None
    updated_at: datetime.datetime | None
    deleted_at: datetime.datetime | None
    problem: str | None = None

    @property
    def went_at(self) -> datetime.datetime:
        """When it was removed or its image deleted, as well as its row can tell."""
        return self.deleted_at or self.updated_at or self.created_at or datetime.datetime.min


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why nothing of an image may be deleted now: WAITING goes by itself, REFUSED does not."""

    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """An image with the locations that may be deleted, oldest row first.

    ``siblings`` are the live locations of the same image (removed locations only).
    """

    image: Image
    kind: Kind
    locations: tuple[Location, ...]
    siblings: tuple[Location, ...] = ()
    obstacle: Obstacle | None = None


@dataclass(frozen=True, slots=True)
class Backlog:
    """Deleted images that wait: how many, their bytes, and seconds since the first was deleted."""

    images: int = 0
    bytes: int = 0
    oldest: float | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """How an operator narrowed a run; empty means all."""

    images: frozenset[str] = frozenset()
    stores: frozenset[str] = frozenset()
    owners: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Target:
    """What a driver is asked to delete: the URL of one location.

    ``size`` is that of its image, for stores that do not say what a delete freed.
    """

    url: str = field(repr=False)
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Deleted:
    """The store deleted the object; ``bytes_freed`` is what that gave back, 0 if unknown."""

    bytes_freed: int


@dataclass(frozen=True, slots=True)
class Trashed:
    """The store put the object into its trash: nobody finds it any more, its space is not free."""


@dataclass(frozen=True, slots=True)
class Requested:
    """Somebody else was told to delete the object, and may do so later; nothing is free yet."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a store says of an object that is there; None where it does not say.

    ``fingerprint`` is equal for two locations only if they are the same object.
    """

    size: int | None
    modified_at: datetime.datetime | None
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of one location in one run: a line of the audit trail.

    :param run: the run's id, as in its report.
    :param image: the image's id.
    :param location: the number of the location's row.
    :param size: bytes of the image, None if Glance does not know.
    :param reason: why it is left, empty where nothing is.
    :param attempts: how often it has failed by now, over all runs.
    :param seconds: the store call's, shared by the locations of its batch; 0 without a call.
    """

    run: str
    image: str
    owner: str | None
    store: str
    location: int
    size: int | None
    outcome: Outcome
    reason: str
    attempts: int
    seconds: float


Answer = Deleted | Trashed | Requested | errors.StoreError
Answers = Sequence[Answer]
Look = Found | errors.StoreError
Looks = Sequence[Look]

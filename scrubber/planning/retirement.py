"""Which images are to go through Glance's API: those with a tag; and what stands against it."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from scrubber.model import Kind, Obstacle, Outcome

#: Set on an image while Glance imports into it, or copies it to other stores.
_IMPORT_MARKS = ("os_glance_import_task", "os_glance_importing_to_stores")

#: In any other status Glance is writing, or about to write, the image's bytes.
_AT_REST = ("active", "deactivated", "queued", "killed", "pending_delete")

_PROTECTED = Obstacle(
    Outcome.REFUSED, "the image is protected: take its protection away, or the tag"
)
_IMPORTING = Obstacle(Outcome.WAITING, "Glance is importing into the image")


@dataclass(frozen=True, slots=True)
class ApiImage:
    """An image as Glance's API shows it; times are naive UTC.

    :param stores: the stores that hold a copy, each once; empty where Glance has only one store.
    :param properties: everything that is not an attribute of every image.
    """

    id: str
    owner: str | None
    name: str | None
    status: str
    visibility: str
    protected: bool
    size: int | None
    created_at: datetime.datetime
    updated_at: datetime.datetime
    tags: frozenset[str] = frozenset()
    stores: tuple[str, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)

    def is_marked(self, tag: str) -> bool:
        """Whether it is to go: tagged, or its deletion was begun and not ended.

        What Glance is deleting this very moment may show as deleted.
        """
        return self.status != "deleted" and (tag in self.tags or self.is_half_deleted)

    @property
    def is_half_deleted(self) -> bool:
        return self.status == "pending_delete"

    @property
    def kind(self) -> Kind:
        return Kind.HALF_DELETED if self.is_half_deleted else Kind.RETIRED

    @property
    def steps(self) -> tuple[str, ...]:
        """The stores to take it out of, one after another; empty: it goes as a whole.

        Glance takes single copies from active images only.
        """
        return self.stores if self.status == "active" else ()


@dataclass(frozen=True, slots=True)
class Query:
    """How retire_query narrows what may go; what is None or empty narrows nothing."""

    owner: str | None = None
    visibility: str | None = None
    name: str | None = None
    size_min: int | None = None
    size_max: int | None = None
    created_before: datetime.datetime | None = None
    properties: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Query":
        """From ``name=value&name=value``; a name that is none of the above is a property's.

        :raises ValueError: it cannot be understood; the message says what.
        """
        values: dict[str, str] = {}
        for name, value in parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text)):
            if name in values:
                raise ValueError(f"{name} is there twice")
            values[name] = value
        before = values.pop("created_before", None)
        return cls(
            owner=values.pop("owner", None),
            visibility=values.pop("visibility", None),
            name=values.pop("name", None),
            size_min=_size(values.pop("size_min", None)),
            size_max=_size(values.pop("size_max", None)),
            created_before=None if before is None else _moment(before),
            properties=tuple(values.items()),
        )

    def matches(self, image: ApiImage) -> bool:
        """Whether the image is among those that may go."""
        wanted = (
            (self.owner, image.owner),
            (self.visibility, image.visibility),
            (self.name, image.name),
            *((value, image.properties.get(name)) for name, value in self.properties),
        )
        return (
            all(value is None or value == found for value, found in wanted)
            and (self.size_min is None or (image.size or 0) >= self.size_min)
            and (self.size_max is None or (image.size or 0) <= self.size_max)
            and (self.created_before is None or image.created_at < self.created_before)
        )

    @property
    def filters(self) -> dict[str, str]:
        """What of it Glance's own listing understands."""
        known = {
            "owner": self.owner,
            "visibility": self.visibility,
            "name": self.name,
            "size_min": self.size_min,
            "size_max": self.size_max,
        }
        texts = {name: str(value) for name, value in known.items() if value is not None}
        return texts | dict(self.properties)


def obstacle(image: ApiImage) -> Obstacle | None:
    """Why a marked image may not be deleted now."""
    if image.is_half_deleted:
        return None
    if image.protected:
        return _PROTECTED
    if image.status not in _AT_REST:
        return Obstacle(Outcome.WAITING, f"Glance is at work on the image (status {image.status})")
    if any(image.properties.get(mark) for mark in _IMPORT_MARKS):
        return _IMPORTING
    return None


def _size(text: str | None) -> int | None:
    if text is not None and not text.isdigit():
        raise ValueError(f"a size is a number of bytes, not {text!r}")
    return None if text is None else int(text)


def _moment(text: str) -> datetime.datetime:
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"created_before is a date as 2026-01-31, not {text!r}") from None
    if moment.tzinfo is not None:
        moment = moment.astimezone(datetime.UTC).replace(tzinfo=None)
    return moment

"""The contract of a retry ledger."""

import datetime
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from scrubber.planning.retry import Patience, Trouble


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """A location: its number alone is not unique where several clouds share a ledger."""

    image: str
    location: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A location that could not be deleted; ``size`` is its image's, in bytes."""

    location: int
    image: str
    store: str
    owner: str | None
    size: int | None
    trouble: Trouble

    @property
    def key(self) -> Key:
        return Key(self.image, self.location)

    def as_dict(self, patience: Patience) -> dict[str, Any]:
        """For scripts."""
        trouble = self.trouble
        return {
            "image": self.image,
            "location": self.location,
            "store": self.store,
            "owner": self.owner,
            "size": self.size,
            "attempts": trouble.attempts,
            "parked": trouble.is_parked(patience),
            "first_failed_at": iso(trouble.first_failed_at),
            "last_error": trouble.last_error,
            "next_try_at": iso(trouble.next_try_at),
        }


def iso(moment: datetime.datetime) -> str:
    """``2026-01-31T12:00:00Z``"""
    return moment.replace(microsecond=0).isoformat() + "Z"


class Ledger(Protocol):
    """Remembers what could not be deleted; times are naive UTC.

    What it keeps of a text is what a database can hold: NULs and lone surrogates as escapes,
    a long error cut short.

    :raises StateUnavailable: every method, unless the ledger does without its database.
    """

    def of(self, keys: Collection[Key]) -> dict[int, Entry]:
        """What is remembered of these, by location id; of most locations nothing is."""
        ...

    def record(self, entries: Collection[Entry]) -> None:
        """Remember all of these or, if that fails, none; each takes the place of its former one."""
        ...

    def forget(self, keys: Collection[Key]) -> None:
        """They are gone; those that nobody remembers too."""
        ...

    def entries(self, store: str | None = None, image: str | None = None) -> Iterator[Entry]:
        """Those of a store or an image, or all; the oldest trouble first."""
        ...

    def retry(
        self, now: datetime.datetime, image: str | None = None, store: str | None = None
    ) -> int:
        """Make those of a store or an image, or all, due now; returns how many they are."""
        ...

    def close(self) -> None: ...


class NoLedger:
    """Remembers nothing."""

    def of(self, keys: Collection[Key]) -> dict[int, Entry]:  # noqa: ARG002
        return {}

    def record(self, entries: Collection[Entry]) -> None: ...

    def forget(self, keys: Collection[Key]) -> None: ...

    def entries(
        self,
        store: str | None = None,  # noqa: ARG002 - callers may name it
        image: str | None = None,  # noqa: ARG002
    ) -> Iterator[Entry]:
        return iter(())

    def retry(
        self,
        now: datetime.datetime,  # noqa: ARG002
        image: str | None = None,  # noqa: ARG002
        store: str | None = None,  # noqa: ARG002
    ) -> int:
        return 0

    def close(self) -> None: ...

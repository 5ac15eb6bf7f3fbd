"""A ledger in memory that passes the contract of ledgers."""

import dataclasses
import datetime
from collections.abc import Collection, Iterator

from scrubber.state.base import Entry, Key


class FakeLedger:
    """``kept`` outlives it, as a database would."""

    def __init__(self, kept: dict[Key, Entry] | None = None) -> None:
        self.kept = {} if kept is None else kept

    def of(self, keys: Collection[Key]) -> dict[int, Entry]:
        return {key.location: self.kept[key] for key in keys if key in self.kept}

    def record(self, entries: Collection[Entry]) -> None:
        self.kept.update((entry.key, _storable(entry)) for entry in entries)

    def forget(self, keys: Collection[Key]) -> None:
        for key in keys:
            self.kept.pop(key, None)

    def entries(self, store: str | None = None, image: str | None = None) -> Iterator[Entry]:
        found = [entry for entry in self.kept.values() if _matches(entry, store, image)]
        return iter(sorted(found, key=lambda entry: (entry.trouble.first_failed_at, entry.key)))

    def retry(
        self, now: datetime.datetime, image: str | None = None, store: str | None = None
    ) -> int:
        found = list(self.entries(store, image))
        for entry in found:
            trouble = dataclasses.replace(entry.trouble, next_try_at=now)
            self.kept[entry.key] = dataclasses.replace(entry, trouble=trouble)
        return len(found)

    def close(self) -> None: ...


def _matches(entry: Entry, store: str | None, image: str | None) -> bool:
    return store in (None, entry.store) and image in (None, entry.image)


def _storable(entry: Entry) -> Entry:
    trouble = entry.trouble
    said = trouble.last_error.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
    if len(said) > 1000:
        said = said[:999] + "…"
    attempts = min(trouble.attempts, 2**31 - 1)
    trouble = dataclasses.replace(trouble, attempts=attempts, last_error=said)
    return dataclasses.replace(entry, trouble=trouble)

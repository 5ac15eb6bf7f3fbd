"""Which bytes a live image uses: identities, and the index of those that are live."""

import datetime
import hashlib
import heapq
import re
from array import array
from bisect import bisect_left
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice

from scrubber import errors
from scrubber.model import Found, Location, Look

#: So many pairs are sorted in one go: as Python's numbers they are three times as large.
_RUN = 50_000

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class LiveIndex:
    """Which live locations an identity may belong to.

    Sixteen bytes for each identity, whatever its length: a million live locations must
    fit beside the rest.  Hashes of 64 bits can collide, so an answer is a question to the
    source: is that location still live?
    """

    def __init__(self) -> None:
        self._hashes = array("Q")
        self._locations = array("q")
        self._later: dict[int, list[int]] = {}

    @classmethod
    def of(cls, entries: Iterable[tuple[str, int]]) -> "LiveIndex":
        """From pairs of identity and location id."""
        return cls.of_packed(pack(identity, location) for identity, location in entries)

    @classmethod
    def of_packed(cls, entries: Iterable[int]) -> "LiveIndex":
        """From what ``pack`` makes of such pairs."""
        index, left = cls(), iter(entries)
        runs: list[zip[tuple[int, int]]] = []
        while some := sorted(islice(left, _RUN)):
            hashes = array("Q", (entry >> 64 for entry in some))
            locations = array("q", (entry & 0xFFFFFFFFFFFFFFFF for entry in some))
            runs.append(zip(hashes, locations, strict=True))
        for hashed, location in heapq.merge(*runs):
            index._hashes.append(hashed)
            index._locations.append(location)
        return index

    def add(self, identity: str, location: int) -> None:
        self._later.setdefault(_hash(identity), []).append(location)

    def users(self, identity: str) -> list[int]:
        """Ids of locations that may be of this identity; empty means certainly none."""
        if not self._hashes and not self._later:
            return []
        wanted, found = _hash(identity), list[int]()
        position = bisect_left(self._hashes, wanted)
        while position < len(self._hashes) and self._hashes[position] == wanted:
            found.append(self._locations[position])
            position += 1
        return found + self._later.get(wanted, [])

    def __len__(self) -> int:
        return len(self._hashes) + sum(map(len, self._later.values()))


def pack(identity: str, location: int) -> int:
    """A pair as one number: smaller than its text, while very many are collected."""
    return _hash(identity) << 64 | location


def _hash(identity: str) -> int:
    text = identity.encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def foreign_images(identity: str, own: str) -> set[str]:
    """Images, other than its own, whose id occurs in an identity.

    Glance names objects after images: one that is being uploaded has no location yet.
    """
    where = identity.removesuffix(own)
    if where.endswith("/") and not _names_images(where):
        return set()  # as Glance names objects
    found = set(_UUID.findall(identity)) - {own}
    # Databases differ in whether case matters, users in which they write.
    return found | {image.lower() for image in found} - {own}


# All objects of a store are in few places.
@lru_cache(maxsize=100)
def _names_images(place: str) -> bool:
    return _UUID.search(place) is not None


def hindrance(removed: Location, found: Look, siblings: Iterable[Look]) -> str | None:
    """Why the object of a location removed from a live image must stay; None if it may go.

    Glance may have uploaded the same name again, or hold the same object under another
    store id of the same image.

    :param found: what the store says of the removed location's object.
    :param siblings: what it says of the live locations' objects.
    """
    if isinstance(found, errors.Gone | errors.Refused | errors.Unsupported):
        return None  # nothing there, or the delete itself will say why not
    if not isinstance(found, Found):
        return f"the object cannot be looked at, and may have been written again: {found}"
    if found.modified_at is None:
        return "the store does not say when the object was written: it may have been written again"
    if found.modified_at > removed.went_at + datetime.timedelta(seconds=1):
        return "the object is newer than its removal: it was uploaded again"
    for sibling in siblings:
        if isinstance(sibling, Found):
            if sibling.fingerprint == found.fingerprint:
                return "the object is that of another, live location of the image"
        elif not isinstance(sibling, errors.Gone):
            return "another, live location of the image cannot be looked at: it may be the same"
    return None


def alias_hindrance(found: Look, others: Iterable[Look]) -> str | None:
    """Why an object must stay whose name is a live one's in another store; None if it may go.

    :param found: what its own store says of it.
    :param others: what the other stores say of theirs.
    """
    if isinstance(found, errors.Gone):
        return None
    for other in others:
        if isinstance(other, errors.Gone):
            continue
        if not isinstance(found, Found) or not isinstance(other, Found):
            return "it may be a live image's in another store: one of the two cannot be looked at"
        if other.fingerprint == found.fingerprint:
            return "it is a live image's in another store, which names the same server otherwise"
    return None

"""What live images use: read once per run, kept current, asked before every delete."""

import logging
import random
from collections.abc import Callable, Iterable, Iterator, Sequence

from scrubber import errors, pool
from scrubber.model import Location
from scrubber.planning import safety
from scrubber.planning.proof import CANARIES
from scrubber.sources.base import LiveLocation, Source
from scrubber.stores import base
from scrubber.stores.registry import Stores

LOG = logging.getLogger(__name__)


class LiveReferences:
    """The identities of all live locations, and a few locations to prove each store by.

    :param tolerate: whether a live location that cannot be read is passed over.
    """

    def __init__(self, source: Source, stores: Stores, tolerate: Callable[[], bool]) -> None:
        self._source = source
        self._stores = stores
        self._tolerate = tolerate
        self._index: safety.LiveIndex | None = None
        self._canaries: dict[str, _Sample] = {}

    def load(self, page_size: int) -> None:
        """Read all of them, the first time it is called.

        :raises UnreadableLive: one cannot be read, and that is not tolerated.
        """
        if self._index is not None:
            return
        self._index = safety.LiveIndex.of(
            entry
            for page in self._source.live_locations(page_size)
            for entry in self._entries(page)
        )
        LOG.debug("Read %d identities of live locations.", len(self._index))

    def refresh(self) -> None:
        """Add what has become live since; before every delete."""
        assert self._index is not None, "load comes first"
        for identity, location in self._entries(self._source.live_since()):
            self._index.add(identity, location)

    def canaries(self, driver: base.Driver) -> list[Location]:
        """Some live locations of that store."""
        sample = self._canaries.get(driver.store)
        return list(sample.kept) if sample else []

    def used(self, identities: Iterable[str]) -> frozenset[str]:
        """Those of these identities that a live location has."""
        assert self._index is not None, "load comes first"
        users = {
            identity: found for identity in identities if (found := self._index.users(identity))
        }
        if not users:
            return frozenset()
        suspects = {location for found in users.values() for location in found}
        live = self._source.still_live(suspects)
        return frozenset(
            identity for identity, found in users.items() if not live.isdisjoint(found)
        )

    def being_written(self, identities: Sequence[tuple[str, str]]) -> frozenset[str]:
        """Those of the identities, each with its own image's id, that Glance may be writing."""
        foreign = {
            identity: images
            for identity, own in identities
            if (images := safety.foreign_images(identity, own))
        }
        if not foreign:
            return frozenset()
        busy = self._source.busy_images({image for images in foreign.values() for image in images})
        return frozenset(
            identity for identity, images in foreign.items() if not busy.isdisjoint(images)
        )

    def _entries(self, page: list[LiveLocation]) -> Iterator[tuple[str, int]]:
        """Pairs of identity and location id; several identities where a URL is ambiguous."""
        readable = [live for live in page if self._is_readable(live.location)]
        urls = [live.location.url for live in readable]
        for driver, numbers in self._stores.readers(urls).items():
            asked = [urls[number] for number in numbers]
            mentions = (
                pool.blocking(driver.mentions, asked)
                if driver.abilities.blocks
                else driver.mentions(asked)
            )
            for number, identities in zip(numbers, mentions, strict=True):
                for identity in identities:
                    yield identity, readable[number].location.id
        for live in readable:
            if live.proves_store:
                self._consider_as_canary(live.location)

    def _is_readable(self, location: Location) -> bool:
        if location.url:
            return True
        if not self._tolerate():
            raise errors.UnreadableLive(
                f"live location {location.id} of image {location.image_id} cannot be read: "
                f"{location.problem}; correct metadata_encryption_key in section [DEFAULT], or set "
                "unreadable_live = ignore in section [scrubber]"
            )
        return False

    def _consider_as_canary(self, location: Location) -> None:
        store = location.store
        if store not in self._stores.drivers:
            try:
                store = self._stores.holder(location).store
            except errors.StoreError:
                return
        self._canaries.setdefault(store, _Sample()).consider(location)


class _Sample:
    """A few locations, each as likely as any other (reservoir sampling)."""

    def __init__(self) -> None:
        self.kept: list[Location] = []
        self._seen = 0

    def consider(self, location: Location) -> None:
        self._seen += 1
        if len(self.kept) < CANARIES:
            self.kept.append(location)
        elif (place := random.randrange(self._seen)) < CANARIES:
            self.kept[place] = location

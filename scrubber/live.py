"""What live images use: read once per run, kept current, asked before every delete."""

import logging
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import starmap

from scrubber import errors, pool
from scrubber.model import Location
from scrubber.planning import safety
from scrubber.planning.due import Ages, due
from scrubber.planning.proof import CANARIES
from scrubber.sources.base import LiveLocation, Source
from scrubber.stores import base, uri
from scrubber.stores.call import call_anyway
from scrubber.stores.registry import Stores

LOG = logging.getLogger(__name__)


class LiveReferences:
    """The identities of all live locations, and a few locations to prove each store by.

    Those of pending locations are in it, too: a restore can make one live in mid-run.

    :param tolerate: whether a live location that cannot be read is passed over.
    :param call_timeout: seconds for a store to say what URLs stand for.
    :param ages: how long what is pending can still come back.
    """

    def __init__(
        self,
        source: Source,
        stores: Stores,
        tolerate: Callable[[], bool],
        call_timeout: Callable[[], float],
        ages: Callable[[], Ages],
    ) -> None:
        self._source = source
        self._stores = stores
        self._tolerate = tolerate
        self._call_timeout = call_timeout
        self._ages = ages
        self._index: safety.LiveIndex | None = None
        self._aliases = safety.LiveIndex()
        self._canaries = Canaries(stores)
        self._hidden: dict[str, str] = {}
        self._one_at_a_time = pool.Lock()
        self._failure: Exception | None = None

    def load(self, page_size: int) -> None:
        """Read all of them, the first time it is called; the stores know their names by now.

        :raises UnreadableLive: one cannot be read, and that is not tolerated.
        """
        with self._one_at_a_time:
            if self._index is None:
                aliases: list[int] = []
                self._index = safety.LiveIndex.of(self._all_entries(page_size, aliases))
                self._aliases = safety.LiveIndex.of_packed(aliases)
                LOG.debug("Read %d identities of locations.", len(self._index))

    def _all_entries(self, page_size: int, aliases: list[int]) -> Iterator[tuple[str, int]]:
        for page in pool.ahead(self._source.live_locations(page_size)):
            yield from self._live_entries(page)
            aliases += starmap(safety.pack, self._alias_entries([live.location for live in page]))
        for locations in pool.ahead(self._source.pending_locations(page_size)):
            yield from self._entries([at for at in locations if at.url])
            aliases += starmap(safety.pack, self._alias_entries(locations))

    def refresh(self) -> None:
        """Add what has become live since; before every delete.

        One at a time: who comes second must wait until the first has added what it read.
        """
        with self._one_at_a_time:
            if self._failure is not None:
                raise self._failure
            try:
                new = self._source.live_since()
                for identity, location in self._live_entries(new):
                    self._loaded.add(identity, location)
                for identity, location in self._alias_entries([live.location for live in new]):
                    self._aliases.add(identity, location)
            except errors.SourceUnavailable:
                raise  # nothing was read, so nothing is lost
            except Exception as failure:
                self._failure = failure  # what was read is not known: nobody may go on
                raise

    @property
    def _loaded(self) -> safety.LiveIndex:
        assert self._index is not None, "load comes first"
        return self._index

    def canaries(self, driver: base.Driver) -> dict[str, list[Location]]:
        """Some live locations of that store, by root."""
        return self._canaries.of(driver)

    def used(self, pieces: Iterable[tuple[str, int]]) -> frozenset[str]:
        """Those of these identities, each with its own location id, that another one still needs.

        That is a live one, or one that is pending and not yet due: a restore can bring it back.
        """
        users = {
            identity: found
            for identity, own in pieces
            if (found := [user for user in self._loaded.users(identity) if user != own])
        }
        if not users:
            return frozenset()
        others = {location for found in users.values() for location in found}
        needed = self._source.still_live(others)
        needed |= self._not_due(others - needed)
        return frozenset(at for at, found in users.items() if not needed.isdisjoint(found))

    def aliases(self, identity: str, own: int) -> list[Location]:
        """Live locations of that name in another store of the same type.

        They are other objects, unless two names of servers are one, or a store could not say
        what its names lead to.
        """
        found = [user for user in self._aliases.users(identity) if user != own]
        return self._source.live_among(found) if found else []

    def _not_due(self, locations: set[int]) -> frozenset[int]:
        pending = self._source.pending_among(locations) if locations else []
        if not pending:
            return frozenset()
        ages, now = self._ages(), self._source.now()
        return frozenset(
            candidate.locations[0].id for candidate in pending if due(candidate, ages, now) is None
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

    def _live_entries(self, page: list[LiveLocation]) -> Iterator[tuple[str, int]]:
        readable = [live for live in page if self._is_readable(live.location)]
        yield from self._entries([live.location for live in readable])
        for live in readable:
            if live.proves_store:
                self._canaries.consider(live.location)

    def _entries(self, locations: list[Location]) -> Iterator[tuple[str, int]]:
        """Pairs of identity and location id; several identities where a URL is ambiguous."""
        yield from self._mentioned(self._stores.readers(locations))

    def _alias_entries(self, locations: list[Location]) -> Iterator[tuple[str, int]]:
        """The same, by drivers to which the URL is another server's."""
        yield from self._mentioned(self._stores.others([at for at in locations if at.url]))

    def _mentioned(self, readers: dict[base.Driver, list[Location]]) -> Iterator[tuple[str, int]]:
        for driver, mine in readers.items():
            urls = [location.url for location in mine]
            try:
                mentions = call_anyway(driver, driver.mentions, urls, timeout=self._call_timeout())
            except errors.Unavailable as unavailable:
                self._hide(driver, str(unavailable))
                continue
            for location, identities in zip(mine, mentions, strict=True):
                for identity in identities:
                    yield identity, location.id

    def _hide(self, driver: base.Driver, reason: str) -> None:
        LOG.warning(
            "Nobody can say what live locations in store %s are: %s. Nothing is deleted whose "
            "URL has the same scheme.",
            driver.store,
            reason,
        )
        why = f"it may be a live object of store {driver.store}, which does not answer: {reason}"
        for scheme in driver.abilities.schemes:
            self._hidden.setdefault(scheme, why)

    def hindrance(self, url: str) -> str | None:
        """Why nobody can say in this run whether a live image uses it; None if that is known."""
        return self._hidden.get(uri.scheme(url) or "") if self._hidden else None

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


class Canaries:
    """A few live locations of each root of each store, to prove it by."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._samples: dict[str, dict[str, _Sample]] = {}

    def consider(self, location: Location) -> None:
        """It may become one; not if no store holds it."""
        try:
            driver = self._stores.holder(location)
            root = driver.root(location.url)
        except errors.StoreError:
            return
        self._samples.setdefault(driver.store, {}).setdefault(root, _Sample()).consider(location)

    def of(self, driver: base.Driver) -> dict[str, list[Location]]:
        """Those of that store, by root."""
        samples = self._samples.get(driver.store, {})
        return {root: list(sample.kept) for root, sample in samples.items()}


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

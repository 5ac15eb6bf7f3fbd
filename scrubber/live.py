"""What live images use: read once per run, kept current, asked before every delete."""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import starmap

from scrubber import errors, pool
from scrubber.canaries import Canaries
from scrubber.model import Location
from scrubber.planning import safety
from scrubber.planning.due import Ages, due
from scrubber.planning.naming import Namings, named_image
from scrubber.sources.base import Reference, Source
from scrubber.stores import base, uri
from scrubber.stores.call import call_anyway
from scrubber.stores.registry import Stores
from scrubber.work import Piece

LOG = logging.getLogger(__name__)


class LiveReferences:
    """Which live locations an object belongs to, and a few of them to prove each store by.

    Pending locations count, too: a restore can make one live in mid-run.  Most objects are named
    after their images, and are found by these; an index has the identities of all others.

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
        self._namings = Namings()
        self._index: safety.LiveIndex | None = None
        self._aliases = safety.LiveIndex()
        self._canaries = Canaries(stores, source.images)
        self._hidden: dict[str, str] = {}
        self._one_at_a_time = pool.Lock()
        self._failure: Exception | None = None

    def load(self, page_size: int) -> None:
        """Read what has to be, the first time it is called; the stores know their names by now.

        :raises UnreadableLive: a live one cannot be read, and that is not tolerated.
        """
        with self._one_at_a_time:
            if self._index is None:
                aliases: list[int] = []
                self._index = safety.LiveIndex.of(self._all_entries(page_size, aliases))
                self._aliases = safety.LiveIndex.of_packed(aliases)
                LOG.debug(
                    "Read %d identities of locations; %d rules say what the others are.",
                    len(self._index),
                    len(self._namings.known),
                )

    def _all_entries(self, page_size: int, aliases: list[int]) -> Iterator[tuple[str, int]]:
        pages = self._source.references(page_size, lambda: self._namings.known)
        for page in pool.ahead(pages):
            locations = self._readable(page)
            yield from self._entries(locations)
            aliases += starmap(safety.pack, self._alias_entries(locations))
            for reference in page:
                if (naming := reference.naming) is not None:
                    self._namings.consider(naming, partial(self._is_named, reference.location))

    def _is_named(self, location: Location) -> bool:
        """Whether it is an object named after its image, whoever reads its URL."""
        readers = [*self._stores.readers([location]), *self._stores.others([location])]
        return all(self._is_named_to(driver, location) for driver in readers)

    def _is_named_to(self, driver: base.Driver, location: Location) -> bool:
        if not driver.is_plain(location.url):
            return False
        identities = {identity for identity, _ in self._mentioned({driver: [location]})}
        try:
            if identities != {driver.identify(location.url)}:
                return False  # a folder leads elsewhere: what is deleted is not what is read
        except errors.Refused:
            pass  # none of its own objects
        return all(identity.endswith(location.image_id) for identity in identities)

    def refresh(self) -> None:
        """Add what has become live since; before every delete.

        One at a time: who comes second must wait until the first has added what it read.
        """
        with self._one_at_a_time:
            if self._failure is not None:
                raise self._failure
            try:
                new = self._readable(self._source.live_since())
                for identity, location in self._entries(new):
                    self._loaded.add(identity, location)
                for identity, location in self._alias_entries(new):
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
        """Some live locations of that store, by root.

        :raises SourceUnavailable: nobody can say whether they are still live.
        """
        return self._canaries.of(driver)

    def used(self, pieces: Collection[Piece]) -> frozenset[str]:
        """Identities of those of these pieces that another location still needs.

        That is a live one, or one that is pending and not yet due: a restore can bring it back.
        """
        users = self._users(pieces, self._loaded, self._entries)
        others = {number for found in users.values() for number in found}
        if not others:
            return frozenset()
        needed = self._source.still_live(others)
        needed |= self._not_due(others - needed)
        return frozenset(at for at, found in users.items() if not needed.isdisjoint(found))

    def aliases(self, pieces: Sequence[Piece]) -> list[list[Location]]:
        """For each piece the live locations of that name in another store of the same type.

        They are other objects, unless two names of servers are one, or a store could not say
        what its names lead to.
        """
        ambiguous = self._stores.ambiguous_schemes
        doubtful = [at for at in pieces if at.store.driver.abilities.schemes & ambiguous]
        users = self._users(doubtful, self._aliases, self._alias_entries)
        others = {number for found in users.values() for number in found}
        rows = {at.id: at for at in self._source.live_among(others)} if others else {}
        return [
            [rows[number] for number in users.get(piece.identity, ()) if number in rows]
            for piece in pieces
        ]

    def _users(
        self,
        pieces: Collection[Piece],
        index: safety.LiveIndex,
        entries: Callable[[list[Location]], Iterable[tuple[str, int]]],
    ) -> dict[str, set[int]]:
        """Ids of the locations of each piece's identity that are another one's."""
        owners: dict[str, set[int]] = {}
        for piece in pieces:
            owners.setdefault(piece.identity, set()).add(piece.location.id)
        users = {identity: set(index.users(identity)) for identity in owners}
        if self._namings.known:
            for identity, number in entries(self._named_after(pieces, owners)):
                if identity in users:
                    users[identity].add(number)
        others: dict[str, set[int]] = {}
        for identity, own in owners.items():
            # Of two pieces that are one object each is the other one of the other.
            if found := users[identity] - own if len(own) == 1 else users[identity]:
                others[identity] = found
        return others

    def _named_after(
        self, pieces: Collection[Piece], owners: dict[str, set[int]]
    ) -> list[Location]:
        """The locations of the images that these objects are named after."""
        images = {image for identity in owners if (image := named_image(identity)) is not None}
        if not images:
            return []
        # Most of a batch need not be read again: if a URL is plain it means that object only,
        # and if it is not the index has it.  Another store may take it for another object.
        ambiguous = self._stores.ambiguous_schemes
        alone = {
            piece.location.id
            for piece in pieces
            if len(owners[piece.identity]) == 1
            and not (ambiguous and uri.scheme(piece.location.url) in ambiguous)
        }
        return self._source.references_of(images, alone)

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

    def _readable(self, page: list[Reference]) -> list[Location]:
        """Those with a URL; what is live of them may prove its store.

        :raises UnreadableLive: a live one has none, and that is not tolerated.
        """
        for reference in page:
            location = reference.location
            if reference.is_live and self._is_readable(location):
                self._canaries.consider(location, reference.stands_for)
        return [reference.location for reference in page if reference.location.url]

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

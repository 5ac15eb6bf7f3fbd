"""What a contender meets: a fresh database and fresh stores with so many deleted images."""

import itertools
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import backlog
from bench.places import Place, Wire
from lab.databases import Database, Server
from lab.glance import Glance
from lab.scratch import ScratchDirectory

_NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class Images:
    """How many of each kind, each with a location in every store of the scene."""

    pending: int
    live: int = 1
    tombstones: int = 0


@dataclass(frozen=True)
class Left:
    """What a contender did not do.

    :param rows: images that are still pending_delete.
    :param objects: what is in the stores beside the live images.
    """

    rows: int
    objects: int

    @property
    def nothing(self) -> bool:
        return not (self.rows or self.objects)


@dataclass
class Scene:
    """A Glance's database and stores, without the Glance.

    :param wire: the proxy in front of the store, if there is one.
    """

    glance: Glance
    places: Mapping[str, Place]
    live: int = 0
    wire: Wire | None = None
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.glance.directory / "contender.log"

    @property
    def place(self) -> Place:
        """The only one."""
        (place,) = self.places.values()
        return place

    @property
    def database(self) -> Database:
        return self.glance.database

    def add(self, images: Images) -> None:
        backlog.fill(
            self.database,
            self.places,
            pending=images.pending,
            live=images.live,
            tombstones=images.tombstones,
        )
        self.live += images.live

    def left(self) -> Left:
        objects = sum(place.count - self.live * place.objects for place in self.places.values())
        return Left(backlog.still_pending(self.database), objects)

    # What each contender reads

    def scrubber_file(self, pool: int) -> Path:
        """With all that scrubber does by default: ledger and audit trail, too."""
        directory = self.glance.directory
        return self.glance.write_scrubber_configuration(
            directory / "etc" / "scrubber.conf",
            {
                "DEFAULT": {"scrub_pool_size": pool},
                "state": {"connection": f"sqlite:///{directory / 'state.sqlite'}"},
                "scrubber": {"audit_file": directory / "audit.log"},
            },
        )

    def upstream_file(self, pool: int) -> Path:
        return self.glance.write_scrubber_configuration(
            self.glance.directory / "etc" / "glance-scrubber.conf",
            {"DEFAULT": {"scrub_pool_size": pool}},
        )

    def bare_file(self, pool: int) -> Path:
        file = self.glance.directory / "bare_loop.json"
        settings = {"database": self.database.url, "pool": pool, **self.place.bare()}
        file.write_text(json.dumps(settings))
        return file


@contextmanager
def scene(
    server: Server,
    places: Mapping[str, type[Place]],
    images: Images | None = None,
    *,
    wire: float | None = None,
) -> Iterator[Scene]:
    """A fresh one; all of it is gone afterwards.

    :param wire: the round trip in milliseconds to the only place; None without a proxy.
    """
    # A name of its own: what one contender leaves behind must not stop the next.
    database = server.create_database(f"bench_{next(_NUMBERS)}")
    with ExitStack() as stack:
        stack.callback(server.drop_database, database)
        directory = stack.enter_context(ScratchDirectory("bench-"))
        stores = {
            name: stack.enter_context(place(directory / name)) for name, place in places.items()
        }
        proxy = None
        if wire is not None:
            (place,) = stores.values()
            proxy = stack.enter_context(Wire(place.port, directory, wire))
        backends = {
            name: place.backend(proxy.port if proxy else place.port)
            for name, place in stores.items()
        }
        made = Scene(Glance(directory, database, {}, backends=backends), stores, wire=proxy)
        made.add(images or Images(0))
        yield made

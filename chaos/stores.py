"""Object stores behind a proxy that delays, cuts, truncates, repeats and refuses by chance."""

import contextlib
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from bench import backlog
from bench.places import NAME, Container, RcloneBucket
from chaos.crew import RESTLESS, Crew
from chaos.invariants import Violation
from chaos.scenario import Injected, Scenario, Site, Terms
from lab.databases import Database
from lab.s3 import Proxy, Reply, Request
from process.program import Program

IMAGES, LIVE = 60, 10

#: A request deletes so many at most: else there would be few of them.
BATCH = 5

#: Of all requests; the others pass.
SHARE = 0.15

#: The last is longer than the store is waited for.
DELAYS = (0.05, 0.1, 0.2, 0.5, 3.0)

BUSY = b"<Error><Code>SlowDown</Code></Error>"
STATUSES = (500, 502, 503, 504)

SEGMENTS = 3


# Stores, seen past the proxy ----------------------------------------------------------------


class Bucket(RcloneBucket):
    """Of a server that checks signatures."""

    title = "S3"

    def put(self, image_ids: Sequence[str]) -> None:
        # Through the server: it remembers for minutes what its directory held.
        for image_id in image_ids:
            self._server.owner.put_object(Bucket=NAME, Key=image_id, Body=b"x" * backlog.SIZE)

    def objects(self) -> Mapping[str, int]:
        found: dict[str, int] = {}
        for name in os.listdir(self._bucket):
            with contextlib.suppress(FileNotFoundError):  # it has just been deleted
                found[name] = (self._bucket / name).stat().st_size
        return found

    def name_of(self, url: str) -> str | None:
        return _name_below(self.url(""), url)


class MixedContainer(Container):
    """Every fourth image is a large object: a manifest and its segments, one object to us."""

    title = "Swift"

    def _put(self, image_id: str) -> None:
        if int(image_id[0], 16) % 4:
            super()._put(image_id)
        else:
            self._account.put_dlo(NAME, image_id, SEGMENTS, backlog.SIZE)

    def objects(self) -> Mapping[str, int]:
        sizes: Counter[str] = Counter()
        listing = self._account.request("GET", NAME, format="json")
        for found in listing.json():
            # A UUID has 36 characters; what follows is the segment's number.
            sizes[found["name"][:36]] += found["bytes"]
        return sizes

    def name_of(self, url: str) -> str | None:
        return _name_below(self.url(""), url)


def _name_below(prefix: str, url: str) -> str | None:
    return url.removeprefix(prefix) if url.startswith(prefix) else None


class Place(Protocol):
    """A store on a server of its own that speaks HTTP."""

    title: str
    kind: str
    port: int

    def objects(self) -> Mapping[str, int]: ...
    def name_of(self, url: str) -> str | None: ...
    def url(self, image_id: str) -> str: ...
    def put(self, image_ids: Sequence[str]) -> None: ...
    def options(self, port: int) -> Mapping[str, object]: ...


PLACES: Mapping[type[Bucket | MixedContainer], str] = {
    Bucket: "mariadb",
    MixedContainer: "postgresql",
}


# Faults -----------------------------------------------------------------------------------


class Trouble:
    """What becomes of requests on their way; all of it from one seed.

    :ivar counts: how often each fault struck.
    """

    def __init__(self, seed: str) -> None:
        self.counts: Counter[str] = Counter()
        self.released = threading.Event()
        self._chance = random.Random(seed)
        # Each connection has a thread.
        self._lock = threading.Lock()

    def __call__(self, _: Request, forward: Callable[[], Reply]) -> Reply | None:
        with self._lock:
            fault = self._chance.choice(list(FAULTS)) if self._chance.random() < SHARE else None
            chance = random.Random(self._chance.random())
            if fault is not None:
                self.counts[fault] += 1
        return FAULTS[fault](self, forward, chance) if fault else forward()

    def delay(self, forward: Callable[[], Reply], chance: random.Random) -> Reply | None:
        self.released.wait(chance.choice(DELAYS))
        return forward()

    def cut(self, forward: Callable[[], Reply], chance: random.Random) -> Reply | None:
        """The connection ends before the request has arrived, or before its answer has."""
        if chance.random() < 0.5:
            forward()
        return None

    def truncate(self, forward: Callable[[], Reply], _: random.Random) -> Reply | None:
        return replace(forward(), cut=True)

    def repeat(self, forward: Callable[[], Reply], chance: random.Random) -> Reply | None:
        """It arrives twice; either answer comes back."""
        return chance.choice([forward(), forward()])

    def refuse(self, forward: Callable[[], Reply], chance: random.Random) -> Reply | None:
        """An error of the server, and at times the request was carried out all the same."""
        if chance.random() < 0.3:
            forward()
        headers = {"Retry-After": "1"} if chance.random() < 0.3 else {}
        return Reply(chance.choice(STATUSES), BUSY, headers)


FAULTS = {
    "delayed": Trouble.delay,
    "cut off": Trouble.cut,
    "truncated": Trouble.truncate,
    "repeated": Trouble.repeat,
    "answered 5xx": Trouble.refuse,
}


# The scene --------------------------------------------------------------------------------


def play(site: Site, terms: Terms) -> list[Injected]:
    injected: list[Injected] = []
    for kind, server in PLACES.items():
        with site.scene() as scene, kind(scene.directory("place")) as place:
            each = Terms(terms.seed, terms.seconds / len(PLACES), terms.size)
            injected += trouble(scene, place, scene.database(server), each)
    return injected


def trouble(site: Site, place: Place, database: Database, terms: Terms) -> list[Injected]:
    """Two daemons with always something to do, until the time is over."""
    faults = Trouble(f"{terms.seed} {place.title}")
    backlog.fill(database, {NAME: place}, live=LIVE)
    kept = list(place.objects())
    found: list[Violation] = []
    with Proxy(place.port) as proxy:
        programs = [_program(site, place, database, proxy.port) for _ in range(2)]
        with Crew(programs, database, place, kept) as crew:
            with proxy.failing(faults):
                while not terms.over or not faults.counts:
                    if not crew.is_busy:
                        backlog.fill(database, {NAME: place}, pending=IMAGES)
                    found += crew.broken()
                    time.sleep(0.5)
            faults.released.set()
            seconds, rest = crew.recover()
            found += [*rest, *crew.end()]
    counts = faults.counts
    print(f"{place.title}: " + ", ".join(f"{n} {fault}" for fault, n in counts.items()), flush=True)
    fault = f"{place.title}: requests delayed, cut, repeated, refused"
    return [Injected(fault, counts.total(), tuple(found), (seconds,))]


def _program(site: Site, place: Place, database: Database, port: int) -> Program:
    program = site.program()
    program.configure(
        RESTLESS,
        {
            "scrubber": {"page_size": BATCH},
            "DEFAULT": {"enabled_backends": f"{NAME}:{place.kind}"},
            "database": {"connection": database.url},
            "state": {"connection": f"sqlite:///{program.directory}/state.sqlite"},
            NAME: place.options(port),
        },
    )
    return program


SCENARIO = Scenario(
    "stores",
    "behind a network and a server that misbehave nothing is lost, and nothing made up",
    play,
    small_seconds=16,
)

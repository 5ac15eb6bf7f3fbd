"""What a scenario is, what it is given, and what it tells."""

import itertools
import random
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from chaos.invariants import Violation
from lab.databases import Database, Server, Servers
from process.program import Program


@dataclass(frozen=True)
class Injected:
    """One kind of fault: how often it struck, and what came of it.

    :param recovered: after each time, the seconds until all was as it should be; fewer where
        nothing had to recover.
    """

    fault: str
    times: int
    violations: tuple[Violation, ...] = ()
    recovered: tuple[float, ...] = ()


@dataclass(frozen=True)
class Terms:
    """How a scenario is to be played.

    :param seed: all chance comes from it.
    :param seconds: how long faults go on; whatever happens, each of them strikes once.
    :param size: of a scene, as a part of what it is at its full size.
    """

    seed: int
    seconds: float
    size: float = 1.0
    started: float = field(default_factory=time.monotonic)

    def rounds(self) -> Iterator[random.Random]:
        """One chance after the other, at least one, until the time is over."""
        for number in itertools.count():
            yield random.Random(f"{self.seed}.{number}")
            if self.over:
                return

    def some(self, several: Sequence[str]) -> Sequence[str]:
        """All of them at full size, one of them at a smaller one."""
        return several if self.size >= 1 else [random.Random(self.seed).choice(several)]

    @property
    def over(self) -> bool:
        return time.monotonic() >= self.started + self.seconds

    def count(self, most: int, least: int = 1) -> int:
        """As many of something as this size wants, ``most`` of them at the full one."""
        return max(least, round(most * self.size))


class Site:
    """Servers, directories and programs for scenes; all that was made is gone after ``with``."""

    def __init__(self, servers: Servers, directory: Path, cache: Path) -> None:
        """:param cache: where programs keep what they found out of their entry points."""
        self.servers = servers
        self._directory = directory
        self._cache = cache
        self._numbers = itertools.count(1)
        self._stack = ExitStack()

    def server(self, name: str) -> Server:
        """The running server of this name; it has other databases, too."""
        return self.servers.get(name)

    def database(self, server: str) -> Database:
        """A new one with Glance's tables."""
        database = self.server(server).create_database(f"chaos_{secrets.token_hex(6)}")
        self._stack.callback(self.server(server).drop_database, database)
        return database

    def directory(self, name: str) -> Path:
        """A new one."""
        path = self._directory / f"{name}-{next(self._numbers)}"
        path.mkdir(parents=True)
        return path

    def program(self) -> Program:
        """A scrubber that is configured nowhere yet."""
        program = Program(self.directory("program") / "scrubber", self._cache)
        self._stack.callback(program.close)
        return program

    def scene(self) -> "Site":
        """The same servers for one scene, which cleans up after itself."""
        return Site(self.servers, self.directory("scene"), self._cache)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


@dataclass(frozen=True)
class Scenario:
    """Something that goes wrong, and the proof that nothing else does.

    :param play: injects faults and looks at what must hold. What it tells of a kind of fault may
        be in several parts. It raises only where it cannot be played.
    :param small_size: of its scenes as a test, which plays for ``small_seconds``.
    """

    name: str
    promise: str
    play: Callable[[Site, Terms], list[Injected]]
    small_size: float = 1.0
    small_seconds: float = 0.0

    def small(self, seed: int) -> Terms:
        """As a test: on these terms it is over in some seconds."""
        return Terms(seed, self.small_seconds, self.small_size)

"""Restores, deletes and scrubbers in orders that a seed has chosen, step by step."""

import logging
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

from chaos.invariants import Kind, Violation
from chaos.scenario import Injected, Scenario, Site, Terms
from races.planted import PLANTED, find
from races.scene import Interleaving, Playground, Violated, playground

INTERLEAVINGS = 10_000

#: So many at a time are one process's.
SHARE = 50

#: A planted bug has to be found among so many.
ENOUGH = 2000

COUNTED = {
    "runs": "runs of scrubbers",
    "restored": "images restored",
    "refused": "restores refused",
    "crashed": "scrubbers that crash",
}


@dataclass(frozen=True)
class Share:
    """What some interleavings told."""

    counts: Counter[str]
    stories: tuple[str, ...]


def play(site: Site, terms: Terms) -> list[Injected]:
    """All of them, however long that takes, on all processors; then each bug that is planted."""
    directory = site.directory("races")
    first = terms.seed * INTERLEAVINGS
    shares = range(first, first + terms.count(INTERLEAVINGS, least=SHARE), SHARE)
    # Spawned: this process may have threads, and connections to servers.
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as workers:
        played = list(workers.map(play_share, shares, [directory] * len(shares)))
        found = list(workers.map(first_that_finds, PLANTED, [directory] * len(PLANTED)))
    counts = sum((share.counts for share in played), Counter[str]())
    lost = [Violation(story, Kind.RACE_LOST) for share in played for story in share.stories]
    missed = [bug for bug, seed in zip(PLANTED, found, strict=True) if seed is None]
    return [
        Injected("interleavings", len(shares) * SHARE, tuple(lost)),
        *(Injected(name, counts[count]) for count, name in COUNTED.items()),
        Injected(
            "bugs planted",
            len(PLANTED),
            tuple(Violation(bug, Kind.NOT_FOUND) for bug in missed),
        ),
    ]


def play_share(first: int, directory: Path) -> Share:
    counts: Counter[str] = Counter()
    stories = []
    with ground(directory) as playing:
        for seed in range(first, first + SHARE):
            interleaving = Interleaving(playing, seed)
            try:
                interleaving.play()
            except Violated as violation:
                stories.append(str(violation))
            counts += interleaving.counts
    return Share(counts, tuple(stories))


def first_that_finds(bug: str, directory: Path) -> int | None:
    with ground(directory) as playing:
        return find(playing, PLANTED[bug], most=ENOUGH)


@contextmanager
def ground(directory: Path) -> Iterator[Playground]:
    logging.disable(logging.CRITICAL)
    with TemporaryDirectory(dir=directory) as own, playground(Path(own)) as made:
        yield made


SCENARIO = Scenario(
    "races",
    "whatever the order of deletes, restores and scrubs: what is active has its bytes, "
    "what is deleted is gone in the end",
    play,
    small_size=0.005,
)

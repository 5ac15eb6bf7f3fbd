"""kill -9 before, amid and after every effect; another scrubber carries on after the lease."""

import time
from collections import deque
from collections.abc import Iterator, Sequence

from chaos.casualty import Blow, Casualty, everywhere
from chaos.invariants import Violation
from chaos.scenario import Injected, Scenario, Site, Terms
from lab.processes import wait_until

SERVERS = ("sqlite", "mariadb", "postgresql")


def play(site: Site, terms: Terms) -> list[Injected]:
    injected: list[Injected] = []
    for chance in terms.rounds():
        blows = everywhere(chance, SERVERS)
        chance.shuffle(blows)
        with site.scene() as scene:
            injected += kill_all(scene, blows[: terms.count(len(blows))])
    return injected


def kill_all(site: Site, blows: Sequence[Blow]) -> Iterator[Injected]:
    """One scrubber each; while the lease of one lapses others are killed."""
    dead: deque[tuple[Casualty, list[Violation]]] = deque()
    for blow in blows:
        casualty = Casualty(site, blow)
        casualty.die()
        dead.append((casualty, casualty.broken()))
        while dead and dead[0][0].is_lapsed:
            yield inherit(*dead.popleft())
    for casualty, early in dead:
        wait_until(lambda last=casualty: last.is_lapsed, what="the lease to lapse", every=0.1)
        yield inherit(casualty, early)


def inherit(casualty: Casualty, early: list[Violation]) -> Injected:
    """Another scrubber carries on, with all that this one had written down."""
    casualty.relent()
    ended = casualty.program.main("--format", "json")
    recovered = time.monotonic() - casualty.struck_at
    found = [*early, *casualty.failed(ended), *casualty.left()]
    fault = f"kill -9 {casualty.blow.moment} {casualty.blow.point}"
    return Injected(fault, 1, tuple(found), (recovered,))


SCENARIO = Scenario(
    "kill",
    "a scrubber killed at any point leaves nothing that another does not finish after the lease",
    play,
    small_size=0.35,
)

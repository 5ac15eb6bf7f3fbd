"""SIGSTOP for longer than the lease, then SIGCONT, at every point: who is late acts on nothing.

Meanwhile another scrubber takes over, and images are restored with --force, which is the word of
an operator that nothing is on its way to them.  What a call to the store had begun with when the
signal came is left out: there a restore is refused, and has to be.
"""

import time
from collections.abc import Collection, Iterator, Sequence

from chaos.casualty import Blow, Casualty, everywhere
from chaos.invariants import Kind, Violation
from chaos.scenario import Injected, Scenario, Site, Terms
from chaos.struck import GAP
from lab.processes import wait_until
from process.program import Program

#: On SQLite nobody can do anything while a process stops in the midst of a transaction.
SERVERS = ("mariadb", "postgresql")

#: So many are stopped at once; a process costs a second to start.
AT_ONCE = 5

RESTORED = 2

#: Whatever it is struck at, it may stand still with a finish beside that, whose rows are locked:
#: then others say so and leave them.
BEHIND_A_LOCK = "the database does not answer"


def play(site: Site, terms: Terms) -> list[Injected]:
    injected: list[Injected] = []
    for chance in terms.rounds():
        blows = [*everywhere(chance, SERVERS), Blow.any_of(chance, SERVERS, "delete", GAP)]
        chance.shuffle(blows)
        with site.scene() as scene:
            injected += stop_all(scene, blows[: terms.count(len(blows))])
    return injected


def stop_all(site: Site, blows: Sequence[Blow]) -> Iterator[Injected]:
    for first in range(0, len(blows), AT_ONCE):
        casualties = [Casualty(site, blow) for blow in blows[first : first + AT_ONCE]]
        for casualty in casualties:
            casualty.start()
        for casualty in casualties:
            wait_until(lambda at=casualty: at.was_stopped, what=f"SIGSTOP {casualty.blow}")
        for casualty in casualties:
            wait_until(lambda at=casualty: at.is_lapsed, what="the lease to lapse", every=0.1)
            yield outlive(site, casualty)


def outlive(site: Site, casualty: Casualty) -> Injected:
    """What happens while it stands still, and after."""
    heir = casualty.heir(site)
    restored, found = restore_some(casualty, heir)
    casualty.relent()
    found += casualty.failed(heir.main("--format", "json"), unless=BEHIND_A_LOCK)
    begun = casualty.program.journal.begun()
    casualty.go_on()
    continued = time.monotonic()
    found += casualty.failed(casualty.running.wait())
    recovered = time.monotonic() - continued
    wait_until(lambda: is_nothing_claimed(heir), what="a run with nobody in its way", every=0.5)
    found += [*repeated_by(casualty, begun, heir, restored), *casualty.left(restored)]
    blow = casualty.blow
    return Injected(f"SIGSTOP {blow.moment} {blow.point}", 1, tuple(found), (recovered,))


def restore_some(casualty: Casualty, heir: Program) -> tuple[list[str], list[Violation]]:
    """Images that the stopped process has claimed, or would claim next."""
    if casualty.holds_locks:
        return [], []  # whoever restores waits for it
    there = casualty.backlog.files() - set(casualty.backlog.live + casualty.stubborn)
    claimed = casualty.backlog.claimed() & there
    if casualty.is_in_the_gap:
        return [], refuse_some(heir, sorted(claimed)[:RESTORED])
    there -= casualty.in_flight()
    chosen = sorted(there, key=lambda image: (image not in claimed, image))[:RESTORED]
    ended = {image: heir.main("--restore", image, "--force") for image in chosen}
    found = [
        violation
        for at in ended.values()
        for violation in casualty.failed(at, unless=BEHIND_A_LOCK)
    ]
    return [image for image, at in ended.items() if at.status == 0], found


def refuse_some(heir: Program, claimed: Sequence[str]) -> list[Violation]:
    """Without --force nobody passes over a claim, however long ago it has lapsed."""
    ended = {image: heir.main("--restore", image) for image in claimed}
    return [Violation(image, Kind.TOO_EARLY) for image, at in ended.items() if at.status != 1]


def is_nothing_claimed(heir: Program) -> bool:
    return not heir.main("--format", "json").document["claimed_elsewhere"]["images"]


def repeated_by(
    casualty: Casualty, begun: int, heir: Program, restored: Collection[str]
) -> list[Violation]:
    """What the late process began to delete though it was no longer its own."""
    late = {delete.image for delete in casualty.program.journal.deletes()[begun:]}
    others = {delete.image for delete in heir.journal.deletes()}.union(restored)
    # The delete that it was about to send: of a file that is gone by now.
    allowed = 1 if casualty.is_in_the_gap else 0
    return [Violation(image, Kind.DELETED_AGAIN) for image in sorted(late & others)[allowed:]]


SCENARIO = Scenario(
    "stop",
    "a scrubber that stood still for longer than its lease acts on nothing that others took over",
    play,
    small_size=0.25,
)

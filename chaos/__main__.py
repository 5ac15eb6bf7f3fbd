"""``make chaos``: plays the scenarios again and again, and prints what came of each fault."""

import argparse
import itertools
import random
import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from chaos.invariants import Violation
from chaos.scenario import Injected, Scenario, Site, Terms
from chaos.scenarios import SCENARIOS
from lab import Unavailable
from lab.databases import Servers
from lab.glance import create_schema
from lab.scratch import ScratchDirectory

#: So long a scenario plays until it is the next one's turn.
TURN = 120.0


@dataclass(frozen=True)
class Played:
    """A scenario, once, and what it told; or why it could not be played."""

    scenario: Scenario
    seed: int
    injected: Sequence[Injected]
    failure: str = ""


def main() -> int:
    names = [scenario.name for scenario in SCENARIOS]
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long, about")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--only", choices=names, action="append", help="may be repeated")
    parser.add_argument("--size", type=float, default=1.0, help="of each scene; 0.1 is small")
    options = parser.parse_args()
    chosen = [at for at in SCENARIOS if at.name in (options.only or names)]
    command = f"python -m chaos --minutes {options.minutes:g} --seed {options.seed}"
    command += "".join(f" --only {name}" for name in options.only or [])
    command += f" --size {options.size:g}" if options.size != 1 else ""
    print(command, flush=True)
    with Servers(create_schema) as servers, ScratchDirectory("chaos-") as directory:
        site = Site(servers, directory, directory / "cache")
        played = list(play(site, chosen, options.seed, 60 * options.minutes, options.size))
    print_table(played)
    print(command)
    return 1 if any(at.failure or violations(at.injected) for at in played) else 0


def play(
    site: Site, chosen: Sequence[Scenario], seed: int, seconds: float, size: float
) -> Iterable[Played]:
    """All of them, and all over again with another seed until the time is over."""
    over = time.monotonic() + seconds
    turn = min(TURN, seconds / len(chosen))
    playable = list(chosen)
    while playable:
        for scenario in list(playable):
            played = play_one(site, scenario, Terms(seed, turn, size))
            yield played
            if played.failure:
                playable.remove(scenario)
        if time.monotonic() >= over:
            break
        seed += 1


def play_one(site: Site, scenario: Scenario, terms: Terms) -> Played:
    print(f"{scenario.name}, seed {terms.seed}: {scenario.promise}", flush=True)
    try:
        with site.scene() as scene:
            played = Played(scenario, terms.seed, scenario.play(scene, terms))
    except Unavailable:
        raise
    except Exception:
        traceback.print_exc()
        return Played(scenario, terms.seed, (), failure=traceback.format_exc(limit=0).strip())
    for violation in violations(played.injected):
        print(f"VIOLATED in {scenario.name}, seed {terms.seed}: {violation}", flush=True)
    return played


def violations(injected: Iterable[Injected]) -> list[Violation]:
    return [violation for at in injected for violation in at.violations]


def print_table(played: Sequence[Played]) -> None:
    print(f"\n{'fault':58}{'injected':>10}{'violations':>12}{'time to recover':>26}")
    faults: dict[str, list[Injected]] = {}
    for injected in itertools.chain.from_iterable(at.injected for at in played):
        faults.setdefault(injected.fault, []).append(injected)
    for fault, several in faults.items():
        print_row(fault, several)
    for at in played:
        if at.failure:
            print(f"NOT PLAYED: {at.scenario.name}, seed {at.seed}: {at.failure}")
    print()


def print_row(fault: str, several: Sequence[Injected]) -> None:
    times = sum(at.times for at in several)
    seconds = [second for at in several for second in at.recovered]
    recovered = f"{median(seconds):.1f} s" if seconds else "-"
    recovered += f", at most {max(seconds):.1f} s" if len(seconds) > 1 else ""
    print(f"{fault:58}{times:>10,}{len(violations(several)):>12}{recovered:>26}")


if __name__ == "__main__":
    sys.exit(main())

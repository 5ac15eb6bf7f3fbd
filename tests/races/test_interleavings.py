"""Restores, deletes and scrubbers in any order: no live byte goes, no row lies, nothing is left.

Each seed is one order of steps, with pauses, crashes and lost answers of the database; `make
chaos` plays 10,000 of them.  A failure shows its seed and all that was done.
"""

import logging
from collections import Counter
from collections.abc import Iterator

import pytest

from races.planted import PLANTED, find
from races.scene import Interleaving, Playground, playground

#: Found within some seconds; `make chaos` looks for all of them.
SOON_FOUND = [
    "skip_the_last_look",
    "ask_no_live_rows",
    "release_claims_at_once",
    "restore_whatever_is_claimed",
]

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playground]:
    logging.disable(logging.CRITICAL)
    with playground(tmp_path_factory.mktemp("ground")) as ground:
        yield ground
    logging.disable(logging.NOTSET)


def test_whatever_the_order_every_promise_is_kept(ground: Playground) -> None:
    counts: Counter[str] = Counter()
    for seed in range(200):
        interleaving = Interleaving(ground, seed)
        interleaving.play()
        counts += interleaving.counts
    # Else these were no races.
    for what in ("deleted", "restored", "refused", "crashed", "runs"):
        assert counts[what] > 20, what


def test_a_seed_is_one_order(ground: Playground) -> None:
    """What a failure shows can be played again."""
    stories = []
    for seed in (*range(5), *range(5)):
        interleaving = Interleaving(ground, seed)
        interleaving.play()
        stories.append(interleaving.story())
    assert stories[:5] == stories[5:]
    assert len(set(stories)) == 5


@pytest.mark.parametrize("bug", SOON_FOUND)
def test_a_planted_bug_is_found(ground: Playground, bug: str) -> None:
    assert find(ground, PLANTED[bug], most=500) is not None

"""In which order claimed work is done, and how much of it at once."""

from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrubber.planning.order import BATCH_SECONDS, FairQueue, Pace

OWNERS = st.sampled_from(["a", "b", "c", None])


@given(st.lists(OWNERS))
def test_nothing_pushed_is_lost_or_doubled_and_each_owners_order_stays(
    owners: list[str | None],
) -> None:
    queue: FairQueue[tuple[str | None, int]] = FairQueue()
    for number, owner in enumerate(owners):
        queue.push(owner, (owner, number))
    assert len(queue) == len(owners)
    out = [queue.pop() for _ in owners]
    assert sorted(number for _, number in out) == list(range(len(owners)))
    of_owner: defaultdict[str | None, list[int]] = defaultdict(list)
    for owner, number in out:
        of_owner[owner].append(number)
    assert all(numbers == sorted(numbers) for numbers in of_owner.values())
    assert len(queue) == 0
    with pytest.raises(IndexError):
        queue.pop()


@given(st.lists(OWNERS, min_size=1))
def test_nobody_gets_a_second_turn_while_another_waits_for_a_first(
    owners: list[str | None],
) -> None:
    queue: FairQueue[str | None] = FairQueue()
    for owner in owners:
        queue.push(owner, owner)
    waiting = Counter(owners)
    turns: Counter[str | None] = Counter()
    while len(queue):
        owner = queue.pop()
        turns[owner] += 1
        waiting[owner] -= 1
        for other, left in waiting.items():
            if left:
                assert turns[owner] - turns[other] <= 1


@given(st.lists(st.one_of(OWNERS, st.just("pop"))))
def test_work_that_comes_and_goes_is_never_lost(steps: list[str | None]) -> None:
    queue: FairQueue[int] = FairQueue()
    inside: set[int] = set()
    for number, step in enumerate(steps):
        if step == "pop":
            if inside:
                inside.remove(queue.pop())
        else:
            queue.push(step, number)
            inside.add(number)
        assert len(queue) == len(inside)


SPEEDS = [
    # seconds for one location; locations of the next call, of at most 256
    (0.0, 256),
    (1e-9, 256),
    (BATCH_SECONDS / 256, 256),
    (BATCH_SECONDS / 10, 10),
    (BATCH_SECONDS, 1),
    (1.0, 1),
    (1e9, 1),
    (float("inf"), 1),
    (5e-324, 256),
]


@pytest.mark.parametrize(("seconds", "expected"), SPEEDS)
def test_a_batch_is_what_fits_into_its_time(seconds: float, expected: int) -> None:
    pace = Pace()
    pace.learn(1, seconds)
    assert pace.batch_size(256) == expected


SHARES = [
    # seconds for one location, the share of a call; locations of the next call, of at most 1000
    (0.001, 0, 50),
    (0.001, 10, 50),  # what is quick is done in one go
    (0.001, 200, 200),
    (0.001, 5000, 1000),
    (0.01, 5000, 100),  # no more than a second
    (2.0, 5000, 1),
]


@pytest.mark.parametrize(("seconds", "share", "expected"), SHARES)
def test_where_a_request_costs_a_round_trip_a_batch_grows_to_its_share(
    seconds: float, share: int, expected: int
) -> None:
    pace = Pace(seconds=1.0)
    pace.learn(1, seconds)
    assert pace.batch_size(1000, share) == expected


def test_a_round_trip_alone_does_not_keep_batches_small() -> None:
    pace, size = Pace(seconds=1.0), 0
    for _ in range(20):
        size = pace.batch_size(1000, share=1000)
        pace.learn(size, 0.05 + size * 1e-5)
    assert size == 1000


def test_the_first_batch_is_small() -> None:
    assert Pace().batch_size(256) == 8
    assert Pace().batch_size(3) == 3


LEARNT = st.tuples(st.integers(0, 1000), st.floats(0, 1e12))


@given(st.lists(LEARNT, max_size=20), st.integers(1, 10_000))
def test_a_batch_is_never_empty_and_never_more_than_the_store_takes(
    learnt: list[tuple[int, float]], most: int
) -> None:
    pace = Pace()
    for locations, seconds in learnt:
        pace.learn(locations, seconds)
    assert 1 <= pace.batch_size(most) <= most


@given(st.floats(1e-6, 10), st.floats(1e-6, 10))
def test_the_pace_follows_a_store_that_changes(before: float, after: float) -> None:
    pace = Pace()
    pace.learn(1, before)
    for _ in range(100):
        pace.learn(1, after)
    assert pace.seconds_per_location == pytest.approx(after, rel=0.01)

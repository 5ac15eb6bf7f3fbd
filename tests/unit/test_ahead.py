"""How much is claimed ahead: enough for a moment, not so much that others go without."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrubber.planning.ahead import COUNTED_SECONDS, FIRST_PER_SLOT, Throughput

SLOTS, MOST = 16, 1000


def going_at(rate: float, seconds: int = 10) -> Throughput:
    throughput = Throughput(since=0.0)
    for tenth in range(1, 10 * seconds + 1):
        throughput = throughput.after(round(rate / 10), tenth / 10)
    return throughput


@pytest.mark.parametrize(
    ("rate", "portion"),
    [
        (100_000, MOST),  # a fast store is never kept short
        (5_000, MOST),
        (160, 160),  # ten calls a second in each slot: one second of work
        (20, 20),
        (5, SLOTS),  # a slow one: each slot has something to do next
        (0, SLOTS),
    ],
)
def test_a_portion_is_a_second_of_work(rate: float, portion: int) -> None:
    assert going_at(rate).portion(SLOTS, MOST) == pytest.approx(portion, rel=0.1)


def test_the_first_portion_is_a_batch_for_each_slot() -> None:
    assert Throughput(since=0.0).portion(SLOTS, MOST) == FIRST_PER_SLOT * SLOTS
    assert Throughput(since=0.0).portion(4096, MOST) == MOST


def test_a_pause_is_forgotten_at_once_and_a_slow_store_soon() -> None:
    fast = going_at(800)
    paused = fast.after(0, 11.0)
    assert paused.portion(SLOTS, MOST) >= 390
    assert paused.after(800, 12.0).portion(SLOTS, MOST) == 800
    slow = paused
    for second in range(12, 20):
        slow = slow.after(20, float(second))
    assert slow.portion(SLOTS, MOST) <= 40


@given(
    st.lists(st.tuples(st.integers(0, 10**9), st.floats(-(10**6), 10**9))),
    st.integers(1, 4096),
    st.integers(1, 3000),
)
def test_whatever_the_clock_does_a_portion_is_some_work_and_no_more_than_a_page(
    events: list[tuple[int, float]], slots: int, most: int
) -> None:
    throughput = Throughput(since=0.0)
    for done, now in events:
        throughput = throughput.after(done, now)
        assert 1 <= throughput.portion(slots, most) <= most


def test_what_is_counted_too_shortly_says_nothing() -> None:
    assert Throughput(since=0.0).after(5, COUNTED_SECONDS / 2).rate is None

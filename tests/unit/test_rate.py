"""A store that says "slow down" gets what it can take, no more and little less."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.throttled_store import Phase, Simulation, ThrottledStore
from scrubber.planning.rate import FASTEST, LONGEST_WAIT, SLOWEST, Limit

# A limit that changes -----------------------------------------------------------------------

LATENCIES = [0.005, 0.02, 0.1]


@pytest.mark.parametrize("latency", LATENCIES)
def test_it_follows_a_limit_that_falls_and_rises_again(latency: float) -> None:
    """The promise of design.md, over three minutes of simulated time."""
    store = ThrottledStore([Phase(0, 50), Phase(60, 5), Phase(120, 50)])
    simulation = Simulation(store, 180, latency=latency).run()
    assert simulation.goodput() >= 0.93
    assert simulation.goodput(0, 60) >= 0.95
    assert simulation.goodput(60, 120) >= 0.95
    assert simulation.refused_per_deleted() <= 0.1
    assert simulation.back_after(120) <= 10


@pytest.mark.parametrize("limit", [5, 50, 500, 3500])
def test_it_finds_a_limit_and_stays_there(limit: float) -> None:
    # Far more events in a second need fewer seconds.
    seconds = 60 if limit <= 50 else 25
    simulation = Simulation(ThrottledStore([Phase(0, limit)]), seconds).run()
    assert simulation.goodput(10) >= min(0.95, 0.95 * 64 / 0.02 / limit)
    assert simulation.refused_per_deleted() <= 0.4 if limit == 5 else 0.1


def test_a_store_without_a_limit_is_never_slowed_down() -> None:
    simulation = Simulation(ThrottledStore([Phase(0, 1e9)]), 2).run()
    assert simulation.refused() == 0
    assert simulation.answers[-1].rate is None


def test_two_scrubbers_share_a_limit() -> None:
    simulation = Simulation(ThrottledStore([Phase(0, 50)]), 120, scrubbers=2).run()
    first, second = simulation.deleted(20, of=0), simulation.deleted(20, of=1)
    assert simulation.goodput(20) >= 0.95
    assert min(first, second) / (first + second) >= 0.35
    assert simulation.refused_per_deleted() <= 0.1


def test_batches_get_what_single_locations_get() -> None:
    simulation = Simulation(ThrottledStore([Phase(0, 500)]), 60, batch=1000).run()
    assert simulation.goodput(10) >= 0.95
    # The very first ones, before any refusal, are as large as they come.
    assert simulation.refused_per_deleted(since=1) <= 0.1


# One thing at a time ------------------------------------------------------------------------


def limited(rate: float, now: float = 0.0) -> Limit:
    return Limit(rate=rate, floor=rate, plateau=rate, reduced_at=now, used_at=now, next_at=now)


def test_without_a_refusal_there_is_no_limit() -> None:
    limit = Limit().sent(0, 1000).went_well(1, 1000)
    assert limit.allowed is None
    assert limit.ready_at == -math.inf
    assert limit.batch_size(1000) == 1000


def test_an_operators_limit_holds_before_any_refusal_and_after() -> None:
    limit = Limit(most=10).sent(0, 5)
    assert limit.allowed == 10
    assert limit.ready_at == pytest.approx(0.5, abs=0.11)
    assert Limit(most=3).went_well(0, 1000).was_refused(0.1, 0, 1).allowed <= 3  # type: ignore[operator]


def test_what_was_on_its_way_when_the_rate_was_reduced_does_not_reduce_it_again() -> None:
    once = limited(100).was_refused(1, sent_at=0.9, locations=1)
    again = once.was_refused(1.1, sent_at=0.95, locations=50)
    assert again.rate == once.rate
    assert again.refused == 50
    assert once.was_refused(1.2, sent_at=1.1, locations=1).rate < once.rate  # type: ignore[operator]


@pytest.mark.parametrize(
    ("done", "refused", "left"), [(100, 1, 0.85), (70, 30, 0.7), (0, 1, 0.5), (0, 10_000, 0.5)]
)
def test_the_more_is_refused_the_more_it_slows_down(done: int, refused: int, left: float) -> None:
    limit = limited(100).went_well(1, done).was_refused(1, 0.9, refused)
    assert limit.rate == pytest.approx(100 * left)


@pytest.mark.parametrize(
    ("retry_after", "waits"),
    [(None, 0), (0, 0), (-5, 0), (2, 2), (30.5, 30.5), (1e12, LONGEST_WAIT)],
)
def test_the_store_says_how_long_to_wait(retry_after: float | None, waits: float) -> None:
    limit = limited(100).was_refused(10, 9, 1, retry_after)
    assert limit.ready_at - 10 == pytest.approx(waits, abs=0.02)


def test_a_rate_that_nobody_uses_does_not_grow() -> None:
    limit = limited(10).was_refused(0, 0, 1)
    rate = limit.rate
    assert limit.sent(1000, 1).rate == pytest.approx(rate)
    assert limit.sent(5000, 1).rate == pytest.approx(rate)


def test_a_batch_of_a_limited_store_is_a_moment_of_its_rate() -> None:
    assert limited(1000).batch_size(1000) == 100
    assert limited(1).batch_size(1000) == 1
    assert limited(1e6).batch_size(1000) == 1000


MOMENTS = st.floats(-1e6, 1e9)
STEPS = st.one_of(
    st.tuples(st.just("sent"), MOMENTS, st.integers(1, 1000)),
    st.tuples(st.just("went_well"), MOMENTS, st.integers(0, 1000)),
    st.tuples(
        st.just("refused"),
        MOMENTS,
        MOMENTS,
        st.integers(1, 1000),
        st.none() | st.floats(allow_nan=False),
    ),
)


@given(st.none() | st.floats(0.01, 1e7), st.lists(STEPS, max_size=50))
def test_no_clock_and_no_answer_drives_a_rate_out_of_bounds(
    most: float | None, steps: list[tuple[object, ...]]
) -> None:
    """Clocks that jump back and forth included."""
    limit = Limit(most=most)
    for name, *arguments in steps:
        method = {"sent": limit.sent, "went_well": limit.went_well, "refused": limit.was_refused}
        limit = method[str(name)](*arguments)  # type: ignore[operator]
        assert not math.isnan(limit.ready_at)
        assert limit.ready_at < math.inf
        assert 1 <= limit.batch_size(1000) <= 1000
        if limit.rate is not None:
            assert SLOWEST <= limit.rate <= FASTEST
            assert limit.floor <= limit.rate


@given(st.lists(st.integers(1, 100), min_size=50, max_size=200))
def test_no_store_is_starved_for_ever(refusals: list[int]) -> None:
    """However often it refused: once it takes again what it is sent, the rate comes back."""
    limit, now = limited(1000), 0.0
    for locations in refusals:
        now = max(now, limit.ready_at)
        size = limit.batch_size(locations)
        limit = limit.sent(now, size).was_refused(now + 0.01, now, size)
    began = now
    while (limit.rate or 0) < 20:
        now = max(now, limit.ready_at)
        limit = limit.sent(now, 1).went_well(now, 1)
    assert now - began < 120

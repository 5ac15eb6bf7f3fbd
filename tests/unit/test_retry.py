"""What cannot go now is tried again, ever more seldom, and never forgotten."""

import datetime
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrubber.planning.retry import Patience, Trouble, after_failure

NOW = datetime.datetime(2026, 6, 1, 12)
PATIENCE = Patience()


def failed(times: int, chance: float = 1.0, patience: Patience = PATIENCE) -> Trouble:
    trouble = after_failure(None, "it is busy", NOW, patience, chance)
    for _ in range(times - 1):
        trouble = after_failure(trouble, "it is busy", NOW, patience, chance)
    return trouble


LONGEST = [
    # attempts; the longest wait in seconds
    (1, 30),
    (2, 60),
    (3, 120),
    (7, 1920),
    (8, 21_600),  # parked
    (9, 21_600),
    (10_000, 21_600),
]


@pytest.mark.parametrize(("attempts", "seconds"), LONGEST)
def test_each_attempt_doubles_the_longest_wait_up_to_the_cap(attempts: int, seconds: float) -> None:
    assert failed(attempts).next_try_at == NOW + timedelta(seconds=seconds)


def test_what_failed_together_comes_back_spread_out() -> None:
    waits = {failed(4, chance / 10).next_try_at for chance in range(10)}
    assert len(waits) == 10
    assert min(waits) == NOW


def test_what_is_parked_is_still_tried_but_never_often() -> None:
    assert failed(8).is_parked(PATIENCE)
    assert not failed(7).is_parked(PATIENCE)
    assert failed(8, chance=0).next_try_at == NOW + timedelta(hours=3)


def test_it_is_remembered_when_it_failed_first_and_why_it_failed_last() -> None:
    first = after_failure(None, "it is busy", NOW, PATIENCE, 0.5)
    later = NOW + timedelta(days=1)
    second = after_failure(first, "no permission", later, PATIENCE, 0.5)
    assert (second.attempts, second.first_failed_at) == (2, NOW)
    assert second.last_error == "no permission"


def test_it_is_due_when_its_time_has_come_or_a_clock_was_wrong() -> None:
    trouble = failed(1)
    assert not trouble.is_due(NOW, PATIENCE)
    assert trouble.is_due(NOW + timedelta(seconds=30), PATIENCE)
    assert trouble.is_due(NOW - timedelta(days=365), PATIENCE)


@given(
    st.integers(1, 10_000),
    st.floats(0, 1),
    st.floats(0, 1e5),
    st.floats(0, 1e6),
    st.integers(1, 100),
)
def test_no_wait_is_negative_or_longer_than_the_cap(
    attempts: int, chance: float, base: float, cap: float, park: int
) -> None:
    patience = Patience(base, cap, park)
    before = Trouble(attempts, NOW, NOW, "")
    trouble = after_failure(before, "", NOW, patience, chance)
    assert NOW <= trouble.next_try_at <= NOW + timedelta(seconds=cap)
    assert trouble.attempts == attempts + 1

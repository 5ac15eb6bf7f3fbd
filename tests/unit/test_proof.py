"""Whether a store is the one we think."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrubber import errors
from scrubber.model import Found, Look
from scrubber.planning.proof import Proof, Thresholds, believes, judge

THERE = Found(1, datetime.datetime(2026, 1, 1), "1")
GONE = errors.Gone("")
REFUSED = errors.Refused("")
IN_USE = errors.InUse("")

JUDGEMENTS: list[tuple[list[Look], Proof]] = [
    # All that say anything are there.
    ([THERE], Proof.PROVEN),
    ([THERE] * 8, Proof.PROVEN),
    ([REFUSED, THERE], Proof.PROVEN),
    # Most are missing: unmounted, or another store, and some were written there since.
    ([GONE], Proof.DISPROVED),
    ([GONE] * 8, Proof.DISPROVED),
    ([GONE, GONE, THERE], Proof.DISPROVED),
    # A live image that has lost its bytes is no reason to stop, but proves nothing.
    ([GONE, THERE], Proof.UNPROVEN),
    ([GONE] + [THERE] * 7, Proof.UNPROVEN),
    ([GONE, REFUSED], Proof.DISPROVED),
    # No live image, or none that says anything.
    ([], Proof.UNPROVEN),
    ([REFUSED, IN_USE], Proof.UNPROVEN),
]


@pytest.mark.parametrize(("looks", "expected"), JUDGEMENTS)
def test_what_canaries_say_of_a_store(looks: list[Look], expected: Proof) -> None:
    assert judge(looks) is expected


BELIEFS = [
    # count, percent; missing, touched; believed?
    (10, 10, 0, 0, True),
    (10, 10, 10, 10, True),
    (10, 10, 11, 11, False),
    (10, 10, 11, 109, False),
    (10, 10, 11, 110, True),
    (10, 10, 100, 1000, True),
    (10, 10, 101, 1000, False),
    # Only the share counts.
    (0, 10, 1, 9, False),
    (0, 10, 1, 10, True),
    # Only the number counts.
    (5, 0, 5, 5, True),
    (5, 0, 6, 1000, False),
    # Never, except when nothing is missing.
    (0, 0, 0, 5, True),
    (0, 0, 1, 1_000_000, False),
    # Always.
    (0, 100, 50, 50, True),
    (0, 99, 50, 50, False),
]


@pytest.mark.parametrize(("count", "percent", "missing", "touched", "expected"), BELIEFS)
def test_few_missing_objects_are_believed(
    count: int, percent: int, missing: int, touched: int, expected: bool
) -> None:
    assert believes(missing, touched, Thresholds(count, percent), holds_something=True) is expected


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 100))
def test_an_empty_root_is_never_believed(
    missing: int, touched: int, count: int, percent: int
) -> None:
    assert not believes(missing, touched, Thresholds(count, percent), holds_something=False)


@given(st.integers(0, 1000), st.integers(1, 1000), st.integers(0, 50), st.integers(0, 100))
def test_whoever_believes_so_many_believes_fewer(
    missing: int, touched: int, count: int, percent: int
) -> None:
    thresholds = Thresholds(count, percent)
    if believes(missing, touched, thresholds, holds_something=True) and missing:
        assert believes(missing - 1, touched, thresholds, holds_something=True)
        assert believes(missing, touched + 1, thresholds, holds_something=True)

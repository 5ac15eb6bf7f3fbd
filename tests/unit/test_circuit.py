"""A store that is down is asked once per step, and used again as soon as it works."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrubber.planning.circuit import FIRST_STEP, LONGEST_STEP, STREAK, Circuit


def test_it_is_closed_until_something_happens() -> None:
    assert Circuit().allows(0)
    assert Circuit().reason is None


def test_a_store_that_failed_is_left_alone_until_its_probe() -> None:
    circuit = Circuit().broke(100, "it is down")
    assert circuit.reason == "it is down"
    assert not circuit.allows(100)
    assert not circuit.allows(100 + FIRST_STEP - 0.01)
    assert circuit.allows(100 + FIRST_STEP)


def test_each_failed_probe_doubles_the_step_up_to_the_longest() -> None:
    circuit, now, steps = Circuit(), 0.0, []
    for _ in range(10):
        circuit = circuit.broke(now, "it is down")
        steps.append(circuit.probe_at - now)
        now = circuit.probe_at
    assert steps[:4] == [5, 10, 20, 40]
    assert steps[-1] == LONGEST_STEP


def test_a_probe_that_works_closes_it_and_the_steps_start_anew() -> None:
    circuit = Circuit().broke(0, "it is down").broke(5, "it is down").worked()
    assert circuit == Circuit()
    assert circuit.broke(100, "again").probe_at == 100 + FIRST_STEP


def test_probes_that_go_well_between_deletes_that_fail_do_not_start_the_steps_anew() -> None:
    circuit, now, steps = Circuit(), 0.0, []
    for _ in range(4):
        circuit = circuit.broke(now, "read-only")
        steps.append(circuit.probe_at - now)
        now = circuit.probe_at
        circuit = circuit.probed()
        assert circuit.reason is None
    assert steps == [5, 10, 20, 40]
    assert circuit.worked() == Circuit()


@pytest.mark.parametrize(("failures", "is_open"), [(1, False), (STREAK - 1, False), (STREAK, True)])
def test_many_objects_that_fail_in_a_row_are_the_stores_failure(
    failures: int, is_open: bool
) -> None:
    circuit = Circuit()
    for _ in range(failures):
        circuit = circuit.stumbled(0, "internal error")
    assert (circuit.reason is not None) is is_open


def test_one_that_goes_well_ends_a_streak() -> None:
    circuit = Circuit()
    for _ in range(10 * STREAK):
        circuit = circuit.stumbled(0, "internal error")
        if circuit.streak == STREAK - 1:
            circuit = circuit.worked()
    assert circuit.reason is None


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=30), st.floats(-1e9, 1e9))
def test_a_clock_that_jumps_never_locks_a_store_out(moments: list[float], now: float) -> None:
    circuit = Circuit()
    for moment in moments:
        circuit = circuit.broke(moment, "it is down")
        assert FIRST_STEP <= circuit.step <= LONGEST_STEP
    assert circuit.allows(now) or circuit.allows(now + LONGEST_STEP)

"""What a process knows of a store, in numbers, alone and together with others."""

from collections import Counter

import pytest

from contract.fake_driver import FakeDriver
from scrubber.health import BOUNDS, Figures, Health, Healths
from scrubber.orders import StoreOrder


def figures(**more: object) -> Figures:
    took = [0] * (len(BOUNDS) + 1)
    took[0] = 2
    return Figures(took=tuple(took), seconds=1.5, errors={"failed": 1}, **more)  # type: ignore[arg-type]


def test_counts_of_several_processes_are_added() -> None:
    both = Figures.of_all([figures(), figures()])
    assert both.took[0] == 4
    assert both.seconds == 3.0
    assert both.errors == {"failed": 2}


@pytest.mark.parametrize(
    ("limits", "together"),
    [
        ((), None),
        ((None, None), None),
        ((5.0, 7.0), 12.0),
        ((5.0, None), None),  # one of them asks as fast as it can
    ],
)
def test_limits_of_several_processes(
    limits: tuple[float | None, ...], together: float | None
) -> None:
    assert Figures.of_all(figures(limit=limit) for limit in limits).limit == together


def test_a_store_is_broken_where_anybody_says_so_and_asked_by_whoever_may_first() -> None:
    both = Figures.of_all(
        [
            figures(broken="no connection", asked_again_in=20.0),
            figures(broken="no login", asked_again_in=10.0),
            figures(),
        ]
    )
    assert (both.broken, both.asked_again_in) == ("no connection", 10.0)


def test_a_store_that_works_is_asked_at_once() -> None:
    health = Health(FakeDriver("fast"))
    assert health.figures == Figures(errors={})
    health.calls.add(0.001, Counter({"failed": 1}))
    health.broke("no connection")
    assert health.figures.broken == "no connection"
    assert 0 < health.figures.asked_again_in <= 5
    assert (health.figures.took[0], health.figures.errors) == (1, {"failed": 1})


def test_workers_have_equal_parts_of_an_operators_limit() -> None:
    driver = FakeDriver("fast")
    health = Healths(share=0.25).of(driver, lambda: StoreOrder(max_rate=20.0))
    assert health.limit.most == 5.0
    assert Healths().of(driver, lambda: StoreOrder(max_rate=20.0)).limit.most == 20.0

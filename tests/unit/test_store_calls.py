"""A store call is waited for as long as it may take, and its end is not forgotten."""

from collections.abc import Callable

import pytest

from contract.fake_driver import FakeDriver
from scrubber import errors, pool
from scrubber.stores.call import call, call_anyway

pytestmark = pytest.mark.timeout(20)

SOON = 0.02


class Calls(FakeDriver):
    """As native threads do, they go on though nobody waits for them any more."""

    def __init__(self) -> None:
        super().__init__("fast")
        self.ends: dict[str, pool.Flag] = {}

    def hangs(self, name: str) -> Callable[[], None]:
        self.ends[name] = end = pool.Flag()
        return lambda: pool.Task(end.wait).join()


@pytest.fixture
def blocking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task of its own, which a time-out of the caller does not end."""

    def in_a_task(function: Callable[[], object]) -> object:
        results: list[object] = []
        task = pool.Task(lambda: results.append(function()))
        task.join()
        return results[0]

    monkeypatch.setattr(pool, "blocking", in_a_task)


def test_no_call_is_made_while_an_earlier_one_hangs(blocking: None) -> None:
    driver = Calls()
    driver.abilities = type(driver.abilities)(frozenset({"fake"}), blocks=True, batch=1)
    hanging, other = driver.hangs("first"), driver.hangs("second")
    with pytest.raises(errors.Unanswered, match="no answer within"):
        call(driver, hanging, timeout=SOON)
    with pytest.raises(errors.Unavailable, match="an earlier call"):
        call(driver, driver.probe)
    # What it mostly knows by itself may be asked all the same, until that hangs as well.
    assert call_anyway(driver, lambda: "known", timeout=SOON) == "known"
    with pytest.raises(errors.Unanswered):
        call_anyway(driver, other, timeout=SOON)
    with pytest.raises(errors.Unavailable, match="an earlier call"):
        call_anyway(driver, other, timeout=SOON)
    # Only when all of them have ended is it as before.
    driver.ends["second"].set()
    pool.sleep(SOON)
    with pytest.raises(errors.Unavailable, match="an earlier call"):
        call(driver, driver.probe)
    assert call_anyway(driver, other, timeout=SOON) is None
    driver.ends["first"].set()
    pool.sleep(SOON)
    call(driver, driver.probe)

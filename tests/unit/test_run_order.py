"""In which order a run deletes, and how much at once.

Every test has a hard limit in time: what hangs has failed.
"""

import pytest

from contract.fake_driver import FakeDriver
from scrubber import deleter, pool, store_state
from unit.scenes import PATIENCE, Scene, finish, outcomes, until

pytestmark = pytest.mark.timeout(3 * PATIENCE)


@pytest.mark.parametrize("pool_size", [1, 4])
def test_locations_of_one_image_go_one_after_another_in_row_order(pool_size: int) -> None:
    fast, slow = FakeDriver("fast"), FakeDriver("slow")
    scene = Scene(fast, slow, pool_size=pool_size)
    order: list[str] = []
    running = 0

    def watch(names: list[str]) -> None:
        nonlocal running
        assert running == 0, "two locations of one image were on their way"
        running += 1
        order.extend(names)
        pool.sleep()
        running -= 1

    fast.before_delete = slow.before_delete = watch
    image = scene.image("1", "slow/2", "3", "4", "slow/5")
    scene.run()
    assert order == ["1", "2", "3", "4", "5"]
    assert all(len(batch) == 1 for batch in fast.sent + slow.sent)
    assert scene.is_finished(image)


def hang_after_the_first(driver: FakeDriver, go_on: pool.Flag) -> None:
    """Its first delete is answered at once, so that it gets all the slots it may have."""
    calls = iter(range(1000))
    driver.before_delete = lambda _names: (go_on.wait(PATIENCE) if next(calls) else None, None)[1]


@pytest.mark.parametrize("pool_size", [1, 3, 8])
def test_images_go_in_parallel_up_to_the_size_of_the_pool(pool_size: int) -> None:
    scene = Scene(FakeDriver("fast", batch=1), pool_size=pool_size)
    images = [scene.image(f"{number}") for number in range(20)]
    go_on = pool.Flag()
    hang_after_the_first(scene.fast, go_on)
    task = scene.start()
    until(lambda: scene.fast.running == pool_size)
    for _ in range(100):
        pool.sleep()
    assert scene.fast.running == pool_size
    go_on.set()
    finish(task)
    assert scene.fast.most_running == pool_size
    assert all(scene.is_finished(image) for image in images)


def test_a_larger_pool_takes_effect_while_every_slot_is_busy() -> None:
    scene = Scene(FakeDriver("fast", batch=1), pool_size=1)
    for number in range(5):
        scene.image(f"{number}")
    go_on = pool.Flag()
    hang_after_the_first(scene.fast, go_on)
    task = scene.start()
    until(lambda: len(scene.fast.sent) == 2)
    scene.slots.resize(3)
    until(lambda: scene.fast.running == 3)
    go_on.set()
    finish(task)


def test_a_smaller_pool_takes_effect_as_soon_as_calls_end() -> None:
    stores = [FakeDriver(name, batch=1) for name in ("fast", "slow")]
    scene = Scene(*stores, pool_size=4)
    for number in range(40):
        scene.image(f"fast/{number}", f"slow/{number}")
    running: list[int] = []

    def work_on(_names: list[str]) -> None:
        if len(running) >= 20:
            scene.slots.resize(1)
        pool.sleep(0.001)
        running.append(sum(store.running for store in stores))

    for store in stores:
        store.before_delete = work_on
    scene.run()
    assert max(running) == 4
    assert set(running[-40:]) == {1}


def test_a_store_that_has_not_answered_yet_takes_few_slots_even_while_nobody_else_wants_them() -> (
    None
):
    """It may hang, and what the others have to do may be read in the next moment."""
    scene = Scene(FakeDriver("fast", batch=1), FakeDriver("slow", batch=1), pool_size=8)
    for number in range(20):
        scene.image(f"slow/{number}")
    go_on = pool.Flag()
    scene.stores["slow"].before_delete = lambda _names: go_on.wait(PATIENCE)
    task = scene.start()
    until(lambda: scene.stores["slow"].running == store_state.FIRST_CALLS)
    for _ in range(100):
        pool.sleep()
    assert scene.stores["slow"].running == store_state.FIRST_CALLS < 8
    go_on.set()
    finish(task)
    assert outcomes(scene.report) == {"deleted": 20}


def test_one_slow_image_does_not_stop_the_others() -> None:
    scene = Scene(FakeDriver("fast", batch=1), pool_size=2, page_size=5)
    slow = scene.image("slow", id="00000000-0000-0000-0000-000000000000")
    others = [scene.image(f"{number}") for number in range(30)]
    go_on = pool.Flag()
    scene.fast.before_delete = lambda names: "slow" in names and go_on.wait(PATIENCE)
    task = scene.start()
    until(lambda: all(scene.is_finished(image) for image in others))
    assert not scene.is_finished(slow)
    go_on.set()
    finish(task)
    assert scene.is_finished(slow)


def test_a_batch_is_never_larger_than_the_store_takes() -> None:
    scene = Scene(FakeDriver("fast", batch=3))
    for number in range(20):
        scene.image(f"{number}")
    scene.run()
    assert max(map(len, scene.fast.sent)) <= 3


def test_projects_take_turns() -> None:
    scene = Scene(FakeDriver("fast", batch=1), pool_size=1)
    for number in range(10):
        scene.image(f"big-{number}", owner="big", id=f"0000000{number}-0000-0000-0000-000000000000")
    scene.image("small", owner="small", id="ffffffff-0000-0000-0000-000000000000")
    scene.run()
    assert scene.fast.asked_to_delete.index("small") <= 2


def test_what_a_slow_batch_did_not_get_to_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    images = [scene.image(f"{number}") for number in range(8)]
    monkeypatch.setattr(deleter, "CALL_SECONDS", 0.05)
    scene.fast.before_each = lambda _name: pool.sleep(0.02)
    report = scene.run()
    assert len(scene.fast.sent) > 1
    assert outcomes(report) == {"deleted": 8}
    assert all(scene.is_finished(image) for image in images)

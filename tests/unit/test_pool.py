"""Green threads as everything else sees them.

Nothing here is monkey patched: whatever waits, waits on the pool's own bells.
"""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from scrubber import pool

pytestmark = pytest.mark.timeout(20)


def run_for_a_while() -> None:
    for _ in range(20):
        pool.sleep()


class Crowd:
    """Tasks that run until they are told to end."""

    def __init__(self) -> None:
        self.started = 0
        self.ended = 0
        self.go_on = pool.Flag()

    def work(self) -> None:
        self.started += 1
        self.go_on.wait(5)
        self.ended += 1


def keep_full(slots: pool.Pool, crowd: Crowd, total: int) -> None:
    """As the dispatcher does: look at what is free, then wait for a change."""
    for _ in range(total):
        while not slots.free:
            slots.changed.wait()
        slots.spawn(crowd.work)


def test_spawning_never_blocks() -> None:
    slots, crowd = pool.Pool(3), Crowd()
    while slots.free:
        slots.spawn(crowd.work)
    assert crowd.started == 0, "spawn let somebody else run"
    run_for_a_while()
    assert (crowd.started, slots.running, slots.free) == (3, 3, 0)
    with pytest.raises(AssertionError):
        slots.spawn(crowd.work)
    crowd.go_on.set()
    run_for_a_while()
    assert (crowd.ended, slots.running, slots.free) == (3, 0, 3)


def test_the_end_of_a_task_wakes_who_waits_for_its_slot() -> None:
    slots, crowd = pool.Pool(1), Crowd()
    producer = pool.Task(keep_full, slots, crowd, 3)
    run_for_a_while()
    assert crowd.started == 1
    crowd.go_on.set()
    pool.within(5, producer.join)
    run_for_a_while()
    assert crowd.ended == 3


def test_the_slot_is_free_when_its_end_is_told() -> None:
    slots = pool.Pool(1)
    slots.spawn(lambda: None)
    slots.changed.wait(5)
    assert slots.free == 1


def test_a_task_that_raises_frees_its_slot_too(capfd: pytest.CaptureFixture[str]) -> None:
    slots = pool.Pool(1)

    def fail() -> None:
        raise ValueError("a defect")

    slots.spawn(fail)
    slots.changed.wait(5)
    assert slots.free == 1
    capfd.readouterr()


def test_a_larger_size_wakes_waiting_work_at_once() -> None:
    """GreenPool alone would notice when a task ends, and none does here."""
    slots, crowd = pool.Pool(2), Crowd()
    producer = pool.Task(keep_full, slots, crowd, 10)
    run_for_a_while()
    assert crowd.started == 2
    slots.resize(5)
    run_for_a_while()
    assert (crowd.started, crowd.ended) == (5, 0)
    crowd.go_on.set()
    pool.within(5, producer.join)


def test_a_smaller_size_holds_once_tasks_have_ended() -> None:
    slots, crowd = pool.Pool(4), Crowd()
    while slots.free:
        slots.spawn(crowd.work)
    run_for_a_while()
    slots.resize(2)
    assert (slots.size, slots.running, slots.free) == (2, 4, 0)
    later = Crowd()
    producer = pool.Task(keep_full, slots, later, 4)
    run_for_a_while()
    assert later.started == 0
    crowd.go_on.set()
    run_for_a_while()
    assert (later.started, slots.running) == (2, 2)
    later.go_on.set()
    pool.within(5, producer.join)


def test_sizes_up_and_down_lose_no_slot() -> None:
    slots = pool.Pool(4)
    for size in (16, 2, 8, 1, 3):
        slots.resize(size)
        crowd = Crowd()
        while slots.free:
            slots.spawn(crowd.work)
        run_for_a_while()
        assert crowd.started == size
        crowd.go_on.set()
        run_for_a_while()
        assert slots.free == size


# Bells and flags ------------------------------------------------------------------------------


def test_a_bell_wakes_all_who_wait_and_only_them() -> None:
    bell = pool.Bell()
    woken = []

    def wait(name: str) -> None:
        bell.wait(5)
        woken.append(name)

    tasks = [pool.Task(wait, name) for name in "abc"]
    run_for_a_while()
    bell.ring()
    bell.ring()
    for task in tasks:
        pool.within(5, task.join)
    assert sorted(woken) == ["a", "b", "c"]
    late = pool.Task(wait, "late")
    run_for_a_while()
    assert "late" not in woken, "it heard a ring from before"
    bell.ring()
    pool.within(5, late.join)


def test_waiting_for_a_bell_ends_after_its_time() -> None:
    pool.within(5, pool.Bell().wait, 0.01)


def test_a_flag_is_set_once_and_seen_by_all() -> None:
    bell = pool.Bell()
    flag = pool.Flag(bell)
    rung = pool.Task(bell.wait, 5)
    waiting = [pool.Task(flag.wait, 5) for _ in range(3)]
    run_for_a_while()
    assert not flag
    flag.set()
    for task in (rung, *waiting):
        pool.within(1, task.join)
    assert flag
    assert flag.wait() is True
    flag.set()


def test_waiting_for_a_flag_says_whether_it_was_set() -> None:
    flag = pool.Flag()
    assert flag.wait(0.01) is False
    setter = pool.Task(flag.set)
    assert flag.wait(5) is True
    setter.join()


# Time limits ----------------------------------------------------------------------------------


def test_a_call_in_time_gives_its_answer() -> None:
    assert pool.within(5, lambda a, b: a + b, 1, b=2) == 3


def test_a_call_that_is_late_raises_what_except_exception_catches() -> None:
    with pytest.raises(TimeoutError, match=r"no answer within 0\.01 s"):
        pool.within(0.01, pool.Flag().wait)


def test_a_calls_own_error_comes_through() -> None:
    def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        pool.within(5, fail)
    with pytest.raises(TimeoutError, match="its own"):
        pool.within(5, _raise, TimeoutError("its own"))


def _raise(error: Exception) -> None:
    raise error


def test_an_outer_limit_is_not_mistaken_for_an_inner_one() -> None:
    def inner() -> None:
        pool.within(5, pool.Flag().wait)

    with pytest.raises(TimeoutError, match=r"0\.01 s"):
        pool.within(0.01, inner)


def test_no_limit_stays_behind() -> None:
    pool.within(0.02, lambda: None)
    assert pool.Flag().wait(0.05) is False


# Blocking calls -------------------------------------------------------------------------------


def test_a_blocking_call_lets_other_green_threads_run() -> None:
    go_on = threading.Event()
    other = pool.Task(go_on.set)
    assert pool.blocking(go_on.wait, 5) is True
    other.join()


def test_a_blocking_call_raises_what_it_raised(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError):
        pool.blocking(_raise, KeyError("x"))
    assert "Traceback" not in capfd.readouterr().err


def test_a_blocking_call_can_be_given_up() -> None:
    go_on = threading.Event()
    try:
        with pytest.raises(TimeoutError):
            pool.within(0.02, pool.blocking, go_on.wait, 5)
    finally:
        go_on.set()


# Tasks ----------------------------------------------------------------------------------------


def test_a_task_raises_where_it_is_joined(capfd: pytest.CaptureFixture[str]) -> None:
    task = pool.Task(_raise, KeyError("x"))
    with pytest.raises(KeyError):
        task.join()
    capfd.readouterr()


def test_a_killed_task_runs_no_further() -> None:
    steps = []

    def work() -> None:
        steps.append(1)
        pool.sleep(5)
        steps.append(2)

    task = pool.Task(work)
    run_for_a_while()
    task.kill()
    run_for_a_while()
    assert steps == [1]


def test_the_stacks_are_those_of_all_green_threads_but_the_callers_own() -> None:
    def waits_here() -> None:
        pool.sleep(5)

    def never_begun() -> None:
        pass

    tasks = [pool.Task(waits_here) for _ in range(3)]
    run_for_a_while()
    tasks.append(pool.Task(never_begun))
    stacks = [stack for stack in pool.stacks() if "waits_here" in stack]
    assert len(stacks) == 3
    assert all("pool.sleep(5)" in stack for stack in stacks)
    assert not any("never_begun" in stack for stack in pool.stacks())
    assert not any("in test_the_stacks_are" in stack for stack in pool.stacks())
    assert any("in test_the_stacks_are" in stack for stack in pool.native_stacks())
    for task in tasks:
        task.kill()
    assert not any("waits_here" in stack for stack in pool.stacks())


# Names ------------------------------------------------------------------------------------

LOOKED_UP = """
import sys
from scrubber import pool
pool.patch()
import socket
print(socket.getaddrinfo({host!r}, 80, type=socket.SOCK_STREAM)[0][4][0])
print("eventlet.support.greendns" in sys.modules)
"""

HOSTS = [
    # host; what it is, None for any; whether somebody has to be asked
    ("127.0.0.1", "127.0.0.1", False),
    ("::1", "::1", False),
    (b"127.0.0.1", "127.0.0.1", False),
    ("localhost", None, False),
    (socket.gethostname(), None, True),
]


@pytest.mark.parametrize(("host", "address", "asks"), HOSTS)
def test_only_a_name_costs_the_import_of_who_looks_it_up(
    host: str | bytes, address: str | None, asks: bool
) -> None:
    script = LOOKED_UP.format(host=host)
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True
    )
    found, asked = result.stdout.split()
    assert address in (None, found)
    assert asked == str(asks)


# Ahead --------------------------------------------------------------------------------------


def test_the_next_page_is_asked_for_while_one_is_at_work() -> None:
    asked: list[int] = []

    def pages() -> Iterator[int]:
        for number in range(3):
            asked.append(number)
            yield number

    taken = []
    for page in pool.ahead(pages()):
        taken.append(page)
        assert asked == list(range(min(page + 2, 3)))
    assert taken == [0, 1, 2]


def test_what_a_page_raises_comes_in_its_turn(capfd: pytest.CaptureFixture[str]) -> None:
    def pages() -> Iterator[int]:
        yield 1
        raise LookupError

    ahead = pool.ahead(pages())
    assert next(ahead) == 1
    with pytest.raises(LookupError):
        next(ahead)
    assert capfd.readouterr() == ("", "")


def test_nothing_is_asked_for_once_nobody_wants_more() -> None:
    ended = pool.Flag()

    def pages() -> Iterator[int]:
        try:
            yield 1
            pool.sleep(60)
            yield 2
        finally:
            ended.set()

    ahead = pool.ahead(pages())
    assert next(ahead) == 1
    ahead.close()
    assert ended

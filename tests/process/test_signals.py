"""How scrubber leaves: it ends what is in flight, begins nothing, gives back what it claimed."""

import signal
import time

import pytest

from lab.processes import wait_until
from process.program import Program, Running
from process.rows import Backlog

IMAGES = 400
SLOWLY = 0.3
#: A delete of so many seconds ends after the program, if it is not waited for.
LATE = 40.0


@pytest.fixture
def slow(program: Program, backlog: Backlog) -> Program:
    """Deletes of 0.3 s, 16 at once, one in a call."""
    backlog.add_live(10)
    backlog.add_pending(IMAGES)
    program.use(backlog, kind="slowfile", seconds=SLOWLY)
    return program


def in_mid_run(program: Program, *arguments: str, deletes: int = 20) -> Running:
    running = program.start(*arguments)
    running.child.wait_ready(lambda: program.journal.ended() >= deletes)
    return running


def assert_left_in_order(program: Program, backlog: Backlog, signalled: float) -> None:
    deletes = program.journal.deletes()
    assert max(delete.began for delete in deletes) < signalled + 2
    assert all(delete.ended is not None for delete in deletes)
    assert len(deletes) < IMAGES, "not in mid-run"
    assert backlog.claimed() == set()
    assert backlog.recorded() == {delete.image for delete in deletes}
    assert backlog.files() == {*backlog.live, *backlog.pending} - backlog.recorded()


def test_a_signal_ends_a_run_in_order(
    slow: Program, backlog: Backlog, stop_signal: signal.Signals
) -> None:
    running = in_mid_run(slow, "--format", "json")
    signalled = time.monotonic()
    running.child.send(stop_signal)
    ended = running.wait()

    assert ended.status == 3
    assert ended.document["status"] == "cancelled"
    assert ended.document["images"]["scrubbed"] == len(backlog.recorded())
    assert_left_in_order(slow, backlog, signalled)

    slow.configure({"main": {"seconds": 0}})
    assert slow.run().status == 0
    backlog.assert_scrubbed()


def test_a_signal_ends_a_daemon_in_mid_run_in_order(
    slow: Program, backlog: Backlog, stop_signal: signal.Signals
) -> None:
    running = in_mid_run(slow, "--daemon")
    signalled = time.monotonic()
    running.child.send(stop_signal)
    ended = running.wait()

    assert ended.status == 0
    assert "Traceback" not in ended.stderr
    assert_left_in_order(slow, backlog, signalled)


def test_a_signal_ends_a_waiting_daemon_at_once(
    program: Program, backlog: Backlog, stop_signal: signal.Signals
) -> None:
    program.use(backlog)
    running = program.start("--daemon")
    running.child.wait_ready(lambda: running.runs_ended() == 1)
    running.child.send(stop_signal)
    ended = running.wait()

    assert ended.status == 0
    assert "Traceback" not in ended.stderr


def test_a_signal_is_heeded_within_a_batch_of_calls_that_turned_slow(
    program: Program, backlog: Backlog
) -> None:
    backlog.add_live(1)
    backlog.add_pending(IMAGES)
    program.use(backlog, kind="slowfile", seconds=1.5, batch=256)
    running = program.start()
    running.child.wait_ready(lambda: program.journal.begun() > 0)
    signalled = time.monotonic()
    running.child.send(signal.SIGTERM)
    ended = running.wait()

    assert ended.status == 3
    assert_left_in_order(program, backlog, signalled)


def test_a_second_signal_leaves_at_once(slow: Program, backlog: Backlog) -> None:
    slow.configure({"main": {"seconds": LATE}})
    running = slow.start()
    running.child.wait_ready(lambda: slow.journal.begun() == 2)
    # Two of different kinds: the kernel would make one of two that are alike.
    running.child.send(signal.SIGTERM)
    running.child.send(signal.SIGINT)
    ended = running.wait(LATE / 2)

    assert ended.status == 1
    assert backlog.recorded() == set()
    assert len(backlog.files()) == IMAGES + 10


def test_the_same_signal_again_leaves_at_once(slow: Program) -> None:
    slow.configure({"main": {"seconds": LATE}})
    running = slow.start()
    running.child.wait_ready(lambda: slow.journal.begun() == 2)
    running.child.send(signal.SIGTERM)
    wait_until(lambda: signal.SIGTERM not in pending_signals(running.pid), what="the handler")
    started = time.monotonic()
    while running.running and time.monotonic() < started + LATE / 2:
        running.child.send(signal.SIGTERM)

    assert running.wait(LATE / 2).status == 1


def pending_signals(pid: int) -> set[signal.Signals]:
    with open(f"/proc/{pid}/status") as status:
        fields = dict(line.rstrip("\n").split(":\t", 1) for line in status)
    mask = int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)
    return {number for number in signal.Signals if mask >> (number - 1) & 1}


@pytest.mark.parametrize("arguments", [(), ("--daemon",)], ids=["once", "daemon"])
def test_the_grace_timeout_leaves_though_a_delete_hangs(
    slow: Program, backlog: Backlog, arguments: tuple[str, ...]
) -> None:
    """What had ended is recorded; what hangs stays pending."""
    slow.configure(
        {
            "DEFAULT": {"scrub_pool_size": 4},
            "scrubber": {"graceful_shutdown_timeout": 2},
            "main": {"seconds": 0.05, "hang_after": 20},
        }
    )
    running = slow.start(*arguments)
    wait_until(lambda: hanging(slow) == 4, what="four deletes that hang")
    started = time.monotonic()
    running.child.send(signal.SIGTERM)
    ended = running.wait()

    assert time.monotonic() - started >= 2
    assert ended.status == 1
    done = {delete.image for delete in slow.journal.deletes() if delete.ended is not None}
    assert backlog.recorded() == done
    assert backlog.files() == {*backlog.live, *backlog.pending} - done


def hanging(program: Program) -> int:
    horizon = time.monotonic() - 0.5
    return sum(
        delete.ended is None and delete.began < horizon for delete in program.journal.deletes()
    )


def test_what_only_waits_is_given_back_though_a_delete_hangs(
    slow: Program, backlog: Backlog
) -> None:
    slow.configure(
        {
            "DEFAULT": {"scrub_pool_size": 4},
            "scrubber": {"graceful_shutdown_timeout": 2},
            "main": {"hang_after": 0},
        }
    )
    running = slow.start()
    running.child.wait_ready(lambda: slow.journal.begun() == 2)
    running.child.send(signal.SIGTERM)

    assert running.wait().status == 1
    assert backlog.claimed() == {delete.image for delete in slow.journal.deletes()}


def test_grace_without_end_waits_for_the_last_delete(slow: Program, backlog: Backlog) -> None:
    slow.configure({"scrubber": {"graceful_shutdown_timeout": 0}, "main": {"seconds": 1.5}})
    running = slow.start()
    running.child.wait_ready(lambda: slow.journal.begun() >= 16)
    signalled = time.monotonic()
    running.child.send(signal.SIGTERM)

    assert running.wait().status == 3
    assert_left_in_order(slow, backlog, signalled)

"""Calls that block their thread stop nothing else."""

import signal
import time

import pytest

from process.program import Program
from process.rows import Backlog


@pytest.mark.parametrize("slots", [16, 48])
def test_blocking_deletes_run_in_parallel_as_many_as_there_are_slots(
    program: Program, backlog: Backlog, slots: int
) -> None:
    backlog.add_live(1)
    backlog.add_pending(2 * slots)
    program.use(backlog, kind="slowfile", seconds=0.6)
    program.configure({"DEFAULT": {"scrub_pool_size": slots}})

    assert program.run().status == 0
    backlog.assert_scrubbed()
    assert program.journal.most_at_once() == slots


def test_one_slot_deletes_one_after_another(program: Program, backlog: Backlog) -> None:
    backlog.add_live(1)
    backlog.add_pending(6)
    program.use(backlog, kind="slowfile", seconds=0.05)
    program.configure({"DEFAULT": {"scrub_pool_size": 1}})

    assert program.run().status == 0
    assert program.journal.most_at_once() == 1


def test_a_signal_is_answered_while_every_slot_blocks(program: Program, backlog: Backlog) -> None:
    backlog.add_live(1)
    backlog.add_pending(200)
    program.use(backlog, kind="slowfile", seconds=1.5)
    running = program.start()
    running.child.wait_ready(lambda: program.journal.begun() >= 16)
    started = time.monotonic()
    running.child.send(signal.SIGTERM)

    assert running.wait().status == 3
    # If each blocked all, the sixteen under way alone would take 24 s.
    assert time.monotonic() - started < 12


def test_two_scrubbers_at_once_delete_each_image_once(program: Program, backlog: Backlog) -> None:
    backlog.add_live(1)
    backlog.add_pending(400)
    program.use(backlog, kind="slowfile", seconds=0.02)
    program.configure({"scrubber": {"page_size": 20}})
    both = [program.start(), program.start()]

    assert [running.wait().status for running in both] == [0, 0]
    images = [delete.image for delete in program.journal.deletes()]
    assert sorted(images) == sorted(backlog.pending)
    backlog.assert_scrubbed()

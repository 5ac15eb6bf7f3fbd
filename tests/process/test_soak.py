"""Many wake-ups leave what the process holds where it was; see also ``python -m bench.soak``."""

import signal
from collections.abc import Callable
from pathlib import Path

from lab.databases import Database
from lab.processes import wait_until
from process.held import held_by
from process.program import Program, Running
from process.rows import Backlog

WAKE_UPS = 8
MOST_GROWTH_KIB = 2048


def wake_up(running: Running, backlog: Backlog) -> None:
    wanted = running.runs_ended() + 1
    backlog.add_pending(3)
    for number in (signal.SIGHUP, signal.SIGUSR1):
        running.child.send(number)
    wait_until(lambda: running.runs_ended() >= wanted, what=f"run {wanted}")


def test_many_wake_ups_hold_no_more_than_a_few(
    program: Program, new_database: Callable[..., Database], tmp_path: Path
) -> None:
    backlog = Backlog(new_database("mariadb"), tmp_path / "store")
    backlog.add_live(2)
    # Single calls, so that each native thread and each connection has its turn at once.
    backlog.add_pending(300)
    program.use(backlog, kind="slowfile")
    program.configure(
        {
            "DEFAULT": {"wakeup_time": 0},
            "scrubber": {"trigger_images": 1, "trigger_interval": 1},
            "state": {"connection": f"sqlite:///{tmp_path / 'state.sqlite'}"},
        }
    )
    running = program.start("--daemon")
    running.child.wait_ready(lambda: running.runs_ended() >= 1)
    for _ in range(2):  # what is made at the first reload stays, too
        wake_up(running, backlog)
    before = held_by(running.pid)
    for _ in range(WAKE_UPS):
        wake_up(running, backlog)
    wait_until(lambda: held_by(running.pid).countable == before.countable, what=f"{before}")
    assert held_by(running.pid).memory - before.memory < MOST_GROWTH_KIB
    running.child.send(signal.SIGTERM)
    assert running.wait(5).status == 0
    backlog.assert_scrubbed()

"""SIGHUP: good files take effect at once, bad ones not at all."""

import signal
import time

import pytest

from lab.processes import wait_until
from process.program import Program, Running
from process.rows import Backlog

RELOADED = "Configuration reloaded."
REFUSED = "Configuration not reloaded"


@pytest.fixture
def slow(program: Program, backlog: Backlog) -> Program:
    """Enough slow deletes for two slots to be busy for a long time."""
    backlog.add_live(1)
    backlog.add_pending(1500)
    program.use(backlog, kind="slowfile", seconds=0.1)
    program.configure({"DEFAULT": {"scrub_pool_size": 2, "wakeup_time": 1}})
    return program


def reload(running: Running, answer: str) -> None:
    """Send SIGHUP and wait until the log has one more such answer."""
    before = running.stderr.count(answer)
    running.child.send(signal.SIGHUP)
    wait_until(lambda: running.stderr.count(answer) > before, what=answer)


def assert_deletes_at_once(program: Program, size: int) -> None:
    """So many deletes run together, of those that begin from now on."""
    changed = time.monotonic()
    wait_until(lambda: all_ended(program, changed), what="those begun under the old size")
    since = time.monotonic()
    wait_until(lambda: begun(program, since) >= 4 * size, what="more deletes")
    assert program.journal.most_at_once(since=since) == size


def all_ended(program: Program, before: float) -> bool:
    return not [at for at in program.journal.deletes() if at.began < before and at.ended is None]


def begun(program: Program, since: float) -> int:
    return sum(delete.began >= since for delete in program.journal.deletes())


@pytest.mark.parametrize("arguments", [("--daemon",), ()], ids=["daemon", "once"])
def test_the_pool_size_takes_effect_in_mid_run(slow: Program, arguments: tuple[str, ...]) -> None:
    running = slow.start(*arguments)
    running.child.wait_ready(lambda: slow.journal.ended() >= 10)
    assert slow.journal.most_at_once() == 2

    for size in (12, 3):
        slow.configure({"DEFAULT": {"scrub_pool_size": size}})
        reload(running, RELOADED)
        assert_deletes_at_once(slow, size)


DAMAGES = [
    "[DEFAULT\nscrub_pool_size = 8\n",  # not the syntax of such files
    "[DEFAULT]\nscrub_pool_size = 8\nwakeup_time = -5\n",  # out of range
    "[DEFAULT]\nscrub_pool_size = 8\n[scrubber]\ncall_timeout = 900\n",  # not together
    "[DEFAULT]\nscrub_pool_size = 8\ndebug = perhaps\n",  # an option of oslo.log
    "[DEFAULT]\nscrub_pool_size = 8\n[database]\nmax_retries = few\n",  # one of oslo.db
    "[DEFAULT]\nscrub_pool_size = 8\n[database]\nconnection = $wrong\n",
]


def test_bad_files_of_all_kinds_change_nothing(slow: Program) -> None:
    running = slow.start("--daemon")
    running.child.wait_ready(lambda: slow.journal.ended() >= 10)
    good = slow.file.read_text()
    for damage in DAMAGES:
        slow.file.write_text(good + damage)
        reload(running, REFUSED)
    slow.file.unlink()
    reload(running, REFUSED)

    assert_deletes_at_once(slow, 2)
    assert "Traceback" not in running.stderr
    lines = [line for line in running.stderr.splitlines() if REFUSED in line]
    assert len(lines) == len(DAMAGES) + 1
    for word in ("wakeup_time", "[DEFAULT]", str(slow.file)):
        assert word in lines[1]
    slow.configure({"DEFAULT": {"scrub_pool_size": 6}})
    reload(running, RELOADED)
    assert_deletes_at_once(slow, 6)
    running.assert_stops()


def test_a_refused_file_changes_no_option_at_all(program: Program, backlog: Backlog) -> None:
    """Also not those that are read at each use, like scrub_time."""
    backlog.add_live(1)
    program.use(backlog)
    program.configure({"DEFAULT": {"wakeup_time": 1, "scrub_time": 0}})
    running = program.start("--daemon")
    running.child.wait_ready(lambda: running.runs_ended() > 0)

    program.configure({"DEFAULT": {"scrub_time": 1_000_000, "debug": "perhaps"}})
    reload(running, REFUSED)
    backlog.add_pending(3)
    wait_until(lambda: len(backlog.recorded()) == 3, what="a run with the old scrub_time")


def test_a_shorter_wakeup_time_takes_effect_while_the_daemon_waits(
    program: Program, backlog: Backlog
) -> None:
    program.use(backlog)
    program.configure({"DEFAULT": {"wakeup_time": 3600}})
    running = program.start("--daemon")
    running.child.wait_ready(lambda: running.runs_ended() == 1)

    program.configure({"DEFAULT": {"wakeup_time": 1}})
    reload(running, RELOADED)
    wait_until(lambda: running.runs_ended() >= 2, what="the next run")


def test_a_reload_signal_does_not_kill_a_daemon_that_starts(
    program: Program, backlog: Backlog
) -> None:
    """From the program's first line on; before that, Python itself starts."""
    program.use(backlog)
    running = program.start("--daemon")
    wait_until(lambda: not dies_of_sighup(running.pid), what="the first line", every=0.001)

    def signal_until_it_runs() -> bool:
        running.child.send(signal.SIGHUP)
        return running.runs_ended() > 0

    running.child.wait_ready(signal_until_it_runs)
    reload(running, RELOADED)
    running.assert_stops()


def test_reload_signals_do_not_kill_a_run_up_to_its_end(program: Program, backlog: Backlog) -> None:
    backlog.add_live(1)
    backlog.add_pending(20)
    program.use(backlog)
    running = program.start()
    wait_until(lambda: not dies_of_sighup(running.pid), what="the first line", every=0.001)

    def signal_until_its_end() -> bool:
        running.child.send(signal.SIGHUP)
        return not running.running

    wait_until(signal_until_its_end, what="the end", every=0.0005)
    assert running.wait().status == 0
    backlog.assert_scrubbed()


def dies_of_sighup(pid: int) -> bool:
    with open(f"/proc/{pid}/status") as status:
        fields = dict(line.rstrip("\n").split(":\t", 1) for line in status)
    handled = int(fields["SigIgn"], 16) | int(fields["SigCgt"], 16)
    # The shell before it is another program.
    return fields["Name"] in ("sh", "env") or not handled >> (signal.SIGHUP - 1) & 1


def test_a_hundred_reload_signals_in_a_row_leave_the_last_file_in_force(slow: Program) -> None:
    running = slow.start("--daemon")
    running.child.wait_ready(lambda: slow.journal.ended() >= 10)
    for number in range(100):
        slow.configure({"DEFAULT": {"scrub_pool_size": 3 + number % 5}})
        running.child.send(signal.SIGHUP)
    slow.configure({"DEFAULT": {"scrub_pool_size": 9}})
    reload(running, RELOADED)

    assert_deletes_at_once(slow, 9)
    assert "Traceback" not in running.stderr

"""What brings the next run forward, or keeps it back: signals, triggers, quiet hours."""

import datetime
import signal
import sys
from pathlib import Path

import pytest

from lab.processes import wait_until
from process.notify import NotifySocket
from process.program import Program, Running
from process.rows import Backlog

JUST_NOW = datetime.timedelta(0)


@pytest.fixture
def waiting(program: Program, backlog: Backlog) -> Program:
    """A daemon would wait for an hour, but for what a test adds."""
    backlog.add_live(1)
    program.use(backlog)
    program.configure({"DEFAULT": {"wakeup_time": 3600}, "scrubber": {"trigger_interval": 1}})
    return program


def start(program: Program) -> Running:
    """A daemon that has ended its first run."""
    running = program.start("--daemon")
    running.child.wait_ready(lambda: running.runs_ended() == 1)
    return running


def wait_for_runs(running: Running, count: int) -> None:
    wait_until(lambda: running.runs_ended() >= count, what=f"run {count}")


def assert_stops(running: Running) -> None:
    running.child.send(signal.SIGTERM)
    assert running.wait(5).status == 0
    assert "Traceback" not in running.stderr


# Signals --------------------------------------------------------------------------------------


def test_a_signal_brings_the_next_run_at_once(waiting: Program, backlog: Backlog) -> None:
    running = start(waiting)
    for count in (2, 3):
        backlog.add_pending(2)
        running.child.send(signal.SIGUSR1)
        wait_for_runs(running, count)
    backlog.assert_scrubbed()
    assert_stops(running)


def test_a_signal_in_mid_run_brings_one_more_run(program: Program, backlog: Backlog) -> None:
    backlog.add_live(1)
    backlog.add_pending(20)
    program.use(backlog, kind="slowfile", seconds=0.3)
    program.configure({"DEFAULT": {"wakeup_time": 3600}})
    running = program.start("--daemon")
    running.child.wait_ready(lambda: program.journal.begun() > 0)
    running.child.send(signal.SIGUSR1)
    backlog.add_pending(1)
    wait_for_runs(running, 2)
    backlog.assert_scrubbed()
    assert_stops(running)


def ignores(pid: int, number: signal.Signals) -> bool:
    """Whether such a signal would not end it: ignored, or handled."""
    with open(f"/proc/{pid}/status") as status:
        fields = dict(line.rstrip("\n").split(":\t", 1) for line in status)
    mask = int(fields["SigIgn"], 16) | int(fields["SigCgt"], 16)
    return fields["Name"] not in ("sh", "env") and bool(mask >> (number - 1) & 1)


@pytest.mark.parametrize("arguments", [("--daemon",), ()], ids=["daemon", "once"])
def test_signals_do_not_kill_a_program_that_starts_or_runs_once(
    program: Program, backlog: Backlog, arguments: tuple[str, ...]
) -> None:
    backlog.add_live(1)
    backlog.add_pending(20)
    program.use(backlog)
    running = program.start(*arguments)
    wait_until(lambda: ignores(running.pid, signal.SIGUSR2), what="the first line", every=0.001)

    def signal_until_the_end_of_the_run() -> bool:
        running.child.send(signal.SIGUSR1)
        running.child.send(signal.SIGUSR2)
        return bool(running.runs_ended()) or not running.running

    wait_until(signal_until_the_end_of_the_run, what="the run")
    if arguments:
        running.child.send(signal.SIGTERM)
    assert running.wait(10).status == 0
    backlog.assert_scrubbed()


def test_a_daemon_whose_store_hangs_says_where_every_thread_is(
    program: Program, backlog: Backlog
) -> None:
    backlog.add_live(1)
    backlog.add_pending(5)
    program.use(backlog, kind="slowfile", hang_after=0)
    running = program.start("--daemon")
    running.child.wait_ready(lambda: program.journal.begun() >= 2)
    running.child.send(signal.SIGUSR2)
    wait_until(lambda: " green threads; " in running.stderr, what="the dump")

    native, _, green = running.stderr.partition(" green threads; ")
    assert native.count("in _slowly") >= 2
    assert "in serve" in green
    assert "dispatch.py" in green
    assert running.running


@pytest.mark.parametrize("kind", ["python", "c"])
def test_a_stuck_program_says_where_it_is_and_can_be_stopped(program: Program, kind: str) -> None:
    script = Path(__file__).with_name("busy_hub.py")
    running = program.start(command=[sys.executable, str(script), kind])
    running.child.wait_ready(lambda: "busy" in running.stdout)
    if kind == "python":
        running.child.send(signal.SIGUSR2)
        wait_until(lambda: "in never_its_turn" in running.stderr, what="the dump")
        running.child.send(signal.SIGTERM)
        running.child.send(signal.SIGINT)
        assert running.wait(5).status == 1
    else:
        running.child.send(signal.SIGABRT)  # as systemd's watchdog does
        ended = running.wait(5)
        assert ended.status == -signal.SIGABRT
        assert "Fatal Python error: Aborted" in ended.stderr
        assert "busy_hub.py" in ended.stderr


# Triggers -------------------------------------------------------------------------------------


def test_pending_images_bring_the_next_run_once_they_are_many(
    waiting: Program, backlog: Backlog
) -> None:
    waiting.configure({"scrubber": {"trigger_images": 3}})
    running = start(waiting)
    backlog.add_pending(3, ago=JUST_NOW)
    wait_until(lambda: len(backlog.recorded()) == 3, what="the next run")
    assert "trigger pending images" in running.stderr
    assert_stops(running)


def test_a_file_system_that_is_full_brings_the_next_run(waiting: Program, backlog: Backlog) -> None:
    running = start(waiting)
    waiting.configure({backlog.store: {"scrub_free_space": "100%"}})
    running.child.send(signal.SIGHUP)
    wait_until(lambda: "Configuration reloaded" in running.stderr, what="the reload")
    backlog.add_pending(1, ago=JUST_NOW)
    wait_until(lambda: len(backlog.recorded()) == 1, what="the next run")
    assert "trigger free space" in running.stderr
    assert_stops(running)


# Quiet hours ----------------------------------------------------------------------------------


def hours_from_now(start: int, end: int) -> str:
    now = datetime.datetime.now(datetime.UTC)
    times = [now + datetime.timedelta(hours=hours) for hours in (start, end)]
    return "{:%H:%M}-{:%H:%M} UTC".format(*times)


SHUT, OPEN = (6, 12), (-6, 6)


def set_window(program: Program, running: Running, hours: tuple[int, int]) -> None:
    program.configure({"scrubber": {"scrub_window": hours_from_now(*hours)}})
    before = running.stderr.count("Configuration reloaded")
    running.child.send(signal.SIGHUP)
    wait_until(lambda: running.stderr.count("Configuration reloaded") > before, what="the reload")


def test_outside_its_hours_it_runs_only_when_asked(
    waiting: Program, backlog: Backlog, tmp_path: Path
) -> None:
    waiting.configure({"scrubber": {"scrub_window": hours_from_now(*SHUT)}})
    systemd = NotifySocket(tmp_path)
    running = waiting.start(command=systemd.command(waiting.command("--daemon")))
    running.child.wait_ready(
        lambda: "outside window: next run in 6 h (window)" in systemd.said("STATUS")
    )
    systemd.close()
    assert running.runs_ended() == 0

    backlog.add_pending(2)
    running.child.send(signal.SIGUSR1)
    wait_for_runs(running, 1)
    backlog.assert_scrubbed()
    assert_stops(running)


def test_a_run_ends_in_order_when_its_hours_do_and_goes_on_with_the_next(
    program: Program, backlog: Backlog
) -> None:
    backlog.add_live(1)
    backlog.add_pending(400)
    program.use(backlog, kind="slowfile", seconds=0.2)
    program.configure(
        {"DEFAULT": {"wakeup_time": 1}, "scrubber": {"scrub_window": hours_from_now(*OPEN)}}
    )
    running = program.start("--daemon")
    running.child.wait_ready(lambda: program.journal.ended() >= 10)
    set_window(program, running, SHUT)
    wait_for_runs(running, 1)

    deletes = program.journal.deletes()
    assert 10 <= len(deletes) < 400
    assert all(delete.ended is not None for delete in deletes)
    assert backlog.recorded() == {delete.image for delete in deletes}
    assert backlog.claimed() == set()
    assert "cancelled: " in running.stderr

    set_window(program, running, OPEN)
    wait_until(lambda: program.journal.begun() > len(deletes), what="the next run")
    running.child.send(signal.SIGTERM)
    assert running.wait(10).status == 0

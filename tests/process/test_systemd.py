"""What the daemon tells systemd, on a notification socket of the test's own."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.processes import wait_until
from process.notify import NotifySocket
from process.program import Program, Running
from process.rows import Backlog


@pytest.fixture(params=[False, True], ids=["path", "abstract"])
def systemd(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[NotifySocket]:
    listener = NotifySocket(tmp_path, abstract=request.param)
    yield listener
    listener.close()


@pytest.fixture
def notified(tmp_path: Path) -> Iterator[NotifySocket]:
    listener = NotifySocket(tmp_path)
    yield listener
    listener.close()


def start(program: Program, systemd: NotifySocket, **environment: object) -> Running:
    return program.start(command=systemd.command(program.command("--daemon"), **environment))


def wait_for(
    running: Running, systemd: NotifySocket, name: str, value: str, times: int = 1
) -> None:
    """Until such a field has come so often; its value only begins so."""

    def came() -> bool:
        return sum(said.startswith(value) for said in systemd.said(name)) >= times

    wait_until(lambda: came() or not running.running, what=f"{name}={value}")
    assert came(), running.stderr


def test_a_daemons_life_is_told(program: Program, backlog: Backlog, systemd: NotifySocket) -> None:
    backlog.add_live(1)
    program.use(backlog)
    running = start(program, systemd)
    wait_for(running, systemd, "READY", "1")
    wait_for(running, systemd, "STATUS", "waiting: next run in ")
    assert "STOPPING" not in {name for message in systemd.heard for name in message}

    running.child.send(signal.SIGHUP)
    wait_for(running, systemd, "READY", "1", times=2)
    running.child.send(signal.SIGTERM)
    assert running.wait(5).status == 0

    told = [next(iter(message)) for message in systemd.heard if "STATUS" not in message]
    assert told == ["READY", "RELOADING", "READY", "STOPPING"]
    (reloading,) = [message for message in systemd.heard if "RELOADING" in message]
    assert int(reloading["MONOTONIC_USEC"]) > 0


def test_it_is_not_ready_without_its_database(
    program: Program, backlog: Backlog, notified: NotifySocket
) -> None:
    program.use(backlog)
    program.configure({"database": {"connection": "mysql://glance:secret@127.0.0.1:1/glance"}})
    running = start(program, notified)
    assert running.wait(20).status == 1
    assert notified.said("READY") == []


def test_a_store_that_is_down_is_named_and_does_not_keep_it_from_being_ready(
    program: Program, backlog: Backlog, notified: NotifySocket
) -> None:
    program.use(backlog)
    backlog.directory.rename(backlog.directory.with_suffix(".away"))
    running = start(program, notified)
    wait_for(running, notified, "READY", "1")
    assert "Store main cannot be used now" in running.stderr


def test_a_file_that_is_refused_ends_the_reload_all_the_same(
    program: Program, backlog: Backlog, notified: NotifySocket
) -> None:
    program.use(backlog)
    running = start(program, notified)
    wait_for(running, notified, "READY", "1")
    program.configure({"DEFAULT": {"wakeup_time": "soon"}})
    running.child.send(signal.SIGHUP)
    wait_for(running, notified, "READY", "1", times=2)
    assert "not reloaded" in running.stderr


@pytest.fixture
def hanging(program: Program, backlog: Backlog) -> Program:
    """All slots soon hang in deletes."""
    backlog.add_live(1)
    backlog.add_pending(20)
    program.use(backlog, kind="slowfile", seconds=0.2, hang_after=4)
    program.configure({"DEFAULT": {"scrub_pool_size": 4}})
    return program


def test_while_stores_hang_the_watchdog_is_fed_and_the_status_goes_on(
    hanging: Program, notified: NotifySocket
) -> None:
    running = start(hanging, notified, WATCHDOG_USEC=400_000)
    wait_for(running, notified, "STATUS", "scrubbing: ")
    wait_until(lambda: hanging.journal.begun() == 8, what="deletes that hang")
    before = len(notified.said("WATCHDOG"))
    wait_for(running, notified, "WATCHDOG", "1", times=before + 5)
    wait_for(running, notified, "STATUS", "scrubbing: 4 images done, 0 left, ")


def test_while_it_drains_systemd_is_asked_for_patience(
    hanging: Program, notified: NotifySocket
) -> None:
    hanging.configure({"scrubber": {"graceful_shutdown_timeout": 4}})
    running = start(hanging, notified)
    wait_until(lambda: hanging.journal.begun() == 8, what="deletes that hang")
    running.child.send(signal.SIGTERM)
    wait_for(running, notified, "STOPPING", "1")
    wait_for(running, notified, "EXTEND_TIMEOUT_USEC", "10000000", times=2)
    wait_for(running, notified, "STATUS", "stopping")
    assert running.wait(20).status == 1


def test_a_watchdog_of_another_process_is_not_fed(
    program: Program, backlog: Backlog, notified: NotifySocket
) -> None:
    program.use(backlog)
    running = start(program, notified, WATCHDOG_USEC=100_000, WATCHDOG_PID=1)
    wait_for(running, notified, "STATUS", "waiting")
    assert notified.said("WATCHDOG") == []


@pytest.mark.parametrize("gone", [True, False], ids=["gone", "full"])
def test_a_systemd_that_does_not_listen_holds_up_nothing(
    program: Program, backlog: Backlog, notified: NotifySocket, gone: bool
) -> None:
    program.use(backlog)
    program.configure({"DEFAULT": {"wakeup_time": 1}})
    if gone:
        notified.close()
    running = start(program, notified, WATCHDOG_USEC=8_000)  # a full queue after a second
    running.child.wait_ready(lambda: running.runs_ended() >= 3)
    running.child.send(signal.SIGTERM)
    assert running.wait(5).status == 0
    assert "Traceback" not in running.stderr

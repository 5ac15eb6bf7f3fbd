"""What is said to systemd, and what never is."""

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from process.notify import NotifySocket
from scrubber import pool
from scrubber.systemd import Notifier, Reporter

PATIENCE = 10.0
WATCHDOG_SECONDS = 0.2


@pytest.fixture
def socket(tmp_path: Path) -> Iterator[NotifySocket]:
    socket = NotifySocket(tmp_path)
    yield socket
    socket.close()


@pytest.fixture
def notifier(socket: NotifySocket) -> Iterator[Notifier]:
    notifier = Notifier({"NOTIFY_SOCKET": socket.address})
    yield notifier
    notifier.close()


@pytest.fixture
def watched(socket: NotifySocket) -> Iterator[Notifier]:
    """By a watchdog."""
    microseconds = str(int(WATCHDOG_SECONDS * 1e6))
    notifier = Notifier({"NOTIFY_SOCKET": socket.address, "WATCHDOG_USEC": microseconds})
    yield notifier
    notifier.close()


@pytest.fixture
def stop() -> pool.Flag:
    return pool.Flag()


Report = Callable[[Notifier, Callable[[], str]], None]


@pytest.fixture
def report(stop: pool.Flag) -> Iterator[Report]:
    """Starts a reporter that ends with the test."""
    reporters: list[Reporter] = []
    yield lambda notifier, line: reporters.append(Reporter(notifier, line, stop))
    for reporter in reporters:
        reporter.close()


def hear(socket: NotifySocket, name: str, times: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while len(socket.said(name)) < times:
        assert time.monotonic() < deadline
        pool.sleep(0.005)


def test_without_a_socket_nothing_happens(stop: pool.Flag) -> None:
    silent = Notifier({"WATCHDOG_USEC": "1000"})
    assert not silent
    assert silent.watchdog_seconds is None
    silent.ready()
    Reporter(silent, lambda: "", stop).close()
    silent.close()


def test_a_reload_before_it_is_ready_does_not_make_it_ready(
    socket: NotifySocket, notifier: Notifier
) -> None:
    with notifier.reloading():
        pass
    assert socket.heard == []
    notifier.ready()
    with notifier.reloading():
        assert [list(message) for message in socket.heard] == [
            ["READY"],
            ["RELOADING", "MONOTONIC_USEC"],
        ]
    assert socket.said("READY") == ["1", "1"]


def test_a_status_is_told_once_and_on_one_line(
    socket: NotifySocket, notifier: Notifier, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrubber.systemd.TELL_SECONDS", 0.01)
    lines = ["waiting", "scrubbing:\n1 image\nREADY=0"]
    report(notifier, lambda: lines[0])
    hear(socket, "STATUS", 1)
    pool.sleep(0.1)
    lines.pop(0)
    hear(socket, "STATUS", 2)
    assert socket.heard == [{"STATUS": "waiting"}, {"STATUS": "scrubbing: 1 image READY=0"}]


def test_the_watchdog_is_fed_while_the_hub_turns_and_only_then(
    socket: NotifySocket, watched: Notifier, report: Report
) -> None:
    rounds: list[None] = []  # four to the time that systemd waits
    report(watched, lambda: str(rounds.append(None)))
    hear(socket, "WATCHDOG", 5)
    before = len(socket.said("WATCHDOG"))
    assert len(rounds) <= 3 * before
    ends = time.monotonic() + 2 * WATCHDOG_SECONDS
    while time.monotonic() < ends:
        pass  # a green thread that gives way to none
    assert len(socket.said("WATCHDOG")) == before
    hear(socket, "WATCHDOG", before + 1)


def test_who_cannot_say_what_it_is_at_is_alive_all_the_same(
    socket: NotifySocket, watched: Notifier, report: Report, caplog: pytest.LogCaptureFixture
) -> None:
    report(watched, lambda: str(1 // 0))
    hear(socket, "WATCHDOG", 2)
    assert socket.said("STATUS") == ["a defect in scrubber: see its log"]
    assert "ZeroDivisionError" in caplog.text


def test_from_the_stop_on_it_asks_for_patience_and_is_alive(
    socket: NotifySocket, watched: Notifier, report: Report, stop: pool.Flag
) -> None:
    report(watched, lambda: "stopping")
    hear(socket, "WATCHDOG", 1)
    assert socket.said("EXTEND_TIMEOUT_USEC") == []
    stop.set()
    hear(socket, "STOPPING", 1)
    hear(socket, "EXTEND_TIMEOUT_USEC", 2)
    hear(socket, "WATCHDOG", len(socket.said("WATCHDOG")) + 2)


def test_a_message_that_cannot_be_sent_is_lost_and_said_once(
    socket: NotifySocket, notifier: Notifier, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for _ in range(2000):  # nobody reads them, and a queue holds a few hundred at most
        notifier.ready()
    socket.close()
    notifier.ready()
    assert caplog.text.count("systemd cannot be told") == 1

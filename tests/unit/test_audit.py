"""The audit trail: one true line for each location, whatever happens to its file."""

import datetime
import json
import logging
import logging.handlers
import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrubber import config
from scrubber.model import Outcome, Settled
from scrubber.options import SCRUBBER_OPTS
from scrubber.reporting import audit
from scrubber.reporting.announcing import Announcer
from scrubber.reporting.audit import AuditFile, AuditTrail, audit_lines, open_trail
from scrubber.reporting.report import Report

NOON = datetime.datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=datetime.UTC)
SETTLED = Settled(
    run="0123456789ab",
    image="11111111-2222-3333-4444-555555555555",
    owner="project",
    store="fast",
    location=42,
    size=5,
    outcome=Outcome.FAILED,
    reason="permission denied",
    attempts=2,
    seconds=0.01234,
)


@pytest.fixture(autouse=True)
def logger_as_before() -> Iterator[None]:
    level = audit.AUDIT.level
    yield
    audit.AUDIT.setLevel(level)
    assert audit.AUDIT.propagate
    files = [handler for handler in audit.AUDIT.handlers if isinstance(handler, AuditFile)]
    assert files == [], "a test left its file open"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


@pytest.fixture
def trail(path: Path) -> Iterator[AuditTrail]:
    trail = AuditTrail(AuditFile(str(path)), now=lambda: NOON)
    yield trail
    trail.close()


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def a_line(settled: Settled) -> str:
    [line] = audit_lines([settled], NOON)
    return line


# A line -------------------------------------------------------------------------------------


def test_a_line_says_all_of_it() -> None:
    assert json.loads(a_line(SETTLED)) == {
        "time": "2026-01-31T12:00:00.123Z",
        "run": "0123456789ab",
        "image": "11111111-2222-3333-4444-555555555555",
        "owner": "project",
        "store": "fast",
        "location": 42,
        "size": 5,
        "outcome": "failed",
        "reason": "permission denied",
        "attempts": 2,
        "seconds": 0.012,
    }


@given(text=st.text() | st.text(alphabet='\0\n\r\x1b\u2028\u2029\ud800"\\'))
def test_no_text_can_forge_a_line_or_move_a_terminal(text: str) -> None:
    line = a_line(replace(SETTLED, reason=text, owner=text, store=text))
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["reason"] == text


def test_what_glance_does_not_know_is_null() -> None:
    line = json.loads(a_line(replace(SETTLED, owner=None, size=None)))
    assert line["owner"] is None
    assert line["size"] is None


# The file -----------------------------------------------------------------------------------


def test_lines_are_added_to_a_file_that_others_cannot_read(trail: AuditTrail, path: Path) -> None:
    trail([SETTLED])
    trail([replace(SETTLED, location=43)])
    assert [line["location"] for line in lines(path)] == [42, 43]
    assert stat.S_IMODE(path.stat().st_mode) & 0o037 == 0


def test_what_is_there_already_stays(path: Path) -> None:
    path.write_text('{"location": 1}\n')
    trail = AuditTrail(AuditFile(str(path)))
    trail([SETTLED])
    trail.close()
    assert [line["location"] for line in lines(path)] == [1, 42]


def test_a_line_is_in_the_file_at_once_and_whole(trail: AuditTrail, path: Path) -> None:
    """A process that is killed loses none, and several processes mix none."""
    other = AuditFile(str(path))
    for number in range(3):
        trail([replace(SETTLED, location=number, reason="x" * 20_000)])
        other.emit(logging.makeLogRecord({"msg": '{"location": -1}'}))
        assert len(lines(path)) == 2 * (number + 1)
    other.close()


def test_a_file_that_was_moved_away_is_made_anew(trail: AuditTrail, path: Path) -> None:
    trail([SETTLED])
    old = path.rename(path.with_suffix(".1"))
    trail([replace(SETTLED, location=43)])
    assert [line["location"] for line in lines(old)] == [42]
    assert [line["location"] for line in lines(path)] == [43]


def test_what_is_in_the_file_is_not_in_the_logs(trail: AuditTrail, path: Path) -> None:
    logs = logging.handlers.BufferingHandler(100)
    logging.getLogger().addHandler(logs)
    try:
        trail([SETTLED])
    finally:
        logging.getLogger().removeHandler(logs)
    assert len(lines(path)) == 1
    assert logs.buffer == []


def test_the_levels_of_the_logs_do_not_silence_the_file(path: Path) -> None:
    audit.AUDIT.setLevel(logging.CRITICAL)
    trail = AuditTrail(AuditFile(str(path)))
    trail([SETTLED])
    trail.close()
    assert len(lines(path)) == 1


# Trouble ------------------------------------------------------------------------------------


class FullDisk:
    """Takes so many bytes, and no more; as a raw file does it says how many."""

    def __init__(self, path: Path, room: int) -> None:
        self._file = path.open("ab", buffering=0)
        self.room = room

    def write(self, line: bytes) -> int:
        if not self.room:
            raise OSError(28, "No space left on device")
        written = self._file.write(line[: self.room])
        self.room -= written
        return written

    def flush(self) -> None: ...

    def close(self) -> None:
        self._file.close()


def test_a_full_disk_is_said_once_counted_and_got_over(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = AuditFile(str(path))
    trail = AuditTrail(file)
    file.stream.close()
    disk: Any = FullDisk(path, room=len(a_line(SETTLED)) + 20)
    file.stream = disk
    for _ in range(4):
        trail([SETTLED])
    assert trail.lost == 3
    assert len(caplog.records) == 1
    warning = caplog.text
    for word in ("goes on", str(path), "audit_file", "[scrubber]"):
        assert word in warning

    disk.room = 1000
    trail([replace(SETTLED, location=43)])
    trail([replace(SETTLED, location=44)])
    assert caplog.text.count("written again") == 1
    # The line that was cut off spoils no other.
    torn = path.read_text().splitlines()
    assert [json.loads(line)["location"] for line in (torn[0], *torn[2:])] == [42, 43, 44]

    disk.room = 0
    trail([SETTLED])
    trail.close()
    assert trail.lost == 4
    assert caplog.text.count("goes on") == 2


def test_of_many_lines_those_are_counted_that_a_full_disk_did_not_take(path: Path) -> None:
    file = AuditFile(str(path))
    trail = AuditTrail(file, now=lambda: NOON)
    file.stream.close()
    # Room for a whole write of several lines, for some lines of the next, and for a part of one.
    disk: Any = FullDisk(path, room=40 * (len(a_line(SETTLED)) + 1) + 20)
    file.stream = disk
    trail([replace(SETTLED, location=10 + number) for number in range(60)])
    assert trail.lost == 20
    disk.room = 10_000
    trail([replace(SETTLED, location=70), replace(SETTLED, location=71)])
    trail.close()
    written = path.read_text().splitlines()
    whole = [json.loads(line)["location"] for line in written if line.endswith("}")]
    assert whole == [*range(10, 50), 70, 71]


def test_many_lines_are_few_writes_and_none_is_more_than_a_pipe_takes_whole(path: Path) -> None:
    file = AuditFile(str(path))
    trail = AuditTrail(file)
    sizes: list[int] = []
    write = file._write
    file._write = lambda lines: sizes.append(len(lines)) or write(lines)  # type: ignore[method-assign,func-returns-value]
    trail([replace(SETTLED, location=number) for number in range(1000)])
    trail.close()
    assert [line["location"] for line in lines(path)] == list(range(1000))
    assert len(sizes) < 100
    assert max(sizes) <= 4096


def test_a_directory_that_goes_and_comes_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "log"
    directory.mkdir()
    path = directory / "audit.log"
    trail = AuditTrail(AuditFile(str(path)))
    path.unlink()
    directory.rmdir()
    for _ in range(3):
        trail([SETTLED])
    assert trail.lost == 3
    assert len(caplog.records) == 1
    assert "No such file" in caplog.text
    directory.mkdir()
    trail([SETTLED])
    trail.close()
    assert len(lines(path)) == 1
    assert trail.lost == 3


# As configured ------------------------------------------------------------------------------


def opened(tmp_path: Path, *lines: str, is_daemon: bool) -> AuditTrail:
    file = tmp_path / "scrubber.conf"
    file.write_text("\n".join(["[scrubber]", *lines]))
    return open_trail(config.load(["--config-file", str(file)]), is_daemon=is_daemon)


@pytest.mark.parametrize(("is_daemon", "level"), [(True, "INFO"), (False, "DEBUG")])
def test_without_a_file_a_single_run_fills_no_mail(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, is_daemon: bool, level: str
) -> None:
    caplog.set_level(logging.DEBUG)
    trail = opened(tmp_path, "audit_file =", is_daemon=is_daemon)
    trail([SETTLED])
    trail.close()
    assert [record.levelname for record in caplog.records] == [level]
    assert json.loads(caplog.records[0].getMessage())["location"] == 42


def test_the_file_that_is_configured(tmp_path: Path, path: Path) -> None:
    trail = opened(tmp_path, f"audit_file = {path}", is_daemon=False)
    trail([SETTLED])
    trail.close()
    assert len(lines(path)) == 1


def test_a_file_that_cannot_be_opened_is_said_and_its_lines_are_not_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    trail = opened(tmp_path, f"audit_file = {tmp_path}/none/audit.log", is_daemon=True)
    assert "audit_file in section [scrubber]): No such file" in caplog.text
    trail([SETTLED])
    trail.close()
    assert "permission denied" in caplog.text


def test_the_default_needs_its_directory_and_no_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    default = tmp_path / "scrubber" / "audit.log"
    option = next(opt for opt in SCRUBBER_OPTS if opt.name == "audit_file")
    monkeypatch.setattr(option, "default", str(default))
    opened(tmp_path, is_daemon=False).close()
    assert caplog.text == ""
    assert not default.exists()
    default.parent.mkdir()
    opened(tmp_path, is_daemon=False).close()
    assert default.exists()


# Lines in the log while a run goes on -------------------------------------------------------


def a_report() -> Report:
    return Report(lambda: NOON.replace(tzinfo=None))


def test_a_run_says_once_a_minute_how_far_it_is() -> None:
    report = a_report()
    announcer = Announcer(report, now=1000.0)
    said = [announcer.line(1000.0 + second) for second in range(181)]
    assert [second for second, line in enumerate(said) if line] == [60, 120, 180]
    assert os.linesep not in str(said[60])
    assert report.run in str(said[60])


def test_its_rate_is_that_of_the_last_minute() -> None:
    report = a_report()
    announcer = Announcer(report, now=0.0)
    report.total.locations[Outcome.DELETED] += 600
    report.total.locations[Outcome.WAITING] += 1000
    assert "; 10 locations/s in the last 60 s" in str(announcer.line(60.0))
    assert "; 0 locations/s in the last 90 s" in str(announcer.line(150.0))

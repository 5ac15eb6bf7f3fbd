"""A run goes on without its memory, and says so once; or refuses, if it was told to."""

import logging
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest
from oslo_config import cfg

from contract.fake_ledger import FakeLedger
from contract.ledger_contract import NOON, an_entry
from scrubber import config, errors, pool
from scrubber.state.base import Entry, Key, Ledger, NoLedger
from scrubber.state.database import StateDatabase
from scrubber.state.ledger import SqlLedger
from scrubber.state.opening import Reopening, ReopeningLedger, open_state

KEY = an_entry().key


class Fragile(FakeLedger):
    """A ledger whose database says ``problem``, if that is set."""

    problem: str | None = None
    opened = 0
    closed = 0

    def open(self) -> "Fragile":
        self.opened += 1
        self._may_fail()
        return self

    def of(self, keys: Collection[Key]) -> dict[int, Entry]:
        self._may_fail()
        return super().of(keys)

    def record(self, entries: Collection[Entry]) -> None:
        self._may_fail()
        super().record(entries)

    def forget(self, keys: Collection[Key]) -> None:
        self._may_fail()
        super().forget(keys)

    def entries(self, store: str | None = None, image: str | None = None) -> Iterator[Entry]:
        yield from super().entries(store, image)
        self._may_fail()

    def close(self) -> None:
        self.closed += 1

    def _may_fail(self) -> None:
        if self.problem:
            raise errors.StateUnavailable(self.problem)


def reopening(
    open_: Callable[[], Fragile], required: bool, clock: Callable[[], float]
) -> ReopeningLedger[Fragile]:
    state = Reopening(open_, required=required, clock=clock)
    return ReopeningLedger(state, lambda opened: opened)


def open_ledger(
    conf: cfg.ConfigOpts, stop: pool.Flag, create: bool = True
) -> ReopeningLedger[StateDatabase]:
    return ReopeningLedger(open_state(conf, stop, create=create), SqlLedger)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def fragile() -> Fragile:
    return Fragile()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(fragile: Fragile, clock: Clock) -> ReopeningLedger[Fragile]:
    return reopening(fragile.open, False, clock)


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What was said since the last look, warnings and better."""
    caplog.set_level(logging.INFO, logger="scrubber.state.opening")

    def look() -> list[str]:
        said = [record.getMessage() for record in caplog.records if record.name.startswith("scrub")]
        caplog.clear()
        return said

    return look


Calls = list[tuple[Callable[[Ledger], object], object]]

CALLS: Calls = [
    # a call; what it returns without a database
    (lambda ledger: ledger.of([KEY]), {}),
    (lambda ledger: ledger.record([an_entry()]), None),
    (lambda ledger: ledger.forget([KEY]), None),
    (lambda ledger: list(ledger.entries()), []),
]


@pytest.mark.parametrize(("call", "otherwise"), CALLS)
def test_a_failure_stops_nothing(
    fragile: Fragile,
    ledger: ReopeningLedger[Fragile],
    warnings: Callable[[], list[str]],
    call: Callable[[Ledger], object],
    otherwise: object,
) -> None:
    ledger.record([an_entry()])
    fragile.problem = "disk full"
    assert call(ledger) == otherwise
    (said,) = warnings()
    assert "disk full" in said
    assert "[state]" in said
    assert call(ledger) == otherwise


@pytest.mark.parametrize(("call", "otherwise"), CALLS)
def test_no_ledger_answers_as_one_that_failed(
    call: Callable[[Ledger], object], otherwise: object
) -> None:
    assert call(NoLedger()) == otherwise
    assert NoLedger().retry(NOON) == 0
    NoLedger().close()


def test_a_reason_is_said_once_until_it_changes_or_goes(
    fragile: Fragile,
    ledger: ReopeningLedger[Fragile],
    clock: Clock,
    warnings: Callable[[], list[str]],
) -> None:
    story = [
        # what the database says; whether something is told
        (None, False),
        ("locked", True),
        ("locked", False),
        ("malformed", True),
        ("malformed", False),
        (None, True),
        (None, False),
        ("malformed", True),
    ]
    for problem, told in story:
        fragile.problem = problem
        clock.now += Reopening.pause
        ledger.of([KEY])
        assert len(warnings()) == told, (problem, told)


def test_a_database_that_failed_is_left_alone_for_a_while(
    fragile: Fragile, ledger: ReopeningLedger[Fragile], clock: Clock
) -> None:
    """Each page of a run would wait for it otherwise."""
    assert fragile.opened == 1
    fragile.problem = "no answer"
    ledger.of([KEY])
    assert fragile.closed == 1
    for _ in range(100):
        ledger.of([KEY])
        ledger.record([an_entry()])
    assert fragile.opened == 1
    clock.now += Reopening.pause
    ledger.of([KEY])
    ledger.of([KEY])
    assert fragile.opened == 2


def test_it_is_opened_again_and_remembers(
    fragile: Fragile, ledger: ReopeningLedger[Fragile], clock: Clock
) -> None:
    ledger.record([an_entry()])
    fragile.problem = "no answer"
    assert ledger.of([KEY]) == {}
    fragile.problem = None
    clock.now += Reopening.pause
    assert ledger.of([KEY]) == {1: an_entry()}


def test_one_that_is_not_there_at_start_may_come(
    fragile: Fragile, clock: Clock, warnings: Callable[[], list[str]]
) -> None:
    fragile.problem = "connection refused"
    ledger = reopening(fragile.open, False, clock)
    assert len(warnings()) == 1
    ledger.record([an_entry()])
    fragile.problem = None
    clock.now += Reopening.pause
    ledger.record([an_entry()])
    assert ledger.of([KEY]) == {1: an_entry()}
    ledger.close()
    assert fragile.closed == 1


def test_green_threads_do_not_open_it_twice(clock: Clock) -> None:
    opened: list[FakeLedger] = []

    def open_slowly() -> FakeLedger:
        opened.append(FakeLedger())
        pool.sleep(0.01)
        if len(opened) == 1:
            raise errors.StateUnavailable("not yet")
        return opened[-1]

    ledger = reopening(open_slowly, False, clock)
    clock.now += Reopening.pause
    tasks = [pool.Task(ledger.of, [KEY]) for _ in range(5)]
    for task in tasks:
        task.join()
    assert len(opened) == 2


@pytest.mark.parametrize(("call", "_otherwise"), CALLS)
def test_what_is_required_is_missed_loudly(
    fragile: Fragile,
    clock: Clock,
    call: Callable[[Ledger], object],
    _otherwise: object,
) -> None:
    fragile.problem = "disk full"
    with pytest.raises(errors.StateUnavailable, match="disk full"):
        reopening(fragile.open, True, clock)
    fragile.problem = None
    ledger = reopening(fragile.open, True, clock)
    ledger.record([an_entry()])
    fragile.problem = "disk full"
    for _ in range(2):
        with pytest.raises(errors.StateUnavailable, match="disk full"):
            call(ledger)
    fragile.problem = None
    assert ledger.of([KEY]) == {1: an_entry()}, "at once, not after a pause"


# By configuration -------------------------------------------------------------------------


def a_configuration(tmp_path: Path, connection: object, required: bool = False) -> cfg.ConfigOpts:
    file = tmp_path / "scrubber.conf"
    file.write_text(f"[state]\nconnection = {connection}\nrequired = {required}\n")
    return config.load(["--config-file", str(file)])


def test_the_configured_database_is_made_and_used(tmp_path: Path) -> None:
    conf = a_configuration(tmp_path, f"sqlite:///{tmp_path}/new/state.sqlite", required=True)
    for _ in range(2):
        ledger = open_ledger(conf, pool.Flag())
        ledger.record([an_entry()])
        assert ledger.of([KEY]) == {1: an_entry()}
        ledger.close()
    assert (tmp_path / "new" / "state.sqlite").exists()


def test_an_empty_connection_keeps_nothing_and_is_no_reason_to_warn(
    tmp_path: Path, warnings: Callable[[], list[str]]
) -> None:
    ledger = open_ledger(a_configuration(tmp_path, ""), pool.Flag())
    ledger.record([an_entry()])
    assert ledger.of([KEY]) == {}
    assert warnings() == []
    with pytest.raises(errors.ConfigError, match="empty"):
        open_ledger(a_configuration(tmp_path, "", required=True), pool.Flag())


def test_a_url_that_cannot_be_used_is_refused_also_if_not_required(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigError):
        open_ledger(a_configuration(tmp_path, "nonsense"), pool.Flag())


def test_a_dry_run_makes_nothing_and_misses_nothing(
    tmp_path: Path, warnings: Callable[[], list[str]]
) -> None:
    for required in (True, False):
        conf = a_configuration(tmp_path, f"sqlite:///{tmp_path}/new/state.sqlite", required)
        ledger = open_ledger(conf, pool.Flag(), create=False)
        assert ledger.of([KEY]) == {}
    assert warnings() == []
    assert not (tmp_path / "new").exists()


def corrupt(path: Path) -> None:
    path.write_text("no database\n" * 100)


def newer(path: Path) -> None:
    ledger = SqlLedger(StateDatabase(f"sqlite:///{path}", pool.Flag()))
    ledger._database.write(
        lambda connection: connection.exec_driver_sql(
            "UPDATE scrubber_version SET version_num = '9999'"
        )
    )
    ledger.close()


def in_no_directory(path: Path) -> None:
    path.parent.rmdir()
    path.parent.write_text("a file")


WRONG = [
    # what is wrong; a word of the warning
    (corrupt, "not a database"),
    (newer, "9999"),
    (in_no_directory, "Not a directory"),
]


@pytest.mark.parametrize(("damage", "word"), WRONG)
def test_one_clear_warning_and_no_history(
    tmp_path: Path,
    warnings: Callable[[], list[str]],
    damage: Callable[[Path], None],
    word: str,
) -> None:
    path = tmp_path / "state" / "state.sqlite"
    path.parent.mkdir()
    damage(path)
    ledger = open_ledger(a_configuration(tmp_path, f"sqlite:///{path}"), pool.Flag())
    for _ in range(3):
        ledger.record([an_entry()])
        assert ledger.of([KEY]) == {}
    (said,) = warnings()
    for part in (word, str(path), "Scrubbing goes on", "[state]"):
        assert part in said
    assert "\n" not in said
    with pytest.raises(errors.StateUnavailable, match=word):
        open_ledger(a_configuration(tmp_path, f"sqlite:///{path}", required=True), pool.Flag())


def test_a_file_that_vanishes_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
) -> None:
    monkeypatch.setattr(StateDatabase, "patience", 0.05)
    monkeypatch.setattr(Reopening, "pause", 0.0)
    path = tmp_path / "state.sqlite"
    ledger = open_ledger(a_configuration(tmp_path, f"sqlite:///{path}"), pool.Flag())
    ledger.record([an_entry()])
    os.unlink(path)
    ledger.record([an_entry()])
    ledger.record([an_entry()])
    assert ledger.of([KEY]) == {1: an_entry()}
    missed, again = warnings()
    assert "unable to open" in missed
    assert "again" in again
    assert path.stat().st_mode & 0o777 == 0o600
    ledger.close()

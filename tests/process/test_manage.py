"""scrubber-manage: what cannot be deleted is listed, and tried again when somebody says so."""

import datetime
import json
import os
import pty
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from contract.ledger_contract import NOON, an_entry, image_id
from lab.processes import LOCALHOST, free_port
from process.program import HARD_TIMEOUT, Program, without_privileges_on_files
from scrubber import pool
from scrubber.reporting.report import utcnow
from scrubber.state.base import Entry
from scrubber.state.database import StateDatabase
from scrubber.state.ledger import SqlLedger

MANAGE = shutil.which("scrubber-manage", path=str(Path(sys.executable).parent))

EVIL = "\x1b]0;owned\x07\x1b[31mred\x9b2J \u202egnp.exe\r\nnext"


class Manage(Program):
    """scrubber-manage with a state database."""

    def __init__(self, directory: Path, cache: Path) -> None:
        super().__init__(directory, cache)
        self.database = directory / "state.sqlite"
        self.configure({"state": {"connection": f"sqlite:///{self.database}"}})

    def command(self, *arguments: str, configured: bool = True) -> list[str]:
        assert MANAGE is not None, "install scrubber beside this Python"
        files = ["--config-file", str(self.file)] if configured else []
        return [MANAGE, *files, *arguments]

    def remember(self, *entries: Entry) -> None:
        with closing(self._ledger()) as ledger:
            ledger.record(entries)

    def remembered(self) -> dict[int, Entry]:
        with closing(self._ledger()) as ledger:
            return {entry.location: entry for entry in ledger.entries()}

    def _ledger(self) -> SqlLedger:
        return SqlLedger(StateDatabase(f"sqlite:///{self.database}", pool.Flag()))


@pytest.fixture
def manage(tmp_path: Path, cache: Path) -> Iterator[Manage]:
    manage = Manage(tmp_path / "manage", cache)
    yield manage
    manage.close()


PARKED = an_entry(1, attempts=8, error="HTTP 500 at the seventh sector")
PARKED_LONG_AGO = an_entry(
    2, image=image_id(1), store="slow", attempts=10**6, failed=NOON - datetime.timedelta(days=90)
)
WAITING = an_entry(3, attempts=7, store="slow")


@pytest.fixture
def several(manage: Manage) -> Manage:
    """Two locations of one image that are parked, and another one that waits."""
    manage.remember(PARKED, PARKED_LONG_AGO, WAITING)
    return manage


def test_what_is_parked_is_listed_and_tried_again(several: Manage) -> None:
    document = several.run("parked", "--format", "json").document
    assert [entry["location"] for entry in document["locations"]] == [2, 1]
    before = utcnow()
    ended = several.run("retry", image_id(1))
    assert (ended.status, ended.stdout) == (
        0,
        "2 locations will be tried again in the next run.\n",
    )
    later = [at for at, entry in several.remembered().items() if entry.trouble.next_try_at > before]
    assert sorted(later) == [1, 2]


def on_terminal(manage: Manage, columns: int, *arguments: str) -> str:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        manage.command(*arguments),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**manage.environment(), "TERM": "xterm", "COLUMNS": str(columns)},
        start_new_session=True,
    )
    os.close(theirs)
    output = b""
    try:
        while chunk := os.read(ours, 65536):
            output += chunk
    except OSError:
        pass  # Linux says so when the other end is closed
    os.close(ours)
    assert process.wait(HARD_TIMEOUT) == 0
    return output.decode()


@pytest.mark.parametrize("columns", [80, 250])
def test_a_terminal_gets_a_table_with_whole_ids(several: Manage, columns: int) -> None:
    several.remember(an_entry(4, attempts=8, error="[bold]no markup " + EVIL))
    output = on_terminal(several, columns, "parked")
    assert "┃" in output
    assert output.count(image_id(1)) == 2
    assert "\x1b]0;" not in output
    assert "\x9b" not in output
    if columns == 250:
        assert "[bold]no markup" in output


# Command lines ----------------------------------------------------------------------------


def test_a_wrong_command_line(several: Manage) -> None:
    ended = several.run("retry", "--all", "--store", "fast")
    assert (ended.status, ended.stdout) == (2, "")
    assert ended.stderr.startswith("usage: scrubber-manage")


@pytest.mark.parametrize("command", [(), ("parked",), ("retry",)])
def test_help(manage: Manage, command: tuple[str, ...]) -> None:
    ended = manage.run(*command, "--help", configured=False)
    assert (ended.status, ended.stderr) == (0, "")
    for word in ("--config-file", *(("--store", "--all", "--format") if command else ("parked",))):
        assert word in ended.stdout


def test_version(manage: Manage) -> None:
    assert manage.run("--version").stdout.strip() == "0.1.0"


# What may be wrong ------------------------------------------------------------------------


def test_a_database_that_is_not_there(manage: Manage) -> None:
    manage.run("parked").assert_one_error(str(manage.database), "no scrubber has run")
    assert not manage.database.exists()


def test_a_corrupt_database(several: Manage) -> None:
    several.database.write_text("no database\n" * 100)
    several.run("parked").assert_one_error(str(several.database), "move the file away")


def test_a_server_that_is_down(manage: Manage) -> None:
    """Libraries would log a traceback."""
    url = f"mysql+pymysql://user:secret@{LOCALHOST}:{free_port()}/state"
    manage.configure({"state": {"connection": url}})
    ended = manage.run("parked")
    ended.assert_one_error(LOCALHOST, "connect")
    assert "secret" not in ended.stderr


def test_who_may_only_read_can_list_and_nothing_else(several: Manage) -> None:
    several.database.chmod(stat.S_IRUSR)
    listed = several.run("parked", before_exec=without_privileges_on_files)
    assert (listed.status, len(listed.stdout.splitlines())) == (0, 3)
    refused = several.run("retry", "--all", before_exec=without_privileges_on_files)
    refused.assert_one_error("readonly", "write access", str(several.database))


def test_who_may_not_even_read_is_told_so(several: Manage) -> None:
    several.database.chmod(0)
    refused = several.run("parked", before_exec=without_privileges_on_files)
    refused.assert_one_error(str(several.database))
    several.directory.joinpath("private").mkdir(0)
    path = several.directory / "private" / "state.sqlite"
    several.configure({"state": {"connection": f"sqlite:///{path}"}})
    refused = several.run("parked", before_exec=without_privileges_on_files)
    refused.assert_one_error("Permission denied", str(path))


@pytest.mark.parametrize("how", ["text", "json"])
def test_a_full_disk_is_a_failure(several: Manage, how: str) -> None:
    with open("/dev/full", "wb") as full:
        ended = several.run("parked", "--format", how, stdout=full.fileno())
    assert ended.status == 1
    assert len(ended.stderr.splitlines()) == 1
    assert "No space left" in ended.stderr


def test_a_reader_that_leaves_is_told_nothing(several: Manage) -> None:
    several.remember(*(an_entry(at, attempts=8) for at in range(2000)))
    read, write = os.pipe()
    os.close(read)
    ended = several.run("parked", stdout=write)
    os.close(write)
    assert (ended.status, ended.stderr) == (1, "")


def test_it_works_beside_a_run_that_writes(several: Manage) -> None:
    """The output is one document, whatever is written meanwhile."""
    with closing(several._ledger()) as ledger:
        for at in range(3):
            ledger.record([an_entry(100 + at, attempts=9)])
            assert json.loads(several.run("parked", "--format=json").stdout)["locations"]

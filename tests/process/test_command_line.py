"""Flags and files: what an operator types means what it says."""

import sys
from pathlib import Path

import pytest

from lab.processes import wait_until
from process.program import Program
from process.rows import Backlog

DAEMON = "daemon"
ONCE = "once"


def kind_of_program(program: Program, *command: str, configured: bool = True) -> str:
    """Whether such a command line makes a daemon; after that it is gone."""
    running = program.start(*command, configured=configured)
    wait_until(lambda: not running.running or running.runs_ended() > 0, what="the first run")
    if not running.running:
        assert running.wait().status == 0, running.stderr
        return ONCE
    running.assert_stops()
    return DAEMON


@pytest.mark.parametrize(
    ("in_file", "flags", "kind"),
    [
        (True, (), DAEMON),
        (None, ("--daemon",), DAEMON),
        (None, ("-D",), DAEMON),
        (None, ("--daemon", "true"), DAEMON),
        (None, ("--daemon=True",), DAEMON),
        (True, ("--nodaemon",), ONCE),
        (True, ("--daemon", "false"), ONCE),
        (True, ("--daemon=False",), ONCE),
        (True, ("-D", "no"), ONCE),
        (None, ("--daemon", "--nodaemon"), ONCE),  # the last one wins
    ],
)
def test_daemon_flag(
    program: Program, backlog: Backlog, in_file: bool | None, flags: tuple[str, ...], kind: str
) -> None:
    program.use(backlog)
    program.configure({"DEFAULT": {"daemon": in_file}})
    assert kind_of_program(program, *flags) == kind


@pytest.mark.parametrize(("in_file", "flag", "kind"), [(True, "false", ONCE), (False, "", DAEMON)])
def test_a_flag_beats_a_file_that_is_named_after_it(
    program: Program, backlog: Backlog, in_file: bool, flag: str, kind: str
) -> None:
    program.use(backlog)
    program.configure({"DEFAULT": {"daemon": in_file}})
    flags = ["--daemon", flag] if flag else ["--daemon"]
    file = ["--config-file", str(program.file)]
    assert kind_of_program(program, *flags, *file, configured=False) == kind


def test_the_last_of_several_files_wins(program: Program, backlog: Backlog) -> None:
    program.use(backlog)
    program.configure({"DEFAULT": {"daemon": True}})
    second = program.directory / "second.conf"
    second.write_text("[DEFAULT]\ndaemon = false\n")
    assert kind_of_program(program, "--config-file", str(second)) == ONCE


def test_files_of_a_directory_are_read(program: Program, backlog: Backlog) -> None:
    program.use(backlog)
    directory = program.directory / "conf.d"
    directory.mkdir()
    (directory / "10-daemon.conf").write_text("[DEFAULT]\ndaemon = true\n")
    assert kind_of_program(program, "--config-dir", str(directory)) == DAEMON


@pytest.mark.parametrize(
    "place", [".scrubber/scrubber.conf", "scrubber.conf", ".scrubber/scrubber.conf.d/a.conf"]
)
def test_without_a_file_named_the_usual_places_are_searched(
    program: Program, backlog: Backlog, place: str
) -> None:
    """Those of oslo.config: ~/.scrubber, ~, /etc/scrubber, /etc."""
    backlog.add_live(1)
    backlog.add_pending(2)
    program.use(backlog)
    found = program.home / place
    found.parent.mkdir(parents=True, exist_ok=True)
    program.file.rename(found)

    assert program.run(configured=False).status == 0
    backlog.assert_scrubbed()


def test_without_any_file_it_says_what_is_missing(program: Program) -> None:
    ended = program.run(configured=False)
    ended.assert_one_error("connection", "[database]")


def test_the_module_is_the_program_too(program: Program, backlog: Backlog) -> None:
    backlog.add_live(1)
    backlog.add_pending(2)
    program.use(backlog)
    command = [sys.executable, "-m", "scrubber", *program.command()[1:]]
    assert program.start(command=command).wait().status == 0
    backlog.assert_scrubbed()


def test_help_names_every_flag(program: Program) -> None:
    ended = program.run("--help", configured=False)
    assert ended.status == 0
    assert ended.stderr == ""
    for flag in ("--config-file", "--daemon", "--restore", "--dry-run", "--format", "--force"):
        assert flag in ended.stdout


def test_version_is_one_line(program: Program) -> None:
    ended = program.run("--version", configured=False)
    assert ended.status == 0
    assert ended.stderr == ""
    assert len(ended.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("--no-such-flag",),
        ("--daemon", "perhaps"),
        ("--daemon=perhaps",),
        ("--format", "xml"),
        ("--wait", "soon"),
        ("--config-file",),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_ends_with_status_2(
    program: Program, backlog: Backlog, arguments: tuple[str, ...]
) -> None:
    backlog.add_pending(1)
    program.use(backlog)
    ended = program.main(*arguments)
    assert ended.status == 2, ended
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    assert arguments[-1] in ended.stderr or arguments[0].partition("=")[0] in ended.stderr
    assert len(backlog.files()) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--restore", "x", "--daemon"), ("restore and daemon options should not be set",)),
        (("--dry-run", "--daemon"), ("--dry-run and --daemon",)),
        (("--dry-run", "--restore", "x"), ("--dry-run and --restore",)),
        (("--store", "other"), ("--store other", "main")),
        (("--accept-missing", "other"), ("--accept-missing other", "main")),
        (("--restore", "x"), ("No image found with ID x",)),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_flags_that_make_no_sense_here_are_named(
    program: Program, backlog: Backlog, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    backlog.add_pending(1)
    program.use(backlog)
    ended = program.main(*arguments)
    ended.assert_one_error(*words)
    assert ended.stdout == ""
    assert len(backlog.files()) == 1


def test_a_daemon_in_the_file_contradicts_neither_restore_nor_dry_run(
    program: Program, backlog: Backlog
) -> None:
    backlog.add_live(1)
    backlog.add_pending(2)
    program.use(backlog)
    program.configure({"DEFAULT": {"daemon": True}})

    assert program.main("--dry-run").status == 0
    assert program.main("--restore", backlog.pending[0]).status == 0
    assert len(backlog.files()) == 3


def test_a_run_can_be_narrowed_by_image_store_and_owner(
    program: Program, backlog: Backlog, tmp_path: Path
) -> None:
    other = Backlog(backlog.database, tmp_path / "other", store="other")
    for each in (backlog, other):
        each.add_live(1)
        each.add_pending(2, owner="a")
        each.add_pending(2, owner="b")
    program.use(backlog, other)

    assert program.main("--image", backlog.pending[0]).status == 0
    assert backlog.recorded() == {backlog.pending[0]}
    assert program.main("--store", "other", "--owner", "a").status == 0
    assert other.recorded() == set(other.pending[:2])
    assert backlog.recorded() == {backlog.pending[0]}
    assert program.main("--owner", "a", "--owner", "b").status == 0
    for each in (backlog, other):
        each.assert_scrubbed()

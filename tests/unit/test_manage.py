"""scrubber-manage in this process: what it lists and tries again, and what it says of mistakes."""

import datetime
from collections.abc import Callable
from pathlib import Path

import pytest

from contract.ledger_contract import NOON, an_entry, image_id
from scrubber.reporting.report import utcnow
from unit.managing import Manage

EVIL = "\x1b]0;owned\x07\x1b[31mred\x9b2J \u202egnp.exe\r\nnext"


@pytest.fixture
def manage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Manage:
    return Manage(tmp_path, capsys)


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


def locations(document: dict[str, list[dict[str, object]]]) -> list[object]:
    return [entry["location"] for entry in document["locations"]]


# parked -----------------------------------------------------------------------------------

LISTS = [
    # the flags; whose locations, the oldest trouble first
    ((), [2, 1]),
    (("--store", "slow"), [2]),
    (("--store=fast",), [1]),
    (("--all",), [2, 1, 3]),
    (("--all", "--store", "slow"), [2, 3]),
    (("--image", image_id(1)), [2, 1]),
    (("--image", image_id(3)), []),
    (("--image", image_id(3), "--all"), [3]),
    (("--store", "none"), []),
]


@pytest.mark.parametrize(("flags", "listed"), LISTS)
def test_parked_lists_what_was_asked_for(
    several: Manage, flags: tuple[str, ...], listed: list[int]
) -> None:
    ended = several.run("parked", *flags, "--format", "json")
    assert (ended.status, ended.stderr) == (0, "")
    assert locations(ended.document) == listed
    text = several.run("parked", *flags)
    assert (text.status, text.stderr) == (0, "")
    assert [line.split()[1] for line in text.stdout.splitlines()[1:]] == [str(at) for at in listed]


def test_the_list_says_all_that_is_known(several: Manage) -> None:
    entry = several.run("parked", "--store", "fast", "--format", "json").document["locations"][0]
    assert entry == {
        "image": image_id(1),
        "location": 1,
        "store": "fast",
        "owner": "project",
        "size": 2**40,
        "attempts": 8,
        "parked": True,
        "first_failed_at": "2026-03-29T12:00:00Z",
        "last_error": "HTTP 500 at the seventh sector",
        "next_try_at": "2026-03-29T12:01:00Z",
    }
    headings, line = several.run("parked", "--store", "fast").stdout.splitlines()
    assert headings.split()[0] == "image"
    for part in (
        image_id(1),
        "fast",
        "project",
        "1.0 TiB",
        "8",
        "2026-03-29 12:00",
        "2026-03-29 12:01",
        "HTTP 500 at the seventh sector",
    ):
        assert part in line


def test_the_configured_number_of_attempts_counts(several: Manage) -> None:
    several.configure("scrubber", "retry_attempts", 3)
    assert locations(several.run("parked", "--format=json").document) == [2, 1, 3]


@pytest.mark.parametrize("flags", [(), ("--all",), ("--store", "fast")])
def test_nothing_to_list_is_said_and_no_failure(manage: Manage, flags: tuple[str, ...]) -> None:
    manage.remember()
    ended = manage.run("parked", *flags)
    assert (ended.status, ended.stderr) == (0, "")
    assert ended.stdout.startswith("Nothing ")
    assert manage.run("parked", *flags, "--format", "json").document["locations"] == []


def test_what_a_store_said_does_not_reach_the_terminal(manage: Manage) -> None:
    manage.remember(an_entry(attempts=8, store=EVIL, owner=EVIL, error=EVIL))
    for ended in (manage.run("parked"), manage.run("parked", "--format=json")):
        assert ended.status == 0
        assert "red" in ended.stdout
        assert not [at for at in ended.stdout if not at.isprintable() and at != "\n"]
    assert len(manage.run("parked").stdout.splitlines()) == 2
    assert manage.run("parked", "--format=json").document["locations"][0]["last_error"] == EVIL


# retry ------------------------------------------------------------------------------------

RETRIES = [
    # the arguments; which locations
    ((image_id(1),), {1, 2}),
    (("--store", "slow"), {2, 3}),
    (("--all",), {1, 2, 3}),
    (("--store", "none"), set()),
]


@pytest.mark.parametrize("how", ["text", "json"])
@pytest.mark.parametrize(("arguments", "retried"), RETRIES)
def test_retry_makes_due_what_was_asked_for(
    several: Manage, arguments: tuple[str, ...], retried: set[int], how: str
) -> None:
    before = utcnow()
    ended = several.run("retry", *arguments, "--format", how)
    assert (ended.status, ended.stderr) == (0, "")
    if how == "json":
        assert ended.document == {"status": "succeeded", "locations": len(retried)}
    else:
        assert ended.stdout.startswith(f"{len(retried)} location" if retried else "Nothing waits")
    for location, entry in several.remembered().items():
        assert (before <= entry.trouble.next_try_at <= utcnow()) == (location in retried)
    assert several.remembered()[1].trouble.attempts == 8


def test_retry_of_an_image_that_nobody_knows_is_a_failure(several: Manage) -> None:
    several.run("retry", image_id(9)).assert_one_error(image_id(9))
    ended = several.run("retry", image_id(9), "--format=json")
    ended.assert_one_error(image_id(9))
    assert ended.document["status"] == "failed"


# Command lines ----------------------------------------------------------------------------

WRONG = [
    (),
    ("list",),
    ("parked", "--stores", "fast"),
    ("parked", "--store"),
    ("parked", "image"),
    ("parked", "--format", "xml"),
    ("retry",),
    ("retry", "--store"),
    ("retry", "--all", "--store", "fast"),
    ("retry", image_id(1), "--all"),
    ("retry", image_id(1), "--store", "fast"),
    ("retry", image_id(1), image_id(2)),
    ("retry", "--al"),
    ("--daemon", "parked"),
]


@pytest.mark.parametrize("arguments", WRONG, ids=" ".join)
def test_a_wrong_command_line_changes_nothing(several: Manage, arguments: tuple[str, ...]) -> None:
    before = several.remembered()
    ended = several.run(*arguments)
    assert (ended.status, ended.stdout) == (2, "")
    assert ended.stderr.startswith("usage: scrubber-manage")
    assert several.remembered() == before


def test_the_configuration_file_may_be_named_anywhere(several: Manage) -> None:
    file = ["--config-file", str(several.file)]
    for arguments in (["parked", *file], [*file, "parked"], ["parked", f"{file[0]}={file[1]}"]):
        ended = several.run(*arguments, configured=False)
        assert len(ended.stdout.splitlines()) == 3, ended


# What may be wrong ------------------------------------------------------------------------

COMMANDS = [("parked",), ("retry", "--all"), ("retry", image_id(1))]


def no_database(manage: Manage) -> str:
    manage.database.unlink()
    return "no scrubber has run with it yet"


def corrupt(manage: Manage) -> str:
    manage.database.write_text("no database\n" * 100)
    return "move the file away"


def no_directory(manage: Manage) -> str:
    manage.configure("state", "connection", "sqlite:////not/there/state.sqlite")
    return "/not/there/state.sqlite"


def no_history(manage: Manage) -> str:
    manage.configure("state", "connection", "")
    return "connection in section [state] is empty"


def no_url(manage: Manage) -> str:
    manage.configure("state", "connection", "nonsense")
    return "connection in section [state]"


def no_configuration(manage: Manage) -> str:
    manage.file.unlink()
    return "scrubber.conf"


def no_valid_option(manage: Manage) -> str:
    manage.configure("scrubber", "retry_attempts", 0)
    return "retry_attempts"


DAMAGES = [no_database, corrupt, no_directory, no_history, no_url, no_configuration]


@pytest.mark.parametrize("damage", [*DAMAGES, no_valid_option])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_what_is_wrong_is_said_in_one_line(
    several: Manage, damage: Callable[[Manage], str], command: tuple[str, ...]
) -> None:
    word = damage(several)
    several.run(*command).assert_one_error(word)
    assert not Path("/not").exists()
    assert several.database.exists() == (damage is not no_database)
    ended = several.run(*command, "--format", "json")
    assert ended.document["status"] == "failed"
    assert word in ended.document["error"]


@pytest.mark.parametrize("command", ["show", "cancel", "retry", "restore", "pause"])
def test_what_is_no_text_is_a_wrong_command_line(manage: Manage, command: str) -> None:
    ended = manage.run(command, "\udcff")
    assert ended.status == 2
    assert "UTF-8" in ended.stderr


def test_a_restore_of_nothing_is_no_run(manage: Manage) -> None:
    manage.run("restore", "").assert_one_error("--restore needs the id of an image")

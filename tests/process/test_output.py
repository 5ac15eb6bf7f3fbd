"""Standard output: for programs one JSON document, for cron one line, for people a table."""

import json
import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.processes import LOCALHOST, free_port
from process.program import HARD_TIMEOUT, Program
from process.rows import Backlog


@pytest.fixture
def usable(program: Program, backlog: Backlog) -> Program:
    backlog.add_live(2)
    backlog.add_pending(5)
    program.use(backlog)
    return program


# JSON -------------------------------------------------------------------------------------


def test_a_run_prints_one_document(usable: Program, backlog: Backlog) -> None:
    ended = usable.run("--format", "json")
    assert ended.status == 0
    document = ended.document
    assert (document["status"], document["dry_run"]) == ("succeeded", False)
    assert document["images"]["scrubbed"] == document["locations"]["deleted"] == 5
    assert document["bytes_freed"] == 25
    assert document["stores"]["main"]["locations"]["deleted"] == 5
    backlog.assert_scrubbed()


def test_a_dry_run_prints_one_document_and_changes_nothing(
    usable: Program, backlog: Backlog
) -> None:
    ended = usable.main("--dry-run", "--format=json")
    assert ended.status == 0
    assert ended.document["dry_run"] is True
    assert ended.document["images"]["scrubbed"] == 5
    assert len(backlog.files()) == 7
    assert backlog.statuses() == {("pending_delete", "pending_delete")}
    assert backlog.claimed() == set()


def test_a_restore_prints_one_document(usable: Program, backlog: Backlog) -> None:
    image = backlog.pending[0]
    ended = usable.main("--restore", image, "--format", "json")
    assert ended.status == 0
    assert (ended.document["status"], ended.document["image"]) == ("succeeded", image)


def test_the_format_can_be_set_in_the_file(usable: Program) -> None:
    usable.configure({"DEFAULT": {"format": "json"}})
    assert usable.main().document["status"] == "succeeded"


Damage = Callable[[Program], None]


def no_file(program: Program) -> None:
    program.file.unlink()


def bad_value(program: Program) -> None:
    program.configure({"DEFAULT": {"scrub_time": "soon"}})


def no_database(program: Program) -> None:
    url = f"mysql+pymysql://user:word@{LOCALHOST}:{free_port()}/glance"
    program.configure({"database": {"connection": url}})


def no_store(program: Program) -> None:
    program.configure({"DEFAULT": {"enabled_backends": "web:http"}})


RUN = ("--format", "json")
DRY_RUN = ("--dry-run", "--format=json")
RESTORE = ("--format=json", "--restore", "x")


@pytest.mark.parametrize(
    ("damage", "arguments"),
    [
        (no_file, RUN),
        (no_file, DRY_RUN),
        (bad_value, RESTORE),
        (no_database, RUN),
        (no_database, RESTORE),
        (no_store, DRY_RUN),
    ],
)
def test_a_failure_prints_one_document(
    usable: Program, damage: Damage, arguments: tuple[str, ...]
) -> None:
    damage(usable)
    ended = usable.main(*arguments)
    ended.assert_one_error()
    assert ended.document["status"] == "failed"
    assert f"ERROR: {ended.document['error']}" == ended.error_lines[0]


def test_a_refused_restore_prints_one_document(usable: Program, backlog: Backlog) -> None:
    ended = usable.main("--restore", backlog.live[0], "--format", "json")
    ended.assert_one_error("cannot restore the image from active to active")
    assert ended.document["status"] == "failed"


def test_a_run_that_fails_prints_one_document(usable: Program, backlog: Backlog) -> None:
    """A live location that nobody can read stops the run itself."""
    with backlog.database.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE image_locations SET meta_data = '{' WHERE status = 'active'"
        )
        connection.exec_driver_sql("UPDATE image_locations SET value = 'x' WHERE status = 'active'")
    usable.configure({"DEFAULT": {"metadata_encryption_key": "sixteen-byte-key"}})
    ended = usable.main("--format", "json")
    assert ended.status == 1
    assert len(ended.error_lines) == 1
    assert ended.document["status"] == "failed"
    assert ended.document["error"]
    assert len(backlog.files()) == 7


def test_a_daemon_prints_one_line_of_json_for_each_run(usable: Program) -> None:
    usable.configure({"DEFAULT": {"wakeup_time": 1, "format": "json"}})
    running = usable.start("--daemon")
    running.child.wait_ready(lambda: len(running.stdout.splitlines()) == 2)
    running.assert_stops()
    documents = [json.loads(line) for line in running.stdout.splitlines()]
    assert [document["images"]["scrubbed"] for document in documents][:2] == [5, 0]


# Text -------------------------------------------------------------------------------------


def test_a_run_prints_one_line(usable: Program) -> None:
    ended = usable.main()
    assert ended.status == 0
    assert ended.stdout.splitlines() == [
        "succeeded: 5 images scrubbed, 5 locations deleted, 25 B freed"
    ]


def test_a_run_without_work_prints_one_line(program: Program, backlog: Backlog) -> None:
    program.use(backlog)
    assert len(program.main().stdout.splitlines()) == 1


def test_a_run_that_leaves_something_prints_one_line_that_says_why(
    usable: Program, backlog: Backlog
) -> None:
    stuck = backlog.path(backlog.pending[0])
    stuck.unlink()
    stuck.mkdir()
    ended = usable.main()
    assert ended.status == 3
    (line,) = ended.stdout.splitlines()
    assert "partial: 4 images scrubbed" in line
    assert "not an image file" in line


def test_a_restore_prints_one_line(usable: Program, backlog: Backlog) -> None:
    ended = usable.main("--restore", backlog.pending[0])
    assert ended.status == 0
    (line,) = ended.stdout.splitlines()
    assert backlog.pending[0] in line


def test_a_dry_run_prints_what_a_run_would_do(usable: Program, backlog: Backlog) -> None:
    ended = usable.main("--dry-run")
    assert ended.status == 0
    assert "would scrub 5 images" in ended.stdout.splitlines()[-1]
    assert len(backlog.files()) == 7


# A terminal -------------------------------------------------------------------------------


def on_a_terminal(program: Program, *arguments: str) -> tuple[int, str]:
    """Exit status and all that appears on a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        program.command(*arguments),
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        env={**program.environment(), "TERM": "xterm", "COLUMNS": "100"},
        cwd=program.directory,
        start_new_session=True,
    )
    os.close(theirs)
    output = b""
    deadline = time.monotonic() + HARD_TIMEOUT
    try:
        while time.monotonic() < deadline and select.select([ours], [], [], HARD_TIMEOUT)[0]:
            try:
                output += os.read(ours, 65536)
            except OSError:  # the other side is closed
                break
        status = process.wait(HARD_TIMEOUT)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return status, output.decode()


def test_on_a_terminal_progress_and_a_table_appear(program: Program, backlog: Backlog) -> None:
    backlog.add_live(1)
    backlog.add_pending(60)
    program.use(backlog, kind="slowfile", seconds=0.3)
    program.configure({"DEFAULT": {"scrub_pool_size": 8}})
    status, output = on_a_terminal(program)

    assert status == 0
    seen = {int(number) for number in re.findall(r"(\d+) images? scrubbed", output)}
    assert len(seen) >= 3, "it moves"
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", output).splitlines()
    assert any("Store" in line and "images scrubbed" in line for line in shown)
    assert any("main" in line and "60" in line for line in shown)
    assert "succeeded: 60 images scrubbed" in shown[-1]
    assert "\x1b[?25h" in output, "the cursor is back"


def test_on_a_terminal_json_is_still_one_document(usable: Program) -> None:
    status, output = on_a_terminal(usable, "--format", "json")
    assert status == 0
    assert json.loads(output)["status"] == "succeeded"


# Where output cannot go -------------------------------------------------------------------

TEXT = ("--format", "text")
JSON = ("--format", "json")
DRY = ("--dry-run",)


def assert_says_it_in_one_line(status: int, stderr: str) -> None:
    assert status not in (0, -13), stderr
    assert "Traceback" not in stderr
    assert "Exception ignored" not in stderr
    assert len(stderr.splitlines()) <= 1, stderr


@pytest.mark.parametrize(
    ("arguments", "unbuffered"),
    [(TEXT, False), (TEXT, True), (JSON, False), (JSON, True), (DRY, False)],
)
def test_a_full_disk(
    usable: Program, backlog: Backlog, arguments: tuple[str, ...], unbuffered: bool
) -> None:
    with open("/dev/full", "wb") as full:
        ended = usable.run(
            *arguments,
            stdout=full.fileno(),
            environment={"PYTHONUNBUFFERED": "1"} if unbuffered else {},
        )
    assert_says_it_in_one_line(ended.status, ended.stderr)
    assert "No space left" in ended.stderr
    if arguments != DRY:
        backlog.assert_scrubbed()


@pytest.mark.parametrize(
    ("arguments", "unbuffered"), [(TEXT, False), (TEXT, True), (JSON, False), (DRY, False)]
)
def test_a_reader_that_has_gone(
    usable: Program, backlog: Backlog, arguments: tuple[str, ...], unbuffered: bool
) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        ended = usable.run(
            *arguments,
            stdout=write,
            environment={"PYTHONUNBUFFERED": "1"} if unbuffered else {},
        )
    finally:
        os.close(write)
    assert_says_it_in_one_line(ended.status, ended.stderr)
    if arguments != DRY:
        backlog.assert_scrubbed()


@pytest.mark.parametrize("arguments", [TEXT, DRY])
def test_a_standard_output_that_is_closed(
    usable: Program, backlog: Backlog, arguments: tuple[str, ...]
) -> None:
    """As some who start daemons leave it: nobody wants to read it, so nothing is wrong."""
    command = ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *usable.command(*arguments)]
    result = subprocess.run(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env=usable.environment(),
        timeout=HARD_TIMEOUT,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    if arguments != DRY:
        backlog.assert_scrubbed()


def test_a_log_file_on_a_full_disk_does_not_stop_a_run(usable: Program, backlog: Backlog) -> None:
    usable.configure({"DEFAULT": {"log_file": "/dev/full", "debug": True}})
    ended = usable.run()
    assert ended.status == 0
    assert len(ended.stdout.splitlines()) == 1
    backlog.assert_scrubbed()


def test_a_log_file_that_cannot_be_opened(usable: Program, tmp_path: Path) -> None:
    usable.configure({"DEFAULT": {"log_file": tmp_path / "missing" / "log"}})
    usable.run().assert_one_error(str(tmp_path / "missing" / "log"))

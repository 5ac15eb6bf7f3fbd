"""What cannot work is said in one line, with exit status 1, and without a secret in it."""

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from lab.databases import Database
from lab.processes import LOCALHOST, free_port
from process.program import Program, without_privileges_on_files
from process.rows import Backlog

SECRET = "pa55-of-the-database"
KEY = "sixteen-byte-key"

NewDatabase = Callable[..., Database]


@pytest.fixture
def usable(program: Program, backlog: Backlog) -> Program:
    """A configuration that would work."""
    backlog.add_live(1)
    backlog.add_pending(3)
    program.use(backlog)
    return program


# Files ------------------------------------------------------------------------------------


def test_a_file_that_is_missing(usable: Program) -> None:
    usable.file.unlink()
    usable.run().assert_one_error(str(usable.file))


def test_a_file_that_may_not_be_read(usable: Program) -> None:
    usable.file.chmod(0)
    ended = usable.run(before_exec=without_privileges_on_files)
    ended.assert_one_error(str(usable.file), "permission")


def test_a_file_that_is_a_directory(usable: Program) -> None:
    usable.file.unlink()
    usable.file.mkdir()
    usable.run().assert_one_error(str(usable.file))


@pytest.mark.parametrize(
    "text",
    [
        b"[DEFAULT]\nscrub_time 5\n",
        b"[DEFAULT\nscrub_time = 5\n",
        b"scrub_time\n",
        b"[DEFAULT]\nscrub_time = \xff\xfe\n",
        b"\x00\x01\x02",
    ],
)
def test_a_file_with_a_syntax_error(usable: Program, text: bytes) -> None:
    usable.file.write_bytes(text)
    usable.main().assert_one_error(str(usable.file))


@pytest.mark.parametrize(
    ("section", "option", "value"),
    [
        ("DEFAULT", "scrub_time", "soon"),
        ("DEFAULT", "scrub_pool_size", "0"),
        ("DEFAULT", "daemon", "perhaps"),  # may also be a flag
        ("DEFAULT", "enabled_backends", "main"),
        ("DEFAULT", "metadata_encryption_key", "short"),
        ("DEFAULT", "debug", "perhaps"),  # of oslo.log
        ("DEFAULT", "log_config_append", "/no/such/file"),
        ("DEFAULT", "scrub_time", "$no_such_option"),
        ("scrubber", "call_timeout", "300"),  # not less than claim_lease
        ("scrubber", "unreadable_live", "perhaps"),
        ("database", "max_pool_size", "many"),  # of oslo.db
    ],
)
def test_a_bad_value_is_named_with_its_section(
    usable: Program, backlog: Backlog, section: str, option: str, value: str
) -> None:
    usable.configure({section: {option: value}})
    ended = usable.main()
    ended.assert_one_error(option, section)
    assert len(backlog.files()) == 4


def test_a_bad_value_is_named_with_its_file(usable: Program) -> None:
    usable.configure({"DEFAULT": {"scrub_time": "soon"}})
    more = usable.directory / "more.conf"
    more.write_text("[scrubber]\n")
    usable.main("--config-file", str(more)).assert_one_error(
        "scrub_time", "[DEFAULT]", str(usable.file), "soon"
    )


# The database -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mariadb", "postgresql"])
def test_a_wrong_database_password(usable: Program, new_database: NewDatabase, name: str) -> None:
    url = new_database(name, empty=True).url
    user, _, rest = url.partition("@")
    scheme, _, _ = user.rpartition(":")
    usable.configure({"database": {"connection": f"{scheme}:{SECRET}@{rest}"}})
    ended = usable.main("--debug")

    assert ended.status == 1
    assert "Traceback" not in ended.stderr
    (line,) = ended.error_lines
    assert "denied" in line or "authentication failed" in line
    assert "not Glance's" not in line, "nobody has seen what is in it"
    assert SECRET not in ended.stdout + ended.stderr


@pytest.fixture
def silent_server() -> Iterator[int]:
    """A port that takes connections and never says a word, as a server that hangs does."""
    with socket.create_server((LOCALHOST, 0)) as server:
        yield server.getsockname()[1]


MYSQL, POSTGRESQL = "mysql+pymysql", "postgresql+psycopg2"


@pytest.mark.parametrize(
    ("scheme", "arguments"),
    [(MYSQL, ()), (MYSQL, ("--daemon",)), (POSTGRESQL, ()), (POSTGRESQL, ("--restore", "x"))],
)
def test_a_database_that_is_down_at_start(
    usable: Program, scheme: str, arguments: tuple[str, ...]
) -> None:
    url = f"{scheme}://user:{SECRET}@{LOCALHOST}:{free_port()}/glance"
    usable.configure({"database": {"connection": url}})
    ended = usable.run(*arguments)

    ended.assert_one_error("the database does not answer")
    assert ended.seconds < 25, "as patient as a run"
    assert SECRET not in ended.stderr


def test_a_state_database_that_hangs_stops_no_run(
    program: Program, backlog: Backlog, silent_server: int
) -> None:
    backlog.add_live(2)
    backlog.add_pending(3)
    program.use(backlog)
    url = f"postgresql://user:{SECRET}@{LOCALHOST}:{silent_server}/state"
    program.configure({"state": {"connection": url}})
    ended = program.run()
    assert ended.status == 0, ended
    assert "without a memory" in ended.stderr
    assert SECRET not in ended.stderr
    backlog.assert_scrubbed()


def test_a_database_that_hangs_at_start(usable: Program, silent_server: int) -> None:
    started = time.monotonic()
    both = []
    for scheme in (MYSQL, POSTGRESQL):
        url = f"{scheme}://user:{SECRET}@{LOCALHOST}:{silent_server}/glance"
        usable.configure({"database": {"connection": url}})
        both.append(usable.start())
        # The file is read once, at start: now the other one may have it.
        both[-1].child.wait_ready(lambda: connections(silent_server) == len(both))
    for running in both:
        ended = running.wait()
        ended.assert_one_error("the database does not answer")
        assert SECRET not in ended.stderr
    assert time.monotonic() - started < 28


def connections(port: int) -> int:
    """How many clients are connected to this port."""
    return sum(
        bool(at.raddr) and at.raddr.port == port and at.status == psutil.CONN_ESTABLISHED
        for at in psutil.net_connections("tcp4")
    )


@pytest.mark.parametrize(
    "url",
    [
        f"{SECRET}",
        f"mysql://user:{SECRET}@",
        f"mysql+mysqldb://user:{SECRET}@{LOCALHOST}/glance",
        f"mysql+pymysql://user:{SECRET}@{LOCALHOST}:port/glance",
        f"mysql+pymysql://user:{SECRET}@{LOCALHOST}/glance?no_such_option={SECRET}",
        f"mysql+pymysql://user:{SECRET}@{LOCALHOST}/glance?ssl_ca=/no/such/file",
        f"postgresql://user:{SECRET}@{LOCALHOST}/glance?no_such_option={SECRET}",
        f"mysql+pymysql://user:${SECRET}@{LOCALHOST}/glance",  # oslo.config: $option
        f"oracle://user:{SECRET}@{LOCALHOST}/glance",
        f"://user:{SECRET}@",
    ],
)
def test_a_bad_database_url_is_refused_and_never_shown(usable: Program, url: str) -> None:
    usable.configure({"database": {"connection": url}})
    ended = usable.main("--debug")

    assert ended.status == 1, ended
    assert len(ended.error_lines) == 1, ended
    assert "Traceback" not in ended.stderr
    assert SECRET not in ended.stderr + ended.stdout


def test_a_sqlite_file_that_is_missing(usable: Program) -> None:
    path = usable.directory / "missing.db"
    usable.configure({"database": {"connection": f"sqlite:///{path}"}})
    usable.main().assert_one_error(str(path), "[database]")
    assert not path.exists()


def test_a_sqlite_file_that_is_none(usable: Program) -> None:
    path = usable.directory / "text.db"
    path.write_text("not a database\n" * 1000)
    usable.configure({"database": {"connection": f"sqlite:///{path}"}})
    usable.main().assert_one_error("not a database")


def test_a_database_without_tables(usable: Program, new_database: NewDatabase) -> None:
    (usable.directory / "empty.db").touch()
    urls = [f"sqlite:///{usable.directory}/empty.db"]
    urls += [new_database(name, empty=True).url for name in ("mariadb", "postgresql")]
    for url in urls:
        usable.configure({"database": {"connection": url}})
        usable.main().assert_one_error("not Glance's", "image")


def test_tables_that_lack_a_column(usable: Program, backlog: Backlog) -> None:
    with backlog.database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE image_locations RENAME COLUMN meta_data TO other")
    usable.main().assert_one_error("not Glance's", "meta_data")


def test_no_database(usable: Program) -> None:
    usable.configure({"database": {"connection": None}})
    usable.main().assert_one_error("connection", "[database]", "not set")


# Stores -----------------------------------------------------------------------------------


@pytest.mark.parametrize("stores", ["", "http"])
def test_no_store(usable: Program, stores: str) -> None:
    usable.configure({"DEFAULT": {"enabled_backends": None}, "glance_store": {"stores": stores}})
    usable.main().assert_one_error("no store is configured")


def test_two_ways_to_name_the_directories(usable: Program) -> None:
    usable.configure({"main": {"filesystem_store_datadirs": "/somewhere:1"}})
    usable.main().assert_one_error("[main]", "filesystem_store_datadir")


def test_a_store_whose_directory_is_missing_is_reported_and_left_alone(
    usable: Program, backlog: Backlog, tmp_path: Path
) -> None:
    """Ran, but left something: that is no failure of the program."""
    usable.configure({"main": {"filesystem_store_datadir": tmp_path / "missing"}})
    ended = usable.main()

    assert ended.status == 3
    assert "Traceback" not in ended.stderr
    assert backlog.recorded() == set()
    assert len(backlog.files()) == 4


# Secrets ----------------------------------------------------------------------------------


def test_no_secret_is_ever_said(usable: Program, new_database: NewDatabase) -> None:
    """With all that it can say: debug logs, a failing run, a dry run, JSON."""
    server = new_database("mariadb")
    password = server.url.partition("@")[0].rpartition(":")[2]
    usable.configure(
        {"database": {"connection": server.url}, "DEFAULT": {"metadata_encryption_key": KEY}}
    )
    for arguments in (("--dry-run",), ("--format", "json"), ("--restore", "x")):
        ended = usable.main("--debug", *arguments)
        for secret in (password, KEY):
            assert secret not in ended.stdout + ended.stderr


def test_a_wrong_encryption_key_is_not_shown(usable: Program) -> None:
    usable.configure({"DEFAULT": {"metadata_encryption_key": f"{SECRET}!"}})
    ended = usable.main("--debug")
    assert ended.status == 1
    assert SECRET not in ended.stdout + ended.stderr

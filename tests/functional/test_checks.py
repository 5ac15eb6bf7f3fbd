"""scrubber-manage check on a real Glance: what it says of what is wrong, and that it only looks."""

# ruff: noqa: F811 - fixtures are imported by their names

import argparse
import contextlib
import io
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from conftest import NewDatabase
from functional.cloud import Cloud
from functional.conftest import NewCloud
from functional.program import DEADLINE
from functional.rows import OF_IMAGES
from functional.s3_servers import STORE, S3Cloud, s3_cloud, s3_server  # noqa: F401 - fixtures
from lab.databases import Database, Servers, _NetworkServer
from lab.glance import Options, merge, render
from lab.processes import LOCALHOST, free_port
from scrubber import config
from scrubber.checks import command, configuration
from scrubber.stores import registry

PROGRAM = Path(sys.executable).with_name("scrubber-manage")

DAY = 86400

SERVERS = ["mariadb", "postgresql"]


@dataclass(frozen=True)
class Checked:
    """What the program said."""

    status: int
    findings: list[dict[str, str]]

    def of(self, check: str, severity: str) -> str:
        """What is said of it, on one line; fails if nothing is."""
        lines = [
            f"{found['message']} -> {found['advice']}"
            for found in self.findings
            if (found["check"], found["severity"]) == (check, severity)
        ]
        assert lines, (check, severity, self.findings)
        return "; ".join(lines)

    def names(self, severity: str) -> set[str]:
        return {found["check"] for found in self.findings if found["severity"] == severity}


def run(file: Path, secrets: tuple[str, ...] = ()) -> Checked:
    """In this process: the program itself takes a second to start."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        status = command.run(["--config-file", str(file)], argparse.Namespace(format="json"))
    return judged(status, printed.getvalue(), secrets)


def run_program(file: Path, secrets: tuple[str, ...] = ()) -> Checked:
    done = subprocess.run(
        [PROGRAM, "check", "--config-file", file, "--format", "json"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.stderr == ""
    return judged(done.returncode, done.stdout, secrets)


def judged(status: int, printed: str, secrets: tuple[str, ...]) -> Checked:
    for secret in ("://", *secrets):
        assert secret not in printed
    document = json.loads(printed)
    severities = ["ok", "warning", "failure"]
    assert document["status"] == severities[status]
    assert status == max(severities.index(found["severity"]) for found in document["findings"])
    for found in document["findings"]:
        assert bool(found["advice"]) == (found["severity"] != "ok"), found
    return Checked(status, document["findings"])


def check(cloud: Cloud, options: Options | None = None, *secrets: str) -> Checked:
    """Check the cloud; not one row may change."""
    before = cloud.tables.dump()
    state = {"state": {"connection": f"sqlite:///{cloud.glance.directory}/state.sqlite"}}
    checked = run(cloud.configuration(merge(state, options or {})), secrets)
    assert cloud.tables.dump() == before
    return checked


def test_all_is_well(cloud_on_database: Cloud) -> None:
    cloud = cloud_on_database
    cloud.deleted("fast")
    cloud.deleted("slow")
    checked = check(cloud)
    assert (checked.status, checked.names("ok")) == (0, checked.names("ok")), checked
    assert "READ COMMITTED, SKIP LOCKED" in checked.of("database", "ok") or (
        "one writer" in checked.of("database", "ok")
    )
    assert "2 images with 2 locations, 2 due now" in checked.of("pending", "ok")
    assert "2 deleted images" in checked.of("delayed_delete", "ok")
    for store in ("fast", "slow"):
        assert "the 1 live image looked up" in checked.of(f"store {store}", "ok")


def test_the_whole_of_glance_api_conf_is_no_mistake(cloud: Cloud) -> None:
    checked = run_program(cloud.glance.configuration)
    assert checked.of("configuration", "ok")


# The database -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Visitor:
    """A user of a database with rights of its own."""

    url: str
    password: str = "visitor-secret"


def visitor(servers: Servers, cloud: Cloud, name: str, *rights: str) -> Visitor:
    """Make one: ``rights`` as ``SELECT ON images``."""
    database = cloud.glance.database
    server = servers.get(database.server)
    assert isinstance(server, _NetworkServer)
    host = f"@'{LOCALHOST}'" if database.server == "mariadb" else ""
    server.execute(
        f"CREATE USER {name}{host} IDENTIFIED BY '{Visitor.password}'"
        if host
        else f"CREATE USER {name} PASSWORD '{Visitor.password}'"
    )
    for right in rights:
        cloud.tables.execute(sa.text(f"GRANT {right} TO {name}{host}"))
    url = sa.make_url(database.url).set(username=name, password=Visitor.password)
    return Visitor(url.render_as_string(hide_password=False))


@pytest.mark.parametrize("server", SERVERS)
def test_a_user_who_may_not_write(server: str, clouds: NewCloud, servers: Servers) -> None:
    cloud = clouds(server)
    reads = [f"SELECT ON {table}" for table in OF_IMAGES]
    writes = [f"UPDATE ON {table}" for table in OF_IMAGES]

    reader = visitor(servers, cloud, "reader", *reads)
    said = check(cloud, {"database": {"connection": reader.url}}, reader.password)
    for table in OF_IMAGES:
        assert f"UPDATE on {table}" in said.of("tables", "failure")
        assert f"GRANT SELECT, UPDATE on {table}" in said.of("tables", "failure")
    assert said.names("failure") == {"tables"}

    half = visitor(servers, cloud, "half", *reads[1:], *writes[1:4])
    said = check(cloud, {"database": {"connection": half.url}})
    assert "UPDATE on images:" in said.of("tables", "failure")
    assert "SELECT on image_members:" in said.of("tables", "failure")
    assert len([at for at in said.findings if at["check"] == "tables"]) == 2

    # No more than what the check asks for is needed.
    writer = visitor(servers, cloud, "writer", *reads, *writes)
    options: Options = {"database": {"connection": writer.url}}
    assert check(cloud, options).of("tables", "ok")
    image = cloud.deleted("fast")
    assert cloud.scrub("--accept-missing", "fast", options=options).exit_status == 0
    cloud.check_scrubbed([image])


@pytest.mark.parametrize(
    ("server", "closed", "open_again"),
    [
        ("mariadb", "SET GLOBAL read_only = 1", "SET GLOBAL read_only = 0"),
        (
            "postgresql",
            "ALTER ROLE replica SET default_transaction_read_only = on",
            "ALTER ROLE replica RESET ALL",
        ),
    ],
)
def test_a_server_that_takes_no_writes(
    server: str, closed: str, open_again: str, clouds: NewCloud, servers: Servers
) -> None:
    """A replica, or a primary that was closed for maintenance."""
    cloud = clouds(server)
    rights = [f"SELECT, UPDATE ON {table}" for table in OF_IMAGES]
    replica = visitor(servers, cloud, "replica", *rights)
    running = servers.get(server)
    assert isinstance(running, _NetworkServer)
    running.execute(closed)
    try:
        said = check(cloud, {"database": {"connection": replica.url}})
    finally:
        running.execute(open_again)
    assert "a server that takes writes" in said.of("tables", "failure")


def configured(tmp_path: Path, connection: str, **scrubber: object) -> Path:
    """A configuration with one empty store."""
    store = tmp_path / "store"
    store.mkdir(exist_ok=True)
    file = tmp_path / "scrubber.conf"
    options = {
        "DEFAULT": {"enabled_backends": "fast:file", "delayed_delete": True},
        "database": {"connection": connection},
        "fast": {"filesystem_store_datadir": store},
        "scrubber": scrubber,
        "state": {"connection": f"sqlite:///{tmp_path}/state.sqlite"},
    }
    file.write_text(render(options))
    return file


def test_a_column_that_is_missing(database: Database, tmp_path: Path) -> None:
    with database.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE image_locations DROP COLUMN meta_data"))
    said = run(configured(tmp_path, database.url))
    assert "meta_data" in said.of("tables", "failure")
    assert "db sync" in said.of("tables", "failure")
    assert (said.status, said.names("failure")) == (2, {"tables"})


def test_a_database_that_is_not_glances(new_database: NewDatabase, tmp_path: Path) -> None:
    said = run(configured(tmp_path, new_database("postgresql", empty=True).url))
    assert "SELECT on images: " in said.of("tables", "failure")
    assert said.of("store fast", "ok")


@pytest.mark.parametrize("server", SERVERS)
def test_a_wrong_password_and_a_server_that_is_down(
    server: str, new_database: NewDatabase, tmp_path: Path
) -> None:
    url = sa.make_url(new_database(server).url)
    for wrong in (url.set(password="planted-secret"), url.set(port=free_port())):
        connection = wrong.render_as_string(hide_password=False)
        file = configured(tmp_path, connection)
        said = run(file, ("planted-secret", str(url.password)))
        assert said.names("failure") == {"database"}
        assert said.of("store fast", "ok"), "the others are looked at all the same"


@pytest.mark.parametrize("driver", ["mysql+pymysql", "postgresql+psycopg2"])
def test_a_server_that_says_nothing(driver: str, tmp_path: Path) -> None:
    with socket.create_server((LOCALHOST, 0)) as silent:
        port = silent.getsockname()[1]
        file = configured(tmp_path, f"{driver}://u:secret@{LOCALHOST}:{port}/g", call_timeout=1)
        said = run_program(file, ("secret",))
    assert "no answer within 1 s" in said.of("database", "failure")
    assert said.of("store fast", "ok")


def test_a_clock_that_is_wrong(clouds: NewCloud, servers: Servers) -> None:
    cloud = clouds("mariadb")
    server = servers.get("mariadb")
    assert isinstance(server, _NetworkServer)
    server.execute("CREATE USER late@'127.0.0.1' IDENTIFIED BY 'late'")
    database = cloud.glance.database.name
    server.execute(f"GRANT ALL ON {database}.* TO late@'127.0.0.1'")
    url = sa.make_url(cloud.glance.database.url).set(username="late", password="late")
    for seconds, severity in ((40, "warning"), (600, "failure")):
        # A session's clock that stands still.
        moment = "SET GLOBAL init_connect = 'SET timestamp = UNIX_TIMESTAMP() - {}'"
        server.execute(moment.format(seconds))
        try:
            said = check(
                cloud, {"database": {"connection": url.render_as_string(hide_password=False)}}
            )
        finally:
            server.execute("SET GLOBAL init_connect = ''")
        assert "s behind this host's" in said.of("clock", severity)


def test_the_wrong_key(encrypted_cloud: Cloud) -> None:
    wrong = {"metadata_encryption_key": "fedcba9876543210"}
    said = check(encrypted_cloud, {"DEFAULT": wrong})
    assert "metadata_encryption_key" in said.of("live images", "failure")
    ignored = {"DEFAULT": wrong, "scrubber": {"unreadable_live": "ignore"}}
    assert "live locations cannot be read" in check(encrypted_cloud, ignored).of(
        "live images", "warning"
    )


# The stores -------------------------------------------------------------------------------


def test_a_directory_that_is_not_there_and_one_that_is_another(
    cloud: Cloud, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    options = {"fast": {"filesystem_store_datadir": elsewhere}}
    assert "No such file or directory" in check(cloud, options).of("store fast", "failure")
    # An unmounted one: the directory is there, and empty.
    directory = cloud.data_directories["slow"]
    directory.rename(elsewhere)
    directory.mkdir()
    try:
        said = check(cloud)
    finally:
        shutil.rmtree(directory)
        elsewhere.rename(directory)
    assert "of 1 live images looked up" in said.of("store slow", "failure")
    assert said.of("store fast", "ok")


def test_the_wrong_bucket_and_the_wrong_credentials(s3_cloud: S3Cloud) -> None:
    cloud = s3_cloud.cloud
    cloud.keep(STORE)
    assert check(cloud).of(f"store {STORE}", "ok")
    for option, value in (
        ("s3_store_bucket", "nobodys"),
        ("s3_store_secret_key", "planted-secret"),
        ("s3_store_host", f"http://{LOCALHOST}:{free_port()}"),
    ):
        said = check(cloud, {STORE: {option: value}}, "planted-secret")
        assert said.of(f"store {STORE}", "failure"), option


def test_a_store_that_is_not_configured(cloud: Cloud) -> None:
    """Its rows are counted: the live ones, and those that every run would leave."""
    live = cloud.tables.locations(next(iter(cloud.kept)))
    pending = [cloud.tables.locations(cloud.deleted("slow"))[0] for _ in range(2)]
    for row in [*live, *pending]:
        value = f"rbd://fsid/pool/{row['id']}/snap"
        cloud.tables.change_location(row["id"], value=value, meta_data='{"store": "gone"}')
    said = check(cloud)
    assert "1 live location: store gone is not configured" in said.of("live images", "warning")
    assert "2 pending locations: store gone is not configured" in said.of("pending", "warning")
    cloud.kept.clear()


# What is pending --------------------------------------------------------------------------


def test_what_a_purge_would_take(cloud: Cloud) -> None:
    image = cloud.deleted("fast")
    assert check(cloud).of("purge", "ok")
    cloud.age(image, 29 * DAY)
    assert "29 days" in check(cloud).of("purge", "warning")
    # It does: what the warning is about.
    cloud.age(image, 2 * DAY)
    assert cloud.glance.manage("db", "purge").returncode == 0
    assert cloud.tables.locations(image) == []
    assert cloud.file(image, "fast").exists()


def test_wrecks_claims_and_delayed_delete(cloud: Cloud) -> None:
    off: Options = {"DEFAULT": {"delayed_delete": False}}
    assert "glance-api.conf" in check(cloud, off).of("delayed_delete", "warning")
    image = cloud.deleted("fast")
    assert check(cloud, off).of("delayed_delete", "ok"), "evidently it is on"
    cloud.tables.claim([row["id"] for row in cloud.tables.locations(image)])
    assert "1 location claimed" in check(cloud).of("claims", "ok")
    cloud.tables.change_image(image, deleted=False, status="active")
    assert "a wreck" in check(cloud).of("pending", "warning")


# Keys ------------------------------------------------------------------------------------

NAMES_OF_GLANCES_OPTIONS = """
import json
from importlib.metadata import entry_points

names = {}
for entry in entry_points(group="oslo.config.opts"):
    if not entry.name.startswith(("glance", "oslo", "keystone")):
        continue
    for section, options in entry.load()():
        section = str(getattr(section, "name", section) or "DEFAULT")
        for option in options:
            names.setdefault(section, set()).add(option.dest)
            for old in option.deprecated_opts:
                names.setdefault(str(old.group or section), set()).add(old.name)
print(json.dumps({section: sorted(some) for section, some in names.items()}))
"""

#: The section of glance_store's options for stores of a type, with several stores.
SECTIONS = {
    "file": "file",
    "rbd": "glance.store.rbd.Store",
    "s3": "glance.store.s3.Store",
    "swift": "glance.store.swift.Store",
    "cinder": "cinder",
    "vmware": "glance.store.vmware_datastore.Store",
}


@pytest.fixture
def every_type(tmp_path: Path) -> Iterator[Path]:
    """A configuration with a store of each type."""
    file = tmp_path / "scrubber.conf"
    backends = ",".join(f"{kind}:{kind}" for kind in SECTIONS)
    file.write_text(f"[DEFAULT]\nenabled_backends = {backends}\n")
    return file


def test_no_option_of_glance_is_called_a_mistake(bare_cloud: Cloud, every_type: Path) -> None:
    named = json.loads(bare_cloud.glance.python(NAMES_OF_GLANCES_OPTIONS))
    keys = {at: named[at] for at in ("DEFAULT", "database", "glance_store")}
    # A Glance without the libraries of a store has none of its options.
    keys |= {kind: named[section] for kind, section in SECTIONS.items() if section in named}
    assert keys.keys() >= {"file", "s3", "swift"}
    assert all(len(names) > 5 for names in keys.values()), "is it still read?"
    conf = config.load(["--config-file", str(every_type)])
    list(registry.build_each(conf))
    known = configuration.known_options(conf)
    strangers = configuration.unread({**named, **keys}, known, configuration.own_sections())
    assert [stranger.message for stranger in strangers] == []

"""The real servers themselves: what the other functional tests build on."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from glanceclient import exc as glance_errors

from functional.cloud import Cloud
from functional.conftest import NewCloud
from lab.databases import SERVERS, Database
from lab.glance import Glance
from lab.loaded import run_scrubber
from lab.processes import Child, ProcessFailed, wait_until

TESTS = Path(__file__).parents[1]

IMAGES = sa.table("images", sa.column("id"), sa.column("status"))
LOCATIONS = sa.table(
    "image_locations", sa.column("image_id"), sa.column("value"), sa.column("status")
)


@pytest.fixture
def glance(clouds: NewCloud) -> Glance:
    """One on SQLite, without an image."""
    return clouds().glance


@pytest.fixture(params=list(SERVERS))
def glance_on_database(request: pytest.FixtureRequest, clouds: NewCloud) -> Glance:
    """Likewise; the test runs once on every kind of database."""
    return clouds(request.param).glance


def image_statuses(database: Database) -> dict[str, str]:
    with database.engine.connect() as connection:
        return {row.id: row.status for row in connection.execute(sa.select(IMAGES))}


def location_statuses(database: Database, image_id: str) -> dict[str, str]:
    """Status by file."""
    query = sa.select(LOCATIONS).where(LOCATIONS.c.image_id == image_id)
    with database.engine.connect() as connection:
        return {row.value.removeprefix("file://"): row.status for row in connection.execute(query)}


def test_deleted_images_and_removed_locations_stay_pending(glance_on_database: Glance) -> None:
    glance = glance_on_database
    owner = glance.client(project="owner")
    kept = glance.upload(owner, b"kept", visibility="private")
    deleted = glance.upload(owner, b"deleted", store="slow", os_distro="debian")
    glance.copy_to(kept, "slow")
    glance.copy_to(deleted, "fast")

    glance.remove_location(kept, "slow")
    glance.delete(deleted, owner)

    assert image_statuses(glance.database) == {kept: "active", deleted: "pending_delete"}
    assert location_statuses(glance.database, kept) == {
        str(glance.file(kept, "fast")): "active",
        str(glance.file(kept, "slow")): "pending_delete",
    }
    assert set(location_statuses(glance.database, deleted).values()) == {"pending_delete"}
    for store in ("fast", "slow"):
        assert glance.file(kept, store).read_bytes() == b"kept"
        assert glance.file(deleted, store).read_bytes() == b"deleted"
    assert glance.download(kept) == b"kept"
    assert glance.download(deleted) is None


def test_upstream_restore_returns_an_image_without_data(glance: Glance) -> None:
    image_id = glance.upload(glance.client(), b"data")
    glance.delete(image_id)

    result = glance.run_upstream_scrubber("--restore", image_id)

    assert result.returncode == 0, result.stderr
    assert image_statuses(glance.database) == {image_id: "active"}
    assert glance.download(image_id) is None
    assert glance.file(image_id).read_bytes() == b"data"


def test_upstream_scrubber_deletes(glance: Glance) -> None:
    image_id = glance.upload(glance.client(), b"data")
    glance.delete(image_id)

    result = glance.run_upstream_scrubber(options={"DEFAULT": {"scrub_time": 0}})

    assert result.returncode == 0, result.stderr
    assert image_statuses(glance.database) == {image_id: "deleted"}
    assert not glance.file(image_id).exists()


def test_glance_refuses_file_locations(glance: Glance) -> None:
    image_id = glance.upload(glance.client(), b"data")
    with pytest.raises(glance_errors.HTTPBadRequest):
        glance.admin.images.add_location(image_id, "file:///somewhere", {"store": "fast"})


def test_single_store_mode_and_encrypted_urls(
    new_glance: Callable[..., Glance], sqlite_database: Database, tmp_path: Path
) -> None:
    glance = new_glance(
        sqlite_database, stores=tmp_path / "only", metadata_encryption_key="0123456789abcdef"
    )
    image_id = glance.upload(glance.client(), b"data")
    glance.delete(image_id)

    assert (tmp_path / "only" / image_id).read_bytes() == b"data"
    assert "file" not in next(iter(location_statuses(sqlite_database, image_id)))
    assert glance.run_upstream_scrubber().returncode == 0
    assert not (tmp_path / "only" / image_id).exists()


def test_scripts_run_inside_glance(glance: Glance) -> None:
    image_id = glance.upload(glance.client(), b"data")
    script = "print(db.image_get(context, args[0])['status'], images.get(args[0]).image_id)"

    assert glance.python(script, image_id).split() == ["active", image_id]
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        glance.python("1 / 0")


def test_accidents_leave_the_rows_that_glance_leaves(bare_cloud: Cloud) -> None:
    glance, staging = bare_cloud.glance, bare_cloud.staging
    names = ("crashed", "half", "late", "stale", "stuck")
    ids = {name: glance.upload(glance.client(), name.encode()) for name in names}
    glance.copy_to(ids["stale"], "slow")

    staging.crash_in_delete(image_id=ids["crashed"])
    staging.crash_before_destroy(image_id=ids["half"])
    copy = f"file://{glance.file(ids['late'], 'slow')}"
    staging.delete_during_copy(image_id=ids["late"], url=copy, store="slow")
    staging.remove_location_and_save_stale(image_id=ids["stale"], store="slow")
    staging.crash_after_scrub(image_id=ids["stuck"])

    images = image_statuses(glance.database)
    rows = {
        name: (images[ids[name]], sorted(location_statuses(glance.database, ids[name]).values()))
        for name in names
    }
    assert rows == {
        "crashed": ("active", ["pending_delete"]),
        "half": ("pending_delete", ["pending_delete"]),
        "late": ("pending_delete", ["deleted", "pending_delete"]),
        "stale": ("active", ["active", "active"]),
        "stuck": ("pending_delete", ["deleted"]),
    }


def test_glance_starts_again_on_the_same_port(
    new_glance: Callable[..., Glance], sqlite_database: Database
) -> None:
    glance = new_glance(sqlite_database)
    image_id = glance.upload(glance.client(), b"data")
    glance.stop()
    glance.start()
    assert glance.download(image_id) == b"data"


def test_databases_do_not_share_rows(new_database: Callable[..., Database]) -> None:
    first, second = new_database("sqlite"), new_database("sqlite")
    with first.engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM alembic_version"))
    with second.engine.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM alembic_version")).scalar()


def test_a_child_that_dies_at_start_is_reported_with_its_log(tmp_path: Path) -> None:
    child = Child(["/bin/sh", "-c", "echo no such store; exit 3"], log=tmp_path / "log")
    with pytest.raises(ProcessFailed, match=r"code 3 before it was ready(.|\n)*no such store"):
        child.wait_ready(lambda: False)


def test_a_child_that_ignores_sigterm_is_killed_with_its_children(tmp_path: Path) -> None:
    script = "trap '' TERM; sleep 600 & echo $! >grandchild; wait; wait; sleep 600"
    child = Child(["/bin/sh", "-c", script], log=tmp_path / "log", directory=tmp_path)
    child.wait_ready(lambda: bool((tmp_path / "grandchild").exists()))

    assert child.stop(seconds=0.1) == -signal.SIGKILL
    grandchild = int((tmp_path / "grandchild").read_text())
    wait_until(lambda: not is_running(grandchild), what="end of the grandchild")


def test_a_run_that_takes_too_long_is_killed_and_its_answer_is_not_the_nexts(
    tmp_path: Path,
) -> None:
    def run(*flags: str, seconds: float) -> "subprocess.CompletedProcess[str]":
        return run_scrubber(*flags, environment=os.environ, directory=tmp_path, seconds=seconds)

    with pytest.raises(subprocess.TimeoutExpired):
        run("--version", seconds=0)
    wrong = run("--no-such-flag", seconds=60)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert run("--help", seconds=60).stdout.startswith("usage: scrubber")


@pytest.mark.parametrize("name", SERVERS)
def test_nothing_is_left_of_tests_that_are_killed(
    name: str, new_database: Callable[..., Database]
) -> None:
    new_database(name, empty=True)
    script = f"""
import sys
from functional.cloud import Cloud
from functional.conftest import NewCloud
from lab.databases import SERVERS
server = SERVERS["{name}"](lambda database: None)
server.start()
child = getattr(server, "_child", None)
print(child.pid if child else 0, server._scratch.path, flush=True)
sys.stdin.read()
"""
    tests = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with tests:
        assert tests.stdout is not None
        pid, directory = tests.stdout.readline().split()
        assert Path(directory).exists()
        tests.kill()
    wait_until(lambda: not Path(directory).exists(), what="removal of the directory")
    wait_until(lambda: not is_running(int(pid)), what="end of the server")


def is_running(pid: int) -> bool:
    return pid != 0 and Path(f"/proc/{pid}").exists()

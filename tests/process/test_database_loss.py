"""The database goes away in mid-run: nothing is forgotten, nothing is made up.

Each test plays on MariaDB and PostgreSQL at the same time, since most of it is waiting.
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa

from lab.databases import Database, Server, Servers
from lab.processes import wait_until
from process.program import Ended, Program, Running
from process.rows import Backlog

NewDatabase = Callable[..., Database]

IMAGES = 600
OUTAGE = 3.0

OPTIONS = {
    "scrubber": {
        "claim_lease": 10,
        "call_timeout": 1,
        "page_size": 100,
        "graceful_shutdown_timeout": 3,
    },
    # Most of the slots have to wait for a connection.
    "database": {"max_pool_size": 4},
}

KILL_CONNECTIONS = {
    "mariadb": "SELECT concat('KILL ', id) FROM information_schema.processlist WHERE db = '{}'",
    "postgresql": "SELECT format('SELECT pg_terminate_backend(%%s)', pid) FROM pg_stat_activity "
    "WHERE datname = '{}'",
}


@dataclass
class Scene:
    """A run with slow deletes, more than five seconds of them, 16 at once; and its server."""

    server: Server
    backlog: Backlog
    program: Program
    running: Running
    ended: Ended | None = None

    def wait(self) -> Ended:
        self.ended = self.running.wait(60)
        return self.ended

    def assert_one_more_run_finishes(self) -> None:
        self.backlog.assert_truthful()
        # A claim whose commit got no answer is nobody's: it has to lapse.
        self.backlog.let_claims_lapse()
        self.program.configure({"main": {"seconds": 0}})
        ended = wait_until(self._run_alone, what="a run with nobody in its way")
        assert ended.status == 0, (self.server.name, self.ended, ended)
        self.backlog.assert_scrubbed()

    def _run_alone(self) -> Ended | None:
        """None while a server that was cut off still undoes what was not committed then."""
        ended = self.program.main("--format", "json")
        return None if ended.document["claimed_elsewhere"]["images"] else ended


@pytest.fixture
def scenes(
    servers: Servers, new_database: NewDatabase, tmp_path: Path, cache: Path
) -> Iterator[list[Scene]]:
    """One on each server, both in mid-run."""
    with ExitStack() as stack:
        scenes = []
        for name in ("mariadb", "postgresql"):
            backlog = Backlog(new_database(name), tmp_path / name)
            backlog.add_live(10)
            backlog.add_pending(IMAGES)
            program = Program(tmp_path / f"program-{name}", cache)
            stack.callback(program.close)
            program.use(backlog, kind="slowfile", seconds=0.15)
            program.configure(OPTIONS)
            scenes.append((servers.get(name), backlog, program))
        # All is ready before the first of them starts: they are to be in mid-run together.
        running = [Scene(*scene, scene[-1].start("--format", "json")) for scene in scenes]
        for scene in running:
            scene.running.child.wait_ready(
                lambda journal=scene.program.journal: journal.ended() >= 30
            )
        yield running


def let_pass(seconds: float) -> None:
    over = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > over, what="the outage to be over")


def restart(scenes: list[Scene]) -> None:
    for scene in scenes:
        scene.server.halt()
        scene.server.restart()


@pytest.mark.parametrize("how", ["halt", "crash"])
def test_a_run_outlives_a_restart_of_its_database(scenes: list[Scene], how: str) -> None:
    try:
        for scene in scenes:
            assert scene.running.running
            scene.server.halt(signal.SIGKILL if how == "crash" else None)
        let_pass(OUTAGE)
    finally:
        restart(scenes)
    for scene in scenes:
        ended = scene.wait()
        assert ended.status in (0, 3), (scene.server.name, ended)
        assert ended.document["status"] in ("succeeded", "partial")
        assert "Traceback" not in ended.stderr
        scene.assert_one_more_run_finishes()


def test_a_run_outlives_connections_that_the_server_ends_and_a_server_that_hangs(
    scenes: list[Scene],
) -> None:
    # Idle and busy ones, again and again.
    killed = {scene.server.name: 0 for scene in scenes}
    for _ in range(4):
        for scene in scenes:
            killed[scene.server.name] += kill_connections(scene.server, scene.backlog.database.name)
        let_pass(0.2)
    assert min(killed.values()) >= 4, "each time there was one"

    assert all(scene.running.running for scene in scenes)
    everybody = [process for scene in scenes for process in processes_of(scene.server)]
    for process in everybody:
        process.suspend()
    try:
        let_pass(OUTAGE)
    finally:
        for process in everybody:
            process.resume()
    for scene in scenes:
        ended = scene.wait()
        assert ended.status in (0, 3), (scene.server.name, ended)
        assert "Traceback" not in ended.stderr
        scene.assert_one_more_run_finishes()


def processes_of(server: Server) -> list[psutil.Process]:
    (parent,) = (
        process
        for process in psutil.Process().children()
        if any(word.endswith(str(server.port)) for word in process.cmdline())
    )
    return [parent, *parent.children(recursive=True)]


def kill_connections(server: Server, database: str) -> int:
    query = KILL_CONNECTIONS[server.name].format(database)
    engine = sa.create_engine(server.database(server.administration).url)
    try:
        with engine.connect() as connection:
            statements = connection.exec_driver_sql(query).scalars().all()
            for statement in statements:
                try:
                    connection.exec_driver_sql(statement)
                except sa.exc.DBAPIError:  # it had ended by itself
                    connection.rollback()
    finally:
        engine.dispose()
    return len(statements)


def test_a_signal_while_the_database_is_down_is_heeded_within_its_grace(
    scenes: list[Scene],
) -> None:
    try:
        for scene in scenes:
            scene.server.halt()
        signalled = time.monotonic()
        for scene in scenes:
            scene.running.child.send(signal.SIGTERM)
        for scene in scenes:
            assert scene.wait().status in (1, 3), scene.ended
        # A run alone would be patient for half a minute.
        assert time.monotonic() - signalled < 20
    finally:
        restart(scenes)
    for scene in scenes:
        scene.assert_one_more_run_finishes()

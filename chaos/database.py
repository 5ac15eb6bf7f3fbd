"""The database in trouble: cut off, deadlocked, locked, read-only, down."""

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import sqlalchemy as sa

from chaos.crew import RESTLESS, SHORT_WAITS, Crew
from chaos.invariants import Kind, Violation, repeated
from chaos.scenario import Injected, Scenario, Site, Terms
from chaos.wire import Wire
from lab.databases import Server
from lab.processes import LOCALHOST, wait_until
from process.program import Program
from process.rows import Backlog

SERVERS = ("mariadb", "postgresql")

IMAGES = 300

#: Of what clients send; a transaction is some ten pieces.
CUT_SHARE = 0.03

DOWN, READ_ONLY, LOCKED = 30.0, 10.0, 5.0

READ_ONLY_ON = {
    "mariadb": ("SET GLOBAL read_only = 1",),
    "postgresql": (
        "ALTER SYSTEM SET default_transaction_read_only = on",
        "SELECT pg_reload_conf()",
    ),
}
READ_ONLY_OFF = {
    "mariadb": ("SET GLOBAL read_only = 0",),
    "postgresql": (
        "ALTER SYSTEM RESET default_transaction_read_only",
        "SELECT pg_reload_conf()",
    ),
}

DEADLOCKS = {
    "mariadb": "SELECT variable_value FROM information_schema.global_status "
    "WHERE variable_name = 'INNODB_DEADLOCKS'",
    "postgresql": "SELECT sum(deadlocks) FROM pg_stat_database",
}


@dataclass
class Scene:
    """A server, a backlog, and two daemons that reach it through a wire.

    :param seconds: how long a fault goes on.
    :param small: a part of what outages take at full size.
    """

    server: Server
    backlog: Backlog
    wire: Wire
    crew: Crew
    chance: random.Random
    seconds: float
    small: float

    def add_work(self) -> None:
        self.backlog.add_pending(self.chance.randint(IMAGES // 2, IMAGES))

    def let_pass(self, seconds: float) -> None:
        over = time.monotonic() + seconds
        wait_until(lambda: time.monotonic() > over, what="time", seconds=seconds + 60)


# Faults: each returns how often it struck ---------------------------------------------------


def cut(scene: Scene) -> int:
    """Connections end in mid-statement, and before the answer to a commit is heard."""
    before = scene.wire.cuts.total()
    with scene.wire.cutting(CUT_SHARE):
        scene.let_pass(scene.seconds)
    return scene.wire.cuts.total() - before


def deadlock(scene: Scene) -> int:
    """Somebody locks locations before images, which is the other way round."""
    before, started = _deadlocks(scene), time.monotonic()
    while (passed := time.monotonic() - started) < 5 * scene.seconds:
        if passed > scene.seconds and _deadlocks(scene) > before:
            break
        if not scene.crew.is_busy:
            scene.add_work()
        with scene.backlog.database.engine.connect() as connection:
            try:
                connection.exec_driver_sql(_lock("image_locations"))
                # So that a finish comes in between, which has its images by then.
                time.sleep(scene.chance.uniform(0.01, 0.05))
                connection.exec_driver_sql(_lock("images"))
            except sa.exc.OperationalError:
                pass  # this session was the one to give in
            connection.rollback()
        time.sleep(scene.chance.uniform(0.01, 0.05))
    return _deadlocks(scene) - before


def lock(scene: Scene) -> int:
    """Somebody locks all images for longer than scrubber's sessions may wait."""
    times, over = 0, time.monotonic() + scene.seconds
    while not times or time.monotonic() < over:
        with scene.backlog.database.engine.connect() as connection:
            connection.exec_driver_sql(_lock("images"))
            scene.let_pass(max(3.0, scene.small * LOCKED))
            connection.rollback()
        times += 1
        scene.let_pass(0.3)
    return times


def read_only(scene: Scene) -> int:
    scene.server.execute(*READ_ONLY_ON[scene.server.name])
    try:
        scene.let_pass(max(2.0, scene.small * READ_ONLY))
    finally:
        scene.server.execute(*READ_ONLY_OFF[scene.server.name])
    return 1


def down(scene: Scene) -> int:
    scene.server.halt()
    try:
        scene.let_pass(max(3.0, scene.small * DOWN))
    finally:
        scene.server.restart()
    return 1


def _deadlocks(scene: Scene) -> int:
    with scene.backlog.database.engine.connect() as connection:
        return int(connection.exec_driver_sql(DEADLOCKS[scene.server.name]).scalar_one() or 0)


def _lock(table: str) -> str:
    return f"SELECT id FROM {table} WHERE status = 'pending_delete' ORDER BY id DESC FOR UPDATE"


FAULTS: dict[str, Callable[[Scene], int]] = {
    "connections cut in mid-statement": cut,
    "deadlocks": deadlock,
    "locks held longer than one may wait": lock,
    "read-only for a while": read_only,
    "down": down,
}


# The scene --------------------------------------------------------------------------------


def play(site: Site, terms: Terms) -> list[Injected]:
    injected: list[Injected] = []
    for chance in terms.rounds():
        for server in terms.some(SERVERS):
            with site.scene() as scene:
                injected += suffer(scene, server, chance, terms)
    return injected


def suffer(site: Site, name: str, chance: random.Random, terms: Terms) -> list[Injected]:
    """All faults, one after the other, on one server."""
    server = site.server(name)
    backlog = Backlog(site.database(name), site.directory("store"))
    backlog.add_live(10)
    with Wire(server.port, str(chance.random())) as wire:
        url = _url_of_glance(server, backlog, wire)
        programs = [_program(site, backlog, url, workers) for workers in (1, 2)]
        with Crew(programs, backlog.database, backlog, backlog.live) as crew:
            scene = Scene(
                server, backlog, wire, crew, chance, max(3.0, 10 * terms.size), terms.size
            )
            injected = [
                strike(scene, f"{fault}, {name}", partial(act, scene))
                for fault, act in FAULTS.items()
            ]
            found = [*crew.end(), *miscounted(scene, programs)]
    return [*injected, Injected(f"all of these together, {name}", len(FAULTS), tuple(found))]


def strike(scene: Scene, fault: str, act: Callable[[], int]) -> Injected:
    """Something to do, a fault meanwhile, and the time until it is done all the same."""
    scene.add_work()
    times = act()
    early = scene.crew.broken()
    seconds, found = scene.crew.recover()
    return Injected(fault, times, (*early, *found), (seconds,))


def miscounted(scene: Scene, programs: list[Program]) -> list[Violation]:
    """Nothing was deleted twice, and nothing counted twice: no process has died."""
    deletes = Counter(delete.image for program in programs for delete in program.journal.deletes())
    found = repeated(deletes, scene.backlog.pending)
    counted = scene.crew.counted()
    if counted["deleted"] != len(scene.backlog.pending):
        subject = f"{dict(counted)} of {len(scene.backlog.pending)}"
        found.append(Violation(subject, Kind.MISCOUNTED))
    return found


def _program(site: Site, backlog: Backlog, url: str, workers: int) -> Program:
    program = site.program()
    program.use(backlog, kind="slowfile", batch=2, seconds=0.1)
    of_this = {"database": {"connection": url}, "scrubber": {"workers": workers}}
    program.configure(RESTLESS, of_this)
    return program


def _url_of_glance(server: Server, backlog: Backlog, wire: Wire) -> str:
    """As Glance's own account, which may do nothing when the server is read-only."""
    url = sa.make_url(backlog.database.url).set(port=wire.port)
    if server.name == "mariadb":
        name = backlog.database.name
        server.execute(
            f"CREATE USER {name}@'{LOCALHOST}' IDENTIFIED BY '{name}'",
            f"GRANT ALL ON {name}.* TO {name}@'{LOCALHOST}'",
        )
        url = url.set(username=name, password=name)
    return url.render_as_string(hide_password=False) + SHORT_WAITS[server.name]


SCENARIO = Scenario(
    "database",
    "whatever happens to the database, nothing is forgotten, nothing made up, nothing done twice",
    play,
    small_size=0.1,
)

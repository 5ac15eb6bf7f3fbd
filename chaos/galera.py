"""Glance's database is a Galera cluster: two scrubbers on each node, and a node that is lost."""

import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence

from chaos.invariants import Kind, Violation, broken, left, look, repeated
from chaos.scenario import Injected, Scenario, Site, Terms
from chaos.share import miscounted
from lab.databases import Database
from lab.galera import Galera, Node
from lab.glance import create_schema
from lab.processes import wait_until
from process.program import Ended, Program
from process.rows import Backlog

IMAGES = 20_000
PROCESSES = 2

#: Seconds after which another scrubber takes over.
LEASE = 10

OPTIONS = {
    # Small pages, so that they meet all the time.
    "scrubber": {
        "claim_lease": LEASE,
        "call_timeout": 1,
        "page_size": 50,
        "graceful_shutdown_timeout": 10,
    },
}
AGAIN_AND_AGAIN = {"DEFAULT": {"wakeup_time": 1}}

#: What a node counts of transactions that it undid, since another node's came first (error 1213).
CONFLICTS = ("wsrep_local_cert_failures", "wsrep_local_bf_aborts")


def play(site: Site, terms: Terms) -> list[Injected]:
    images = terms.count(IMAGES, least=1000)
    with Galera(create_schema) as galera:
        return [
            share(site, galera, galera.create_database("shared"), images),
            lose_a_node(site, galera, galera.create_database("lost"), images),
        ]


def programs_on(site: Site, node: Node, backlog: Backlog, seconds: float) -> list[Program]:
    """:param seconds: how long the store takes for each delete."""
    there = Backlog(node.database(backlog.database.name), backlog.directory)
    programs = [site.program() for _ in range(PROCESSES)]
    for program in programs:
        program.use(there, kind="slowfile", batch=16, seconds=seconds)
        program.configure(OPTIONS)
    return programs


def filled(site: Site, database: Database, images: int) -> Backlog:
    backlog = Backlog(database, site.directory("store"))
    backlog.add_live(20)
    backlog.add_pending(images)
    return backlog


def deletes(programs: Sequence[Program]) -> Counter[str]:
    """How often each image was deleted from the store, by whichever of them."""
    return Counter(delete.image for program in programs for delete in program.journal.deletes())


# All nodes at work ------------------------------------------------------------------------


def share(site: Site, galera: Galera, database: Database, images: int) -> Injected:
    backlog = filled(site, database, images)
    programs = [at for node in galera.nodes for at in programs_on(site, node, backlog, 0.004)]
    before = conflicts(galera)
    running = [program.start("--format", "json") for program in programs]
    wait_until(lambda: not any(at.running for at in running), what="the end", seconds=300)
    ended = [at.wait() for at in running]
    found = [
        *repeated(deletes(programs), backlog.pending),
        *left(look(database, backlog), kept=backlog.live),
        *miscounted([at.document for at in ended], images),
        *(Violation(str(at), Kind.RUN_FAILED) for at in ended if at.status != 0),
    ]
    print(f"galera: {conflicts(galera) - before} transactions were undone by another node's")
    return Injected("scrubbers on two nodes share a backlog", len(programs), tuple(found))


def conflicts(galera: Galera) -> int:
    return sum(int(node.status[name]) for node in galera.nodes for name in CONFLICTS)


# A node is lost ---------------------------------------------------------------------------


def lose_a_node(site: Site, galera: Galera, database: Database, images: int) -> Injected:
    """Its scrubbers say so, and are told to end; the others are daemons and go on."""
    kept, lost = galera.nodes
    backlog = filled(site, database, images)
    heirs, bereft = (programs_on(site, node, backlog, 0.1) for node in (kept, lost))
    for heir in heirs:
        heir.configure(AGAIN_AND_AGAIN)
    daemons = [program.start("--daemon") for program in heirs]
    runs = [program.start("--format", "json") for program in bereft]
    for program in bereft:
        wait_until(lambda at=program: at.journal.ended() >= 30, what="all are in mid-run")
    lost.halt(signal.SIGKILL)
    struck_at = time.monotonic()
    for running in runs:
        running.child.send(signal.SIGTERM)  # else they would be patient for half a minute
    ended = [running.wait() for running in runs]
    found = broken(look(database, backlog), kept=backlog.live)
    wait_until(lambda: is_done(backlog), what="the others finish", seconds=300, every=0.2)
    recovered = time.monotonic() - struck_at
    for daemon in daemons:
        daemon.assert_stops()
    found += [
        *left(look(database, backlog), kept=backlog.live),
        *untruthful(ended, deletes([*heirs, *bereft])),
    ]
    return Injected("kill -9 of a node with two scrubbers", 1, tuple(found), (recovered,))


def is_done(backlog: Backlog) -> bool:
    return backlog.recorded() == set(backlog.pending)


def untruthful(ended: Sequence[Ended], tried: Counter[str]) -> Iterator[Violation]:
    """Each says that the database is gone, and of what it deleted how much is not recorded.

    Nobody else was asked to delete what it did record.
    """
    unrecorded = 0
    for run in ended:
        document = run.document
        mine = document["locations"]["deleted"] - document["stages"]["recorded"]["locations"]
        says_so = "does not answer" in (document["error"] or "") and run.status in (1, 3)
        if not says_so or bool(document["alarms"]) != (mine > 0):
            yield Violation(str(run), Kind.MISCOUNTED)
        unrecorded += mine
    if sum(tried.values()) - len(tried) > unrecorded:
        yield Violation(f"more than {unrecorded} images", Kind.DELETED_AGAIN)


SCENARIO = Scenario(
    "galera",
    "each node's scrubbers delete each location once; when a node is lost the others finish",
    play,
    small_size=0.05,
)

"""Glance's database is a Galera cluster: scrubbers on its nodes agree on every location.

A node knows of another's locks only when a transaction is to be committed: then one of the two
is undone (error 1213), and has to be done again.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from conftest import needed_programs
from lab.databases import Database
from lab.galera import Galera
from lab.glance import create_schema
from lab.processes import wait_until
from process.on_galera import AGAIN_AND_AGAIN, LEASE, Scrubbers
from process.program import Ended, Program
from process.rows import IMAGES, LOCATIONS, Backlog
from scrubber import config, pool
from scrubber.model import Candidate, Selection
from scrubber.sources import database as database_source
from scrubber.sources.base import Claimed, Finish, Finished
from scrubber.sources.engine import Engine
from scrubber.sources.restoring import RestoringSource

pytestmark = pytest.mark.timeout(180)

NAME = "glance"


@pytest.fixture(scope="module")
def galera() -> Iterator[Galera]:
    with needed_programs(), Galera(create_schema) as galera:
        yield galera


@pytest.fixture(scope="module")
def made(galera: Galera) -> Database:
    return galera.create_database(NAME)


@pytest.fixture
def database(made: Database) -> Database:
    """Glance's tables, empty; as the first node serves them."""
    with made.engine.begin() as connection:
        for table in (LOCATIONS, IMAGES):
            connection.execute(sa.delete(table))
    return made


@pytest.fixture
def backlog(database: Database, tmp_path: Path) -> Backlog:
    return Backlog(database, tmp_path / "store")


@pytest.fixture
def sources(galera: Galera, database: Database, tmp_path: Path) -> Iterator[list[RestoringSource]]:
    """One on each node."""
    with ExitStack() as stack:
        sources = []
        for number, node in enumerate(galera.nodes):
            file = tmp_path / f"node-{number}.conf"
            file.write_text(f"[database]\nconnection = {node.database(database.name).url}\n")
            options = config.load(["--config-file", str(file)]).database
            sources.append(RestoringSource(Engine(options, pool.Flag()), None))
            stack.callback(sources[-1].close)
        yield sources


def candidates(source: RestoringSource) -> list[Candidate]:
    return [at for page in source.candidates(Selection(), 100) for at in page]


def aborted(galera: Galera) -> int:
    """Transactions that the first node undid because the other's came first."""
    status = galera.nodes[0].status
    return int(status["wsrep_local_bf_aborts"]) + int(status["wsrep_local_cert_failures"])


class Once:
    """Lets something happen in the middle of a transaction, the first time it is tried."""

    def __init__(self, before: Callable[..., Any], happens: Callable[[], object]) -> None:
        self._before = before
        self._happens = happens
        self.tries = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        result = self._before(*args, **kwargs)
        self.tries += 1
        if self.tries == 1:
            self._happens()
        return result


# Conflicts --------------------------------------------------------------------------------


def test_of_two_claims_at_once_the_one_that_is_certified_first_holds(
    galera: Galera,
    backlog: Backlog,
    sources: list[RestoringSource],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backlog.add_pending(20)
    here, there = sources
    page, before = candidates(here), aborted(galera)
    rival: list[Claimed] = []
    race = Once(here._claimable, lambda: rival.append(there.claim(page, LEASE)))
    monkeypatch.setattr(here, "_claimable", race)

    claimed = here.claim(page, LEASE)

    assert race.tries == 2, "done again"
    assert aborted(galera) > before
    assert len(rival[0].candidates) == 20
    assert (claimed.candidates, len(claimed.lost)) == ((), 20)
    triples = [(rival[0].claim, at, at.locations[0]) for at in page]
    assert len(there.still_ours(triples)) == len(here.still_ours(triples)) == 20


def test_a_finish_that_another_node_undoes_is_done_again(
    galera: Galera,
    backlog: Backlog,
    sources: list[RestoringSource],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its files are gone: whatever anybody writes to the images meanwhile, it is not dropped."""
    backlog.add_pending(20)
    here, _ = sources
    page, before = here.claim(candidates(here), LEASE).candidates, aborted(galera)
    other_node = galera.nodes[1].database(NAME)

    def user_changes_the_images() -> None:
        with other_node.engine.begin() as connection:
            connection.execute(sa.update(IMAGES).values(min_ram=1))

    race = Once(database_source._finish_locations, user_changes_the_images)
    monkeypatch.setattr(database_source, "_finish_locations", race)

    finished = here.finish(
        Finish(frozenset(at.locations[0].id for at in page), frozenset(at.image.id for at in page))
    )

    assert race.tries == 2, "done again"
    assert aborted(galera) > before
    assert finished == Finished(frozenset(), frozenset())
    assert backlog.statuses() == {("deleted", "deleted")}


# Restore ----------------------------------------------------------------------------------


def test_a_node_that_lags_behind_is_waited_for(
    galera: Galera, backlog: Backlog, sources: list[RestoringSource]
) -> None:
    """What one node has committed another may show later: who restores there has to see it."""
    backlog.add_pending(1)
    here, there = sources
    page = candidates(here)
    [seen] = there.locations([page[0].image.id])
    with galera.nodes[1].database(NAME).engine.connect() as connection:
        connection.exec_driver_sql("FLUSH TABLES WITH READ LOCK")  # it applies nothing now
        try:
            assert len(here.claim(page, LEASE).candidates) == 1
            waker = threading.Timer(1, connection.exec_driver_sql, ["UNLOCK TABLES"])
            waker.start()
            [claimed] = there.locations([page[0].image.id])
        finally:
            waker.join()
    assert seen.updated_at == seen.deleted_at
    assert claimed.updated_at is not None
    assert claimed.deleted_at is not None
    assert claimed.updated_at > claimed.deleted_at


@pytest.mark.parametrize("whose", ["its own", "a twin's"])
def test_a_restore_on_one_node_is_refused_by_a_claim_just_committed_on_the_other(
    galera: Galera,
    backlog: Backlog,
    sources: list[RestoringSource],
    tmp_path: Path,
    cache: Path,
    whose: str,
) -> None:
    backlog.add_pending(5)
    here, _ = sources
    page = candidates(here)
    if whose == "a twin's":
        share_files(backlog)
    with ExitStack() as stack:
        program = Program(tmp_path / "program", cache)
        stack.callback(program.close)
        program.use(Backlog(galera.nodes[1].database(NAME), backlog.directory))
        for candidate in page:
            image = candidate.image.id
            claimed = [
                at for at in candidates(here) if (at.image.id == image) == (whose == "its own")
            ]
            claim = here.claim(claimed, LEASE)
            assert claim.candidates

            refused = program.main("--restore", image)

            assert refused.status == 1
            assert "is being scrubbed right now" in refused.stderr
            here.release(claim.claim, set(claim.claim.locations))
    assert backlog.statuses() == {("pending_delete", "pending_delete")}


def share_files(backlog: Backlog) -> None:
    """All of its rows name one file."""
    url = f"file://{backlog.path(backlog.pending[0])}"
    with backlog.database.engine.begin() as connection:
        connection.execute(sa.update(LOCATIONS).values(value=url))


# Whole runs -------------------------------------------------------------------------------


def test_two_scrubbers_on_each_node_delete_each_location_once(
    galera: Galera, database: Database, tmp_path: Path, cache: Path
) -> None:
    with Scrubbers(galera, database, tmp_path, cache, images=2000) as scrubbers:
        ended = [running.wait() for running in scrubbers.start()]
        deletes = scrubbers.deletes()
        backlog = scrubbers.backlog

    backlog.assert_scrubbed()
    assert deletes == dict.fromkeys(backlog.pending, 1)
    for run in ended:
        assert run.status == 0, run
        assert run.document["alarms"] == []
        assert run.document["locations"]["gone"] == 0
        assert run.document["locations"]["deleted"] > 0, "each had its share"
    assert sum(run.document["locations"]["deleted"] for run in ended) == 2000
    assert sum(recorded(run) for run in ended) == 2000


def test_the_scrubbers_of_the_other_node_finish_when_one_is_lost(
    galera: Galera, database: Database, tmp_path: Path, cache: Path
) -> None:
    node = galera.nodes[1]
    with Scrubbers(galera, database, tmp_path, cache, images=1000) as scrubbers:
        backlog = scrubbers.backlog
        for heir in scrubbers.of_node[0]:
            heir.configure(AGAIN_AND_AGAIN)
        heirs = [program.start("--daemon") for program in scrubbers.of_node[0]]
        bereft = [program.start("--format", "json") for program in scrubbers.of_node[1]]
        try:
            for program in scrubbers.of_node[1]:
                wait_until(lambda at=program: at.journal.ended() >= 100, what="all are in mid-run")
            node.halt(signal.SIGKILL)
            # Else they would be patient for half a minute.
            for running in bereft:
                running.child.send(signal.SIGTERM)
            ended = [running.wait() for running in bereft]
            wait_until(lambda: backlog.recorded() == set(backlog.pending), what="the heirs finish")
            for heir in heirs:
                heir.assert_stops()
        finally:
            # Halted before, too, should it not have come so far.
            node.halt(signal.SIGKILL)
            node.restart()
        tried = scrubbers.deletes()

    backlog.assert_scrubbed()
    assert set(tried) == set(backlog.pending)
    unrecorded = 0
    for run in ended:
        assert run.status in (1, 3), run
        assert "the database does not answer" in run.document["error"]
        assert run.error_lines == [f"ERROR: {run.document['error']}"]
        of_this_run = run.document["locations"]["deleted"] - recorded(run)
        assert bool(run.document["alarms"]) == (of_this_run > 0), "it says what is not recorded"
        unrecorded += of_this_run
    # What they did record nobody was asked to delete once more.
    assert sum(tried.values()) - len(tried) <= unrecorded


def recorded(run: Ended) -> int:
    return int(run.document["stages"]["recorded"]["locations"])

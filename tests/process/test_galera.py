"""Glance's database is a Galera cluster: scrubbers on its nodes agree on every location.

A node knows of another's locks only when a transaction is to be committed: then one of the two
is undone (error 1213), and has to be done again.  Whole runs are played in chaos/galera.py.
"""

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
from process.program import Program
from process.rows import IMAGES, LOCATIONS, Backlog
from scrubber import config, pool
from scrubber.model import Candidate, Selection
from scrubber.sources import claims, finishing
from scrubber.sources.base import Claimed, Finish, Finished
from scrubber.sources.engine import Engine
from scrubber.sources.restoring import RestoringSource

pytestmark = pytest.mark.timeout(180)

NAME = "glance"
LEASE = 60.0


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
    race = Once(claims._lapsed, lambda: rival.append(there.claim(page, LEASE)))
    monkeypatch.setattr(claims, "_lapsed", race)

    claimed = here.claim(page, LEASE)

    assert race.tries == 3, "the rival's, and its own that was done again"
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

    race = Once(finishing._finish_locations, user_changes_the_images)
    monkeypatch.setattr(finishing, "_finish_locations", race)

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

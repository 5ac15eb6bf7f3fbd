"""How servers carry out the statements of a run, on an old cloud with many tombstones.

A statement that locks rows, or is made for each batch, goes along an index to the rows that it
names: one that passed all rows would lock them, or take longer the older the cloud is.
"""

import datetime
import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from conftest import NewDatabase, needed_programs
from functional.rows import ANY_IMAGE, Tables, scrubbers_engine, utcnow
from lab.databases import Database, MariaDB, PostgreSQL, Servers
from process.rows import Backlog
from scrubber.model import Candidate, Selection
from scrubber.planning.naming import Naming
from scrubber.sources.base import Finish
from scrubber.sources.database import DatabaseSource
from scrubber.sources.engine import Engine
from scrubber.sources.restoring import RestoringSource

TOMBSTONES, PENDING, LIVE, HALF_DELETED = 20_000, 60, 100, 3

#: Candidates in one page: as a small part of the rows as a page of 1,000 is of a real cloud's.
PAGE = 20

LEASE = 300.0


@dataclass(frozen=True)
class Statement:
    """A statement as the source made it."""

    text: str
    parameters: Any

    @property
    def locks(self) -> bool:
        return self.text.startswith("UPDATE") or "FOR UPDATE" in self.text

    def __str__(self) -> str:
        return re.sub(r"\([^()]{100,}\)", "(...)", " ".join(self.text.split()))


class OldCloud:
    """Rows of years in a server, and the source that reads them; each statement is kept."""

    def __init__(self, database: Database, directory: Path) -> None:
        self._tables = Tables(database)
        self._fill()
        self._engine = scrubbers_engine(database, directory)
        self.source = RestoringSource(self._engine, None)
        self.statements: list[Statement] = []
        event.listen(self._engine._engine, "before_cursor_execute", self._keep)

    def close(self) -> None:
        self.source.close()
        self._tables.close()

    def _fill(self) -> None:
        kinds = [
            *[("deleted", True)] * TOMBSTONES,
            *[("pending_delete", True)] * PENDING,
            *[("active", False)] * LIVE,
            *[("pending_delete", False)] * HALF_DELETED,
        ]
        images, locations = zip(*(_rows(*kind) for kind in kinds), strict=True)
        for first in range(0, len(kinds), 5000):
            some = slice(first, first + 5000)
            self._tables.execute(
                sa.insert(self._tables.table("images")).values(images[some]),
                sa.insert(self._tables.table("image_locations")).values(locations[some]),
                sa.insert(self._tables.table("image_properties")).values(
                    [_property(image) for image in images[some]]
                ),
            )
        # A server does it now and then by itself: it knows by then what most rows are.
        word = "ANALYZE TABLE" if self._tables._engine.dialect.name == "mysql" else "ANALYZE"
        for table in ("images", "image_locations", "image_properties"):
            self._tables.execute(sa.text(f"{word} {table}"))

    def _keep(
        self, _connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any
    ) -> None:
        self.statements.append(Statement(statement, parameters))

    def plan(self, statement: Statement) -> "Plan":
        """What the server would do."""
        with self._engine._engine.connect() as connection:
            mysql = connection.dialect.name == "mysql"
            explain = "EXPLAIN" if mysql else "EXPLAIN (FORMAT JSON)"
            rows = connection.exec_driver_sql(f"{explain} {statement.text}", statement.parameters)
            found = rows.mappings().all()
        if mysql:
            return Plan({(row["table"], row["key"]) for row in found if _is_of_glance(row)})
        return Plan(set(_accesses(found[0]["QUERY PLAN"][0]["Plan"])))

    def run(self) -> None:
        """Everything that a run asks of its source."""
        source = self.source
        its = "file:///images/", "", '{"store": "fast"}'
        known = [Naming(*its, is_live=True), Naming(*its, is_live=False)]
        list(source.references(1000, lambda: known))
        page = max(source.candidates(Selection(), PAGE), key=len)
        claimed = source.claim(page, LEASE)
        assert len(claimed.candidates) == PAGE
        of_batch = [(claimed.claim, at, row) for at in claimed.candidates for row in at.locations]
        numbers = sorted(claimed.claim.locations)
        assert source.still_ours(of_batch) == set(numbers)
        source.references_of([at.image.id for at in page], numbers[1:])
        source.live_since()
        source.still_live(numbers)
        source.pending_among(numbers)
        source.busy_images([at.image.id for at in page])
        source.renew(claimed.claim)
        source.finish(_finish(claimed.candidates[: PAGE // 2]))
        source.release(claimed.claim, numbers[PAGE // 2 :])


@dataclass(frozen=True)
class Plan:
    """The tables that are read, each with the index that is followed; None for all its rows."""

    accesses: set[tuple[str, str | None]]

    @property
    def scanned(self) -> set[str]:
        """Tables that are read from end to end."""
        return {table for table, index in self.accesses if index is None}


def _rows(status: str, deleted: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    image_id, then = str(uuid.uuid4()), utcnow().replace(microsecond=0) - datetime.timedelta(days=1)
    both = {
        "created_at": then,
        "updated_at": then,
        "deleted_at": then if deleted else None,
        "deleted": deleted,
        "status": status,
    }
    image = {
        "id": image_id,
        "size": 5,
        "owner": "project",
        **ANY_IMAGE,
    }
    location = {
        "image_id": image_id,
        "value": f"file:///images/{image_id}",
        "meta_data": json.dumps({"store": "fast"}),
    }
    return image | both, location | both


def _property(image: dict[str, Any]) -> dict[str, Any]:
    columns = ("created_at", "updated_at", "deleted_at", "deleted")
    its = {name: image[name] for name in columns}
    return {"image_id": image["id"], "name": "os_distro", "value": "debian", **its}


def _finish(candidates: tuple[Candidate, ...]) -> Finish:
    locations = frozenset(row.id for candidate in candidates for row in candidate.locations)
    return Finish(locations, frozenset(candidate.image.id for candidate in candidates))


def _is_of_glance(row: Any) -> bool:
    """Not a list in the statement, nor what a part of it has found."""
    return (row["table"] or "").startswith("image")


def _accesses(plan: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Of PostgreSQL's plan; the index of a bitmap stands below the table."""
    if "Relation Name" in plan and plan["Node Type"] != "ModifyTable":
        below = plan.get("Plans", [{}])[0].get("Index Name")
        yield plan["Relation Name"], plan.get("Index Name") or below
    for part in plan.get("Plans", []):
        yield from _accesses(part)


@pytest.fixture(params=[MariaDB.name, PostgreSQL.name], scope="module")
def old_cloud(
    request: pytest.FixtureRequest,
    servers: Servers,
    database_names: Iterator[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[OldCloud]:
    with needed_programs():
        server = servers.get(request.param)
    database = server.create_database(next(database_names))
    cloud = OldCloud(database, tmp_path_factory.mktemp("old"))
    cloud.run()
    yield cloud
    cloud.close()
    server.drop_database(database)


def test_no_statement_locks_more_than_the_rows_it_names(old_cloud: OldCloud) -> None:
    locking = [statement for statement in old_cloud.statements if statement.locks]
    assert len(locking) >= 6, "claim, renew, finish and release lock rows"
    scans = {str(at): tables for at in locking if (tables := old_cloud.plan(at).scanned)}
    assert scans == {}


def test_what_is_asked_for_each_batch_passes_no_other_rows(old_cloud: OldCloud) -> None:
    first = next(
        number for number, at in enumerate(old_cloud.statements) if at.text.startswith("UPDATE")
    )
    per_batch = [at for at in old_cloud.statements[first + 1 :] if at.text.startswith("SELECT")]
    assert len(per_batch) >= 6
    scans = {str(at): tables for at in per_batch if (tables := old_cloud.plan(at).scanned)}
    assert scans == {}


def test_sqlite_goes_by_the_numbers_of_a_page_and_not_through_all_deleted_images(
    new_database: NewDatabase, tmp_path: Path
) -> None:
    """It keeps no statistics of its own accord, and takes every index for a good one."""
    database = new_database("sqlite")
    Backlog(database, tmp_path / "store").add_pending(PAGE)
    statements: list[Statement] = []
    engine = scrubbers_engine(database, tmp_path)
    source = DatabaseSource(engine, None)
    try:
        page = max(source.candidates(Selection(), 2 * PAGE), key=len)
        event.listen(
            engine._engine,
            "before_cursor_execute",
            lambda _connection, _cursor, text, values, *_: statements.append(
                Statement(text, values)
            ),
        )
        claimed = source.claim(page, LEASE)
        source.still_ours(
            [(claimed.claim, at, row) for at in claimed.candidates for row in at.locations]
        )
        source.finish(_finish(claimed.candidates))
        plans = [_sqlite_plan(engine, at) for at in list(statements) if "image" in at.text]
    finally:
        source.close()
    assert len(plans) >= 6
    assert not [plan for plan in plans if "_deleted" in plan or "SCAN image" in plan]


def _sqlite_plan(engine: Engine, statement: Statement) -> str:
    with engine._engine.connect().execution_options(scrubber_write=False) as connection:
        explain = f"EXPLAIN QUERY PLAN {statement.text}"
        rows = connection.exec_driver_sql(explain, statement.parameters)
        return "; ".join(row.detail for row in rows)


def test_what_has_bytes_is_found_in_one_pass_of_one_table(old_cloud: OldCloud) -> None:
    """At the start of each run that has anything to do; no index is of use."""
    [first, *_] = (at for at in old_cloud.statements if "CASE WHEN" in at.text)
    [(table, key)] = old_cloud.plan(first).accesses
    assert table == "image_locations"
    assert key in ("PRIMARY", "image_locations_pkey", None)

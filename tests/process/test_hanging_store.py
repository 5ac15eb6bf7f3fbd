"""A file system whose server is gone: its calls never return, and everything else goes on."""

from pathlib import Path

import pytest

from lab.databases import Database
from process.program import Program
from process.rows import Backlog


@pytest.fixture
def well(sqlite_database: Database, tmp_path: Path) -> Backlog:
    """Another store, on another file system."""
    return Backlog(sqlite_database, tmp_path / "well", store="well")


def test_deletes_that_never_return_hold_up_neither_the_others_nor_the_end(
    program: Program, backlog: Backlog, well: Backlog
) -> None:
    backlog.add_live(1)
    backlog.add_pending(40)
    well.add_live(1)
    well.add_pending(200)
    program.use(backlog, well, kind="slowfile")
    program.configure(
        {
            "DEFAULT": {"scrub_pool_size": 4},
            "main": {"hang_after": 5},
            "scrubber": {"call_timeout": 1, "claim_lease": 30},
        }
    )

    ended = program.run("--format", "json", seconds=40)
    assert ended.status == 3
    document = ended.document
    well.assert_scrubbed()
    backlog.assert_truthful()
    assert "no answer within" in document["stopped_stores"]["main"]
    assert document["stores"]["main"]["locations"]["deleted"] == len(backlog.recorded()) == 5
    # They may be deleted at any time; nobody may take them for safe, and nobody renews them.
    held = backlog.claimed()
    assert 1 <= len(held) <= 4
    assert held.isdisjoint(backlog.recorded())

    backlog.let_claims_lapse()
    refused = program.run("--restore", min(held))
    refused.assert_one_error("--force")

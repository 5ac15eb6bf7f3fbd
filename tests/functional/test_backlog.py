"""The figures of what is pending, asked of every kind of database that Glance runs on."""

import datetime
from pathlib import Path

from lab.databases import Database
from process.program import Program
from process.rows import Backlog
from scrubber import config, pool
from scrubber.sources.opening import open_source

A_MINUTE = datetime.timedelta(minutes=1)


def test_every_database_counts_what_was_deleted_and_when(
    database: Database, tmp_path: Path
) -> None:
    rows = Backlog(database, tmp_path / "store")
    rows.add_live(3)
    rows.add_pending(4, content=b"12345")
    rows.add_pending(2, content=b"12", ago=A_MINUTE)
    program = Program(tmp_path / "program", tmp_path)
    program.use(rows)
    source = open_source(config.load(["--config-file", str(program.file)]), pool.Flag())
    try:
        whole, recent = source.backlog(), source.backlog(30, 600)
    finally:
        source.close()
    assert (whole.images, whole.bytes) == (6, 24)
    assert (recent.images, recent.bytes) == (2, 4)
    # Whatever the time zone of the server.
    assert whole.oldest is not None
    assert 3600 <= whole.oldest < 3660

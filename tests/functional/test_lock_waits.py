"""How long a transaction waits for a row that somebody has locked."""

from contextlib import closing
from pathlib import Path

import pytest

from conftest import NewDatabase
from scrubber import config, pool
from scrubber.sources.engine import Engine


@pytest.mark.parametrize(
    ("option", "waits"),
    [("", "50s"), ("?options=-c+lock_timeout%3D3s", "3s")],
    ids=["scrubber's", "the operator's"],
)
def test_postgresql_does_not_wait_for_ever(
    new_database: NewDatabase, tmp_path: Path, option: str, waits: str
) -> None:
    """Else a process that stands still in mid-transaction would hold up all others."""
    url = new_database("postgresql", empty=True).url + option
    file = tmp_path / "scrubber.conf"
    file.write_text(f"[database]\nconnection = {url}\n")
    options = config.load(["--config-file", str(file)]).database
    with closing(Engine(options, pool.Flag())) as engine:
        asked = engine.write(lambda c: c.exec_driver_sql("SHOW lock_timeout").scalar_one())
    assert asked == waits

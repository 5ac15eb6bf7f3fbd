import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.databases import Database

pytest.register_assert_rewrite("process.program", "process.rows")

from process.program import Program  # noqa: E402 - their assertions are to be explained
from process.rows import Backlog  # noqa: E402


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes half a minute or more; -m 'not slow' omits it")


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where stevedore keeps the entry points it has found: looked up once, not in every run."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def program(tmp_path: Path, cache: Path) -> Iterator[Program]:
    program = Program(tmp_path / "program", cache)
    yield program
    program.close()


@pytest.fixture
def backlog(sqlite_database: Database, tmp_path: Path) -> Backlog:
    """An empty store with a database on SQLite."""
    return Backlog(sqlite_database, tmp_path / "store")


@pytest.fixture(params=[signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def stop_signal(request: pytest.FixtureRequest) -> signal.Signals:
    return request.param

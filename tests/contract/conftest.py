"""The sources and the drivers that the contracts run over."""

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("contract.driver_contract")

from contract.worlds import DatabaseWorld, FakeWorld, World  # noqa: E402


@pytest.fixture(params=["fake", "database"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    world = FakeWorld() if request.param == "fake" else DatabaseWorld(tmp_path)
    yield world
    world.close()


@pytest.fixture
def database_world(tmp_path: Path) -> Iterator[DatabaseWorld]:
    world = DatabaseWorld(tmp_path)
    yield world
    world.close()

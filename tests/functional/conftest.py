"""Clouds for the functional tests: each Glance is started once and emptied for every test."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from lab import Unavailable
from lab.databases import SERVERS, Servers
from lab.glance import Glance, merge

pytest.register_assert_rewrite("functional.cloud", "functional.program")

from functional.cloud import Cloud  # noqa: E402 - its assertions are to be explained

NewCloud = Callable[..., Cloud]

#: What these databases hold need not survive a crash of the machine.
QUICK = {"database": {"sqlite_synchronous": False}}


@pytest.fixture(scope="session")
def clouds(
    servers: Servers, database_names: Iterator[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NewCloud]:
    """Makes clouds, each once: ``clouds(server name, **options of lab.glance.Glance)``.

    A cloud has the stores ``fast`` and ``slow``; with ``single_store`` it has only ``file``.
    """
    made: dict[str, Cloud] = {}
    with ExitStack() as stack:

        def make(server_name: str, single_store: bool, options: Any) -> Cloud:
            directory = tmp_path_factory.mktemp("cloud")
            images = directory / "stores"
            stores = images if single_store else {at: images / at for at in ("fast", "slow")}
            database = servers.get(server_name).create_database(next(database_names))
            options = {**options, "options": merge(QUICK, options.get("options", {}))}
            glance = stack.enter_context(Glance(directory, database, stores, **options))
            cloud = Cloud(glance)
            stack.callback(cloud.close)
            return cloud

        def get(
            server_name: str = "sqlite", *, single_store: bool = False, **options: Any
        ) -> Cloud:
            key = repr((server_name, single_store, options))
            if key not in made:
                try:
                    made[key] = make(server_name, single_store, options)
                except Unavailable as missing:
                    if os.environ.get("SCRUBBER_REQUIRE_SERVERS") == "1":
                        pytest.fail(str(missing), pytrace=False)
                    pytest.skip(str(missing))
            made[key].reset()
            return made[key]

        yield get


@pytest.fixture
def bare_cloud(clouds: NewCloud) -> Cloud:
    """A Glance with the stores ``fast`` and ``slow`` and no image."""
    return clouds()


@pytest.fixture
def cloud(bare_cloud: Cloud) -> Cloud:
    """A Glance with a live image in each of its stores, ``fast`` and ``slow``."""
    return with_live_images(bare_cloud)


@pytest.fixture(params=list(SERVERS))
def cloud_on_database(request: pytest.FixtureRequest, clouds: NewCloud) -> Cloud:
    """Likewise; the test runs once on every kind of database."""
    return with_live_images(clouds(request.param))


@pytest.fixture
def encrypted_cloud(clouds: NewCloud) -> Cloud:
    """Likewise, with encrypted location URLs."""
    return with_live_images(clouds(metadata_encryption_key="0123456789abcdef"))


def with_live_images(cloud: Cloud) -> Cloud:
    for store in cloud.data_directories:
        cloud.keep(store)
    return cloud

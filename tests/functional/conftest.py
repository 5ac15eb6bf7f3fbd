"""Clouds for the functional tests: each Glance is started once and emptied for every test."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from conftest import needed_programs
from lab.databases import SERVERS, Database, MariaDB, PostgreSQL, Servers
from lab.glance import Glance, merge

pytest.register_assert_rewrite(
    "functional.cloud", "functional.program", "functional.s3_servers", "functional.worlds"
)

# After that: their assertions are to be explained.  And imported here, once for all files, a
# server is started once, whichever of them asks for it.
from functional.ceph_pools import ceph, pool, pool_names  # noqa: E402, F401
from functional.cloud import Cloud, NewCloud  # noqa: E402
from functional.s3_servers import (  # noqa: E402, F401
    other_s3_server,
    proxy,
    s3_cloud,
    s3_server,
    swift_s3,
)
from functional.swift_accounts import account, swift  # noqa: E402, F401
from functional.worlds import new_world  # noqa: E402, F401

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
                with needed_programs():
                    made[key] = make(server_name, single_store, options)
            made[key].reset()
            return made[key]

        yield get


@pytest.fixture(params=[MariaDB.name, PostgreSQL.name], scope="module")
def shared_state(
    request: pytest.FixtureRequest, servers: Servers, database_names: Iterator[str]
) -> Iterator[Database]:
    """A state database on a server; to be emptied for each test rather than made."""
    with needed_programs():
        server = servers.get(request.param)
    database = server.create_database(next(database_names), empty=True)
    yield database
    server.drop_database(database)


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

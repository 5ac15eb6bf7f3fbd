"""A Ceph for all tests, and a pool of its own for each."""

import itertools
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from conftest import needed_programs
from lab.ceph import Ceph
from lab.ceph_pools import CephPool


@pytest.fixture(scope="session")
def ceph() -> Iterator[Ceph]:
    with ExitStack() as stack:
        with needed_programs():
            ceph = stack.enter_context(Ceph())
        yield ceph


@pytest.fixture(scope="session")
def pool_names() -> Iterator[str]:
    return (f"images-{number}" for number in itertools.count(1))


@pytest.fixture
def pool(ceph: Ceph, pool_names: Iterator[str]) -> Iterator[CephPool]:
    name = next(pool_names)
    ceph.create_pool(name)
    yield CephPool(ceph, name)
    with suppress(RuntimeError):  # the test has done it
        ceph.delete_pool(name)

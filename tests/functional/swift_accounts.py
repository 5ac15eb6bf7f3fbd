"""A Swift for all tests, and its account, empty for each."""

from collections.abc import Iterator

import pytest

from conftest import needed_programs
from lab.swift import Account, Swift
from lab.swift_stores import CONTAINER


@pytest.fixture(scope="session")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swift]:
    with needed_programs():
        swift = Swift(tmp_path_factory.mktemp("swift"))
    with swift:
        yield swift


@pytest.fixture
def account(swift: Swift) -> Iterator[Account]:
    """The account that the store uses, empty but for its empty container."""
    account = swift.account()
    account.clear()
    account.create(CONTAINER)
    yield account
    for place in ("outer", "inner"):
        swift.set_faults(place=place)
    account.close()

"""The contract of store drivers, over a real Swift: with bulk requests, and without."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import pytest

from conftest import needed_programs
from contract.driver_contract import *  # noqa: F403 - every driver keeps all of it
from contract.driver_contract import Place
from functional.swift_accounts import CONTAINER, reference, swift_driver
from lab.swift import TESTER, Account, Swift
from scrubber.stores.swift import SwiftDriver


class SwiftPlace(Place):
    notices_another_root = False
    many = 20

    refused: ClassVar = [
        "swift+config://ref1/other/name",  # another container
        "swift+config://ref1/glance",
        "swift+config://ref1/glance/",
        "swift+config://ref1/glance/..",  # a path that HTTP libraries would resolve
        "swift+config://ref1/glance/name?query",
        "swift+config://ref1/deeper/glance/name",
        "swift+config://unknown/glance/name",
        "swift+config://user:secret@ref1/glance/name",
        "swift+https://test:tester:secret@elsewhere/v3/glance/name",
        "swift://glance/name",
        "rbd://pool/image",
        "no URL",
        "",
    ]

    def __init__(self, driver: SwiftDriver, account: Account, swift: Swift) -> None:
        self.driver = driver
        self._account = account
        self._swift = swift

    def url(self, name: str) -> str:
        return f"swift+config://ref1/{CONTAINER}/{name}"

    def spellings(self, name: str) -> list[str]:
        auth = self._swift.auth_v3.removeprefix("http://")
        user = quote(TESTER.name)
        return [
            f"swift+config://again/{CONTAINER}/{name}",  # the same account
            f"swift+config://ref1//{CONTAINER}/{name}",
            f"swift+http://{TESTER.name}:secret@{auth}/{CONTAINER}/{name}",
            f"swift+http://{user}:a-secret-of-old@{auth}/{CONTAINER}/{name}",
        ]

    def put(self, name: str, size: int) -> None:
        self._account.put(CONTAINER, name, b"x" * size)

    def holds(self, name: str) -> bool:
        return self._account.holds(CONTAINER, name)

    def remove_root(self) -> None:
        self._account.remove(CONTAINER)

    def replace_root(self) -> None:
        raise NotImplementedError


@pytest.fixture(scope="module", params=["bulk", "single"])
def swift(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Swift]:
    bulk = ("bulk",) if request.param == "bulk" else ()
    with needed_programs():
        swift = Swift(tmp_path_factory.mktemp("swift"), middleware=(*bulk, "slo", "dlo"))
    with swift:
        yield swift


@pytest.fixture
def place(swift: Swift, tmp_path: Path) -> Iterator[Place]:
    account = swift.account()
    account.clear()
    account.create(CONTAINER, "other")
    account.put("other", "name", b"not ours")
    references = {"ref1": reference(swift), "again": reference(swift)}
    with swift_driver(tmp_path / "references", references) as driver:
        yield SwiftPlace(driver, account, swift)
    assert account.holds("other", "name")
    account.close()

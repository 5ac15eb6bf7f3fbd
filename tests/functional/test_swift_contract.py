"""The contract of store drivers, over a real Swift: with bulk requests, and without."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import pytest

from conftest import needed_programs
from contract.driver_contract import *  # noqa: F403 - every driver keeps all of it
from contract.driver_contract import PATIENCE, Place, Trouble
from lab.swift import TESTER, Account, Swift
from lab.swift_stores import CONTAINER, reference, swift_driver
from scrubber.stores.swift import SwiftDriver

THROTTLED = {"status": "429 Too Many Requests"}
FAULTS: dict[Trouble, dict[str, Any]] = {
    Trouble.THROTTLED: THROTTLED,
    Trouble.THROTTLED_FOR_A_WHILE: {**THROTTLED, "headers": {"Retry-After": str(PATIENCE)}},
    Trouble.SERVER_ERROR: {"status": "500 Internal Error"},
    Trouble.SILENT: {"connection": "broken", "latency": 60},
    Trouble.RESET: {"connection": "broken"},
    Trouble.HALF: {"connection": "half"},
}


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

    driver: SwiftDriver

    def __init__(self, account: Account, swift: Swift) -> None:
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

    @contextmanager
    def in_trouble(self, trouble: Trouble, name: str | None = None) -> Iterator[None]:
        fault, is_silent = FAULTS[trouble], trouble is Trouble.SILENT
        if name is None:
            self._swift.set_faults(fault)
        elif "status" in fault:
            # Also one of the deletes that a bulk request is made of.
            only = {"method": "DELETE", "path": f"/{CONTAINER}/{name}$"}
            self._swift.set_faults({**fault, **only}, place="inner")
        else:
            only = {"path": f"bulk-delete|/{CONTAINER}/{name}$", "method": "POST|DELETE"}
            self._swift.set_faults({**fault, **only})
        try:
            with self.impatient() if is_silent else nullcontext():
                yield
        finally:
            for place in ("outer", "inner"):
                self._swift.set_faults(place=place)


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
    place = SwiftPlace(account, swift)
    with swift_driver(
        tmp_path / "references", references, call_timeout=lambda: place.call_timeout
    ) as place.driver:
        yield place
    assert account.holds("other", "name")
    account.close()

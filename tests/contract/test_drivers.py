"""The contract of store drivers, over those that need no server."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import pytest

from contract.driver_contract import *  # noqa: F403 - every driver keeps all of it
from contract.driver_contract import PATIENCE, Place, Trouble
from contract.fake_driver import FakeDriver
from contract.file_store import file_driver
from scrubber import errors

#: What a driver makes of it: of each object, or of the whole store.
SAYS: dict[Trouble, Callable[[], errors.StoreError]] = {
    Trouble.THROTTLED: lambda: errors.Throttled("asks for patience"),
    Trouble.THROTTLED_FOR_A_WHILE: lambda: errors.Throttled("asks for patience", PATIENCE),
    Trouble.SERVER_ERROR: lambda: errors.Failed("answers 500"),
    Trouble.SILENT: lambda: errors.Unavailable("does not answer"),
    Trouble.RESET: lambda: errors.Unavailable("closes the connection"),
    Trouble.HALF: lambda: errors.Unavailable("breaks off"),
}


class FakePlace(Place):
    refused: ClassVar = ["fake://other/name", "fake://", "rbd://pool/image", "no URL", ""]

    def __init__(self) -> None:
        self.driver: FakeDriver = FakeDriver("fast")

    def url(self, name: str) -> str:
        return self.driver.url(name)

    def spellings(self, name: str) -> list[str]:
        return [f"fake://user:secret@fast/{name}", f"fake://fast//{name}", f"fake://fast/./{name}"]

    def put(self, name: str, size: int) -> None:
        self.driver.put(name, size)

    def holds(self, name: str) -> bool:
        return name in self.driver.objects

    def remove_root(self) -> None:
        self.driver.mounted = None

    def replace_root(self) -> None:
        self.driver.mounted = object()

    @contextmanager
    def in_trouble(self, trouble: Trouble, name: str | None = None) -> Iterator[None]:
        driver, error = self.driver, SAYS[trouble]()
        before = driver.before_delete, driver.before_look

        def fail(_names: list[str]) -> None:
            raise errors.Unavailable(str(error))

        driver.answers = {
            each: error for each in [*driver.objects, "nothing"] if name in (None, each)
        }
        if name is None:
            driver.before_look = fail
            if isinstance(error, errors.Unavailable):
                driver.before_delete = fail
        try:
            yield
        finally:
            driver.answers = {}
            driver.before_delete, driver.before_look = before


class FilePlace(Place):
    refused: ClassVar = [
        "file:///etc/passwd",
        "file://",
        "file:///",
        "rbd://pool/image",
        "http://host/image",
        "no URL",
        "",
    ]

    def __init__(self, directory: Path) -> None:
        self._root = directory / "images"
        self._root.mkdir()
        self.driver = file_driver(self._root)

    def url(self, name: str) -> str:
        return f"file://{self._root}/{name}"

    def spellings(self, name: str) -> list[str]:
        root = self._root
        return [
            f"filesystem://{root}/{name}",
            f"file://localhost{root}/{name}",
            f"file://{root}//{name}",
            f"file://{root}/./{name}",
            f"file://{root}/nowhere/../{name}",
            f"file:///{root}/{name}",
        ]

    def put(self, name: str, size: int) -> None:
        (self._root / name).write_bytes(b"x" * size)

    def holds(self, name: str) -> bool:
        return (self._root / name).exists()

    def remove_root(self) -> None:
        self._root.rename(self._root.with_name("elsewhere"))

    def replace_root(self) -> None:
        names = os.listdir(self._root)
        self.remove_root()
        self._root.mkdir()
        for name in names:
            (self._root / name).write_bytes(b"other")


@pytest.fixture(params=["fake", "file"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    place = FakePlace() if request.param == "fake" else FilePlace(tmp_path)
    yield place
    place.driver.close()

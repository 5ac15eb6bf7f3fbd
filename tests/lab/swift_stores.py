"""Swift stores as an operator configures them, on the lab's servers."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from contract.sections import section
from lab.swift import CREDENTIAL, TESTER, Swift, User
from scrubber.stores.swift import SwiftDriver

CONTAINER = "glance"


def reference(swift: Swift, user: User = TESTER, **more: str) -> dict[str, str]:
    """A section of the file of ``swift_store_config_file``."""
    if user is CREDENTIAL:
        values = {
            "application_credential_id": user.name,
            "application_credential_secret": user.key,
        }
    else:
        values = {"user": user.name, "key": user.key}
    return {"auth_version": "3", "auth_address": swift.auth_v3, **values, **more}


def write_references(file: Path, references: Mapping[str, Mapping[str, str]]) -> Path:
    lines: list[str] = []
    for name, values in references.items():
        lines += [f"[{name}]", *(f"{option} = {value}" for option, value in values.items())]
    file.write_text("\n".join(lines) + "\n")
    return file


@contextmanager
def swift_driver(
    file: Path, references: Mapping[str, Mapping[str, str]], **options: Any
) -> Iterator[SwiftDriver]:
    """A driver, closed in the end; it has not asked anything yet."""
    write_references(file, references)
    driver = SwiftDriver(section(SwiftDriver, swift_store_config_file=str(file), **options))
    try:
        yield driver
    finally:
        driver.close()

"""File stores as an operator configures them."""

from pathlib import Path
from typing import Any

from contract.sections import section
from scrubber.stores.file import FileDriver


def file_driver(
    directory: Path | str | None = None, *directories: str, store: str = "fast"
) -> FileDriver:
    """One data directory, or several in ``filesystem_store_datadirs``."""
    options: dict[str, Any] = {}
    if directory is not None:
        options["filesystem_store_datadir"] = str(directory)
    if directories:
        options["filesystem_store_datadirs"] = list(directories)
    return FileDriver(section(FileDriver, store=store, **options))

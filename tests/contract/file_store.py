"""File stores as an operator configures them."""

from pathlib import Path

from oslo_config import cfg

from scrubber.stores.file import FileDriver


def file_driver(
    directory: Path | str | None = None, *directories: str, store: str = "fast"
) -> FileDriver:
    """One data directory, or several in ``filesystem_store_datadirs``."""
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[], default_config_dirs=[])
    conf.register_opts(FileDriver.options(), group=store)
    if directory is not None:
        conf.set_override("filesystem_store_datadir", str(directory), group=store)
    if directories:
        conf.set_override("filesystem_store_datadirs", list(directories), group=store)
    return FileDriver(store, store, conf[store])

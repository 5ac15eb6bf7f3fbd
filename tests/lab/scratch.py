"""Directories that disappear with the tests, even with tests that are killed."""

import shutil
import subprocess
import tempfile
from pathlib import Path

# Servers of a killed test may still be writing while it is removed: try again for some seconds.
_REMOVE_AT_END_OF_INPUT = """
read -r _
for _ in 1 2 3 4 5 6 7 8 9 10; do rm -rf -- "$1" && exit 0; sleep 0.5; done
"""


class ScratchDirectory:
    """A temporary directory, removed on ``close()`` or when this process ends in any way.

    A shell waits for the end of its standard input, which the kernel brings about even
    if this process is killed.  The directory lies straight under the temporary directory:
    a longer path could exceed the 107 characters of a Unix socket's name, and pytest's own
    directories cannot be entered by the user that runs PostgreSQL.
    """

    def __init__(self, prefix: str = "lab-", owner: str | None = None) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=f"scrubber-{prefix}"))
        if owner is not None:
            shutil.chown(self.path, owner)
        self._remover = subprocess.Popen(
            ["/bin/sh", "-c", _REMOVE_AT_END_OF_INPUT, "sh", str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def close(self) -> None:
        self._remover.communicate()

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.close()

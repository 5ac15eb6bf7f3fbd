"""State databases of tests: their tables are made once, and the file is copied for each."""

import shutil
import tempfile
from functools import cache
from pathlib import Path

from scrubber import pool
from scrubber.state.database import StateDatabase


def state_url(directory: Path) -> str:
    """The URL of a state database in that directory; the first time it holds nothing yet."""
    path = directory / "state.sqlite"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_bytes(_empty())
    return f"sqlite:///{path}"


@cache
def _empty() -> bytes:
    directory = Path(tempfile.mkdtemp(prefix="scrubber-state-"))
    try:
        path = directory / "state.sqlite"
        StateDatabase(f"sqlite:///{path}", pool.Flag()).close()
        return path.read_bytes()
    finally:
        shutil.rmtree(directory)

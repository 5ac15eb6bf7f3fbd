"""Runs of ``scrubber`` without the wait for its imports, which take longer than most runs.

A process that has loaded all of it forks for each run.  From the console script's ``main`` on,
a run is what it is in a process of its own; that it gets there is what tests/process proves.
"""

import atexit
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

_SCRIPT = Path(__file__).with_name("loaded_scrubber.py")


def run_scrubber(
    *arguments: str | Path,
    environment: Mapping[str, str],
    directory: Path,
    seconds: float,
    script: Path | None = None,
) -> "subprocess.CompletedProcess[str]":
    """One run to its end, with nothing on standard input.

    :param script: runs in the place of the console script, with these arguments.
    :raises subprocess.TimeoutExpired: it takes longer, and is killed.
    """
    # What Python itself reads at its start: another value wants another process.
    of_python = {name: value for name, value in environment.items() if name.startswith("PYTHON")}
    loaded = _loaded(json.dumps(of_python, sort_keys=True))
    request = {
        "arguments": [str(argument) for argument in arguments],
        "environment": dict(environment),
        "directory": str(directory),
        "script": script and str(script),
    }
    return loaded.run(request, seconds)


@cache
def _loaded(of_python: str) -> "_Loaded":
    loaded = _Loaded(json.loads(of_python))
    atexit.register(loaded.close)
    return loaded


class _Loaded:
    """The process, started when it is first needed."""

    def __init__(self, of_python: Mapping[str, str]) -> None:
        self._of_python = of_python
        self._process: subprocess.Popen[str] | None = None

    def run(self, request: Mapping[str, Any], seconds: float) -> "subprocess.CompletedProcess[str]":
        with tempfile.TemporaryDirectory(prefix="scrubber-run-") as directory:
            stdout, stderr = Path(directory, "stdout"), Path(directory, "stderr")
            stdout.touch()
            stderr.touch()
            files = {"stdout": str(stdout), "stderr": str(stderr)}
            try:
                status = self._ask(json.dumps({**request, **files}), seconds)
            except BaseException:
                # The answer to this request must not be taken for the next one's.
                self.close()
                raise
            return subprocess.CompletedProcess(
                request["arguments"], status, stdout.read_text(), stderr.read_text()
            )

    def _ask(self, request: str, seconds: float) -> int:
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(request + "\n")
        process.stdin.flush()
        if not select.select([process.stdout], [], [], seconds)[0]:
            raise subprocess.TimeoutExpired("scrubber", seconds)
        if not (answer := process.stdout.readline()):
            raise RuntimeError("the loaded scrubber has ended")
        return int(answer)

    def _started(self) -> "subprocess.Popen[str]":
        if self._process is None:
            others = {
                name: value for name, value in os.environ.items() if not name.startswith("PYTHON")
            }
            self._process = subprocess.Popen(
                [sys.executable, "-P", _SCRIPT],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**others, **self._of_python},
                start_new_session=True,
            )
        return self._process

    def close(self) -> None:
        """End it, and the run that may be under way."""
        if self._process is not None:
            process, self._process = self._process, None
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

"""scrubber as its users start it: a console script, a configuration file, a home."""

import ctypes
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.loaded import run_scrubber
from lab.processes import Child
from process.journal import Journal
from process.rows import Backlog

SCRUBBER = shutil.which("scrubber", path=str(Path(sys.executable).parent))
PLUGIN = Path(__file__).with_name("plugin")

#: Nothing here may take longer: a hang is a failure, not a wait.
HARD_TIMEOUT = 60.0

_OPTIONS = Mapping[str, Mapping[str, object]]

# Capabilities with which root reads any file; without them root is refused like anybody.
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2
_PR_CAPBSET_DROP = 24


@dataclass(frozen=True)
class Ended:
    """What a run left: its exit status and all that it said."""

    status: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def document(self) -> Any:
        """The one JSON document on standard output; fails if there is more, or less."""
        return json.loads(self.stdout)

    @property
    def error_lines(self) -> list[str]:
        return [line for line in self.stderr.splitlines() if line.startswith("ERROR:")]

    def assert_one_error(self, *words: str) -> None:
        """Exit status 1, and one line for the operator with all these words in it."""
        assert self.status == 1, self
        assert "Traceback" not in self.stdout + self.stderr
        assert len(self.stderr.splitlines()) == 1, self.stderr
        assert len(self.error_lines) == 1, self.stderr
        for word in words:
            assert word in self.error_lines[0]


class Running:
    """A scrubber in the background, with its two outputs in files."""

    def __init__(self, child: Child, stdout: Path, stderr: Path) -> None:
        self.child = child
        self._stdout = stdout
        self._stderr = stderr

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def running(self) -> bool:
        return self.child.running

    @property
    def stdout(self) -> str:
        return self._stdout.read_text(errors="replace")

    @property
    def stderr(self) -> str:
        return self._stderr.read_text(errors="replace")

    def runs_ended(self) -> int:
        """How many runs of a daemon are over."""
        return self.stderr.count("Run ended after")

    def assert_stops(self) -> None:
        """A daemon that is told to end does so in order."""
        self.child.send(signal.SIGTERM)
        ended = self.wait()
        assert ended.status == 0, ended
        assert "Traceback" not in ended.stderr

    def wait(self, seconds: float = HARD_TIMEOUT) -> Ended:
        """Its end; ProcessFailed if it does not come."""
        started = time.monotonic()
        status = self.child.wait(seconds=seconds)
        return Ended(status, self.stdout, self.stderr, time.monotonic() - started)


class Program:
    """scrubber with a configuration; all that it starts is gone after ``close``."""

    def __init__(self, directory: Path, cache: Path) -> None:
        self.directory = directory
        self.home = directory / "home"
        self.home.mkdir(parents=True)
        self.file = directory / "scrubber.conf"
        self.journal = Journal(directory / "journal")
        self._cache = cache
        self._numbers = itertools.count(1)
        self._children: list[Child] = []
        self._environment: dict[str, str] = {}
        # Nothing is remembered from run to run unless a test says where.
        self._options: dict[str, dict[str, object]] = {
            "state": {"connection": ""},
            # Nor is a port taken, or a file of this host written.
            "admin": {"listen": ""},
            "scrubber": {"audit_file": ""},
        }

    # Configuration --------------------------------------------------------------------

    def configure(self, *several: _OPTIONS) -> None:
        """Add options, section by section, and write the file; None removes one."""
        for options in several:
            for section, values in options.items():
                self._options.setdefault(section, {}).update(values)
        text = "".join(
            f"[{section}]\n" + "".join(f"{k} = {v}\n" for k, v in values.items() if v is not None)
            for section, values in self._options.items()
        )
        # In one step: a reload may read it at any moment.
        draft = self.file.with_suffix(".new")
        draft.write_text(text)
        draft.replace(self.file)

    def use(self, *backlogs: Backlog, kind: str = "file", **options: object) -> None:
        """The database of these backlogs and their stores; ``options`` for every store."""
        if kind == "slowfile":
            options["journal"] = self.journal.path
        self.configure(
            {
                "DEFAULT": {"enabled_backends": ",".join(f"{at.store}:{kind}" for at in backlogs)},
                "database": {"connection": backlogs[0].database.url},
            },
            *({at.store: {"filesystem_store_datadir": at.directory, **options}} for at in backlogs),
        )

    # Runs -----------------------------------------------------------------------------

    def run(
        self,
        *arguments: str,
        configured: bool = True,
        stdout: int = subprocess.PIPE,
        environment: Mapping[str, str] | None = None,
        before_exec: Callable[[], None] | None = None,
        seconds: float = HARD_TIMEOUT,
    ) -> Ended:
        """To its end."""
        started = time.monotonic()
        result = subprocess.run(
            self.command(*arguments, configured=configured),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(environment),
            cwd=self.directory,
            timeout=seconds,
            preexec_fn=before_exec,
            check=False,
        )
        took = time.monotonic() - started
        return Ended(result.returncode, result.stdout or "", result.stderr, took)

    def main(
        self,
        *arguments: str,
        configured: bool = True,
        seconds: float = HARD_TIMEOUT,
        wrapped: Sequence[str | Path] = (),
    ) -> Ended:
        """Likewise, from the console script's ``main`` on: quicker by all imports.

        :param wrapped: a script that runs in its place, and the script's own first arguments.
        """
        started = time.monotonic()
        script, *first = wrapped or (None,)
        result = run_scrubber(
            *first,
            *self.command(*arguments, configured=configured)[1:],
            environment=self.environment(),
            directory=self.directory,
            seconds=seconds,
            script=Path(script) if script else None,
        )
        took = time.monotonic() - started
        return Ended(result.returncode, result.stdout, result.stderr, took)

    def start(
        self, *arguments: str, configured: bool = True, command: Sequence[str] = ()
    ) -> Running:
        """In the background; ``command`` in place of the console script."""
        number = next(self._numbers)
        stdout = self.directory / f"stdout-{number}"
        stderr = self.directory / f"stderr-{number}"
        stdout.touch()
        stderr.touch()
        environment = [f"{name}={value}" for name, value in self.environment().items()]
        child = Child(
            [
                "/bin/sh",
                "-c",
                f'exec "$@" >{stdout.name} 2>{stderr.name}',
                "sh",
                "/usr/bin/env",
                "-i",
                *environment,
                *(command or self.command(*arguments, configured=configured)),
            ],
            log=self.directory / "log",
            directory=self.directory,
        )
        self._children.append(child)
        return Running(child, stdout, stderr)

    def command(self, *arguments: str, configured: bool = True) -> list[str]:
        assert SCRUBBER is not None, "install scrubber beside this Python"
        files = ["--config-file", str(self.file)] if configured else []
        return [SCRUBBER, *files, *arguments]

    def close(self) -> None:
        for child in self._children:
            child.stop(seconds=0)

    def add_environment(self, more: Mapping[str, str]) -> None:
        """For all runs; a ``main`` has been loaded without what only counts at a start."""
        self._environment.update(more)

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "HOME": str(self.home),
            "XDG_CACHE_HOME": str(self._cache),
            "PYTHONPATH": str(PLUGIN),
            **self._environment,
            **(more or {}),
        }


def without_privileges_on_files() -> None:
    """Between fork and exec: root may then read only what its file modes allow."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE)
        libc.prctl(_PR_CAPBSET_DROP, _CAP_DAC_READ_SEARCH)

"""Runs ``scrubber`` as an operator would."""

import json
import os
import signal
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lab.loaded import run_scrubber
from lab.processes import Child, is_stopped, wait_until

PROGRAM = Path(sys.executable).with_name("scrubber")

BAD_DISK = Path(__file__).with_name("bad_disk")

#: A run of some images is a matter of seconds.
DEADLINE = 90


@dataclass(frozen=True)
class Result:
    """What the program printed, and its exit status."""

    exit_status: int
    stdout: str
    stderr: str

    @cached_property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.stdout)
        return document

    @property
    def outcomes(self) -> dict[str, int]:
        """Locations by outcome, those that occurred."""
        return {name: count for name, count in self.document["locations"].items() if count}

    @property
    def outcomes_by_store(self) -> dict[str, dict[str, int]]:
        return {
            store: {name: count for name, count in tally["locations"].items() if count}
            for store, tally in self.document["stores"].items()
        }

    @property
    def images_scrubbed(self) -> int:
        return int(self.document["images"]["scrubbed"])

    @property
    def left(self) -> dict[int, tuple[str, str]]:
        """By location id: the outcome and the reason of what was left behind."""
        return {
            example["location"]: (left["outcome"], left["reason"])
            for left in self.document["left"]
            for example in left["examples"]
        }

    @property
    def left_images(self) -> set[str]:
        return {example["image"] for left in self.document["left"] for example in left["examples"]}

    def reason(self, location: int) -> str:
        return self.left[location][1]

    def __str__(self) -> str:
        return f"exit status {self.exit_status}\n{self.stdout}\n{self.stderr}"


def run(configuration: Path, *flags: str, format: str = "json") -> Result:
    """Run it to its end; whatever it does, it shows no URL and no traceback."""
    arguments = ("--config-file", configuration, "--format", format, *flags)
    done = run_scrubber(*arguments, environment=os.environ, directory=Path.cwd(), seconds=DEADLINE)
    result = Result(done.returncode, done.stdout, done.stderr)
    assert "://" not in done.stdout + done.stderr, f"shows a URL: {result}"
    assert "Traceback" not in done.stderr, f"has a defect: {result}"
    return result


@dataclass(frozen=True)
class Disk:
    """What is wrong with the file system that a scrubber sees.

    :param unlink_seconds: how long it takes for each delete.
    :param unlink_error: the name of the errno with which each delete fails.
    :param gate: a file; deletes wait as long as it is there, and ``reached`` says for which file.
    """

    unlink_seconds: float = 0
    unlink_error: str = ""
    gate: Path | None = None

    @property
    def reached(self) -> Path:
        return Path(f"{self.gate}.reached")

    @property
    def environment(self) -> dict[str, str]:
        paths = [str(BAD_DISK), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {
            "PYTHONPATH": os.pathsep.join(paths),
            "UNLINK_SECONDS": str(self.unlink_seconds),
            "UNLINK_ERROR": self.unlink_error,
            "UNLINK_GATE": str(self.gate or ""),
        }


class Running:
    """A scrubber in the background; ``with`` ends it."""

    def __init__(
        self,
        configuration: Path,
        directory: Path,
        name: str,
        *flags: str,
        disk: Disk | None = None,
    ) -> None:
        self._stdout = directory / f"{name}.json"
        self._stderr = directory / f"{name}.log"
        self._stdout.unlink(missing_ok=True)
        # The two streams apart: standard output is a document.
        to_file = ["/bin/sh", "-c", 'exec "$@" 2>"$0"', self._stderr]
        self._child = Child(
            [*to_file, PROGRAM, "--config-file", configuration, "--format", "json", *flags],
            log=self._stdout,
            environment={"PYTHONUNBUFFERED": "1", **(disk.environment if disk else {})},
        )

    @property
    def running(self) -> bool:
        return self._child.running

    @property
    def log(self) -> str:
        return self._stderr.read_text() if self._stderr.exists() else ""

    @property
    def documents(self) -> list[dict[str, Any]]:
        """The reports of a daemon so far, one line each."""
        # The last one may be half written.
        *lines, _ = self._stdout.read_text().split("\n")
        return [json.loads(line) for line in lines]

    def kill(self) -> None:
        """As the kernel would when memory is short."""
        os.kill(self._child.pid, signal.SIGKILL)
        self._child.wait()

    def freeze(self) -> None:
        self._child.send(signal.SIGSTOP)
        wait_until(lambda: is_stopped(self._child.pid), what="SIGSTOP")

    def thaw(self) -> None:
        self._child.send(signal.SIGCONT)

    def send(self, number: signal.Signals) -> None:
        self._child.send(number)

    def terminate(self) -> Result:
        self._child.send(signal.SIGTERM)
        return self.result()

    def result(self) -> Result:
        """Wait for its end."""
        exit_status = self._child.wait(seconds=DEADLINE)
        return Result(exit_status, self._stdout.read_text(), self.log)

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_: object) -> None:
        self._child.stop(signal.SIGKILL)

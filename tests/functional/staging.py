"""Asks Glance's own code for states that an API alone never leaves behind."""

import json
import os
import subprocess
from functools import cached_property
from pathlib import Path
from typing import Any

from lab.glance import INSIDE_GLANCE, ISOLATED, Glance, glance_python

_INSIDE = Path(__file__).with_name("staging_inside_glance.py")


class Staging:
    """A process with Glance's code and configuration; its methods are those of the other file.

    It starts with the first call: it takes seconds, and many tests have no need of it.
    """

    def __init__(self, glance: Glance) -> None:
        self._glance = glance
        self._log = glance.directory / "staging.log"

    @cached_property
    def _process(self) -> "subprocess.Popen[str]":
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [glance_python(), *ISOLATED, _INSIDE, INSIDE_GLANCE, self._glance.configuration],
                cwd=self._glance.directory,
                env={**os.environ, "PYTHONWARNINGS": "ignore"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def __getattr__(self, name: str) -> Any:
        def call(**args: Any) -> Any:
            return self._call(name, args)

        return call

    def _call(self, name: str, args: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"call": name, "args": args}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"Glance's code ended:\n{self._log.read_text()}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{name} failed inside Glance:\n{answer['error']}")
        return answer["result"]

    def close(self) -> None:
        """It ends with its input; nothing is left behind if these tests are killed."""
        if "_process" in vars(self):
            self._process.communicate()

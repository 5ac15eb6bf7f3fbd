"""scrubber-manage in this process, with a configuration and a state database."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from lab.state import state_url
from process.program import Ended
from scrubber import pool
from scrubber.manage import program
from scrubber.state.activity import Activity
from scrubber.state.base import Entry
from scrubber.state.database import StateDatabase
from scrubber.state.ledger import SqlLedger


class Manage:
    """scrubber-manage with a state database."""

    def __init__(
        self,
        directory: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self.file = directory / "scrubber.conf"
        self.database = directory / "state.sqlite"
        self._capsys = capsys
        self.configure("state", "connection", state_url(directory))

    def configure(self, section: str, option: str, value: object) -> None:
        written = self.file.read_text() if self.file.exists() else ""
        self.file.write_text(f"{written}[{section}]\n{option} = {value}\n")

    def run(self, *arguments: str, configured: bool = True) -> Ended:
        files = ["--config-file", str(self.file)] if configured else []
        try:
            status = program.main([*files, *arguments])
        except SystemExit as leaving:
            status = int(leaving.code or 0)
        said = self._capsys.readouterr()
        return Ended(status, said.out, said.err, 0.0)

    def remember(self, *entries: Entry) -> None:
        with closing(self._ledger()) as ledger:
            ledger.record(entries)

    def remembered(self) -> dict[int, Entry]:
        with closing(self._ledger()) as ledger:
            return {entry.location: entry for entry in ledger.entries()}

    @contextmanager
    def activity(self) -> Iterator[Activity]:
        with closing(StateDatabase(f"sqlite:///{self.database}", pool.Flag())) as database:
            yield Activity(database)

    def _ledger(self) -> SqlLedger:
        return SqlLedger(StateDatabase(f"sqlite:///{self.database}", pool.Flag()))

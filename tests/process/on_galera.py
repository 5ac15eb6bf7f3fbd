"""Scrubbers on both nodes of a Galera cluster, at one backlog."""

from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from lab.databases import Database
from lab.galera import Galera
from process.program import Program, Running
from process.rows import Backlog

#: Seconds after which another scrubber takes over.
LEASE = 10

OPTIONS = {
    # Small pages, so that they meet all the time.
    "scrubber": {
        "claim_lease": LEASE,
        "call_timeout": 1,
        "page_size": 50,
        "graceful_shutdown_timeout": 10,
    },
}
AGAIN_AND_AGAIN = {"DEFAULT": {"wakeup_time": 1}}


class Scrubbers:
    """Two configured processes for each node, over the same images; ``with`` ends them.

    :ivar of_node: the programs of each node, by its number.
    """

    def __init__(
        self, galera: Galera, database: Database, directory: Path, cache: Path, images: int
    ) -> None:
        self.galera = galera
        self.backlog = Backlog(database, directory / "store")
        self.backlog.add_live(20)
        self.backlog.add_pending(images)
        self._stack = ExitStack()
        self.of_node = [
            [
                self._program(node.database(database.name), directory / f"{number}-{letter}", cache)
                for letter in "ab"
            ]
            for number, node in enumerate(galera.nodes)
        ]

    def _program(self, database: Database, directory: Path, cache: Path) -> Program:
        program = Program(directory, cache)
        self._stack.callback(program.close)
        mine = Backlog(database, self.backlog.directory)
        program.use(mine, kind="slowfile", seconds=0.004, batch=16)
        program.configure(OPTIONS)
        return program

    @property
    def programs(self) -> list[Program]:
        return [program for programs in self.of_node for program in programs]

    def start(self, *arguments: str) -> list[Running]:
        """All of them at once."""
        return [program.start("--format", "json", *arguments) for program in self.programs]

    def deletes(self) -> Counter[str]:
        """How often each image was deleted from the store, by whichever of them."""
        return Counter(
            delete.image for program in self.programs for delete in program.journal.deletes()
        )

    def conflicts(self) -> int:
        """Transactions that a node had to undo, since another's came first (error 1213)."""
        counters = ("wsrep_local_cert_failures", "wsrep_local_bf_aborts")
        return sum(int(node.status[at]) for node in self.galera.nodes for at in counters)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

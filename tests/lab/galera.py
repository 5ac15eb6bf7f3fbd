"""A Galera cluster on loopback: MariaDB nodes that certify each other's transactions."""

import getpass
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from lab import Unavailable
from lab.databases import Database, MariaDB, Server, find_program
from lab.processes import LOCALHOST, free_port

# Where distributions put the provider.
PROVIDERS = ("/usr/lib/galera", "/usr/lib64/galera-4", "/usr/lib64/galera")

_READY = {"wsrep_ready": "ON", "wsrep_local_state_comment": "Synced"}


class Galera(Server):
    """Nodes of one cluster.

    The first one brings it into being, and has more votes than all others together: it goes on
    when they are lost, as two nodes with an arbitrator do.
    """

    name = "galera"

    def __init__(self, create_schema: Callable[[Database], None], *, nodes: int = 2) -> None:
        super().__init__(create_schema)
        self.nodes = [Node(create_schema, number, self) for number in range(nodes)]

    def start(self) -> None:
        for node in self.nodes:
            node.start()

    def stop(self) -> None:
        for node in reversed(self.nodes):
            node.stop()

    def create_database(self, name: str, *, empty: bool = False) -> Database:
        """Made on the first node; ``Node.database`` reaches it through another."""
        return self.nodes[0].create_database(name, empty=empty)

    def drop_database(self, database: Database) -> None:
        self.nodes[0].drop_database(database)


class Node(MariaDB):
    """One node; it runs as user mysql if we are root, since the state transfer refuses root."""

    name: ClassVar[str] = Galera.name

    def __init__(
        self, create_schema: Callable[[Database], None], number: int, cluster: Galera
    ) -> None:
        super().__init__(create_schema)
        self._number = number
        self._cluster = cluster
        self._group_port, self._transfer_port, self._increments_port = (
            free_port() for _ in range(3)
        )

    @property
    def status(self) -> dict[str, str]:
        """What the server says of its part in the cluster: its variables of that name."""
        with self.database(self.administration).engine.connect() as connection:
            rows = connection.exec_driver_sql("SHOW GLOBAL STATUS LIKE 'wsrep%%'")
            return {row[0]: row[1] for row in rows}

    @property
    def address(self) -> str:
        """Where the other nodes find it."""
        return f"{LOCALHOST}:{self._group_port}"

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.running

    def _account(self) -> str | None:
        return "mysql" if os.geteuid() == 0 else None

    def _check_installed(self) -> None:
        super()._check_installed()
        find_program("rsync", ())
        found = [path for place in PROVIDERS if (path := Path(place, "libgalera_smm.so")).exists()]
        if not found:
            raise Unavailable("galera is not installed")
        self._provider = found[0]

    def _install(self) -> None:
        first = self._cluster.nodes[0]
        if self is first:
            super()._install()
        else:
            # All that it is to have, accounts too, comes with the first one's state.
            self.password = first.password
            data = self.directory / "data"
            data.mkdir()
            shutil.chown(data, self._account() or getpass.getuser())

    def _answers(self) -> bool:
        return super()._answers() and _READY.items() <= self.status.items()

    def _options(self) -> list[str]:
        nodes = self._cluster.nodes
        provider_options = {
            "base_port": self._group_port,
            "gmcast.listen_addr": f"tcp://{self.address}",
            "ist.recv_addr": f"{LOCALHOST}:{self._increments_port}",
            "pc.weight": len(nodes) if self is nodes[0] else 1,
            "gcache.size": "32M",
        }
        options = [
            *super()._options(),
            "--binlog-format=ROW",
            "--innodb-autoinc-lock-mode=2",
            "--wsrep-on=ON",
            f"--wsrep-provider={self._provider}",
            f"--wsrep-cluster-address=gcomm://{','.join(node.address for node in nodes)}",
            f"--wsrep-node-address={self.address}",
            f"--wsrep-node-name=node-{self._number}",
            "--wsrep-sst-method=rsync",
            f"--wsrep-sst-receive-address={LOCALHOST}:{self._transfer_port}",
            "--wsrep-provider-options="
            + ";".join(f"{name}={value}" for name, value in provider_options.items()),
        ]
        if not any(node.running for node in nodes):
            options.append("--wsrep-new-cluster")
        return options

"""What a process holds, seen from outside."""

from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Held:
    """Open descriptors, native threads, TCP connections, and KiB of memory of its own."""

    descriptors: int
    threads: int
    connections: int
    memory: int

    @property
    def countable(self) -> tuple[int, int, int]:
        """All but memory, which is never twice the same."""
        return self.descriptors, self.threads, self.connections


def held_by(pid: int) -> Held:
    process = psutil.Process(pid)
    return Held(
        process.num_fds(),
        process.num_threads(),
        len(process.net_connections("tcp")),
        process.memory_full_info().uss // 1024,
    )

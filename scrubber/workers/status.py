"""What workers are at, and how busy a process is with them."""

import enum
from dataclasses import dataclass


class State(enum.StrEnum):
    """What a worker is at."""

    STARTING = "starting"
    IDLE = "idle"
    RUNNING = "running"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Load:
    """What is under way in a process, its workers included.

    :param slots: store calls that may be under way at the same time; ``busy`` those that are.
    :param audit_lost: audit lines that workers could not write.
    :param workers: how many there should be, 0 for a process that scrubs by itself.
    :param worker_deaths: how often one had to be started again.
    """

    slots: int
    busy: int
    audit_lost: int = 0
    workers: int = 0
    workers_up: int = 0
    worker_deaths: int = 0

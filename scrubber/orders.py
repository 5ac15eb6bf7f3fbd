"""What operators have ordered while the process runs."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoreOrder:
    """What holds for one store beside its options."""

    paused: bool = False
    max_rate: float | None = None

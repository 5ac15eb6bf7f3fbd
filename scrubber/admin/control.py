"""What the admin API needs of the process that it stands for."""

from collections.abc import Callable
from typing import Any, Protocol

from scrubber.orders import StoreOrder
from scrubber.reporting.metrics import Reading

#: What becomes JSON as it is; openapi.yaml describes each.
Document = dict[str, Any]


class Control(Protocol):
    """A scrubber process, as operators see and steer it.

    :raises StateUnavailable: whatever needs the state database, while that cannot be used; the
        process's own present run, and its last one, need none.
    """

    def live(self) -> bool:
        """Whether it makes progress; if not, somebody should start it anew."""
        ...

    def unready(self) -> list[str]:
        """Why it cannot scrub now, a line for each reason; empty if it can."""
        ...

    def status(self) -> Document:
        """What it is at (schema Status)."""
        ...

    def runs(self, limit: int) -> list[Document]:
        """The last runs of all processes that share the state database, the newest first."""
        ...

    def run(self, run: str) -> Document | None:
        """The whole report of the run with this very id; None if nobody remembers it."""
        ...

    def cancel(self, run: str) -> bool:
        """Ask a run to end; False if it is over already."""
        ...

    def run_now(self) -> None:
        """Run at once, or once more after the present run."""
        ...

    def stores(self) -> list[Document]:
        """Each configured store as it is now (schema Store), in the order of their names."""
        ...

    def ordered(self, store: str) -> StoreOrder:
        """What operators ordered of this store, or of all (:data:`scrubber.orders.ALL`)."""
        ...

    def change(self, store: str, change: Callable[[StoreOrder], StoreOrder]) -> StoreOrder:
        """Order something of the store, or of all, in the place of what was ordered.

        :param change: makes the new order of the old one, maybe more than once.
        :returns: what holds from now on.
        :raises StateUnavailable: it holds all the same, but only here and for the time being.
        """
        ...

    def parked(self, store: str | None, limit: int) -> list[Document]:
        """What cannot be deleted (schema Parked), of a store or of all; the oldest first."""
        ...

    def threads(self) -> str:
        """What every green thread does."""
        ...

    def reading(self) -> Reading:
        """What a scrape of the metrics shows."""
        ...

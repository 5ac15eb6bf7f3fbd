"""What operators have ordered while the process runs.

Whoever hears of it (from the state database, or over HTTP) says so to the process's one
:class:`Orders`; runs look there before they ask a store for anything.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

#: In the place of a store's name: what holds for all of them.
ALL = ""


@dataclass(frozen=True, slots=True)
class StoreOrder:
    """What holds for one store beside its options.

    :param paused: nothing is asked of it, and its work waits.
    :param max_rate: the most locations a second, None for no limit; the option of the store
        goes on holding too.
    """

    paused: bool = False
    max_rate: float | None = None

    def most(self, max_rate: float | None) -> float | None:
        """The lower of this limit and of that one."""
        if self.max_rate is None or max_rate is None:
            return max_rate if self.max_rate is None else self.max_rate
        return min(self.max_rate, max_rate)


_NOTHING = StoreOrder()


class Orders:
    """What holds now for each store of this process.

    :param wake: called when that has changed, so that who waits looks again.
    """

    def __init__(self, *wake: Callable[[], None]) -> None:
        self._wake = wake
        self._stores: dict[str, StoreOrder] = {}

    def of(self, store: str) -> StoreOrder:
        """What holds for that store; what holds for all of them included."""
        if not self._stores:
            return _NOTHING  # as nearly always, and asked before each call
        its, of_all = self._stores.get(store, _NOTHING), self._stores.get(ALL, _NOTHING)
        return StoreOrder(its.paused or of_all.paused, its.most(of_all.max_rate))

    def why_paused(self, store: str) -> str | None:
        """What to say of a paused store, and how to resume it; None if it is not paused."""
        if not self._stores:
            return None
        if self.all_paused:
            return "all stores are paused by an operator; scrubber-manage resume"
        if self.of(store).paused:
            return f"paused by an operator; scrubber-manage resume {store}"
        return None

    @property
    def by_store(self) -> Mapping[str, StoreOrder]:
        """What was ordered of each, and of ``ALL``."""
        return self._stores

    def ordered(self, store: str) -> StoreOrder:
        """What was ordered of just this one, or of ``ALL``."""
        return self._stores.get(store, _NOTHING)

    def order(self, store: str, order: StoreOrder) -> None:
        """From now on this holds for the store, or for ``ALL``; the others stay as they are."""
        self.replace(self._stores | {store: order})

    @property
    def all_paused(self) -> bool:
        return self._stores.get(ALL, _NOTHING).paused

    def replace(self, stores: Mapping[str, StoreOrder], all_paused: bool = False) -> None:
        """Forget what held before; this holds from now on.

        :param stores: by name, ``ALL`` for all of them.
        :param all_paused: another way to say that all are paused.
        """
        new = dict(stores)
        if all_paused:
            new[ALL] = StoreOrder(True, new.get(ALL, _NOTHING).max_rate)
        if new != self._stores:
            self._stores = new
            for wake in self._wake:
                wake()

"""In which order claimed work is done."""

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")

#: A batch is as large as fits into so many seconds: its images wait for its slowest.
BATCH_SECONDS = 0.05

_FIRST_BATCH = 8


class FairQueue(Generic[T]):
    """Takes one of each owner in turn, so that nobody waits behind another's thousands."""

    def __init__(self) -> None:
        self._queues: OrderedDict[Hashable, deque[T]] = OrderedDict()
        self._length = 0

    def push(self, owner: Hashable, work: T) -> None:
        self._queues.setdefault(owner, deque()).append(work)
        self._length += 1

    def pop(self) -> T:
        """The next piece of work; IndexError when empty."""
        if not self._queues:
            raise IndexError("pop from an empty queue")
        owner, queue = self._queues.popitem(last=False)
        work = queue.popleft()
        self._length -= 1
        if queue:
            self._queues[owner] = queue
        return work

    def __len__(self) -> int:
        return self._length


class Pace:
    """How long one location takes in a store, learnt from its batches.

    :param seconds: how long a batch may take; more than BATCH_SECONDS only as far as a batch
        is no more than its share of what waits.
    """

    def __init__(self, seconds: float = BATCH_SECONDS) -> None:
        self._seconds = seconds
        self.seconds_per_location: float | None = None

    def learn(self, locations: int, seconds: float) -> None:
        each = seconds / max(1, locations)
        before = self.seconds_per_location
        self.seconds_per_location = each if before is None else 0.7 * before + 0.3 * each

    def batch_size(self, most: int, share: int = 0) -> int:
        """Locations for the next call, from 1 to ``most``.

        Where a request costs a round trip whatever it holds, small batches look slow, and
        would stay small: hence the share.

        :param share: how many each call should get, as far as there is time for them.
        """
        if self.seconds_per_location is None:
            return min(most, _FIRST_BATCH)
        if self.seconds_per_location <= 0:
            return most
        quick = BATCH_SECONDS / self.seconds_per_location
        affordable = self._seconds / self.seconds_per_location
        return int(max(1, min(most, max(quick, min(affordable, share)))))

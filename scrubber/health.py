"""What a process knows of a store from one run to the next: what it takes, whether it works."""

import time
from collections.abc import Sequence

from scrubber import errors
from scrubber.model import Answer
from scrubber.planning.circuit import Circuit
from scrubber.planning.rate import Limit
from scrubber.stores import base


class Health:
    """One store's limit and circuit."""

    def __init__(self, driver: base.Driver) -> None:
        self._driver = driver
        self._limit = Limit()
        self.circuit = Circuit()

    @property
    def limit(self) -> Limit:
        """With the operator's own limit as it is now."""
        if self._limit.most != self._driver.max_rate:
            self._limit = self._limit.capped(time.monotonic(), self._driver.max_rate)
        return self._limit

    def sent(self, locations: int) -> None:
        """A batch is on its way."""
        self._limit = self.limit.sent(time.monotonic(), locations)

    def heard(self, answers: Sequence[Answer], sent_at: float) -> None:
        """What the store said to a batch that was sent at that time."""
        now = time.monotonic()
        throttled = [answer for answer in answers if isinstance(answer, errors.Throttled)]
        well = sum(not isinstance(answer, _UNHEARD) for answer in answers)
        if well:
            self._limit = self.limit.went_well(now, well)
        if throttled:
            longest = max((answer.retry_after or 0.0 for answer in throttled), default=0.0)
            self._limit = self.limit.was_refused(now, sent_at, len(throttled), longest)
        for answer in answers:
            if isinstance(answer, errors.Failed):
                self.circuit = self.circuit.stumbled(now, str(answer))
            # What was on its way when the store failed says nothing of it as it is now.
            elif not isinstance(answer, _UNHEARD) and self.circuit.reason is None:
                self.circuit = self.circuit.worked()

    def broke(self, reason: str) -> None:
        """The store failed as a whole."""
        self.circuit = self.circuit.broke(time.monotonic(), reason)

    @property
    def may_be_asked(self) -> bool:
        return self.circuit.allows(time.monotonic())


# None of these says that the store did any work.
_UNHEARD = (errors.Throttled, errors.NotSent, errors.Unavailable)


class Healths:
    """Those of all stores of a process."""

    def __init__(self) -> None:
        self._by_store: dict[str, Health] = {}

    def of(self, driver: base.Driver) -> Health:
        if driver.store not in self._by_store:
            self._by_store[driver.store] = Health(driver)
        return self._by_store[driver.store]

"""What a process knows of a store from one run to the next: what it takes, whether it works."""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from scrubber import errors
from scrubber.model import Answers
from scrubber.orders import StoreOrder
from scrubber.planning.circuit import Circuit
from scrubber.planning.rate import Limit
from scrubber.stores import base

#: Store calls are counted by how long they took: up to so many seconds each.
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass(slots=True)
class Calls:
    """The calls of a process that delete, as a histogram wants them.

    :param took: how many took no more than the bound of the same number in BOUNDS, and more
        than the one before; the last longer than all.
    :param seconds: of all of them together.
    :param errors: answers by the kind of error, one for each location.
    """

    took: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    seconds: float = 0.0
    errors: Counter[str] = field(default_factory=Counter)

    def add(self, seconds: float, errors: Counter[str]) -> None:
        self.took[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds
        self.errors.update(errors)


@dataclass(frozen=True, slots=True)
class Figures:
    """What is known of a store, in numbers.

    :param limit: locations a second that it gets, None for no limit.
    :param broken: why it is left alone, None while it works.
    :param asked_again_in: seconds until it may be asked once more, 0 while it works.
    :param took, seconds, errors: see :class:`Calls`.
    """

    limit: float | None = None
    broken: str | None = None
    asked_again_in: float = 0.0
    took: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)
    seconds: float = 0.0
    errors: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of_all(cls, figures: Iterable["Figures"]) -> "Figures":
        """Those of several processes together; it is left alone only by those that say so."""
        known = list(figures)
        if not known:
            return cls()
        limits = [at.limit for at in known if at.limit is not None]
        broken = [at for at in known if at.broken]
        return cls(
            limit=sum(limits) if len(limits) == len(known) else None,
            broken=broken[0].broken if broken else None,
            asked_again_in=min((at.asked_again_in for at in broken), default=0.0),
            took=tuple(map(sum, zip(*(at.took for at in known), strict=True))),
            seconds=sum(at.seconds for at in known),
            errors=sum((Counter(at.errors) for at in known), Counter[str]()),
        )


class Health:
    """One store's limit and circuit.

    :param share: the part of an operator's limit that is this process's.
    :ivar named: whether it said what its names lead to when it was last asked.
    """

    def __init__(self, driver: base.Driver, share: float = 1.0) -> None:
        self._driver = driver
        self._share = share
        self._limit = Limit()
        self.circuit = Circuit()
        self.calls = Calls()
        self.named = False
        #: What operators have ordered, as it is when asked.
        self.order: Callable[[], StoreOrder] = StoreOrder

    @property
    def limit(self) -> Limit:
        """With the operators' own limits as they are now."""
        most = self.order().most(self._driver.max_rate)
        if most is not None:
            most *= self._share
        if self._limit.most != most:
            self._limit = self._limit.capped(time.monotonic(), most)
        return self._limit

    def sent(self, locations: int) -> None:
        """A batch is on its way."""
        self._limit = self.limit.sent(time.monotonic(), locations)

    def heard(self, answers: Answers, sent_at: float) -> None:
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

    @property
    def figures(self) -> Figures:
        """As they are now."""
        circuit, calls = self.circuit, self.calls
        return Figures(
            limit=self.limit.allowed,
            broken=circuit.reason,
            asked_again_in=max(0.0, circuit.probe_at - time.monotonic()) if circuit.reason else 0.0,
            took=tuple(calls.took),
            seconds=calls.seconds,
            errors=dict(calls.errors),
        )


# None of these says that the store did any work.
_UNHEARD = (errors.Throttled, errors.NotSent, errors.Unavailable)


class Healths:
    """Those of all stores of a process.

    :param share: see :class:`Health`.
    """

    def __init__(self, share: float = 1.0) -> None:
        self._share = share
        self._by_store: dict[str, Health] = {}

    def of(self, driver: base.Driver, order: Callable[[], StoreOrder] | None = None) -> Health:
        """That store's.

        :param order: what operators order of it, from now on.
        """
        health = self._by_store.setdefault(driver.store, Health(driver, self._share))
        if order is not None:
            health.order = order
        return health

"""How fast a store may be asked: no limit until it says "slow down", then what it takes.

A rate, not a number of calls at once: against limits that stores really have (requests a
second) it wastes far fewer requests.  After a refusal the rate goes down by a factor and
comes back along CUBIC's curve (RFC 9438): fast towards the last rate that was too much,
slowly past it, then ever faster.
"""

import math
from dataclasses import dataclass, replace

#: What is left of the rate after a refusal now and then, and at the least after many.
GENTLE, HARD = 0.85, 0.5

#: After a reduction the rate is back where it was after so many locations, at least.
LOCATIONS_BACK, LONGEST_BACK = 15, 10.0

#: So far past a rate that was too much, the store is taken for a changed one: the rate then
#: doubles in so many seconds.
UNKNOWN, DOUBLING_SECONDS = 1.1, 0.7

#: No store is asked more seldom than that, in locations a second, nor known to take more.
SLOWEST, FASTEST = 0.2, 1e6

#: The least that a store is taken for at its first refusal, in locations a second.
FIRST_GUESS = 10.0

#: A batch is never more than so many seconds of a limited rate: all of it may be refused.
BATCH_SECONDS = 0.1

#: A caller that is woken late may catch up on so many seconds.
CATCH_UP = 0.1

#: What was done so many seconds ago counts for a third in what a store is seen to take.
MEMORY = 1.0

#: No store is believed that wants more patience than a day.
LONGEST_WAIT = 86_400.0

_FOR_EVER = 1e6


@dataclass(frozen=True, slots=True)
class Limit:
    """What a store was found to take: a value; each thing that is learnt gives the next one.

    Times are seconds of one monotonic clock, rates locations a second.

    :param most: what the operator allows, None for any rate.
    :param rate: what the store takes, as far as that is known; None: it never refused anything.
    :param floor: the rate right after the last refusal.
    :param plateau: the rate that was too much then.
    :param reduced_at: when that was.
    :param used: for how many seconds since then the rate was made use of; an idle rate proves
        nothing and does not grow.
    :param used_at: until when ``used`` is counted.
    :param next_at: when the next batch is due at this rate.
    :param not_before: until when the store itself wants to be left alone.
    :param done: locations that went well since the rate was reduced.
    :param refused: those that were refused since then.
    :param flow: locations that went well lately, older ones counting less.
    :param flow_at: when that was so.
    """

    most: float | None = None
    rate: float | None = None
    floor: float = 0.0
    plateau: float = 0.0
    reduced_at: float = -math.inf
    used: float = 0.0
    used_at: float = -math.inf
    next_at: float = -math.inf
    not_before: float = -math.inf
    done: int = 0
    refused: int = 0
    flow: float = 0.0
    flow_at: float = -math.inf

    @property
    def allowed(self) -> float | None:
        """Locations a second, None for no limit."""
        if self.rate is None or self.most is None:
            return self.most if self.rate is None else self.rate
        return min(self.rate, self.most)

    @property
    def ready_at(self) -> float:
        """When the next batch may be sent."""
        return max(self.next_at, self.not_before)

    def batch_size(self, most: int) -> int:
        """How many locations a batch may hold, from 1 to ``most``."""
        if self.allowed is None:
            return most
        return int(max(1, min(most, self.allowed * BATCH_SECONDS)))

    def capped(self, now: float, most: float | None) -> "Limit":
        """With another limit of the operator's, which takes effect at once."""
        limit = replace(self, most=most)
        due = now if limit.allowed is None else now + 1 / limit.allowed
        return replace(limit, next_at=min(self.next_at, due))

    def sent(self, now: float, locations: int) -> "Limit":
        """After a batch was sent."""
        grown = self._grown(now)
        if grown.allowed is None:
            return grown
        due = max(grown.next_at, now - CATCH_UP)
        return replace(grown, next_at=due + locations / grown.allowed)

    def _grown(self, now: float) -> "Limit":
        if self.rate is None:
            return self
        in_use = now <= self.ready_at + CATCH_UP + 1 / self.rate
        passed = max(0.0, now - self.used_at) if in_use else 0.0
        used = min(self.used + passed, _FOR_EVER)
        if self.rate < UNKNOWN * self.plateau:
            rate = self._curve(used)
        else:
            # Far past what was too much once: the store has changed.
            rate = self.rate * 2 ** min(1.0, passed / DOUBLING_SECONDS)
        # Never more than twice as fast from one batch to the next: it may be seconds later.
        rate = max(self.rate, min(rate, 2 * self.rate, FASTEST))
        return replace(self, rate=rate, used=used, used_at=max(now, self.used_at))

    def _curve(self, used: float) -> float:
        """CUBIC's: back at the plateau after some seconds, or after some locations at least."""
        back = max(math.cbrt(self.plateau), min(LOCATIONS_BACK / self.plateau, LONGEST_BACK))
        # At the slowest rate there is nothing between the two, and still it has to grow.
        steep = max(self.plateau - self.floor, (1 - GENTLE) * self.plateau) / back**3
        return self.plateau + steep * (used - back) ** 3

    def went_well(self, now: float, locations: int) -> "Limit":
        """After so many locations were not refused, whatever else became of them."""
        return replace(
            self,
            done=self.done + locations,
            flow=self._flow(now) + locations,
            flow_at=max(now, self.flow_at),
        )

    def was_refused(
        self, now: float, sent_at: float, locations: int, retry_after: float | None = None
    ) -> "Limit":
        """After the store asked for patience with so many locations.

        :param sent_at: when they were sent; what was on its way when the rate was reduced says
            nothing of the new one.
        :param retry_after: seconds that the store asked for.
        """
        limit = replace(self, refused=self.refused + locations)
        if retry_after is not None and retry_after > 0:
            wait = min(retry_after, LONGEST_WAIT)
            limit = replace(limit, not_before=max(limit.not_before, now + wait))
        return limit if sent_at < self.reduced_at else limit._reduced(now)

    def _reduced(self, now: float) -> "Limit":
        before = max(FIRST_GUESS, self._flow(now) / MEMORY) if self.rate is None else self.rate
        if self.most is not None:
            before = min(before, self.most)
        kept = min(GENTLE, max(HARD, self.done / max(1, self.done + self.refused)))
        rate = max(SLOWEST, before * kept)
        return replace(
            self,
            rate=rate,
            floor=rate,
            # The first one is a guess, no landmark: the right rate is found by doubling.
            plateau=before if self.rate is not None else 0.0,
            reduced_at=now,
            used=0.0,
            used_at=now,
            next_at=max(self.next_at, now + 1 / rate),
            done=0,
            refused=0,
        )

    def _flow(self, now: float) -> float:
        return self.flow * math.exp(-max(0.0, now - self.flow_at) / MEMORY) if self.flow else 0.0

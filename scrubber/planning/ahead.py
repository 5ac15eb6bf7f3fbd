"""How much is claimed ahead: about what is done in a second.

What one process has claimed no other can take.  If it held much more, it would still be at
work at the end of a backlog when all others have long been idle.
"""

from dataclasses import dataclass

#: So many seconds of work are claimed together, once less than that is waiting.
SECONDS = 1.0

#: What is done is counted over at least so many seconds.
COUNTED_SECONDS = 0.2

#: What is claimed for each slot as long as nobody knows how fast it goes.
FIRST_PER_SLOT = 8


@dataclass(frozen=True, slots=True)
class Throughput:
    """What is done in a second, all stores together: a value.

    :param since: when counting began, in seconds of some monotonic clock.
    :param done: how many locations since then.
    :param rate: locations a second before that, None if nobody knows.
    """

    since: float
    done: int = 0
    rate: float | None = None

    def after(self, locations: int, now: float) -> "Throughput":
        """So many more are done by now."""
        done, passed = self.done + locations, now - self.since
        if passed < COUNTED_SECONDS:
            return Throughput(self.since, done, self.rate)
        rate = done / passed
        # It falls slowly: for a moment there may have been nothing to do.
        return Throughput(now, 0, max(rate, (self.rate or 0.0) / 2))

    def portion(self, slots: int, most: int) -> int:
        """How many are to be claimed together.

        :param slots: store calls that may be under way at the same time; each is to have work.
        """
        least = slots if self.rate is not None else FIRST_PER_SLOT * slots
        return int(max(1, min(most, max(least, SECONDS * (self.rate or 0.0)))))

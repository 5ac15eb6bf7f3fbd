"""When to try again what failed alone, and when to stop expecting much of it."""

import datetime
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Patience:
    """The options retry_base, retry_cap (seconds) and retry_attempts."""

    base: float = 30.0
    cap: float = 6 * 3600.0
    attempts: int = 8


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is remembered of a location that could not be deleted; times are UTC.

    :param attempts: how often it was tried; throttling and stores that are down do not count.
    """

    attempts: int
    first_failed_at: datetime.datetime
    next_try_at: datetime.datetime
    last_error: str

    def is_parked(self, patience: Patience) -> bool:
        """Whether it was tried so often that somebody should look at it."""
        return self.attempts >= patience.attempts

    def is_due(self, now: datetime.datetime, patience: Patience) -> bool:
        """Also if it is to wait longer than it may: then a clock was wrong."""
        return not now < self.next_try_at <= now + datetime.timedelta(seconds=patience.cap)


def after_failure(
    before: Trouble | None,
    error: str,
    now: datetime.datetime,
    patience: Patience,
    chance: float,
) -> Trouble:
    """What to remember after one more attempt.

    Full jitter, so that what failed together does not come back together: anything from at once
    to ``base * 2**n`` seconds.  What is parked is tried at the slowest pace, for ever.

    :param chance: from 0 to 1, drawn anew for each.
    """
    attempts = before.attempts + 1 if before else 1
    first = before.first_failed_at if before else now
    trouble = Trouble(attempts, first, now, error)
    if trouble.is_parked(patience):
        wait = patience.cap * (0.5 + chance / 2)
    else:
        # Beyond 2**64 no cap is left to be reached.
        wait = chance * min(patience.cap, patience.base * 2.0 ** min(attempts - 1, 64))
    return replace(trouble, next_try_at=now + datetime.timedelta(seconds=wait))

"""The clocks of this host and of Glance's database.

What is due and who has claimed what goes by the database's clock alone; when to try again what
failed, and what reports say, by this host's.
"""

import datetime
from collections.abc import Iterator
from dataclasses import dataclass

from scrubber.checks.finding import Finding, failure, ok, warning
from scrubber.checks.site import Site
from scrubber.reporting.report import utcnow

#: What a well-kept clock never shows.
WARN_SECONDS = 5.0

_ADVICE = "let NTP (chrony) set the clocks of this host, of the database's and of Glance's"


@dataclass(frozen=True, slots=True)
class Skew:
    """How far the database's clock is ahead of this host's, in seconds.

    :param known_to: how much of that the question itself may have taken.
    """

    seconds: float
    known_to: float

    @classmethod
    def between(
        cls, before: datetime.datetime, theirs: datetime.datetime, after: datetime.datetime
    ) -> "Skew":
        half = (after - before) / 2
        return cls((theirs - (before + half)).total_seconds(), half.total_seconds())

    @property
    def least(self) -> float:
        """Seconds apart, at least."""
        return max(0.0, abs(self.seconds) - self.known_to)


def look(site: Site) -> Iterator[Finding]:
    """Ask the database what time it is."""
    site.source.now()  # the connection is there now, and takes no time
    before = utcnow()
    theirs = site.source.now()
    yield judge(Skew.between(before, theirs, utcnow()), site.lease)


def judge(skew: Skew, lease: float) -> Finding:
    """:param lease: claim_lease, in seconds."""
    if skew.least <= WARN_SECONDS:
        return ok("clock", f"this host and the database are {skew.least:.1f} s apart")
    side = "ahead of" if skew.seconds > 0 else "behind"
    message = f"the database's clock is {skew.least:.0f} s {side} this host's"
    if skew.least > lease / 4:
        return failure("clock", f"{message}, more than a quarter of claim_lease", _ADVICE)
    return warning("clock", message, _ADVICE)

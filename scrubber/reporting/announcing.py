"""Says now and then in the log how far a run has come."""

from scrubber.reporting import text
from scrubber.reporting.report import Report

#: Seconds between two such lines.
EVERY = 60.0


class Announcer:
    """The lines about one run.

    :param now: seconds of some monotonic clock, when the run began.
    """

    def __init__(self, report: Report, now: float, every: float = EVERY) -> None:
        self._report = report
        self._every = every
        self._said_at = now
        self._done = 0

    def line(self, now: float) -> str | None:
        """What to say at that time; None if something was said not long ago."""
        passed = now - self._said_at
        if passed < self._every:
            return None
        done = sum(n for outcome, n in self._report.total.locations.items() if outcome.done)
        rate = (done - self._done) / passed
        self._said_at, self._done = now, done
        return (
            f"Run {self._report.run} goes on: {text.progress(self._report)}; "
            f"{rate:.3g} locations/s in the last {passed:.0f} s"
        )

"""Whether a store that failed as a whole may be asked again."""

from dataclasses import dataclass

#: Seconds until the first probe after a failure, and the longest between two.
FIRST_STEP, LONGEST_STEP = 5.0, 300.0

#: So many failures of single objects in a row, and none that went well, are the store's.
STREAK = 20


@dataclass(frozen=True, slots=True)
class Circuit:
    """Closed while all is well; open after a failure: then one probe per step is allowed.

    A value; times are seconds of one monotonic clock.

    :param reason: why it is open, None while it is closed.
    :param probe_at: when the store may be asked again.
    :param step: seconds that were waited last, 0 once a delete has worked.
    :param streak: failures in a row.
    """

    reason: str | None = None
    probe_at: float = 0.0
    step: float = 0.0
    streak: int = 0

    def allows(self, now: float) -> bool:
        """Whether the store may be asked now; if the circuit is open that is a probe."""
        # A clock that jumped back does not keep it open for longer than a step.
        return self.reason is None or not now < self.probe_at <= now + LONGEST_STEP

    def broke(self, now: float, reason: str) -> "Circuit":
        """After the store failed as a whole; each time in a row doubles the step.

        Probes in between that went well count for nothing.
        """
        step = min(LONGEST_STEP, max(FIRST_STEP, 2 * self.step))
        return Circuit(reason, now + step, step, self.streak)

    def stumbled(self, now: float, reason: str) -> "Circuit":
        """After one object failed; many in a row are the store's own failure."""
        streak = self.streak + 1
        if streak < STREAK:
            return Circuit(self.reason, self.probe_at, self.step, streak)
        return Circuit(self.reason, self.probe_at, self.step).broke(now, reason)

    def probed(self) -> "Circuit":
        """After a probe went well: what the store is really asked for may fail all the same."""
        return Circuit(step=self.step)

    def worked(self) -> "Circuit":
        """After the store did what it was asked to."""
        return _CLOSED


_CLOSED = Circuit()

"""What all runs of a process did together: sums that only grow."""

import datetime
from collections import Counter
from collections.abc import Callable, Iterable

from scrubber.reporting.report import Report, Tally

#: The store under which everything is summed that no configured store holds.
NO_STORE = "unknown"


class Totals:
    """The finished runs, and the one that goes on; it costs nothing while a run does its work.

    :param stores: those that are known now; the rows of Glance's tables can name any.
    :ivar runs: how many ended, by status.
    :ivar ended_at: when the last one of each status did, naive UTC.
    """

    def __init__(self, stores: Callable[[], Iterable[str]]) -> None:
        self.runs: Counter[str] = Counter()
        self.ended_at: dict[str, datetime.datetime] = {}
        self._known = stores
        self._stores: dict[str, Tally] = {}
        self._images = 0
        self._alarms = 0
        self._present: Report | None = None

    def begin(self, report: Report) -> None:
        """A run begins; its counts are a part of the sums from now on."""
        self._present = report

    def end(self) -> None:
        """It is over."""
        report = self._present
        if report is None:
            return
        self._stores, self._images, self._alarms = self.stores, self.images_scrubbed, self.alarms
        self._present = None
        self.runs[report.status] += 1
        if report.finished_at is not None:
            self.ended_at[report.status] = report.finished_at

    @property
    def running(self) -> bool:
        """Whether a run goes on."""
        return self._present is not None

    @property
    def images_scrubbed(self) -> int:
        return self._images + (self._present.total.images_scrubbed if self._present else 0)

    @property
    def alarms(self) -> int:
        return self._alarms + (len(self._present.alarms) if self._present else 0)

    @property
    def stores(self) -> dict[str, Tally]:
        """By known store, and ``NO_STORE`` for all others, if there was any."""
        sums = {store: Tally() for store in self._known()}
        sums.update((store, _sum([tally])) for store, tally in self._stores.items())
        for store, tally in (self._present.stores if self._present else {}).items():
            name = store if store in sums else NO_STORE
            sums[name] = _sum([sums.get(name, Tally()), tally])
        return sums


def _sum(tallies: Iterable[Tally]) -> Tally:
    total = Tally()
    for tally in tallies:
        total.locations.update(tally.locations)
        total.images_scrubbed += tally.images_scrubbed
        total.bytes_freed += tally.bytes_freed
    return total

"""A run over stores and rows in memory, and what a test may do while it goes on."""

import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from contract.fake_driver import FakeDriver
from contract.fake_source import FakeGlance, FakeSource
from scrubber import pool
from scrubber.health import Healths
from scrubber.model import Selection, Settled
from scrubber.orders import Orders
from scrubber.planning.due import Ages
from scrubber.planning.proof import Thresholds
from scrubber.planning.retry import Patience
from scrubber.reporting.report import Report, utcnow
from scrubber.run import Run, Settings
from scrubber.state.base import Ledger, NoLedger
from scrubber.stores.registry import Stores

#: Longer than any of these runs takes; a test that waits so long has failed.
PATIENCE = 10.0

SETTINGS = Settings(
    ages=Ages(scrub_time=0, removed_location_age=3600),
    claim_lease=300,
    call_timeout=60,
    page_size=1000,
    thresholds=Thresholds(count=10, percent=10),
    ignore_unreadable_live=False,
    shutdown_timeout=60,
    patience=Patience(),
)


class Scene:
    """Glance's rows, some stores, and a run over both.

    A store is ``fast`` unless said otherwise; it has a live image, so that it is believed.
    """

    def __init__(
        self,
        *stores: FakeDriver,
        pool_size: int = 4,
        proven: bool = True,
        accept_missing: Iterable[str] = (),
        undriven: dict[str, str] | None = None,
        **settings: Any,
    ) -> None:
        self.glance = FakeGlance()
        self.source = FakeSource(self.glance)
        self.stores = {store.store: store for store in stores or (FakeDriver("fast"),)}
        self.slots = pool.Pool(pool_size)
        self.stop = pool.Flag(self.slots.changed)
        self.settings = replace(SETTINGS, **settings)
        self.selection = Selection()
        self.accept_missing = frozenset(accept_missing)
        self.report = Report(utcnow)
        self.healths = Healths()
        self.ledger: Ledger = NoLedger()
        self.orders = Orders(self.slots.changed.ring)
        self.audited: list[Settled] = []
        self._registry = Stores(self.stores.values(), undriven or {})
        if proven:
            for store in self.stores.values():
                self.live_image(store=store.store)

    @property
    def fast(self) -> FakeDriver:
        return self.stores["fast"]

    # Rows and objects -----------------------------------------------------------------

    def live_image(self, name: str | None = None, store: str = "fast") -> int:
        """An active image with one location and its object; returns the location's number."""
        name = name or str(uuid.uuid4())
        url = self.stores[store].put(name)
        image = self.glance.add_image(status="active", deleted=False, deleted_at=None)
        return self.glance.add_location(image, url, store=store, status="active", deleted_at=None)

    def image(
        self,
        *names: str,
        store: str = "fast",
        owner: str | None = "project",
        there: bool = True,
        **columns: Any,
    ) -> str:
        """A deleted image with a location for each name; ``store/name`` for other stores."""
        image = self.glance.add_image(owner=owner, **columns)
        for name in names:
            self.location(image, name, store=store, there=there)
        return image

    def location(self, image: str, name: str, store: str = "fast", there: bool = True) -> int:
        """One more pending location of an image, with its object if that is ``there``."""
        other, _, rest = name.partition("/")
        driver = self.stores.get(other) or self.stores[store]
        name = rest if other in self.stores else name
        if there:
            driver.put(name, size=1)
        return self.glance.add_location(image, driver.url(name), store=driver.store)

    def numbers(self, image: str) -> list[int]:
        return [location.id for location in self.glance.locations_of(image)]

    def statuses(self, image: str) -> list[str]:
        return [location.status for location in self.glance.locations_of(image)]

    def is_finished(self, image: str) -> bool:
        return self.glance.images[image].status == "deleted" and set(self.statuses(image)) <= {
            "deleted"
        }

    def is_untouched(self, image: str) -> bool:
        """Pending as before, and claimed by nobody."""
        return self.glance.images[image].status == "pending_delete" and not any(
            self.glance.status_of(number) != "pending_delete" or self.glance.is_claimed(number)
            for number in self.numbers(image)
        )

    # The run --------------------------------------------------------------------------

    def new_run(self) -> Run:
        return Run(
            self.source,
            self._registry,
            self.slots,
            self.stop,
            self.report,
            settings=lambda: self.settings,
            selection=self.selection,
            accept_missing=self.accept_missing,
            healths=self.healths,
            ledger=self.ledger,
            orders=self.orders,
            audit=self.audited.extend,
        )

    def run(self) -> Report:
        return pool.within(PATIENCE, self.new_run().execute)

    def start(self) -> pool.Task:
        """The run in the background; ``finish`` waits for its end."""
        return pool.Task(self.new_run().execute)


def finish(task: pool.Task) -> None:
    pool.within(PATIENCE, task.join)


def until(condition: Callable[[], object]) -> None:
    """Let the run go on until this is so."""
    give_up = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < give_up, "it never came to that"
        pool.sleep(0.001)


def outcomes(report: Report, store: str | None = None) -> dict[str, int]:
    """How many locations came to what; no zeros."""
    tally = report.stores[store] if store else report.total
    return {outcome.value: number for outcome, number in tally.locations.items() if number}


def reasons(report: Report) -> str:
    return "; ".join(left.reason for left in report.left.values())

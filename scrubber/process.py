"""One process: its configuration, its connections, and the runs it makes, one at a time."""

import gc
import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from oslo_config import cfg

from scrubber import config, errors, pool
from scrubber.health import Figures, Healths
from scrubber.model import Selection, Settled
from scrubber.options import GLANCE_SECTION, PROJECT, STATE_SECTION
from scrubber.orders import Orders
from scrubber.planning.due import Ages
from scrubber.planning.proof import Thresholds
from scrubber.planning.retry import Patience
from scrubber.recorder import Audit
from scrubber.reporting.announcing import Announcer
from scrubber.reporting.report import Report, utcnow
from scrubber.reporting.totals import Totals
from scrubber.run import Run, Settings
from scrubber.sources.base import Source
from scrubber.sources.opening import open_source
from scrubber.state.base import Ledger, NoLedger
from scrubber.state.database import StateDatabase
from scrubber.state.ledger import SqlLedger
from scrubber.state.opening import Reopening, ReopeningLedger, open_state
from scrubber.steering import Steering
from scrubber.stores import base, registry
from scrubber.stores.rehearsal import RehearsalDriver
from scrubber.workers.status import Load

LOG = logging.getLogger(__name__)

if TYPE_CHECKING:
    from scrubber.glance.caches import Caches
    from scrubber.workers.crew import Crew


class Execution(Protocol):
    """A run, by this process itself or by its workers."""

    report: Report

    def execute(self) -> Report:
        """To its end."""
        ...

    def cancel(self) -> None:
        """End it as soon as what is in flight has ended and is recorded."""
        ...


def settings(conf: cfg.ConfigOpts) -> Settings:
    """The options of a run as they are now."""
    ours = conf[PROJECT]
    return Settings(
        ages=Ages(conf.scrub_time, ours.removed_location_age),
        claim_lease=ours.claim_lease,
        call_timeout=ours.call_timeout,
        page_size=ours.page_size,
        thresholds=Thresholds(ours.missing_threshold_count, ours.missing_threshold_percent),
        ignore_unreadable_live=ours.unreadable_live == "ignore",
        shutdown_timeout=ours.graceful_shutdown_timeout,
        patience=Patience(ours.retry_base, ours.retry_cap, ours.retry_attempts),
    )


class Process:
    """What runs need: stores, a source, the state database, what was learnt and ordered.

    :ivar run: the run under way; ``last`` is the report of the one before.
    :param argv: the command line; it is read once more at each reload.
    :param audit: told what became of locations.
    :param workers: how many other processes scrub for it; with 1 it scrubs itself.
    :param share: the part of operators' limits that is this process's.
    :raises ConfigError: a store's section, or a store named on the command line.
    """

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        argv: Sequence[str],
        audit: Audit | None = None,
        *,
        workers: int = 1,
        share: float = 1.0,
    ) -> None:
        self.conf = conf
        self._settings = settings(conf)  # runs look there all the time
        self._workers = workers
        self._argv = argv
        self._audit = audit
        self.slots = pool.Pool(conf.scrub_pool_size)
        self.stop = pool.Flag(self.slots.changed)
        self.stores = registry.build(conf)
        # One store that hangs must not hold the threads of all others.
        pool.native_threads(conf.scrub_pool_size * len(self.stores.drivers))
        self.healths = Healths(share)
        self.orders = Orders(self.slots.changed.ring, self._pass_on_orders)
        self.totals = Totals(lambda: self.stores.names)
        self.run: Execution | None = None
        self.last: Report | None = None
        self.source: Source | None = None
        self.state: Reopening[StateDatabase] | None = None
        self.crew: Crew | None = None
        self._ledger: Ledger = NoLedger()
        self._steering: Steering | None = None
        self._caches: Caches | None = None
        self._check_store_names()

    def _check_store_names(self) -> None:
        named = {"store": self.conf.cli_stores, "accept-missing": self.conf.cli_accept_missing}
        for flag, names in named.items():
            for name in names:
                if not self.stores.knows(name):
                    raise errors.ConfigError(
                        f"--{flag} {name}: no such store; configured are "
                        f"{', '.join(self.stores.names)}"
                    )

    def open(self) -> None:
        """Connect to the source and to the state database.

        :raises ScrubberError: one that is needed cannot be used.
        """
        self.source = open_source(self.conf, self.stop, rehearsal=self.conf.cli_dry_run)
        self.state = open_state(self.conf, self.stop, create=not self.conf.cli_dry_run)
        self._ledger = ReopeningLedger(self.state, SqlLedger)
        if self.conf[GLANCE_SECTION].purge_cache and not self.conf.cli_dry_run:
            from scrubber.glance.caches import open_caches  # its libraries take long to import

            self._caches = open_caches(self.conf)
        if self._workers > 1:
            from scrubber.workers.crew import Crew  # needed by few

            self.crew = Crew(self._argv, self._workers, self.orders, self.stop, self.slots.changed)

    def steer(self, doing: Callable[[], dict[str, Any]], run_now: Callable[[], object]) -> None:
        """Let operators watch and steer this process through the state database.

        :param doing: what it is at, as a document.
        :param run_now: called when an operator asks for a run.
        """
        assert self.state is not None
        self._steering = Steering(
            self.state,
            self.orders,
            doing,
            run_now,
            history=lambda: self.conf[STATE_SECTION].run_history,
        )

    def close(self) -> None:
        if self._steering is not None:
            self._steering.close()
        if self.crew is not None:
            self.crew.close()
        if self._caches is not None:
            self._caches.close(seconds=self.conf[PROJECT].call_timeout)
        self.stores.close()
        if self.state is not None:
            self.state.close()
        if self.source is not None:
            self.source.close()

    def reload(self) -> None:
        """Take over what has changed in the configuration files.

        :raises ConfigError: they cannot be used; all old values stay.
        """
        config.reload(self.conf, self._argv, registry.check)
        self._settings = settings(self.conf)
        self.slots.resize(self.conf.scrub_pool_size)
        if self.crew is not None:
            self.crew.reload()

    def kill_workers(self) -> None:
        """At once; also from a signal handler."""
        if self.crew is not None:
            self.crew.kill()

    def _pass_on_orders(self) -> None:
        if self.crew is not None:
            self.crew.pass_on()

    # Runs -----------------------------------------------------------------------------

    def new_run(self, trigger: str) -> Execution:
        """A run that has not begun."""
        report = Report(utcnow, rehearsal=self.conf.cli_dry_run, trigger=trigger)
        return self.crew.new_run(report) if self.crew is not None else self._new_run(report)

    def new_part(self, run: str, trigger: str, first: bool) -> Run:
        """This worker's part of a run of that id.

        :param first: whether it reports what nobody claims.
        """
        return self._new_run(Report(utcnow, trigger=trigger, run=run), leads=first)

    def _new_run(self, report: Report, leads: bool = True) -> Run:
        assert self.source is not None
        conf = self.conf
        return Run(
            self.source,
            self.stores.replaced_by(RehearsalDriver) if report.rehearsal else self.stores,
            self.slots,
            self.stop,
            report,
            settings=lambda: self._settings,
            selection=Selection(
                images=frozenset(conf.cli_images),
                stores=frozenset(conf.cli_stores),
                owners=frozenset(conf.cli_owners),
            ),
            accept_missing=frozenset(conf.cli_accept_missing),
            healths=self.healths,
            ledger=self._ledger,
            orders=self.orders,
            audit=self._settled,
            leads=leads,
        )

    def _settled(self, locations: Sequence[Settled]) -> None:
        if self._audit is not None:
            self._audit(locations)
        if self._caches is not None:
            self._caches.settled(locations)

    def execute(self, run: Execution) -> Report:
        """From its beginning to its end, where operators can see it."""
        self.totals.begin(run.report)
        if self._steering is not None:
            self._steering.begin(run.report, run.cancel)
        announcing = pool.Task(_announce, run.report)
        try:
            return self.carry_out(run)
        finally:
            announcing.kill()
            self.totals.end()
            if self._steering is not None:
                self._steering.end()

    def carry_out(self, run: Execution) -> Report:
        """Likewise, where nobody looks but the supervisor."""
        gc.collect()  # what the run before left, and reloads since; by itself it comes much later
        self.run = run
        try:
            return run.execute()
        finally:
            self.run, self.last = None, run.report

    def cancel(self) -> None:
        """Tell the run under way to end."""
        if self.run is not None:
            self.run.cancel()

    # Figures --------------------------------------------------------------------------

    def figures(self, driver: base.Driver) -> Figures:
        """What is known of a store, here or by all workers."""
        if self.crew is not None:
            return self.crew.figures(driver.store)
        return self.healths.of(driver).figures

    @property
    def load(self) -> Load:
        """What is under way here, or in all workers."""
        if self.crew is not None:
            return self.crew.load
        return Load(self.slots.size, self.slots.running)

    def workers(self) -> dict[str, Any]:
        """What each worker is at, for operators; nothing without workers."""
        if self.crew is None:
            return {}
        return {"workers": [member.as_dict() for member in self.crew.members]}


def _announce(report: Report) -> None:
    """Says now and then in the log how far the run has come."""
    announcer = Announcer(report, time.monotonic())
    while True:
        pool.sleep(1.0)
        if line := announcer.line(time.monotonic()):
            LOG.info(line)

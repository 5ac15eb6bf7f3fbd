"""One process: its configuration, its connections, and the runs it makes, one at a time."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from oslo_config import cfg

from scrubber import config, errors, pool
from scrubber.health import Healths
from scrubber.model import Selection, Settled
from scrubber.options import GLANCE_SECTION, PROJECT, STATE_SECTION
from scrubber.orders import Orders
from scrubber.planning.due import Ages
from scrubber.planning.proof import Thresholds
from scrubber.planning.retry import Patience
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
from scrubber.stores import registry
from scrubber.stores.rehearsal import RehearsalDriver

LOG = logging.getLogger(__name__)

if TYPE_CHECKING:
    from scrubber.glance.caches import Caches


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
    :param audit: told what became of each location.
    :raises ConfigError: a store's section, or a store named on the command line.
    """

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        argv: Sequence[str],
        audit: Callable[[Settled], None] | None = None,
    ) -> None:
        self.conf = conf
        self._argv = argv
        self._audit = audit
        self.slots = pool.Pool(conf.scrub_pool_size)
        self.stop = pool.Flag(self.slots.changed)
        self.stores = registry.build(conf)
        # One store that hangs must not hold the threads of all others.
        pool.native_threads(conf.scrub_pool_size * len(self.stores.drivers))
        self.healths = Healths()
        self.orders = Orders(self.slots.changed.ring)
        self.totals = Totals(lambda: self.stores.names)
        self.run: Run | None = None
        self.last: Report | None = None
        self.source: Source | None = None
        self.state: Reopening[StateDatabase] | None = None
        self._ledger: Ledger = NoLedger()
        self._steering: Steering | None = None
        self._caches: Caches | None = None
        self._check_store_names()

    def _check_store_names(self) -> None:
        for option in ("store", "accept_missing"):
            for name in self.conf[option]:
                if not self.stores.knows(name):
                    flag = option.replace("_", "-")
                    raise errors.ConfigError(
                        f"--{flag} {name}: no such store; configured are "
                        f"{', '.join(self.stores.names)}"
                    )

    def open(self) -> None:
        """Connect to the source and to the state database.

        :raises ScrubberError: one that is needed cannot be used.
        """
        self.source = open_source(self.conf, self.stop, rehearsal=self.conf.dry_run)
        self.state = open_state(self.conf, self.stop, create=not self.conf.dry_run)
        self._ledger = ReopeningLedger(self.state, SqlLedger)
        if self.conf[GLANCE_SECTION].purge_cache and not self.conf.dry_run:
            from scrubber.glance.caches import open_caches  # its libraries take long to import

            self._caches = open_caches(self.conf)

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
        self.slots.resize(self.conf.scrub_pool_size)

    # Runs -----------------------------------------------------------------------------

    def new_run(self, trigger: str) -> Run:
        """A run that has not begun."""
        assert self.source is not None
        conf, rehearsal = self.conf, self.conf.dry_run
        return Run(
            self.source,
            self.stores.replaced_by(RehearsalDriver) if rehearsal else self.stores,
            self.slots,
            self.stop,
            Report(utcnow, rehearsal=rehearsal, trigger=trigger),
            settings=lambda: settings(conf),
            selection=Selection(
                images=frozenset(conf.image),
                stores=frozenset(conf.store),
                owners=frozenset(conf.owner),
            ),
            accept_missing=frozenset(conf.accept_missing),
            healths=self.healths,
            ledger=self._ledger,
            orders=self.orders,
            audit=self._settled,
        )

    def _settled(self, location: Settled) -> None:
        if self._audit is not None:
            self._audit(location)
        if self._caches is not None:
            self._caches.settled(location)

    def execute(self, run: Run) -> Report:
        """From its beginning to its end, where operators can see it."""
        self.run = run
        self.totals.begin(run.report)
        if self._steering is not None:
            self._steering.begin(run.report, run.cancel)
        announcing = pool.Task(_announce, run.report)
        try:
            return run.execute()
        finally:
            announcing.kill()
            self.run, self.last = None, run.report
            self.totals.end()
            if self._steering is not None:
                self._steering.end()

    def cancel(self) -> None:
        """Tell the run under way to end."""
        if self.run is not None:
            self.run.cancel()


def _announce(report: Report) -> None:
    """Says now and then in the log how far the run has come."""
    announcer = Announcer(report, time.monotonic())
    while True:
        pool.sleep(1.0)
        if line := announcer.line(time.monotonic()):
            LOG.info(line)

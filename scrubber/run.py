"""One run, stage by stage: candidates, plans, claims, deletes, finish."""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from scrubber import errors, pool
from scrubber.dispatch import Dispatcher
from scrubber.health import Healths
from scrubber.last_look import LastLook
from scrubber.live import LiveReferences
from scrubber.model import Candidate, Outcome, Selection
from scrubber.names import Names
from scrubber.orders import Orders
from scrubber.planning import proof
from scrubber.planning.due import Ages, due, due_at
from scrubber.planning.order import FairQueue
from scrubber.planning.retry import Patience
from scrubber.plans import PROOF_SECONDS, Plan, Planner
from scrubber.recorder import Audit, Recorder
from scrubber.reporting.report import Pace, Report, utcnow
from scrubber.settling import Settler
from scrubber.sources.base import Claim, Source
from scrubber.state.base import Ledger
from scrubber.stores.registry import Stores
from scrubber.troubles import Troubles
from scrubber.verdicts import Judge
from scrubber.work import LOST, Job

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """The options that a run reads while it goes on; see options.py for each."""

    ages: Ages
    claim_lease: float
    call_timeout: float
    page_size: int
    thresholds: proof.Thresholds
    ignore_unreadable_live: bool
    shutdown_timeout: float
    patience: Patience


class Run:
    """From one look at the source to its report.

    :param settings: asked whenever a value is needed, so a reload takes effect in mid-run.
    :param accept_missing: stores that are believed without proof.
    :param healths: what earlier runs have learnt of the stores.
    :param ledger: what they could not delete, and when to try it again.
    :param orders: what operators order while it goes on; a dry run only says what is paused.
    :param audit: told what became of the locations that were claimed.
    :param leads: whether it does what of all parts of a run only one is to do: it reports what
        cannot even be claimed, and has the ledger forget what is finished.
    """

    def __init__(
        self,
        source: Source,
        stores: Stores,
        slots: pool.Pool,
        stop: pool.Flag,
        report: Report,
        settings: Callable[[], Settings],
        selection: Selection,
        accept_missing: frozenset[str],
        healths: Healths,
        ledger: Ledger,
        orders: Orders | None = None,
        audit: Audit | None = None,
        leads: bool = True,
    ) -> None:
        self.report = report
        self._leads = leads
        self._orders = orders or Orders()
        # A dry run deletes nothing that could be paused.
        obeyed = Orders() if report.rehearsal else self._orders
        self._source = source
        self._stores = stores
        self._slots = slots
        self._stop = stop
        self._cancelled = False
        self._settings = settings
        self._selection = selection
        self._troubles = Troubles(
            ledger, lambda: settings().patience, utcnow, remembers=not report.rehearsal
        )
        self._names = Names(
            stores,
            healths.of,
            is_paused=lambda store: obeyed.of(store).paused,
            is_ending=lambda: self._dispatcher.ending,
            call_timeout=lambda: settings().call_timeout,
        )
        self._live = LiveReferences(
            source,
            stores,
            tolerate=lambda: settings().ignore_unreadable_live,
            call_timeout=lambda: settings().call_timeout,
            ages=lambda: settings().ages,
        )
        self._planner = Planner(
            stores,
            self._live,
            self._names,
            self._troubles,
            healths,
            orders=obeyed,
            selection=selection,
            accept_missing=accept_missing,
            is_ending=lambda: self._dispatcher.ending,
            call_timeout=lambda: settings().call_timeout,
        )
        self._recorder = Recorder(
            source,
            report,
            audit,
            remember=self._troubles.write,
            lease=lambda: settings().claim_lease,
            patience=self._patience_at_end,
            on_trouble=self._abort,
        )
        self._judge = Judge(
            self._live,
            call_timeout=lambda: settings().call_timeout,
            thresholds=lambda: settings().thresholds,
        )
        self._settler = Settler(
            report,
            self._recorder,
            self._troubles,
            is_ending=lambda: self._dispatcher.ending,
        )
        last_look = LastLook(
            source,
            self._live,
            state_of=self._planner.state_of,
            send_within=lambda: settings().claim_lease - settings().call_timeout,
            call_timeout=lambda: settings().call_timeout,
        )
        self._dispatcher = Dispatcher(
            slots,
            last_look,
            self._judge,
            should_end=lambda: self._cancelled or bool(stop),
            send_within=lambda: settings().claim_lease - settings().call_timeout,
            call_timeout=lambda: settings().call_timeout,
            sending=self._count_sent,
            settle=self._settler.settle,
        )
        report.before_look = self._report_stores

    @property
    def elsewhere(self) -> frozenset[str]:
        """The images that others had claimed, as far as this run has come."""
        return self._settler.elsewhere

    def cancel(self) -> None:
        """End this run as soon as what is in flight has ended and is recorded."""
        self._cancelled = True
        self._slots.changed.ring()

    def execute(self) -> Report:
        """Run to the end, or until ``stop`` or ``cancel``.

        Whatever goes wrong ends up in the report.
        """
        try:
            self._scrub_all()
        except errors.ScrubberError as error:
            self._fail(str(error))
        except Exception as defect:
            LOG.exception("A defect in scrubber ended this run")
            self._fail(f"a defect in scrubber ended this run: {type(defect).__name__}: {defect}")
        finally:
            self._dispatcher.close()
            self._recorder.close()
            self._let_proofs_end()
        if external := self.report.total.locations[Outcome.EXTERNAL]:
            LOG.warning("There was nothing to delete of %d locations on web servers.", external)
        self._report_stores()
        self.report.cancelled = self._cancelled or bool(self._stop)
        self.report.finish()
        return self.report

    def _patience_at_end(self) -> float:
        """Seconds for the last finishes: a signal leaves no more, and a report is to be made."""
        grace = self._settings().shutdown_timeout
        return max(0.0, 0.8 * grace - self._stop.set_for) if grace else math.inf

    def _let_proofs_end(self) -> None:
        """So that no driver is closed in mid-call; nobody waits long for one that hangs."""
        deadline = time.monotonic() + PROOF_SECONDS
        for state in self._planner.states.values():
            state.wait_for_proof(max(0.0, deadline - time.monotonic()))

    def _scrub_all(self) -> None:
        try:
            if self._leads and self._selection == Selection():
                self._troubles.forget_finished(self._source)
            stores = self._scan(None)
            while stores and not self._dispatcher.ending:
                self._wait_for(stores)
                stores = self._scan(stores)
        finally:
            try:
                self._dispatcher.drain()
            finally:
                self._settle_missing()
                self._troubles.write()

    def _report_stores(self) -> None:
        """Bring up to date what the report says of the stores."""
        self.report.paused_stores = [
            store for store in self._stores.names if self._orders.of(store).paused
        ]
        states = self._planner.states.values()
        self.report.stopped_stores = {at.name: at.stopped for at in states if at.stopped}
        for state in states:
            self.report.paces[state.name] = Pace(
                errors=dict(state.errors),
                limit=state.health.limit.allowed,
                asked_again_in=state.asked_again_in,
            )

    def _scan(self, only: frozenset[str] | None) -> frozenset[str]:
        """Read all candidates once, and start what can be done for them.

        :param only: the stores whose work an earlier scan postponed; None for the first one.
        :return: the stores whose work is postponed: they can take no more now, and what is left
            for others must not wait behind it.
        """
        postponed: set[str] = set()
        stopped = {name for name in only or () if self._planner.states[name].stopped}
        for page in self._due_pages(is_first=only is None):
            self._names.ask()
            if self._dispatcher.ending:
                break
            self._live.load(self._settings().page_size)
            self._start_all(page, only, postponed, stopped)
        return frozenset(postponed)

    def _start_all(
        self,
        page: list[Candidate],
        only: frozenset[str] | None,
        postponed: set[str],
        stopped: set[str],
    ) -> None:
        """Plan and claim as much as is soon done, then as much again, until all is claimed.

        :param postponed: stores are added of which nothing more can be claimed now.
        :param stopped: stores that had stopped before this scan.
        """
        waiting: FairQueue[Candidate] = FairQueue()
        for candidate in page:
            waiting.push(candidate.image.owner, candidate)
        behind = False
        while waiting and not self._dispatcher.ending:
            size, lease = self._settings().page_size, self._settings().claim_lease
            # Behind another scrubber, portion by portion, we would stay behind it to the end.
            portion = len(waiting) if behind else min(len(waiting), self._dispatcher.portion(size))
            some = [waiting.pop() for _ in range(portion)]
            jobs = list(self._claim(self._affordable(some, only, postponed, stopped)))
            behind = not jobs
            for job in jobs:
                self._dispatcher.push(job)
            self._troubles.write()
            self._dispatcher.wait_for_room(size, lease, only)

    def _affordable(
        self,
        candidates: list[Candidate],
        only: frozenset[str] | None,
        postponed: set[str],
        stopped: set[str],
    ) -> list[Plan]:
        """What can be done now for these, as stores and orders are by now."""
        self._troubles.recall(candidates)
        plans = [self._planner.plan(candidate) for candidate in candidates]
        if only is not None:
            plans = [plan for plan in plans if self._is_open(plan)]
        # What is left for a store that stops in mid-scan is reported whole, by the next one.
        proving = [plan.proving_stores for plan in plans]  # also if it has ended in mid-page
        later = (only or frozenset()).union(postponed, *proving) - stopped
        settings = self._settings()
        return self._planner.affordable(
            plans, postponed, later, page_size=settings.page_size, lease=settings.claim_lease
        )

    def _wait_for(self, stores: frozenset[str]) -> None:
        """Until a scan is of use: one of these stores has proved itself or not, and can take more.

        A scan reads the rows of all other stores too.
        """
        proving = [at for name in stores if (at := self._planner.states[name]).proving]
        others = stores - {state.name for state in proving}
        settings = self._settings()
        while not self._dispatcher.ending:
            if not all(state.proving for state in proving):
                return
            if self._dispatcher.has_room(settings.page_size, settings.claim_lease, others):
                return
            self._slots.changed.wait(PROOF_SECONDS)

    def _is_open(self, plan: Plan) -> bool:
        """Whether an earlier scan has not dealt with it: it was postponed, or is new."""
        locations = plan.candidate.locations
        settled = any(at.id in self._settler.tried or self._recorder.holds(at) for at in locations)
        return bool(locations) and not settled

    def _abort(self, failure: Exception) -> None:
        self._dispatcher.abort(failure)

    def _fail(self, message: str) -> None:
        LOG.error(message)
        self.report.failure = message

    # Candidates -----------------------------------------------------------------------

    def _due_pages(self, is_first: bool) -> Iterator[list[Candidate]]:
        for page in self._source.candidates(self._selection, self._settings().page_size):
            ages, now = self._settings().ages, self._source.now()
            ready: list[Candidate] = []
            for candidate in page:
                if (now_due := due(candidate, ages, now)) is not None:
                    ready.append(now_due)
                elif is_first:
                    self.report.wait_until(due_at(candidate, ages))
            if is_first:
                self.report.stages.read.add(page)
                self.report.stages.due.add(ready)
            if ready:
                yield ready
            self._recorder.look_again()

    # Claims ---------------------------------------------------------------------------

    def _claim(self, plans: list[Plan]) -> Iterator[Job]:
        """Jobs for what could be claimed; what cannot be acted on is reported, unclaimed."""
        by_image = {plan.candidate.image.id: plan for plan in plans if plan.actionable}
        for plan in plans:
            if not plan.actionable and self._leads:
                self._settler.report_left(plan)
                if not plan.candidate.locations and plan.whole and not plan.candidate.obstacle:
                    self._settler.finish_image(plan.candidate, frozenset())
        if not by_image:
            return
        claimed = self._source.claim(
            [plan.candidate for plan in by_image.values()], self._settings().claim_lease
        )
        self._settler.count_ours(claimed.candidates)
        self._settler.count_elsewhere(claimed.lost)
        self.report.stages.claimed.add(claimed.candidates)
        if not claimed.candidates:
            pool.sleep(0.01)  # another scrubber is at this page: let it get ahead
            return
        self._recorder.hold(claimed.claim)
        for candidate in claimed.candidates:
            job = self._start(by_image[candidate.image.id], claimed.claim)
            if job.todo:
                yield job

    def _start(self, plan: Plan, claim: Claim) -> Job:
        job = Job(
            plan.candidate,
            claim,
            todo=deque(plan.pieces),
            stores=frozenset(piece.store.name for piece in plan.pieces),
            complete=plan.whole and not plan.left,
        )
        if len(plan.pieces) < len(plan.candidate.locations):
            self._start_without(plan, job)
        return job

    def _start_without(self, plan: Plan, job: Job) -> None:
        """What is not deleted of an image that was claimed whole."""
        self._settler.report_left(plan)
        acted_on = {piece.location.id for piece in plan.pieces}
        for location in plan.candidate.locations:
            if location in plan.external:
                self._settler.finish_external(job, location)
            elif location.id not in acted_on:
                self._recorder.give_back(job.claim, location)
        if job.ended:
            self._settler.end(job)

    # Verdicts -------------------------------------------------------------------------

    def _count_sent(self, jobs: Sequence[Job]) -> None:
        sent = self.report.stages.sent
        sent.locations += len(jobs)
        for job in jobs:
            sent.images += not job.sent
            job.sent = True

    def _settle_missing(self) -> None:
        """At the end: whether stores without proof are believed about what they miss."""
        for state in self._planner.states.values():
            for root, found in state.roots.items():
                verdict = LOST if self._dispatcher.ending else self._judge.missing(state, root)
                for job, piece in found.missing:
                    job.held -= 1
                    self._settler.settle(job, piece, verdict)
                found.missing.clear()

"""One run, stage by stage: candidates, plans, claims, deletes, finish."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from scrubber import errors, pool
from scrubber.dispatch import Dispatcher
from scrubber.health import Healths
from scrubber.live import LiveReferences
from scrubber.model import Candidate, Kind, Location, Outcome, Selection
from scrubber.planning import proof
from scrubber.planning.due import Ages, due, due_at
from scrubber.planning.retry import Patience
from scrubber.recorder import Recorder
from scrubber.reporting.report import Pace, Report, utcnow
from scrubber.sources.base import Claim, Source
from scrubber.state.base import Ledger
from scrubber.stores import base, uri
from scrubber.stores.registry import EXTERNAL, Stores
from scrubber.troubles import Troubles
from scrubber.work import LOST, Job, Piece, StoreState, Verdict

LOG = logging.getLogger(__name__)

#: So long a store may take to prove itself before its work is postponed.
PROOF_SECONDS = 1.0

#: Never reported: such a location is planned anew in the next scan.
PROVING = Verdict(Outcome.WAITING, "its store is proving itself")

#: The store that locations are reported under which no configured store holds.
NO_STORE = "unknown"


@dataclass(frozen=True, slots=True)
class Settings:
    """The options that a run reads while it goes on; see config.py for each."""

    ages: Ages
    claim_lease: float
    call_timeout: float
    page_size: int
    thresholds: proof.Thresholds
    ignore_unreadable_live: bool
    shutdown_timeout: float
    patience: Patience


@dataclass(frozen=True, slots=True)
class Left:
    """A location that this run leaves alone, and why."""

    location: Location
    store: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Plan:
    """What can be done for a candidate: deletes, rows without bytes of ours, and leavings.

    :param whole: whether these are all its locations (a run can be narrowed to some stores).
    """

    candidate: Candidate
    pieces: tuple[Piece, ...]
    external: tuple[Location, ...]
    left: tuple[Left, ...]
    whole: bool

    @property
    def actionable(self) -> bool:
        return bool(self.pieces or self.external)


class Run:
    """From one look at the source to its report.

    :param settings: asked whenever a value is needed, so a reload takes effect in mid-run.
    :param accept_missing: stores that are believed without proof.
    :param healths: what earlier runs have learnt of the stores.
    :param ledger: what they could not delete, and when to try it again.
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
    ) -> None:
        self.report = report
        self._source = source
        self._stores = stores
        self._stop = stop
        self._settings = settings
        self._selection = selection
        self._accept_missing = accept_missing
        self._healths = healths
        self._troubles = Troubles(
            ledger, lambda: settings().patience, utcnow, remembers=not report.rehearsal
        )
        self._states: dict[str, StoreState] = {}
        self._tried: set[int] = set()
        self._live = LiveReferences(
            source,
            stores,
            tolerate=lambda: settings().ignore_unreadable_live,
            call_timeout=lambda: settings().call_timeout,
            ages=lambda: settings().ages,
        )
        self._recorder = Recorder(
            source,
            report,
            lease=lambda: settings().claim_lease,
            # Some of the time that a signal leaves has passed before the last finish.
            patience=lambda: 0.8 * settings().shutdown_timeout,
            on_trouble=self._abort,
        )
        self._dispatcher = Dispatcher(
            slots,
            source,
            self._live,
            stop,
            state_of=self._state_of,
            send_within=lambda: settings().claim_lease - settings().call_timeout,
            call_timeout=lambda: settings().call_timeout,
            settle=self._settle,
        )

    def execute(self) -> Report:
        """Run to the end, or until ``stop``; whatever goes wrong ends up in the report."""
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
        self._report_stores()
        self.report.cancelled = bool(self._stop)
        self.report.finish()
        return self.report

    def _scrub_all(self) -> None:
        try:
            if self._selection == Selection():
                self._troubles.forget_finished(self._source)
            stores = self._scan(None)
            while stores and not self._dispatcher.ending:
                self._wait_for_a_proof(stores)
                stores = self._scan(stores)
        finally:
            try:
                self._dispatcher.drain()
            finally:
                self._settle_missing()
                self._troubles.write()

    def _report_stores(self) -> None:
        for state in self._states.values():
            self.report.paces[state.name] = Pace(
                throttled=state.throttled,
                limit=state.health.limit.allowed,
                asked_again_in=state.asked_again_in,
            )
            if state.stopped:
                self.report.stopped_stores[state.name] = state.stopped

    def _scan(self, only: frozenset[str] | None) -> frozenset[str]:
        """Read all candidates once, and start what can be done for them.

        :param only: the stores whose work an earlier scan postponed; None for the first one.
        :return: the stores whose work is postponed: they can take no more now, and what is left
            for others must not wait behind it.
        """
        postponed: set[str] = set()
        stopped = {name for name in only or () if self._states[name].stopped}
        for page in self._due_pages(is_first=only is None):
            self._live.load(self._settings().page_size)
            self._troubles.recall(page)
            plans = [self._plan(candidate) for candidate in page]
            if only is not None:
                plans = [plan for plan in plans if self._is_open(plan, only)]
            # What is left for a store that stops in mid-scan is reported whole, by the next one.
            proving = map(_proving_stores, plans)  # also if one was done with in mid-page
            later = (only or frozenset()).union(postponed, *proving) - stopped
            for job in self._claim(self._affordable(plans, postponed, later)):
                self._dispatcher.push(job)
            self._troubles.write()
            settings = self._settings()
            self._dispatcher.wait_for_room(settings.page_size, settings.claim_lease, only)
            if self._dispatcher.ending:
                break
        return frozenset(postponed)

    def _wait_for_a_proof(self, stores: frozenset[str]) -> None:
        """Until one of these stores has proved itself or not: before that no scan is of use."""
        states = [self._states[name] for name in stores]
        while all(state.proving for state in states) and not self._dispatcher.ending:
            states[0].wait_for_proof(PROOF_SECONDS)

    def _is_open(self, plan: Plan, postponed: frozenset[str]) -> bool:
        """Whether an earlier scan has not dealt with it: it was postponed, or is new."""
        locations = plan.candidate.locations
        if any(at.id in self._tried or self._recorder.holds(at) for at in locations):
            return False
        waits = self._stopped_stores(plan) & postponed or _proving_stores(plan)
        return bool(plan.pieces or waits)

    def _stopped_stores(self, plan: Plan) -> set[str]:
        """Those that are the reason why locations are left alone."""
        return {
            left.store
            for left in plan.left
            if left.store in self._states
            and left.verdict.reason == self._states[left.store].stopped
        }

    def _affordable(
        self, plans: list[Plan], postponed: set[str], later: frozenset[str]
    ) -> list[Plan]:
        """Without those of stores that can take no more; these are added to ``postponed``.

        :param later: stores of which nothing is reported now if they have stopped.
        """
        settings, now = self._settings(), time.monotonic()
        room = {
            state.name: state.room(settings.page_size, settings.claim_lease) - len(state.queue)
            for state in self._states.values()
            if state.is_held_up(now)
        }
        affordable = []
        for plan in plans:
            stores = {piece.store.name for piece in plan.pieces} & room.keys()
            full = {store for store in stores if room[store] <= 0}
            if full := full | (self._stopped_stores(plan) & later) | _proving_stores(plan):
                postponed |= full
                continue
            for store in stores:
                room[store] -= 1
            affordable.append(plan)
        return affordable

    def _abort(self, failure: Exception) -> None:
        self._dispatcher.abort(failure)

    def _fail(self, message: str) -> None:
        LOG.error(message)
        self.report.failure = message

    # Candidates -----------------------------------------------------------------------

    def _due_pages(self, is_first: bool) -> Iterator[list[Candidate]]:
        for page in self._source.candidates(self._selection, self._settings().page_size):
            ages, now = self._settings().ages, self._source.now()
            ready = []
            for candidate in page:
                if (now_due := due(candidate, ages, now)) is not None:
                    ready.append(now_due)
                elif is_first:
                    self.report.wait_until(due_at(candidate, ages))
            if ready:
                yield ready

    # Plans ----------------------------------------------------------------------------

    def _plan(self, candidate: Candidate) -> Plan:
        pieces: list[Piece] = []
        external: list[Location] = []
        left: list[Left] = []
        whole = True
        for location in candidate.locations:
            part = self._plan_location(candidate, location)
            name = part.store if isinstance(part, Left) else part.store.name
            if self._selection.stores and name not in self._selection.stores:
                whole = False
            elif isinstance(part, Piece):
                pieces.append(part)
            elif part.verdict.outcome is Outcome.EXTERNAL:
                external.append(location)
            else:
                left.append(part)
        if self._selection.stores and not candidate.locations:
            whole = False
        return Plan(candidate, tuple(pieces), tuple(external), tuple(left), whole)

    def _plan_location(self, candidate: Candidate, location: Location) -> Piece | Left:
        """What is to be done with a location, or why nothing can be."""
        named = location.store or NO_STORE
        if candidate.obstacle is not None:
            verdict = Verdict(candidate.obstacle.outcome, candidate.obstacle.reason)
            return Left(location, named, verdict)
        if location.problem is not None:
            return Left(location, named, Verdict(Outcome.REFUSED, location.problem))
        if uri.scheme(location.url) in EXTERNAL:
            return Left(location, named, Verdict(Outcome.EXTERNAL))
        try:
            driver = self._stores.holder(location)
            root, identity = driver.root(location.url), driver.identify(location.url)
        except errors.StoreError as error:
            return Left(location, named, Verdict(Outcome.REFUSED, str(error)))
        # An operator who names an image wants it tried now.
        if not self._selection.images and (why := self._troubles.reason_to_wait(location)):
            return Left(location, driver.store, Verdict(Outcome.WAITING, why))
        state = self._state(driver)
        if state.proving:
            return Left(location, state.name, PROVING)
        if state.stopped:
            return Left(location, state.name, Verdict(Outcome.WAITING, state.stopped))
        return Piece(location, state, root, identity)

    def _state(self, driver: base.Driver) -> StoreState:
        """The store's state in this run; at its first use the store has to prove itself."""
        state = self._states.get(driver.store)
        if state is None:
            accepted = driver.store in self._accept_missing
            state = StoreState(driver, self._healths.of(driver), accepted)
            self._states[driver.store] = state
        if state.wants_proof and not state.rests:
            # In the background: a store that hangs must not hold up the scan for the others.
            canaries, timeout = self._live.canaries(driver), self._settings().call_timeout
            state.prove(canaries, timeout)
            state.wait_for_proof(PROOF_SECONDS)
        elif not state.proving:
            state.leave_alone()
        return state

    def _state_of(self, location: Location) -> StoreState | None:
        """The state of the store that holds it, once that is known; None without such a store."""
        try:
            state = self._state(self._stores.holder(location))
        except errors.StoreError:
            return None
        state.wait_for_proof()
        return state

    # Claims ---------------------------------------------------------------------------

    def _claim(self, plans: list[Plan]) -> Iterator[Job]:
        """Jobs for what could be claimed; what cannot be acted on is reported, unclaimed."""
        by_image = {plan.candidate.image.id: plan for plan in plans if plan.actionable}
        for plan in plans:
            if not plan.actionable:
                self._report_left(plan)
                if not plan.candidate.locations and plan.whole and not plan.candidate.obstacle:
                    self._finish_image(plan.candidate, frozenset())
        if not by_image:
            return
        claimed = self._source.claim(
            [plan.candidate for plan in by_image.values()], self._settings().claim_lease
        )
        self.report.claimed_elsewhere += len(claimed.lost)
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
        self._report_left(plan)
        acted_on = {piece.location.id for piece in plan.pieces}
        for location in plan.candidate.locations:
            if location in plan.external:
                self._finish_external(job, location)
            elif location.id not in acted_on:
                self._recorder.give_back(claim, location)
        if job.ended:
            self._end(job)
        return job

    def _report_left(self, plan: Plan) -> None:
        for left in plan.left:
            outcome, reason = left.verdict.outcome, left.verdict.reason
            assert outcome is not None
            self.report.record(plan.candidate, left.location, left.store, outcome, reason)
            if outcome is Outcome.REFUSED:
                self._troubles.refused(plan.candidate, left.location, left.store, reason)
        if plan.candidate.obstacle and not plan.candidate.locations:
            self.report.leave_image(plan.candidate, NO_STORE)

    def _finish_external(self, job: Job, location: Location) -> None:
        LOG.warning(
            "Location %s of image %s is on a web server: there is nothing to delete.",
            location.id,
            location.image_id,
        )
        store = location.store or NO_STORE
        self.report.record(job.candidate, location, store, Outcome.EXTERNAL)
        self._recorder.finish_location(job.claim, location)

    # Verdicts -------------------------------------------------------------------------

    def _settle(self, job: Job, piece: Piece, verdict: Verdict) -> None:
        """What the dispatcher says of a piece, to the recorder and into the report."""
        if verdict.outcome is None:
            job.held += 1
            return
        self.report.record(
            job.candidate,
            piece.location,
            piece.store.name,
            verdict.outcome,
            verdict.reason,
            verdict.bytes_freed,
        )
        if verdict.outcome is Outcome.LOST and not self._dispatcher.ending:
            self.report.claimed_elsewhere += 1
        if verdict.outcome.done:
            self._troubles.done(piece.location)
            self._recorder.finish_location(job.claim, piece.location)
        else:
            self._remember(job.candidate, piece, verdict)
            job.complete = False
            self._tried.add(piece.location.id)
            self._recorder.give_back(job.claim, piece.location)
        if job.ended:
            self._end(job)

    def _remember(self, candidate: Candidate, piece: Piece, verdict: Verdict) -> None:
        if verdict.outcome is Outcome.REFUSED:
            self._troubles.refused(candidate, piece.location, piece.store.name, verdict.reason)
        elif verdict.attempted:
            self._troubles.failed(candidate, piece.location, piece.store.name, verdict.reason)

    def _settle_missing(self) -> None:
        """At the end: whether stores without proof are believed about what they miss."""
        for state in self._states.values():
            for root, found in state.roots.items():
                verdict = self._verdict_on_missing(state, root)
                for job, piece in found.missing:
                    job.held -= 1
                    self._settle(job, piece, verdict)
                found.missing.clear()

    def _verdict_on_missing(self, state: StoreState, root: str) -> Verdict:
        if self._dispatcher.ending:
            return LOST
        if state.stopped:
            return Verdict(Outcome.WAITING, state.stopped)
        missing, touched = len(state.roots[root].missing), state.roots[root].touched
        holds_something = state.driver.holds_something(root)
        if proof.believes(missing, touched, self._settings().thresholds, holds_something):
            return Verdict(Outcome.GONE)
        return Verdict(
            Outcome.WAITING,
            f"missing in store {state.name}, and too few live images prove that it is the right; "
            f"if it is, run once with --accept-missing {state.name}",
        )

    def _end(self, job: Job) -> None:
        if job.complete:
            self._finish_image(job.candidate, job.stores)

    def _finish_image(self, candidate: Candidate, stores: frozenset[str]) -> None:
        if candidate.kind not in (Kind.DELETED, Kind.HALF_DELETED):
            return  # live, or finished long ago: only its locations were due
        self._recorder.finish_image(candidate)
        self.report.scrubbed(candidate, stores)
        LOG.debug("Image %s is scrubbed.", candidate.image.id)


def _proving_stores(plan: Plan) -> set[str]:
    return {left.store for left in plan.left if left.verdict is PROVING}

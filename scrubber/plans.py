"""What can be done for a candidate, and which stores take part in that now."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from scrubber import errors
from scrubber.health import Healths
from scrubber.live import LiveReferences
from scrubber.model import Candidate, Location, Outcome, Selection
from scrubber.names import Names
from scrubber.orders import Orders
from scrubber.store_state import StoreState
from scrubber.stores import base, uri
from scrubber.stores.registry import EXTERNAL, Stores
from scrubber.troubles import Troubles
from scrubber.work import Piece, Verdict

#: So long a store may take to prove itself before its work is postponed.
PROOF_SECONDS = 1.0

#: Never reported: such a location is planned anew in the next scan.
PROVING = Verdict(Outcome.WAITING, "its store is proving itself")

#: The store that locations are reported under which no configured store holds.
NO_STORE = "unknown"


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

    @property
    def proving_stores(self) -> set[str]:
        """Those that have yet to prove themselves."""
        return {left.store for left in self.left if left.verdict is PROVING} if self.left else set()


class Planner:
    """Makes the plans of one run.

    :param orders: what operators have ordered of the stores.
    :param accept_missing: stores that are believed without proof.
    :param is_ending: whether the run is to end.
    """

    def __init__(
        self,
        stores: Stores,
        live: LiveReferences,
        names: Names,
        troubles: Troubles,
        healths: Healths,
        *,
        orders: Orders,
        selection: Selection,
        accept_missing: frozenset[str],
        is_ending: Callable[[], bool],
        call_timeout: Callable[[], float],
    ) -> None:
        self._stores = stores
        self._live = live
        self._names = names
        self._troubles = troubles
        self._healths = healths
        self._orders = orders
        self._selection = selection
        self._accept_missing = accept_missing
        self._is_ending = is_ending
        self._call_timeout = call_timeout
        #: Of each store that this run has met, by its name.
        self.states: dict[str, StoreState] = {}

    # Plans ----------------------------------------------------------------------------

    def plan(self, candidate: Candidate) -> Plan:
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
            place = driver.where(location.url)
        except errors.StoreError as error:
            return Left(location, named, Verdict(Outcome.REFUSED, str(error)))
        # An operator who names an image wants it tried now.
        if not self._selection.images and (why := self._troubles.reason_to_wait(location)):
            return Left(location, driver.store, Verdict(Outcome.WAITING, why))
        if why := self._live.hindrance(location.url):
            return Left(location, driver.store, Verdict(Outcome.WAITING, why))
        state = self._state(driver)
        if state.proving:
            return Left(location, state.name, PROVING)
        if state.stopped:
            return Left(location, state.name, Verdict(Outcome.WAITING, state.stopped))
        return Piece(location, state, place.root, place.identity)

    # Stores ---------------------------------------------------------------------------

    def state_of(self, location: Location) -> StoreState | None:
        """The state of the store that holds it, once that is known.

        None without such a store.

        :raises Unavailable: the run ends before it has proved itself.
        """
        try:
            state = self._state(self._stores.holder(location))
        except errors.StoreError:
            return None
        while state.proving and not self._is_ending():
            state.wait_for_proof(PROOF_SECONDS)
        if state.proving:
            raise errors.Unavailable(f"the run ends before store {state.name} has proved itself")
        return state

    def _state(self, driver: base.Driver) -> StoreState:
        """The store's state in this run; at its first use the store has to prove itself."""
        state = self.states.get(driver.store)
        if state is None:
            state = self.states[driver.store] = self._new_state(driver)
        state.heed()
        if state.wants_proof and not state.rests:
            # In the background: a store that hangs must not hold up the scan for the others.
            state.prove(self._live.canaries(driver), self._call_timeout())
            state.wait_for_proof(PROOF_SECONDS)
        elif not state.proving:
            state.leave_alone()
        return state

    def _new_state(self, driver: base.Driver) -> StoreState:
        state = StoreState(
            driver,
            self._healths.of(driver, partial(self._orders.of, driver.store)),
            accepted=driver.store in self._accept_missing,
            why_paused=partial(self._orders.why_paused, driver.store),
        )
        if unknown := self._names.unknown(driver):
            state.leave(unknown)
        return state

    def stopped_stores(self, plan: Plan) -> set[str]:
        """Those that are the reason why locations are left alone."""
        return {
            left.store
            for left in plan.left
            if left.store in self.states and left.verdict.reason == self.states[left.store].stopped
        }

    def affordable(
        self,
        plans: list[Plan],
        postponed: set[str],
        later: frozenset[str],
        *,
        page_size: int,
        lease: float,
    ) -> list[Plan]:
        """Without those of stores that can take no more; these are added to ``postponed``.

        :param later: stores of which nothing is reported now if they have stopped.
        """
        now = time.monotonic()
        room = {
            state.name: state.room(page_size, lease) - len(state.queue)
            for state in self.states.values()
            if state.is_held_up(now)
        }
        affordable = []
        for plan in plans:
            if not plan.left and not room:
                affordable.append(plan)  # as nearly all are
                continue
            stores = {piece.store.name for piece in plan.pieces} & room.keys()
            full = {store for store in stores if room[store] <= 0}
            if full := full | (self.stopped_stores(plan) & later) | plan.proving_stores:
                postponed |= full
                continue
            for store in stores:
                room[store] -= 1
            affordable.append(plan)
        return affordable

"""What the stores' names lead to, asked once per run before identities are compared.

Two names may be one directory or one account.  A store that does not say so in time is not
used in this run: what its locations are could change while others are compared with them.
"""

import logging
import time
from collections.abc import Callable

from scrubber import errors, pool
from scrubber.health import Health
from scrubber.stores import base
from scrubber.stores.call import call
from scrubber.stores.registry import Stores

LOG = logging.getLogger(__name__)

#: Between two looks whether the run is to end.
LOOK_SECONDS = 0.5

#: So long one that failed before may take: the other stores wait for it.
SECONDS_AFTER_FAILURE = 1.0


class Names:
    """The stores' names in one run.

    :param is_paused: asked whether operators have paused a store: nobody waits long for it.
    :param is_ending: whether the run is to end.
    :param call_timeout: seconds that a store may take to answer.
    """

    def __init__(
        self,
        stores: Stores,
        health_of: Callable[[base.Driver], Health],
        is_paused: Callable[[str], bool],
        is_ending: Callable[[], bool],
        call_timeout: Callable[[], float],
    ) -> None:
        self._stores = stores
        self._health_of = health_of
        self._is_paused = is_paused
        self._is_ending = is_ending
        self._call_timeout = call_timeout
        self._unknown: dict[str, str] = {}
        self._asked = False

    def ask(self) -> None:
        """Ask all stores at once, the first time it is called."""
        if self._asked:
            return
        self._asked = True
        started, tasks = time.monotonic(), {}
        for driver in self._stores.drivers.values():
            if (reason := self._reason_not_to_ask(driver)) is None:
                tasks[driver] = (self._patience(driver), pool.Task(self._resolve, driver))
            elif not self._health_of(driver).named:
                self._unknown[driver.store] = reason
        for driver, (patience, task) in tasks.items():
            # Should it answer later, then with names that nothing was compared with.
            if not self._joins(task, started + patience):
                self._give_up(driver, f"no answer within {patience:g} s")

    def _joins(self, task: pool.Task, deadline: float) -> bool:
        """Whether it ends in time; nobody waits for it once the run is to end."""
        while True:
            left = deadline - time.monotonic()
            try:
                pool.within(max(0.0, min(left, LOOK_SECONDS)), task.join)
            except TimeoutError:
                if left <= LOOK_SECONDS or self._is_ending():
                    return False
            else:
                return True

    def unknown(self, driver: base.Driver) -> str | None:
        """Why nobody knows what its names lead to in this run; None if that is known."""
        return self._unknown.get(driver.store)

    def _reason_not_to_ask(self, driver: base.Driver) -> str | None:
        """Where there is one, its names are those of an earlier run, or unknown."""
        health = self._health_of(driver)
        return None if health.may_be_asked else health.circuit.reason

    def _patience(self, driver: base.Driver) -> float:
        # A paused one is asked as well: its live images may be another store's pending ones.
        idle = self._is_paused(driver.store) or self._health_of(driver).circuit.reason is not None
        # The call itself has the time-out that a healthy store is given.
        return SECONDS_AFTER_FAILURE if idle else self._call_timeout() + SECONDS_AFTER_FAILURE

    def _resolve(self, driver: base.Driver) -> None:
        health = self._health_of(driver)
        health.named = False
        try:
            call(driver, driver.resolve, timeout=self._call_timeout())
        except errors.Unavailable as unavailable:
            self._give_up(driver, str(unavailable))
            return
        except Exception as error:
            LOG.exception("The driver of store %s failed", driver.store)
            self._give_up(driver, f"defect in the driver: {type(error).__name__}")
            return
        health.named = True
        if driver.store in self._unknown:
            # Late: the next run gives it all the time it needs.
            health.circuit = health.circuit.probed()

    def _give_up(self, driver: base.Driver, reason: str) -> None:
        if driver.store not in self._unknown:
            self._unknown[driver.store] = reason
            # Whom nobody gave the time to answer has not failed.
            if not self._is_paused(driver.store) and not self._is_ending():
                self._health_of(driver).broke(reason)

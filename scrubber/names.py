"""What the stores' names lead to, asked once per run before identities are compared.

Two names may be one directory or one account.  A store that does not say so in time is not
used in this run: what its locations are could change while others are compared with them.
"""

import time
from collections.abc import Callable

from scrubber import errors, pool
from scrubber.health import Health
from scrubber.stores import base
from scrubber.stores.call import call
from scrubber.stores.registry import Stores

#: So long one that failed before may take: the other stores wait for it.
SECONDS_AFTER_FAILURE = 1.0


class Names:
    """The stores' names in one run.

    :param why_paused: asked whether operators have paused a store, and what to say of that.
    :param call_timeout: seconds that a store may take to answer.
    """

    def __init__(
        self,
        stores: Stores,
        health_of: Callable[[base.Driver], Health],
        why_paused: Callable[[str], str | None],
        call_timeout: Callable[[], float],
    ) -> None:
        self._stores = stores
        self._health_of = health_of
        self._why_paused = why_paused
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
            left = started + patience - time.monotonic()
            try:
                pool.within(max(0.0, left), task.join)
            except TimeoutError:
                # Should it answer yet, then with names that nothing was compared with.
                self._give_up(driver, f"no answer within {patience:g} s")

    def unknown(self, driver: base.Driver) -> str | None:
        """Why nobody knows what its names lead to in this run; None if that is known."""
        return self._unknown.get(driver.store)

    def _reason_not_to_ask(self, driver: base.Driver) -> str | None:
        """Where there is one, its names are those of an earlier run, or unknown."""
        if reason := self._why_paused(driver.store):
            return reason
        health = self._health_of(driver)
        return None if health.may_be_asked else health.circuit.reason

    def _patience(self, driver: base.Driver) -> float:
        failed = self._health_of(driver).circuit.reason is not None
        # The call itself has the time-out that a healthy store is given.
        return SECONDS_AFTER_FAILURE if failed else self._call_timeout() + SECONDS_AFTER_FAILURE

    def _resolve(self, driver: base.Driver) -> None:
        health = self._health_of(driver)
        health.named = False
        try:
            call(driver, driver.resolve, timeout=self._call_timeout())
        except errors.Unavailable as unavailable:
            self._give_up(driver, str(unavailable))
            return
        health.named = True
        if driver.store in self._unknown:
            # Late: the next run gives it all the time it needs.
            health.circuit = health.circuit.probed()

    def _give_up(self, driver: base.Driver, reason: str) -> None:
        if driver.store not in self._unknown:
            self._unknown[driver.store] = reason
            self._health_of(driver).broke(reason)

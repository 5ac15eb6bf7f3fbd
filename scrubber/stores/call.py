"""How a store is called: in a native thread where that blocks, with patience that ends."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from scrubber import errors, pool
from scrubber.stores import base

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class _Call:
    """A store call that may outlive the patience for it.

    :param earlier: one that hung already when this one was given up.
    """

    method: Callable[..., Any]
    arguments: tuple[object, ...]
    done: bool = False
    earlier: base.Hanging | None = None

    def __call__(self) -> Any:
        try:
            return self.method(*self.arguments)
        finally:
            self.done = True

    @property
    def ended(self) -> bool:
        """Whether it and all earlier ones have."""
        return self.done and (self.earlier is None or self.earlier.ended)


def call(
    driver: base.Driver, method: Callable[..., T], *args: object, timeout: float | None = None
) -> T:
    """A store call, in a native thread where it blocks.

    :param timeout: seconds; None waits for the end: a delete that was sent is not forgotten.
    :raises Unanswered: no answer in time.
    :raises Unavailable: none yet to an earlier call, which still holds a thread.
    """
    if _hanging(driver) is not None:
        raise errors.Unavailable("an earlier call to it hangs")
    return _call(driver, method, args, timeout)


def call_anyway(driver: base.Driver, method: Callable[..., T], *args: object, timeout: float) -> T:
    """Likewise, for what the driver mostly knows by itself: also while calls of other sorts hang.

    :raises Unavailable: this one, or an earlier one of the same sort, hangs too.
    """
    hanging = _hanging(driver)
    while isinstance(hanging, _Call):
        if not hanging.done and hanging.method == method:
            raise errors.Unavailable("an earlier call to it hangs")
        hanging = hanging.earlier
    return _call(driver, method, args, timeout)


def _call(
    driver: base.Driver, method: Callable[..., T], args: tuple[object, ...], timeout: float | None
) -> T:
    this = _Call(method, args)
    run: Callable[[], T] = partial(pool.blocking, this) if driver.abilities.blocks else this
    if timeout is None:
        return run()
    try:
        return pool.within(timeout, run)
    except TimeoutError as late:
        this.earlier = _hanging(driver)
        driver.hanging = this
        raise errors.Unanswered(str(late)) from None


def _hanging(driver: base.Driver) -> base.Hanging | None:
    """The last call that nobody waits for any more, as long as one of them has not ended."""
    return None if driver.hanging is None or driver.hanging.ended else driver.hanging

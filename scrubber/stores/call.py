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
    """A store call that may outlive the patience for it."""

    method: Callable[..., Any]
    arguments: tuple[object, ...]
    ended: bool = False

    def __call__(self) -> Any:
        try:
            return self.method(*self.arguments)
        finally:
            self.ended = True


def call(
    driver: base.Driver, method: Callable[..., T], *args: object, timeout: float | None = None
) -> T:
    """A store call, in a native thread where it blocks.

    :param timeout: seconds; None waits for the end: a delete that was sent is not forgotten.
    :raises Unavailable: no answer in time; or to an earlier call, which still holds a thread.
    """
    if driver.hanging is not None and not driver.hanging.ended:
        raise errors.Unavailable("an earlier call to it hangs")
    this = _Call(method, args)
    run: Callable[[], T] = partial(pool.blocking, this) if driver.abilities.blocks else this
    if timeout is None:
        return run()
    try:
        return pool.within(timeout, run)
    except TimeoutError as late:
        driver.hanging = this
        raise errors.Unavailable(str(late)) from None

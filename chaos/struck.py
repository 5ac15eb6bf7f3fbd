"""scrubber that sends itself a signal at one point: ``struck.py POINT MOMENT NUMBER SIGNAL …``.

What follows are the arguments of scrubber, which knows nothing of this: its methods are
wrapped from outside before it starts.  The signal comes at the NUMBER-th call.
"""

import contextvars
import functools
import itertools
import signal
import sys
from collections.abc import Callable
from typing import Any

#: One call with an effect: on claims, stores, rows or what is remembered.
POINTS = ("claim", "renew", "release", "delete", "finish", "ledger", "report")

#: Those in Glance's database.
IN_DATABASE = ("claim", "renew", "release", "finish")

#: ``amid`` is after all statements and before their commit; of a batch of deletes, between two.
MOMENTS = ("before", "amid", "after")

#: Between the last question whether a location may go, and its delete: no program can close it.
GAP = "in the gap of"


class Strike:
    """The one call at which it happens."""

    def __init__(self, moment: str, number: int, sign: signal.Signals) -> None:
        self._moment = moment
        self._number = number
        self._signal = sign
        self._calls = itertools.count(1)
        # Green threads have one each: what another one does meanwhile is not meant.
        self._inside = contextvars.ContextVar("inside", default=False)

    def at(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The call, with the signal before or after it."""

        @functools.wraps(call)
        def wrapped(*arguments: Any, **named: Any) -> Any:
            chosen = next(self._calls) == self._number
            if chosen:
                self.strike("before")
            token = self._inside.set(chosen)
            try:
                return call(*arguments, **named)
            finally:
                self._inside.reset(token)
                if chosen:
                    self.strike("after")

        return wrapped

    def in_transaction(self, write: Callable[..., Any]) -> Callable[..., Any]:
        """``sql.Database.write``, with the signal before the commit."""

        @functools.wraps(write)
        def wrapped(database: Any, work: Callable[..., Any]) -> Any:
            if not self._inside.get():
                return write(database, work)

            def then_strike(connection: Any) -> Any:
                result = work(connection)
                self.strike("amid")
                return result

            return write(database, then_strike)

        return wrapped

    def in_batch(self, delete: Callable[..., Any]) -> Callable[..., Any]:
        """A driver's ``delete``, with the signal before its second location, or its only one."""

        @functools.wraps(delete)
        def wrapped(targets: Any, proceed: Callable[[], bool]) -> Any:
            chosen = self._inside.get()
            asked = itertools.count(1)

            def strike_first() -> bool:
                second = chosen and next(asked) == min(2, len(targets))
                if second:
                    self.strike("amid")
                may_go = proceed()
                if second and may_go:
                    self.strike(GAP)
                return may_go

            return delete(targets, strike_first)

        return wrapped

    def strike(self, moment: str) -> None:
        if moment == self._moment:
            self._moment = ""
            # To this very thread: it is not to get one step further.
            signal.raise_signal(self._signal)


def wrap(point: str, strike: Strike) -> None:
    from scrubber import sql
    from scrubber.sources.database import DatabaseSource
    from scrubber.state.activity import Activity
    from scrubber.state.ledger import SqlLedger
    from scrubber.stores import registry

    if point == "delete":
        registry.build = functools.partial(_build, registry.build, strike)
        return
    owners: dict[str, tuple[type, str]] = {
        **{name: (DatabaseSource, name) for name in IN_DATABASE},
        "ledger": (SqlLedger, "record"),
        "report": (Activity, "save_run"),
    }
    owner, name = owners[point]
    setattr(owner, name, strike.at(getattr(owner, name)))
    sql.Database.write = strike.in_transaction(sql.Database.write)  # type: ignore[method-assign]


def _build(build: Callable[..., Any], strike: Strike, conf: Any) -> Any:
    stores = build(conf)
    for driver in stores.drivers.values():
        driver.delete = strike.at(strike.in_batch(driver.delete))
    return stores


def main() -> int:
    point, moment, number, name, *arguments = sys.argv[1:]
    from scrubber import __main__ as program
    from scrubber import pool

    pool.patch()
    wrap(point, Strike(moment, int(number), signal.Signals[name]))
    sys.argv = ["scrubber", *arguments]
    return program.main()


if __name__ == "__main__":
    sys.exit(main())

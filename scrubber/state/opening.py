"""The state database for a process: if it can be used; else it goes on without."""

import datetime
import logging
import time
from collections.abc import Callable, Collection, Iterator
from typing import Generic, Protocol, TypeVar

from oslo_config import cfg

from scrubber import errors, pool
from scrubber.options import STATE_SECTION
from scrubber.state.base import Entry, Key, Ledger
from scrubber.state.database import StateDatabase

LOG = logging.getLogger(__name__)


class _Closable(Protocol):
    def close(self) -> None: ...


T = TypeVar("T")
C = TypeVar("C", bound=_Closable)


def open_state(
    conf: cfg.ConfigOpts, stop: pool.Flag, *, create: bool = True
) -> "Reopening[StateDatabase]":
    """The state database of section [state].

    :param create: make the database if it is not there; a dry run does not.
    :raises ConfigError: the URL cannot be used.
    :raises StateUnavailable: the database cannot be used, and it is required.
    """
    options = conf[STATE_SECTION]
    connection: str = options.connection
    where = f"option connection in section [{STATE_SECTION}] is empty"
    if not connection and options.required:
        raise errors.ConfigError(f"{where}, and the state database is required")

    def open_() -> StateDatabase:
        if not connection:
            raise errors.StateMissing(f"{where}: nothing is remembered")
        return StateDatabase(connection, stop, create=create)

    required = options.required and create
    return Reopening(open_, required=required, is_configured=bool(connection))


class Reopening(Generic[C]):
    """What is opened again after a failure; meanwhile every question has its other answer.

    Each reason is said once, and that it works again.

    :param required: failures are raised instead, and the next question opens again.
    """

    #: Seconds for which a database that failed is left alone.
    pause = 60.0

    def __init__(
        self,
        open_: Callable[[], C],
        *,
        required: bool,
        is_configured: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open = open_
        self._is_configured = is_configured
        self._required = required
        self._clock = clock
        self._opened: C | None = None
        self._not_before = clock()
        self._reason: str | None = None
        self._warned = False
        self.ask(lambda _opened: None, None)

    @property
    def is_configured(self) -> bool:
        """Whether there is to be one at all."""
        return self._is_configured

    @property
    def problem(self) -> str | None:
        """Why it cannot be used, as of the last question."""
        return self._reason

    def ask(self, question: Callable[[C], T], otherwise: T) -> T:
        """The answer, or ``otherwise`` while it cannot be used."""
        if not self._opened and not self._required and self._clock() < self._not_before:
            return otherwise
        # Before it is opened: another green thread may come by meanwhile.
        self._not_before = self._clock() + self.pause
        try:
            opened = self._opened = self._opened or self._open()
            answer = question(opened)
        except errors.StateUnavailable as problem:
            self._lose()
            if self._required:
                raise
            self._say_why(problem)
            return otherwise
        self._found()
        return answer

    def close(self) -> None:
        if self._opened:
            self._opened.close()

    def _lose(self) -> None:
        self.close()
        self._opened = None
        self._not_before = self._clock() + self.pause

    def _say_why(self, problem: errors.StateUnavailable) -> None:
        is_new, self._reason = str(problem) != self._reason, str(problem)
        # A dry run before the first run misses nothing.
        if is_new and not isinstance(problem, errors.StateMissing):
            self._warned = True
            LOG.warning(
                "Scrubbing goes on without a memory of what failed: %s (section [%s])",
                problem,
                STATE_SECTION,
            )

    def _found(self) -> None:
        if self._warned:
            LOG.info("The state database can be used again")
        self._reason, self._warned = None, False


class ReopeningLedger(Generic[C]):
    """The ledger in a database that may come and go; without it nothing is remembered."""

    def __init__(self, state: Reopening[C], ledger_of: Callable[[C], Ledger]) -> None:
        self._state = state
        self._ledger_of = ledger_of

    def of(self, keys: Collection[Key]) -> dict[int, Entry]:
        return self._state.ask(lambda state: self._ledger_of(state).of(keys), {})

    def record(self, entries: Collection[Entry]) -> None:
        self._state.ask(lambda state: self._ledger_of(state).record(entries), None)

    def forget(self, keys: Collection[Key]) -> None:
        self._state.ask(lambda state: self._ledger_of(state).forget(keys), None)

    def entries(self, store: str | None = None, image: str | None = None) -> Iterator[Entry]:
        none: list[Entry] = []
        return iter(
            self._state.ask(lambda state: list(self._ledger_of(state).entries(store, image)), none)
        )

    def retry(
        self, now: datetime.datetime, image: str | None = None, store: str | None = None
    ) -> int:
        return self._state.ask(lambda state: self._ledger_of(state).retry(now, image, store), 0)

    def close(self) -> None:
        self._state.close()

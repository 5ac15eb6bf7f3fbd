"""A ledger for a run: with the state database if it can be used, else without."""

import datetime
import logging
import time
from collections.abc import Callable, Collection, Iterator
from typing import TypeVar

from oslo_config import cfg

from scrubber import config, errors, pool
from scrubber.state.base import Entry, Key, Ledger, NoLedger
from scrubber.state.ledger import SqlLedger

LOG = logging.getLogger(__name__)
T = TypeVar("T")


def open_ledger(conf: cfg.ConfigOpts, stop: pool.Flag, *, create: bool = True) -> Ledger:
    """The ledger of section [state].

    :param create: make the database if it is not there; a dry run does not.
    :raises ConfigError: the URL cannot be used.
    :raises StateUnavailable: the database cannot be used, and it is required.
    """
    options = conf[config.STATE_SECTION]
    connection: str = options.connection
    if not connection:
        if options.required:
            raise errors.ConfigError(
                f"option connection in section [{config.STATE_SECTION}] is empty, and the state "
                "database is required"
            )
        return NoLedger()
    return ReopeningLedger(
        lambda: SqlLedger(connection, stop, create=create), required=options.required and create
    )


class ReopeningLedger:
    """Another ledger, opened again after a failure; meanwhile it remembers nothing.

    Each reason is said once, and that it works again.

    :param required: failures are raised instead, and the next call opens again.
    """

    #: Seconds for which a database that failed is left alone.
    pause = 60.0

    def __init__(
        self,
        open_: Callable[[], Ledger],
        *,
        required: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open = open_
        self._required = required
        self._clock = clock
        self._ledger: Ledger | None = None
        self._not_before = clock()
        self._reason: str | None = None
        self._ask(lambda _ledger: None, None)

    def of(self, keys: Collection[Key]) -> dict[int, Entry]:
        return self._ask(lambda ledger: ledger.of(keys), {})

    def record(self, entries: Collection[Entry]) -> None:
        self._ask(lambda ledger: ledger.record(entries), None)

    def forget(self, keys: Collection[Key]) -> None:
        self._ask(lambda ledger: ledger.forget(keys), None)

    def entries(self, store: str | None = None, image: str | None = None) -> Iterator[Entry]:
        none: list[Entry] = []
        return iter(self._ask(lambda ledger: list(ledger.entries(store, image)), none))

    def retry(
        self, now: datetime.datetime, image: str | None = None, store: str | None = None
    ) -> int:
        return self._ask(lambda ledger: ledger.retry(now, image, store), 0)

    def close(self) -> None:
        if self._ledger:
            self._ledger.close()

    def _ask(self, question: Callable[[Ledger], T], otherwise: T) -> T:
        if not self._ledger and not self._required and self._clock() < self._not_before:
            return otherwise
        # Before it is opened: another green thread may come by meanwhile.
        self._not_before = self._clock() + self.pause
        try:
            ledger = self._ledger = self._ledger or self._open()
            answer = question(ledger)
        except errors.StateUnavailable as problem:
            self._lose()
            if self._required:
                raise
            self._say_why(problem)
            return otherwise
        self._found()
        return answer

    def _lose(self) -> None:
        self.close()
        self._ledger = None
        self._not_before = self._clock() + self.pause

    def _say_why(self, problem: errors.StateUnavailable) -> None:
        # A dry run before the first run misses nothing.
        if str(problem) != self._reason and not isinstance(problem, errors.StateMissing):
            LOG.warning(
                "Scrubbing goes on without a memory of what failed: %s (section [%s])",
                problem,
                config.STATE_SECTION,
            )
            self._reason = str(problem)

    def _found(self) -> None:
        if self._reason is not None:
            LOG.info("The state database can be used again")
            self._reason = None

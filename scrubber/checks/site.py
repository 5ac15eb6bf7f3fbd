"""What the checks look at."""

import contextlib
from collections.abc import Collection
from functools import cached_property

from oslo_config import cfg

from scrubber import errors, pool
from scrubber.canaries import Canaries
from scrubber.model import Image
from scrubber.options import PROJECT
from scrubber.sources.base import Source
from scrubber.sources.database import DatabaseSource
from scrubber.sources.engine import Engine
from scrubber.stores.call import call
from scrubber.stores.registry import Built, Stores, build_each

_ROWS_SECONDS = 10.0

#: So long a driver may take to give back its connections.
_CLOSE_SECONDS = 2.0


class Site:
    """What is checked: a configuration, its database and its stores; ``close`` it.

    :param usable: the names of the checks so far that found no failure.
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self.conf = conf
        self.usable: set[str] = set()
        self.impatient = pool.Flag()
        self.impatient.set()  # somebody waits: a server that is down is said at once

    @property
    def timeout(self) -> float:
        """call_timeout, in seconds: the patience for one call to a store or a database."""
        return float(self.conf[PROJECT].call_timeout)

    @property
    def patience_for_rows(self) -> float:
        """Seconds in which rows are read; a larger cloud is judged by what was read until then."""
        return min(_ROWS_SECONDS, self.timeout / 2)

    @property
    def lease(self) -> float:
        """claim_lease, in seconds."""
        return float(self.conf[PROJECT].claim_lease)

    @cached_property
    def engine(self) -> Engine:
        """Glance's database.

        :raises ConfigError: option connection cannot be used.
        """
        return Engine(self.conf.database, self.impatient)

    @cached_property
    def source(self) -> Source:
        """The same, as a run reads it."""
        return DatabaseSource(self.engine, self.conf.metadata_encryption_key)

    @cached_property
    def built(self) -> list[Built]:
        """Every configured store; the options of their sections are known from now on."""
        return list(build_each(self.conf))

    @cached_property
    def stores(self) -> Stores:
        return Stores(
            [built.driver for built in self.built if built.driver],
            {built.store: built.problem for built in self.built if not built.driver},
        )

    @cached_property
    def canaries(self) -> Canaries:
        """Live images to prove the stores by, as far as they have been read."""
        return Canaries(self.stores, self._images)

    def _images(self, ids: Collection[str]) -> dict[str, Image]:
        return self.source.images(ids)  # opened not before somebody asks

    def close(self) -> None:
        """Give back connections, those apart of a store that hangs: they end with the process."""
        made = self.__dict__  # what nobody asked for is not made now
        if "engine" in made:
            self.engine.close()
        for driver in self.stores.drivers.values() if "stores" in made else ():
            with contextlib.suppress(errors.Unavailable):
                call(driver, driver.close, timeout=_CLOSE_SECONDS)

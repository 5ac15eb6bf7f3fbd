"""Builds the drivers of the stores that the configuration names, and finds them for a URL."""

from collections.abc import Callable, Iterable
from typing import Any

import stevedore.exception
from oslo_config import cfg
from stevedore.driver import DriverManager
from stevedore.extension import ExtensionManager

from scrubber import errors
from scrubber.config import STORE_SECTION, check_section
from scrubber.model import Location
from scrubber.stores import base, uri

NAMESPACE = "scrubber.stores"

#: Glance only reads from these; there is nothing of ours to delete.
EXTERNAL = frozenset({"http", "https"})


class Stores:
    """The configured stores.

    :param drivers: one for each store that scrubber can delete from.
    :param undriven: the type of each store that it cannot, by store id.
    """

    def __init__(self, drivers: Iterable[base.Driver], undriven: dict[str, str]) -> None:
        self.drivers = {driver.store: driver for driver in drivers}
        self._undriven = undriven

    def holder(self, location: Location) -> base.Driver:
        """The driver of the store that holds this location.

        A row without a store (an old one), or with a store id that no longer exists (renamed),
        belongs to the only configured store that could have written such a URL.

        :raises Unsupported: the store has no driver here.
        :raises Refused: no store, or more than one, could hold it; or not the one it names.
        """
        if location.store in self.drivers:
            return self.drivers[location.store]
        if location.store in self._undriven:
            raise errors.Unsupported(
                f"store {location.store} is of type {self._undriven[location.store]}, "
                "for which this scrubber has no driver"
            )
        named = f"store {location.store} is not configured" if location.store else "names no store"
        holders = self._could_hold(location.url)
        if len(holders) == 1:
            return holders[0]
        several = "several stores" if holders else "no configured store"
        raise errors.Refused(f"{named}, and {several} could hold such a URL")

    def _could_hold(self, url: str) -> list[base.Driver]:
        scheme = uri.scheme(url)
        holders = []
        for driver in self.drivers.values():
            if scheme in driver.abilities.schemes:
                try:
                    driver.identify(url)
                except errors.Refused:
                    continue
                holders.append(driver)
        return holders

    @property
    def names(self) -> list[str]:
        """Every configured store, with or without a driver."""
        return sorted([*self.drivers, *self._undriven])

    def knows(self, name: str) -> bool:
        return name in self.drivers or name in self._undriven

    def replaced_by(self, twin: Callable[[base.Driver], base.Driver]) -> "Stores":
        """The same stores with another driver in the place of each."""
        return Stores(map(twin, self.drivers.values()), self._undriven)

    def readers(self, locations: Iterable[Location]) -> dict[base.Driver, list[Location]]:
        """Who can say what these URLs stand for: the store's own driver, else one of each family.

        Its own driver knows the names of its roots, and so does not ask a file system that hangs.
        """
        families: dict[str, base.Driver] = {}
        for driver in self.drivers.values():
            families.setdefault(driver.family, driver)
        readers: dict[base.Driver, list[Location]] = {}
        for location in locations:
            scheme = uri.scheme(location.url)
            own = self.drivers.get(location.store or "")
            for family, first in families.items():
                if scheme in first.abilities.schemes:
                    reader = own if own is not None and own.family == family else first
                    readers.setdefault(reader, []).append(location)
        return readers

    def close(self) -> None:
        for driver in self.drivers.values():
            driver.close()


def build(conf: cfg.ConfigOpts) -> Stores:
    """The stores of ``enabled_backends``, or those of [glance_store] in single-store mode.

    :raises ConfigError: a store's section cannot be used.
    """
    drivers: list[base.Driver] = []
    undriven: dict[str, str] = {}
    for store, (kind, section) in _configured(conf).items():
        if kind in EXTERNAL:
            continue
        driver = _driver_class(kind)
        if driver is None:
            undriven[store] = kind
            continue
        conf.register_opts(driver.options(), group=section)
        check_section(conf, section)
        drivers.append(driver(store, section, conf[section]))  # type: ignore[call-arg]
    if not drivers and not undriven:
        raise errors.ConfigError(
            "no store is configured: copy enabled_backends and the stores' sections, or "
            "[glance_store], from glance-api.conf"
        )
    return Stores(drivers, undriven)


def _configured(conf: cfg.ConfigOpts) -> dict[str, tuple[str, str]]:
    """Type and section of each store, by store id."""
    if conf.enabled_backends:
        return {store: (kind, store) for store, kind in conf.enabled_backends.items()}
    kinds = conf[STORE_SECTION].stores
    return {_short(kind): (_short(kind), STORE_SECTION) for kind in kinds}


def _short(kind: str) -> str:
    """``file`` for every name the file store has had; old files name classes."""
    return "file" if "filesystem" in kind else kind.removesuffix(".Store").rpartition(".")[2]


def _driver_class(kind: str) -> type[base.Driver] | None:
    try:
        found: Any = DriverManager(NAMESPACE, kind).driver
    except stevedore.exception.NoMatches:
        return None
    driver: type[base.Driver] = found
    return driver


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """For oslo-config-generator: what each driver reads in its store's own section."""
    drivers: Any = ExtensionManager(NAMESPACE, invoke_on_load=False)
    return [
        (f"your_{extension.name}_store", extension.plugin.options())
        for extension in sorted(drivers, key=lambda extension: extension.name)
    ]

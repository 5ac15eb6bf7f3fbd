"""Builds the drivers of the stores that the configuration names, and finds them for a URL."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import stevedore.exception
from oslo_config import cfg
from stevedore.driver import DriverManager
from stevedore.extension import ExtensionManager

from scrubber import errors
from scrubber.config import check_section
from scrubber.model import Location
from scrubber.options import GLANCE_API, PROJECT, STORE_SECTION
from scrubber.stores import base, uri

LOG = logging.getLogger(__name__)

NAMESPACE = "scrubber.stores"

#: As in glance_store.
DEFAULTS_SECTION = "backend_defaults"

#: Glance only reads from these; there is nothing of ours to delete.
EXTERNAL = frozenset({"http", "https"})


class Stores:
    """The configured stores.

    :param drivers: one for each store that scrubber can delete from.
    :param undriven: why it cannot from the others, by store id.
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
            raise errors.Unsupported(f"store {location.store}: {self._undriven[location.store]}")
        named = f"store {location.store} is not configured" if location.store else "names no store"
        holders = self._could_hold(location.url)
        if len(holders) == 1:
            return holders[0]
        several = "several stores" if holders else "no configured store"
        raise errors.Refused(f"{named}, and {several} could hold such a URL")

    def _could_hold(self, url: str) -> list[base.Driver]:
        return [driver for driver in self.drivers.values() if _holds(driver, url)]

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

        Glance reads a location through the store that its row names, and so from there only:
        the same URL in another store, with another endpoint, is another object.  A URL that is
        none of the store's own may lead anywhere.
        """
        families: dict[str, base.Driver] = {}
        for driver in self.drivers.values():
            families.setdefault(driver.family, driver)
        readers: dict[base.Driver, list[Location]] = {}
        for location in locations:
            own = self.drivers.get(location.store or "")
            if own is not None and _holds(own, location.url):
                readers.setdefault(own, []).append(location)
                continue
            scheme = uri.scheme(location.url)
            for first in families.values():
                if scheme in first.abilities.schemes:
                    readers.setdefault(first, []).append(location)
        return readers

    def others(self, locations: Iterable[Location]) -> dict[base.Driver, list[Location]]:
        """Who else knows the URLs that a store's own driver reads: one of each other family.

        To them it is another server's object, unless two names are one server.
        """
        families: dict[str, base.Driver] = {}
        for driver in self.drivers.values():
            families.setdefault(driver.family, driver)
        others: dict[base.Driver, list[Location]] = {}
        if len(families) == 1:
            return others
        for location in locations:
            own = self.drivers.get(location.store or "")
            if own is None or not _holds(own, location.url):
                continue  # everybody was asked
            scheme = uri.scheme(location.url)
            for family, first in families.items():
                if family != own.family and scheme in first.abilities.schemes:
                    others.setdefault(first, []).append(location)
        return others

    @cached_property
    def ambiguous_schemes(self) -> frozenset[str]:
        """Those of which a URL is one object to one family of stores, another one to another."""
        families = {driver.family: driver.abilities.schemes for driver in self.drivers.values()}
        known = Counter(chain.from_iterable(families.values()))
        return frozenset(scheme for scheme, count in known.items() if count > 1)

    def close(self) -> None:
        for driver in self.drivers.values():
            driver.close()


def _holds(driver: base.Driver, url: str) -> bool:
    """Whether it is a URL of this store's own objects."""
    if uri.scheme(url) not in driver.abilities.schemes:
        return False
    try:
        driver.identify(url)
    except errors.Refused:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Built:
    """What became of a configured store.

    :param driver: None if scrubber cannot delete from it.
    :param problem: why not.
    :param needed: whether Glance certainly uses it, so that nothing may be done without it.
    """

    store: str
    driver: base.Driver | None
    problem: str = ""
    needed: bool = False


def build(conf: cfg.ConfigOpts) -> Stores:
    """The stores of ``enabled_backends``, or those of [glance_store] in single-store mode.

    :raises ConfigError: a store's section cannot be used.
    """
    if conf[PROJECT].source == GLANCE_API:
        behind: Stores = _behind_glance().build(conf)
        return behind
    drivers: list[base.Driver] = []
    undriven: dict[str, str] = {}
    for built in build_each(conf):
        if built.driver is not None:
            drivers.append(built.driver)
        elif built.needed:
            raise errors.ConfigError(built.problem)
        else:
            undriven[built.store] = built.problem
    for store, reason in undriven.items():
        LOG.warning("Nothing is deleted from store %s: %s", store, reason)
    if not drivers and not undriven:
        raise errors.ConfigError(
            "no store is configured: copy enabled_backends and the stores' sections, or "
            "[glance_store], from glance-api.conf"
        )
    return Stores(drivers, undriven)


def build_each(conf: cfg.ConfigOpts) -> Iterator[Built]:
    """Each store that may hold something of ours, with its driver or why it has none."""
    for store, driver, section in _declared(conf):
        if driver is None:
            reason = (
                f"this scrubber has no driver for type {section.kind}; scrubber[cinder] and "
                "scrubber[vmware] bring more"
            )
            yield Built(store, None, reason)
            continue
        try:
            _check_section(conf, section, driver)
            built = Built(store, driver(section))
        except errors.ConfigError as wrong:
            # Old files list stores that nobody uses.
            built = Built(store, None, str(wrong), needed=_is_needed(conf, store))
        yield built


def names(conf: cfg.ConfigOpts) -> list[str]:
    """The stores that may hold something of ours, also those that cannot be used."""
    return sorted(store for store, (kind, _) in _configured(conf).items() if kind not in EXTERNAL)


def check(conf: cfg.ConfigOpts) -> None:
    """See that the sections of all stores hold values that can be used.

    :raises ConfigError: one does not.
    """
    if conf[PROJECT].source == GLANCE_API:
        _behind_glance().check(conf)
        return
    for _, driver, section in _declared(conf):
        if driver is not None:
            _check_section(conf, section, driver)


def _behind_glance() -> Any:
    """Glance's client takes long to import, and few need it."""
    from scrubber.stores import glance_api

    return glance_api


def _check_section(conf: cfg.ConfigOpts, section: base.Section, driver: type[base.Driver]) -> None:
    secret = {option.dest for option in driver.options() if option.secret}
    for name in (section.name, DEFAULTS_SECTION):
        check_section(conf, name, secret)


def _declared(
    conf: cfg.ConfigOpts,
) -> Iterator[tuple[str, type[base.Driver] | None, base.Section]]:
    """Each store that may hold something of ours, its options registered."""
    for store, (kind, name) in _configured(conf).items():
        if kind in EXTERNAL:
            continue
        if name in conf and not isinstance(conf[name], cfg.ConfigOpts.GroupAttr):
            raise errors.ConfigError(
                f"store {store} has the name of option {name} in section [DEFAULT] and would "
                "hide it: give the backend another id in Glance, or leave it out of "
                "enabled_backends here"
            )
        driver = _driver_class(kind)
        options = [*(driver.options() if driver else []), *base.COMMON_OPTS]
        conf.register_opts(options, group=name)
        conf.register_opts(options, group=DEFAULTS_SECTION)
        yield store, driver, section_of(conf, store, kind, name)


class _Options:
    """A store's options: what its section leaves open, [backend_defaults] says for all stores.

    They are asked for before every call, so they are looked up once for each reload.
    """

    def __init__(self, conf: cfg.ConfigOpts, section: str) -> None:
        self._conf = conf
        self._section = section
        self._known: dict[str, Any] = {}
        conf.register_mutate_hook(lambda _conf, _fresh: self._known.clear())

    def __getattr__(self, name: str) -> Any:
        return self[name]

    def __getitem__(self, name: str) -> Any:
        if name not in self._known:
            self._known[name] = self._look_up(name)
        return self._known[name]

    def _look_up(self, name: str) -> Any:
        shared = (
            self._section != STORE_SECTION  # the only store needs no defaults
            and not self._is_set(name, self._section)
            and self._is_set(name, DEFAULTS_SECTION)
        )
        return self._conf[DEFAULTS_SECTION if shared else self._section][name]

    def _is_set(self, name: str, section: str) -> bool:
        where = self._conf.get_location(name, section)
        return where is not None and where.location.is_user_controlled


def section_of(conf: cfg.ConfigOpts, store: str, kind: str, name: str) -> base.Section:
    return base.Section(
        store,
        kind,
        name,
        _Options(conf, name),
        call_timeout=lambda: float(conf[PROJECT].call_timeout),
        pool_size=lambda: int(conf.scrub_pool_size),
        conf=conf,
    )


def _configured(conf: cfg.ConfigOpts) -> dict[str, tuple[str, str]]:
    """Type and section of each store, by store id."""
    if conf.enabled_backends:
        return {store: (kind, store) for store, kind in conf.enabled_backends.items()}
    kinds = conf[STORE_SECTION].stores
    return {_short(kind): (_short(kind), STORE_SECTION) for kind in kinds}


def _is_needed(conf: cfg.ConfigOpts, store: str) -> bool:
    """Whether Glance certainly uses it: in single-store mode only one of those listed."""
    return bool(conf.enabled_backends) or store == _short(conf[STORE_SECTION].default_store)


def _short(kind: str) -> str:
    """``file`` for every name the file store has had; old files name classes."""
    return "file" if "filesystem" in kind else kind.removesuffix(".Store").rpartition(".")[2]


def _driver_class(kind: str) -> type[base.Driver] | None:
    try:
        found: Any = DriverManager(NAMESPACE, kind, warn_on_missing_entrypoint=False).driver
    except stevedore.exception.NoMatches:
        return None
    except ImportError as broken:
        raise errors.ConfigError(
            f"the driver for stores of type {kind} cannot be loaded: {broken}"
        ) from None
    driver: type[base.Driver] = found
    return driver


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """For oslo-config-generator: what each driver reads in its store's own section."""
    drivers: Any = ExtensionManager(NAMESPACE, invoke_on_load=False)
    return [
        (
            f"your_{extension.name}_store",
            [*extension.plugin.options_of_ours(), *base.COMMON_OPTS],
        )
        for extension in sorted(drivers, key=lambda extension: extension.name)
    ]

"""The stores: is each the right one, and may scrubber delete there?

As at the start of a run: the root is probed with the section's credentials, and a few live images
are looked up.  On the way all live rows are seen: one that cannot be read stops every run.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from oslo_config import cfg

from scrubber import errors, pool
from scrubber.canaries import Canaries
from scrubber.checks.finding import Finding, Severity, failure, ok, warning
from scrubber.checks.reading import PAGE, Hasty, most_common
from scrubber.checks.site import Site
from scrubber.health import Health
from scrubber.model import Location
from scrubber.options import PROJECT, STORE_SECTION
from scrubber.planning.proof import Proof
from scrubber.reporting.text import counted
from scrubber.sources.base import Reference
from scrubber.store_state import StoreState
from scrubber.stores import base, uri
from scrubber.stores.call import call
from scrubber.stores.registry import DEFAULTS_SECTION, EXTERNAL, Stores

#: The checks that the rows can only be read after.
_ROWS = frozenset({"database", "tables"})

_ADD_SECTION = "add the store's section, and its id to enabled_backends, as in glance-api.conf"


def look(site: Site) -> Iterator[Finding]:
    """Sections, live images, and each store itself."""
    yield from _sections(site)
    drivers = list(site.stores.drivers.values())
    nameless = _resolve(drivers, site.timeout)
    if site.usable >= _ROWS:
        yield from _live_images(site)
    yield from proofs(drivers, site.canaries, site.timeout, nameless)


# Sections -----------------------------------------------------------------------------------


def _sections(site: Site) -> Iterator[Finding]:
    for built in site.built:
        if built.driver is None:
            severity = Severity.FAILURE if built.needed else Severity.WARNING
            message = f"nothing is deleted from store {built.store}: {built.problem}"
            yield Finding("stores", severity, message, "see docs/stores.md for what it needs")
    if not site.built:
        yield failure(
            "stores",
            "no store is configured",
            "copy enabled_backends and the stores' sections, or [glance_store], from "
            "glance-api.conf",
        )
    yield from _defaults(site.conf, site.stores)


def _defaults(conf: cfg.ConfigOpts, stores: Stores) -> Iterator[Finding]:
    """What is left out in the files, so that defaults hold which are probably not meant."""
    if not conf.enabled_backends:
        return
    written = {section.lower() for section in conf.list_all_sections()}
    for store in stores.drivers:
        if not written & {store.lower(), DEFAULTS_SECTION}:
            yield warning(
                "stores",
                f"store {store} has no section [{store}]: all its options have their defaults",
                "copy the section from glance-api.conf",
            )
    default = conf[STORE_SECTION].default_backend
    if default and default not in conf.enabled_backends:
        yield warning(
            "stores",
            f"option default_backend in section [{STORE_SECTION}] names {default}, which is not "
            "among enabled_backends",
            "copy enabled_backends whole, or what lies in that store is left behind",
        )


def _resolve(drivers: Iterable[base.Driver], timeout: float) -> dict[str, str]:
    """See what roots are called, before a URL is asked for its root; as a run does.

    :return: why some stores do not say it.
    """
    nameless: dict[str, str] = {}

    def resolve(driver: base.Driver) -> None:
        try:
            call(driver, driver.resolve, timeout=timeout)
        except errors.Unavailable as unavailable:
            nameless[driver.store] = str(unavailable)

    for task in [pool.Task(resolve, driver) for driver in drivers]:
        task.join()
    return nameless


# Live images --------------------------------------------------------------------------------


@dataclass(slots=True)
class LiveRows:
    """What the live rows say.

    :param homeless: why no store holds some of them, and how many.
    """

    stores: Stores
    canaries: Canaries
    rows: int = 0
    unreadable: list[Location] = field(default_factory=list)
    homeless: Counter[str] = field(default_factory=Counter)

    def see(self, location: Location) -> None:
        self.rows += 1
        if location.problem:
            self.unreadable.append(location)
        elif reason := homeless(self.stores, location):
            self.homeless[reason] += 1
        else:
            self.canaries.consider(location)


def homeless(stores: Stores, location: Location) -> str:
    """Why no configured store holds it; empty if one does, or if it is on a web server."""
    if uri.scheme(location.url) in EXTERNAL:
        return ""
    try:
        stores.holder(location)
    except errors.StoreError as error:
        return str(error)
    return ""


def _live_images(site: Site) -> Iterator[Finding]:
    seen = LiveRows(site.stores, site.canaries)
    pages = Hasty(site.source.references(PAGE), site.patience_for_rows)
    try:
        pool.within(site.timeout, _see_all, seen, pages)
    except (TimeoutError, errors.ScrubberError) as error:
        # The stores can be looked at all the same.
        yield failure("live images", str(error), "see what keeps the database busy")
        return
    yield from judge_live(seen, pages.note, site.conf[PROJECT].unreadable_live == "ignore")


def _see_all(seen: LiveRows, pages: Hasty[list[Reference]]) -> None:
    for page in pages:
        for reference in page:
            if reference.is_live:
                seen.see(reference.location)


def judge_live(seen: LiveRows, note: str, ignored: bool) -> Iterator[Finding]:
    """:param ignored: whether unreadable_live says so."""
    if seen.unreadable:
        first = seen.unreadable[0]
        yield Finding(
            "live images",
            Severity.WARNING if ignored else Severity.FAILURE,
            f"{counted(len(seen.unreadable), 'live location')} cannot be read{note}, the first is "
            f"location {first.id} of image {first.image_id}: {first.problem}",
            "correct metadata_encryption_key in section [DEFAULT]: until then nothing is deleted"
            if not ignored
            else "unreadable_live = ignore: bytes that only they use may be deleted",
        )
    for reason, number in most_common(seen.homeless):
        message = f"{counted(number, 'live location')}{note}: {reason}: will be left when deleted"
        yield warning("live images", message, _ADD_SECTION)
    if not seen.unreadable and not seen.homeless:
        yield ok("live images", f"{counted(seen.rows, 'live location')}{note}, each in a store")


# The stores themselves ----------------------------------------------------------------------


def proofs(
    drivers: Iterable[base.Driver], canaries: Canaries, timeout: float, nameless: dict[str, str]
) -> Iterator[Finding]:
    """All at once, in the time that one may take for its probe and its live images."""
    states = [StoreState(driver, Health(driver)) for driver in drivers]
    for state in states:
        state.prove(canaries.of(state.driver), timeout)
    until = time.monotonic() + 2 * timeout
    for state in states:
        state.wait_for_proof(max(0.0, until - time.monotonic()))
        if reason := _reason_against(state, nameless):
            advice = f"see docs/troubleshoot.md, and section [{state.driver.section.name}]"
            yield failure(f"store {state.name}", reason, advice)
        else:
            yield _praise(state, canaries.of(state.driver))


def _reason_against(state: StoreState, nameless: dict[str, str]) -> str:
    """Why a run would not use the store; empty if it would."""
    if state.proving:
        return "it does not come to an end with its live images"
    if state.stopped:
        return state.stopped
    if state.name in nameless:
        return f"it does not say what its names lead to: {nameless[state.name]}"
    return ""


def _praise(state: StoreState, canaries: dict[str, list[Location]]) -> Finding:
    """How sure it is that the store is the right one."""
    name = f"store {state.name}"
    unproven = [root for root in canaries if state.roots[root].proof is not Proof.PROVEN]
    if unproven:
        where = ", ".join(filter(None, unproven)) or "it"
        return warning(
            name,
            f"it answers, but not all of the live images looked up are in {where}",
            "see what became of them: few missing objects only are taken as deleted there",
        )
    looked_up = sum(map(len, canaries.values()))
    if not looked_up:
        return ok(name, "it answers; no live image proves that it is the right one")
    return ok(name, f"it answers, and has the {counted(looked_up, 'live image')} looked up")

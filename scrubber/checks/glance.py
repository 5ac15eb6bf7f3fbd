"""Glance's API: has it the stores that scrubber has, and does its cache hold what is scrubbed?

Asked only where section [glance] says how.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from scrubber import errors
from scrubber.checks.finding import Finding, failure, ok, warning
from scrubber.checks.site import Site
from scrubber.options import GLANCE_API, PROJECT
from scrubber.reporting.text import counted

if TYPE_CHECKING:
    from scrubber.glance.client import Glance

#: What Glance says of a store of each type, and the option that says it here.
_PLACES = {
    "file": ("data_dir", "filesystem_store_datadir"),
    "rbd": ("pool", "rbd_store_pool"),
    "swift": ("container", "swift_store_container"),
}

_COPY = "copy enabled_backends and the stores' sections from glance-api.conf"


def look(site: Site) -> Iterator[Finding]:
    """Nothing where section [glance] is empty."""
    from scrubber.glance import section  # its libraries take long to import

    if not section.is_set(site.conf):
        return
    with closing(section.connect(site.conf)) as glance:
        try:
            if site.conf[PROJECT].source != GLANCE_API:
                yield from _stores(glance, site)
            yield from _cache(glance)
        except errors.Refused as refused:
            advice = "give the user of section [glance] the role admin"
            yield warning("glance", str(refused), advice)
        except errors.StoreError as error:
            yield failure("glance", str(error), "correct section [glance], or leave it out")


def _stores(glance: "Glance", site: Site) -> Iterator[Finding]:
    kinds: dict[str, str] = site.conf.enabled_backends
    try:
        theirs = glance.store_details()
    except errors.Gone:
        theirs = []  # it has only one, and does not name it
    places = {
        built.store: built.driver.section.options[_PLACES[kinds[built.store]][1]]
        for built in site.built
        if built.driver is not None and kinds.get(built.store) in _PLACES
    }
    differences = list(compare(kinds, places, theirs))
    yield from differences
    if not differences:
        yield ok("glance", f"its API answers, and has the same {counted(len(theirs), 'store')}")


def compare(
    kinds: Mapping[str, str], places: Mapping[str, Any], theirs: Sequence[Mapping[str, Any]]
) -> Iterator[Finding]:
    """How scrubber's stores differ from Glance's.

    :param kinds: the type of each store of scrubber's, by its id.
    :param places: directory, pool or container of those stores that have one.
    :param theirs: what Glance says of its own.
    """
    known = {store["id"]: store for store in theirs}
    for store in sorted(kinds.keys() - known.keys()):
        yield warning(
            "glance",
            f"store {store} is configured here, and Glance has none of that name",
            "was it renamed? locations of the new name are not deleted from the old one: " + _COPY,
        )
    for store in sorted(known.keys() - kinds.keys()):
        if known[store].get("type") != "http":
            yield failure("glance", f"Glance has a store {store}, and scrubber has not", _COPY)
    for store in sorted(kinds.keys() & known.keys()):
        yield from _compare_one(store, kinds[store], places.get(store), known[store])


def _compare_one(
    store: str, kind: str, place: object, theirs: Mapping[str, Any]
) -> Iterator[Finding]:
    their_kind = theirs.get("type", kind)
    if their_kind != kind:
        yield failure(
            "glance", f"store {store} is of type {kind} here, and {their_kind} in Glance", _COPY
        )
        return
    name, option = _PLACES.get(kind, ("", ""))
    their_place = theirs.get("properties", {}).get(name)
    if place and their_place and _normal(place) != _normal(their_place):
        yield failure(
            "glance",
            f"option {option} in section [{store}] is {place}, and {their_place} in Glance",
            f"scrubber would look for {store}'s images in the wrong place: correct the option",
        )


def _normal(place: object) -> str:
    return str(place).rstrip("/")


def _cache(glance: "Glance") -> Iterator[Finding]:
    """Only the node that answers: each has a cache of its own."""
    cached = glance.cached()
    there = {image.id for image in glance.among(cached)}
    if left := len(cached - there):
        yield warning(
            "glance",
            f"the cache of this API node holds {counted(left, 'image')} that no longer exist",
            "set purge_cache and cache_endpoints in section [glance]",
        )

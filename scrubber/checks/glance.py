"""Glance's API: is it new enough, has it the stores that scrubber has, and what do its caches hold?

Asked only where section [glance] says how.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from scrubber import errors
from scrubber.checks.finding import Finding, failure, ok, warning
from scrubber.checks.site import Site
from scrubber.glance.versions import (
    CACHE,
    HIDDEN_IMAGES,
    MAJOR,
    SINGLE_COPIES,
    STORE_DETAILS,
    Version,
)
from scrubber.options import GLANCE_API, GLANCE_SECTION, PROJECT
from scrubber.reporting.text import counted

if TYPE_CHECKING:
    from scrubber.glance.client import Glance

#: What Glance says of a store of each type, and the option that says it here.
_PLACES = {
    "file": ("data_dir", "filesystem_store_datadir"),
    "rbd": ("pool", "rbd_store_pool"),
    "swift": ("container", "swift_store_container"),
}

#: So many images are named, of those that a cache holds in vain.
_EXAMPLES = 3

_COPY = "copy enabled_backends and the stores' sections from glance-api.conf"


def look(site: Site) -> Iterator[Finding]:
    """Nothing where section [glance] is empty."""
    from scrubber.glance import section  # its libraries take long to import

    if not section.is_set(site.conf):
        return
    try:
        with closing(section.connect(site.conf)) as glance:
            yield from _api(glance, site)
        yield from _caches(site)
    except errors.Refused as refused:
        yield warning("glance", str(refused), "give the user of section [glance] the role admin")
    except errors.StoreError as error:
        yield failure("glance", str(error), "correct section [glance], or leave it out")


def _api(glance: "Glance", site: Site) -> Iterator[Finding]:
    versions = _versions(glance)
    if site.conf[PROJECT].source == GLANCE_API:
        yield judge_source(versions, with_stores=bool(glance.stores()))
    else:
        yield judge_companion(versions)
        yield from _stores(glance, site)


def _versions(glance: "Glance") -> frozenset[Version]:
    try:
        return glance.versions()
    except errors.Gone:
        return frozenset()  # what answers there is no Glance, or hides it


# Versions -----------------------------------------------------------------------------


def judge_source(versions: Collection[Version], with_stores: bool) -> Finding:
    """Whether images can be deleted through an API of these versions.

    :param with_stores: whether Glance has several stores.
    """
    newest = _newest(versions)
    if newest is None:
        return _not_ours(versions)
    if newest < HIDDEN_IMAGES:
        return failure(
            "glance",
            f"its API is {newest}; before {HIDDEN_IMAGES} scrubber finds no image through it",
            "upgrade Glance to Rocky or later, or let scrubber read its database",
        )
    if with_stores and newest < SINGLE_COPIES:
        return warning(
            "glance",
            f"its API is {newest}; before {SINGLE_COPIES} it deletes no single copy: an image goes "
            "as a whole",
            "upgrade Glance to Ussuri or later, if each store is to have its own pace",
        )
    return ok("glance", f"its API is {newest}")


def judge_companion(versions: Collection[Version]) -> Finding:
    """Whether an API of these versions tells what it is asked beside the database."""
    newest = _newest(versions)
    if newest is None:
        return _not_ours(versions)
    if newest < STORE_DETAILS:
        return warning(
            "glance",
            f"its API is {newest}; before {STORE_DETAILS} it does not say where its stores are: "
            "only their names are compared",
            "compare the stores' sections with those of glance-api.conf",
        )
    return ok("glance", f"its API is {newest}")


def _newest(versions: Collection[Version]) -> Version | None:
    return max((at for at in versions if at.major == MAJOR), default=None)


def _not_ours(versions: Collection[Version]) -> Finding:
    if not versions:
        return warning(
            "glance",
            "its API does not say which versions it has",
            "let /versions through to Glance; purge_cache asks for it as well",
        )
    return failure(
        "glance",
        f"its API has no version {MAJOR}, only {', '.join(map(str, sorted(versions)))}",
        "let section [glance] lead to a Glance of Rocky or later",
    )


# Stores -------------------------------------------------------------------------------


def _stores(glance: "Glance", site: Site) -> Iterator[Finding]:
    kinds: dict[str, str] = site.conf.enabled_backends
    theirs = _their_stores(glance)
    places = {
        built.store: built.driver.section.options[_PLACES[kinds[built.store]][1]]
        for built in site.built
        if built.driver is not None and kinds.get(built.store) in _PLACES
    }
    differences = list(compare(kinds, places, theirs))
    yield from differences
    if not differences:
        number = counted(len(theirs), "store") if theirs else "one store"
        yield ok("glance", f"its API answers, and has the same {number}")


def _their_stores(glance: "Glance") -> list[dict[str, Any]]:
    """None where it has only one, which it does not name."""
    try:
        return glance.store_details()
    except errors.Gone:
        return [{"id": store} for store in glance.stores()]


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


# Caches -------------------------------------------------------------------------------


def _caches(site: Site) -> Iterator[Finding]:
    """Each node that what is scrubbed would be purged from; else the one that answers."""
    from scrubber.glance import caches

    purges = bool(site.conf[GLANCE_SECTION].purge_cache)
    for name, node in caches.nodes(site.conf):
        with closing(node):
            try:
                if CACHE in _versions(node):
                    yield _cache(name, node, purges)
                elif purges:
                    yield warning(
                        "glance",
                        f"{name} has no image cache that its API knows of ({CACHE})",
                        "nothing is to be purged there: take it out of cache_endpoints, or set "
                        "image_cache_dir in its glance-api.conf",
                    )
            except errors.Refused:
                raise
            except errors.StoreError as error:
                yield warning(
                    "glance",
                    f"the image cache of {name} cannot be looked at: {error}",
                    "correct cache_endpoints in section [glance]",
                )


def _cache(name: str, node: "Glance", purges: bool) -> Finding:
    cached = node.cached()
    of_use = {image.id for image in node.among(cached) if not image.is_half_deleted}
    left = sorted(cached - of_use)
    if not left:
        return ok("glance", f"of what the cache of {name} holds, nothing is scrubbed or pending")
    examples = ", ".join(left[:_EXAMPLES]) + (", …" if left[_EXAMPLES:] else "")
    advice = "drop what was scrubbed before: glance cache-delete ID"
    if not purges:
        advice = f"set purge_cache and cache_endpoints in section [glance]; {advice}"
    return warning(
        "glance",
        f"the cache of {name} holds {counted(len(left), 'image')} scrubbed or pending: {examples}",
        advice,
    )

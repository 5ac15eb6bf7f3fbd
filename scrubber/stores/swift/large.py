"""Large objects: an image in segments, and a manifest that says which.

The segments go first and the manifest last, only when no segment is left: whatever breaks
off in between, a later call finds the manifest and goes on.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from scrubber import errors
from scrubber.stores.swift import session

#: Segments on one page of a listing; Swift gives fewer if it wants to.
PAGE = 1000

#: Segments in one bulk request: between two of them the caller may stop.
BULK = 100


@dataclass(frozen=True, slots=True)
class Segment:
    """An object that is a part of another one; ``size`` in bytes."""

    path: str
    size: int


class LargeObject:
    """One large object on its way out.

    :param proceed: asked before each request that deletes segments, save the first: who may
        begin an object may also get somewhere.
    """

    def __init__(
        self,
        account: session.Account,
        container: str,
        name: str,
        proceed: Callable[[], bool],
    ) -> None:
        self._account = account
        self._container = container
        self._name = name
        self._bulk = min(account.bulk, BULK)
        self._proceed = proceed
        self._gone: set[str] = set()
        self._freed = 0

    def delete_dynamic(self, manifest: str) -> int:
        """Delete a DLO and return the bytes that were freed.

        :param manifest: its X-Object-Manifest.
        :raises Refused: that names what is not certainly its own; nothing was deleted.
        :raises StoreError: the manifest is there yet.
        """
        if _manifest(manifest) != f"{self._container}/{self._name}-":
            raise errors.Refused("a large object whose segments are not named after it")
        # A listing lags behind: it may go on showing what is gone.
        while left := [at for at in self._covered() if at.path not in self._gone]:
            self._erase(left)
        return self._delete_manifest()

    def delete_static(self) -> int:
        """Delete an SLO and return the bytes that were freed; raises as ``delete_dynamic``."""
        named = set(self._named())
        # Not simply all: who begins with those that are gone may never get beyond them.
        while left := [
            at for at in self._listed(self._name) if at.path in named and at.path not in self._gone
        ]:
            self._erase(left)
        return self._delete_manifest()

    # Which segments

    def _covered(self) -> list[Segment]:
        """What a DLO's prefix covers; all of it is looked at before any is deleted."""
        prefix = f"{self._name}-"
        covered = list(self._listed(prefix))
        if not all(_is_segment(at.path, f"{self._container}/{self._name}") for at in covered):
            # An object that is named like the first part of an id covers another image.
            raise errors.Refused("a large object whose prefix covers other objects")
        return covered

    def _listed(self, prefix: str) -> Iterator[Segment]:
        marker = ""
        while page := self._page(prefix, marker):
            for entry in page:
                marker, size = _entry(entry)
                yield Segment(f"{self._container}/{marker}", size)

    def _page(self, prefix: str, marker: str) -> list[Any]:
        query = f"format=json&limit={PAGE}&prefix={quote(prefix, '')}&marker={quote(marker, '')}"
        page = self._account.request("GET", self._container, query=query)
        entries = page.json() if page.body else []
        if not isinstance(entries, list):
            raise errors.Unavailable("Swift's listing of a container is not understood")
        return entries

    def _named(self) -> Iterator[str]:
        """The paths in an SLO's manifest."""
        query = "multipart-manifest=get"
        manifest = self._account.request("GET", self._container, self._name, query=query).json()
        if not isinstance(manifest, list):
            raise errors.Unavailable("Swift's manifest of a large object is not understood")
        for entry in manifest:
            if not isinstance(entry, dict) or entry.get("sub_slo"):
                raise errors.Refused("a large object made of large objects")
            if "data" in entry:
                continue  # the manifest holds these bytes itself
            path = str(entry.get("name", "")).removeprefix("/")
            if not _is_segment(path, f"{self._container}/{self._name}"):
                raise errors.Refused("a large object whose segments are not named after it")
            yield path

    # Deleting

    def _erase(self, segments: Sequence[Segment]) -> None:
        """:raises StoreError: some are left."""
        failure: errors.StoreError | None = None
        step = max(1, self._bulk)
        for start in range(0, len(segments), step):
            if self._gone and not self._proceed():
                raise errors.Begun("some of its segments are deleted, the others follow")
            try:
                self._erase_some(segments[start : start + step])
            except errors.Failed as failed:
                failure = failure or failed
        if failure is not None:
            raise failure

    def _erase_some(self, segments: Sequence[Segment]) -> None:
        if not self._bulk:
            (segment,) = segments
            try:
                self._account.request("DELETE", *segment.path.split("/", 1))
                self._freed += segment.size
            except errors.Gone:
                pass  # by an earlier call that did not get to the end
            self._gone.add(segment.path)
            return
        reply = session.bulk_delete(self._account, [segment.path for segment in segments])
        left = {
            path: failure
            for path, failure in reply.failed.items()
            if not isinstance(failure, errors.Gone)
        }
        erased = [segment for segment in segments if segment.path not in reply.failed]
        self._gone.update(segment.path for segment in segments if segment.path not in left)
        # Swift does not say which were missing: at least so much was freed.
        sizes = sorted(segment.size for segment in erased)
        self._freed += sum(sizes[: len(sizes) - reply.missing])
        if left:
            raise worst(list(left.values()))

    def _delete_manifest(self) -> int:
        try:
            self._account.request("DELETE", self._container, self._name)
        except errors.Gone:
            if not self._freed:
                raise
        return self._freed


def worst(failures: Sequence[errors.StoreError]) -> errors.StoreError:
    """The one that tells most of what to do next."""
    order = (errors.Unavailable, errors.Throttled)
    return min(
        failures,
        key=lambda failure: next(
            (place for place, kind in enumerate(order) if isinstance(failure, kind)), len(order)
        ),
    )


def whole_of(segment: str) -> str | None:
    """The object that one of this name may be a numbered segment of; no image's id has one."""
    named = re.fullmatch(r"(.+)-[0-9]{1,10}", segment)
    return named and named[1]


def _is_segment(segment: str, name: str) -> bool:
    """Whether it is named after the object: by a number, as Glance does it, or below it."""
    rest = segment.removeprefix(name)
    if rest == segment:
        return False
    return re.fullmatch(r"-[0-9]{1,10}", rest) is not None or re.match(r"/.", rest) is not None


def _manifest(header: str) -> str:
    """``container/prefix``; the header is quoted, and HTTP knows Latin-1 only."""
    try:
        return unquote_to_bytes(header.encode("latin-1")).decode()
    except UnicodeError:
        return ""


def _entry(entry: Any) -> tuple[str, int]:
    try:
        return str(entry["name"]), int(entry["bytes"])
    except (KeyError, TypeError, ValueError):
        raise errors.Unavailable("Swift's listing of a container is not understood") from None

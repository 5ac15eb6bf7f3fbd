"""Glance's API as the source: images that carry a tag, for operators without its database.

The API knows no claims, and every step is looked at and carried out by the driver
(stores/glance_api.py): there is nothing to write here.
"""

import random
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from oslo_config import cfg

from scrubber import errors, pool
from scrubber.glance.client import HIDDEN, ONLY_STORE, Copy, Glance, MarkerLost, id_filters
from scrubber.glance.section import connect
from scrubber.model import Backlog, Candidate, Image, Location, Selection
from scrubber.options import GLANCE_SECTION
from scrubber.planning.naming import Naming
from scrubber.planning.retirement import ApiImage, Query, obstacle
from scrubber.sources.base import Claim, Claimed, Finish, Finished, Reference, Unclaimed

T = TypeVar("T")

#: So long a Glance that fails, or asks for patience, is asked again.
PATIENCE_SECONDS = 30.0

#: Seconds between two tries, unless Glance says how long.
PAUSE_SECONDS = 1.0

#: So many images are listed together for figures.
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class _Listing:
    """One question to Glance, answered page by page, oldest image first.

    :param since: the creation date to begin at.
    :param before: that of the first image that is none of it; Glance takes one bound only.
    """

    filters: dict[str, Any]
    since: datetime | None = None
    before: datetime | None = None

    def filters_from(self, since: datetime | None) -> dict[str, Any]:
        if since is None:
            return self.filters
        return {**self.filters, "created_at": f"gte:{since.isoformat(timespec='seconds')}Z"}

    def holds(self, image: ApiImage) -> bool:
        return self.before is None or image.created_at < self.before


class GlanceApiSource(Unclaimed):
    """See :class:`scrubber.sources.base.Source`; two processes may be at one image.

    Its driver looks at each image itself, right before each step.

    :param tag: what marks an image for deletion, now.
    :param query: what it must match beside that, now.
    :param stop: when set, a Glance that does not answer is not asked again.
    """

    def __init__(
        self,
        glance: Glance,
        tag: Callable[[], str],
        query: Callable[[], Query],
        stop: pool.Flag,
    ) -> None:
        self._glance = glance
        self._tag = tag
        self._query = query
        self._stop = stop

    def check(self) -> None:
        """At start a Glance that is down is said at once."""
        try:
            self._glance.page({}, 1)
        except errors.Refused as refused:
            raise errors.SourceError(
                f"{refused}; the user of section [glance] needs the role admin"
            ) from None
        except errors.Gone:
            raise errors.SourceError(
                "there is no Images API of version 2 at the endpoint of section [glance]"
            ) from None
        except errors.StoreError as error:
            raise errors.SourceUnavailable(str(error)) from None

    def now(self) -> datetime:
        return self._glance.now()

    def close(self) -> None:
        self._glance.close()

    # Candidates -----------------------------------------------------------------------

    def candidates(self, selection: Selection, page_size: int) -> Iterator[list[Candidate]]:
        for mark in ({"tag": [self._tag()]}, {"status": "pending_delete"}):
            for listing in self._listings(mark, selection):
                for page in self._pages(listing, page_size):
                    tag, query = self._tag(), self._query()
                    chosen = [
                        _candidate(image)
                        for image in page
                        # What is half-deleted and tagged is in two listings.
                        if image.is_marked(tag) and ("tag" in mark or tag not in image.tags)
                        if query.matches(image) and _is_selected(image, selection)
                    ]
                    if chosen:
                        yield chosen

    def backlog(self, older: float = 0, younger: float | None = None) -> Backlog:
        """All marked images are listed for it."""
        now, images, size, oldest = self.now(), 0, 0, None
        for page in self.candidates(Selection(), _PAGE):
            for candidate in page:
                age = (now - candidate.image.went_at).total_seconds()
                if older <= age and (younger is None or age < younger):
                    images, size = images + 1, size + (candidate.image.size or 0)
                    oldest = max(age, oldest or age)
        return Backlog(images, size, oldest)

    def _listings(self, mark: dict[str, Any], selection: Selection) -> Iterator[_Listing]:
        for hidden in HIDDEN:
            filters = {**self._query().filters, **mark, "os_hidden": hidden}
            if selection.images:
                for wanted in id_filters(selection.images):
                    yield _Listing({**filters, "id": wanted})
            elif selection.owners:
                for owner in sorted(selection.owners):
                    yield _Listing({**filters, "owner": owner})
            else:
                yield from self._from_anywhere(filters)

    def _from_anywhere(self, filters: dict[str, Any]) -> Iterator[_Listing]:
        """In two parts, so that several processes do not all begin at the same image."""
        oldest = self._ask(lambda: self._glance.page(filters, 1))
        if oldest:
            first = oldest[0].created_at
            middle = (first + random.random() * (self.now() - first)).replace(microsecond=0)  # noqa: S311 - no secret
            yield _Listing(filters, since=middle)
            yield _Listing(filters, before=middle)

    def _pages(self, listing: _Listing, limit: int) -> Iterator[list[ApiImage]]:
        """All of a listing, each image once, whatever is deleted meanwhile."""
        marker: str | None = None
        since = listing.since
        seen: set[str] = set()  # of those created in the second ``since``
        while True:
            try:
                page = self._page(listing, since, limit, marker)
            except MarkerLost:
                # The last image of the page before is gone; what was created with it comes again.
                marker = None
                continue
            if fresh := [image for image in page if image.id not in seen and listing.holds(image)]:
                yield fresh
            if len(page) < limit or not listing.holds(page[-1]):
                return
            marker, before, since = page[-1].id, since, page[-1].created_at
            together = {image.id for image in page if image.created_at == since}
            seen = seen | together if since == before else together

    def _page(
        self, listing: _Listing, since: datetime | None, limit: int, marker: str | None
    ) -> list[ApiImage]:
        """:raises MarkerLost: there is no such image any more."""
        # With a marker the bound changes nothing, save which index a database takes.
        bound = listing.since if marker else since
        return self._ask(lambda: self._glance.page(listing.filters_from(bound), limit, marker))

    def _ask(self, question: Callable[[], T]) -> T:
        """:raises SourceUnavailable: Glance does not answer, or wants more patience than ours."""
        give_up = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return question()
            except (errors.Failed, errors.Throttled, errors.Unavailable) as error:
                wait = getattr(error, "retry_after", None) or PAUSE_SECONDS
                if self._stop or time.monotonic() + wait > give_up:
                    raise errors.SourceUnavailable(str(error)) from None
                self._stop.wait(wait)
            except errors.StoreError as error:
                raise errors.SourceUnavailable(str(error)) from None

    # Claims: there are none --------------------------------------------------------------

    def claim(
        self,
        candidates: Sequence[Candidate],
        lease: float,  # noqa: ARG002 - it never runs out
    ) -> Claimed:
        numbers = {at.id for candidate in candidates for at in candidate.locations}
        claim = Claim(None, time.monotonic(), locations=numbers)
        return Claimed(claim, tuple(candidates), lost=())

    # Live references: Glance guards its own ------------------------------------------------

    def references(
        self,
        page_size: int,  # noqa: ARG002
        known: Callable[[], Collection[Naming]] = tuple,  # noqa: ARG002
    ) -> Iterator[list[Reference]]:
        return iter(())

    def references_of(self, images: Collection[str], besides: Collection[int]) -> list[Location]:  # noqa: ARG002
        return []

    def live_since(self) -> list[Reference]:
        return []

    def still_live(self, locations: Collection[int]) -> frozenset[int]:  # noqa: ARG002
        return frozenset()

    def live_among(self, locations: Collection[int]) -> list[Location]:  # noqa: ARG002
        return []

    def pending_among(self, locations: Collection[int]) -> list[Candidate]:  # noqa: ARG002
        return []

    def busy_images(self, images: Collection[str]) -> frozenset[str]:  # noqa: ARG002
        return frozenset()

    def importing(self, images: Collection[str]) -> frozenset[str]:  # noqa: ARG002
        return frozenset()

    # Afterwards -----------------------------------------------------------------------

    def finish(self, finish: Finish) -> Finished:  # noqa: ARG002 - Glance has recorded it
        return Finished(frozenset(), frozenset())

    def images(self, ids: Collection[str]) -> dict[str, Image]:
        """Those that Glance does not show are deleted."""
        found = self._among(ids)
        return {id: _image(found[id]) if id in found else _gone(id) for id in ids}

    def locations(self, image_ids: Collection[str]) -> list[Location]:
        """What may be remembered of these images: a copy in each store, there or not."""
        found = self._among(image_ids)
        stores = {*self._ask(self._glance.stores), ONLY_STORE}
        tag, query = self._tag(), self._query()
        locations: list[Location] = []
        for id in sorted(image_ids):
            image = found.get(id)
            if image is None:
                locations += [_location(Copy(id, at), "deleted") for at in sorted(stores)]
                continue
            marked = image.is_marked(tag) and query.matches(image)
            there = _steps(image)
            for store in sorted({*stores, *there}):
                status = "pending_delete" if marked else "active"
                status = status if store in there else "deleted"
                locations.append(_location(Copy(id, store), status, image.updated_at))
        return locations

    def _among(self, ids: Collection[str]) -> dict[str, ApiImage]:
        return self._ask(lambda: {image.id: image for image in self._glance.among(ids)})

    # Restore --------------------------------------------------------------------------

    def unmark(self, image_id: str) -> None:
        """Take the tag away.

        :raises RestoreRefused: there is no such image, or it has no such tag.
        """
        tag = self._tag()
        try:
            image = self._glance.image(image_id)
            if tag not in image.tags:
                raise errors.RestoreRefused(f"image {image_id} does not carry the tag {tag}")
            self._glance.untag(image_id, tag)
        except errors.Gone:
            raise errors.RestoreRefused(f"No image found with ID {image_id}") from None
        except errors.StoreError as error:
            raise errors.RestoreRefused(str(error)) from None


def open_source(
    conf: cfg.ConfigOpts,
    stop: pool.Flag,
    rehearsal: bool = False,  # noqa: ARG001 - it never writes
) -> GlanceApiSource:
    """The Glance of section [glance], not looked at yet; an entry point.

    :raises ConfigError: the section cannot be used.
    """
    glance = connect(conf)
    ours = conf[GLANCE_SECTION]
    return GlanceApiSource(glance, lambda: ours.retire_tag, lambda: ours.retire_query, stop)


def _is_selected(image: ApiImage, selection: Selection) -> bool:
    return (not selection.images or image.id in selection.images) and (
        not selection.owners or image.owner in selection.owners
    )


def _steps(image: ApiImage) -> tuple[str, ...]:
    """The stores to take it out of; what goes as a whole counts for the first of them."""
    return image.steps or image.stores[:1] or (ONLY_STORE,)


def _candidate(image: ApiImage) -> Candidate:
    locations = tuple(
        _location(Copy(image.id, store), "pending_delete", image.updated_at)
        for store in _steps(image)
    )
    return Candidate(_image(image), image.kind, locations, obstacle=obstacle(image))


def _image(image: ApiImage) -> Image:
    """``updated_at`` is when it was tagged, or changed after that."""
    return Image(
        id=image.id,
        owner=image.owner,
        status=image.status,
        deleted=False,
        size=image.size,
        created_at=image.created_at,
        updated_at=image.updated_at,
        deleted_at=None,
    )


def _gone(image_id: str) -> Image:
    return Image(image_id, None, "deleted", True, None, None, None, None)


def _location(copy: Copy, status: str, updated_at: datetime | None = None) -> Location:
    return Location(
        id=copy.number,
        image_id=copy.image,
        url=copy.url,
        store=copy.store,
        status=status,
        created_at=None,
        updated_at=updated_at,
        deleted_at=None,
    )

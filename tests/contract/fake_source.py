"""Glance's tables in memory, and a full source of deleted images on top of them.

It passes the contract of sources (test_sources.py), so what a test proves with it holds
for any source.
"""

import datetime
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from scrubber import pool
from scrubber.model import (
    Backlog,
    Candidate,
    Image,
    Kind,
    Location,
    Obstacle,
    Outcome,
    Selection,
)
from scrubber.planning import kinds
from scrubber.planning.naming import Naming
from scrubber.sources.base import Claim, Claimed, Finish, Finished, Reference

NOW = datetime.datetime(2026, 6, 1, 12)
AN_HOUR = datetime.timedelta(hours=1)

_EPOCH = datetime.datetime(1970, 1, 1)


@dataclass(frozen=True)
class Row:
    """A location's row: what a scrubber reads of it, and ``deleted``."""

    location: Location
    deleted: bool


@dataclass
class FakeGlance:
    """The rows, for a test to write; several sources may share them."""

    images: dict[str, Image] = field(default_factory=dict)
    rows: dict[int, Row] = field(default_factory=dict)
    importing: set[str] = field(default_factory=set)
    clock: datetime.datetime = NOW
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))
    _tokens: Iterator[int] = field(default_factory=lambda: count(1))

    def add_image(
        self,
        id: str | None = None,
        *,
        owner: str | None = "project",
        status: str = "pending_delete",
        deleted: bool = True,
        size: int | None = 1,
        deleted_at: datetime.datetime | None = NOW - AN_HOUR,
        updated_at: datetime.datetime | None = NOW - AN_HOUR,
    ) -> str:
        id = id or str(uuid.uuid4())
        self.images[id] = Image(
            id=id,
            owner=owner,
            status=status,
            deleted=deleted,
            size=size,
            created_at=NOW - 24 * AN_HOUR,
            updated_at=updated_at,
            deleted_at=deleted_at,
        )
        return id

    def add_location(
        self,
        image_id: str,
        url: str = "fake://fast/object",
        *,
        store: str | None = "fast",
        status: str = "pending_delete",
        deleted: bool | None = None,
        deleted_at: datetime.datetime | None = NOW - AN_HOUR,
        updated_at: datetime.datetime | None = NOW - AN_HOUR,
        problem: str | None = None,
    ) -> int:
        number = next(self._numbers)
        location = Location(
            id=number,
            image_id=image_id,
            url="" if problem else url,
            store=store,
            status=status,
            created_at=NOW - 24 * AN_HOUR,
            updated_at=updated_at,
            deleted_at=deleted_at,
            problem=problem,
        )
        if deleted is None:
            deleted = status in ("pending_delete", "deleted")
        self.rows[number] = Row(location, deleted)
        return number

    def change_image(self, id: str, **columns: object) -> None:
        self.images[id] = replace(self.images[id], **columns)  # type: ignore[arg-type]

    def change_location(self, number: int, **columns: object) -> None:
        row = self.rows[number]
        deleted = bool(columns.pop("deleted", row.deleted))
        location = replace(row.location, **columns)  # type: ignore[arg-type]
        self.rows[number] = Row(location, deleted)

    def status_of(self, number: int) -> str:
        return self.rows[number].location.status

    def is_claimed(self, number: int) -> bool:
        row = self.rows[number].location
        return (row.updated_at or _EPOCH) > (row.deleted_at or _EPOCH)

    def locations_of(self, image_id: str) -> list[Location]:
        rows = sorted(self.rows.items())
        return [row.location for _, row in rows if row.location.image_id == image_id]

    def new_token(self) -> datetime.datetime:
        return self.clock + datetime.timedelta(seconds=1, microseconds=next(self._tokens))


def _has_bytes(reference: Reference) -> bool:
    return reference.is_live or reference.location.status == "pending_delete"


class FakeSource:
    """See :class:`scrubber.sources.base.Source`.

    ``before`` holds what happens at the start of a call, by the name of its method: a
    change somebody makes at that moment, or the exception that the call raises.
    """

    def __init__(self, glance: FakeGlance) -> None:
        self.glance = glance
        self.before: dict[str, Callable[[], object]] = {}
        self.finishes: list[Finish] = []
        self._seen_live: set[int] = set()

    def _enter(self, method: str) -> None:
        pool.sleep()  # as any database would, it lets others run
        self.before.get(method, lambda: None)()

    def check(self) -> None:
        self._enter("check")

    def close(self) -> None:
        pass

    def now(self) -> datetime.datetime:
        self._enter("now")
        return self.glance.clock

    # Candidates -----------------------------------------------------------------------

    def candidates(self, selection: Selection, page_size: int) -> Iterator[list[Candidate]]:
        self._enter("candidates")
        ids = [
            image.id
            for image in sorted(self.glance.images.values(), key=lambda image: image.id)
            if (not selection.images or image.id in selection.images)
            and (not selection.owners or image.owner in selection.owners)
        ]
        for start in range(0, len(ids), page_size):
            page = [self._candidate(self.glance.images[id]) for id in ids[start:][:page_size]]
            if found := [candidate for candidate in page if candidate is not None]:
                yield found

    def _candidate(self, image: Image) -> Candidate | None:
        rows = self.glance.locations_of(image.id)
        pending = tuple(row for row in rows if row.status == "pending_delete")
        live = tuple(row for row in rows if row.status not in ("pending_delete", "deleted"))
        if image.status == "pending_delete":
            kind = Kind.DELETED if image.deleted else Kind.HALF_DELETED
            late = [
                row
                for row in rows
                if row.status == "deleted" and row.deleted_at == image.deleted_at is not None
            ]
            mine = tuple(row for row in rows if row in pending or row in late)
            what = "deleted" if image.deleted else "half-deleted"
            refused = Obstacle(Outcome.REFUSED, f"{what} with an active location")
            return Candidate(image, kind, mine, obstacle=refused if live else None)
        if image.deleted and image.status != "deleted":
            left = tuple(row for row in rows if row.status != "deleted")
            torn = Obstacle(Outcome.REFUSED, "deleted while it was being updated")
            return Candidate(image, Kind.TORN, left, obstacle=torn) if left else None
        if not pending:
            return None
        if image.deleted:
            return Candidate(image, Kind.LEFTOVER, pending)
        if image.deleted_at is not None or (not live and image.status != "queued"):
            return Candidate(
                image, Kind.WRECK, pending, obstacle=Obstacle(Outcome.REFUSED, "a wreck")
            )
        waiting = Obstacle(Outcome.WAITING, "Glance is importing")
        return Candidate(
            image,
            Kind.REMOVED,
            pending,
            siblings=live,
            obstacle=waiting if image.id in self.glance.importing else None,
        )

    def backlog(self, older: float = 0, younger: float | None = None) -> Backlog:
        self._enter("backlog")
        ages = {
            image.id: (self.glance.clock - image.deleted_at).total_seconds()
            for image in self.glance.images.values()
            if image.status == "pending_delete" and image.deleted_at is not None
        }
        waiting = {
            id: age
            for id, age in ages.items()
            if age >= older and (younger is None or age < younger)
        }
        return Backlog(
            len(waiting),
            sum(self.glance.images[id].size or 0 for id in waiting),
            max(waiting.values(), default=None),
        )

    # Claims ---------------------------------------------------------------------------

    def claim(self, candidates: Sequence[Candidate], lease: float) -> Claimed:
        self._enter("claim")
        taken_at = time.monotonic()
        token = self.glance.new_token()
        mine = tuple(candidate for candidate in candidates if self._is_free(candidate, lease))
        locations = [location for candidate in mine for location in candidate.locations]
        taken_over = {
            at.id: at.deleted_at
            for at in locations
            if at.deleted_at is not None and self.glance.is_claimed(at.id)
        }
        for location in locations:
            self.glance.change_location(location.id, updated_at=token)
        lost = tuple(candidate for candidate in candidates if candidate not in mine)
        ids = {location.id for location in locations}
        return Claimed(Claim(token, taken_at, locations=ids, taken_over=taken_over), mine, lost)

    def _is_free(self, candidate: Candidate, lease: float) -> bool:
        image = self.glance.images.get(candidate.image.id)
        if image is None or _state(image) != _state(candidate.image):
            return False
        age = datetime.timedelta(seconds=lease)
        for location in candidate.locations:
            row = self.glance.rows.get(location.id)
            if row is None or row.location.status != location.status:
                return False
            touched, deleted_at = row.location.updated_at, row.location.deleted_at
            claimed = (touched or _EPOCH) > (deleted_at or _EPOCH)
            if claimed and abs((touched or _EPOCH) - self.glance.clock) < age:
                return False
            if (deleted_at or _EPOCH) > self.glance.clock:
                return False
        return True

    def renew(self, claim: Claim) -> frozenset[int]:
        self._enter("renew")
        kept = {number for number in claim.locations if self._holds(claim, number)}
        claim.token, claim.taken_at = self.glance.new_token(), time.monotonic()
        for number in kept:
            self.glance.change_location(number, updated_at=claim.token)
        lost = frozenset(claim.locations - kept)
        claim.locations -= lost
        return lost

    def _holds(self, claim: Claim, number: int) -> bool:
        row = self.glance.rows.get(number)
        return row is not None and claim.is_mine(row.location.updated_at)

    def release(self, claim: Claim, locations: Collection[int]) -> None:
        self._enter("release")
        for number in locations:
            if self._holds(claim, number):
                free = self.glance.rows[number].location.deleted_at
                if number in claim.taken_over:
                    free = claim.taken_over[number] + datetime.timedelta(seconds=1)
                self.glance.change_location(number, updated_at=free)
        claim.locations -= set(locations)

    def still_ours(self, claimed: Sequence[tuple[Claim, Candidate, Location]]) -> frozenset[int]:
        self._enter("still_ours")
        return frozenset(
            location.id
            for claim, candidate, location in claimed
            if self._holds(claim, location.id)
            and self.glance.status_of(location.id) == location.status
            and (image := self.glance.images.get(candidate.image.id)) is not None
            and (image.status, image.deleted) == (candidate.image.status, candidate.image.deleted)
        )

    # Live references ------------------------------------------------------------------

    def references(
        self, page_size: int, known: Callable[[], Collection[Naming]] = tuple
    ) -> Iterator[list[Reference]]:
        self._enter("references")
        self._seen_live = set()
        last = 0
        while page := [at for at in self._unknown(known()) if at.location.id > last][:page_size]:
            yield page
            last = page[-1].location.id

    def _unknown(self, known: Collection[Naming]) -> list[Reference]:
        """What has bytes and follows none of these rules; what is live is seen."""
        self._seen_live |= self._live_numbers()
        references = (self._reference(row) for _, row in sorted(self.glance.rows.items()))
        return [at for at in references if _has_bytes(at) and at.naming not in known]

    def _reference(self, row: Row) -> Reference:
        location = row.location
        wreck = bool(location.problem) and self._is_live(row)
        is_live = not row.deleted or wreck
        naming = Naming.of(location.url, location.image_id, location.store, is_live)
        return Reference(location, is_live, naming)

    def references_of(self, images: Collection[str], besides: Collection[int]) -> list[Location]:
        self._enter("references_of")
        return [
            at.location
            for at in map(self._reference, self.glance.rows.values())
            if at.location.image_id in images and at.location.id not in besides and _has_bytes(at)
        ]

    def live_since(self) -> list[Reference]:
        self._enter("live_since")
        new = sorted(self._live_numbers() - self._seen_live)
        self._seen_live.update(new)
        return [self._reference(self.glance.rows[number]) for number in new]

    def _live_numbers(self) -> set[int]:
        return {number for number, row in self.glance.rows.items() if self._is_live(row)}

    def _is_live(self, row: Row) -> bool:
        if not row.deleted:
            return True
        image = self.glance.images[row.location.image_id]
        candidate = self._candidate(image)
        return (
            candidate is not None
            and candidate.kind is Kind.WRECK
            and row.location in candidate.locations
        )

    def still_live(self, locations: Collection[int]) -> frozenset[int]:
        self._enter("still_live")
        return frozenset(self._live_numbers() & set(locations))

    def live_among(self, locations: Collection[int]) -> list[Location]:
        return [self.glance.rows[number].location for number in self.still_live(locations)]

    def pending_among(self, locations: Collection[int]) -> list[Candidate]:
        self._enter("pending_among")
        rows = [self.glance.rows[number].location for number in locations]
        return [
            kinds.of_pending(self.glance.images[row.image_id], row)
            for row in rows
            if row.status == "pending_delete"
        ]

    def busy_images(self, images: Collection[str]) -> frozenset[str]:
        self._enter("busy_images")
        writing = ("queued", "saving", "uploading", "importing")
        return frozenset(
            image.id
            for image in self.glance.images.values()
            if image.id in images
            and not image.deleted
            and (image.status in writing or image.id in self.glance.importing)
        )

    def importing(self, images: Collection[str]) -> frozenset[str]:
        self._enter("importing")
        return frozenset(self.glance.importing & set(images))

    # Finish ---------------------------------------------------------------------------

    def finish(self, finish: Finish) -> Finished:
        self._enter("finish")
        self.finishes.append(finish)
        changed_locations = set()
        for number in finish.locations:
            if self.glance.status_of(number) in ("pending_delete", "deleted"):
                now = self.glance.clock
                self.glance.change_location(
                    number, status="deleted", deleted=True, updated_at=now, deleted_at=now
                )
            else:
                changed_locations.add(number)
        changed_images = {id for id in finish.images if not self._finish_image(id)}
        return Finished(frozenset(changed_locations), frozenset(changed_images))

    def _finish_image(self, id: str) -> bool:
        """Whether it was found as it should be."""
        image = self.glance.images[id]
        rows = [row for row in self.glance.rows.values() if row.location.image_id == id]
        done = all(row.deleted and row.location.status != "pending_delete" for row in rows)
        if image.status == "pending_delete" and done:
            self.glance.change_image(
                id,
                status="deleted",
                deleted=True,
                deleted_at=image.deleted_at or self.glance.clock,
            )
        return image.status in ("pending_delete", "deleted")

    def locations(self, image_ids: Collection[str]) -> list[Location]:
        self._enter("locations")
        return [at for image in sorted(image_ids) for at in self.glance.locations_of(image)]

    def images(self, ids: Collection[str]) -> dict[str, Image]:
        self._enter("images")
        return {id: self.glance.images[id] for id in ids if id in self.glance.images}


def _state(image: Image) -> tuple[object, ...]:
    return image.status, image.deleted, image.deleted_at

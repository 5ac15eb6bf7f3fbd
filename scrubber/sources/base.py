"""The contract of a source of deleted images."""

import datetime
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from scrubber.model import Backlog, Candidate, Image, Location, Selection
from scrubber.planning.naming import Naming


@dataclass(eq=False, slots=True)
class Claim:
    """A lease on the locations of one page, kept in their rows.

    :param token: what our claim wrote; a row that shows anything else is no longer ours.
    :param renewing: the next token, while a renewal is under way; either is ours then.
    :param taken_over: locations of a claim that lapsed, with their deleted_at.
    :param taken_at: on the local monotonic clock, before the claim was written.
    """

    token: datetime.datetime | None
    taken_at: float
    renewing: datetime.datetime | None = None
    locations: set[int] = field(default_factory=set)
    taken_over: dict[int, datetime.datetime] = field(default_factory=dict)

    def is_mine(self, seen: datetime.datetime | None) -> bool:
        return seen is not None and seen in (self.token, self.renewing)


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim got of a page of candidates."""

    claim: Claim
    candidates: tuple[Candidate, ...]
    lost: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Reference:
    """A location that has bytes, or may have them.

    :param is_live: whether its image uses them; of a wreck only if it cannot be read.
    :param naming: the rule that its URL may follow; None if its row does not show the URL.
    :param stands_for: it was read as one of so many that follow a known rule.
    """

    location: Location
    is_live: bool
    naming: Naming | None = None
    stands_for: int = 1


@dataclass(frozen=True, slots=True)
class Finish:
    """What to record: locations whose bytes are gone, and images that are done with."""

    locations: frozenset[int]
    images: frozenset[str]


@dataclass(frozen=True, slots=True)
class Finished:
    """What a finish found: rows and images that somebody else had changed meanwhile."""

    changed_locations: frozenset[int]
    changed_images: frozenset[str]


class Unclaimed:
    """What a source does whose claims stand in no row: nobody takes them, they never run out."""

    def renew(self, claim: Claim) -> frozenset[int]:
        claim.taken_at = time.monotonic()
        return frozenset()

    def release(self, claim: Claim, locations: Collection[int]) -> None:
        claim.locations -= set(locations)

    def still_ours(self, claimed: Sequence[tuple[Claim, Candidate, Location]]) -> frozenset[int]:
        return frozenset(location.id for _, _, location in claimed)


class Source(Protocol):
    """Where candidates come from, are claimed, and are recorded as finished.

    Every call may raise :class:`errors.SourceUnavailable`.
    """

    def check(self) -> None:
        """See that the source can be used at all.

        :raises SourceError: it cannot; the message says what is missing.
        """

    def now(self) -> datetime.datetime:
        """The clock that all scrubbers of this source share."""

    def candidates(self, selection: Selection, page_size: int) -> Iterator[list[Candidate]]:
        """All that may be deleted one day, page by page; the due ones and the others."""

    def backlog(self, older: float = 0, younger: float | None = None) -> Backlog:
        """What was deleted at least ``older`` and less than ``younger`` seconds ago, and waits.

        For triggers and figures: cheap, and without locations removed from live images.
        """

    def claim(self, candidates: Sequence[Candidate], lease: float) -> Claimed:
        """Take the candidates that nobody else holds; all locations of an image or none."""

    def renew(self, claim: Claim) -> frozenset[int]:
        """Start the lease anew; returns the locations that are no longer ours."""

    def release(self, claim: Claim, locations: Collection[int]) -> None:
        """Give back what was claimed and not carried out."""

    def still_ours(self, claimed: Sequence[tuple[Claim, Candidate, Location]]) -> frozenset[int]:
        """The location ids that may still be deleted: the claim holds, the image is unchanged."""

    def references(
        self, page_size: int, known: Callable[[], Collection[Naming]] = tuple
    ) -> Iterator[list[Reference]]:
        """Every location that is live, or pending: a restore can make it live in mid-run.

        :param known: rules, asked for before each page; of the locations that follow them only
            a sample is read.
        """

    def references_of(self, images: Collection[str], besides: Collection[int]) -> list[Location]:
        """The locations of these images that are live or pending, without those of these ids."""

    def live_since(self) -> list[Reference]:
        """Live locations that have come since ``references`` or the last ``live_since``."""

    def still_live(self, locations: Collection[int]) -> frozenset[int]:
        """Those of these location ids that are live now."""

    def live_among(self, locations: Collection[int]) -> list[Location]:
        """The rows of those of these location ids that are live now."""

    def pending_among(self, locations: Collection[int]) -> list[Candidate]:
        """Those of these location ids that are pending now, each as a candidate of its own."""

    def busy_images(self, images: Collection[str]) -> frozenset[str]:
        """Those of these image ids whose bytes Glance may be writing right now."""

    def importing(self, images: Collection[str]) -> frozenset[str]:
        """Those of these image ids that Glance is importing into, or copying to other stores."""

    def finish(self, finish: Finish) -> Finished:
        """Record what is done; to be called again as it is when the source did not answer."""

    def images(self, ids: Collection[str]) -> dict[str, Image]:
        """The images of these ids, as they are now."""

    def locations(self, image_ids: Collection[str]) -> list[Location]:
        """All rows of these images, an image's own together and oldest first."""

    def close(self) -> None:
        """Give back connections."""

"""``--restore``: give a deleted image back whole, while Glance and daemons run."""

import datetime
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scrubber import errors, pool
from scrubber.model import Image, Location, Look, Target
from scrubber.planning import giving_back
from scrubber.sources.restoring import Held, RestoringSource
from scrubber.stores.call import call
from scrubber.stores.registry import Stores

_POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Copy:
    """A location that went with the image, and whether its bytes are still all there."""

    location: Location
    whole: bool | None
    look: Look

    @property
    def name(self) -> str:
        return f"location {self.location.id} in store {self.location.store or 'unknown'}"


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore gave back, and what an operator should know about it."""

    image: str
    copies: tuple[Copy, ...]
    lost: tuple[Copy, ...]
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "status": "succeeded",
            "image": self.image,
            "restored": [_row(copy) for copy in self.copies],
            "lost": [_row(copy) for copy in self.lost],
            "warnings": list(self.warnings),
        }


def _row(copy: Copy) -> dict[str, Any]:
    return {"location": copy.location.id, "store": copy.location.store}


class Restorer:
    """Restores images; one database transaction each, or nothing at all.

    :param lease: claim_lease in seconds: an older claim is one that lapsed.
    :param call_timeout: seconds for a look at a store.
    """

    def __init__(
        self, source: RestoringSource, stores: Stores, lease: float, call_timeout: float
    ) -> None:
        self._source = source
        self._stores = stores
        self._lease = lease
        self._call_timeout = call_timeout

    def restore(self, image_id: str, wait: float = 0, force: bool = False) -> Restored:
        """Give the image back.

        :param wait: seconds to wait for a scrubber that holds one of its locations.
        :param force: also when such a claim has lapsed, or when a store cannot be asked.
        :raises RestoreRefused: nothing was changed; the message says why.
        """
        until = time.monotonic() + wait
        while True:
            # Everything anew after a wait: what held the image may have deleted its bytes.
            attempt = self._prepare(image_id, force)
            held = self._source.give_back(
                attempt.image,
                back=[copy.location for copy in attempt.kept],
                leave=[copy.location for copy in attempt.lost],
                same=attempt.is_same,
                since=attempt.begun_at,
                lease=self._lease,
                force=force,
            )
            if held is None:
                warnings = self._warnings(attempt)
                return Restored(image_id, attempt.kept, attempt.lost, warnings)
            if held.lapsed or time.monotonic() >= until:
                raise errors.RestoreRefused(_held_message(attempt.image, held))
            pool.sleep(min(_POLL_SECONDS, max(0.0, until - time.monotonic())))

    def _prepare(self, image_id: str, force: bool) -> "_Attempt":
        now = self._source.now()
        image, rows = self._image(image_id)
        if reason := giving_back.refusal(image, rows, now):
            raise errors.RestoreRefused(reason)
        copies = [self._look_at(image, row) for row in giving_back.went_with(image, rows)]
        kept, lost = _choose(image, copies, force)
        identities = self._identities([copy.location for copy in kept])

        def is_same(location: Location) -> bool:
            return not self._identities([location]).isdisjoint(identities)

        return _Attempt(image, kept, lost, is_same, now)

    def _image(self, image_id: str) -> tuple[Image, list[Location]]:
        image = self._source.images([image_id]).get(image_id)
        if image is None:
            raise errors.RestoreRefused(f"No image found with ID {image_id}")
        return image, self._source.locations([image_id])

    def _look_at(self, image: Image, location: Location) -> Copy:
        try:
            look = self._look(location)
        except errors.StoreError as error:
            look = error
        return Copy(location, giving_back.is_whole(image, look), look)

    def _look(self, location: Location) -> Look:
        if location.problem is not None:
            raise errors.Refused(location.problem)
        driver = self._stores.holder(location)
        call(driver, driver.resolve, timeout=self._call_timeout)
        driver.identify(location.url)
        call(driver, driver.probe, timeout=self._call_timeout)
        return call(driver, driver.look, [Target(location.url)], timeout=self._call_timeout)[0]

    def _identities(self, locations: list[Location]) -> set[str]:
        """Every object these locations may stand for, however they are spelt."""
        return {
            identity
            for driver, mine in self._stores.readers([at for at in locations if at.url]).items()
            for identities in call(
                driver, driver.mentions, [at.url for at in mine], timeout=self._call_timeout
            )
            for identity in identities
        }

    def _warnings(self, attempt: "_Attempt") -> tuple[str, ...]:
        warnings = [f"not given back: {copy.name}: {_fate(copy)}" for copy in attempt.lost]
        if self._source.destroys_encryption_key(attempt.image.id):
            warnings.append(
                "property cinder_encryption_key_deletion_policy is on_image_deletion: Glance has "
                "destroyed the key of this encrypted image, its data may be unreadable"
            )
        return tuple(warnings)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What is to be given back, as seen just now.

    :param is_same: whether another location is the same object as one that is kept.
    :param begun_at: before anything was looked at, by the clock of the database.
    """

    image: Image
    kept: tuple[Copy, ...]
    lost: tuple[Copy, ...]
    is_same: Callable[[Location], bool]
    begun_at: datetime.datetime


def _choose(
    image: Image, copies: list[Copy], force: bool
) -> tuple[tuple[Copy, ...], tuple[Copy, ...]]:
    """The copies to give back, and those that are lost."""
    whole = tuple(copy for copy in copies if copy.whole)
    unsure = tuple(copy for copy in copies if copy.whole is None)
    if not whole and not (unsure and force):
        raise errors.RestoreRefused(_no_copy_message(image, copies))
    kept = whole + unsure if force else whole
    return kept, tuple(copy for copy in copies if copy not in kept)


def _fate(copy: Copy) -> str:
    return str(copy.look) if isinstance(copy.look, errors.StoreError) else "it is not whole"


def _no_copy_message(image: Image, copies: list[Copy]) -> str:
    if not copies:
        return f"image {image.id} has no copy left: its locations are already deleted"
    fates = "; ".join(f"{copy.name}: {_fate(copy)}" for copy in copies)
    hint = (
        "; --force gives back what cannot be looked at"
        if any(copy.whole is None for copy in copies)
        else ""
    )
    return f"no whole copy of image {image.id} is found: {fates}{hint}"


def _held_message(image: Image, held: Held) -> str:
    if held.lapsed:
        return (
            f"location {held.location} of image {held.image} was claimed by a scrubber that has "
            "not been heard of since; make sure that it is dead, then use --force"
        )
    return (
        f"location {held.location} of image {held.image} is being scrubbed right now; use --wait "
        f"SECONDS to see whether it is given up (asked for image {image.id})"
    )

"""A source for dry runs: reads as the database source does, and writes nothing."""

import time
from collections.abc import Collection, Sequence

from scrubber.model import Candidate, Location
from scrubber.sources.base import Claim, Claimed, Finish, Finished
from scrubber.sources.database import DatabaseSource


class RehearsalSource(DatabaseSource):
    """Claims are only looked at, finishes forgotten."""

    def claim(self, candidates: Sequence[Candidate], lease: float) -> Claimed:
        return self.claimable(candidates, lease)

    def renew(self, claim: Claim) -> frozenset[int]:
        claim.taken_at = time.monotonic()
        return frozenset()

    def release(self, claim: Claim, locations: Collection[int]) -> None:
        claim.locations -= set(locations)

    def still_ours(self, claimed: Sequence[tuple[Claim, Candidate, Location]]) -> frozenset[int]:
        return frozenset(location.id for _, _, location in claimed)

    def finish(self, finish: Finish) -> Finished:  # noqa: ARG002 - nothing to write
        return Finished(frozenset(), frozenset())

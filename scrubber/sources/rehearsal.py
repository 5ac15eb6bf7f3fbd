"""A source for dry runs: reads as the database source does, and writes nothing."""

from collections.abc import Sequence

from scrubber.model import Candidate
from scrubber.sources import claims
from scrubber.sources.base import Claimed, Finish, Finished, Unclaimed
from scrubber.sources.database import DatabaseSource


class RehearsalSource(Unclaimed, DatabaseSource):
    """Claims are only looked at, finishes forgotten."""

    def claim(self, candidates: Sequence[Candidate], lease: float) -> Claimed:
        return claims.claimable(self._engine, candidates, lease)

    def finish(self, finish: Finish) -> Finished:  # noqa: ARG002 - nothing to write
        return Finished(frozenset(), frozenset())

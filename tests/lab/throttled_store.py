"""A store with a limit, in simulated time: what becomes of scrubbers that share it.

Nothing here waits: an hour takes as long as its events.
"""

import heapq
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from scrubber.planning.rate import Limit


@dataclass(frozen=True)
class Phase:
    """From ``since`` on the store allows so many locations a second."""

    since: float
    limit: float


@dataclass
class ThrottledStore:
    """A bucket that fills at the limit of the phase and holds ``burst`` seconds of it."""

    phases: Sequence[Phase]
    burst: float = 1.0
    _held: float = 1.0
    _filled_at: float = 0.0

    def limit(self, now: float) -> float:
        return next(at.limit for at in reversed(self.phases) if at.since <= now)

    def take(self, now: float, locations: int) -> int:
        """How many of them it deletes; the others it refuses."""
        limit = self.limit(now)
        filled = self._held + (now - self._filled_at) * limit
        self._held, self._filled_at = min(filled, max(1.0, limit * self.burst)), now
        taken = int(min(locations, self._held))
        self._held -= taken
        return taken


@dataclass(frozen=True)
class Answer:
    """What one scrubber heard at that time."""

    at: float
    scrubber: int
    deleted: int
    refused: int
    rate: float | None


@dataclass
class Simulation:
    """Scrubbers with endless work and ``connections`` each, on one store, for ``seconds``."""

    store: ThrottledStore
    seconds: float
    scrubbers: int = 1
    connections: int = 64
    batch: int = 1
    latency: float = 0.02
    retry_after: float | None = None
    seed: int = 0
    answers: list[Answer] = field(default_factory=list)

    def run(self) -> "Simulation":
        chance = random.Random(self.seed)
        order = itertools.count()
        events: list[tuple[float, int, int, tuple[float, int] | None]] = []
        limits = [Limit() for _ in range(self.scrubbers)]
        free = [self.connections] * self.scrubbers
        waking = [False] * self.scrubbers

        def at(moment: float, scrubber: int, sent: tuple[float, int] | None = None) -> None:
            heapq.heappush(events, (moment, next(order), scrubber, sent))

        for number in range(self.scrubbers):
            at(0.001 * number, number)
        while events:
            now, _, number, sent = heapq.heappop(events)
            if now > self.seconds:
                break
            if sent is None:
                waking[number] = False
            else:
                free[number] += 1
                limits[number] = self._heard(limits[number], now, number, *sent)
            while free[number] and limits[number].ready_at <= now:
                size = limits[number].batch_size(self.batch)
                limits[number] = limits[number].sent(now, size)
                free[number] -= 1
                at(now + self.latency * chance.uniform(0.5, 1.5), number, (now, size))
            if free[number] and not waking[number]:
                waking[number] = True
                at(max(limits[number].ready_at, now + 1e-4), number)
        return self

    def _heard(self, limit: Limit, now: float, number: int, sent_at: float, size: int) -> Limit:
        deleted = self.store.take(now, size)
        if deleted:
            limit = limit.went_well(now, deleted)
        if refused := size - deleted:
            limit = limit.was_refused(now, sent_at, refused, self.retry_after)
        self.answers.append(Answer(now, number, deleted, refused, limit.allowed))
        return limit

    # What came of it

    def deleted(self, since: float = 0, until: float = float("inf"), of: int | None = None) -> int:
        return sum(
            answer.deleted
            for answer in self.answers
            if since <= answer.at < until and of in (None, answer.scrubber)
        )

    def refused(self, since: float = 0) -> int:
        return sum(answer.refused for answer in self.answers if since <= answer.at)

    def refused_per_deleted(self, since: float = 0) -> float:
        return self.refused(since) / self.deleted(since)

    def goodput(self, since: float = 0, until: float | None = None) -> float:
        """What was deleted, as a part of what the store would have allowed."""
        until = self.seconds if until is None else until
        steps = [since, *(at.since for at in self.store.phases if since < at.since < until), until]
        allowed = sum(
            (end - begin) * self.store.limit(begin) for begin, end in itertools.pairwise(steps)
        )
        return self.deleted(since, until) / allowed

    def back_after(self, moment: float, part: float = 0.9) -> float:
        """Seconds from there until a whole second reached that part of the limit."""
        step = 0.25
        for number in range(int((self.seconds - moment) / step)):
            begin = moment + number * step
            if self.deleted(begin, begin + 1) >= part * self.store.limit(begin):
                return begin - moment
        return float("inf")

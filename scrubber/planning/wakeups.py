"""When the daemon runs next: intervals, quiet hours, and what may come before its time.

Lengths are seconds.  Intervals are measured on a monotonic clock; only a :class:`Window` knows
the wall clock.
"""

import datetime
import enum
from collections.abc import Iterator
from dataclasses import dataclass

from scrubber.model import Backlog

#: Runs never follow each other faster.
LEAST_PAUSE = 1.0

#: What a run left may be tried again sooner than after wakeup_time, and not sooner than this.
AGAIN_PAUSE = 10.0


class Trigger(enum.StrEnum):
    """Why a run begins."""

    START = "start"
    INTERVAL = "interval"
    BACKLOG = "backlog"
    RETRY = "retry"
    WINDOW = "window"
    IMAGES = "pending images"
    BYTES = "pending bytes"
    AGE = "age"
    SPACE = "free space"
    SIGNAL = "signal"
    REQUEST = "request"

    @property
    def by_operator(self) -> bool:
        """Whether somebody wants it now, quiet hours or not."""
        return self in (Trigger.SIGNAL, Trigger.REQUEST)


@dataclass(frozen=True, slots=True)
class Window:
    """The hours of each day in which runs may go on; one that ends before it starts spans midnight.

    A start or end that a change to summer time skips comes as much later as was skipped; one
    that a day has twice is the first of the two.
    """

    start: datetime.time
    end: datetime.time
    zone: datetime.tzinfo

    def is_open(self, now: datetime.datetime) -> bool:
        return self.opens_in(now) == 0

    def opens_in(self, now: datetime.datetime) -> float:
        """Seconds, 0 while it is open.

        :param now: with a time zone, any.
        """
        starts = (start for start, end in self._openings(now) if end > now)
        return max(0.0, (next(starts) - now).total_seconds())

    def closes_in(self, now: datetime.datetime) -> float:
        """Seconds until its next end: that of the present opening, or of the one that comes."""
        ends = (end for _, end in self._openings(now) if end > now)
        return (next(ends) - now).total_seconds()

    def _openings(
        self, now: datetime.datetime
    ) -> Iterator[tuple[datetime.datetime, datetime.datetime]]:
        """Yesterday's and the next days', in UTC: lengths across a change of time are right there.

        Days on which summer time skips all of it have none.
        """
        today = now.astimezone(self.zone).date()
        for number in (-1, 0, 1, 2, 3):
            day = today + datetime.timedelta(days=number)
            last = day + datetime.timedelta(days=self.end <= self.start)
            start, end = self._moment(day, self.start), self._moment(last, self.end)
            if start < end:
                yield start, end

    def _moment(self, day: datetime.date, time: datetime.time) -> datetime.datetime:
        return datetime.datetime.combine(day, time, self.zone).astimezone(datetime.UTC)

    def __str__(self) -> str:
        return f"{self.start:%H:%M}-{self.end:%H:%M} {self.zone}"


@dataclass(frozen=True, slots=True)
class Watermark:
    """So much of a file system should be free: bytes, or a share of it from 0 to 1."""

    bytes: int = 0
    share: float = 0.0

    def is_above(self, free: int, total: int) -> bool:
        """Whether less than that is free."""
        return free < max(self.bytes, self.share * total)


@dataclass(frozen=True, slots=True)
class Triggers:
    """What brings a run forward; 0 means never.

    :param images: so many that have become due since the last run began.
    :param bytes: so much of them.
    :param age: seconds since one of them became due.
    """

    images: int = 0
    bytes: int = 0
    age: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.images or self.bytes or self.age)

    def pulled(self, backlog: Backlog, scrub_time: float) -> Trigger | None:
        """The first reason to run now.

        :param backlog: of what has become due since the last run began: that run has left the
            rest for a reason, and to look at it again and again helps nobody.
        """
        if self.images and backlog.images >= self.images:
            return Trigger.IMAGES
        if self.bytes and backlog.bytes >= self.bytes:
            return Trigger.BYTES
        if self.age and backlog.oldest is not None and backlog.oldest >= scrub_time + self.age:
            return Trigger.AGE
        return None


@dataclass(frozen=True, slots=True)
class Schedule:
    """The options that say when to run.

    :param wakeup_time: between the end of a run and the start of the next one.
    :param jitter: by which share of it that may vary, from 0 to 1: processes that were started
        together do not stay together.
    """

    wakeup_time: float
    jitter: float = 0.0
    window: Window | None = None


@dataclass(frozen=True, slots=True)
class LastRun:
    """What the next wake-up depends on.

    :param took: how long it went on.
    :param again_in: when something that it left may be tried again, None for nothing.
    :param chance: from 0 to 1, drawn anew for each run.
    """

    took: float
    again_in: float | None = None
    chance: float = 0.5


@dataclass(frozen=True, slots=True)
class Wakeup:
    """The next run: in how many seconds, never negative, and why then."""

    seconds: float
    trigger: Trigger


def next_wakeup(
    schedule: Schedule,
    last: LastRun | None,
    ago: float,
    now: datetime.datetime,
    pulled: Trigger | None = None,
) -> Wakeup:
    """When to run next, seen from now.

    :param last: the last run, which ended so long ``ago``; None before the first.
    :param now: the wall clock, with a time zone.
    :param pulled: what somebody asks for, or what cannot wait.
    """
    wakeup = Wakeup(0.0, Trigger.START)
    if last is not None:
        wakeup = Wakeup(LEAST_PAUSE, pulled) if pulled else _pause(schedule, last)
    elif pulled:
        wakeup = Wakeup(0.0, pulled)
    seconds = max(0.0, wakeup.seconds - ago)
    if schedule.window is None or wakeup.trigger.by_operator:
        return Wakeup(seconds, wakeup.trigger)
    closed = schedule.window.opens_in(now + datetime.timedelta(seconds=seconds))
    return Wakeup(seconds + closed, Trigger.WINDOW if closed else wakeup.trigger)


def _pause(schedule: Schedule, last: LastRun) -> Wakeup:
    """How long to wait after the end of that run."""
    if last.took > schedule.wakeup_time:
        # As much has come meanwhile as usually comes while it waits.
        return Wakeup(LEAST_PAUSE, Trigger.BACKLOG)
    varied = schedule.wakeup_time * (1 + schedule.jitter * (2 * last.chance - 1))
    pause = Wakeup(max(LEAST_PAUSE, varied), Trigger.INTERVAL)
    if last.again_in is not None and (again := max(last.again_in, AGAIN_PAUSE)) < pause.seconds:
        return Wakeup(again, Trigger.RETRY)
    return pause

"""When the daemon runs next: windows, intervals, and what comes before its time."""

import datetime
import zoneinfo
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from scrubber.model import Backlog
from scrubber.planning.wakeups import (
    AGAIN_PAUSE,
    LEAST_PAUSE,
    LastRun,
    Schedule,
    Trigger,
    Triggers,
    Wakeup,
    Watermark,
    Window,
    next_wakeup,
)

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
LORD_HOWE = zoneinfo.ZoneInfo("Australia/Lord_Howe")  # its summer is half an hour off
NOON = datetime.datetime(2026, 6, 1, 12, tzinfo=datetime.UTC)
HOUR = 3600.0


def at(text: str, zone: datetime.tzinfo = BERLIN, fold: int = 0) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold)


def window(start: str, end: str, zone: datetime.tzinfo = BERLIN) -> Window:
    return Window(datetime.time.fromisoformat(start), datetime.time.fromisoformat(end), zone)


# Windows --------------------------------------------------------------------------------------

NIGHT = window("22:00", "06:00")
NOONTIDE = window("12:00", "13:30")


@pytest.mark.parametrize(
    ("hours", "now", "opens_in", "closes_in"),
    [
        (NIGHT, "2026-06-01 21:59:30", 30, 8 * HOUR + 30),
        (NIGHT, "2026-06-01 22:00", 0, 8 * HOUR),
        (NIGHT, "2026-06-01 23:30", 0, 6.5 * HOUR),
        (NIGHT, "2026-06-02 05:59:59", 0, 1),
        (NIGHT, "2026-06-02 06:00", 16 * HOUR, 24 * HOUR),
        (NOONTIDE, "2026-06-01 11:00", HOUR, 2.5 * HOUR),
        (NOONTIDE, "2026-06-01 12:00", 0, 1.5 * HOUR),
        (NOONTIDE, "2026-06-01 13:30", 22.5 * HOUR, 24 * HOUR),
    ],
)
def test_a_window_opens_and_closes_at_its_hours(
    hours: Window, now: str, opens_in: float, closes_in: float
) -> None:
    assert hours.opens_in(at(now)) == opens_in
    assert hours.closes_in(at(now)) == closes_in
    assert hours.is_open(at(now)) is (opens_in == 0)


@pytest.mark.parametrize(
    ("hours", "now", "opens_in", "closes_in"),
    [
        # The night in which clocks go forward from 2:00 to 3:00 is an hour shorter.
        (NIGHT, "2026-03-28 22:00", 0, 7 * HOUR),
        (NIGHT, "2026-03-29 03:00", 0, 3 * HOUR),
        # The night in which they go back from 3:00 to 2:00 is an hour longer.
        (NIGHT, "2026-10-24 22:00", 0, 9 * HOUR),
        # A start that is skipped comes as much later.
        (window("02:30", "05:00"), "2026-03-29 01:30", HOUR, 2.5 * HOUR),
        # What is skipped whole does not open on that day.
        (window("02:15", "03:10"), "2026-03-29 01:00", 24 * HOUR + 0.25 * HOUR, None),
        # One that comes twice is the first.
        (window("02:30", "03:00"), "2026-10-25 02:00", 0.5 * HOUR, 2 * HOUR),
    ],
)
def test_a_window_keeps_to_the_wall_clock_when_it_changes(
    hours: Window, now: str, opens_in: float, closes_in: float | None
) -> None:
    assert hours.opens_in(at(now)) == opens_in
    if closes_in is not None:
        assert hours.closes_in(at(now)) == closes_in


def test_a_window_is_the_same_from_whatever_zone_it_is_looked_at() -> None:
    now = at("2026-06-01 21:00")
    assert NIGHT.opens_in(now.astimezone(datetime.UTC)) == NIGHT.opens_in(now) == HOUR
    assert NIGHT.opens_in(now.astimezone(LORD_HOWE)) == HOUR


times = st.times().map(lambda time: time.replace(second=0, microsecond=0))
zones = st.sampled_from([datetime.UTC, BERLIN, LORD_HOWE, zoneinfo.ZoneInfo("America/New_York")])
moments = st.datetimes(
    datetime.datetime(2025, 1, 1), datetime.datetime(2027, 1, 1), timezones=st.just(datetime.UTC)
)


@st.composite
def windows(draw: st.DrawFn) -> Window:
    start, end = draw(times), draw(times)
    assume(start != end)
    return Window(start, end, draw(zones))


@given(windows(), moments)
def test_a_window_is_open_as_soon_as_it_says_and_shut_as_soon_as_it_says(
    hours: Window, now: datetime.datetime
) -> None:
    opening = now + datetime.timedelta(seconds=hours.opens_in(now))
    assert hours.is_open(opening)
    if opening > now:
        assert not hours.is_open(opening - datetime.timedelta(microseconds=1))
    closing = now + datetime.timedelta(seconds=hours.closes_in(now))
    assert closing > now
    assert not hours.is_open(closing)
    assert hours.is_open(closing - datetime.timedelta(microseconds=1))


@given(windows(), moments)
def test_a_window_is_never_more_than_two_days_away(hours: Window, now: datetime.datetime) -> None:
    assert 0 <= hours.opens_in(now) <= 49 * HOUR
    assert 0 < hours.closes_in(now) <= 73 * HOUR


# Space ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("watermark", "free", "short"),
    [
        (Watermark(share=0.1), 99, True),
        (Watermark(share=0.1), 100, False),
        (Watermark(bytes=500), 499, True),
        (Watermark(bytes=500), 500, False),
        (Watermark(), 0, False),
    ],
)
def test_space_is_short_below_the_watermark(watermark: Watermark, free: int, short: bool) -> None:
    assert watermark.is_above(free, 1000) is short


# Triggers -------------------------------------------------------------------------------------

MANY = Backlog(images=10, bytes=1000, oldest=100 + 60)


@pytest.mark.parametrize(
    ("triggers", "pulled"),
    [
        (Triggers(), None),
        (Triggers(images=10), Trigger.IMAGES),
        (Triggers(images=11), None),
        (Triggers(bytes=1000), Trigger.BYTES),
        (Triggers(bytes=1001), None),
        (Triggers(age=60), Trigger.AGE),  # due for a minute: it was deleted scrub_time before
        (Triggers(age=61), None),
        (Triggers(images=99, bytes=1), Trigger.BYTES),
    ],
)
def test_a_trigger_is_pulled_by_as_much_as_it_says(
    triggers: Triggers, pulled: Trigger | None
) -> None:
    assert triggers.pulled(MANY, scrub_time=100) is pulled


@pytest.mark.parametrize("triggers", [Triggers(1), Triggers(0, 1), Triggers(0, 0, 1)])
def test_nothing_pending_pulls_no_trigger(triggers: Triggers) -> None:
    assert triggers
    assert triggers.pulled(Backlog(), scrub_time=0) is None


# The next run ---------------------------------------------------------------------------------

EVERY_FIVE_MINUTES = Schedule(wakeup_time=300)
QUICK = LastRun(took=1)


def test_the_first_run_begins_at_once() -> None:
    assert next_wakeup(EVERY_FIVE_MINUTES, None, 0, NOON) == Wakeup(0, Trigger.START)


def test_the_next_run_begins_wakeup_time_after_the_end_of_the_last() -> None:
    assert next_wakeup(EVERY_FIVE_MINUTES, QUICK, 0, NOON) == Wakeup(300, Trigger.INTERVAL)
    assert next_wakeup(EVERY_FIVE_MINUTES, QUICK, 100, NOON) == Wakeup(200, Trigger.INTERVAL)
    assert next_wakeup(EVERY_FIVE_MINUTES, QUICK, 1000, NOON) == Wakeup(0, Trigger.INTERVAL)


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 270), (0.5, 300), (1.0, 330)])
def test_jitter_makes_it_earlier_or_later_by_its_share(chance: float, seconds: float) -> None:
    schedule = replace(EVERY_FIVE_MINUTES, jitter=0.1)
    assert next_wakeup(schedule, LastRun(1, chance=chance), 0, NOON).seconds == seconds


def test_a_run_longer_than_wakeup_time_is_followed_by_the_next_without_an_interval() -> None:
    assert next_wakeup(EVERY_FIVE_MINUTES, LastRun(took=301), 0, NOON) == Wakeup(
        LEAST_PAUSE, Trigger.BACKLOG
    )
    assert next_wakeup(EVERY_FIVE_MINUTES, LastRun(took=300), 0, NOON).seconds == 300


@pytest.mark.parametrize(
    ("again_in", "seconds", "trigger"),
    [
        (40, 40, Trigger.RETRY),
        (0.1, AGAIN_PAUSE, Trigger.RETRY),  # not in a circle
        (300, 300, Trigger.INTERVAL),
        (5000, 300, Trigger.INTERVAL),
    ],
)
def test_what_may_be_tried_again_sooner_is(
    again_in: float, seconds: float, trigger: Trigger
) -> None:
    last = LastRun(took=1, again_in=again_in)
    assert next_wakeup(EVERY_FIVE_MINUTES, last, 0, NOON) == Wakeup(seconds, trigger)


def test_what_is_asked_for_comes_at_once_but_for_the_least_pause() -> None:
    for trigger in (Trigger.SIGNAL, Trigger.IMAGES):
        asked = next_wakeup(EVERY_FIVE_MINUTES, QUICK, 0, NOON, trigger)
        assert asked == Wakeup(LEAST_PAUSE, trigger)
        assert next_wakeup(EVERY_FIVE_MINUTES, QUICK, 5, NOON, trigger) == Wakeup(0, trigger)
        assert next_wakeup(EVERY_FIVE_MINUTES, None, 0, NOON, trigger) == Wakeup(0, trigger)


AFTERNOON = replace(EVERY_FIVE_MINUTES, window=window("14:00", "18:00", datetime.UTC))
AN_HOUR_BEFORE = datetime.datetime(2026, 6, 1, 13, tzinfo=datetime.UTC)
A_MINUTE_BEFORE = datetime.datetime(2026, 6, 1, 13, 59, tzinfo=datetime.UTC)
INSIDE = datetime.datetime(2026, 6, 1, 14, tzinfo=datetime.UTC)
AT_ITS_END = datetime.datetime(2026, 6, 1, 17, 59, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("now", "last", "wakeup"),
    [
        (AN_HOUR_BEFORE, None, Wakeup(HOUR, Trigger.WINDOW)),
        (AN_HOUR_BEFORE, QUICK, Wakeup(HOUR, Trigger.WINDOW)),
        (A_MINUTE_BEFORE, QUICK, Wakeup(300, Trigger.INTERVAL)),
        (INSIDE, None, Wakeup(0, Trigger.START)),
        (INSIDE, QUICK, Wakeup(300, Trigger.INTERVAL)),
        (AT_ITS_END, QUICK, Wakeup(20 * HOUR + 60, Trigger.WINDOW)),
        (AT_ITS_END, LastRun(took=4 * HOUR), Wakeup(1, Trigger.BACKLOG)),
    ],
)
def test_runs_begin_inside_the_window(
    now: datetime.datetime, last: LastRun | None, wakeup: Wakeup
) -> None:
    assert next_wakeup(AFTERNOON, last, 0, now) == wakeup


def test_only_what_an_operator_asks_for_begins_outside_the_window() -> None:
    def wakeup(trigger: Trigger) -> Wakeup:
        return next_wakeup(AFTERNOON, QUICK, 5, AN_HOUR_BEFORE, trigger)

    by_operator = {Trigger.SIGNAL, Trigger.REQUEST}
    for trigger in Trigger:
        expected = Wakeup(0, trigger) if trigger in by_operator else Wakeup(HOUR, Trigger.WINDOW)
        assert wakeup(trigger) == expected


lengths = st.floats(0, 1e7)
schedules = st.builds(
    Schedule,
    wakeup_time=st.floats(0, 1e6),
    jitter=st.floats(0, 1),
    window=st.none() | windows(),
)
last_runs = st.builds(LastRun, took=lengths, again_in=st.none() | lengths, chance=st.floats(0, 1))
pulls = st.none() | st.sampled_from(Trigger)


@given(schedules, last_runs, lengths, moments, pulls)
def test_no_wait_is_negative_and_no_run_follows_at_once(
    schedule: Schedule,
    last: LastRun,
    ago: float,
    now: datetime.datetime,
    pulled: Trigger | None,
) -> None:
    wakeup = next_wakeup(schedule, last, ago, now, pulled)
    assert wakeup.seconds >= 0
    assert ago + wakeup.seconds >= LEAST_PAUSE
    longest = max(LEAST_PAUSE, 2 * schedule.wakeup_time) + 49 * HOUR
    assert wakeup.seconds <= longest


@given(schedules, last_runs, st.floats(0, 1e5), moments, pulls)
def test_who_waits_as_long_as_it_says_need_not_wait_any_more(
    schedule: Schedule,
    last: LastRun,
    ago: float,
    now: datetime.datetime,
    pulled: Trigger | None,
) -> None:
    """So a daemon sleeps once for each run, whatever the schedule."""
    wakeup = next_wakeup(schedule, last, ago, now, pulled)
    later = now + datetime.timedelta(seconds=wakeup.seconds)
    again = next_wakeup(schedule, last, ago + wakeup.seconds, later, pulled)
    assert again.seconds < 1e-3
    if schedule.window and not (pulled and pulled.by_operator):
        assert schedule.window.opens_in(later) < 1e-3

"""Sizes, shares and hours as operators write them; what cannot be meant is refused."""

import datetime
import zoneinfo
from pathlib import Path

import pytest

from scrubber import units
from scrubber.planning.wakeups import Watermark, Window


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), (" 1000 ", 1000), ("500GB", 500 * 10**9), ("1.5TiB", 3 * 2**39), ("4KiB", 4096)],
)
def test_sizes(text: str, size: int) -> None:
    assert units.Size()(text) == size


@pytest.mark.parametrize("text", ["", "many", "-1", "-5GB", "5 parsecs", "1e9", "²"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no size: write bytes, or 500GB"):
        units.Size()(text)


@pytest.mark.parametrize(
    ("text", "watermark"),
    [
        ("10%", Watermark(share=0.1)),
        ("2.5 %", Watermark(share=0.025)),
        ("500GB", Watermark(bytes=500 * 10**9)),
        ("", None),
    ],
)
def test_watermarks(text: str, watermark: Watermark | None) -> None:
    assert units.FreeSpace()(text) == watermark


@pytest.mark.parametrize("text", ["101%", "-1%", "%", "nan%", "ten%", "half"])
def test_what_is_no_watermark_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no share from 0% to 100%|is no size"):
        units.FreeSpace()(text)


@pytest.mark.parametrize("text", ["22:00-06:00 Europe/Berlin", " 22:00 - 6:00  Europe/Berlin "])
def test_hours_with_their_zone(text: str) -> None:
    expected = Window(datetime.time(22), datetime.time(6), zoneinfo.ZoneInfo("Europe/Berlin"))
    assert units.QuietHours()(text) == expected
    assert str(expected) == "22:00-06:00 Europe/Berlin"


def test_no_hours_is_the_whole_day() -> None:
    assert units.QuietHours()("") is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("22-6", "is not of the form 22:00-06:00"),
        ("22:00", "is not of the form"),
        ("22:00-06:00 Europe/Berlin now", "is not of the form"),
        ("24:00-06:00", "24:00 is no time of the day"),
        ("22:00-06:60", "06:60 is no time of the day"),
        ("06:00-06:00", "starts when it ends"),
        ("22:00-06:00 Europe/Nowhere", "Europe/Nowhere is no time zone"),
        ("22:00-06:00 Europe", "Europe is no time zone"),
        ("22:00-06:00 ../../etc/passwd", "is no time zone"),
        ("22:00-06:00 /etc/passwd", "is no time zone"),
    ],
)
def test_hours_that_cannot_be_meant_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        units.QuietHours()(text)


# The host's own zone --------------------------------------------------------------------------

SUMMER = datetime.datetime(2026, 7, 1)


def offset_of_host() -> datetime.timedelta | None:
    return units.QuietHours()("22:00-06:00").zone.utcoffset(SUMMER)


@pytest.mark.parametrize("value", ["Europe/Berlin", ":Europe/Berlin"])
def test_hours_without_a_zone_are_those_of_tz(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TZ", value)
    assert offset_of_host() == datetime.timedelta(hours=2)


def test_without_tz_they_are_those_of_the_host(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("TZ", raising=False)
    link = tmp_path / "localtime"
    monkeypatch.setattr(units, "_LOCAL_TIME", str(link))
    assert offset_of_host() == datetime.timedelta(0)
    link.symlink_to("/usr/share/zoneinfo/America/New_York")
    assert offset_of_host() == -datetime.timedelta(hours=4)


def test_a_tz_that_is_no_zones_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    with pytest.raises(ValueError, match="is no time zone"):
        offset_of_host()

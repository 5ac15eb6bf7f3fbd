"""Option values as operators write them: sizes, shares of a file system, quiet hours."""

import datetime
import os
import re
import zoneinfo
from typing import Any

from oslo_config import types

from scrubber.planning.wakeups import Watermark, Window

_WINDOW = re.compile(r"(\d\d?:\d\d)\s*-\s*(\d\d?:\d\d)(?:\s+(\S+))?")
_LOCAL_TIME = "/etc/localtime"


class Written(types.ConfigType):
    """A value that is told from others of its type by how it is written."""

    def _formatter(self, value: Any) -> str:
        return str(value)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))


class Size(Written):
    """Bytes, also as ``500GB`` or ``1.5TiB``."""

    def __init__(self) -> None:
        super().__init__("size")

    def __call__(self, value: Any) -> int:
        return _size(str(value))


class FreeSpace(Written):
    """A :class:`Watermark`: ``10%``, or a size; None for an empty value."""

    def __init__(self) -> None:
        super().__init__("size or share")

    def __call__(self, value: Any) -> Watermark | None:
        text = str(value).strip()
        if not text:
            return None
        if not text.endswith("%"):
            return Watermark(bytes=_size(text))
        try:
            percent = float(text[:-1])
        except ValueError:
            percent = -1.0
        if not 0 <= percent <= 100:
            raise ValueError(f"{text} is no share from 0% to 100%")
        return Watermark(share=percent / 100)


class QuietHours(Written):
    """A :class:`Window`: ``22:00-06:00``, with a time zone or in this host's; None if empty."""

    def __init__(self) -> None:
        super().__init__("hours")

    def __call__(self, value: Any) -> Window | None:
        text = str(value).strip()
        if not text:
            return None
        found = _WINDOW.fullmatch(text)
        if found is None:
            raise ValueError(f"{text} is not of the form 22:00-06:00, or 22:00-06:00 Europe/Berlin")
        start, end = _time(found[1]), _time(found[2])
        if start == end:
            raise ValueError(f"{text} starts when it ends; leave it empty to scrub at any time")
        return Window(start, end, _zone(found[3]) if found[3] else _zone_of_host())


def _size(text: str) -> int:
    text = text.strip()
    if text.isascii() and text.isdigit():
        return int(text)
    from oslo_utils import strutils  # takes as long to import as all options together

    try:
        size = int(strutils.string_to_bytes(text, unit_system="mixed", return_int=True))
    except ValueError:
        size = -1
    if size < 0:
        raise ValueError(f"'{text}' is no size: write bytes, or 500GB, or 1.5TiB")
    return size


def _time(text: str) -> datetime.time:
    hour, minute = map(int, text.split(":"))
    try:
        return datetime.time(hour, minute)
    except ValueError:
        raise ValueError(f"{text} is no time of the day; the last one is 23:59") from None


def _zone(name: str) -> datetime.tzinfo:
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"{name} is no time zone that this host knows, like Europe/Berlin"
        ) from None


def _zone_of_host() -> datetime.tzinfo:
    """As the C library finds it: TZ, /etc/localtime, UTC."""
    if name := os.environ.get("TZ", "").removeprefix(":"):
        return _zone(name)
    try:
        with open(_LOCAL_TIME, "rb") as file:
            return zoneinfo.ZoneInfo.from_file(file, key="host time")
    except (OSError, ValueError):
        return datetime.UTC

"""How long HTTP asks to wait: in seconds, or until a date as HTTP writes it."""

import datetime
import email.utils
import re

_SECONDS = re.compile(r"[0-9]{1,9}")


def retry_after(value: str | None, now: datetime.datetime) -> float | None:
    """Seconds that a Retry-After header asks for; None if it says nothing.

    :param now: with its time zone.
    """
    if value is None:
        return None
    value = value.strip()
    return float(value) if _SECONDS.fullmatch(value) else seconds_until(value, now)


def seconds_until(date: str, now: datetime.datetime) -> float | None:
    """Seconds from now to such a date, 0 if it has passed; None if it is none.

    :param now: with its time zone.
    """
    try:
        moment = email.utils.parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:  # "-0000": UTC, and nothing said of a place
        moment = moment.replace(tzinfo=datetime.UTC)
    return max(0.0, (moment - now).total_seconds())

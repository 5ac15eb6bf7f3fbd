"""Dates as HTTP writes them."""

import datetime
import email.utils


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

"""Location URLs: their scheme, and a form that may be shown."""

import re

_SCHEME = re.compile(r"^([a-z][a-z0-9+.-]*)://", re.IGNORECASE)


def scheme(url: str) -> str | None:
    """The scheme in lower case, None if this is no URL."""
    match = _SCHEME.match(url)
    return match.group(1).lower() if match else None


def is_url(text: str) -> bool:
    """Whether this can be a location URL, of the printable sort that Glance writes."""
    return scheme(text) is not None and text.isprintable()

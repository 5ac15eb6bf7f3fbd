"""Location URLs: their scheme, and a form that may be shown."""

import re
from functools import lru_cache

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*", re.IGNORECASE)


def scheme(url: str) -> str | None:
    """The scheme in lower case, None if this is no URL."""
    return _scheme(url[: max(0, url.find("://"))])


# Few are in use, and every URL is asked for its own several times.
@lru_cache(maxsize=100)
def _scheme(name: str) -> str | None:
    return name.lower() if _SCHEME.fullmatch(name) else None


def is_url(text: str) -> bool:
    """Whether this can be a location URL, of the printable sort that Glance writes."""
    return scheme(text) is not None and text.isprintable()

"""Versions of Glance's Images API, and since which it can what scrubber asks of it.

A Glance names all versions that it speaks; which ones depends on its configuration, too.
"""

import re
from dataclasses import dataclass

_ID = re.compile(r"v(\d{1,9})\.(\d{1,9})")


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """As ``v2.15``."""

    major: int
    minor: int

    @classmethod
    def parse(cls, text: str) -> "Version":
        """:raises ValueError: it is no version."""
        if (found := _ID.fullmatch(text)) is None:
            raise ValueError(f"{text!r} is no version")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"v{self.major}.{self.minor}"


#: The API that all of this is about.
MAJOR = 2

#: Hidden images; an older Glance takes the filter for one of properties, and lists nothing.
HIDDEN_IMAGES = Version(2, 7)

#: The delete of one copy of an image; with an older one an image goes as a whole.
SINGLE_COPIES = Version(2, 10)

#: An API of the image cache; named only where a node has a cache.
CACHE = Version(2, 14)

#: Types and places of the stores, for administrators.
STORE_DETAILS = Version(2, 15)

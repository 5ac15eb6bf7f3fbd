"""What the URL of a location means, as glance_store's ``rbd`` driver reads it.

``rbd://fsid/pool/image/snapshot`` with each part percent-encoded, or ``rbd://image``, taken
literally, in the configured pool.
"""

from dataclasses import dataclass
from urllib.parse import quote, unquote

_PREFIX = "rbd://"


@dataclass(frozen=True, slots=True)
class Name:
    """What a URL names."""

    fsid: str
    pool: str
    image: str
    snapshot: str | None

    @property
    def parts(self) -> tuple[str, ...]:
        return (self.fsid, self.pool, self.image, self.snapshot or "")

    @property
    def is_encodable(self) -> bool:
        try:
            "".join(self.parts).encode()
        except UnicodeEncodeError:
            return False
        return True

    @property
    def identity(self) -> str:
        return f"rbd:{self.fsid}/{quote(self.pool, '')}/{quote(self.image, '')}"


def parsed(url: str) -> Name | None:
    """As glance_store reads it; fsid and pool empty in the short form."""
    if not url.startswith(_PREFIX):
        return None
    pieces = url[len(_PREFIX) :].split("/")
    if not all(pieces):
        return None
    match pieces:
        case [image]:
            return Name("", "", image, None)
        case [_, _, _, _]:
            fsid, pool, image, snapshot = map(unquote, pieces)
            return Name(fsid, pool, image, snapshot)
    return None

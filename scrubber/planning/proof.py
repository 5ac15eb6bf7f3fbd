"""Whether a store is the one we think: canaries, and how many missing objects are believed."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from scrubber import errors
from scrubber.model import Found, Look

#: Live locations that are looked up in a store; one that is there proves it.
CANARIES = 8


class Proof(enum.Enum):
    """What the canaries say of a store."""

    PROVEN = "a live object is there"
    UNPROVEN = "not enough live images are there to prove it"
    DISPROVED = "most of its live objects are not there"


def judge(looks: Sequence[Look]) -> Proof:
    """From what the store says of a few live objects.

    An answer that is neither "there" nor "gone" proves nothing either way.  A few that are
    there do not make up for others that are not: into a directory whose file system is
    gone Glance goes on writing new images.
    """
    found = sum(isinstance(look, Found) for look in looks)
    gone = sum(isinstance(look, errors.Gone) for look in looks)
    if gone > found:
        return Proof.DISPROVED
    return Proof.PROVEN if found and not gone else Proof.UNPROVEN


@dataclass(frozen=True, slots=True)
class Thresholds:
    """missing_threshold_count and missing_threshold_percent."""

    count: int
    percent: int


def believes(missing: int, touched: int, thresholds: Thresholds, holds_something: bool) -> bool:
    """Whether an unproven store is believed that so many of the touched objects are gone.

    An empty root may be a mount point without its file system: it is never believed.
    """
    if not holds_something:
        return False
    return missing <= thresholds.count or 100 * missing <= thresholds.percent * touched

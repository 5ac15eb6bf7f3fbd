"""How objects are named: Glance names them after their images.

Whoever knows the rule need not read each row: the users of an object that is named after an
image are found by that image's id.  So a run reads only the locations that follow no rule.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

#: So many locations are read of each rule before the others are passed over: stores are proven by
#: some of those that are live, and a store may hold no more.
ENOUGH = 32

#: Each costs the database a comparison for each row.
MOST = 32

#: Where each image has a container of its own, each location follows another rule.
MOST_COUNTED = 10_000

#: Ids as Glance gives them: so many of these characters, which stand for themselves in any URL.
ID_LENGTH = 36
ID_CHARACTERS = "0-9A-Za-z_-"
_ID = re.compile(f"[{ID_CHARACTERS}]{{{ID_LENGTH}}}")


@dataclass(frozen=True, slots=True)
class Naming:
    """Locations whose URLs differ only in the id of the image that the row belongs to.

    :param before: what comes before the id; may hold credentials, like ``after``.
    :param metadata: the row's, as it stands there: it names the store.
    :param is_live: those that Glance has not marked deleted, or those that are pending.
    """

    before: str = field(repr=False)
    after: str = field(repr=False)
    metadata: str | None
    is_live: bool

    @classmethod
    def of(cls, url: str, image_id: str, metadata: str | None, is_live: bool) -> "Naming | None":
        """That of a URL which holds its own image's id; None if it does not, or more than once.

        Then nobody could say which of them names the object.  Nor if it is not ASCII: some
        databases take other characters for the same.
        """
        if not _ID.fullmatch(image_id) or not url.isascii():
            return None
        before, found, after = url.rpartition(image_id)
        if not found or image_id in before:
            return None
        return cls(before, after, metadata, is_live)


def named_image(identity: str) -> str | None:
    """The id of the image that an object is named after, if there is such an image."""
    last = identity[-ID_LENGTH:]
    return last if _ID.fullmatch(last) else None


class Namings:
    """The rules that enough locations have been found to follow.

    :ivar known: these rules; a source reads few more locations that follow them.
    """

    def __init__(self) -> None:
        self.known: tuple[Naming, ...] = ()
        self._found = Counter[Naming]()

    def consider(self, naming: Naming, is_rule: Callable[[], bool]) -> None:
        """A location follows it.

        :param is_rule: whether all that follow it are objects named after their images.
        """
        if len(self._found) >= MOST_COUNTED and naming not in self._found:
            return
        self._found[naming] += 1
        if self._found[naming] == ENOUGH and len(self.known) < MOST and is_rule():
            self.known += (naming,)

"""Reading rows for as long as somebody is willing to wait."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

#: Rows in one query.
PAGE = 1000

#: Whoever may add a location may make up reasons; so many are told apart.
_REASONS = 10


class Hasty(Generic[T]):
    """Pages, until there are no more or the time is over.

    :ivar cut: whether some may be left unread.
    """

    def __init__(
        self,
        pages: Iterator[T],
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.cut = False
        self._pages = pages
        self._seconds = seconds
        self._clock = clock
        self._until = clock() + seconds

    def __iter__(self) -> Iterator[T]:
        for page in self._pages:
            yield page
            if self._clock() >= self._until:
                self.cut = True
                return

    @property
    def note(self) -> str:
        """What to add to numbers that may be too small."""
        return f" (more may be there: read for {self._seconds:g} s)" if self.cut else ""


def most_common(reasons: Counter[str]) -> list[tuple[str, int]]:
    """Reasons with how often they occur, the most frequent first, the rest together."""
    most = reasons.most_common(_REASONS)
    if rest := reasons.total() - sum(number for _, number in most):
        most.append(("for other reasons", rest))
    return most

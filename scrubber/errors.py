"""What can go wrong, named by what the caller may do next.

Messages are one line for an operator: what is wrong, where, what to do.
They never hold a credential; a location is named by image id, location id and
store, never by its URL.
"""

from typing import ClassVar


class ScrubberError(Exception):
    """Anything scrubber says of its own accord; ``str()`` is the whole message."""


class ConfigError(ScrubberError):
    """The configuration cannot be used; the message names section and option."""


class SourceError(ScrubberError):
    """The source of deleted images cannot be used as it is; do not retry."""


class SourceUnavailable(ScrubberError):
    """The source of deleted images does not answer; a later run may find it."""


class UnreadableLive(ScrubberError):
    """A live location cannot be read, so nobody can say which bytes it uses."""


class RestoreRefused(ScrubberError):
    """An image cannot be given back; nothing was changed."""


class StateUnavailable(ScrubberError):
    """The state database cannot be used now; the message says what to do."""


class StateMissing(StateUnavailable):
    """There is no state database yet, and none was to be made."""


class StoreError(ScrubberError):
    """A store did not delete what it was asked to.

    :cvar kind: the word for it in reports and metrics.
    """

    kind: ClassVar[str] = "error"


class Gone(StoreError):
    """The object is not there.  Means "deleted" only in a store that proved itself."""

    kind = "gone"


class Throttled(StoreError):
    """The store asks for patience; not a failure, ask again later.

    :param retry_after: seconds the store asked for, or None.
    """

    kind = "throttled"

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(StoreError):
    """The store as a whole cannot be used now: send it nothing more in this run."""

    kind = "unavailable"


class Unanswered(Unavailable):
    """It did not answer in time; what it was asked to do may still be done."""

    kind = "unanswered"


class InUse(StoreError):
    """Something still uses the object (a clone, a snapshot, a watcher); try later."""

    kind = "in_use"


class Failed(StoreError):
    """This one object could not be deleted; others of the store may well be."""

    kind = "failed"


class Begun(StoreError):
    """A part of it is deleted: it is no longer whole, not gone yet, and to be asked for again."""

    kind = "begun"


class NotSent(StoreError):
    """Not even tried, since the caller asked to stop; the object is as it was."""

    kind = "not_sent"


class Changed(StoreError):
    """It is no longer what it was when it was chosen: taken back, or gone by somebody else's hand.

    Nothing was done, and nothing is left to do for it in this run.
    """

    kind = "changed"


class Refused(StoreError):
    """scrubber will not do it: the location is not one it may delete.  Never retried blindly."""

    kind = "refused"


class Unsupported(StoreError):
    """No driver here can delete such a location."""

    kind = "unsupported"

"""What a supervisor and a worker say to each other, and the channel between them."""

import json
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from scrubber import pool

# To a worker ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Begin:
    """Begin your part of a run.

    :param run: the id that all parts have in common.
    :param first: whether it is this part that reports what nobody claims.
    """

    run: str
    trigger: str
    first: bool


@dataclass(frozen=True, slots=True)
class Cancel:
    """End the run under way as soon as what is in flight has ended and is recorded."""


@dataclass(frozen=True, slots=True)
class Order:
    """From now on this is what operators have ordered, by store.

    :param stores: the fields of a :class:`scrubber.orders.StoreOrder` each.
    """

    stores: dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Reload:
    """Read the configuration files again."""


@dataclass(frozen=True, slots=True)
class Stop:
    """End, as after SIGTERM."""


# To the supervisor ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ready:
    """It can scrub.

    :param version: of its program: an upgrade may have replaced the files meanwhile.
    """

    version: str


@dataclass(frozen=True, slots=True)
class Failed:
    """It cannot, and ends."""

    reason: str


@dataclass(frozen=True, slots=True)
class Alive:
    """A sign of life, with what it knows; figures only grow.

    :param stores: the fields of a :class:`scrubber.health.Figures` each, by store.
    :param report: of the part of the run under way (``Report.as_dict()``), if there is one.
    """

    slots: int
    slots_busy: int
    audit_lost: int
    stores: dict[str, dict[str, Any]]
    report: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """Its part of a run is over.

    :param elsewhere: images that it left to whoever had claimed them.
    """

    report: dict[str, Any]
    elsewhere: list[str] = field(default_factory=list)


Message = Begin | Cancel | Order | Reload | Stop | Ready | Failed | Alive | Ended

_KINDS = {
    kind.__name__: kind
    for kind in (Begin, Cancel, Order, Reload, Stop, Ready, Failed, Alive, Ended)
}


class Channel:
    """One end of the socket: a message is a line of JSON.

    :param connection: closed with the channel.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._one_at_a_time = pool.Lock()

    def send(self, message: Message) -> None:
        """To nobody, if the other end is gone: who listens notices that."""
        document = {"message": type(message).__name__, **asdict(message)}
        line = json.dumps(document, separators=(",", ":")).encode() + b"\n"
        with self._one_at_a_time:
            try:
                self._connection.sendall(line)
            except OSError:
                return

    def __iter__(self) -> Iterator[Message]:
        """Until the other end is gone, or says what nobody understands."""
        with self._connection.makefile("rb") as lines:
            while True:
                try:
                    line = lines.readline()
                    if not line.endswith(b"\n"):
                        return  # the end, or a message that a dying process has cut off
                    yield _understood(line)
                except (OSError, ValueError, TypeError, LookupError):
                    return

    def close(self) -> None:
        self._connection.close()


def _understood(line: bytes) -> Message:
    document = json.loads(line)
    kind = _KINDS[document.pop("message")]
    message: Message = kind(**document)
    return message

"""What a supervisor and its workers say to each other arrives as it was said."""

import socket

import pytest

from scrubber.workers.messages import (
    Alive,
    Begin,
    Cancel,
    Channel,
    Ended,
    Failed,
    Message,
    Order,
    Ready,
    Reload,
    Stop,
)

EVERYTHING: list[Message] = [
    Begin("run", "interval", first=True),
    Cancel(),
    Order({"": {"paused": True, "max_rate": None}}),
    Reload(),
    Stop(),
    Ready("1.0"),
    Failed("the database\nsays: \udc80 no"),
    Alive(16, 3, 0, {"fast": {"limit": 1.5}}, {"status": "running"}),
    Ended({"status": "succeeded"}, ["image"]),
]


def test_every_message_arrives_whole_and_in_order() -> None:
    ours, theirs = socket.socketpair()
    sender, receiver = Channel(ours), Channel(theirs)
    for message in EVERYTHING:
        sender.send(message)
    sender.close()
    assert list(receiver) == EVERYTHING
    receiver.close()


@pytest.mark.parametrize(
    "said",
    [
        b'{"message":"Stop"}',  # cut off: its sender died
        b"nonsense\n",
        b'{"message":"Dance"}\n',
        b'{"message":"Stop","now":1}\n',
        b"[]\n",
        b"\xff\n",
    ],
)
def test_who_says_what_nobody_understands_is_taken_for_gone(said: bytes) -> None:
    ours, theirs = socket.socketpair()
    receiver = Channel(theirs)
    Channel(ours).send(Cancel())
    ours.sendall(said)
    ours.close()
    assert list(receiver) == [Cancel()]
    receiver.close()


def test_what_is_said_to_nobody_is_lost_without_an_error() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    Channel(ours).send(Reload())
    ours.close()

"""The other end of systemd's notification socket."""

import socket
from collections.abc import Sequence
from pathlib import Path


class NotifySocket:
    """What a service says to systemd; each message as its fields.

    :param abstract: a name instead of a file.
    """

    def __init__(self, directory: Path, abstract: bool = False) -> None:
        path = str(directory / "notify")
        self.address = f"@{path}" if abstract else path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(f"\0{path}" if abstract else path)
        self._heard: list[dict[str, str]] = []

    def command(self, argv: Sequence[str], **environment: object) -> list[str]:
        """That command, with this socket to notify."""
        variables = {"NOTIFY_SOCKET": self.address, **environment}
        return ["/usr/bin/env", *(f"{name}={value}" for name, value in variables.items()), *argv]

    @property
    def heard(self) -> list[dict[str, str]]:
        """All messages so far."""
        while True:
            try:
                message = self._socket.recv(4096).decode()
            except BlockingIOError:
                return self._heard
            self._heard.append(dict(line.split("=", 1) for line in message.splitlines()))

    def said(self, name: str) -> list[str]:
        """The values of that field, in order."""
        return [message[name] for message in self.heard if name in message]

    def close(self) -> None:
        self._socket.close()

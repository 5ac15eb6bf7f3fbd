"""Where the admin API listens: a TCP port of one address, or a unix socket."""

import contextlib
import ipaddress
import os
import re
import secrets
import socket
import stat
from dataclasses import dataclass
from typing import Any

from scrubber.units import Written

#: Who may connect to a unix socket: the user and the group that scrubber runs as.
SOCKET_MODE = 0o660

#: Connections that the kernel keeps until they are accepted.
_BACKLOG = 128

#: A name of one is not longer than that: the system's own limit.
_LONGEST_PATH = 107

_TCP = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:\s]+)):(?P<port>\d{1,5})")


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """One port of one address of this host."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def listen(self) -> socket.socket:
        """A socket that takes connections.

        Not shared with another process, though eventlet's own ``listen`` would do that.

        :raises OSError: the port is taken, or there is no such address.
        """
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self.host, self.port))
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
        return listener

    def release(self) -> None:
        """Nothing is left behind by a socket that was closed."""


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A socket in the file system."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"

    def listen(self) -> socket.socket:
        """A socket that takes connections; one that a dead process left is replaced.

        :raises OSError: another process listens there, something else has that name, or it
            cannot be made.
        """
        self._see_that_nobody_listens()
        # Made under another name, so that it appears in one step and with its permissions.
        draft = f"{os.path.dirname(self.path)}/.{secrets.token_hex(4)}"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(draft)
            os.chmod(draft, SOCKET_MODE)  # before listen: until then nobody can connect
            listener.listen(_BACKLOG)
            os.rename(draft, self.path)
        except BaseException:
            listener.close()
            with contextlib.suppress(OSError):
                os.unlink(draft)
            raise
        return listener

    def _see_that_nobody_listens(self) -> None:
        try:
            kind = os.lstat(self.path).st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(kind):
            raise FileExistsError(f"{self.path} is there already, and is no socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1)
            try:
                probe.connect(self.path)
            except (ConnectionRefusedError, FileNotFoundError):
                return  # whoever made it is gone
        raise FileExistsError(f"another process listens at {self.path}")

    def release(self) -> None:
        """Take the name away once its socket is closed."""
        with contextlib.suppress(OSError):
            os.unlink(self.path)


Address = TcpAddress | UnixAddress


class ListenOption(Written):
    """An :data:`Address` as operators write it; None if empty."""

    def __init__(self) -> None:
        super().__init__("address")

    def __call__(self, value: Any) -> Address | None:
        text = str(value).strip()
        if not text:
            return None
        return _unix(text) if text.startswith("unix:") else _tcp(text)


def _unix(text: str) -> UnixAddress:
    path = text.removeprefix("unix:")
    if not path.startswith("/") or path.endswith("/"):
        raise ValueError(f"{text} is not of the form unix:/run/scrubber/admin.sock")
    # The draft's name may be longer than the last part of it.
    if max(len(os.fsencode(path)), len(os.fsencode(os.path.dirname(path))) + 10) > _LONGEST_PATH:
        raise ValueError(f"{text} is too long for the name of a socket")
    return UnixAddress(path)


def _tcp(text: str) -> TcpAddress:
    found = _TCP.fullmatch(text)
    host = (found["v6"] or found["host"]) if found else ""
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
        port = int(found["port"]) if found else 0
        if not 1 <= port <= 65535 or (address.version == 6) != bool(found and found["v6"]):
            raise ValueError(text)
    except ValueError:
        raise ValueError(
            f"{text} is no IP address with a port, as 127.0.0.1:9810 or [::1]:9810, nor "
            "unix: with a path"
        ) from None
    return TcpAddress(str(address), port)

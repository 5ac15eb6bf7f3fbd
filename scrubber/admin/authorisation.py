"""Who may do what: everybody, who is on this host, and who may change something.

| | unix socket | loopback | elsewhere |
|---|---|---|---|
| probes, metrics, the API's description | yes | yes | yes |
| what names images, projects and hosts | yes | yes | with the token |
| changes | yes | with the token | with the token |

The unix socket's own permissions say who may use it.  A page in an operator's browser can
send requests to loopback addresses.  It cannot send the token, so it can change nothing; and
since it is asked for under the name of its own site, and not under this host's address, it
reads nothing either ("DNS rebinding").
"""

import hmac
import ipaddress
import os
import stat
from enum import IntEnum
from typing import Any

import falcon

from scrubber import errors

#: Characters of a token, at least: nobody guesses so many.
SHORTEST_TOKEN = 16

_OPTION = "option token_file in section [admin]"


class Needs(IntEnum):
    """What a request needs, the least first."""

    NOTHING = 0
    TO_BE_LOCAL = 1
    TO_BE_TRUSTED = 2


class TokenFile:
    """A file with one line: the token that clients send as ``Authorization: Bearer``.

    It is read again whenever a client sends one, so a new token holds at once.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def read(self) -> bytes:
        """The token.

        :raises ConfigError: there is none, or others than owner and group may read it.
        """
        try:
            # Of a pipe, without that, nobody might ever write the other end.
            file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                status, token = os.fstat(file), os.read(file, 4096).strip()
            finally:
                os.close(file)
        except OSError as error:
            raise errors.ConfigError(
                f"{_OPTION}: cannot read {self._path}: {error.strerror}"
            ) from None
        if not stat.S_ISREG(status.st_mode):
            raise errors.ConfigError(f"{_OPTION}: {self._path} is no file")
        if status.st_mode & stat.S_IRWXO:
            raise errors.ConfigError(
                f"{_OPTION}: everybody may use {self._path}; chmod o= {self._path}"
            )
        if len(token) < SHORTEST_TOKEN or not token.isascii() or b" " in token or b"\n" in token:
            raise errors.ConfigError(
                f"{_OPTION}: {self._path} must hold one line of {SHORTEST_TOKEN} characters or "
                "more, without spaces; openssl rand -hex 32 makes one"
            )
        return token

    def admits(self, header: str) -> bool:
        """Whether this is the header of a client that has the token."""
        scheme, _, sent = header.strip().partition(" ")
        if scheme.lower() != "bearer":
            return False
        return hmac.compare_digest(sent.strip().encode(), self.read())


class Gate:
    """Falcon middleware: lets a request through to its resource, or says what it lacks.

    A resource says what its GETs need as ``reading``; everything else changes something.

    :param token: None if there is no token: then nobody may change anything over TCP.
    """

    def __init__(self, token: TokenFile | None) -> None:
        self._token = token

    def process_resource(
        self, request: falcon.Request, _response: falcon.Response, resource: Any, _params: Any
    ) -> None:
        needs: Needs = Needs.TO_BE_TRUSTED
        if request.method in ("GET", "HEAD", "OPTIONS"):
            needs = getattr(resource, "reading", Needs.NOTHING)
        if needs is Needs.NOTHING or _is_unix(request):
            return
        if needs is Needs.TO_BE_LOCAL and _is_local(request):
            return
        self._see_token(request)

    def _see_token(self, request: falcon.Request) -> None:
        if self._token is None:
            raise falcon.HTTPForbidden(
                description="Only over the unix socket, or with a token: option token_file in "
                "section [admin] is not set. What needs no change is open to clients on this host "
                "that ask for it by its address or as localhost."
            )
        try:
            admitted = self._token.admits(request.get_header("Authorization") or "")
        except errors.ConfigError as unusable:
            raise falcon.HTTPServiceUnavailable(description=str(unusable)) from None
        if not admitted:
            raise falcon.HTTPUnauthorized(
                description="Send the token of option token_file in section [admin] as "
                "Authorization: Bearer.",
                challenges=["Bearer"],
            )


def _is_unix(request: falcon.Request) -> bool:
    return bool(request.env["REMOTE_ADDR"] == "unix")  # as eventlet names it


def _is_local(request: falcon.Request) -> bool:
    """Whether the client is on this host, and not a proxy's nor a web page's."""
    if request.get_header("Forwarded") or request.get_header("X-Forwarded-For"):
        return False
    return _is_loopback(request.env["REMOTE_ADDR"]) and _is_own_name(request.get_header("Host"))


def _is_loopback(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback


def _is_own_name(host: str | None) -> bool:
    """A browser names the site that the page is from; old clients name nothing."""
    if host is None:
        return True
    name = host.rpartition("]")[0].removeprefix("[") or host.partition(":")[0]
    if name.lower() == "localhost":
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True

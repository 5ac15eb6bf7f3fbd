"""What the URL of a location means: which account, which container, which object.

Reads URLs exactly as glance_store's ``swift`` driver does, its oddities included, and then
says whether one is plain enough to delete by.  Credentials in URLs are read over.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from scrubber import errors
from scrubber.stores.swift.references import Reference

SCHEMES = frozenset({"swift", "swift+http", "swift+https", "swift+config"})

_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

#: Swift's own limits, in bytes.
_LONGEST_CONTAINER, _LONGEST_OBJECT = 256, 1024


@dataclass(frozen=True, slots=True)
class Address:
    """One URL, taken apart.

    :param reference: the account it names; None in URLs with an auth address.
    :param auth_address: without scheme's default port or trailing slash; None beside a
        reference.
    :param user: ``project:user``; None where the URL has none.
    :param is_plain: whether Glance would not write such a URL in any other way.
    """

    reference: str | None
    auth_address: str | None
    user: str | None
    container: str
    name: str
    is_plain: bool


def parse(url: str) -> Address:
    """Take a URL apart as glance_store does.

    :raises Refused: glance_store could not.
    """
    scheme, _, _ = url.partition("://")
    if url.count("://") != 1 or scheme not in SCHEMES:
        raise errors.Refused("not the URL of a Swift object")
    try:
        return _parsed(url, scheme)
    except ValueError:
        raise errors.Refused("a malformed Swift URL") from None


def _parsed(url: str, scheme: str) -> Address:
    """:raises ValueError: it is malformed."""
    pieces = urlsplit(url)
    netloc, path = pieces.netloc, pieces.path.lstrip("/")
    user = None
    if scheme != "swift+config":
        netloc, path, user = _without_credentials(netloc, path)
    *rest, container, name = path.split("/") if "/" in path else ("", path)
    is_plain = bool(pieces.netloc and container and name) and not _is_odd(url, container, name)
    if scheme == "swift+config":
        return Address(netloc, None, None, container, name, is_plain and not rest)
    protocol = "http" if scheme == "swift+http" else "https"
    auth_address = normal(f"{protocol}://{'/'.join([netloc, *rest])}")
    return Address(None, auth_address, user, container, name, is_plain)


def _without_credentials(netloc: str, path: str) -> tuple[str, str, str | None]:
    """Host, path and user; ``swift:///`` is an old form with the host in the path."""
    credentials = ""
    if netloc:
        if "@" in netloc:
            credentials, netloc = netloc.split("@")
    else:
        if "@" in path:
            credentials, path = path.split("@")
        netloc, _, path = path.partition("/")
    if not credentials:
        return netloc, path, None
    user, _ = unquote(credentials).rsplit(":", 1)
    return netloc, path, user


def _is_odd(url: str, container: str, name: str) -> bool:
    """Whether programs may disagree on what it names, or Swift would not take such names."""
    try:
        sizes = len(container.encode()), len(name.encode())
    except UnicodeEncodeError:
        return True
    return (
        any(character in url for character in "?#")
        or url != url.strip()
        or bool(_CONTROL.search(url))
        or {container, name} & {".", ".."} != set()
        or sizes > (_LONGEST_CONTAINER, _LONGEST_OBJECT)
        or sizes[1] > _LONGEST_OBJECT
    )


def normal(auth_address: str) -> str:
    """One spelling for an auth address; comparable, and without credentials."""
    pieces = urlsplit(auth_address)
    host = pieces.netloc.rpartition("@")[2].lower()
    default_port = ":80" if pieces.scheme == "http" else ":443"
    return f"{pieces.scheme}://{host.removesuffix(default_port)}/{pieces.path.strip('/')}"


class AddressBook:
    """Which of a store's accounts a URL names.

    :param references: by name.
    """

    def __init__(self, store: str, references: Mapping[str, Reference]) -> None:
        self._store = store
        self._references = references
        self._users = {
            name: (normal(reference.auth_address), reference.user)
            for name, reference in references.items()
        }

    def find(self, address: Address) -> list[str]:
        """The names of the references that it can mean; more than one for the same user.

        :raises Refused: none.
        """
        if address.reference is not None:
            if address.reference in self._references:
                return [address.reference]
            raise errors.Refused(f"names a reference that store {self._store} does not have")
        # An application credential leaves no user in the URL.
        wanted = (address.auth_address, address.user or "")
        found = [name for name, user in self._users.items() if user == wanted]
        if not found:
            raise errors.Refused(f"names another Swift account than store {self._store}'s")
        return found


@dataclass(frozen=True, slots=True)
class Containers:
    """In which containers a store deletes.

    :param main: Glance's own, ``swift_store_container``.
    :param several: whether there are others, named after the images they hold.
    :param others: those that ``scrub_also_in`` names.
    """

    main: str
    several: bool
    others: Collection[str]

    @property
    def named(self) -> list[str]:
        return [self.main, *self.others]

    @property
    def prefix(self) -> str:
        """With which the containers that Glance makes on demand begin."""
        return f"{self.main}_"

    def family(self, container: str, name: str) -> str:
        """What proves itself as one: a container, or all that Glance makes on demand.

        :raises Refused: nothing may be deleted there.
        """
        if container in self.named:
            return container
        if self.several and self._is_made_for(container, name):
            return f"{self.prefix}*"
        raise errors.Refused("in a container that is neither Glance's nor named in scrub_also_in")

    def _is_made_for(self, container: str, name: str) -> bool:
        """glance_store appends the first characters of the image's id; how many may change."""
        suffix = container.removeprefix(self.prefix)
        return (
            container.startswith(self.prefix)
            and suffix != ""
            and _UUID.fullmatch(name.lower()) is not None
            and name.lower().startswith(suffix)
        )

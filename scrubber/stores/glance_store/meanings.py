"""What a library's exception, or a service's answer, means to the caller."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial

from scrubber import errors
from scrubber.model import Answer
from scrubber.stores import base, http_date

_IN_USE = partial(errors.InUse, "the store says that something still uses it")
_FORBIDDEN = partial(errors.Failed, "the store forbids it to these credentials")
_NO_LOGIN = partial(errors.Unavailable, "it refuses the credentials of the store's section")
_NO_ANSWER = partial(errors.Unavailable, "it cannot be reached, or does not answer in time")
_NO_ADDRESS = partial(errors.Unavailable, "Keystone has no address of the service that can be used")
_WRONG_SECTION = partial(
    errors.Unavailable, "glance_store cannot use the store's section: compare it with Glance's"
)

#: By top package and name of the class, or of one that it inherits from.
_NAMED: dict[str, Callable[[], errors.StoreError]] = {
    "glance_store.NotFound": base.Gone,
    "glance_store.InUseByStore": _IN_USE,
    "glance_store.HasSnapshot": _IN_USE,
    "glance_store.Forbidden": _FORBIDDEN,
    "glance_store.BadStoreUri": partial(errors.Refused, "glance_store refuses the URL"),
    "glance_store.BadStoreConfiguration": _WRONG_SECTION,
    "glance_store.StoreDeleteNotSupported": _WRONG_SECTION,
    "glance_store.MissingCredentialError": _WRONG_SECTION,
    "glance_store.BadAuthStrategy": _WRONG_SECTION,
    "glance_store.RegionAmbiguity": _NO_ADDRESS,
    "glance_store.NoServiceEndpoint": _NO_ADDRESS,
    "glance_store.AuthUrlNotFound": _NO_ADDRESS,
    "glance_store.AuthBadRequest": _NO_LOGIN,
    "glance_store.AuthorizationFailure": _NO_LOGIN,
    "glance_store.NotAuthenticated": _NO_LOGIN,
    "glance_store.RemoteServiceUnavailable": _NO_ANSWER,
    "glance_store.TimeoutError": _NO_ANSWER,
    "keystoneauth1.Unauthorized": _NO_LOGIN,
    "keystoneauth1.Forbidden": _NO_LOGIN,
    "keystoneauth1.CatalogException": _NO_ADDRESS,
    "keystoneauth1.DiscoveryFailure": _NO_ADDRESS,
    "keystoneauth1.NotFound": _NO_ADDRESS,
    # cinderclient asks Cinder in its own name, so this is Keystone or the connection.
    "keystoneauth1.ClientException": _NO_ANSWER,
    "oslo_vmware.FileNotFoundException": base.Gone,
    "oslo_vmware.FileLockedException": _IN_USE,
    "oslo_vmware.TaskInProgress": _IN_USE,
    "oslo_vmware.NoPermissionException": _FORBIDDEN,
    "oslo_vmware.CannotDeleteFileException": _FORBIDDEN,
    "oslo_vmware.NotAuthenticatedException": _NO_LOGIN,
    "oslo_vmware.ManagedObjectNotFoundException": _WRONG_SECTION,
    "oslo_vmware.VimConnectionException": _NO_ANSWER,
    "oslo_vmware.VimSessionOverLoadException": partial(
        errors.Throttled, "it has more sessions than it takes"
    ),
    "builtins.OSError": _NO_ANSWER,
}

#: What a vCenter says in a VimFaultException of no class of its own.
_LOGIN_FAULTS = frozenset({"InvalidLogin", "NotAuthenticated"})


def meaning(error: BaseException, handled: BaseException | None = None) -> errors.StoreError:
    """What the caller may do next, said by the first of a chain of causes that can tell.

    :param handled: what was being handled when the library was called: no cause of its error.
    """
    links = list(_links(error, handled))
    for link in links:
        if isinstance(link, errors.StoreError):
            return link
    for link in links:
        wait = _retry_after(link)
        if is_throttling(_status(link), wait):
            return errors.Throttled("it asks for patience", seconds_of(wait))
    for link in links:
        if known := _named(link) or _by_status(_status(link)):
            return known
    return errors.Failed(f"glance_store failed in an unknown way ({type(error).__name__})")


def is_of_all(answer: Answer) -> bool:
    """Whether the store would say the same to any other request."""
    return isinstance(answer, errors.Unavailable | errors.Throttled)


def _links(error: BaseException, handled: BaseException | None) -> Iterator[BaseException]:
    """The exception, and what it came from."""
    link: BaseException | None = error
    seen: set[int] = set()
    while link is not None and link is not handled and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _named(link: BaseException) -> errors.StoreError | None:
    if _LOGIN_FAULTS.intersection(getattr(link, "fault_list", None) or ()):
        return _NO_LOGIN()
    for ancestor in type(link).__mro__:
        name = f"{ancestor.__module__.partition('.')[0]}.{ancestor.__name__}"
        if name in _NAMED:
            return _NAMED[name]()
    return None


def _by_status(status: int | None) -> errors.StoreError | None:
    """What an HTTP status of the service means."""
    match status:
        case None:
            return None
        case 400 | 409:
            return _IN_USE()
        case 401:
            return _NO_LOGIN()
        case 403:
            return _FORBIDDEN()
        case 404:
            return base.Gone()
        case 502 | 503 | 504:
            return _NO_ANSWER()
    return errors.Failed(f"the service answers with HTTP status {status}")


def _status(link: BaseException) -> int | None:
    for name in ("code", "http_status"):
        if isinstance(status := getattr(link, name, None), int) and 400 <= status <= 599:
            return status
    return None


def _retry_after(link: BaseException) -> object:
    headers = getattr(getattr(link, "response", None), "headers", None) or {}
    return headers.get("Retry-After") or getattr(link, "retry_after", None) or None


def is_throttling(status: int | None, retry_after: object) -> bool:
    return status in (413, 429) or (status == 503 and retry_after is not None)


def seconds_of(retry_after: object) -> float | None:
    """How long that is, given in seconds or as a date; None if it says nothing."""
    text = str(retry_after or "")
    if re.fullmatch(r"[0-9]{1,9}\.[0-9]{1,9}", text):
        return float(text)
    return http_date.retry_after(text, datetime.now(UTC))

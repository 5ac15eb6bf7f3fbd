"""Logging in to an account of Swift's and talking to it: one token for all green threads.

Nothing is tried again, save once after a token ran out.
"""

import http.client
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

import keystoneauth1.exceptions
from keystoneauth1 import session as keystone
from keystoneauth1.identity import v3

from scrubber import errors, pool
from scrubber.stores.swift.references import Reference
from scrubber.stores.swift.web import Reply, ServerTrouble, Web, trouble

_VERSION = re.compile(r"v\d+(\.\d+)?")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """How the storage URL is found in Keystone's catalogue, unless it is given."""

    given: str | None
    service_type: str
    interface: str
    region: str | None


@dataclass(frozen=True, slots=True)
class Login:
    """A token, and the account it is for.

    :param project: the project's id or name: some storage URLs do not name the account.
    """

    token: str = field(repr=False)
    storage_url: str = field(repr=False)
    project: str

    @property
    def account(self) -> str:
        """Host and path of the account, however it was logged in to."""
        pieces = urlsplit(self.storage_url)
        default_port = ":443" if pieces.scheme == "https" else ":80"
        host = pieces.netloc.rpartition("@")[2].lower().removesuffix(default_port)
        path = pieces.path.strip("/")
        if _VERSION.fullmatch(path.rpartition("/")[2]):
            path += f"/{self.project}"
        return f"{host}/{path}"


class Account:
    """One account, logged in to once; all green threads share the token."""

    def __init__(self, where: str, reference: Reference, web: Web, endpoint: Endpoint) -> None:
        """:param where: what messages call it."""
        self.where = where
        #: How many objects one bulk request may delete; 0 without such requests.
        self.bulk = 0
        self._reference = reference
        self._web = web
        self._endpoint = endpoint
        self._login: Login | None = None
        self._pinned: str | None = None
        self._failed: errors.Unavailable | None = None
        self._one_at_a_time = pool.Lock()

    def resolve(self) -> str:
        """Which account it is; until the next call another one is not accepted.

        :raises Unavailable: nobody can say.
        """
        with self._one_at_a_time:
            self._pinned = None
            if self._login is None:
                self._login = self._authenticated()
            self._pinned = self._login.account
            return self._pinned

    def request(
        self,
        method: str,
        *path: str,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Reply:
        """A successful one.

        :param path: empty, a container, or a container and an object.
        :raises Gone: 404.
        :raises ServerTrouble: 5xx.
        :raises StoreError: anything else.
        """
        login = self._logged_in()
        reply = self._send(login, method, path, query, headers, body)
        if reply.status == http.client.UNAUTHORIZED:
            reply = self._send(self._renewed(login), method, path, query, headers, body)
        if reply.status == http.client.UNAUTHORIZED:
            raise errors.Unavailable(f"{self.where}: Swift refuses its own token (401)")
        if not http.client.OK <= reply.status < http.client.MULTIPLE_CHOICES:
            raise trouble(reply, self.where)
        return reply

    def _send(
        self,
        login: Login,
        method: str,
        path: Sequence[str],
        query: str,
        headers: Mapping[str, str] | None,
        body: bytes | None,
    ) -> Reply:
        url = "/".join([login.storage_url, *(quote(part, safe="") for part in path)])
        url += f"?{query}" if query else ""
        return self._web.send(method, url, {**(headers or {}), "X-Auth-Token": login.token}, body)

    def lists_something(self, prefix: str) -> bool:
        """Whether a container whose name begins so holds anything."""
        listing = self.request("GET", query=f"format=json&limit=1000&prefix={quote(prefix, '')}")
        entries = listing.json() if listing.body else []
        return any(entry.get("count") for entry in entries if isinstance(entry, dict))

    def learn_limits(self) -> None:
        """Ask Swift whether it has bulk requests; it need not tell."""
        pieces = urlsplit(self._logged_in().storage_url)
        above = itertools.takewhile(
            lambda part: not _VERSION.fullmatch(part), pieces.path.strip("/").split("/")
        )
        url = "/".join([f"{pieces.scheme}://{pieces.netloc}", *above, "info"])
        self.bulk = 0
        try:
            reply = self._web.send("GET", url, {})
            if reply.status == http.client.OK:
                self.bulk = int(reply.json()["bulk_delete"]["max_deletes_per_request"])
        except (errors.Unavailable, KeyError, TypeError, ValueError):
            pass

    # Logging in

    def _logged_in(self) -> Login:
        return self._renewed(None)

    def _renewed(self, old: Login | None) -> Login:
        """Another token than that one: the first who needs it gets it for all, or fails for all.

        Where Keystone hangs, each would else wait for it in turn.
        """
        failed_before = self._failed
        with self._one_at_a_time:
            if self._login is not None and self._login is not old:
                return self._login
            if self._failed is not None and self._failed is not failed_before:
                raise errors.Unavailable(str(self._failed))
            self._login = None
            try:
                self._login = self._authenticated()
            except errors.Unavailable as failed:
                self._failed = failed
                raise
            return self._login

    def _authenticated(self) -> Login:
        login = self._by_v1() if self._reference.is_v1 else self._by_v3()
        if self._pinned is not None and login.account != self._pinned:
            raise errors.Unavailable(
                f"{self.where}: leads to another account than when this run began"
            )
        return login

    def _by_v1(self) -> Login:
        reference = self._reference
        headers = {"X-Auth-User": reference.user, "X-Auth-Key": reference.key}
        try:
            reply = self._web.send("GET", reference.auth_address, headers)
        except errors.Unavailable as error:
            raise errors.Unavailable(f"{self.where}: authentication: {error}") from None
        if reply.status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
            raise self._refused(reply.status)
        token, url = reply.headers.get("x-auth-token"), reply.headers.get("x-storage-url")
        if reply.status >= http.client.MULTIPLE_CHOICES or not (token and url):
            raise errors.Unavailable(
                f"{self.where}: no authentication of version 1 at its auth_address (answer "
                f"{reply.status}): see auth_version"
            )
        return Login(token, self._storage_url(url), reference.project)

    def _by_v3(self) -> Login:
        session = keystone.Session(
            session=self._web.session,
            verify=self._web.verify,
            timeout=self._web.timeout(),
            redirect=False,
        )
        try:
            access = self._plugin().get_access(session)
            url = self._endpoint.given or access.service_catalog.url_for(
                service_type=self._endpoint.service_type,
                interface=self._endpoint.interface,
                region_name=self._endpoint.region,
            )
        except (keystoneauth1.exceptions.Unauthorized, keystoneauth1.exceptions.Forbidden) as no:
            raise self._refused(no.http_status) from None
        except (
            keystoneauth1.exceptions.EndpointNotFound,
            keystoneauth1.exceptions.EmptyCatalog,
        ):
            raise errors.Unavailable(
                f"{self.where}: Keystone's catalogue has no such endpoint: see "
                "swift_store_service_type, swift_store_endpoint_type and swift_store_region"
            ) from None
        except Exception as error:  # from connections, answers and their contents
            code = getattr(error, "http_status", None) or type(error).__name__
            raise errors.Unavailable(
                f"{self.where}: no authentication at its auth_address ({code})"
            ) from None
        return Login(str(access.auth_token), self._storage_url(url), str(access.project_id))

    def _plugin(self) -> v3.Auth:
        reference = self._reference
        address = reference.auth_address.rstrip("/")
        if not _VERSION.fullmatch(address.rpartition("/")[2]):
            address += "/v3"
        if reference.credential_id:
            return v3.ApplicationCredential(
                auth_url=address,
                application_credential_id=reference.credential_id,
                application_credential_secret=reference.credential_secret,
                reauthenticate=False,
            )
        project, _, user = reference.user.partition(":")
        domains = reference.domains
        return v3.Password(
            auth_url=address,
            username=user,
            password=reference.key,
            project_name=project,
            user_domain_id=domains.user_domain_id,
            user_domain_name=domains.user_domain_name,
            project_domain_id=domains.project_domain_id,
            project_domain_name=domains.project_domain_name,
            reauthenticate=False,
        )

    def _storage_url(self, url: str | None) -> str:
        return (self._endpoint.given or url or "").rstrip("/")

    def _refused(self, status: int) -> errors.Unavailable:
        return errors.Unavailable(f"{self.where}: user or key is refused ({status})")


@dataclass(frozen=True, slots=True)
class BulkReply:
    """What became of the objects of one bulk request.

    :param failed: those that were not deleted, by path ``container/object``.
    :param missing: how many of the others were not there; Swift does not say which.
    """

    failed: Mapping[str, errors.StoreError]
    missing: int


def bulk_delete(account: Account, paths: Sequence[str]) -> BulkReply:
    """Delete many objects, each ``container/object``, by one request.

    Success is the usual way for it to fail: what became of each is in the body.
    """
    reply = account.request(
        "POST",
        query="bulk-delete",
        headers={"Content-Type": "text/plain", "Accept": "application/json"},
        body="".join(f"/{quote(path)}\n" for path in paths).encode(),
    )
    document = reply.json()
    try:
        failed = {
            unquote(path).lstrip("/"): trouble(_line(status), account.where)
            for path, status in document["Errors"]
        }
        deleted, missing = int(document["Number Deleted"]), int(document["Number Not Found"])
    except (KeyError, TypeError, ValueError):
        raise errors.Unavailable("Swift's answer to a bulk delete is not understood") from None
    if deleted + missing + len(failed) != len(paths) or not failed.keys() <= set(paths):
        # It ended early, or speaks of others: nobody knows which are gone.
        raise ServerTrouble("Swift broke off a bulk delete")
    return BulkReply(failed, missing)


def _line(status: str) -> Reply:
    """``498 Rate Limited``"""
    code, _, reason = status.partition(" ")
    return Reply(int(code), reason, {}, b"")

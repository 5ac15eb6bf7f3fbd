"""Glance's API through python-glanceclient.

What comes back other than success is raised as one of errors.py's: here, and nowhere else.
"""

import datetime
import email.utils
import hashlib
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keystoneauth1.exceptions
import requests
from glanceclient import exc
from glanceclient.v2.client import Client

from scrubber import errors
from scrubber.glance.versions import Version
from scrubber.planning.retirement import ApiImage
from scrubber.stores.http_date import retry_after

#: The store of a Glance that has only one, which its API does not name.
ONLY_STORE = "glance"

#: A message of Glance's is cut after so many characters.
_LONGEST = 200

#: So many ids fit into one URL.
_IDS = 100

#: The two values of os_hidden: a listing shows either.
HIDDEN = ("false", "true")

_URL = re.compile(r"[a-z0-9+.-]+://\S+", re.IGNORECASE)

#: What the API calls its attributes; everything else in an image is a property.
_ATTRIBUTES = frozenset(
    [
        "id",
        "owner",
        "name",
        "status",
        "visibility",
        "protected",
        "size",
        "virtual_size",
        "created_at",
        "updated_at",
        "tags",
        "stores",
        "checksum",
        "disk_format",
        "container_format",
        "min_disk",
        "min_ram",
        "os_hidden",
        "os_hash_algo",
        "os_hash_value",
        "locations",
        "direct_url",
        "self",
        "file",
        "schema",
    ]
)


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy of an image in a store, as the pipeline names it."""

    image: str
    store: str

    SCHEME = "glance-api"

    @classmethod
    def of(cls, url: str) -> "Copy":
        """:raises Refused: it is no URL of ours."""
        scheme, _, rest = url.partition("://")
        image, _, store = rest.partition("/")
        if scheme != cls.SCHEME or not image or not store:
            raise errors.Refused("not a copy that Glance's API has named")
        return cls(image, store)

    @property
    def url(self) -> str:
        return f"{self.SCHEME}://{self.image}/{self.store}"

    @property
    def number(self) -> int:
        """The API numbers nothing: the same in every process, and fit for any database."""
        digest = hashlib.blake2b(self.url.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") >> 1


def id_filters(ids: Iterable[str]) -> Iterator[str]:
    """Filters that let through all of these images, in parts that fit into one URL."""
    ordered = sorted(set(ids))
    for first in range(0, len(ordered), _IDS):
        yield f"in:{','.join(ordered[first : first + _IDS])}"


class MarkerLost(Exception):
    """The image after which a page was to begin is gone."""


class Glance:
    """Glance as one user sees it; all green threads share its connections and its token.

    :param client: on a session of ``web``.
    :raises StoreError: every method; a :class:`errors.Gone` where there is no such image.
    """

    def __init__(self, client: Client, web: requests.Session) -> None:
        self._client = client
        self._web = web
        self._last = threading.local()
        self._ahead = datetime.timedelta()
        web.hooks["response"].append(self._note)

    def now(self) -> datetime.datetime:
        """Glance's clock, as of its last answer: image dates are of that clock."""
        return _utcnow() + self._ahead

    def page(
        self, filters: Mapping[str, Any], limit: int, marker: str | None = None
    ) -> list[ApiImage]:
        """Images of these filters, oldest first; fewer than ``limit`` only at the end.

        :param marker: the id of the image before the first one.
        :raises MarkerLost: there is no such image any more.
        """
        arguments = {} if marker is None else {"marker": marker}
        with self._translated():
            found = self._client.images.list(
                filters={"visibility": "all", **filters},  # the client changes it
                page_size=limit,
                limit=limit,
                sort="created_at:asc,id:asc",
                **arguments,
            )
            try:
                return [_image(document) for document in found]
            except exc.HTTPBadRequest:
                if marker is None:
                    raise
                raise MarkerLost from None

    def image(self, image_id: str) -> ApiImage:
        with self._translated():
            return _image(self._client.images.get(image_id))

    def accepted_members(self, image_id: str) -> list[str]:
        """The projects that use an image that is shared with them."""
        with self._translated():
            members = self._client.image_members.list(image_id)
            return sorted(at["member_id"] for at in members if at["status"] == "accepted")

    def delete(self, image_id: str) -> None:
        with self._translated():
            self._client.images.delete(image_id)

    def delete_copy(self, copy: Copy) -> None:
        """One of several copies of an active image."""
        with self._translated():
            self._client.images.delete_from_store(copy.store, copy.image)

    def untag(self, image_id: str, tag: str) -> None:
        with self._translated():
            self._client.image_tags.delete(image_id, tag)

    def versions(self) -> frozenset[Version]:
        """All that this API node speaks; :class:`errors.Gone` where it does not say."""
        with self._translated():
            return frozenset(Version.parse(at["id"]) for at in self._client.versions.list())

    def stores(self) -> list[str]:
        """The ids of its stores; none where it has only one."""
        with self._translated():
            try:
                return [at["id"] for at in self._client.images.get_stores_info()["stores"]]
            except exc.HTTPNotFound:
                return []

    def store_details(self) -> list[dict[str, Any]]:
        """Its stores with types and properties, for administrators."""
        with self._translated():
            return list(self._client.images.get_stores_info_detail()["stores"])

    def among(self, ids: Iterable[str]) -> Iterator[ApiImage]:
        """Those of these images that there are, hidden ones too."""
        for wanted in id_filters(ids):
            for hidden in HIDDEN:
                yield from self.page({"id": wanted, "os_hidden": hidden}, _IDS)

    def cached(self) -> frozenset[str]:
        """The images in this API node's own cache; none where it has no cache."""
        with self._translated():
            try:
                held = self._client.cache.list()["cached_images"]
            except (exc.HTTPNotImplemented, exc.HTTPNotFound):
                return frozenset()
            return frozenset(str(at["image_id"]) for at in held)

    def uncache(self, image_id: str) -> None:
        """Drop it from this API node's own cache."""
        with self._translated():
            self._client.cache.delete(image_id)

    def close(self) -> None:
        self._web.close()

    # What the client's exceptions leave out ---------------------------------------------

    def _note(self, answer: requests.Response, *_args: object, **_more: object) -> None:
        """Remember status and patience of this green thread's last answer, and Glance's clock."""
        self._last.status = answer.status_code
        self._last.retry_after = retry_after(
            answer.headers.get("Retry-After"), datetime.datetime.now(datetime.UTC)
        )
        if answer.status_code >= 300:
            answer.content  # noqa: B018 - read: its connection can be used again only then
        date = answer.headers.get("Date")
        if date and "/v2/" in answer.url:
            try:
                moment = email.utils.parsedate_to_datetime(date)
            except ValueError:
                return
            if moment.tzinfo is not None:
                self._ahead = moment.astimezone(datetime.UTC).replace(tzinfo=None) - _utcnow()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except exc.HTTPException as error:
            raise self._refusal(error) from None
        except exc.InvalidEndpoint:
            raise errors.Failed("Glance does not answer in time") from None
        except exc.CommunicationError:
            raise errors.Unavailable("no connection to Glance, or it broke") from None
        except keystoneauth1.exceptions.HttpError as error:
            raise _of_keystone(error) from None
        except keystoneauth1.exceptions.ClientException as error:
            raise errors.Unavailable(
                f"no way to Glance ({type(error).__name__}): see section [glance]"
            ) from None
        except requests.RequestException as error:
            raise errors.Failed(f"Glance's answer broke off ({type(error).__name__})") from None
        except (AttributeError, KeyError, TypeError, ValueError):
            # Also from the client, of an answer that is not Glance's.
            raise errors.Failed(
                f"Glance's answer cannot be understood (status {self._last.status})"
            ) from None

    def _refusal(self, error: exc.HTTPException) -> errors.StoreError:
        return refusal(self._last.status, plain(str(error.details)), self._last.retry_after)


def refusal(status: int, message: str, wait: float | None) -> errors.StoreError:
    """What an answer of that status means; the table in docs/glance-api.md.

    :param wait: the seconds that Retry-After asks for.
    """
    if status in (413, 429) or (status == 503 and wait is not None):
        return errors.Throttled(f"Glance asks for patience ({status})", wait)
    if status == 401:
        return errors.Unavailable("Glance refuses the token (401): see section [glance]")
    kind = _MEANINGS.get(status, errors.Failed)
    said = message if message.startswith(str(status)) else f"{status} {message}"
    return kind(f"Glance says: {said}")


_MEANINGS: dict[int, type[errors.StoreError]] = {
    403: errors.Refused,
    404: errors.Gone,
    405: errors.Unsupported,
    409: errors.InUse,
    410: errors.Gone,
    501: errors.Unsupported,
}


def _of_keystone(error: keystoneauth1.exceptions.HttpError) -> errors.StoreError:
    status = error.http_status
    if status == 429:
        return errors.Throttled("Keystone asks for patience (429)")
    if status in (401, 403):
        return errors.Unavailable(f"Keystone refuses to log in ({status}): see section [glance]")
    return errors.Unavailable(f"no authentication by Keystone ({status})")


def plain(message: str) -> str:
    """One line, not too long, without a URL: a store's own words may hold its credentials."""
    return _URL.sub("(URL)", " ".join(message.split()))[:_LONGEST]


def _utcnow() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)


def _image(document: Mapping[str, Any]) -> ApiImage:
    return ApiImage(
        id=document["id"],
        owner=document.get("owner"),
        name=document.get("name"),
        status=document["status"],
        visibility=document["visibility"],
        protected=bool(document.get("protected")),
        size=document.get("size"),
        created_at=_moment(document["created_at"]),
        updated_at=_moment(document["updated_at"]),
        tags=frozenset(document.get("tags") or ()),
        # A store may hold several; once is enough to know.
        stores=tuple(dict.fromkeys(filter(None, (document.get("stores") or "").split(",")))),
        properties={
            name: str(value) for name, value in document.items() if name not in _ATTRIBUTES
        },
    )


def _moment(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text).astimezone(datetime.UTC).replace(tzinfo=None)

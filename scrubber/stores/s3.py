"""The S3 store: images are objects of a bucket.

Follows glance_store's ``s3`` driver in what a URL means: server and credentials are the
section's, bucket and key the row's, and what a row says of its server or of credentials
(rows of old releases hold them) is not used.  Stricter in what it deletes: only from the
configured bucket, or from those in ``scrub_also_in``.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlparse

from oslo_config import cfg

from scrubber import errors
from scrubber.model import Answer, Answers, Deleted, Look, Looks, Target
from scrubber.stores import base

if TYPE_CHECKING:
    from scrubber.stores.s3_client import Client

_OPTS = [
    cfg.StrOpt("s3_store_host", help="Address of the S3 server, as in glance-api.conf."),
    cfg.StrOpt(
        "s3_store_region_name", default="", help="Region of the bucket, as in glance-api.conf."
    ),
    cfg.StrOpt("s3_store_access_key", secret=True, help="Access key, as in glance-api.conf."),
    cfg.StrOpt("s3_store_secret_key", secret=True, help="Secret key, as in glance-api.conf."),
    cfg.StrOpt("s3_store_bucket", help="Bucket of the images, as in glance-api.conf."),
    cfg.StrOpt(
        "s3_store_bucket_url_format",
        default="auto",
        help="How a bucket is addressed: auto, virtual or path, as in glance-api.conf.",
    ),
    cfg.StrOpt(
        "s3_store_cacert",
        default="",
        help="File of the CA certificates that the server is trusted by, as in glance-api.conf.",
    ),
    base.ALSO_IN,
]

_SCHEMES = frozenset({"s3", "s3+http", "s3+https"})
_DEFAULT_PORTS = {"s3": ":80", "s3+http": ":80", "s3+https": ":443", "http": ":80", "https": ":443"}

#: Of one DeleteObjects request.
_MOST_KEYS = 1000

_LONGEST_KEY = 1024

# XML carries no other characters, or not unchanged.
_CARRIED_BY_XML = re.compile(r"[\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]+")


class NoDeleteObjects(errors.StoreError):
    """The server does not know the request DeleteObjects: nothing was deleted."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client is built for; other limits need another client.

    :param connections: how many it keeps open.
    :param seconds: how long one request may take.
    """

    connections: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Row:
    """What a location's URL says.

    :param host: the server and its path, normalised and free of credentials.
    :param plain: whether the URL holds nothing but what was read from it.
    """

    host: str
    bucket: str
    key: str
    plain: bool


#: After one of these nothing more of a batch is sent.
_ENDS_A_BATCH = errors.Unavailable | errors.Throttled | errors.NotSent


class S3Driver(base.Driver):
    """One store of type ``s3``."""

    abilities = base.Abilities(
        schemes=_SCHEMES,
        blocks=False,
        batch=_MOST_KEYS,
        seconds=1.0,
        at_least=250,
        says_gone=False,
    )

    def __init__(self, section: base.Section) -> None:
        super().__init__(section)
        self._endpoint = _endpoint(section.required("s3_store_host"))
        section.required("s3_store_access_key")
        section.required("s3_store_secret_key")
        buckets = [section.required("s3_store_bucket"), *section.options.scrub_also_in]
        #: By bucket that may be deleted from, as of the last probe.
        self._holds_something = dict.fromkeys(buckets, False)
        self._one_by_one = False
        with section.importing("boto3", "install scrubber[s3]"):
            from scrubber.stores.s3_client import Client
        self._new_client = partial(Client, section)
        self._client = self._new_client(self._limits)

    @classmethod
    def options(cls) -> list[cfg.Opt]:
        return _OPTS

    @property
    def _limits(self) -> Limits:
        return Limits(self.connections, self.section.call_timeout())

    @property
    def _server(self) -> "Client":
        """The one client, until an operator changes its limits: calls under way keep theirs."""
        if self._client.limits != self._limits:
            self._client = self._new_client(self._limits)
        return self._client

    @property
    def family(self) -> str:
        return f"s3:{self._endpoint}"

    def probe(self) -> None:
        for bucket in self._holds_something:
            self._holds_something[bucket] = self._server.holds_something(bucket)

    def root(self, url: str) -> str:
        row = self._own(url)
        return f"{row.host}/{row.bucket}"

    def holds_something(self, root: str) -> bool:
        return self._holds_something.get(root.rpartition("/")[2], False)

    def identify(self, url: str) -> str:
        return self._identity(self._own(url))

    def mentions(self, urls: Sequence[str]) -> list[Iterable[str]]:
        return [[self._identity(row)] if (row := read(url)) else [] for url in urls]

    def is_plain(self, url: str) -> bool:
        row = read(url)
        return row is not None and row.plain

    def _identity(self, row: Row) -> str:
        return f"s3:{self._endpoint}/{row.bucket}/{row.key}"

    def _own(self, url: str) -> Row:
        """What the URL says, if this store may delete it.

        :raises Refused: it may not.
        """
        row = read(url)
        if row is None:
            raise errors.Refused("not the URL of an S3 object")
        if row.bucket not in self._holds_something:
            raise errors.Refused(
                f"its bucket is not that of store {self.store}, nor one of its scrub_also_in"
            )
        if not row.plain or not _is_safe(row.key):
            raise errors.Refused("the URL holds characters that no image's has")
        return row

    def look(self, targets: Sequence[Target]) -> Looks:
        buckets: set[str] = set()
        return [self._look(target.url, buckets) for target in targets]

    def _look(self, url: str, buckets: set[str]) -> Look:
        """:param buckets: those that were there while these looks were made."""
        try:
            row = self._own(url)
            return self._server.look(row.bucket, row.key)
        except errors.Gone as gone:
            # The answer is the same where even the bucket is missing.
            if row.bucket not in buckets:
                self._server.holds_something(row.bucket)
                buckets.add(row.bucket)
            return gone
        except errors.Unavailable:
            raise
        except errors.StoreError as error:
            return error

    def delete(self, targets: Sequence[Target], proceed: Callable[[], bool]) -> Answers:
        answers: list[Answer] = [errors.NotSent("not sent")] * len(targets)
        for bucket, places in self._buckets(targets, answers).items():
            if not proceed():
                break
            # An object that is named twice is deleted once, and frees its bytes once.
            sizes = {key: targets[at[0]].size or 0 for key, at in places.items()}
            said = self._send(bucket, sizes, proceed)
            for key, (first, *others) in places.items():
                answers[first] = answer = said[key]
                for other in others:
                    answers[other] = Deleted(0) if isinstance(answer, Deleted) else answer
            if any(isinstance(answer, _ENDS_A_BATCH) for answer in said.values()):
                break
        return answers

    def _buckets(
        self, targets: Sequence[Target], answers: list[Answer]
    ) -> dict[str, dict[str, list[int]]]:
        """By bucket and key the places in the batch; what is refused is answered at once."""
        buckets: dict[str, dict[str, list[int]]] = {}
        for place, target in enumerate(targets):
            try:
                row = self._own(target.url)
            except errors.Refused as refused:
                answers[place] = refused
            else:
                buckets.setdefault(row.bucket, {}).setdefault(row.key, []).append(place)
        return buckets

    def _send(
        self, bucket: str, sizes: Mapping[str, int], proceed: Callable[[], bool]
    ) -> Mapping[str, Answer]:
        """One request for all keys, or one for each if the server knows no other."""
        if not self._one_by_one:
            try:
                return self._server.delete(bucket, sizes, proceed)
            except NoDeleteObjects:
                self._one_by_one = True
            except errors.StoreError as error:
                return dict.fromkeys(sizes, error)
            if not proceed():
                return dict.fromkeys(sizes, errors.NotSent("not sent"))
        return self._send_one_by_one(bucket, sizes, proceed)

    def _send_one_by_one(
        self, bucket: str, sizes: Mapping[str, int], proceed: Callable[[], bool]
    ) -> Mapping[str, Answer]:
        """The caller has asked whether the first one may go."""
        answers: dict[str, Answer] = dict.fromkeys(sizes, errors.NotSent("not sent"))
        for number, (key, size) in enumerate(sizes.items()):
            if number and not proceed():
                break
            try:
                answers[key] = self._server.delete_one(bucket, key, size, proceed)
            except errors.StoreError as error:
                answers[key] = error
                if isinstance(error, _ENDS_A_BATCH):
                    break
        return answers

    def close(self) -> None:
        self._client.close()


def read(url: str) -> Row | None:
    """What glance_store's StoreLocation.parse_uri reads in it, None if nothing."""
    try:
        pieces = urlparse(url)
    except ValueError:
        return None
    if url.count("://") != 1 or pieces.scheme not in _SCHEMES:
        return None
    path = f"{pieces.netloc.strip('/')}/{pieces.path.strip('/')}".strip("/")
    *host, bucket, key = ["", "", *path.split("/")]
    address = "/".join(host).strip("/")
    if not address:
        return None
    plain = url == f"{pieces.scheme}://{pieces.netloc}{pieces.path}"
    return Row(_normal(pieces.scheme, address), bucket, key, plain)


def with_scheme(host: str) -> str:
    """The URL of s3_store_host: without a scheme it is http, as in glance_store."""
    return host if host.startswith(("http://", "https://")) else f"http://{host}"


def _endpoint(host: str) -> str:
    """The server by one name, whichever way s3_store_host is written."""
    scheme, _, address = with_scheme(host).partition("://")
    name = _normal(scheme, address)
    # One bucket of that name in all of Amazon's regions, those in China apart.
    for all_regions in ("amazonaws.com", "amazonaws.com.cn"):
        if name.endswith(f".{all_regions}"):
            return all_regions
    return name


def _normal(scheme: str, address: str) -> str:
    authority, _, prefix = address.rpartition("@")[2].strip("/").partition("/")
    authority = authority.lower().removesuffix(_DEFAULT_PORTS[scheme])
    # A dot at its end makes no other host.
    host, colon, port = authority.partition(":")
    authority = f"{host.removesuffix('.')}{colon}{port}"
    if colon and not authority.startswith("[") and not port.isdigit():
        authority = "unreadable"  # credentials without an @: nobody may read them in a message
    return f"{authority}/{prefix}".strip("/")


def _is_safe(key: str) -> bool:
    """Whether a request carries the key as it is.

    A dot or two in the path of a URL would name the bucket itself, or all of them.
    """
    return (
        key not in (".", "..")
        and key == key.strip()
        and _CARRIED_BY_XML.fullmatch(key) is not None
        and len(key.encode()) <= _LONGEST_KEY
    )

"""The few requests of the S3 driver, and what an S3 server's answers mean.

Needs boto3, so it is imported only where a store of type ``s3`` is configured.
"""

import base64
import datetime
import functools
import hashlib
import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import botocore.exceptions
import botocore.session
from botocore.config import Config
from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES, ConstantProvider
from botocore.loaders import Loader
from botocore.parsers import ResponseParserError
from botocore.utils import check_dns_name

from scrubber import errors
from scrubber.model import Answer, Deleted, Found
from scrubber.stores import base, http_date
from scrubber.stores.s3 import Limits, NoDeleteObjects, with_scheme

_CONNECT_SECONDS = 10.0

#: Longer than this no store is taken at its word.
_LONGEST_RETRY_AFTER = 3600.0

_THROTTLED_CODES = frozenset(
    {
        "BandwidthLimitExceeded",
        "RequestLimitExceeded",
        "RequestThrottled",
        "ServiceUnavailable",
        "SlowDown",
        "SlowDownRead",
        "SlowDownWrite",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
        "TooManyRequestsException",
    }
)
_THROTTLED_STATUSES = frozenset({429, 498, 503, 509})  # 498 is Swift's

_URL_FORMATS = ("auto", "virtual", "path")

_CORRECT_KEY = "correct option s3_store_access_key"
_CORRECT_SECRET = "correct option s3_store_secret_key"  # noqa: S105 - the name of an option
_CORRECT_BUCKET = "correct option s3_store_bucket or scrub_also_in"
_CORRECT_REGION = "the bucket is in another region: correct option s3_store_region_name"

#: What concerns the store as a whole, and what an operator does about it.
_OF_THE_STORE = {
    "AccountProblem": "ask the store's operator what is wrong with the account",
    "AllAccessDisabled": "ask the store's operator what is wrong with the account",
    "AuthorizationHeaderMalformed": _CORRECT_REGION,
    "IllegalLocationConstraintException": _CORRECT_REGION,
    "InvalidAccessKeyId": _CORRECT_KEY,
    "InvalidBucketName": _CORRECT_BUCKET,
    "InvalidSecurity": _CORRECT_KEY,
    "NoSuchBucket": _CORRECT_BUCKET,
    "NotSignedUp": _CORRECT_KEY,
    "PermanentRedirect": _CORRECT_REGION,
    "RequestExpired": "correct the clock of this host",
    "RequestTimeTooSkewed": "correct the clock of this host",
    "SignatureDoesNotMatch": _CORRECT_SECRET,
    "TemporaryRedirect": _CORRECT_REGION,
    # A redirect whose answer has no body, to a HEAD.
    "301": _CORRECT_REGION,
    "307": _CORRECT_REGION,
}

#: DeleteObjects is not known to every server that speaks S3.
_UNKNOWN_REQUEST_CODES = frozenset({"MethodNotAllowed", "NotImplemented", "405", "501"})

# Letters in camel case: neither a key nor a URL looks like that.
_LOOKS_LIKE_A_CODE = re.compile(r"(?:[A-Z]{1,3}[a-z]+){1,8}[A-Z]{0,3}")


@dataclass(frozen=True, slots=True)
class Trouble:
    """What a server says of a request, or of one key of a request.

    :param code: S3's error code; the HTTP status where an answer has no body.
    :param status: the HTTP status, 0 for one key.
    :param retry_after: seconds the server asks for, or None.
    """

    code: str
    status: int = 0
    retry_after: float | None = None


class Client:
    """One S3 server, as the section says; connections are kept and shared by green threads."""

    def __init__(self, section: base.Section, limits: Limits) -> None:
        """Without a request to the server.

        :raises ConfigError: an option cannot be used.
        """
        self.limits = limits
        self._section = section
        _check(section)
        _keep_quiet()
        self._boto = _boto_client(section, limits)
        events = self._boto.meta.events
        events.register("before-call.s3.DeleteObjects", _add_md5)
        events.register("before-call.s3.HeadBucket", _do_not_redirect)

    def close(self) -> None:
        self._boto.close()

    def holds_something(self, bucket: str) -> bool:
        """Whether anything is in the bucket.

        :raises Unavailable: the bucket is not there, or the credentials do not open it.
        """
        try:
            listed = self._call(self._boto.list_objects_v2, bucket, MaxKeys=1)
        except errors.Unavailable:
            raise
        except errors.StoreError as error:
            raise self._unavailable(f"bucket {bucket} cannot be listed: {error}") from None
        return bool(listed.get("Contents"))

    def look(self, bucket: str, key: str) -> Found:
        """What is under that key.

        :raises StoreError: Gone says nothing of the bucket: such an answer has no body.
        """
        head = self._call(self._boto.head_object, bucket, Key=key)
        size, modified, etag = head.get("ContentLength"), head.get("LastModified"), head.get("ETag")
        if size is None or modified is None or etag is None:
            # As of another object it would look, and may be a live image's.
            raise self._unavailable("its answer about an object breaks off")
        marks = (bucket, key, etag, size, modified)
        return Found(
            size=size,
            modified_at=modified.astimezone(datetime.UTC).replace(tzinfo=None),
            fingerprint="\n".join(map(str, marks)),
        )

    def delete(
        self, bucket: str, sizes: Mapping[str, int], proceed: Callable[[], bool]
    ) -> dict[str, Answer]:
        """Delete up to 1000 keys in one request; an answer for each.

        :param sizes: bytes that each key's delete gives back.
        :param proceed: asked once more if the request has to be repeated.
        :raises NoDeleteObjects: the server cannot; one by one may be possible.
        :raises StoreError: the request as a whole failed.
        """
        wanted = {"Objects": [{"Key": key} for key in sizes], "Quiet": False}
        said = self._call(self._boto.delete_objects, bucket, again=proceed, Delete=wanted)
        deleted = {entry.get("Key"): entry for entry in said.get("Deleted", ())}
        failed = {entry.get("Key"): entry for entry in said.get("Errors", ())}
        answers: dict[str, Answer] = {}
        for key, size in sizes.items():
            if key in failed:
                trouble = Trouble(str(failed[key].get("Code")))
                answers[key] = translated(trouble, bucket, self._section.name)
            elif key in deleted:
                answers[key] = _deleted(deleted[key], size)
            else:
                answers[key] = errors.Failed("the store did not say whether it is deleted")
        return answers

    def delete_one(self, bucket: str, key: str, size: int, proceed: Callable[[], bool]) -> Answer:
        """Delete one key.

        :raises StoreError: it is not deleted.
        """
        return _deleted(self._call(self._boto.delete_object, bucket, again=proceed, Key=key), size)

    def _call(
        self,
        method: Callable[..., Any],
        bucket: str,
        *,
        again: Callable[[], bool] = base.always,
        **parameters: Any,
    ) -> Mapping[str, Any]:
        """One request, and a second one if its connection was closed before the answer.

        A server may close an idle connection in the very moment in which it is used again:
        that says nothing of the store, and all our requests may be repeated.
        """
        for last in (False, True):
            try:
                answer: Mapping[str, Any] = method(Bucket=bucket, **parameters)
                return answer
            except botocore.exceptions.ConnectionClosedError:
                if last or not again():
                    raise self._unavailable("it closes the connection before it answers") from None
            except botocore.exceptions.ClientError as error:
                raise self._translated(error, bucket) from None
            except (botocore.exceptions.BotoCoreError, ResponseParserError) as error:
                raise self._unavailable(_in_words(error)) from None
        raise AssertionError("unreachable")

    def _translated(self, error: botocore.exceptions.ClientError, bucket: str) -> errors.StoreError:
        metadata = error.response.get("ResponseMetadata", {})
        trouble = Trouble(
            code=str(error.response.get("Error", {}).get("Code")),
            status=int(metadata.get("HTTPStatusCode") or 0),
            retry_after=retry_after(
                metadata.get("HTTPHeaders", {}).get("retry-after"),
                datetime.datetime.now(datetime.UTC),
            ),
        )
        if error.operation_name == "DeleteObjects":
            if trouble.code in _UNKNOWN_REQUEST_CODES:
                return NoDeleteObjects("the server does not know DeleteObjects")
            if trouble.code in ("AccessDenied", "403"):
                return self._unavailable(f"it denies deletes in bucket {bucket}: {_CORRECT_KEY}")
        elif trouble.code == "404" and error.operation_name.startswith("Head"):
            return base.Gone()
        return translated(trouble, bucket, self._section.name)

    def _unavailable(self, what: str) -> errors.Unavailable:
        return errors.Unavailable(f"S3 of section [{self._section.name}]: {what}")


def translated(trouble: Trouble, bucket: str, section: str) -> errors.StoreError:
    """What a caller may do about it."""
    code, status = trouble.code, trouble.status
    named = code if _LOOKS_LIKE_A_CODE.fullmatch(code) else f"HTTP status {status or 'unknown'}"
    if code in _THROTTLED_CODES or status in _THROTTLED_STATUSES:
        return errors.Throttled(f"the store asks for patience ({named})", trouble.retry_after)
    if code in _OF_THE_STORE:
        return errors.Unavailable(
            f"S3 of section [{section}], bucket {bucket}: {named}: {_OF_THE_STORE[code]}"
        )
    if code == "NoSuchKey":
        return base.Gone()
    if code in ("AccessDenied", "403"):
        return errors.Failed(
            "access denied: the store's user may lack a right (s3:DeleteObject, and s3:ListBucket "
            "to tell what is missing), or the object is locked"
        )
    if status > 500:
        return errors.Unavailable(f"S3 of section [{section}]: {named}: is the server well?")
    return errors.Failed(f"the store answers {named}")


def retry_after(value: str | None, now: datetime.datetime) -> float | None:
    """Seconds that a Retry-After header asks for, as long as they are not too many."""
    seconds = http_date.retry_after(value, now)
    return None if seconds is None else min(seconds, _LONGEST_RETRY_AFTER)


def _deleted(said: Mapping[str, Any], size: int) -> Deleted:
    """A delete marker hides an object of a bucket with versions, whose bytes stay."""
    return Deleted(0 if said.get("DeleteMarker") else size)


def _in_words(error: Exception) -> str:
    """Of an error without an answer; its own text may quote URLs."""
    match error:
        case botocore.exceptions.SSLError():
            return "TLS fails: s3_store_cacert must name the CA that signed its certificate"
        case botocore.exceptions.ReadTimeoutError():
            return "it does not answer in time"
        case botocore.exceptions.ConnectTimeoutError():
            return "cannot connect in time: see option s3_store_host"
        case botocore.exceptions.ProxyConnectionError():
            return "cannot connect to the proxy of this process's environment"
        case botocore.exceptions.EndpointConnectionError():
            return "cannot connect: see option s3_store_host"
        case ResponseParserError():
            return "what it answers is not S3: see option s3_store_host"
    return f"a request fails ({type(error).__name__}): see option s3_store_host"


def _add_md5(params: dict[str, Any], **_: Any) -> None:
    """Many servers insist on this header, where today's boto sends a CRC only."""
    digest = hashlib.md5(params["body"], usedforsecurity=False).digest()
    params["headers"]["Content-MD5"] = base64.b64encode(digest).decode()


def _do_not_redirect(context: dict[str, Any], **_: Any) -> None:
    """Redirected from another region, botocore asks HeadBucket for the right one.

    If that is redirected without a region too, it would ask again, without end.
    """
    context.setdefault("s3_redirect", {})["redirected"] = True


def _keep_quiet() -> None:
    """What botocore logs for debugging holds URLs and signatures."""
    logger = logging.getLogger("botocore")
    if logger.level == logging.NOTSET:  # else it is an operator's own word
        logger.setLevel(logging.WARNING)


def _check(section: base.Section) -> None:
    """What botocore says only when the first request is made, or in words of its own."""
    options = section.options
    if options.s3_store_bucket_url_format not in _URL_FORMATS:
        raise section.wrong("s3_store_bucket_url_format", f"is none of {', '.join(_URL_FORMATS)}")
    for bucket in (options.s3_store_bucket, *options.scrub_also_in):
        if options.s3_store_bucket_url_format == "virtual" and not check_dns_name(bucket):
            raise section.wrong(
                "s3_store_bucket_url_format",
                f"is virtual, but bucket {bucket} cannot be part of a host's name: use path",
            )
    if options.s3_store_cacert and not os.access(options.s3_store_cacert, os.R_OK):
        raise section.wrong("s3_store_cacert", "names a file that cannot be read")


def _boto_client(section: base.Section, limits: Limits) -> Any:
    options = section.options
    host = options.s3_store_host
    config = Config(
        connect_timeout=min(_CONNECT_SECONDS, limits.seconds),
        read_timeout=limits.seconds,
        max_pool_connections=limits.connections,
        retries={"mode": "standard", "total_max_attempts": 1},
        s3={"addressing_style": options.s3_store_bucket_url_format},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    try:
        return _session().create_client(
            "s3",
            endpoint_url=with_scheme(host),
            region_name=options.s3_store_region_name or implied_region(host),
            verify=options.s3_store_cacert or True,
            aws_access_key_id=options.s3_store_access_key,
            aws_secret_access_key=options.s3_store_secret_key,
            config=config,
        )
    except botocore.exceptions.InvalidRegionError:
        raise section.wrong("s3_store_region_name", "is no name of a region") from None
    except ValueError:
        raise section.wrong("s3_store_host", "is no address of a server") from None


@functools.cache
def _session() -> botocore.session.Session:
    """A session without ~/.aws and AWS_* variables: what the section says is all there is.

    One for all stores: it holds nothing of theirs, but megabytes of botocore's own data.
    """
    session = botocore.session.Session()
    defaults = {
        name: default for name, (_, _, default, _) in BOTOCORE_DEFAUT_SESSION_VARIABLES.items()
    }
    nothing = {
        "config_file": os.devnull,
        "credentials_file": os.devnull,
        "proxies_config": None,
        "s3": None,
    }
    # Nor ~/.aws/models.
    loader = Loader([Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)
    session.register_component("data_loader", loader)
    store = session.get_component("config_store")
    for name, value in (defaults | nothing).items():
        store.set_config_provider(name, ConstantProvider(value))
    return session


def implied_region(host: str) -> str | None:
    """The region in a host name of Amazon's old style, s3-REGION.amazonaws.com."""
    named = re.fullmatch(
        r"(?:https?://)?s3-([a-z]+-[a-z]+-[0-9])\.amazonaws\.com(?:\.cn)?(?::[0-9]+)?/?", host
    )
    return named and named.group(1)

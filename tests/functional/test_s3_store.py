"""The S3 driver against a real S3 server, and against one that misbehaves."""

import base64
import datetime
import email.utils
import hashlib
import itertools
import logging
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conftest import needed_programs
from contract.sections import section
from lab.processes import LOCALHOST, free_port
from lab.s3 import Proxy, Reply, Request, S3Account, S3Server, self_signed
from lab.swift import TESTER, Swift
from scrubber import errors
from scrubber.model import Answer, Deleted, Found, Target
from scrubber.stores import base, s3_client
from scrubber.stores.s3 import S3Driver

_NUMBERS = itertools.count(1)

Forward = Callable[[], Reply]


class Bucket:
    """A bucket with three objects, and drivers that reach it through the proxy."""

    def __init__(self, server: S3Server, proxy: Proxy) -> None:
        self.server = server
        self.proxy = proxy
        self.owner = server.owner
        self.name = self.create()
        self.names = ["a", "b", "c"]
        self.put(*self.names)
        self._drivers: list[S3Driver] = []

    def create(self) -> str:
        name = f"store-{next(_NUMBERS)}"
        self.owner.create_bucket(Bucket=name)
        return name

    def put(self, *names: str, bucket: str = "") -> None:
        for name in names:
            self.owner.put_object(Bucket=bucket or self.name, Key=name, Body=b"xyz")

    def keys(self, bucket: str = "") -> list[str]:
        listed = self.owner.list_objects_v2(Bucket=bucket or self.name).get("Contents", ())
        return [entry["Key"] for entry in listed]

    def driver(self, *, call_timeout: float = 30, pool_size: int = 16, **options: Any) -> S3Driver:
        options = {
            **self.server.options(self.name, s3_store_host=self.proxy.url),
            **options,
        }
        driver = S3Driver(
            section(S3Driver, call_timeout=call_timeout, pool_size=pool_size, **options)
        )
        self._drivers.append(driver)
        return driver

    def url(self, name: str, bucket: str = "") -> str:
        return f"s3://{LOCALHOST}:{self.proxy.port}/{bucket or self.name}/{name}"

    def targets(self, *names: str) -> list[Target]:
        return [Target(self.url(name), 3) for name in names or self.names]

    def delete(self, driver: S3Driver, *names: str) -> list[Answer]:
        return list(driver.delete(self.targets(*names), base.always))

    def close(self) -> None:
        for driver in self._drivers:
            driver.close()


@pytest.fixture
def bucket(s3_server: S3Server, proxy: Proxy) -> Iterator[Bucket]:
    bucket = Bucket(s3_server, proxy)
    yield bucket
    bucket.close()


def error_reply(status: int, code: str, **headers: str) -> Reply:
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f"<Error><Code>{code}</Code><Message>secret text with http://url</Message></Error>"
    )
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, body.encode(), named)


def result(*entries: str) -> Reply:
    body = f'<?xml version="1.0" encoding="UTF-8"?><DeleteResult>{"".join(entries)}</DeleteResult>'
    return Reply(200, body.encode())


def said(key: str, code: str) -> str:
    return f"<Error><Key>{key}</Key><Code>{code}</Code><Message>secret</Message></Error>"


# One batch, one request ------------------------------------------------------------------


def test_a_batch_is_one_request(bucket: Bucket) -> None:
    driver = bucket.driver()
    names = [f"n{number}" for number in range(300)]
    bucket.put(*names)
    bucket.proxy.forget()

    assert bucket.delete(driver, *names) == [Deleted(3)] * 300

    assert [request.method for request in bucket.proxy.requests] == ["POST"]
    assert bucket.keys() == bucket.names


def test_many_batches_share_a_connection(bucket: Bucket) -> None:
    driver = bucket.driver()
    driver.probe()
    for _ in range(20):
        bucket.delete(driver, "nothing")
        driver.look(bucket.targets())
    assert bucket.proxy.connections == 1
    assert len(bucket.proxy.requests) == 1 + 20 * 4


def test_deletes_carry_the_md5_that_many_servers_insist_on(bucket: Bucket) -> None:
    bucket.delete(bucket.driver())
    [request] = bucket.proxy.requests
    digest = base64.b64encode(hashlib.md5(request.body, usedforsecurity=False).digest())
    assert request.headers["Content-MD5"] == digest.decode()
    assert "content-md5" in request.headers["Authorization"]


def test_an_object_named_twice_is_sent_once_and_frees_its_bytes_once(bucket: Bucket) -> None:
    driver = bucket.driver()
    assert bucket.delete(driver, "a", "b", "a") == [Deleted(3), Deleted(3), Deleted(0)]
    [request] = bucket.proxy.requests
    assert request.body.count(b"<Key>a</Key>") == 1


def test_parallel_batches_keep_their_connections(bucket: Bucket) -> None:
    driver = bucket.driver(scrub_max_connections=4)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: bucket.delete(driver, "nothing"), range(40)))
    assert len(bucket.proxy.requests) == 40
    assert bucket.proxy.connections <= 4


def test_changed_limits_make_a_new_client(bucket: Bucket) -> None:
    driver = bucket.driver(scrub_max_connections=3)
    driver.probe()
    driver.probe()
    assert bucket.proxy.connections == 1
    driver.section.conf.set_override("scrub_max_connections", 5, group="fast")
    driver.probe()
    driver.probe()
    assert bucket.proxy.connections == 2
    assert bucket.delete(driver) == [Deleted(3)] * 3


# Buckets ---------------------------------------------------------------------------------


def test_only_named_buckets_are_deleted_from(bucket: Bucket) -> None:
    other, stranger = bucket.create(), bucket.create()
    for name in (other, stranger):
        bucket.put("a", bucket=name)
    driver = bucket.driver(scrub_also_in=[other])
    driver.probe()
    urls = [bucket.url("a", name) for name in (bucket.name, other, stranger)]

    mine, others, strangers = driver.delete([Target(url, 3) for url in urls], base.always)

    assert (mine, others) == (Deleted(3), Deleted(3))
    assert isinstance(strangers, errors.Refused)
    assert (bucket.keys(), bucket.keys(other), bucket.keys(stranger)) == (["b", "c"], [], ["a"])
    assert len({driver.root(url) for url in urls[:2]}) == 2


def test_each_bucket_is_a_request_that_may_be_stopped(bucket: Bucket) -> None:
    other = bucket.create()
    bucket.put("a", bucket=other)
    driver = bucket.driver(scrub_also_in=[other])
    allowed = iter([True, False])
    urls = [bucket.url("a"), bucket.url("a", other)]
    first, second = driver.delete([Target(url) for url in urls], lambda: next(allowed))
    assert isinstance(first, Deleted)
    assert isinstance(second, errors.NotSent)
    assert bucket.keys(other) == ["a"]


@pytest.mark.parametrize("option", ["s3_store_bucket", "scrub_also_in"])
def test_a_bucket_that_is_not_there_is_unavailable_by_its_name(bucket: Bucket, option: str) -> None:
    value = ["nowhere"] if option == "scrub_also_in" else "nowhere"
    with pytest.raises(errors.Unavailable) as unavailable:
        bucket.driver(**{option: value}).probe()
    assert "bucket nowhere" in str(unavailable.value)
    assert option in str(unavailable.value)


def test_each_root_says_for_itself_whether_it_holds_something(bucket: Bucket) -> None:
    empty = bucket.create()
    driver = bucket.driver(scrub_also_in=[empty])
    full, bare = (driver.root(bucket.url("a", name)) for name in (bucket.name, empty))
    driver.probe()
    assert driver.holds_something(full)
    assert not driver.holds_something(bare)


def test_a_look_says_what_is_there(bucket: Bucket) -> None:
    found, gone = bucket.driver().look(bucket.targets("a", "nothing"))
    assert isinstance(found, Found)
    assert isinstance(gone, errors.Gone)
    head = bucket.owner.head_object(Bucket=bucket.name, Key="a")
    assert found.modified_at == head["LastModified"].replace(tzinfo=None)
    for mark in (bucket.name, "a", head["ETag"], "3", str(head["LastModified"])):
        assert mark in found.fingerprint


# Credentials and addresses ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value"),
    [("s3_store_access_key", "somebody"), ("s3_store_secret_key", "guessed")],
)
def test_wrong_keys_make_the_store_unavailable(bucket: Bucket, option: str, value: str) -> None:
    driver = bucket.driver(**{option: value})
    for call in (
        driver.probe,
        lambda: list(driver.look(bucket.targets("a"))),
        lambda: raise_first(bucket.delete(driver)),
    ):
        with pytest.raises(errors.StoreError) as error:
            raise_first(call() or [])
        check_words(str(error.value), bucket, value)
    with pytest.raises(errors.Unavailable, match=r"section \[fast\]"):
        driver.probe()
    assert bucket.keys() == bucket.names


def raise_first(answers: Any) -> None:
    for answer in answers:
        if isinstance(answer, errors.StoreError):
            raise answer


def check_words(message: str, bucket: Bucket, *secrets: str) -> None:
    """One line for an operator, without what is nobody's business."""
    assert "\n" not in message
    assert "://" not in message
    for secret in (bucket.server.access_key, bucket.server.secret_key, "secret text", *secrets):
        assert secret not in message


def test_a_deletes_signature_that_is_wrong_makes_the_store_unavailable(bucket: Bucket) -> None:
    answers = bucket.delete(bucket.driver(s3_store_secret_key="guessed"))
    assert [type(answer) for answer in answers] == [errors.Unavailable] * 3
    assert "s3_store_secret_key" in str(answers[0])


@pytest.mark.parametrize("host", [f"http://{LOCALHOST}:{{port}}", "http://no-such-host.invalid"])
def test_a_server_that_is_not_there_is_unavailable(bucket: Bucket, host: str) -> None:
    driver = bucket.driver(s3_store_host=host.format(port=free_port()), call_timeout=5)
    with pytest.raises(errors.Unavailable, match="s3_store_host"):
        driver.probe()
    [answer] = bucket.delete(driver, "a")
    assert isinstance(answer, errors.Unavailable)
    check_words(str(answer), bucket)


def test_the_section_is_the_only_truth(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever ~/.aws and the environment say of another account."""
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text(
        "[profile other]\nendpoint_url = http://127.0.0.1:9\nregion = moon\n"
        "s3 =\n  addressing_style = virtual\n"
    )
    (tmp_path / "broken").write_text("[no section")
    # A model of another S3, with which nothing works.
    (tmp_path / ".aws" / "models" / "s3" / "2006-03-01").mkdir(parents=True)
    (tmp_path / ".aws" / "models" / "s3" / "2006-03-01" / "service-2.json").write_text("{")
    for name, value in {
        "HOME": str(tmp_path),
        "AWS_PROFILE": "other",
        "AWS_CONFIG_FILE": str(tmp_path / "broken"),
        "AWS_ACCESS_KEY_ID": "other",
        "AWS_SECRET_ACCESS_KEY": "other",
        "AWS_SESSION_TOKEN": "other",
        "AWS_DEFAULT_REGION": "moon",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "AWS_MAX_ATTEMPTS": "7",
        "AWS_CA_BUNDLE": "/nowhere",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "nonsense",
        "AWS_DATA_PATH": "/nowhere",
        "AWS_DEFAULTS_MODE": "nonsense",
        "AWS_S3_US_EAST_1_REGIONAL_ENDPOINT": "nonsense",
    }.items():
        monkeypatch.setenv(name, value)
    s3_client._session.cache_clear()
    driver = bucket.driver()
    driver.probe()
    assert bucket.delete(driver) == [Deleted(3)] * 3
    with bucket.proxy.failing(error_reply(500, "InternalError"), "POST"):
        bucket.proxy.forget()
        bucket.delete(driver)
        assert len(bucket.proxy.requests) == 1


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    directory = tmp_path_factory.mktemp("tls")
    with needed_programs():
        server = S3Server(directory, self_signed(directory))
    with server:
        yield server


def test_a_server_with_a_ca_of_its_own(tls_server: S3Server, tmp_path: Path) -> None:
    owner = tls_server.owner
    owner.create_bucket(Bucket="images")
    owner.put_object(Bucket="images", Key="a", Body=b"xyz")
    good = tls_server.cacert
    (stranger := tmp_path / "stranger").mkdir()
    url = f"s3+https://{LOCALHOST}:{tls_server.port}/images/a"
    for cacert in ("", str(self_signed(stranger).certificate)):
        driver = S3Driver(section(S3Driver, **tls_server.options("images", s3_store_cacert=cacert)))
        with pytest.raises(errors.Unavailable, match="s3_store_cacert"):
            driver.probe()
        driver.close()
    trusting = S3Driver(
        section(S3Driver, **tls_server.options("images", s3_store_cacert=str(good)))
    )
    trusting.probe()
    assert trusting.delete([Target(url, 3)], base.always) == [Deleted(3)]
    trusting.close()


@pytest.mark.parametrize(
    ("options", "host", "path"),
    [
        ({"s3_store_bucket_url_format": "virtual"}, "{bucket}.localhost:{port}", "/?delete"),
        # As botocore does it, unless the server is Amazon's.
        ({"s3_store_bucket_url_format": "auto"}, "localhost:{port}", "/{bucket}?delete"),
        ({"s3_store_bucket_url_format": "path"}, "localhost:{port}", "/{bucket}?delete"),
    ],
)
def test_buckets_are_addressed_as_the_section_says(
    bucket: Bucket,
    options: dict[str, str],
    host: str,
    path: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolve_localhost(monkeypatch)
    driver = bucket.driver(s3_store_host=f"http://localhost:{bucket.proxy.port}", **options)
    with bucket.proxy.failing(result("<Deleted><Key>a</Key></Deleted>")):
        assert bucket.delete(driver, "a") == [Deleted(3)]
    [request] = bucket.proxy.requests
    values = {"bucket": bucket.name, "port": bucket.proxy.port}
    assert request.headers["Host"] == host.format(**values)
    assert request.path == path.format(**values)


def resolve_localhost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine's resolver makes of names below localhost."""
    import socket

    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        return resolve(LOCALHOST if str(host).endswith("localhost") else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_a_server_below_a_path(bucket: Bucket) -> None:
    driver = bucket.driver(s3_store_host=f"{bucket.proxy.url}/object/store/")
    with bucket.proxy.failing(result("<Deleted><Key>a</Key></Deleted>")):
        url = f"s3://{LOCALHOST}:{bucket.proxy.port}/object/store/{bucket.name}/a"
        assert driver.delete([Target(url, 3)], base.always) == [Deleted(3)]
    assert bucket.proxy.requests[0].path == f"/object/store/{bucket.name}?delete"


# What a server says ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "error", "words"),
    [
        (error_reply(503, "SlowDown"), errors.Throttled, "SlowDown"),
        (error_reply(503, "ServiceUnavailable"), errors.Throttled, "patience"),
        (error_reply(429, "TooManyRequests"), errors.Throttled, "patience"),
        (error_reply(400, "RequestLimitExceeded"), errors.Throttled, "patience"),
        (Reply(503), errors.Throttled, "503"),  # a proxy's, without S3's words
        (Reply(498, b"Slow down"), errors.Throttled, "498"),
        (error_reply(500, "InternalError"), errors.Failed, "InternalError"),
        (Reply(502, b"<html>secret text</html>"), errors.Unavailable, "502"),
        (Reply(504), errors.Unavailable, "504"),
        (error_reply(404, "NoSuchBucket"), errors.Unavailable, "s3_store_bucket"),
        (error_reply(403, "AccessDenied"), errors.Unavailable, "denies deletes"),
        (error_reply(403, "InvalidAccessKeyId"), errors.Unavailable, "s3_store_access_key"),
        (error_reply(403, "SignatureDoesNotMatch"), errors.Unavailable, "s3_store_secret_key"),
        (error_reply(403, "RequestTimeTooSkewed"), errors.Unavailable, "clock"),
        (error_reply(301, "PermanentRedirect"), errors.Unavailable, "s3_store_region_name"),
        (error_reply(400, "MalformedXML"), errors.Failed, "MalformedXML"),
        (error_reply(418, "AKIA0123456789 http://url"), errors.Failed, "HTTP status 418"),
        (Reply(200, b"<DeleteResult><Deleted>"), errors.Failed, "500"),  # botocore says so
        (Reply(200, b"\x00\xff"), errors.Failed, "500"),
        (Reply(200), errors.Failed, "did not say"),
        (Reply(200, b"<html><body>Welcome</body></html>"), errors.Failed, "did not say"),
        (None, errors.Unavailable, "closes the connection"),  # reset
    ],
)
def test_trouble_with_a_request_is_that_of_all_its_objects(
    bucket: Bucket, reply: Reply | None, error: type[errors.StoreError], words: str
) -> None:
    driver = bucket.driver()
    with bucket.proxy.failing(reply, "POST"):
        answers = bucket.delete(driver)
    assert [type(answer) for answer in answers] == [error] * 3
    assert words in str(answers[0])
    check_words(str(answers[0]), bucket)
    assert bucket.keys() == bucket.names
    assert bucket.delete(driver) == [Deleted(3)] * 3


def test_half_an_answer_is_none(bucket: Bucket) -> None:
    driver = bucket.driver()
    half = replace(result(*(f"<Deleted><Key>{name}</Key></Deleted>" for name in "abc")), cut=True)
    with bucket.proxy.failing(half, "POST"):
        answers = bucket.delete(driver)
    # Of the store or of these objects: that depends on botocore's version.
    assert all(isinstance(answer, errors.Unavailable | errors.Failed) for answer in answers)
    assert bucket.delete(driver) == [Deleted(3)] * 3


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7),
        ("0", 0),
        ("-1", None),
        ("soon", None),
        ("999999999", 3600),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Wed, 21 Oct 2899 07:28:00 GMT", 3600),
    ],
)
def test_a_throttling_store_says_how_long(
    bucket: Bucket, header: str | None, seconds: float | None
) -> None:
    headers = {} if header is None else {"Retry_After": header}
    with bucket.proxy.failing(error_reply(503, "SlowDown", **headers)):
        [answer] = bucket.delete(bucket.driver(), "a")
    assert isinstance(answer, errors.Throttled)
    assert answer.retry_after == seconds


def test_a_throttling_store_says_until_when(bucket: Bucket) -> None:
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=600)
    date = email.utils.format_datetime(soon, usegmt=True)
    with bucket.proxy.failing(error_reply(503, "SlowDown", Retry_After=date)):
        [answer] = bucket.delete(bucket.driver(), "a")
    assert isinstance(answer, errors.Throttled)
    assert answer.retry_after == pytest.approx(600, abs=120)


def test_a_throttled_request_is_the_last_of_its_batch(bucket: Bucket) -> None:
    other = bucket.create()
    driver = bucket.driver(scrub_also_in=[other])
    targets = [Target(bucket.url("a")), Target(bucket.url("a", other))]
    with bucket.proxy.failing(error_reply(503, "SlowDown"), "POST"):
        first, second = driver.delete(targets, base.always)
    assert isinstance(first, errors.Throttled)
    assert isinstance(second, errors.NotSent)


def test_a_server_that_does_not_answer_in_time_is_unavailable(bucket: Bucket) -> None:
    def hang(request: Request, forward: Forward) -> None:
        bucket.proxy.released.wait(60)

    with bucket.proxy.failing(hang):
        answers = bucket.delete(bucket.driver(call_timeout=0.2))
    assert [type(answer) for answer in answers] == [errors.Unavailable] * 3
    assert "in time" in str(answers[0])


def test_a_connection_that_is_closed_when_it_is_used_again_is_no_trouble(bucket: Bucket) -> None:
    driver = bucket.driver()
    first = [True]

    def close_once(request: Request, forward: Forward) -> Reply | None:
        return None if first and first.pop() else forward()

    with bucket.proxy.failing(close_once, "POST"):
        assert bucket.delete(driver) == [Deleted(3)] * 3


def test_a_request_is_repeated_only_if_the_caller_says_so(bucket: Bucket) -> None:
    driver = bucket.driver()
    bucket.proxy.forget()
    allowed = iter([True, False])
    with bucket.proxy.failing(None, "POST"):
        [answer] = driver.delete(bucket.targets("a"), lambda: next(allowed))
    assert isinstance(answer, errors.Unavailable)
    assert len(bucket.proxy.requests) == 1


def test_each_key_has_an_answer_of_its_own(bucket: Bucket) -> None:
    names = ["ok", "marked", "denied", "slow", "broken", "gone", "odd", "forgotten", "both"]
    reply = result(
        "<Deleted><Key>ok</Key></Deleted>",
        "<Deleted><Key>marked</Key><DeleteMarker>true</DeleteMarker>"
        "<DeleteMarkerVersionId>1</DeleteMarkerVersionId></Deleted>",
        said("denied", "AccessDenied"),
        said("slow", "SlowDown"),
        said("broken", "InternalError"),
        said("gone", "NoSuchKey"),
        said("odd", "AKIA0123 http://url"),
        "<Deleted><Key>both</Key></Deleted>",
        said("both", "InternalError"),
        "<Deleted><Key>unasked</Key></Deleted>",
    )
    with bucket.proxy.failing(reply):
        answers = bucket.delete(bucket.driver(), *names)

    by_name = dict(zip(names, answers, strict=True))
    assert by_name.pop("ok") == Deleted(3)
    assert by_name.pop("marked") == Deleted(0)  # a bucket with versions keeps the bytes
    assert {name: type(answer) for name, answer in by_name.items()} == {
        "denied": errors.Failed,
        "slow": errors.Throttled,
        "broken": errors.Failed,
        "gone": base.Gone,
        "odd": errors.Failed,
        "forgotten": errors.Failed,
        "both": errors.Failed,
    }
    assert "s3:DeleteObject" in str(by_name["denied"])
    assert "did not say" in str(by_name["forgotten"])
    for answer in by_name.values():
        check_words(str(answer), bucket)


def test_a_bucket_that_vanishes_under_a_key_stops_the_store(bucket: Bucket) -> None:
    with bucket.proxy.failing(result(said("a", "NoSuchBucket"))):
        [answer] = bucket.delete(bucket.driver(), "a")
    assert isinstance(answer, errors.Unavailable)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(403), errors.Failed),  # without the right to list, a missing object looks so
        (Reply(503), errors.Throttled),
        (Reply(500), errors.Failed),
    ],
)
def test_a_look_that_fails_says_so_of_its_object(
    bucket: Bucket, reply: Reply, error: type[errors.StoreError]
) -> None:
    with bucket.proxy.failing(reply, "HEAD"):
        [look] = bucket.driver().look(bucket.targets("a"))
    assert type(look) is error


@pytest.mark.parametrize("reply", [Reply(status) for status in (301, 400, 403, 404, 500, 501, 503)])
def test_a_probe_that_fails_makes_the_store_unavailable(bucket: Bucket, reply: Reply) -> None:
    with bucket.proxy.failing(reply), pytest.raises(errors.Unavailable) as unavailable:
        bucket.driver().probe()
    check_words(str(unavailable.value), bucket)


def test_a_bucket_in_another_region_is_found_there_as_glance_finds_it(bucket: Bucket) -> None:
    def elsewhere(request: Request, forward: Forward) -> Reply:
        if "/moon-1/s3/" in request.headers["Authorization"]:
            return forward()
        return error_reply(301, "PermanentRedirect", x_amz_bucket_region="moon-1")

    driver = bucket.driver(s3_store_region_name="mars-1")
    with bucket.proxy.failing(elsewhere):
        driver.probe()
        assert bucket.delete(driver) == [Deleted(3)] * 3


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_redirects_that_lead_nowhere_end_at_once(bucket: Bucket, method: str) -> None:
    driver = bucket.driver()
    calls = {
        "GET": driver.probe,
        "HEAD": lambda: driver.look(bucket.targets("a")),
        "POST": lambda: raise_first(bucket.delete(driver)),
    }
    with bucket.proxy.failing(Reply(301)), pytest.raises(errors.Unavailable) as unavailable:
        calls[method]()
    assert "s3_store_region_name" in str(unavailable.value)
    assert len(bucket.proxy.requests) == 2


def test_a_server_that_limits_its_rate_throttles_single_keys(tmp_path: Path) -> None:
    """Swift's S3: a good answer, in which most keys are errors."""
    names = [f"n{number:02d}" for number in range(40)]
    with needed_programs():
        swift = Swift(tmp_path / "swift")
    with swift:
        account = S3Account(swift.url, TESTER.name, TESTER.key)
        account.owner.create_bucket(Bucket="images")
        for name in names:
            account.owner.put_object(Bucket="images", Key=name, Body=b"x")
        account.owner.close()
    with Swift(tmp_path / "swift", ratelimit=5, bulk_concurrency=10) as swift:
        account = S3Account(swift.url, TESTER.name, TESTER.key)
        driver = S3Driver(section(S3Driver, **account.options("images")))
        driver.probe()

        targets = [Target(f"s3://swift/images/{name}", 1) for name in names]
        answers = driver.delete(targets, base.always)

        kinds = {type(answer) for answer in answers}
        listed = account.owner.list_objects_v2(Bucket="images")["Contents"]
        driver.close()
        account.owner.close()
    assert kinds == {Deleted, errors.Throttled}
    assert {entry["Key"] for entry in listed} == {
        name
        for name, answer in zip(names, answers, strict=True)
        if isinstance(answer, errors.Throttled)
    }


# Servers without DeleteObjects -----------------------------------------------------------


@pytest.mark.parametrize(
    "reply",
    [error_reply(501, "NotImplemented"), error_reply(405, "MethodNotAllowed"), Reply(501)],
)
def test_a_server_without_deleteobjects_gets_deletes_one_by_one(
    bucket: Bucket, reply: Reply
) -> None:
    driver = bucket.driver()
    with bucket.proxy.failing(reply, "POST"):
        assert bucket.delete(driver) == [Deleted(3)] * 3
        bucket.put(*bucket.names)
        assert bucket.delete(driver) == [Deleted(3)] * 3
    methods = [request.method for request in bucket.proxy.requests]
    assert methods == ["POST", *["DELETE"] * 6]
    assert bucket.keys() == []


def test_one_by_one_each_request_asks_and_a_throttle_ends_it(bucket: Bucket) -> None:
    driver = bucket.driver()
    with bucket.proxy.failing(Reply(501), "POST"):
        bucket.delete(driver, "nothing")
    allowed = iter([True, True, False])
    answers = driver.delete(bucket.targets(), lambda: next(allowed))
    assert [type(answer) for answer in answers] == [Deleted, Deleted, errors.NotSent]
    assert bucket.keys() == ["c"]
    with bucket.proxy.failing(Reply(503), "DELETE"):
        answers = bucket.delete(driver, "c", "d")
    assert [type(answer) for answer in answers] == [errors.Throttled, errors.NotSent]
    with bucket.proxy.failing(error_reply(403, "AccessDenied"), "DELETE"):
        answers = bucket.delete(driver, "c", "d")
    assert [type(answer) for answer in answers] == [errors.Failed] * 2
    with bucket.proxy.failing(Reply(204, headers={"x-amz-delete-marker": "true"}), "DELETE"):
        assert bucket.delete(driver, "c") == [Deleted(0)]


# Logs ------------------------------------------------------------------------------------


def test_at_debug_level_nothing_of_a_request_is_logged(
    bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    driver = bucket.driver()
    driver.probe()
    bucket.delete(driver)
    logged = "\n".join(f"{record.name} {record.getMessage()}" for record in caplog.records)
    for secret in (bucket.server.access_key, bucket.server.secret_key):
        assert secret not in logged
    assert not re.search(r"^botocore", logged, re.MULTILINE)
    assert os.environ.get("HOME", "/nowhere") + "/.aws" not in logged

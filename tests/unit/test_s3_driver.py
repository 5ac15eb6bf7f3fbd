"""The S3 driver's decisions: what a URL means, what a section may say, what an answer means."""

import datetime
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.sections import section
from scrubber import errors
from scrubber.stores import s3_client
from scrubber.stores.s3 import Row, S3Driver, read
from scrubber.stores.s3_client import Trouble, retry_after, translated

NOON = datetime.datetime(2030, 1, 1, 12, tzinfo=datetime.UTC)


def driver(store: str = "fast", **options: Any) -> S3Driver:
    """With an address that nobody is asked at."""
    options = {
        "s3_store_host": "http://s3.example.com",
        "s3_store_access_key": "access",
        "s3_store_secret_key": "secret",
        "s3_store_bucket": "images",
        **options,
    }
    return S3Driver(section(S3Driver, store=store, **options))


@pytest.fixture(scope="module")
def usual() -> S3Driver:
    return driver(scrub_also_in=["former"])


# What a URL means ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "row"),
    [
        ("s3://host/images/key", Row("host", "images", "key", True)),
        ("s3+http://host:80/images/key", Row("host", "images", "key", True)),
        ("s3+https://host:443/images/key", Row("host", "images", "key", True)),
        ("s3+https://host:80/images/key", Row("host:80", "images", "key", True)),
        ("s3://HOST:8080/images/Key", Row("host:8080", "images", "Key", True)),
        # The endpoint has a path.
        ("s3://host/Object/Store/images/key", Row("host/Object/Store", "images", "key", True)),
        ("s3://access:secret@host/images/key", Row("host", "images", "key", True)),
        ("s3://access:se/cret@host/images/key", Row("host", "images", "key", True)),
        ("s3://[::1]:8080/images/key", Row("[::1]:8080", "images", "key", True)),
        # Slashes at both ends are stripped, those in between are not.
        ("s3:///host/images/key//", Row("host", "images", "key", True)),
        ("s3://host//images/key", Row("host", "images", "key", True)),
        ("s3://host/images//key", Row("host/images", "", "key", True)),
        # Percent signs and semicolons mean themselves.
        ("s3://host/images/a%2Fb;c", Row("host", "images", "a%2Fb;c", True)),
        # urlparse cuts these off.
        ("s3://host/images/key?versionId=1", Row("host", "images", "key", False)),
        ("s3://host/images/key#1", Row("host", "images", "key", False)),
        ("s3://host/images/key?", Row("host", "images", "key", False)),
        ("s3://host/images/k\ney", Row("host", "images", "key", False)),
        ("S3://host/images/key", Row("host", "images", "key", False)),
        ("s3://images/key", None),
        ("s3://key", None),
        ("s3://", None),
        ("s3:/host/images/key", None),
        ("s3://https://host/images/key", None),
        ("swift://host/images/key", None),
        ("s3://[host/images/key", None),
        ("", None),
    ],
)
def test_a_url_means_what_glance_store_reads_in_it(url: str, row: Row | None) -> None:
    assert read(url) == row


@given(st.text())
def test_no_url_of_a_live_image_makes_trouble(usual: S3Driver, rest: str) -> None:
    for url in (rest, f"s3://{rest}", f"s3://host/images/{rest}"):
        [mentions] = usual.mentions([url])
        assert len(list(mentions)) <= 1


@given(st.text())
def test_what_may_be_deleted_is_what_a_live_url_would_mention(usual: S3Driver, rest: str) -> None:
    url = f"s3://host/images/{rest}"
    try:
        identity = usual.identify(url)
    except errors.Refused:
        return
    assert [list(names) for names in usual.mentions([url])] == [[identity]]


@pytest.mark.parametrize(
    "key",
    [
        ".",  # in a request's path these would name the bucket itself, or all of them
        "..",
        "a\x00b",  # XML has no such characters
        "a\x1fb",
        "a\x7fb",
        "a\x85b",
        "a\ud800b",
        "a\ufffeb",
        " key",
        "key ",
        "k" * 1025,
        "ü" * 513,
        "key?x",
        "key#x",
        "k\rey",
    ],
)
def test_keys_that_no_request_carries_as_they_are_are_refused(usual: S3Driver, key: str) -> None:
    url = f"s3://host/images/{key}"
    with pytest.raises(errors.Refused):
        usual.identify(url)
    with pytest.raises(errors.Refused):
        usual.root(url)


def test_a_live_url_that_would_be_refused_is_mentioned_as_glance_reads_it(usual: S3Driver) -> None:
    plain = usual.identify("s3://host/images/key")
    urls = ["s3://host/images/key?x", "s3://host/images/k\ney#y", "S3://other/images/key"]
    assert [list(names) for names in usual.mentions(urls)] == [[plain]] * 3
    # A bucket that nothing is deleted from here may be another store's.
    [[elsewhere]] = usual.mentions(["s3://host/elsewhere/key"])
    assert elsewhere == plain.replace("/images/", "/elsewhere/")


def test_a_key_of_a_kilobyte_is_taken(usual: S3Driver) -> None:
    assert usual.identify(f"s3://host/images/{'ü' * 512}").endswith("ü")


# Identities ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "s3.example.com",
        "http://s3.example.com",
        "http://s3.example.com/",
        "http://S3.Example.com:80",
        "https://s3.example.com",
        "https://s3.example.com:443/",
    ],
)
def test_one_server_has_one_name(usual: S3Driver, host: str) -> None:
    other = driver("slow", s3_store_host=host, s3_store_bucket="former")
    assert other.family == usual.family
    url = "s3://whatever/former/key"
    assert other.identify(url) == usual.identify(url) == "s3:s3.example.com/former/key"


@pytest.mark.parametrize(
    "host",
    ["http://s3.example.com:8080", "http://s3.example.com/path", "http://s4.example.com"],
)
def test_another_server_has_another_name(usual: S3Driver, host: str) -> None:
    other = driver(s3_store_host=host)
    assert other.family != usual.family
    url = "s3://host/images/key"
    assert other.identify(url) != usual.identify(url)


def test_amazon_is_one_server_in_all_its_regions() -> None:
    hosts = ["s3.amazonaws.com", "https://s3.eu-west-1.amazonaws.com", "s3-us-west-2.amazonaws.com"]
    assert len({driver(s3_store_host=host).family for host in hosts}) == 1


def test_rows_of_a_former_server_and_of_other_buckets_prove_themselves(usual: S3Driver) -> None:
    roots = [
        usual.root(url)
        for url in (
            "s3://s3.example.com/images/key",
            "s3://s3.example.com/former/key",
            "s3://access:secret@former.example.com/images/key",
        )
    ]
    assert roots == [
        "s3.example.com/images",
        "s3.example.com/former",
        "former.example.com/images",
    ]


# Options ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("s3_store_host", None, "is not set"),
        ("s3_store_access_key", "", "is not set"),
        ("s3_store_secret_key", None, "is not set"),
        ("s3_store_bucket", None, "is not set"),
        ("s3_store_bucket_url_format", "dns", "none of auto, virtual, path"),
        ("s3_store_cacert", "/nowhere/ca.pem", "cannot be read"),
        ("s3_store_host", "http://", "no address"),
        ("s3_store_host", "http://a b", "no address"),
        ("s3_store_region_name", "eu west", "no name of a region"),
    ],
)
def test_options_that_cannot_be_used_are_named(option: str, value: Any, words: str) -> None:
    with pytest.raises(errors.ConfigError) as wrong:
        driver(**{option: value})
    assert f"option {option} in section [fast]" in str(wrong.value)
    assert words in str(wrong.value)


@pytest.mark.parametrize("where", ["s3_store_bucket", "scrub_also_in"])
def test_a_bucket_that_is_no_part_of_a_hosts_name_needs_path(where: str) -> None:
    value = ["Im_ages"] if where == "scrub_also_in" else "Im_ages"
    with pytest.raises(errors.ConfigError, match="use path"):
        driver(s3_store_bucket_url_format="virtual", **{where: value})
    driver(s3_store_bucket_url_format="path", **{where: value})


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("s3-eu-west-1.amazonaws.com", "eu-west-1"),
        ("https://s3-cn-north-1.amazonaws.com.cn:443/", "cn-north-1"),
        ("s3.amazonaws.com", None),
        ("http://s3-eu-west-1.example.com", None),
    ],
)
def test_amazons_old_names_say_the_region(host: str, region: str | None) -> None:
    assert s3_client.implied_region(host) == region


def test_a_root_never_shows_what_may_be_credentials() -> None:
    for url in ("s3://access:secret/images/key", "s3://access:secret@host/images/key"):
        row = read(url)
        assert row is not None
        assert "secret" not in row.host


def test_keys_are_secret_options() -> None:
    secret = {option.name for option in S3Driver.options() if option.secret}
    assert secret == {"s3_store_access_key", "s3_store_secret_key"}


# Answers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        (Trouble("SlowDown"), errors.Throttled),
        (Trouble("Unheard", 429), errors.Throttled),
        (Trouble("NoSuchKey"), errors.Gone),
        (Trouble("404", 404), errors.Failed),  # of the key or of the bucket: nobody knows
        (Trouble("AccessDenied"), errors.Failed),
        (Trouble("InvalidAccessKeyId"), errors.Unavailable),
        (Trouble("InternalError"), errors.Failed),
        (Trouble("BadGateway", 502), errors.Unavailable),
        (Trouble("Unheard"), errors.Failed),
    ],
)
def test_an_answer_says_what_may_be_done_next(
    trouble: Trouble, error: type[errors.StoreError]
) -> None:
    assert isinstance(translated(trouble, "images", "fast"), error)


@given(st.text())
def test_no_message_quotes_what_is_not_a_code(code: str) -> None:
    message = str(translated(Trouble(f"AKIA0{code}://", 418), "images", "fast"))
    assert message == "the store answers HTTP status 418"


@pytest.mark.parametrize("code", ["InternalError", "MalformedXML", "InvalidURI", "KeyTooLongError"])
def test_codes_are_quoted(code: str) -> None:
    assert code in str(translated(Trouble(code, 400), "images", "fast"))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("120", 120),
        (" 5 ", 5),
        ("0", 0),
        ("999999999999999999999", None),
        ("1.5", None),
        ("-5", None),
        ("soon", None),
        ("Tue, 01 Jan 2030 12:02:00 GMT", 120),
        ("Tue, 01 Jan 2030 11:00:00 GMT", 0),
        ("Tue, 01 Jan 2030 12:02:00 -0000", 120),
        ("Tue, 01 Jan 2999 12:00:00 GMT", 3600),
        ("Tue, 99 Jan 2030 12:00:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert retry_after(value, NOON) == seconds


@given(st.text())
def test_no_retry_after_makes_trouble(value: str) -> None:
    seconds = retry_after(value, NOON)
    assert seconds is None or 0 <= seconds <= 3600


def test_without_its_library_the_store_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "scrubber.stores.s3_client")
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    assert S3Driver.options()
    with pytest.raises(errors.ConfigError, match=r"section \[fast\].*install scrubber\[s3\]"):
        driver()


@pytest.mark.parametrize(
    "hosts",
    [
        ["s3.cn-north-1.amazonaws.com.cn", "https://s3.dualstack.cn-northwest-1.amazonaws.com.cn"],
        ["http://s3.example.com:9000", "http://S3.example.com.:9000/"],
        ["s3.amazonaws.com", "https://s3.eu-west-1.amazonaws.com."],
    ],
)
def test_one_bucket_is_known_by_all_names_of_its_server(hosts: list[str]) -> None:
    url = "s3://host/images/key"
    assert len({driver(s3_store_host=host).identify(url) for host in hosts}) == 1
    assert len({driver(s3_store_host=host).family for host in hosts}) == 1

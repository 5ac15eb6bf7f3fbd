"""Swift's URLs, references and answers: what needs no server."""

import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.sections import section
from scrubber import errors
from scrubber.stores.swift import SwiftDriver
from scrubber.stores.swift.addresses import SCHEMES, Containers, normal, parse
from scrubber.stores.swift.large import _is_segment, _manifest
from scrubber.stores.swift.references import Reference, references
from scrubber.stores.swift.session import Login
from scrubber.stores.swift.web import Reply, retry_after, trouble

IMAGE = "fdae39a1-bac5-4238-aba4-69bcc726e848"
INLINE = {
    "swift_store_auth_address": "http://keystone:5000/v3",
    "swift_store_user": "service:glance",
    "swift_store_key": "secret",
}


def driver(**options: Any) -> SwiftDriver:
    return SwiftDriver(section(SwiftDriver, **{**INLINE, **options}))


# URLs ------------------------------------------------------------------------------------


PARSED = [
    # a URL; reference, auth address, user, container, name
    ("swift+config://ref/c/o", "ref", None, None, "c", "o"),
    ("swift+config://Ref//c/o", "Ref", None, None, "c", "o"),
    ("swift+config://ref/c/a%20b", "ref", None, None, "c", "a%20b"),
    ("swift://t:u:k@host/v3/c/o", None, "https://host/v3", "t:u", "c", "o"),
    ("swift+https://t:u:k@host:443/v3/c/o", None, "https://host/v3", "t:u", "c", "o"),
    ("swift+http://t%3Au:k@HOST:80/c/o", None, "http://host/", "t:u", "c", "o"),
    ("swift+http://t:u:k%40%2F@host:5000/c/o", None, "http://host:5000/", "t:u", "c", "o"),
    ("swift+http://u:k@host/v3/c/o", None, "http://host/v3", "u", "c", "o"),
    ("swift+https://host/v1/AUTH_x/c/o", None, "https://host/v1/AUTH_x", None, "c", "o"),
]


@pytest.mark.parametrize(("url", "reference", "auth", "user", "container", "name"), PARSED)
def test_a_url_is_read_as_glance_store_reads_it(
    url: str, reference: str | None, auth: str | None, user: str | None, container: str, name: str
) -> None:
    address = parse(url)
    assert address.is_plain
    assert (address.reference, address.auth_address, address.user) == (reference, auth, user)
    assert (address.container, address.name) == (container, name)


@pytest.mark.parametrize(
    "url",
    [
        "SWIFT+CONFIG://ref/c/o",  # glance_store knows lower case only
        "swift+config://ref/c/http://o",
        "swift+config:/ref/c/o",
        "swift://k@host/c/o",  # no user
        "swift://t:u:k@k@host/c/o",
        "swift://[host/c/o",
        "rbd://a/b",
        "",
    ],
)
def test_what_glance_store_cannot_read_stands_for_nothing(url: str) -> None:
    with pytest.raises(errors.Refused):
        parse(url)
    assert [set(readings) for readings in driver().mentions([url])] == [set()]


@pytest.mark.parametrize(
    "url",
    [
        "swift+config://ref1/glance/o?x",
        "swift+config://ref1/glance/o#x",
        "swift+config://ref1/glance/.",
        "swift+config://ref1/glance/..",
        "swift+config://ref1/../o",
        "swift+config://ref1/deeper/glance/o",
        "swift+config://ref1/glance/o\n",
        " swift+config://ref1/glance/o",
        "swift+config://ref1/glance/\ud800",
        "swift+config://ref1/glance/" + "x" * 1025,
        "swift+config://ref1/glance",
        "swift+config://ref1/glance/",
        "swift+config:///glance/o",
        "swift+http:///service:glance:k@keystone:5000/v3/glance/o",  # an old form
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(url: str) -> None:
    with pytest.raises(errors.Refused):
        driver().identify(url)


def test_a_live_url_stands_for_what_glance_would_read_odd_as_it_is() -> None:
    there = driver()
    identity = there.identify("swift+config://ref1/glance/o")
    for url in (
        "swift+config://ref1/glance/o?x",
        "swift+config://ref1/deeper/glance/o",
        "swift+config://removed/glance/o",
        "swift+http:///service:glance:k@keystone:5000/v3/glance/o",
        "swift+https://other:user:key@elsewhere/glance/o",
    ):
        assert identity in set(there.mentions([url])[0]), url


@given(
    scheme=st.sampled_from(sorted(SCHEMES)),
    rest=st.text(st.characters(), max_size=60) | st.text("/:@?#.%[]ab", max_size=30),
)
def test_mentions_never_raises_and_holds_what_would_be_deleted(scheme: str, rest: str) -> None:
    there = driver()
    url = f"{scheme}://{rest}"
    [readings] = there.mentions([url])
    try:
        identity = there.identify(url)
    except errors.Refused:
        return
    assert identity in set(readings)


@pytest.mark.parametrize(
    ("url", "accepted"),
    [
        ("swift+http://service:glance:old-key@keystone:5000/v3/glance/o", True),
        ("swift+http://service%3Aglance:k@KEYSTONE:5000/v3/glance/o", True),
        ("swift+http://service:other:secret@keystone:5000/v3/glance/o", False),
        ("swift+http://other:glance:secret@keystone:5000/v3/glance/o", False),
        ("swift+http://service:glance:secret@elsewhere:5000/v3/glance/o", False),
        ("swift+http://service:glance:secret@keystone:5000/v2.0/glance/o", False),
        ("swift+https://service:glance:secret@keystone:5000/v3/glance/o", False),
        ("swift+http://keystone:5000/v3/glance/o", False),
    ],
)
def test_only_the_users_own_account_is_taken_from_a_url(url: str, accepted: bool) -> None:
    if accepted:
        assert driver().identify(url) == driver().identify("swift+config://ref1/glance/o")
        return
    with pytest.raises(errors.Refused, match="another Swift account") as refused:
        driver().identify(url)
    assert "secret" not in str(refused.value)


def test_an_application_credential_leaves_no_user_in_the_url() -> None:
    there = driver(
        swift_store_application_credential_id="id",
        swift_store_application_credential_secret="secret",
    )
    url = "swift+http://keystone:5000/v3/glance/o"
    assert there.identify(url) == there.identify("swift+config://ref1/glance/o")
    assert "secret" not in there.identify(url)


def test_addresses_are_compared_in_one_spelling() -> None:
    assert normal("HTTP://Host:80/v3/") == normal("http://host/v3") == "http://host/v3"
    assert normal("https://a:b@host:443") == "https://host/"
    assert normal("http://host:443/") != normal("https://host/")


# Containers ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("container", "name", "family"),
    [
        ("glance", "anything", "glance"),
        ("also", "anything", "also"),
        ("glance_f", IMAGE, "glance_*"),
        ("glance_fda", IMAGE.upper(), "glance_*"),
        ("glance_fdae39a1-ba", IMAGE, "glance_*"),
        ("glance_" + IMAGE, IMAGE, "glance_*"),
        ("glance_", IMAGE, None),
        ("glance_e", IMAGE, None),
        ("glance_fdab", IMAGE, None),
        ("glance_b", "backup", None),
        ("glance2", IMAGE, None),
        ("fda", IMAGE, None),
    ],
)
def test_containers_that_glance_makes_are_named_after_their_image(
    container: str, name: str, family: str | None
) -> None:
    containers = Containers("glance", True, ["also"])
    if family is not None:
        assert containers.family(container, name) == family
        return
    with pytest.raises(errors.Refused):
        containers.family(container, name)


def test_without_a_seed_there_is_one_container() -> None:
    with pytest.raises(errors.Refused):
        Containers("glance", False, []).family("glance_f", IMAGE)


# Options ---------------------------------------------------------------------------------


def in_file(tmp_path: Path, text: str, **options: Any) -> dict[str, Reference]:
    file = tmp_path / "references"
    file.write_text(text)
    return references(section(SwiftDriver, swift_store_config_file=str(file), **options))


def test_a_file_of_references_is_read_as_glance_reads_it(tmp_path: Path) -> None:
    found = in_file(
        tmp_path,
        "[ref1]\nauth_address = keystone/v3\nuser = 'a:b'\nkey = \"k 1\"\n"
        "project_domain_name = P\nuser_domain_id = U\n"
        "[half]\nauth_address = keystone\nuser = a:b\n"
        "[odd]\nauth_address = keystone\nuser = a:b\nkey = 'k\n"
        "[percent]\nauth_address = keystone\nuser = a:b\nkey = 50%s\n"
        "[old]\nauth_address = http://swift/auth/v1.0\nauth_version = 1\nuser = c:d\nkey = k\n"
        "[credential]\nauth_address = keystone\nuser = a:b\nkey = k\n"
        "application_credential_id = i\napplication_credential_secret = s\n",
    )
    assert found.keys() == {"ref1", "old", "credential"}
    assert found["ref1"].auth_address == "https://keystone/v3"
    assert (found["ref1"].user, found["ref1"].key) == ("a:b", "k 1")
    domains = found["ref1"].domains
    assert (domains.project_domain_id, domains.project_domain_name) == (None, "P")
    assert (domains.user_domain_id, domains.user_domain_name) == ("U", None)
    assert [reference.is_v1 for reference in found.values()] == [False, True, False]
    assert {reference.domains for reference in found.values()} == {domains}
    assert (found["credential"].credential_id, found["credential"].user) == ("i", "")
    assert "k 1" not in repr(found)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[other]\nauth_address = a\nuser = a:b\nkey = secret\n",
        "[ref1]\nuser = a:b\nkey = secret\n",
        "[ref1]\nauth_address = a\nuser = nocolon\nkey = secret\n",
        "[ref1]\nauth_address = a\nuser = a:b\nkey = secret%\n",
        "key = secret\n",
        "[ref1]\nkey secret\n",
        "[ref1]\n[ref1]\nkey = secret\n",
    ],
)
def test_a_file_without_the_default_reference_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(errors.ConfigError, match=r"section \[fast\]") as refused:
        in_file(tmp_path, text)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"swift_store_config_file": "/nowhere/file"}, "swift_store_config_file"),
        ({"swift_store_key": None}, "swift_store_key"),
        ({"swift_store_auth_address": None}, "swift_store_auth_address"),
        ({"swift_store_auth_address": "http://[k/v3"}, "swift_store_auth_address"),
        ({"swift_store_multi_tenant": True}, "swift_store_multi_tenant"),
        ({"swift_store_container": ""}, "swift_store_container"),
    ],
)
def test_what_is_missing_or_cannot_be_done_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(errors.ConfigError, match=named):
        driver(**options)


# Accounts and answers --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("storage_url", "account"),
    [
        ("https://Swift:443/v1/AUTH_x/", "swift/v1/AUTH_x"),
        ("http://swift:8080/v1/AUTH_x", "swift:8080/v1/AUTH_x"),
        # A Ceph gateway may give all accounts one URL.
        ("https://ceph/swift/v1", "ceph/swift/v1/project"),
    ],
)
def test_an_account_has_one_name(storage_url: str, account: str) -> None:
    assert Login("token", storage_url, "project").account == account
    assert "token" not in repr(Login("token", storage_url, "project"))


ANSWERS = [
    (404, "Not Found", {}, errors.Gone),
    (403, "Forbidden", {}, errors.Unavailable),
    (307, "Temporary Redirect", {}, errors.Unavailable),
    (409, "Conflict", {}, errors.Failed),
    (423, "Locked", {}, errors.InUse),
    (429, "Too Many Requests", {}, errors.Throttled),
    (498, "Rate Limited", {}, errors.Throttled),
    (503, "Slow Down", {}, errors.Throttled),
    (503, "Service Unavailable", {"retry-after": "3"}, errors.Throttled),
    (503, "Service Unavailable", {}, errors.Failed),
    (507, "Insufficient Storage", {}, errors.Failed),
    (400, "Bad Request", {}, errors.Failed),
]


@pytest.mark.parametrize(("status", "reason", "headers", "expected"), ANSWERS)
def test_what_an_answer_means(
    status: int, reason: str, headers: dict[str, str], expected: type[errors.StoreError]
) -> None:
    assert isinstance(trouble(Reply(status, reason, headers, b"")), expected)


def test_a_page_made_by_a_proxy_is_no_throttling() -> None:
    reply = Reply(503, "Service Unavailable", {}, b"page generated at a later time")
    assert not isinstance(trouble(reply), errors.Throttled)


def test_how_long_a_store_asks_to_wait() -> None:
    def said(value: str) -> float | None:
        return retry_after(Reply(503, "", {"retry-after": value}, b""))

    assert said("7") == 7
    assert said("soon") is said("") is said("-1") is None
    assert said("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    in_an_hour = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    assert said(in_an_hour.strftime("%a, %d %b %Y %H:%M:%S GMT")) == pytest.approx(3600, abs=60)


@pytest.mark.parametrize(
    ("segment", "own"),
    [
        ("c/o-00001", True),
        ("c/o-1", True),
        ("c/o/slo/1", True),
        ("c/o", False),
        ("c/o-", False),
        ("c/o/", False),
        ("c/o-1a2b", False),
        ("c/o-1-2", False),
        ("c/o1", False),
        ("d/o-00001", False),
    ],
)
def test_segments_are_named_after_their_object(segment: str, own: bool) -> None:
    assert _is_segment(segment, "c/o") is own


def test_a_manifest_header_is_quoted_utf8_in_latin1() -> None:
    assert _manifest("c/o-") == "c/o-"
    assert _manifest("k%C3%B6ln/o-") == _manifest("köln".encode().decode("latin-1") + "/o-")
    assert _manifest("%ff/o-") == ""

"""Location URLs encrypted by Glance."""

import base64
import contextlib
import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.encryption import encrypt
from scrubber.sources.encryption import Unreadable, reader

URL = "file:///var/lib/glance/images/7e0a9a4f-2ad1-4b6c-9b4c-9d8b3f1e2a10"
KEYS = ["k" * 16, "0123456789abcdef01234567", "ü" * 16]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    "url",
    [
        URL,
        # Of every length modulo the block size.
        *("file:///" + "a" * length for length in range(1, 17)),
        "rbd://fsid/images/7e0a9a4f/snap",
        "swift+config://ref1/glance/7e0a9a4f",
        "swift+https://user:p%40ss@auth.example.org/v3/glance/7e0a9a4f",
        "file:///images/bilder für köln/图像",
    ],
)
def test_what_glance_encrypted_is_read(key: str, url: str) -> None:
    assert reader(key)(encrypt(url, key)) == url


NAMES = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=60)


@given(NAMES, st.sampled_from(KEYS))
def test_every_url_that_glance_writes_is_read(name: str, key: str) -> None:
    url = f"file:///images/{name}"
    assert reader(key)(encrypt(url, key)) == url
    assert reader(key)(url) == url


def test_only_the_last_nought_ends_the_text() -> None:
    """Glance pads with anything but noughts."""
    stored = encrypt("file:///" + "a" * 7, KEYS[0], padding=b"")
    assert reader(KEYS[0])(stored) == "file:///" + "a" * 7


@pytest.mark.parametrize("length", [16, 24, 32])
def test_a_wrong_key_never_yields_a_url(length: int) -> None:
    """There is no checksum: one in a hundred decrypts to some text, none to a URL."""
    for _ in range(300):
        right, wrong = secrets.token_hex(length // 2), secrets.token_hex(length // 2)
        with pytest.raises(Unreadable) as unreadable:
            reader(wrong)(encrypt(URL, right))
        assert "metadata_encryption_key" in str(unreadable.value)


PLAIN = [URL, "RBD://fsid/pool/image/snap", "s3+https://host/bucket/key", "cinder://volume"]


@pytest.mark.parametrize("url", PLAIN)
@pytest.mark.parametrize("key", [None, *KEYS])
def test_a_plain_url_is_read_as_it_is_with_and_without_a_key(url: str, key: str | None) -> None:
    assert reader(key)(url) == url


GARBAGE = [
    # what a row may hold that is no URL, plain or encrypted
    None,
    "",
    " ",
    "x",
    "no URL at all",
    "/var/lib/glance/images/a",
    "file:/var/lib/glance/images/a",
    " file:///leading/space",
    "://nothing",
    "1file:///digit",
    # base64 of nothing, of too little, of half a block
    "AAAA",
    base64.urlsafe_b64encode(b"a" * 16).decode(),
    base64.urlsafe_b64encode(b"a" * 24).decode(),
    "A",
    "ü" * 40,
    "=" * 40,
]


@pytest.mark.parametrize("stored", GARBAGE)
@pytest.mark.parametrize("key", [None, KEYS[0]])
def test_garbage_is_unreadable_and_never_quoted(stored: str | None, key: str | None) -> None:
    with pytest.raises(Unreadable) as unreadable:
        reader(key)(stored)
    message = str(unreadable.value)
    assert "\n" not in message
    assert not stored or len(stored) < 5 or stored not in message


@pytest.mark.parametrize("url", ["file:///line\nbreak", "file:///nul\0", "file:///\u202e"])
def test_an_odd_plain_url_is_read_as_it_is(url: str) -> None:
    """Whether it is one that a store may delete is for the store to say."""
    assert reader(None)(url) == reader(KEYS[0])(url) == url


@pytest.mark.parametrize("inside", ["no URL", "", "file:///with\nline", "\0\0"])
def test_what_decrypts_to_no_url_is_unreadable(inside: str) -> None:
    with pytest.raises(Unreadable):
        reader(KEYS[0])(encrypt(inside, KEYS[0]))


def test_an_encrypted_url_without_a_key_says_what_is_missing() -> None:
    with pytest.raises(Unreadable, match="no metadata_encryption_key is set"):
        reader(None)(encrypt(URL, KEYS[0]))


@given(st.text(max_size=100))
def test_any_text_is_a_url_or_unreadable(stored: str) -> None:
    for key in (None, KEYS[0]):
        with contextlib.suppress(Unreadable):
            assert "://" in reader(key)(stored)


@given(st.binary(max_size=100))
def test_any_bytes_are_a_url_or_unreadable(data: bytes) -> None:
    stored = base64.urlsafe_b64encode(data).decode()
    with contextlib.suppress(Unreadable):
        assert "://" in reader(KEYS[0])(stored)

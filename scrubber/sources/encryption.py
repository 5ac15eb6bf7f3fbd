"""Location URLs as Glance encrypts them with ``metadata_encryption_key``.

AES-CBC under a random IV, text + NUL + random padding, URL-safe base64, no MAC: a wrong
key can give garbage without any error, so what comes out must look like a URL.
"""

import base64
import binascii
from collections.abc import Callable

from scrubber.stores import uri


class Unreadable(Exception):
    """The stored text is no URL that can be read; the message never quotes it."""


def reader(key: str | None) -> Callable[[str | None], str]:
    """A function from the stored text of a location to its URL.

    Plain and encrypted rows may stand side by side: base64 has no colon, so a text that
    is a URL as it stands was never encrypted.
    """
    decrypt = _decryptor(key.encode()) if key else None

    def read(stored: str | None) -> str:
        if not stored:
            raise Unreadable("the row holds no URL")
        if uri.scheme(stored) is not None:
            return stored
        if decrypt is None:
            raise Unreadable("it is encrypted or no URL, and no metadata_encryption_key is set")
        try:
            url = decrypt(stored)
        except ValueError:
            url = ""
        if not uri.is_url(url):
            raise Unreadable("the URL cannot be decrypted with metadata_encryption_key")
        return url

    return read


def _decryptor(key: bytes) -> Callable[[str], str]:
    # Only an operator who encrypts pays for this import at start-up.
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    algorithm = algorithms.AES(key)

    def decrypt(stored: str) -> str:
        try:
            data = base64.urlsafe_b64decode(stored)
        except binascii.Error as error:
            raise ValueError("not base64") from error
        decryption = Cipher(algorithm, modes.CBC(data[:16])).decryptor()
        padded = decryption.update(data[16:]) + decryption.finalize()
        return padded[: padded.rfind(b"\0")].decode()

    return decrypt

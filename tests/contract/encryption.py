"""Location URLs encrypted as Glance does it."""

import base64
import os
import secrets

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes


def encrypt(url: str, key: str, padding: bytes | None = None) -> str:
    """As glance.common.crypt.urlsafe_encrypt does."""
    text = url.encode()
    length = 16 - len(text) % 16
    if padding is None:
        padding = bytes(secrets.choice(range(1, 256)) for _ in range(length - 1))
    vector = os.urandom(16)
    encryptor = Cipher(algorithms.AES(key.encode()), modes.CBC(vector)).encryptor()
    data = encryptor.update(text + b"\0" + padding) + encryptor.finalize()
    return base64.urlsafe_b64encode(vector + data).decode("ascii")

"""The Ed25519 keys that manifests are signed with."""

from __future__ import annotations

import base64
import binascii
import hashlib

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from mirror.errors import KeyFormatError

SEED_BYTES = 32
PUBLIC_KEY_BYTES = 32


def key_id(public_key: bytes) -> str:
    """The short name of a public key: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(public_key).hexdigest()[:16]


def decode_public_key(text: str) -> bytes:
    """The 32 bytes of a public key from base64. Raises KeyFormatError."""
    return _decode(text, PUBLIC_KEY_BYTES, "public key")


def is_signed_by(public_key: bytes, signature: bytes, data: bytes) -> bool:
    """Whether a signature over ``data`` was made with the private half of this key."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


class SigningKey:
    """A private key; its text never appears in a message of ours."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private

    @classmethod
    def generate(cls) -> SigningKey:
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_text(cls, text: str) -> SigningKey:
        """Read a key from PEM (PKCS #8, unencrypted) or from the base64 of its 32-byte seed. Raises KeyFormatError."""
        text = text.strip()
        if not text.startswith("-----BEGIN"):
            return cls(Ed25519PrivateKey.from_private_bytes(_decode(text, SEED_BYTES, "signing key")))
        try:
            private = load_pem_private_key(text.encode(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise KeyFormatError(
                "key-unreadable", "The signing key is not an unencrypted private key in PEM."
            ) from error
        if not isinstance(private, Ed25519PrivateKey):
            raise KeyFormatError("key-unreadable", "The signing key is not an Ed25519 key.")
        return cls(private)

    def to_pem(self) -> str:
        return self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    def to_seed(self) -> str:
        """The base64 of the 32-byte seed, for a setting of one line."""
        return base64.b64encode(self._private.private_bytes_raw()).decode()

    @property
    def public_key(self) -> bytes:
        return self._private.public_key().public_bytes_raw()

    @property
    def key_id(self) -> str:
        return key_id(self.public_key)

    def sign(self, data: bytes) -> bytes:
        return self._private.sign(data)


def _decode(text: str, length: int, what: str) -> bytes:
    try:
        data = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError) as error:
        raise KeyFormatError("key-unreadable", f"The {what} is not base64.") from error
    if len(data) != length:
        raise KeyFormatError("key-unreadable", f"The {what} has {len(data)} bytes instead of {length}.")
    return data

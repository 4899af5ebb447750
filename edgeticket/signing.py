"""Ed25519 signatures (RFC 8032), by `cryptography`; keys are PEM files as OpenSSL writes and reads them.

What is signed begins with a context, a word for what it is: a signature of one kind of thing is never one of another.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgeticket.errors import BundleError, UsageError

PUBLIC, SIGNATURE = 32, 64  # bytes
NO_SIGNATURE = bytes(SIGNATURE)
LARGEST = 1 << 16  # bytes of a file of a key


def new_key() -> tuple[bytes, bytes]:
    """A private key (PKCS 8, not encrypted) and its public key (SubjectPublicKeyInfo), both PEM."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    return private, public_pem(private)


def public_of(private: bytes) -> bytes:
    """The 32 bytes of the public key of a private one in PEM. Raises UsageError for anything else."""
    return _private(private).public_key().public_bytes_raw()


def public_key(content: bytes) -> bytes:
    """The 32 bytes of a public key: themselves, or in PEM. Raises UsageError for anything else."""
    if not isinstance(content, bytes):
        raise UsageError(
            f"keys are a list of bytes, not of {type(content).__name__}: give [Path('mine.pub').read_bytes()]"
        )
    if len(content) == PUBLIC:
        return content
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError("not a public key: give the .pub of `edgeticket key new`") from error
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError(f"a public key of another kind ({type(key).__name__}): Ed25519 is what is needed")
    return key.public_bytes_raw()


def public_pem(private: bytes) -> bytes:
    """The public key (SubjectPublicKeyInfo) of a private one, both PEM. Raises UsageError for anything else."""
    from cryptography.hazmat.primitives import serialization as form

    return bytes(_private(private).public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo))


def key_file(path: Path, taken: Callable[[bytes], bytes]) -> bytes:
    """The content of a file that `taken`, which is `public_key` or `public_of`, does not refuse. Raises UsageError, which names it."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST)
        taken(content)
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read ({error.strerror or error}): `edgeticket key new` makes keys"
        ) from error
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    return content


def fingerprint(public: bytes) -> str:
    """16 hex digits, of the SHA-256 of the 32 bytes of a public key."""
    return hashlib.sha256(public).hexdigest()[:16]


def sign(private: bytes, context: bytes, message: bytes) -> bytes:
    """64 bytes, the same every time. `private`: PEM."""
    return _private(private).sign(context + message)


def require_signed(keys: Sequence[bytes], signature: bytes, context: bytes, message: bytes) -> str:
    """The fingerprint of the first of `keys` that signed it. Raises BundleError, code `unsigned` or `signature`, for none."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if signature == NO_SIGNATURE:
        raise BundleError("unsigned", "nobody signed it")
    for public in map(public_key, keys):
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(signature, context + message)
        except (InvalidSignature, ValueError):
            continue
        return fingerprint(public)
    raise BundleError("signature", "the signature is none of the given keys'")


def _private(content: bytes) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError("not a private key, or an encrypted one: give the .key of `edgeticket key new`") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"a private key of another kind ({type(key).__name__}): Ed25519 is what is needed")
    return key

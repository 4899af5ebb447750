"""Certificates of a test's own CA, as PEM files. They pass OpenSSL's strict checks, which Python makes from 3.13 on."""

import datetime
from pathlib import Path

import pytest

x509 = pytest.importorskip("cryptography.x509")

from cryptography.hazmat.primitives import hashes  # noqa: E402
from cryptography.hazmat.primitives import serialization as form  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID  # noqa: E402

CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
DAY = datetime.timedelta(days=1)


class Authority:
    """Of that name, its certificate in FOLDER/NAME.pem; below another one, or by itself."""

    def __init__(self, folder: Path, name: str, above: "Authority | None" = None) -> None:
        self._folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signs = x509.KeyUsage(*[False] * 5, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False)
        ca = [(x509.BasicConstraints(True, None), True), (signs, True)]
        self.path = str(folder / f"{name}.pem")
        Path(self.path).write_bytes((above or self)._signed(self._name, self._key.public_key(), ca))

    def issue(
        self,
        *names: str,
        common: tuple[str, ...] = (),
        purpose: x509.ObjectIdentifier = CLIENT,
        starts: float = -1,
        more: tuple[x509.GeneralName, ...] = (),
    ) -> tuple[str, str]:
        """A certificate with these DNS names and common names, valid for two days from `starts` days on -> paths of it and of its key."""
        key, number = ec.generate_private_key(ec.SECP256R1()), len(list(self._folder.iterdir()))
        extensions = [(x509.BasicConstraints(False, None), True), (x509.ExtendedKeyUsage([purpose]), False)]
        if names or more:
            extensions.append((x509.SubjectAlternativeName([*map(x509.DNSName, names), *more]), not common))
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each) for each in common])
        own = self._folder / f"{number}.pem", self._folder / f"{number}.key"
        own[0].write_bytes(self._signed(subject, key.public_key(), extensions, starts))
        own[1].write_bytes(private(key))
        return str(own[0]), str(own[1])

    def _signed(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        extensions: list[tuple[x509.ExtensionType, bool]],
        starts: float = -1,
    ) -> bytes:
        begin = datetime.datetime.now(datetime.UTC) + starts * DAY
        builder = x509.CertificateBuilder(self._name, subject, key, x509.random_serial_number(), begin, begin + 2 * DAY)
        own = self._key.public_key()
        extensions = [
            *extensions,
            (x509.SubjectKeyIdentifier.from_public_key(key), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(own), False),
        ]
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(form.Encoding.PEM)


def private(key: ec.EllipticCurvePrivateKey, password: bytes | None = None) -> bytes:
    how = form.BestAvailableEncryption(password) if password else form.NoEncryption()
    return key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, how)

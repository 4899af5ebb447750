"""TLS at both ends of a roll-out: the standard library's, 1.2 or later.

A device is who its certificate says it is: every DNS name of the subjectAltName, so a gateway with several sensors has one certificate
with several names; where there is none, the last common name of the subject. So does RFC 6125, 6.4.4. RFC 9525 ended that for
servers, whose certificates come from anywhere; these come from one CA that is chosen, and CAs of devices often write the identity there.
Names are compared letter by letter, as the fleet writes them: no wildcard, and upper case is not lower case.
"""

import errno
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeticket.errors import EdgeTicketError, UsageError


@dataclass(frozen=True)
class Tls:
    """PEM files: `own`, the certificate to show, followed by those that lead to its CA, and its key without a password; `ca`, whose
    certificates the other side must show: a server without it asks for none, a client takes the system's.

    Read with each call: what is renewed counts from the next connection on.
    """

    own: tuple[str, str] | None = None
    ca: str | None = None

    def server(self) -> ssl.SSLContext:
        """Raises UsageError for files that are not what they should be, as `client` does."""
        found = self._context(ssl.Purpose.CLIENT_AUTH)
        found.verify_mode = ssl.CERT_REQUIRED if self.ca else ssl.CERT_NONE
        return found

    def client(self) -> ssl.SSLContext:
        return self._context(ssl.Purpose.SERVER_AUTH)

    def _context(self, purpose: ssl.Purpose) -> ssl.SSLContext:
        try:
            found = ssl.create_default_context(purpose, cafile=self.ca)
        except OSError as error:
            _files_left(error)
            raise UsageError(f"{self.ca}: no certificate of a CA in PEM form ({error}): check the file") from error
        found.minimum_version = ssl.TLSVersion.TLSv1_2
        found.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the CA below the company's, if that one is named
        if self.own:
            try:
                found.load_cert_chain(*self.own, password="")  # or OpenSSL would ask at the terminal
            except OSError as error:
                _files_left(error)
                raise UsageError(
                    f"{self.own[0]}, {self.own[1]}: not a certificate and its key, in PEM form and without a password "
                    f"({error}): check both files"
                ) from error
        return found


def _files_left(error: OSError) -> None:
    if not isinstance(error, ssl.SSLError) and error.errno in (errno.EMFILE, errno.ENFILE):
        raise EdgeTicketError(f"{error.strerror}: certificates cannot be read; allow the process more (ulimit -n)")


def named(certificate: Mapping[str, Any] | None) -> set[str]:
    """The devices that one of SSLSocket.getpeercert names."""
    found = certificate or {}
    names = {name for kind, name in found.get("subjectAltName", ()) if kind == "DNS"}
    common = [value for part in found.get("subject", ()) for key, value in part if key == "commonName"]
    return names or set(common[-1:])

"""What can go wrong, and the exit code that a shell sees."""

from typing import ClassVar


class EdgeTicketError(Exception):
    """Something failed: the text says what, where, and what to do next."""

    exit_code = 1


class TicketError(EdgeTicketError):
    """A ticket file is damaged, altered, too new, or not in canonical form."""


class DataError(EdgeTicketError):
    """Data are missing, malformed, or do not fit the network."""


class PluginError(EdgeTicketError):
    """An architecture, exporter, target or search method cannot be loaded, or is incomplete."""


class UsageError(EdgeTicketError):
    """The request contradicts itself or names something that does not exist."""

    exit_code = 2


class UnknownPluginError(PluginError, UsageError):
    """No architecture, exporter, target or search method has that name."""


class BudgetError(EdgeTicketError):
    """A budget cannot be met, or was not."""

    exit_code = 3


class EquivalenceError(EdgeTicketError):
    """A step does not compute what the step before it computes."""

    exit_code = 4


class UnsupportedError(EdgeTicketError):
    """The network holds an operation or a shape that this program does not take."""

    exit_code = 5


class InsufficientDataError(EdgeTicketError):
    """Too few examples for the statement that was asked for."""

    exit_code = 6


class BundleError(EdgeTicketError):
    """A bundle or an update is refused. `code` is one of the words of CODES, and stays what it is from version to version."""

    exit_code = 4
    CODES: ClassVar[dict[str, str]] = {
        "unreadable": "check the path",
        "size": "leave out files that no device needs",
        "cut": "fetch it again, whole",
        "damaged": "fetch it again",
        "version": "read it with the version that wrote it, or a newer one",
        "manifest": "make it again with `edgeticket ship`",
        "unsigned": "fetch the signed one, or sign it with `edgeticket ship --key`",
        "key": "give the public key of whoever signed it",
        "signature": "it was altered or forged: fetch it again from whoever signed it",
        "digest": "a file in it was altered: fetch it again",
        "class": "fetch the one for this class of devices",
        "sequence": "fetch the newest one",
        "jump": "ask whoever signed it, and allow a larger jump if it is meant",
        "expired": "fetch a newer one",
        "precursor": "give the packet that it was made against, or install the whole packet",
        "firmware": "export a firmware for this ticket, or ship the ticket that this firmware was exported from",
        "ticket": "make it again with `edgeticket ship`",
        "model": "make it again with `edgeticket ship`, and sign it if its ONNX is of another version",
        "packet": "make it again with `edgeticket ship`",
        "golden": "do not use it here; make it again with `edgeticket ship`",
        "guard": "make it again with `edgeticket ship`",
        "claims": "make it again with `edgeticket ship`",
    }

    def __init__(self, code: str, what: str) -> None:
        super().__init__(f"{what}: {self.CODES[code]} (refused: {code})")
        self.code, self.what = code, what

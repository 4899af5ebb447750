"""What can go wrong, and the exit code that a shell sees."""


class EdgeTicketError(Exception):
    """Something failed: the text says what, where, and what to do next."""

    exit_code = 1


class TicketError(EdgeTicketError):
    """A ticket file is damaged, altered, too new, or not in canonical form."""


class DataError(EdgeTicketError):
    """Data are missing, malformed, or do not fit the network."""


class PluginError(EdgeTicketError):
    """An architecture, exporter, target or search method is unknown or incomplete."""


class UsageError(EdgeTicketError):
    """The request contradicts itself or names something that does not exist."""

    exit_code = 2


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

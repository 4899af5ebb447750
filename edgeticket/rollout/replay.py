"""Each report of a device once, in constant space: the window of IPsec against replays (RFC 4303, section 3.4.3)."""

WINDOW = 63  # numbers below the highest that may still come late; as bits they fit a signed 64-bit integer
NOTHING = (-1, 0)


def admit(highest: int, seen: int, sequence: int) -> tuple[int, int] | None:
    """The window after a report: the highest number that came, and in `seen` bit i for number highest - 1 - i.

    None where the report came before, or is too old to know: it does not count.
    """
    ahead = sequence - highest
    if ahead > 0:
        kept = (seen << ahead | 1 << (ahead - 1)) & (2**WINDOW - 1) if ahead <= WINDOW else 0
        return sequence, kept
    bit = 1 << -ahead - 1 if -WINDOW <= ahead < 0 else 0
    return (highest, seen | bit) if bit and not seen & bit else None

"""Cortex-M0 (Armv6-M), emulated: on a microbit, which faults on unaligned access; where its 16 KB of RAM are too few, on an M3 machine."""

from edgeticket.targets._boards import Board, K, M, Machine

FORMATS = ("c",)
BOARD = Board(
    "cortex-m0",
    "-mcpu=cortex-m0",
    (
        Machine("microbit", flash=(0, 256 * K), ram=(0x20000000, 16 * K)),
        Machine("mps2-an385", flash=(0, 4 * M), ram=(0x20000000, 4 * M)),
    ),
)
missing, measure = BOARD.missing, BOARD.measure

"""Cortex-M3, emulated."""

from edgeticket.targets._boards import Board, M, Machine

FORMATS = ("c",)
BOARD = Board(
    "cortex-m3", "-mcpu=cortex-m3", (Machine("mps2-an385", flash=(0x00000000, 4 * M), ram=(0x20000000, 4 * M)),)
)
missing, measure = BOARD.missing, BOARD.measure

"""Cortex-M7F, emulated."""

from edgeticket.targets._boards import Board, M, Machine

FORMATS = ("c",)
BOARD = Board(
    "cortex-m7",
    "-mcpu=cortex-m7 -mfloat-abi=hard -mfpu=fpv5-sp-d16",
    (Machine("mps2-an500", flash=(0x00000000, 4 * M), ram=(0x20000000, 4 * M)),),
)
missing, measure = BOARD.missing, BOARD.measure

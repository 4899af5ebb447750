"""Cortex-M33F, emulated."""

from edgeticket.targets._boards import Board, M, Machine

FORMATS = ("c",)
BOARD = Board(
    "cortex-m33",
    "-mcpu=cortex-m33 -mfloat-abi=hard -mfpu=fpv5-sp-d16",
    (Machine("mps2-an505", flash=(0x10000000, 4 * M), ram=(0x38000000, 2 * M)),),
)
missing, measure = BOARD.missing, BOARD.measure

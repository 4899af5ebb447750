"""Cortex-M4F, emulated."""

from edgeticket.targets._boards import Board, M, Machine

FORMATS = ("c",)
BOARD = Board(
    "cortex-m4",
    "-mcpu=cortex-m4 -mfloat-abi=hard -mfpu=fpv4-sp-d16",
    (Machine("mps2-an386", flash=(0x00000000, 4 * M), ram=(0x20000000, 4 * M)),),
)
missing, measure = BOARD.missing, BOARD.measure

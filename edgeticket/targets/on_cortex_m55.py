"""Cortex-M55 with Helium, emulated."""

from edgeticket.targets._boards import Board, K, M, Machine

FORMATS = ("c",)
BOARD = Board(
    "cortex-m55",
    "-mcpu=cortex-m55 -mfloat-abi=hard",
    (Machine("mps3-an547", flash=(0x00000000, 512 * K), ram=(0x21000000, 2 * M)),),
)
missing, measure = BOARD.missing, BOARD.measure

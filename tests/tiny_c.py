"""A folder of C such as `edgeticket export --to c` writes, by hand: four sums of sixteen int8 inputs times int8 constants."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

PORT = Path(__file__).parent.parent / "exporters" / "c" / "port"
INPUTS = np.arange(64).reshape(4, 16) * 37 % 201 - 100
HEADER = """#include <stdint.h>
#define NAME_ARENA {arena}
#define NAME_MODEL_BYTES {model}
#define NAME_DIGEST "00"
int NAME_predict(const int8_t *in, int8_t *out);
"""
SOURCE = """#include <string.h>
#include "NAME.h"
static const int8_t weights[4][{size}] = {weights};
static int32_t arena[NAME_ARENA / 4];
int NAME_predict(const int8_t *in, int8_t *out) {{
    memset(arena, 0, sizeof arena);
    {body}
    for (int o = 0; o < 4; o++)
        for (int i = 0; i < {size}; i++)
            arena[o] += weights[o][i] * in[i % 16];
    for (int o = 0; o < 4; o++)
        out[o] = (int8_t)(arena[o] & 0x7F);
    return {status};
}}
"""
SELFTEST = """#include "NAME.h"
#define ET_INPUTS(X) X(et_in0[0])
#define ET_OUTPUTS(X) X(et_out0)
static int8_t et_out0[4];
#if defined(NAME_SIZE_ONLY)
#define ET_VECTORS 0
static int8_t et_in0[1][16];
#else
#define ET_VECTORS 4
static const int8_t et_in0[4][16] = {inputs};
static const int8_t et_expected0[4][4] = {outputs};
static unsigned et_wrong(unsigned i) {{
    unsigned wrong = 0;
    for (unsigned k = 0; k < 4; k++)
        wrong += et_out0[k] != et_expected0[i][k];
    return wrong;
}}
#endif
static int et_infer(unsigned i) {{ return NAME_predict(et_in0[i], et_out0); }}
"""


def need(*tools: str) -> None:
    """A missing system package is a skip on a laptop and a failure in CI."""
    absent = [tool for tool in tools if shutil.which(tool) is None]
    if absent:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no {', '.join(absent)}")


def write(folder: Path, *, name="tiny", size=16, arena=256, body="", status=0, flaw=0, source=None) -> Path:
    """`flaw` is added to one expected code; `source` replaces NAME.c."""
    weights = np.arange(4 * size).reshape(4, size) * 29 % 255 - 127
    outputs = (np.tile(INPUTS, size // 16) @ weights.T) & 0x7F
    outputs[2, 1] ^= flaw
    texts = {
        "NAME.h": HEADER.format(arena=arena, model=4 * size),
        "NAME.c": source or SOURCE.format(size=size, weights=_braces(weights), body=body, status=status),
        "NAME_selftest.c": SELFTEST.format(inputs=_braces(INPUTS), outputs=_braces(outputs))
        + (PORT / "selftest.c").read_text(),
    }
    texts |= {path.name: path.read_text() for path in PORT.iterdir() if path.name != "selftest.c"}
    folder.mkdir()
    for file, text in texts.items():
        (folder / file.replace("NAME", name)).write_text(re.sub(r"NAME(?=[_\W])", name, text))
    return folder


def _braces(rows) -> str:
    return "{" + ", ".join("{" + ", ".join(map(str, row)) + "}" for row in rows.tolist()) + "}"

"""The C of an exported network for a long time: every code is the integer network's, and memory stays as it was."""

import subprocess
import zlib
from pathlib import Path

import pytest
import tiny_c

from edgeticket.compact import compact
from edgeticket.data import load
from edgeticket.export import export
from edgeticket.integer import integerise
from edgeticket.ticket import read_ticket
from exporters.c_run import FLAGS, expected

TICKET = Path(__file__).parent.parent / "sample_models" / "digits.ticket"
FRAMES, BLOCKS = 100, 10
RUNNER = """#include <stdio.h>
#include <stdlib.h>
#include "digits.h"
static uint8_t frames[FRAMES][digits_IN], codes[digits_OUT];
/* Adler-32 (RFC 1950) of the codes of `passes` over all frames. */
static unsigned long checksum(long passes) {
  unsigned long low = 1, high = 0;
  for (long i = 0; i < passes * FRAMES; i++) {
    if (digits_predict(frames[i % FRAMES], codes)) exit(1);
    for (int j = 0; j < digits_OUT; j++) {
      low = (low + codes[j]) % 65521;
      high = (high + low) % 65521;
    }
  }
  return high << 16 | low;
}
static long resident_kib(void) {
  char line[256];
  long kib = -1;
  FILE *status = fopen("/proc/self/status", "r");
  while (status && fgets(line, sizeof line, status)) sscanf(line, "VmRSS: %ld", &kib);
  if (status) fclose(status);
  return kib;
}
int main(int argc, char **argv) {
  const long passes = argc == 2 ? atol(argv[1]) : 0;
  if (fread(frames, sizeof frames, 1, stdin) != 1) return 1;
  checksum(1);
  printf("%ld\\n", resident_kib());
  for (int block = 0; block < BLOCKS; block++) printf("%lu\\n", checksum(passes));
  printf("%ld\\n", resident_kib());
  return 0;
}
"""


def built(form: str, place: Path) -> Path:
    folder = export(read_ticket(TICKET), "c", place / "digits", form=form).path
    (place / "runner.c").write_text(RUNNER)
    sizes = [f"-DFRAMES={FRAMES}", f"-DBLOCKS={BLOCKS}"]
    sources = [str(place / "runner.c"), str(folder / "digits.c")]
    command = ["cc", *FLAGS, *sizes, "-iquote", str(folder), *sources, "-o", str(place / "runner")]
    subprocess.run(command, check=True)
    return place / "runner"


@pytest.mark.parametrize(
    ("form", "count"),
    [
        pytest.param("lists", 200_000, marks=pytest.mark.slow),
        pytest.param("lists", 10_000_000, marks=pytest.mark.soak),
        pytest.param("seed", 10_000_000, marks=pytest.mark.soak),
    ],
)
def test_c_gives_the_same_codes_in_the_same_memory(form: str, count: int, tmp_path: Path) -> None:
    tiny_c.need("cc")
    frames, passes = load("digits").certify[0][:FRAMES], count // BLOCKS // FRAMES
    (codes,) = expected(integerise(compact(read_ticket(TICKET))), frames)
    program = str(built(form, tmp_path))
    done = subprocess.run([program, str(passes)], input=frames.tobytes(), check=True, capture_output=True)
    before, *checksums, after = map(int, done.stdout.split())
    assert checksums == [zlib.adler32(codes.tobytes() * passes)] * BLOCKS
    assert before > 0
    assert abs(after - before) < 1024

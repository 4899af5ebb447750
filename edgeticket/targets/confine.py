"""Runs a Python file under limits: `python -P confine.py PARENT BYTES FILE`, by its path and with the standard library alone.

PARENT: the process that it ends with; BYTES: of memory, 0 for any. Memory is limited by RLIMIT_DATA, which on Linux counts what
a process can write to, and not, as RLIMIT_AS would, the address space that allocators and threads reserve.
"""

import ctypes
import os
import resource
import runpy
import signal
import sys
from contextlib import suppress

PR_SET_PDEATHSIG = 1


def confine(parent: int, data_bytes: int) -> None:
    """Before anything else is loaded: no memory above `data_bytes`, no core file, first to go when memory runs out."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if data_bytes:
        resource.setrlimit(resource.RLIMIT_DATA, (data_bytes, data_bytes))
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # numpy would start one a core, each with memory of its own, and uses none
    if sys.platform == "linux":
        with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("1000")
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended meanwhile
        sys.exit("the process that asked has ended")


if __name__ == "__main__":
    confine(int(sys.argv[1]), int(sys.argv[2]))
    runpy.run_path(sys.argv[3], run_name="__main__")

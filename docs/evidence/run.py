"""python docs/evidence/run.py [SECTION ...]: run what is missing of docs/evidence/rows.py. Resumable, search by search.

Several processes may share the work if they are given different sections, or `SECTION:ROW`.
"""

import sys

from _runs import HERE, run
from rows import SECTIONS

RESULTS = HERE / "results.jsonl"


def main() -> None:
    for word in sys.argv[1:] or SECTIONS:
        name, _, only = word.partition(":")
        section = SECTIONS[name]
        for seed in section.seeds:
            for row, arguments in section.rows.items():
                if only in ("", row):
                    run(RESULTS, f"{name}-{row}", f"{arguments} {section.common}", seed)


if __name__ == "__main__":
    main()

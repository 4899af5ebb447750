"""Run what is missing of docs/evidence/rows.py, then write docs/evidence.md. Resumable, search by search.

python docs/evidence/run.py                      all of it
python docs/evidence/run.py SECTION[:ROW] ...    these alone; several processes may share the work
python docs/evidence/run.py --sizes              weigh the tickets that are still in runs/ again, as packet.py counts today
"""

import json
import sys

from _runs import HERE, RUNS, run, sizes
from rows import SECTIONS
from tables import page

RESULTS = HERE / "results.jsonl"


def main() -> None:
    if sys.argv[1:] == ["--sizes"]:
        weigh()
    else:
        search(sys.argv[1:] or list(SECTIONS))
    (HERE.parent / "evidence.md").write_text(page(RESULTS))


def search(wanted: list[str]) -> None:
    for name, _, only in (word.partition(":") for word in wanted):
        section = SECTIONS[name]
        for seed in section.seeds:
            for row in section.rows:
                if only in ("", row):
                    run(RESULTS, f"{name}-{row}", section.arguments(row), seed)


def weigh() -> None:
    names = {section.arguments(row): f"{name}-{row}" for name, section in SECTIONS.items() for row in section.rows}
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    for row in rows:
        ticket = RUNS / f"{names.get(row['arguments'])}-{row['seed']}.ticket"
        if ticket.exists():
            row.update(sizes(ticket))
    RESULTS.write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()

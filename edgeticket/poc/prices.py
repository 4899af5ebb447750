"""What things cost the user, in the user's own words: nothing here has a default."""

from math import isfinite
from pathlib import Path
from typing import Any

import yaml

from edgeticket.errors import UsageError

KEYS = {
    "devices": "how many devices get the model",
    "updates_per_year": "how often each gets a new one",
    "per_mb": "of a megabyte over the air, to one device",
    "flash_per_kb": "of a kilobyte of flash, for one device",
    "cpu_hour": "of an hour of a processor core, for searches",
    "per_kwh": "of a kilowatt-hour, for searches, where energy was measured",
}


def read_prices(path: Path) -> dict[str, Any]:
    """`currency` (a word) and any of KEYS (numbers of 0 or more). Raises UsageError for anything else."""
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"--prices {path}: cannot be read as YAML: {error}") from error
    if not isinstance(given, dict) or set(given) - {"currency", *KEYS}:
        raise UsageError(f"--prices {path}: a mapping of currency and any of {', '.join(KEYS)} is wanted")
    if not isinstance(given.get("currency"), str):
        raise UsageError(f"--prices {path}: say the currency, for example `currency: EUR`")
    for key in set(given) - {"currency"}:
        value = given[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or value < 0:
            raise UsageError(f"--prices {path}: {key} cannot be {value!r}: it is {KEYS[key]}, a number of 0 or more")
    return given

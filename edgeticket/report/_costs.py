"""Bytes and money on many devices. Prices are the user's own, from the record; a cost without its price or number is not shown."""

from collections.abc import Iterator
from typing import Any

from edgeticket.report._records import Row, middle, rivals
from edgeticket.report._tables import Table
from edgeticket.report._words import Words

EXAMPLE_DEVICES = 1000
MB, KB, KWH, HOUR = 1e6, 1024, 3.6e6, 3600
KNOWN = ("currency", "devices", "updates_per_year", "per_mb", "flash_per_kb", "cpu_hour", "per_kwh")


def sizes(record: Row) -> dict[str, int]:
    """Packed bytes of the ticket and of the int8 networks that a user could send instead."""
    others = rivals(record)
    found = {"ticket": record["chosen"]["bytes"]["packed"]} if record["chosen"] else {}
    return found | {name: middle(others[name])["bytes"] for name in ("int8-narrow", "float-int8") if name in others}


def of_bytes(record: Row, words: Words) -> Table:
    """What an update sends and a device stores; a year of it where a number of updates was given."""
    prices = record["prices"] or {}
    devices, updates = prices.get("devices", EXAMPLE_DEVICES), prices.get("updates_per_year")
    head = [words("money.what"), words("money.update"), words("money.all", devices=words.count(devices))]
    head += [words("money.year", updates=words.count(updates))] if updates else []
    rows = []
    for name, size in sizes(record).items():
        amounts = [words.size(size), _megabytes(size * devices, words)]
        amounts += [_megabytes(size * devices * updates, words)] if updates else []
        rows.append([_name(name, words), *amounts])
    return Table(words("money.table_bytes"), head, rows)


def _name(name: str, words: Words) -> str:
    return words("money.ticket") if name == "ticket" else words(f"rival.{name}")


def _megabytes(size: float, words: Words) -> str:
    return words("money.mb", number=words.figure(size / MB))


def of_money(record: Row, words: Words) -> Table | None:
    """A line for each cost whose price and numbers are known; None without any."""
    prices = record["prices"] or {}
    currency = str(prices.get("currency", ""))
    rows = [
        [words(f"money.{item}"), amount, words(f"money.{price}", price=words.money(prices[price], currency)), cost]
        for item, price, amount, cost in _lines(record, prices, currency, words)
    ]
    head = [words(f"money.{key}") for key in ("item", "amount", "price", "cost")]
    caption = words("money.table", devices=words.count(prices.get("devices", 0)))
    return Table(caption, head, rows) if rows else None


def _lines(record: Row, prices: Row, currency: str, words: Words) -> Iterator[tuple[str, str, str, str]]:
    """Item, key of its price, amount and cost."""
    for item, price, unit, amount in _amounts(record, prices):
        if price in prices:
            yield (
                item,
                price,
                words(f"money.{unit}", number=words.figure(amount)),
                words.money(amount * prices[price], currency),
            )


def _amounts(record: Row, prices: Row) -> Iterator[tuple[str, str, str, float]]:
    devices, updates = prices.get("devices"), prices.get("updates_per_year")
    for name, size in sizes(record).items():
        if name == "int8-narrow":
            continue  # as many bytes as the ticket by design
        tail = "" if name == "ticket" else "_int8"
        if devices is not None and updates is not None:
            yield f"transfer{tail}", "per_mb", "mb", size * devices * updates / MB
        if devices is not None:
            yield f"storage{tail}", "flash_per_kb", "kb", size * devices / KB
    yield "searching", "cpu_hour", "cpu_hours", record["indicators"]["cost"]["search_cpu_seconds"] / HOUR
    joules = measured_joules(record)
    if joules is not None:
        yield "energy", "per_kwh", "kwh", joules / KWH


def measured_joules(record: Row) -> float | None:
    """Of all searches and what was trained beside them; None where nothing could measure it."""
    joules: Any = record["indicators"]["cost"]["joules"]
    return joules["searches_and_floats"] if joules else None


def notes(record: Row, words: Words) -> list[str]:
    """What is not in the tables, and why."""
    prices = record["prices"] or {}
    told = [words("money.packet")] if sizes(record) else []
    if told and "devices" not in prices:
        told.append(words("money.example_devices"))
    if not prices:
        return [words("money.no_prices"), *told]
    missing = [key for key in KNOWN if key not in prices]
    unused = [str(key) for key in prices if key not in KNOWN]
    told += [words("money.missing", names=words.list(missing))] if missing else []
    told += [words("money.unused", names=words.list(unused))] if unused else []
    if "per_kwh" in prices and measured_joules(record) is None:
        told.append(words("money.energy_unmeasured"))
    return told

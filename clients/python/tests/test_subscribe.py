"""Subscriptions against a real broker: what comes, over cuts, silence and stops."""

from __future__ import annotations

import asyncio
import itertools
import signal
import threading
import time
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from broker import Broker, eventually
from conftest import Start
from road import Road

import fanfare.pulse
from fanfare import AsyncFanfare, Event, Fanfare, Gap, Overflow, Refused, State, Subscription

MOST = 60.0


def take(subscription: Subscription[Any], count: int) -> list[Any]:
    """The data of the next events, among which there is no gap."""
    taken = []
    for _ in range(count):
        event = subscription.next(MOST)
        assert isinstance(event, Event), event
        taken.append(event.data)
    return taken


def test_what_may_come_first(broker: Broker) -> None:
    with Fanfare(broker.url) as fanfare:
        before = fanfare.cursor()
        fanfare.publish_many([("a.1", 1), ("a.2", 2), ("a.1", 3), ("b", 4)])
        assert sorted(take(fanfare.subscribe("a.*", snapshot=True), 2)) == [2, 3]
        assert sorted(take(fanfare.subscribe("a.*", "b", last=2), 4)) == [1, 2, 3, 4]
        assert take(fanfare.subscribe("a.*", tail=2), 2) == [2, 3]
        assert take(fanfare.subscribe("a.*", since=before), 3) == [1, 2, 3]
        assert take(fanfare.subscribe(">", since="-1h"), 4) == [1, 2, 3, 4]
        quiet = fanfare.subscribe(">")
        quiet.wait_live(MOST)
        fanfare.publish("a.1", 5)
        assert take(quiet, 1) == [5]


def test_r9_it_goes_on_over_cuts_where_it_was(broker: Broker, road: Road) -> None:
    with Fanfare(road.url) as fanfare:
        subscription = fanfare.subscribe("a")
        subscription.wait_live(MOST)
        for number in range(30):
            fanfare.publish("a", number)
            if number % 5 == 0:
                road.cut()
        assert take(subscription, 30) == list(range(30))


def test_the_cursor_kept_is_the_place_to_go_on_from_in_another_run(broker: Broker) -> None:
    with Fanfare(broker.url) as fanfare:
        first = fanfare.subscribe("a", since=fanfare.cursor())
        fanfare.publish_many(("a", number) for number in range(10))
        assert take(first, 4) == [0, 1, 2, 3]
        kept = first.cursor
    with Fanfare(broker.url) as fanfare:
        assert take(fanfare.subscribe("a", since=kept), 6) == [4, 5, 6, 7, 8, 9]


def test_r10_a_broker_that_lost_its_history_is_a_gap_and_what_is_left(start: Start) -> None:
    broker = start("history.storage=memory")
    with Fanfare(broker.url) as fanfare:
        subscription = fanfare.subscribe("a", snapshot=True)
        subscription.wait_live(MOST)
        fanfare.publish("a", 1)
        assert take(subscription, 1) == [1]
        cursor = subscription.cursor
        broker.end()
        broker.start()
        gap = subscription.next(MOST)
        assert gap == Gap(since=cursor)
        subscription.wait_live(MOST)
        fanfare.publish("a", 2)
        assert take(subscription, 1) == [2]


def test_r15_a_silent_way_is_noticed_and_left(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanfare.pulse, "ANSWER", 1.0)
    broker = start("server.heartbeat=1s")
    road = Road(broker.port)
    with Fanfare(road.url) as client, Fanfare(broker.url) as direct:
        subscription = client.subscribe("a")
        subscription.wait_live(MOST)
        road.silence()
        direct.publish("a", 1)
        eventually("it is noticed", lambda: road.connects > 1)
        road.silence(False)
        assert take(subscription, 1) == [1]
    road.close()


def test_a_quiet_connection_is_kept(start: Start) -> None:
    broker = start("server.heartbeat=1s")
    road = Road(broker.port)
    with Fanfare(road.url) as fanfare:
        subscription = fanfare.subscribe("a")
        with pytest.raises(TimeoutError):
            subscription.next(4.0)
        assert subscription.state.name == "live"
        assert road.connects == 1
    road.close()


def test_a_broker_that_stood_still_is_come_back_to(broker: Broker, road: Road) -> None:
    with Fanfare(road.url) as fanfare:
        subscription = fanfare.subscribe("a")
        subscription.wait_live(MOST)
        broker.send(signal.SIGSTOP)
        threading.Timer(0.5, broker.send, [signal.SIGCONT]).start()
        fanfare.publish("a", 1)
        assert take(subscription, 1) == [1]


def test_a_planned_stop_is_left_before_its_end(start: Start) -> None:
    broker = start("server.shutdown_delay=2s")
    road = Road(broker.port)
    states: list[str] = []
    with Fanfare(road.url) as fanfare, Fanfare(broker.url) as direct:
        subscription = fanfare.subscribe("a", on_state=lambda state: states.append(state.name))
        subscription.wait_live(MOST)
        broker.send(signal.SIGTERM)
        eventually("another connection is opened", lambda: road.connects > 1)
        assert direct.publish("a", 1, retry_for=0.0).id
        assert take(subscription, 1) == [1]
        assert "waiting" not in states, "it was live all the time"
        assert broker.process is not None
        broker.process.wait()
        assert road.connects < 6, "a lone broker is not asked again and again"
        broker.start()
        direct.publish("a", 2)
        assert take(subscription, 1) == [2]
    road.close()


def test_r12_a_full_broker_is_waited_for(start: Start) -> None:
    broker = start("limits.connections_per_address=2")
    with Fanfare(broker.url) as fanfare:
        holders = [fanfare.subscribe("a"), fanfare.subscribe("a")]
        for holder in holders:
            holder.wait_live(MOST)
        late = fanfare.subscribe("a")
        eventually("it waits", lambda: late.state.name == "waiting")
        assert late.state.retry_at is not None
        assert late.state.attempt >= 1
        holders[0].close()
        late.wait_live(MOST)


def test_r13_what_is_refused_for_good_is_raised(broker: Broker) -> None:
    with Fanfare(broker.url) as fanfare:
        subscription = fanfare.subscribe("not..a.pattern")
        with pytest.raises(Refused) as refused:
            next(subscription)
        assert refused.value.code == "invalid_pattern"
        assert subscription.state.name == "refused"
        with pytest.raises(Refused):
            subscription.wait_live(MOST)
        with pytest.raises(Refused):
            next(subscription)
        with pytest.raises(Refused) as refused:
            next(fanfare.subscribe("a", tail=1_000_000))
        assert refused.value.code == "too_many"


def test_r11_states_are_told(broker: Broker, road: Road) -> None:
    states: list[State] = []

    def tell(state: State) -> None:
        states.append(state)
        raise RuntimeError("a function that fails stops nobody")

    with Fanfare(road.url) as fanfare:
        subscription = fanfare.subscribe("a", on_state=tell)
        subscription.wait_live(MOST)
        road.cut()
        eventually("it is live again", lambda: [state.name for state in states].count("live") == 2)
    names = [name for name, _ in itertools.groupby(state.name for state in states)]
    assert names == ["connecting", "live", "waiting", "connecting", "live", "closed"]
    waiting = next(state for state in states if state.name == "waiting")
    assert waiting.reason.startswith("cut: ")
    assert waiting.retry_at is not None


def test_r24_a_reader_that_is_slow_misses_nothing(start: Start) -> None:
    broker = start("limits.outbox_bytes=64KiB", "limits.send_buffer_bytes=16KiB")
    with Fanfare(broker.url) as fanfare:
        subscription = fanfare.subscribe("a", buffer=10)
        subscription.wait_live(MOST)
        fanfare.publish_many((("a", [number, "x" * 2000]) for number in range(3000)), batch_bytes=500_000)
        time.sleep(0.5)
        assert [number for number, _ in take(subscription, 3000)] == list(range(3000))


def test_r24_more_than_the_buffer_holds_is_raised_where_asked(broker: Broker) -> None:
    with Fanfare(broker.url) as fanfare:
        subscription = fanfare.subscribe("a", buffer=10, overflow="raise")
        subscription.wait_live(MOST)
        fanfare.publish_many(("a", number) for number in range(500))
        eventually("it ended", lambda: subscription.state.name == "closed")
        assert take(subscription, 10) == list(range(10))
        with pytest.raises(Overflow):
            next(subscription)


def test_r24_the_oldest_are_dropped_where_asked_and_a_gap_says_so(broker: Broker) -> None:
    with Fanfare(broker.url) as fanfare:
        subscription = fanfare.subscribe("a", buffer=10, overflow="drop_oldest")
        subscription.wait_live(MOST)
        cursor = fanfare.cursor()
        fanfare.publish_many(("a", number) for number in range(500))
        last = fanfare.publish("a", 500).id
        eventually("all came", lambda: subscription._inner._feed.place.cursor == last)
        gap = subscription.next(MOST)
        assert isinstance(gap, Gap)
        assert gap.reason == "overflow"
        assert take(subscription, 10) == list(range(491, 501))
        assert gap.since in (None, cursor)


@dataclass
class Order:
    number: int

    @classmethod
    def read(cls, data: Any) -> Order:
        return cls(int(data["number"]))


def test_r25_data_is_read_by_parse(broker: Broker) -> None:
    with Fanfare(broker.url) as fanfare:
        orders = fanfare.subscribe("orders", parse=Order.read)
        orders.wait_live(MOST)
        fanfare.publish_many([("orders", {"number": 1}), ("orders", "nonsense"), ("orders", {"number": 3})])
        first = orders.next(MOST)
        assert isinstance(first, Event)
        assert first.data.number == 1
        with pytest.raises(TypeError):
            next(orders)
        third = orders.next(MOST)
        assert isinstance(third, Event), "what one event raises stops no other"
        assert third.data == Order(3)
        fanfare.remove("orders")
        tombstone = orders.next(MOST)
        assert isinstance(tombstone, Event)
        assert tombstone.removed


def test_r26_the_text_is_there_byte_for_byte(broker: Broker) -> None:
    with Fanfare(broker.url) as fanfare:
        subscription = fanfare.subscribe("a")
        subscription.wait_live(MOST)
        httpx.post(f"{broker.url}/v1/topics/a/events", content=b'{"z": 1.10, "9": 12345678901234567890123}')
        event = subscription.next(MOST)
        assert isinstance(event, Event)
        assert '"data":{"z": 1.10, "9": 12345678901234567890123}' in event.raw
        assert event.data["9"] == 12345678901234567890123


def test_a_slow_screen_gets_the_newest(broker: Broker) -> None:
    with Fanfare(broker.url) as fanfare:
        subscription = fanfare.subscribe("a", max_rate=5)
        subscription.wait_live(MOST)
        fanfare.publish_many(("a", number) for number in range(1000))
        came: list[Event[int]] = []
        while not came or came[-1].data != 999:
            event = subscription.next(MOST)
            assert isinstance(event, Event)
            assert event.conflated
            came.append(event)
        assert len(came) < 100
        assert sum(event.skipped for event in came) + len(came) == 1000


def test_a_loop_that_was_blocked_goes_on(broker: Broker) -> None:
    async def run() -> None:
        async with AsyncFanfare(broker.url) as fanfare:
            subscription = fanfare.subscribe("a")
            await subscription.wait_live()
            time.sleep(7)  # noqa: ASYNC251 that is what is tried
            await fanfare.publish("a", 1)
            event = await asyncio.wait_for(anext(subscription), MOST)
            assert isinstance(event, Event)
            assert subscription.state.name == "live"

    asyncio.run(run())

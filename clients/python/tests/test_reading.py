"""Reading values, cursors, and back through the history."""

from __future__ import annotations

from datetime import timedelta

import pytest
from broker import Broker

from fanfare import Event, Fanfare


def test_a_snapshot_of_many_pages_is_read_whole_and_subscribed_from(broker: Broker) -> None:
    with Fanfare(broker.url) as fanfare:
        fanfare.publish_many((f"v.{number}", number) for number in range(2500))
        snapshot = fanfare.snapshot("v.*")
        assert {event.data for event in snapshot.events} == set(range(2500))
        fanfare.publish("v.7", "new")
        first = next(fanfare.subscribe("v.*", since=snapshot.cursor))
        assert isinstance(first, Event)
        assert (first.topic, first.data) == ("v.7", "new")


def test_back_through_the_history(broker: Broker) -> None:
    with Fanfare(broker.url) as fanfare:
        fanfare.publish_many(("a", number) for number in range(25))
        page = fanfare.events("a", before="", limit=10)
        numbers = [event.data for event in page.events]
        while page.next is not None:
            page = fanfare.events("a", before=page.next, limit=10)
            numbers += [event.data for event in page.events]
        assert numbers == list(reversed(range(25)))
        assert page.gap is False


def test_forwards_from_a_cursor_and_from_a_time(broker: Broker) -> None:
    with Fanfare(broker.url) as fanfare:
        before = fanfare.cursor()
        fanfare.publish_many(("a", number) for number in range(5))
        assert [event.data for event in fanfare.events("a", since=before).events] == [0, 1, 2, 3, 4]
        assert len(fanfare.events("a", since=timedelta(minutes=5)).events) == 5
        with pytest.raises(ValueError, match="either"):
            fanfare.events("a", since=before, before="")

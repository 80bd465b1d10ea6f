"""What tests are given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from broker import Broker
from road import Road

Start = Callable[..., Broker]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts brokers that end with the test."""
    brokers: list[Broker] = []

    def begin(*settings: str, rules: str = "") -> Broker:
        folder = tmp_path / f"broker-{len(brokers)}"
        folder.mkdir()
        brokers.append(Broker(folder, *settings, rules=rules))
        return brokers[-1]

    yield begin
    for broker in brokers:
        broker.end()


@pytest.fixture
def broker(start: Start) -> Broker:
    """A broker that is open to this machine."""
    return start()


@pytest.fixture
def road(broker: Broker) -> Iterator[Road]:
    """The way to it."""
    road = Road(broker.port)
    yield road
    road.close()

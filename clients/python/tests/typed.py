"""What a type checker sees; it is checked, and not run (R25)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from typing_extensions import assert_type

from fanfare import AsyncFanfare, AsyncSubscription, Event, Fanfare, Gap, Receipt, Subscription


@dataclass
class Order:
    number: int


def read(data: Any) -> Order:
    return Order(data["number"])


def plain(fanfare: Fanfare) -> None:
    assert_type(fanfare.publish("a", 1), Receipt)
    assert_type(fanfare.subscribe("a"), Subscription[Any])
    for thing in fanfare.subscribe("a", parse=read):
        assert_type(thing, Event[Order] | Gap)
        if isinstance(thing, Event):
            assert_type(thing.data, Order)
    fanfare.subscribe("a", overflow="whatever")  # type: ignore[call-overload]


async def with_asyncio(fanfare: AsyncFanfare) -> None:
    assert_type(await fanfare.publish_many([("a", 1)]), list[Receipt])
    assert_type(fanfare.subscribe("a", parse=read), AsyncSubscription[Order])
    async for thing in fanfare.subscribe("a", parse=read):
        assert_type(thing, Event[Order] | Gap)

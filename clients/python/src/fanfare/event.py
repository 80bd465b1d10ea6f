"""What a subscription hands out: events, and gaps in them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

T = TypeVar("T")
Decode = Callable[[str], Any]
"""Reads a JSON text: `json.loads`, or another that keeps decimals, say."""


@dataclass(frozen=True)
class Sender:
    """Who sent an event, signed by the broker: the user of a token, the session of a WebSocket, or both."""

    user: str | None = None
    session: str | None = None


@dataclass(frozen=True)
class Event(Generic[T]):
    """A published thing.

    `id` is its place in the log, absent where the event is not kept. `data` of a binary event is `bytes`. `raw` is the
    JSON text that it came in, byte for byte.
    """

    topic: str
    data: T
    time: str
    """When the broker took it: RFC 3339, UTC, in milliseconds."""
    id: str | None = None
    type: str | None = None
    from_: Sender | None = None
    removed: bool = False
    """A tombstone: the topic has no current value any more."""
    reason: str | None = None
    """Why the broker removed the value: `expired`, `left`."""
    version: int | None = None
    epoch: str | None = None
    expires: str | None = None
    trace: str | None = None
    """The `traceparent` (W3C Trace Context) of its publish, where the broker gives it to readers."""
    snapshot: bool = False
    """A current value, or one of the newest that `last` asked for, and no news."""
    conflated: bool = False
    """Of a subscription with `latest`: older ones of its topic may have been left out."""
    skipped: int = 0
    """How many events of the topic were left out before this one."""
    raw: str = field(default="", repr=False, compare=False)

    @property
    def moment(self) -> datetime:
        """`time` as a moment in UTC."""
        return datetime.fromisoformat(self.time.replace("Z", "+00:00"))


@dataclass(frozen=True)
class Gap:
    """Events may be missing here: what was made of earlier ones may be out of date.

    What is left follows, and current values where the subscription asks for them (`snapshot`, `last`, `tail`): make
    your state anew from these. `topics` are those it is about; where there are none, it may be any.
    """

    since: str | None = None
    """The place after which events are missing, where it is known."""
    topics: tuple[str, ...] = ()
    reason: Literal["lost", "began_anew", "overflow"] = "lost"
    """`lost`: the broker keeps them no more. `began_anew`: the connection was cut before the subscription had its first
    cursor, so everything comes again. `overflow`: they were dropped here, as `overflow="drop_oldest"` asks."""


def event_of(members: Mapping[str, Any], raw: str = "") -> Event[Any]:
    """An event out of what the broker says of it. Members that this version does not know are in `raw` alone."""
    data = members.get("data")
    if members.get("encoding") == "base64":
        data = base64.b64decode(data or "")
    sender = members.get("from")
    return Event(
        topic=members["topic"],
        data=data,
        time=members["time"],
        id=members.get("id"),
        type=members.get("type"),
        from_=Sender(sender.get("user"), sender.get("session")) if sender else None,
        removed=bool(members.get("removed")),
        reason=members.get("reason"),
        version=members.get("version"),
        epoch=members.get("epoch"),
        expires=members.get("expires"),
        trace=members.get("trace"),
        snapshot=bool(members.get("snapshot")),
        conflated=bool(members.get("conflated")),
        skipped=members.get("skipped") or 0,
        raw=raw,
    )

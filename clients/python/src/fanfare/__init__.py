"""Publish to a Fanfare broker and subscribe to it, right about cuts, restarts and repeats.

`Fanfare` is for plain code, `AsyncFanfare` for asyncio; both have the same methods.
"""

from .asynchronous import AsyncFanfare, AsyncSubscription
from .errors import Closed, FanfareError, NotLatest, OutcomeUnknown, Overflow, Refused, Unavailable
from .event import Event, Gap, Sender
from .feed import State
from .publication import Publication, Receipt
from .reading import Page, Snapshot
from .synchronous import Fanfare, Subscription

__all__ = [
    "AsyncFanfare",
    "AsyncSubscription",
    "Closed",
    "Event",
    "Fanfare",
    "FanfareError",
    "Gap",
    "NotLatest",
    "OutcomeUnknown",
    "Overflow",
    "Page",
    "Publication",
    "Receipt",
    "Refused",
    "Sender",
    "Snapshot",
    "State",
    "Subscription",
    "Unavailable",
]
__version__ = "0.1.0"

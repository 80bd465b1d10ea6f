"""A connection to the broker, whatever carries it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

WELCOME_SECONDS = 10.0
"""Seconds from the beginning of a connection to its `welcome`; then it is given up."""
MOST_MESSAGE_BYTES = 16 * 1024 * 1024
"""Bytes of the largest message that is taken. The broker's own limit, `limits.event_bytes`, is 56 KiB by default."""


class Link(Protocol):
    """What a subscription needs of a connection."""

    heartbeat: float
    """Seconds within which something comes."""
    can_ask: bool
    """Whether it carries what a client says: pings, and a new token."""

    async def begin(self, wishes: Mapping[str, Any]) -> None:
        """Subscribes."""

    async def hear(self) -> tuple[dict[str, Any], str]:
        """The next thing that the broker says, and the text that it came in. Raises a `Failure` at the end."""

    async def say(self, frame: Mapping[str, Any]) -> None:
        """Says something to the broker. That it is heard is not promised: a cut shows where one listens."""

    def abort(self) -> None:
        """Ends it at once, without a word: who listens hears a failure."""

    async def close(self) -> None:
        """Says good-bye, within a second."""

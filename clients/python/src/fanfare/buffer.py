"""What waits to be handed out: bounded, with a verdict.

Each item comes with the cursor behind it, so that what was handed out and where to go on are one thing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Literal

from .errors import Overflow
from .event import Event, Gap

Verdict = Literal["wait", "raise", "drop_oldest"]
"""What happens to an event for which there is no room. `wait`: nothing more is read until there is, so that the broker
may end the session as slow, and the subscription resumes. `raise`: reading raises `Overflow`. `drop_oldest`: the oldest
go, and a `Gap` says so."""

Item = tuple[Event[Any] | Gap | None, str | None]
"""What is handed out (None where only the place moved on), and the cursor behind it."""


class Buffer:
    """A queue between one connection and one reader, of at most `limit` events (and a gap for those that were dropped)."""

    def __init__(self, limit: int, verdict: Verdict) -> None:
        if limit < 1:
            raise ValueError("buffer: at least 1")
        if verdict not in ("wait", "raise", "drop_oldest"):
            raise ValueError("overflow: wait, raise or drop_oldest")
        self._limit, self._verdict = limit, verdict
        self._items: deque[Item] = deque()
        self.error: Exception | None = None
        """Why it ended, where it did not do so in order."""
        self._has_ended = False
        self._filled, self._emptied = asyncio.Event(), asyncio.Event()
        self._behind: str | None = None
        """The cursor behind everything that was taken out."""

    @property
    def has_room(self) -> bool:
        """Whether one more fits."""
        return len(self._items) < self._limit or self._verdict != "wait"

    async def room(self) -> None:
        """Waits until one more fits."""
        while not self.has_room:
            self._emptied.clear()
            await self._emptied.wait()

    def put(self, thing: Event[Any] | Gap, cursor: str | None) -> None:
        """Takes in what is to be handed out; where there is no room, by the verdict."""
        if self._items and self._items[-1][0] is None:
            _, before = self._items.pop()
            cursor = cursor or before
        if len(self._items) >= self._limit:
            if self._verdict == "raise":
                detail = f"more than {self._limit} events waited to be read"
                raise Overflow("overflow", detail)
            self._drop()
        self._items.append((thing, cursor))
        self._filled.set()

    def mark(self, cursor: str) -> None:
        """The place moved on, without anything to be handed out."""
        if self._items:
            thing, _ = self._items.pop()
            self._items.append((thing, cursor))
        else:
            self._items.append((None, cursor))
        self._filled.set()

    async def take(self, most: int) -> list[Item]:
        """All that waits, at least one and at most so many. Empty once it has ended in order; raises why, if not.

        Nothing is lost where this is cancelled: what was taken out is returned without a further pause.
        """
        while not self._items:
            if self._has_ended:
                if self.error is not None:
                    raise self.error
                return []
            self._filled.clear()
            await self._filled.wait()
        count = min(most, len(self._items))
        taken = [self._items.popleft() for _ in range(count)]
        self._behind = taken[-1][1] or self._behind
        self._emptied.set()
        return taken

    def end(self, error: Exception | None = None, *, at_once: bool = False) -> None:
        """Nothing more comes; `at_once` forgets what waits, too."""
        if at_once:
            self._items.clear()
        if not self._has_ended:
            self._has_ended, self.error = True, error
        self._filled.set()
        self._emptied.set()

    def _drop(self) -> None:
        """Drops the oldest event, and a gap stands in its place."""
        first, _ = self._items[0]
        if isinstance(first, Gap) and first.reason == "overflow":
            self._items.popleft()
        _, cursor = self._items.popleft()
        self._items.appendleft((Gap(since=self._behind, reason="overflow"), cursor))

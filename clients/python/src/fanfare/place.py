"""Where a subscription stands: the client's side of the cursor, as docs/protocol.md has it.

Pure state: no clock, no socket, so that every rule of resuming is tested here. It says what to ask for on a new
connection, and makes what is heard into what is handed out. One subscription has one connection, so a single cursor
says all of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .event import Event, Gap, event_of
from .since import Beginning, Since


class Place:
    """How far a subscription has come."""

    def __init__(
        self,
        topics: Sequence[str],
        *,
        since: Since | None = None,
        snapshot: bool = False,
        last: int | None = None,
        tail: int | None = None,
        latest: bool = False,
        max_rate: float | None = None,
        now: float = 0.0,
    ) -> None:
        if not topics or not all(topics):
            raise ValueError("a subscription needs a topic or a pattern")
        if sum((snapshot, last is not None, tail is not None)) > 1:
            raise ValueError("at most one of snapshot, last and tail")
        self.cursor: str | None = None
        self._beginning = None if since is None else Beginning(since, now)
        self._is_conflated = latest or max_rate is not None
        self._is_shown = False
        # Between a gap and its `live` current values come again. Where that is cut, a cursor that is good by then would
        # bring no gap, and so not the rest of them.
        self._is_mending = False
        self._has_values = snapshot or last is not None
        wishes = {
            "topics": list(topics),
            "snapshot": snapshot or None,
            "last": last,
            "tail": tail,
            "mode": "latest" if latest else None,
            "max_rate": max_rate,
        }
        self._wishes = {name: wish for name, wish in wishes.items() if wish is not None}

    def begin(self, now: float) -> tuple[dict[str, Any], Gap | None]:
        """What to subscribe with on a new connection, and what to say before anything that it brings.

        Without a cursor or a `since` everything begins anew, and what was shown may be gone meanwhile: that is a gap.
        """
        if self._is_mending:
            self.cursor = self._beginning = None
            self._is_mending = False
        if self.cursor is not None:
            return self._wishes | {"since": self.cursor}, None
        if self._beginning is not None:
            return self._wishes | {"since": self._beginning.asked(now)}, None
        gap = Gap(reason="began_anew") if self._is_shown else None
        self._is_shown = False
        return dict(self._wishes), gap

    def take(self, frame: Mapping[str, Any], raw: str = "") -> Event[Any] | Gap | None:
        """Takes in one thing that the broker said; what is to be handed out of it."""
        match frame.get("op"):
            case "event":
                event = event_of(frame, raw)
                # Under `latest` the place is said by `cursor` and `live` alone; a snapshot is no place at all.
                if event.id is not None and not (event.snapshot or event.conflated or self._is_conflated):
                    self.cursor = event.id
                self._is_shown = True
                return event
            case "gap":
                self._is_mending = self._has_values
                return Gap(since=frame.get("since"), topics=tuple(frame.get("topics") or ()))
            case "cursor":
                self.cursor = frame["cursor"]
            case "live":
                self.cursor = frame["cursor"]
                self._is_mending = False
        return None

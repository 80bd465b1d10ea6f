"""Whether the other side is still there.

A connection that breaks on the way tells nobody, so silence is asked about. Pure: it is told the time. A process that
stood still, or a machine that slept, judges nobody by that time, but asks at once.
"""

from __future__ import annotations

from typing import Literal

TICK = 5.0
"""Seconds between two looks at the clock, at most."""
ANSWER = 10.0
"""Seconds that an answer to a ping may take."""
WAKE_ANSWER = 3.0
"""The same after the machine slept."""
SLEPT = 5.0
"""Seconds by which a look comes too late, or the time of day jumped ahead, that count as sleep."""


class Pulse:
    """When to ask, and when to give up. Times are in seconds: `now` never steps, `wall` is the time of day."""

    def __init__(self, heartbeat: float, now: float, wall: float) -> None:
        """`heartbeat` is how long silence is no matter."""
        self._heartbeat = heartbeat
        self._heard_at = now
        self._looked_at, self._looked_wall = now, wall
        self._asked_at: float | None = None
        self._patience = ANSWER
        self.is_read = True
        """Whether anybody reads what comes. Where nobody does, silence says nothing."""

    def heard(self, now: float) -> None:
        """Something came, whatever it was."""
        self._heard_at = now
        self._asked_at = None

    def pause(self) -> float:
        """Seconds until the next look."""
        return min(TICK, self._heartbeat, self._patience if self._asked_at is not None else TICK)

    def look(self, now: float, wall: float) -> Literal["fine", "ask", "dead"]:
        """Judges, `pause` seconds after the last time."""
        late = max(now - self._looked_at, wall - self._looked_wall) - self.pause()
        self._looked_at, self._looked_wall = now, wall
        if not self.is_read:
            self.heard(now)
            return "fine"
        if late > SLEPT:
            return self._ask(now, WAKE_ANSWER)
        if self._asked_at is not None:
            return "dead" if now - self._asked_at >= self._patience else "fine"
        if now - self._heard_at >= self._heartbeat:
            return self._ask(now, ANSWER)
        return "fine"

    def _ask(self, now: float, patience: float) -> Literal["ask"]:
        self._asked_at, self._patience = now, patience
        return "ask"

"""Where a subscription begins in time.

A cursor and a moment mean the same whenever they are said. "So long ago" does not: asked for again after a failed
attempt, it would lie later, and what was published meanwhile would be missed without a word. So that time is added.
"""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta

Since = str | datetime | timedelta
"""A cursor, a moment (RFC 3339, or a `datetime` that knows its zone), or how long ago (`"-15m"`, or a `timedelta`)."""

_MILLIS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_AGO = re.compile(r"-(\d+)\s*(ms|s|m|h|d)")


class Beginning:
    """A place or time to begin at, said once and meant from then on."""

    def __init__(self, since: Since, now: float) -> None:
        """`now` is in seconds of any clock that never steps."""
        self._said_at = now
        self._ago_ms: int | None = None
        self._text = ""
        if isinstance(since, datetime):
            if since.tzinfo is None:
                raise ValueError("since: a datetime needs its zone, as datetime.now(timezone.utc) has")
            self._text = since.isoformat()
        elif isinstance(since, timedelta):
            self._ago_ms = math.ceil(abs(since) / timedelta(milliseconds=1))
        elif ago := _AGO.fullmatch(since):
            self._ago_ms = int(ago[1]) * _MILLIS[ago[2]]
        else:
            self._text = since

    def asked(self, now: float) -> str:
        """What to ask the broker for, where it is `now`."""
        if self._ago_ms is None:
            return self._text
        return f"-{self._ago_ms + math.ceil((now - self._said_at) * 1000)}ms"

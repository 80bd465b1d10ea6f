"""What went wrong with a request or a connection, and whether to come again.

One table for all ways: a `bye`, a close code, an HTTP status with the broker's words, one without (a proxy's), and no
answer at all. What the broker says of coming back is believed; where it says nothing, its table of close codes is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

FINAL_CLOSES = {
    1002: "protocol_error",
    1007: "invalid_text",
    1008: "policy",
    1009: "too_large",
    4400: "bad_message",
    4401: "unauthorized",
    4403: "forbidden",
}
"""Close codes after which coming back unchanged would end the same way (docs/protocol.md, "Close codes")."""

TRANSIENT_CODES = {"too_many", "unavailable", "storage_full", "too_slow"}
"""The broker certainly did nothing, and may do it later."""
UNKNOWN_CODES = {"outcome_unknown", "in_progress", "internal"}
"""Done whole or not at all."""
TRANSIENT_STATUSES = {408, 425, 429, 500, 502, 503, 504}
"""What a proxy may say once and not again."""


@dataclass(eq=False)
class Failure(Exception):
    """One failed attempt.

    `kind` is `final` (the same would end the same way), `undone` (nothing was done) or `unknown` (done or not).
    `retry_after` is in seconds.
    """

    kind: Literal["final", "undone", "unknown"]
    code: str
    detail: str
    status: int | None = None
    retry_after: float | None = None
    is_broker: bool = True
    """Whether the broker itself said it, and not something on the way."""
    event: Mapping[str, Any] | None = None
    """The newest event of the topic, beside `not_latest`."""

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"

    @property
    def is_final(self) -> bool:
        """Whether the same would end the same way."""
        return self.kind == "final"


def bye(frame: Mapping[str, Any]) -> Failure:
    """The broker's last words on a connection."""
    after = frame.get("retry_after_ms")
    code, detail = str(frame.get("code", "bye")), str(frame.get("message", ""))
    return Failure("final" if after is None else "undone", code, detail, retry_after=after and after / 1000)


def closed(code: int | None, reason: str) -> Failure:
    """A connection that ended without a `bye`; `code` is that of its close frame, if one came."""
    if code in FINAL_CLOSES:
        return Failure("final", FINAL_CLOSES[code], reason or f"closed with {code}")
    return Failure("undone", "cut", reason or f"the connection was cut ({code or 'without a word'})")


def refused_frame(frame: Mapping[str, Any]) -> Failure:
    """An `error` that answers a subscribe, or takes a right away."""
    code, detail = str(frame.get("code")), str(frame.get("message"))
    return Failure("undone" if code in ("unavailable", "internal") else "final", code, detail)


def answered(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """An answer over HTTP that is no success."""
    after = _seconds(headers.get("retry-after"))
    try:
        problem = json.loads(body)
        code, detail = problem["code"], problem["detail"]
    except (ValueError, KeyError, TypeError):
        kind: Literal["final", "unknown"] = "unknown" if status in TRANSIENT_STATUSES else "final"
        if status in (301, 302, 303, 307, 308):
            detail = f"HTTP {status}: it has moved to {headers.get('location')}; give that as the address"
        else:
            detail = f"HTTP {status}, and not in the broker's words: a proxy's, or another server's"
        return Failure(kind, "not_a_broker", detail, status, after, is_broker=False)
    if code in TRANSIENT_CODES:
        return Failure("undone", code, detail, status, after)
    if code in UNKNOWN_CODES:
        return Failure("unknown", code, detail, status, after)
    return Failure("final", code, detail, status, after, event=problem.get("event"))


def _seconds(header: str | None) -> float | None:
    try:
        return float(header) if header is not None else None
    except ValueError:  # A date, which the broker never sends.
        return None

"""Which way to a broker: WebSocket, or an event stream where WebSocket does not come through."""

from __future__ import annotations

from typing import Literal

from .failure import Failure

Transport = Literal["auto", "websocket", "stream"]

STREAM_SECONDS = 600.0
"""Seconds for which streams are used before WebSocket is tried again."""


class Way:
    """What was learnt about the way. Pure: it is told the time, in seconds of a clock that never steps."""

    def __init__(self, transport: Transport) -> None:
        if transport not in ("auto", "websocket", "stream"):
            raise ValueError("transport: auto, websocket or stream")
        self._transport = transport
        self._stream_until = float("-inf")
        self._silences = 0

    def is_stream(self, now: float) -> bool:
        """Whether to take a stream."""
        return self._transport == "stream" or (self._transport == "auto" and now < self._stream_until)

    def came_through(self) -> None:
        """A WebSocket was welcomed."""
        self._silences = 0

    def is_blocked(self, failure: Failure, now: float) -> bool:
        """Whether a WebSocket that failed so says that none comes through, and streams are to be used.

        That is where a proxy refuses it, or took its upgrade away, or where nothing came twice. A broker that is away
        says nothing about the way.
        """
        if self._transport != "auto":
            return False
        self._silences = self._silences + 1 if failure.code == "no_welcome" else 0
        was_refused = failure.code == "not_a_broker" and failure.is_final
        if was_refused or failure.code == "upgrade_required" or self._silences >= 2:
            self._stream_until = now + STREAM_SECONDS
            self._silences = 0
            return True
        return False

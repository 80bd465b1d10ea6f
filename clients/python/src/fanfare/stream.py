"""A connection over an event stream, for where WebSocket does not come through."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Any

import httpx
from anyio import fail_after

from .blocks import Block, Blocks
from .credential import Credential
from .failure import Failure, answered
from .link import MOST_MESSAGE_BYTES, WELCOME_SECONDS


class Stream:
    """One `POST /v1/sse`. See `Link`. It carries nothing to the broker: another token needs another stream."""

    can_ask = False

    def __init__(self, http: httpx.AsyncClient, headers: Mapping[str, str]) -> None:
        self.heartbeat = 15.0
        self._http = http
        self._headers = {**headers, "Accept": "text/event-stream"}
        self._opened = AsyncExitStack()
        self._pieces: AsyncIterator[bytes] | None = None
        self._blocks = Blocks()
        self._waiting: deque[Block] = deque()
        self._hearing: asyncio.Task[Any] | None = None
        self._is_aborted = False

    @classmethod
    async def open(cls, http: httpx.AsyncClient, credential: Credential) -> Stream:
        """Makes ready to connect, with a fresh token where there is a function for it. Raises a `Failure`."""
        return cls(http, await credential.headers(fresh=True))

    async def begin(self, wishes: Mapping[str, Any]) -> None:
        """Connects, and subscribes by that."""
        timeout = httpx.Timeout(None, connect=WELCOME_SECONDS, write=WELCOME_SECONDS)
        request = self._http.stream("POST", "/v1/sse", json=dict(wishes), headers=self._headers, timeout=timeout)
        try:
            with fail_after(WELCOME_SECONDS):
                answer = await self._opened.enter_async_context(request)
            if not answer.is_success:
                raise answered(answer.status_code, answer.headers, await answer.aread())
        except (httpx.RequestError, TimeoutError) as error:
            detail = f"{type(error).__name__}: {error}"
            raise Failure("undone", "unreachable", detail, is_broker=False) from error
        if not answer.headers.get("content-type", "").startswith("text/event-stream"):
            detail = "what answers is no event stream: a proxy's page?"
            raise Failure("final", "not_a_broker", detail, answer.status_code, is_broker=False)
        self._pieces = answer.aiter_bytes()

    async def hear(self) -> tuple[dict[str, Any], str]:
        """The next block, as the message that it would be over WebSocket. What only shows life is `{"op": ""}`."""
        while not self._waiting:
            size = await self._read()
            if not self._waiting:
                if size > MOST_MESSAGE_BYTES:
                    raise Failure("final", "too_large", f"an event of more than {MOST_MESSAGE_BYTES} bytes came")
                return {"op": ""}, ""
        block = self._waiting.popleft()
        op = "event" if block.event == "message" else block.event.removeprefix("fanfare.")
        try:
            return {**json.loads(block.data), "op": op}, block.data
        except (ValueError, TypeError) as error:
            detail = "a block that is none of the broker's"
            raise Failure("undone", "not_a_broker", detail, is_broker=False) from error

    async def say(self, frame: Mapping[str, Any]) -> None:
        """Says nothing, for nothing is carried there."""

    def abort(self) -> None:
        """Ends what listens."""
        self._is_aborted = True
        if self._hearing is not None:
            self._hearing.cancel()

    async def close(self) -> None:
        """Ends the request."""
        await self._opened.aclose()

    async def _read(self) -> int:
        """Takes in the next bytes; how many wait for the end of their block."""
        if self._pieces is None or self._is_aborted:
            raise Failure("undone", "cut", "the stream was cut", is_broker=False)
        self._hearing = asyncio.ensure_future(anext(self._pieces))
        try:
            # Unlike `await`, this tells whether we are cancelled or what we wait for is.
            await asyncio.wait({self._hearing})
        finally:
            self._hearing.cancel()
        try:
            piece = self._hearing.result()
        except StopAsyncIteration:
            raise Failure("undone", "cut", "the stream ended", is_broker=False) from None
        except httpx.RequestError as error:
            raise Failure("undone", "cut", f"{type(error).__name__}: {error}", is_broker=False) from error
        except asyncio.CancelledError:
            raise Failure("undone", "cut", "the stream was cut", is_broker=False) from None
        self._waiting.extend(self._blocks.feed(piece))
        return self._blocks.size

"""Requests over HTTP, repeated until they are answered."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from .attempts import Attempts
from .credential import Credential
from .errors import Closed
from .failure import Failure, answered

MOST_HTTP_SECONDS = 30.0
"""Seconds that one attempt may take. The broker answers a publish after `history.commit_timeout` (10 s) at the latest."""

RENEWAL_WAITS = (0.0, 1.1)
"""Seconds before another token is asked for, where one was refused: at once, and once more in the next second, for a token
of the second of a revocation counts as revoked (docs/credentials.md)."""


@dataclass(frozen=True)
class Answer:
    """A success."""

    status: int
    body: Any


class Rest:
    """The broker's REST interface."""

    def __init__(self, url: str, credential: Credential, tls: ssl.SSLContext | None, key_life: float) -> None:
        self._credential = credential
        self._key_life = key_life
        timeout = httpx.Timeout(MOST_HTTP_SECONDS, connect=10.0)
        verify = tls if tls is not None else True
        self.http = httpx.AsyncClient(base_url=url, timeout=timeout, verify=verify)

    async def ask(
        self,
        method: str,
        path: str,
        *,
        retry_for: float,
        params: Mapping[str, str | int] | None = None,
        body: bytes | None = None,
        key: str | None = None,
        trace: str | None = None,
    ) -> Answer:
        """The answer of the broker, after as many attempts as `retry_for` seconds allow. Raises a `FanfareError`."""
        now = time.monotonic
        attempts = Attempts(now=now(), retry_for=retry_for, key=key, key_life=self._key_life, is_read=method == "GET")
        said = {"Idempotency-Key": key, "traceparent": trace}
        headers = {name: value for name, value in said.items() if value is not None}
        if body is not None:
            headers["Content-Type"] = "application/json"
        renewals = iter(RENEWAL_WAITS)
        while True:
            sent_at = now()
            word = None
            try:
                word = await self._credential.word()
                shown = {} if word is None else {"Authorization": f"Bearer {word}"}
                return await self._attempt(method, path, params, body, headers | shown)
            except Failure as failure:
                renewal = next(renewals, None) if failure.code == "unauthorized" else None
                if renewal is not None and self._credential.expired(word):
                    wait = renewal
                else:
                    wait = attempts.wait(failure, sent_at=sent_at, now=now())
            await asyncio.sleep(wait)

    async def _attempt(
        self,
        method: str,
        path: str,
        params: Mapping[str, str | int] | None,
        body: bytes | None,
        headers: Mapping[str, str],
    ) -> Answer:
        if self.http.is_closed:
            raise Closed
        try:
            answer = await self.http.request(method, path, params=params, content=body, headers=headers)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise Failure("undone", "unreachable", _said(error), is_broker=False) from error
        except httpx.RequestError as error:
            raise Failure("unknown", "unreachable", _said(error), is_broker=False) from error
        if not answer.is_success:
            raise answered(answer.status_code, answer.headers, answer.content)
        try:
            return Answer(answer.status_code, json.loads(answer.content))
        except ValueError as error:
            detail = "what answers is no broker: a proxy's page?"
            raise Failure("final", "not_a_broker", detail, answer.status_code, is_broker=False) from error


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__

"""A connection over WebSocket."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal

from anyio import fail_after
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus, InvalidURI

from .credential import Credential
from .failure import Failure, answered, closed
from .link import MOST_MESSAGE_BYTES, WELCOME_SECONDS

Tls = ssl.SSLContext | Literal[True] | None
"""Whose certificates are believed: those of a context, or True for the usual ones; None without TLS."""


class _Connect(connect):
    """Follows no redirect: the credential is meant for the address that was given."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class WebSocket:
    """One session of the broker. See `Link`."""

    can_ask = True

    def __init__(self, connection: ClientConnection, welcome: Mapping[str, Any]) -> None:
        self._connection = connection
        self.heartbeat = float(welcome["heartbeat"])
        self.session = str(welcome["session"])

    @classmethod
    async def open(cls, url: str, credential: Credential, tls: Tls) -> WebSocket:
        """Connects, with a fresh token where there is a function for it, and waits for `welcome`.

        Raises a `Failure`.
        """
        headers = await credential.headers(fresh=True)
        try:
            with fail_after(WELCOME_SECONDS):
                return await cls._open(url, headers, tls)
        except TimeoutError as error:
            detail = f"no welcome within {WELCOME_SECONDS:.0f} s"
            raise Failure("undone", "no_welcome", detail, is_broker=False) from error

    @classmethod
    async def _open(cls, url: str, headers: Mapping[str, str], tls: Tls) -> WebSocket:
        try:
            connection = await _Connect(
                url,
                additional_headers=dict(headers),
                open_timeout=None,
                close_timeout=1,
                ping_interval=None,  # Silence is asked about by messages, which tell of the broker and not of a proxy.
                max_size=MOST_MESSAGE_BYTES,
                ssl=tls,
            )
        except InvalidStatus as error:
            answer = error.response
            raise answered(answer.status_code, answer.headers, bytes(answer.body or b"")) from error
        except InvalidURI as error:
            raise Failure("final", "bad_address", str(error), is_broker=False) from error
        except (OSError, EOFError, InvalidMessage, InvalidHandshake) as error:
            detail = f"{type(error).__name__}: {error}"
            raise Failure("undone", "unreachable", detail, is_broker=False) from error
        try:
            welcome, _ = await _hear(connection)
            if welcome.get("op") != "welcome":
                raise Failure("final", "not_a_broker", "no welcome: another server answers", is_broker=False)
            return cls(connection, welcome)
        except BaseException:
            connection.transport.abort()
            raise

    async def begin(self, wishes: Mapping[str, Any]) -> None:
        """Subscribes, under the number 1."""
        await self.say({"op": "subscribe", "ref": 1, **wishes})

    async def hear(self) -> tuple[dict[str, Any], str]:
        """The next message."""
        return await _hear(self._connection)

    async def say(self, frame: Mapping[str, Any]) -> None:
        """Sends a message."""
        with suppress(ConnectionClosed):  # Who listens hears why.
            await self._connection.send(json.dumps(frame))

    def abort(self) -> None:
        """Cuts the connection."""
        self._connection.transport.abort()

    async def close(self) -> None:
        """Closes with 1000."""
        await self._connection.close()


async def _hear(connection: ClientConnection) -> tuple[dict[str, Any], str]:
    try:
        text = await connection.recv(decode=True)
    except ConnectionClosed as error:
        if error.sent is not None and error.sent.code == 1009 and not error.rcvd_then_sent:
            detail = f"a message of more than {MOST_MESSAGE_BYTES} bytes came"
            raise Failure("final", "too_large", detail) from error
        if error.rcvd is None:
            raise closed(None, "") from error
        raise closed(error.rcvd.code, error.rcvd.reason) from error
    try:
        frame = json.loads(text)
        frame["op"]
    except (ValueError, KeyError, TypeError) as error:
        raise Failure("undone", "not_a_broker", "a message that is none of the broker's", is_broker=False) from error
    return frame, text

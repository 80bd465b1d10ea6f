"""Who we are: an API key, a token, or a function that gives tokens.

Never anonymous by accident: who was given a credential sends one or does not connect. One token is fetched at a time,
however many want it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable

from .failure import Failure

Token = str | Callable[[], str | Awaitable[str]]
"""A token, or what gives a fresh one, at once or in time."""


class Credential:
    """What is shown to the broker."""

    def __init__(self, *, token: Token | None = None, key: str | None = None, in_thread: bool = False) -> None:
        """`in_thread` calls the function in a thread, where it may take its time."""
        if token is not None and key is not None:
            raise ValueError("either a token or a key")
        if token == "" or key == "":
            raise ValueError("an empty credential is none: leave it out to be anonymous")
        self._source = token if callable(token) else None
        self._word: str | None = None if callable(token) else token or key
        self._in_thread = in_thread
        self._fetching: asyncio.Task[str] | None = None

    @property
    def is_renewable(self) -> bool:
        """Whether another token can be had."""
        return self._source is not None

    async def word(self, *, fresh: bool = False) -> str | None:
        """The token or key, None for who has none. `fresh` fetches a token anew where that can be.

        Raises a `Failure` where the function fails.
        """
        if self._source is None or (self._word is not None and not fresh):
            return self._word
        if self._fetching is None:
            self._fetching = asyncio.ensure_future(self._fetch(self._source))
            # Where everybody who waited was cancelled, nobody hears of a failure.
            self._fetching.add_done_callback(lambda task: task.cancelled() or task.exception())
        # One who is cancelled cancels nobody else's.
        return await asyncio.shield(self._fetching)

    async def headers(self, *, fresh: bool = False) -> dict[str, str]:
        """The same as a header."""
        word = await self.word(fresh=fresh)
        return {} if word is None else {"Authorization": f"Bearer {word}"}

    def expired(self, word: str | None) -> bool:
        """Forgets a token that was refused; whether another may be had."""
        if self._source is not None and self._word == word:
            self._word = None
        return self._source is not None

    async def _fetch(self, source: Callable[[], str | Awaitable[str]]) -> str:
        try:
            given = await asyncio.to_thread(source) if self._in_thread else source()
            word = await given if inspect.isawaitable(given) else given
            if not isinstance(word, str) or not word:
                raise ValueError("it gave no token")
        except Exception as error:
            # Its text may hold what nobody should read in a log.
            raise Failure("undone", "token_failed", f"the token function failed: {type(error).__name__}") from error
        else:
            self._word = word
            return word
        finally:
            self._fetching = None

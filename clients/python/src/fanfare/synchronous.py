"""The client for plain code: the same, called from any thread. What each thing means is said in `AsyncFanfare`.

The signatures stand in both, for one is called and the other awaited, and type checkers and editors read no other.
"""

from __future__ import annotations

import ssl
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from types import TracebackType
from typing import Any, Generic, Literal, TypeVar, overload

from .asynchronous import AT_A_TIME, BATCH_BYTES, BATCH_EVENTS, KEY_LIFE, AsyncFanfare, AsyncSubscription, parsed
from .buffer import Item, Verdict
from .event import Event, Gap, Sender
from .feed import State
from .portal import END_SECONDS, Portal
from .publication import Encode, Publishable, Receipt, json_text
from .reading import Page, Snapshot
from .since import Since
from .way import Transport

T = TypeVar("T")


class Subscription(Generic[T]):
    """An endless iterator of events and gaps, for one thread or several. See `AsyncSubscription`."""

    def __init__(self, inner: AsyncSubscription[Any], owner: Fanfare, parse: Callable[[Any], T] | None) -> None:
        # Its client lives as long as it does.
        self._inner, self._owner, self._parse = inner, owner, parse
        self._portal = owner._portal
        self._lock = threading.Lock()
        self._taken: deque[Item] = deque()
        # A read that was interrupted, or took too long, is gone on with by the next one, so that it loses nothing.
        self._taking: Future[list[Item]] | None = None
        self._cursor: str | None = None
        self._is_closed = False

    @property
    def cursor(self) -> str | None:
        """The place behind everything that was handed out. Kept somewhere, it is the `since` of another run."""
        return self._cursor

    @property
    def state(self) -> State:
        """How it is doing."""
        return self._inner.state

    def __iter__(self) -> Subscription[T]:
        return self

    def __next__(self) -> Event[T] | Gap:
        thing = self._next(None)
        if thing is None:
            raise StopIteration
        return thing

    def next(self, timeout: float | None = None) -> Event[T] | Gap | None:
        """The next event or gap, None where it was closed. Raises `TimeoutError` after `timeout` seconds without one."""
        return self._next(timeout)

    def wait_live(self, timeout: float | None = None) -> None:
        """Waits until all that was missed has come, and it is live. Raises `TimeoutError` after `timeout` seconds."""
        future = self._portal.start(self._inner.wait_live())
        try:
            _result(future, timeout)
        finally:
            future.cancel()

    def reconnect(self) -> None:
        """Cuts short the wait for the next attempt."""
        self._portal.call(self._inner.reconnect)

    def close(self) -> None:
        """Ends it, from any thread: who reads it is told that it ended."""
        if not self._is_closed:
            self._is_closed = True
            self._portal.run(self._inner.close())

    def __enter__(self) -> Subscription[T]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _next(self, timeout: float | None) -> Event[T] | Gap | None:
        until = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            while True:
                if self._is_closed:
                    return None
                while self._taken:
                    thing, cursor = self._taken.popleft()
                    self._cursor = cursor or self._cursor
                    if thing is not None:
                        return parsed(thing, self._parse)
                if not (taken := self._take(until)):
                    return None
                self._taken.extend(taken)

    def _take(self, until: float | None) -> list[Item]:
        if self._taking is None:
            if self._portal.has_ended:
                return []
            self._taking = self._portal.start(self._inner._feed.buffer.take(AT_A_TIME))
        taking = self._taking
        try:
            return _result(taking, None if until is None else until - time.monotonic())
        finally:
            if taking.done():
                self._taking = None


def _result(future: Future[T], timeout: float | None) -> T:
    try:
        return future.result(timeout)
    except FutureTimeout:
        raise TimeoutError(f"nothing came within {timeout:.1f} s") from None


class Fanfare:
    """A broker, for plain code: for any number of threads. Nothing is opened before it is used.

    Its work is done in a thread of its own, which ends with `close`, or with the program. A forked process needs its own.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8080",
        *,
        token: str | Callable[[], str] | None = None,
        key: str | None = None,
        retry_for: float = 60.0,
        key_life: float = KEY_LIFE,
        transport: Transport = "auto",
        encode: Encode = json_text,
        ssl: ssl.SSLContext | None = None,
    ) -> None:
        """See `AsyncFanfare`. A token function is called in a thread, where it may take its time."""
        self._inner = AsyncFanfare(
            url,
            token=token,
            key=key,
            retry_for=retry_for,
            key_life=key_life,
            transport=transport,
            encode=encode,
            ssl=ssl,
            token_in_thread=True,
        )
        self._portal = Portal(self._inner.close)
        weakref.finalize(self, self._portal.end).atexit = False

    def publish(
        self,
        topic: str,
        data: Any = None,
        *,
        type: str | None = None,
        key: str | Literal[False] | None = None,
        removed: bool = False,
        version: int | None = None,
        epoch: str | None = None,
        if_latest: str | None = None,
        ttl_ms: int | None = None,
        keep: bool = True,
        except_: str | None = None,
        from_: Sender | None = None,
        trace: str | None = None,
        retry_for: float | None = None,
    ) -> Receipt:
        """Publishes an event, and returns once it is stored. See `AsyncFanfare.publish`."""
        return self._portal.run(
            self._inner.publish(
                topic,
                data,
                type=type,
                key=key,
                removed=removed,
                version=version,
                epoch=epoch,
                if_latest=if_latest,
                ttl_ms=ttl_ms,
                keep=keep,
                except_=except_,
                from_=from_,
                trace=trace,
                retry_for=retry_for,
            )
        )

    def publish_many(
        self,
        publications: Iterable[Publishable],
        *,
        key: str | Literal[False] | None = None,
        trace: str | None = None,
        retry_for: float | None = None,
        batch_events: int = BATCH_EVENTS,
        batch_bytes: int = BATCH_BYTES,
    ) -> list[Receipt]:
        """Publishes events in their order, in batches. See `AsyncFanfare.publish_many`."""
        return self._portal.run(
            self._inner.publish_many(
                list(publications),  # What gives them may take its time, and not in the thread that serves all.
                key=key,
                trace=trace,
                retry_for=retry_for,
                batch_events=batch_events,
                batch_bytes=batch_bytes,
            )
        )

    def remove(self, topic: str, *, key: str | None = None, version: int | None = None) -> Receipt:
        """Publishes that the topic has no value any more."""
        return self._portal.run(self._inner.remove(topic, key=key, version=version))

    def snapshot(self, pattern: str) -> Snapshot:
        """The current value of each topic that matches, and the cursor to subscribe with as `since`."""
        return self._portal.run(self._inner.snapshot(pattern))

    def cursor(self) -> str:
        """The newest place of the log."""
        return self._portal.run(self._inner.cursor())

    def events(self, pattern: str, *, since: Since | None = None, before: str | None = None, limit: int = 100) -> Page:
        """A page of kept events: after `since`, oldest first, or before a cursor, newest first (`""` is the newest)."""
        return self._portal.run(self._inner.events(pattern, since=since, before=before, limit=limit))

    @overload
    def subscribe(
        self,
        *patterns: str,
        parse: None = None,
        since: Since | None = None,
        snapshot: bool = False,
        last: int | None = None,
        tail: int | None = None,
        latest: bool = False,
        max_rate: float | None = None,
        buffer: int = 1_000,
        overflow: Verdict = "wait",
        on_state: Callable[[State], None] | None = None,
    ) -> Subscription[Any]: ...

    @overload
    def subscribe(
        self,
        *patterns: str,
        parse: Callable[[Any], T],
        since: Since | None = None,
        snapshot: bool = False,
        last: int | None = None,
        tail: int | None = None,
        latest: bool = False,
        max_rate: float | None = None,
        buffer: int = 1_000,
        overflow: Verdict = "wait",
        on_state: Callable[[State], None] | None = None,
    ) -> Subscription[T]: ...

    def subscribe(
        self,
        *patterns: str,
        parse: Callable[[Any], Any] | None = None,
        since: Since | None = None,
        snapshot: bool = False,
        last: int | None = None,
        tail: int | None = None,
        latest: bool = False,
        max_rate: float | None = None,
        buffer: int = 1_000,
        overflow: Verdict = "wait",
        on_state: Callable[[State], None] | None = None,
    ) -> Subscription[Any]:
        """Subscribes to topics and patterns, and goes on over cuts and restarts until it is closed.

        See `AsyncFanfare.subscribe`. `on_state` is called in the client's own thread: it must not call the client.
        """

        async def begin() -> AsyncSubscription[Any]:
            return self._inner.subscribe(
                *patterns,
                since=since,
                snapshot=snapshot,
                last=last,
                tail=tail,
                latest=latest,
                max_rate=max_rate,
                buffer=buffer,
                overflow=overflow,
                on_state=on_state,
            )

        return Subscription(self._portal.run(begin()), self, parse)

    def close(self) -> None:
        """Ends all subscriptions and requests, within about 0.1 s."""
        self._portal.end()
        self._portal.join(END_SECONDS)

    def __enter__(self) -> Fanfare:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

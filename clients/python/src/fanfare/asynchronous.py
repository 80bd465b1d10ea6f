"""The client for asyncio."""

from __future__ import annotations

import asyncio
import ssl
import time
import uuid
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from types import TracebackType
from typing import Any, Generic, Literal, TypeVar, overload
from urllib.parse import urlsplit

from .buffer import Buffer, Item, Verdict
from .credential import Credential, Token
from .errors import Closed, FanfareError
from .event import Event, Gap, Sender, event_of
from .failure import Failure
from .feed import Feed, State
from .link import Link
from .place import Place
from .publication import Encode, Publication, Publishable, Receipt, batches, json_text, receipts_of
from .reading import Page, Snapshot, page_of
from .rest import Rest
from .since import Beginning, Since
from .stream import Stream
from .way import Transport, Way
from .websocket import Tls, WebSocket

T = TypeVar("T")
KEY_LIFE = 600.0
"""Seconds for which a broker is sure to know an idempotency key, however many come (docs/protocol.md)."""
FAREWELL = 0.1
"""Seconds that closing takes at most."""
BATCH_EVENTS = 1_000
"""Events a batch, well below the broker's `limits.batch_events`."""
BATCH_BYTES = 4 * 1024 * 1024
"""Bytes a batch, well below the broker's `limits.batch_bytes`."""
AT_A_TIME = 256
"""Events that are taken out of the buffer at a time."""


class AsyncSubscription(Generic[T]):
    """An endless iterator of events and gaps. It is right about cuts and restarts by itself.

    It holds one connection. It ends by `close`, by leaving `async with`, or when nobody has it any more (after `break`).
    Cancelling a read loses nothing. Read it from one task.
    """

    def __init__(self, feed: Feed, task: asyncio.Task[None], parse: Callable[[Any], T] | None) -> None:
        self._feed, self._task, self._parse = feed, task, parse
        self._taken: deque[Item] = deque()
        self._cursor: str | None = None
        weakref.finalize(self, _let_go, asyncio.get_running_loop(), task)

    @property
    def cursor(self) -> str | None:
        """The place behind everything that was handed out. Kept somewhere, it is the `since` of another run."""
        return self._cursor

    @property
    def state(self) -> State:
        """How it is doing."""
        return self._feed.state

    def __aiter__(self) -> AsyncSubscription[T]:
        return self

    async def __anext__(self) -> Event[T] | Gap:
        while True:
            while self._taken:
                thing, cursor = self._taken.popleft()
                self._cursor = cursor or self._cursor
                if thing is not None:
                    return parsed(thing, self._parse)
            taken = await self._feed.buffer.take(AT_A_TIME)
            if not taken:
                raise StopAsyncIteration
            self._taken.extend(taken)

    async def wait_live(self) -> None:
        """Waits until all that was missed has come, and it is live.

        What comes before that is to be read meanwhile, where it is more than the buffer holds. Raises why, where it ends.
        """
        await self._feed.live.wait()
        if self._task.done() or self.state.name in ("refused", "closed"):
            raise self._feed.buffer.error or Closed()

    def reconnect(self) -> None:
        """Cuts short the wait for the next attempt."""
        self._feed.hurry()

    async def close(self) -> None:
        """Ends it: what waits to be read is let go."""
        self._feed.buffer.end(at_once=True)
        self._taken.clear()
        self._task.cancel()
        await asyncio.wait({self._task})
        await self._feed.farewell(FAREWELL)

    async def __aenter__(self) -> AsyncSubscription[T]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _let_go(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(task.cancel)


def parsed(thing: Event[Any] | Gap, parse: Callable[[Any], T] | None) -> Event[T] | Gap:
    """The event with its data read by `parse`; a tombstone has none. What `parse` raises is raised."""
    if isinstance(thing, Gap) or parse is None or thing.removed:
        return thing
    return replace(thing, data=parse(thing.data))


class AsyncFanfare:
    """A broker, for asyncio. Nothing is opened before it is used.

    Use it in one event loop: `async with AsyncFanfare("http://127.0.0.1:8080") as fanfare`.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8080",
        *,
        token: Token | None = None,
        key: str | None = None,
        retry_for: float = 60.0,
        key_life: float = KEY_LIFE,
        transport: Transport = "auto",
        encode: Encode = json_text,
        ssl: ssl.SSLContext | None = None,
        token_in_thread: bool = False,
    ) -> None:
        """A broker at `url`, with the path that a proxy serves it under.

        - `key` is an API key; `token` a token, or a function that gives a fresh one, plain or async.
        - `retry_for`: seconds for which a request is repeated where the broker is away; `math.inf` for ever.
        - `key_life`: seconds for which a publish of unknown outcome is repeated. More than 600 is for brokers that get
          fewer keys in that time than their `history.idempotency_keys`.
        - `transport`: `auto` takes event streams where WebSocket does not come through.
        - `encode` writes data as JSON; `ssl` says whose certificates are believed.
        - `token_in_thread` calls the token function in a thread.
        """
        scheme, host = urlsplit(url).scheme, urlsplit(url).netloc
        if scheme not in ("http", "https") or not host:
            raise ValueError("url: http://HOST:PORT or https://HOST")
        self._socket_url = f"ws{url.removeprefix('http').rstrip('/')}/v1/ws"
        self._credential = Credential(token=token, key=key, in_thread=token_in_thread)
        self._rest = Rest(url.rstrip("/"), self._credential, ssl, key_life)
        self._retry_for, self._encode = retry_for, encode
        self._tls: Tls = (ssl or True) if scheme == "https" else None
        self._way = Way(transport)
        self._feeds: dict[asyncio.Task[None], Feed] = {}
        self._is_closed = False

    async def publish(
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
        """Publishes an event, and returns once it is stored: once, however often it had to be sent.

        `key` is the idempotency key, by default a random one. `False` sends none: then an event whose outcome is not known
        is not sent again. `trace` is a `traceparent` (W3C Trace Context) for readers to go on in. The other members are
        those of `Publication`. Raises `Refused` (and `NotLatest`), `Unavailable` where it was certainly not stored within
        `retry_for` seconds, and `OutcomeUnknown` where nobody can say.
        """
        publication = Publication(topic, data, type, removed, version, epoch, if_latest, ttl_ms, keep, except_, from_)
        return (await self.publish_many([publication], key=key, trace=trace, retry_for=retry_for))[0]

    async def publish_many(
        self,
        publications: Iterable[Publishable],
        *,
        key: str | Literal[False] | None = None,
        trace: str | None = None,
        retry_for: float | None = None,
        batch_events: int = BATCH_EVENTS,
        batch_bytes: int = BATCH_BYTES,
    ) -> list[Receipt]:
        """Publishes events in their order, in batches that are stored whole or not at all.

        Repeated with the same `key` and the same events (and sizes of batches), each is stored once. `retry_for` holds for
        each batch. What is raised has the `receipts` of the batches before, and the `key`.
        """
        name = None if key is False else key or uuid.uuid4().hex
        receipts: list[Receipt] = []
        bodies = batches(publications, self._encode, most_events=batch_events, most_bytes=batch_bytes)
        for number, body in enumerate(bodies):
            batch_key = name if number == 0 or name is None else f"{name}/{number}"
            try:
                answer = await self._ask("POST", "/v1/events", body=body, key=batch_key, trace=trace, retry_for=retry_for)
            except FanfareError as error:
                error.key, error.receipts = name, receipts
                raise
            receipts += receipts_of(answer.body, repeated=answer.status == 200)
        return receipts

    async def remove(self, topic: str, *, key: str | None = None, version: int | None = None) -> Receipt:
        """Publishes that the topic has no value any more."""
        return await self.publish(topic, removed=True, key=key, version=version)

    async def snapshot(self, pattern: str) -> Snapshot:
        """The current value of each topic that matches, and the cursor to subscribe with as `since`."""
        events: list[Event[Any]] = []
        params: dict[str, str | int] = {"match": pattern, "limit": 1000}
        cursor = None
        while True:
            page = (await self._ask("GET", "/v1/snapshot", params=params)).body
            cursor = cursor or page["cursor"]
            events += [event_of(event) for event in page["events"]]
            if page.get("next") is None:
                return Snapshot(events, cursor)
            params["after"] = page["next"]

    async def cursor(self) -> str:
        """The newest place of the log: read it, then your own database, then subscribe with it as `since`."""
        return str((await self._ask("GET", "/v1/cursor")).body["cursor"])

    async def events(self, pattern: str, *, since: Since | None = None, before: str | None = None, limit: int = 100) -> Page:
        """A page of kept events: after `since`, oldest first, or before a cursor, newest first (`""` is the newest)."""
        if since is not None and before is not None:
            raise ValueError("either since or before")
        params: dict[str, str | int] = {"match": pattern, "limit": limit}
        if before is not None:
            params["before"] = before
        elif since is not None:
            params["since"] = Beginning(since, 0.0).asked(0.0)
        return page_of((await self._ask("GET", "/v1/events", params=params)).body)

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
    ) -> AsyncSubscription[Any]: ...

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
    ) -> AsyncSubscription[T]: ...

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
    ) -> AsyncSubscription[Any]:
        """Subscribes to topics and patterns, and goes on over cuts and restarts until it is closed.

        - What comes first: nothing; what came after `since`; the current values (`snapshot`), or the newest `last` of each
          topic; the newest `tail` of all. Beside `since` these act only after a `Gap`.
        - `latest`: where we can't keep up, the newest of each topic; `max_rate`: at most so many a second of each.
        - `buffer`: how many events may wait to be read, and `overflow` what happens then (`Verdict`).
        - `parse` makes data yours; `on_state` hears each `State`, in the event loop.

        Reading raises `Refused` where the broker refuses it for good.
        """
        if self._is_closed:
            raise Closed
        place = Place(
            patterns,
            since=since,
            snapshot=snapshot,
            last=last,
            tail=tail,
            latest=latest,
            max_rate=max_rate,
            now=time.monotonic(),
        )
        feed = Feed(place, Buffer(buffer, overflow), self._credential, self._open_link, on_state)
        task = asyncio.get_running_loop().create_task(feed.run())
        self._feeds[task] = feed
        task.add_done_callback(self._feeds.pop)
        return AsyncSubscription(feed, task, parse)

    async def close(self) -> None:
        """Ends all subscriptions and requests, within about 0.1 s."""
        self._is_closed = True
        feeds = dict(self._feeds)
        for task, feed in feeds.items():
            feed.buffer.end(at_once=True)
            task.cancel()
        if feeds:
            await asyncio.wait(feeds)
            await asyncio.gather(*(feed.farewell(FAREWELL) for feed in feeds.values()))
        await self._rest.http.aclose()

    async def __aenter__(self) -> AsyncFanfare:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _ask(self, method: str, path: str, *, retry_for: float | None = None, **given: Any) -> Any:
        patience = self._retry_for if retry_for is None else retry_for
        return await self._rest.ask(method, path, retry_for=patience, **given)

    async def _open_link(self) -> Link:
        if self._way.is_stream(time.monotonic()):
            return await Stream.open(self._rest.http, self._credential)
        try:
            link = await WebSocket.open(self._socket_url, self._credential, self._tls)
        except Failure as failure:
            if not self._way.is_blocked(failure, time.monotonic()):
                raise
            return await Stream.open(self._rest.http, self._credential)
        self._way.came_through()
        return link

"""One subscription at work: connection after connection, and what they bring.

The rules stand elsewhere, each for itself: where to go on (`Place`), whether to come back (`Failure`), when (`Backoff`),
whether the other side is there (`Pulse`), what waits to be read (`Buffer`). Here they meet the network.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from anyio import move_on_after

from .backoff import Backoff
from .buffer import Buffer
from .credential import Credential
from .errors import FanfareError, Refused
from .event import Event, Gap
from .failure import Failure, bye, refused_frame
from .link import Link
from .place import Place
from .pulse import Pulse

log = logging.getLogger("fanfare")


@dataclass(frozen=True)
class State:
    """How a subscription is doing.

    `name` is `connecting`, `live` (all that was missed has come), `waiting` (to come back, at `retry_at`, in seconds
    since 1970, for the `attempt`th time), `refused` (for good) or `closed`. `reason` says why. `trouble` is there while
    the broker says that it can't do its whole job.
    """

    name: Literal["connecting", "live", "waiting", "refused", "closed"]
    reason: str = ""
    attempt: int = 0
    retry_at: float | None = None
    trouble: str | None = None


class Feed:
    """Runs one subscription until it is refused or closed."""

    def __init__(
        self,
        place: Place,
        buffer: Buffer,
        credential: Credential,
        open_link: Callable[[], Awaitable[Link]],
        tell: Callable[[State], None] | None = None,
    ) -> None:
        self.place, self.buffer, self.state = place, buffer, State("connecting")
        self.live = asyncio.Event()
        """Set while it is live, and once it has ended."""
        self.credential, self.open_link, self._tell = credential, open_link, tell
        self._backoff = Backoff()
        self._hurry = asyncio.Event()
        self._is_renewed = False
        self._closing: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Connects, for ever. It ends where it is refused; what waits is still handed out, and then why."""
        link: Link | None = None
        try:
            while True:
                began = time.monotonic()
                is_successor = link is not None
                try:
                    if link is None:
                        self._say(State("connecting", attempt=self._backoff.attempt))
                        link = await self.open_link()
                    began = time.monotonic()
                    link = await Conversation(self, link, is_successor).run()
                    continue
                except Failure as failure:
                    link = None
                    if not self._comes_back(failure):
                        raise
                    await self._wait(failure, time.monotonic() - began)
        except Failure as failure:
            self._say(State("refused", reason=str(failure)))
            self.buffer.end(Refused(failure.code, failure.detail, status=failure.status))
        except FanfareError as error:
            self._say(State("closed", reason=str(error)))
            self.buffer.end(error)
        except Exception as error:  # A fault of ours is told to who reads, for nobody looks at a task.
            self._say(State("closed", reason=repr(error)))
            self.buffer.end(error)
        finally:
            if self.state.name != "refused":
                self._say(State("closed", reason=self.state.reason))
            self.buffer.end()
            self.live.set()

    def hurry(self) -> None:
        """Cuts a wait short."""
        self._hurry.set()

    def heard_live(self) -> None:
        """All that was missed has come."""
        self._is_renewed = False
        self.live.set()
        self._say(replace(self.state, name="live", reason="", attempt=0, retry_at=None))

    def heard_trouble(self, frame: Mapping[str, Any]) -> None:
        """The broker can't do its whole job, or can again."""
        trouble = None if frame.get("code") == "over" else str(frame.get("message"))
        self._say(replace(self.state, trouble=trouble))

    def close_later(self, link: Link) -> None:
        """Says good-bye on a connection without waiting for it."""
        task = asyncio.ensure_future(_close(link))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def farewell(self, seconds: float) -> None:
        """Waits for the good-byes, so long."""
        if self._closing:
            await asyncio.wait(set(self._closing), timeout=seconds)

    def _comes_back(self, failure: Failure) -> bool:
        """Whether to come back after it. A refused token is asked for once more where it comes from a function.

        Not within a second: a token of the second of a revocation counts as revoked (docs/credentials.md).
        """
        if failure.code == "unauthorized" and self.credential.is_renewable and not self._is_renewed:
            self._is_renewed = True
            failure.retry_after = max(failure.retry_after or 0.0, 1.1)
            return True
        return not failure.is_final

    async def _wait(self, failure: Failure, stood: float) -> None:
        self.live.clear()
        attempt = self._backoff.attempt
        seconds = self._backoff.wait(stood=stood, told=failure.retry_after)
        log.log(logging.INFO if attempt < 3 else logging.WARNING, "back in %.1f s: %s", seconds, failure)
        self._say(State("waiting", str(failure), attempt + 1, time.time() + seconds))
        self._hurry.clear()
        # Not `asyncio.wait_for`, which before Python 3.12 forgets that it was cancelled where both come together.
        with move_on_after(seconds):
            await self._hurry.wait()

    def _say(self, state: State) -> None:
        if state == self.state and state.name != "connecting":
            return
        self.state = state
        if self._tell is not None:
            try:
                self._tell(state)
            except Exception:
                log.exception("the function that hears of states failed")


class Conversation:
    """One connection, from its subscribe to its end."""

    def __init__(self, feed: Feed, link: Link, is_successor: bool) -> None:
        self._feed, self._link = feed, link
        self._pulse = Pulse(link.heartbeat, time.monotonic(), time.time())
        self._beside: set[asyncio.Task[None]] = set()
        self._successor: Link | None = None
        # A lone broker that stops says so again on the next connection, which stays until its end.
        self._is_leaving = is_successor
        self._renewing: asyncio.Task[None] | None = None
        self._refs = 1
        self._token_ref: int | None = None

    async def run(self) -> Link | None:
        """Listens until the connection ends, which is raised, or another one stands in its place, which is returned."""
        feed = self._feed
        try:
            request, gap = feed.place.begin(time.monotonic())
            if gap is not None:
                await self._hand_out(gap)
            self._start(self._watch())
            await self._link.begin(request)
            while True:
                frame, text = await self._link.hear()
                self._pulse.heard(time.monotonic())
                await self._take(frame, text)
        except Failure:
            if self._successor is None:
                raise
            successor, self._successor = self._successor, None
            return successor
        finally:
            for task in self._beside:
                task.cancel()
            if self._successor is not None:
                feed.close_later(self._successor)
            feed.close_later(self._link)

    async def _take(self, frame: Mapping[str, Any], text: str) -> None:
        feed = self._feed
        before = feed.place.cursor
        thing = feed.place.take(frame, text)
        if isinstance(thing, (Event, Gap)):
            await self._hand_out(thing)
            return
        if feed.place.cursor is not None and feed.place.cursor != before:
            feed.buffer.mark(feed.place.cursor)
        match frame["op"]:
            case "live":
                feed.heard_live()
            case "bye":
                raise bye(frame)
            case "error" if frame.get("ref") in (None, 1):
                raise refused_frame(frame)
            case "error" if frame.get("ref") == self._token_ref:
                log.warning("the new token was refused: %s", frame.get("message"))
            case "warn" if frame.get("code") == "token_expires":
                self._renew()
            case "goaway":
                self._leave(float(frame.get("within_ms") or 0) / 1000)
            case "trouble":
                feed.heard_trouble(frame)

    async def _hand_out(self, thing: Event[Any] | Gap) -> None:
        buffer = self._feed.buffer
        if not buffer.has_room:
            # Nobody listens meanwhile, so the silence says nothing.
            self._pulse.is_read = False
            await buffer.room()
            self._pulse.is_read = True
            self._pulse.heard(time.monotonic())
        buffer.put(thing, self._feed.place.cursor)

    async def _watch(self) -> None:
        """Asks whether the broker is there where it is silent, and cuts the connection where it is not."""
        while True:
            await asyncio.sleep(self._pulse.pause())
            verdict = self._pulse.look(time.monotonic(), time.time())
            if verdict == "ask" and self._link.can_ask:
                self._refs += 1
                self._start(self._link.say({"op": "ping", "ref": self._refs}))
            elif verdict == "dead":
                log.info("nothing is heard of the broker any more")
                self._link.abort()
                return

    def _renew(self) -> None:
        """Shows another token, where there is a function for it: here, or on another connection."""
        if not self._feed.credential.is_renewable or self._renewing is not None:
            return
        if not self._link.can_ask:
            self._link.abort()
            return
        self._renewing = self._start(self._show_token())

    async def _show_token(self) -> None:
        backoff = Backoff()
        while True:
            try:
                token = await self._feed.credential.word(fresh=True)
                break
            except Failure as failure:
                log.warning("%s", failure)
                await asyncio.sleep(backoff.wait())
        self._refs += 1
        self._token_ref = self._refs
        await self._link.say({"op": "auth", "ref": self._refs, "token": token})
        self._renewing = None

    def _leave(self, within: float) -> None:
        """Opens another connection some time before this one ends."""
        if not self._is_leaving and self._link.can_ask:
            self._is_leaving = True
            self._start(self._succeed(random.uniform(0, within / 2)))

    async def _succeed(self, after: float) -> None:
        await asyncio.sleep(after)
        try:
            self._successor = await self._feed.open_link()
        except Failure as failure:
            log.info("no other connection before this one ends: %s", failure)
            return
        # Whatever was not read here comes again there.
        self._link.abort()

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)
        return task


async def _close(link: Link) -> None:
    try:
        await link.close()
    except Exception:
        link.abort()

"""The thread in which a client for plain code does its work, with an event loop of its own."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from .errors import Closed

T = TypeVar("T")
END_SECONDS = 1.0
"""Seconds that the end of a program waits for the good-byes of clients that were not closed."""


class Portal:
    """A daemon thread that begins at the first use. It keeps no program alive."""

    def __init__(self, farewell: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """`farewell` is what is done there before the thread ends."""
        self._farewell = farewell
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._process = os.getpid()
        self.has_ended = False

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begins some work there."""
        if os.getpid() != self._process:
            work.close()
            raise RuntimeError("a Fanfare does not live on in a forked process: make one there")
        with self._lock:
            if self.has_ended:
                work.close()
                raise Closed
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_live, args=(self._loop,), name="fanfare", daemon=True)
                self._thread.start()
                _PORTALS.add(self)
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Does some work there and waits for it; where the wait is interrupted, the work is cancelled."""
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("called from within the client's own thread, by on_state or token say")
        future = self.start(work)
        try:
            return future.result()
        except CancelledError:
            raise Closed from None
        except BaseException:
            future.cancel()
            raise

    def call(self, work: Callable[[], None]) -> None:
        """Has something done there, and does not wait for it."""
        with self._lock:
            if self._loop is not None and not self.has_ended:
                self._loop.call_soon_threadsafe(work)

    def end(self) -> None:
        """Begins the end of the thread, and does not wait for it: garbage is collected in any thread."""
        with self._lock:
            loop, is_first = self._loop, not self.has_ended
            self.has_ended = True
        if loop is not None and is_first and os.getpid() == self._process:
            loop.call_soon_threadsafe(_say_farewell, loop, self._farewell)

    def join(self, seconds: float) -> None:
        """Waits for its end, so long."""
        if self._thread is not None:
            self._thread.join(seconds)


def _live(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()


def _say_farewell(loop: asyncio.AbstractEventLoop, farewell: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def leave() -> None:
        try:
            await farewell()
        finally:
            # Who waits in another thread is not left waiting.
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for other in others:
                other.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            loop.call_soon(loop.stop)

    _LEAVING.add(task := loop.create_task(leave()))
    task.add_done_callback(_LEAVING.discard)


_LEAVING: set[asyncio.Task[None]] = set()
_PORTALS: weakref.WeakSet[Portal] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    portals = list(_PORTALS)
    for portal in portals:
        portal.end()
    for portal in portals:
        portal.join(END_SECONDS)

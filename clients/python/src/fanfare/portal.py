"""The thread in which a client for plain code does its work, with an event loop of its own."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Portal:
    """A daemon thread that begins at the first use. It keeps no program alive."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._process = os.getpid()

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begins some work there."""
        if os.getpid() != self._process:
            work.close()
            raise RuntimeError("a Fanfare does not live on in a forked process: make one there")
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="fanfare", daemon=True)
                self._thread.start()
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Does some work there and waits for it; where the wait is interrupted, the work is cancelled."""
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("called from within the client's own thread, by on_state or token say")
        future = self.start(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def call(self, work: Callable[[], None]) -> None:
        """Has something done there, and does not wait for it."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(work)

    def stop(self) -> None:
        """Ends the thread."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()
            loop.close()

"""The way to a broker, which can be cut, made silent, or answer as a proxy does."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

from broker import free_port


class Road:
    """A TCP proxy in threads of its own.

    `cut` ends every connection. `is_silent` lets nothing through any more, though connections stand. `refuse` answers
    new ones with bytes of the test's.
    """

    def __init__(self, target: int) -> None:
        self.target, self.port = target, free_port()
        self.connects = 0
        self.lines: list[bytes] = []
        """The first line of each connection."""
        self.refusal: bytes | None = None
        self.refuses_only, self.holds = b"", False
        self._passes = threading.Event()
        self._passes.set()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def standing(self) -> int:
        with self._lock:
            return len(self._open) // 2

    def silence(self, is_silent: bool = True) -> None:
        if is_silent:
            self._passes.clear()
        else:
            self._passes.set()

    def refuse(self, answer: bytes | None, only: bytes = b"", holds: bool = False) -> None:
        """Answers requests that hold `only` so, and ends their connections, or holds them."""
        self.refusal, self.refuses_only, self.holds = answer, only, holds

    def cut(self) -> None:
        with self._lock:
            ends = list(self._open)
        for end in ends:
            self._end(end)

    def close(self) -> None:
        self._listener.close()
        self._passes.set()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:  # It was closed.
                return
            self.connects += 1
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        try:
            first = near.recv(65536)
            self.lines.append(first.split(b"\r\n")[0])
            if self.refusal is not None and self.refuses_only in first:
                near.sendall(self.refusal)
                while self.holds and near.recv(65536):
                    pass
                near.close()
                return
            far = socket.create_connection(("127.0.0.1", self.target))
            far.sendall(first)
        except OSError:
            near.close()
            return
        with self._lock:
            self._open |= {near, far}
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                self._passes.wait()
                sink.sendall(data)
        except OSError:
            pass
        self._end(source)
        self._end(sink)

    def _end(self, end: socket.socket) -> None:
        with self._lock:
            self._open.discard(end)
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()

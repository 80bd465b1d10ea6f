"""The broker as a process, with data that it keeps over kills."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BINARY = os.environ.get("FANFARE_BIN", str(ROOT / "target/debug/fanfare"))
PATIENCE = 60.0
"""Seconds after which what should come to pass never will, also on a loaded machine."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def eventually(what: str, question: Callable[[], object]) -> None:
    """Asks until the answer is true."""
    deadline = time.monotonic() + PATIENCE
    while not question():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.02)


class Broker:
    """A broker of one test."""

    def __init__(self, folder: Path, *settings: str, rules: str = "") -> None:
        self.folder, self.settings, self.port = folder, list(settings), free_port()
        (folder / "fanfare.toml").write_text(rules)
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        given = [f"server.listen=127.0.0.1:{self.port}", f"history.path={self.folder}/data", *self.settings]
        words = [BINARY, "--config", str(self.folder / "fanfare.toml")]
        words += [word for setting in given for word in ("--set", setting)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FANFARE_")}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(words, cwd=self.folder, env=environment, stdout=log, stderr=log)
        eventually("the broker serves", self._answers)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def end(self, how: int = signal.SIGKILL) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(how)
            self.process.wait()
            self.process = None

    def send(self, how: int) -> None:
        assert self.process is not None
        self.process.send_signal(how)

"""The blocks of an event stream (WHATWG HTML, section 9.2), out of bytes that come in any pieces."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass

_END = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True)
class Block:
    """One event of a stream. `id` is that of the last block that had one."""

    event: str
    data: str
    id: str


class Blocks:
    """Reads blocks. Takes time in proportion to the bytes, however they are cut."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pieces: list[str] = []
        self._is_first = True
        self._after_return = False
        self._event, self._id = "", ""
        self._data: list[str] = []
        self.comment = ""
        """The last comment."""
        self.size = 0
        """How many characters wait for the end of their block."""

    def feed(self, piece: bytes) -> Iterator[Block]:
        """The blocks that this piece completes."""
        text = self._decoder.decode(piece)
        if self._is_first and text:
            text, self._is_first = text.removeprefix("\ufeff"), False
        if self._after_return and text:
            text, self._after_return = text.removeprefix("\n"), False
        begin = 0
        self.size += len(text)
        for end in _END.finditer(text):
            self._pieces.append(text[begin : end.start()])
            begin = end.end()
            line = "".join(self._pieces)
            self._pieces.clear()
            if not line:
                self.size = len(text) - begin
            if (block := self._line(line)) is not None:
                yield block
        if begin < len(text):
            self._pieces.append(text[begin:])
        elif text.endswith("\r"):
            self._after_return = True

    def _line(self, line: str) -> Block | None:
        if not line:
            block = Block(self._event or "message", "\n".join(self._data), self._id) if self._data else None
            self._event, self._data = "", []
            return block
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "":
                self.comment = value
            case "event":
                self._event = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self._id = value
        return None

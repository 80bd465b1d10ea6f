"""What is published, and the broker's receipt for it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .event import Sender

Encode = Callable[[Any], str]
"""Writes data as a JSON text: `json_text`, or another that knows your types."""


def json_text(data: Any) -> str:
    """Data as JSON. NaN and infinities, which JSON does not have, are a ValueError."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


@dataclass(frozen=True)
class Publication:
    """An event as its publisher gives it; what each member means is in docs/protocol.md, "What an event carries".

    `data` is anything that JSON can say, or `bytes`. `ttl_ms` is in milliseconds, 1 to 31,536,000,000.
    """

    topic: str
    data: Any = None
    type: str | None = None
    removed: bool = False
    version: int | None = None
    epoch: str | None = None
    if_latest: str | None = None
    ttl_ms: int | None = None
    keep: bool = True
    except_: str | None = None
    """A session that is not to get the event."""
    from_: Sender | None = None
    """Who sent it, said for others by an API key with full rights."""

    def text(self, encode: Encode = json_text) -> str:
        """It as the JSON object that the broker reads."""
        members: dict[str, Any] = {"topic": self.topic, "type": self.type}
        members |= {"removed": self.removed or None, "keep": None if self.keep else False}
        members |= {"version": self.version, "epoch": self.epoch, "if_latest": self.if_latest}
        members |= {"ttl_ms": self.ttl_ms, "except": self.except_}
        if self.from_ is not None:
            sender = {"user": self.from_.user, "session": self.from_.session}
            members["from"] = {name: value for name, value in sender.items() if value is not None}
        data = self.data
        if isinstance(data, (bytes, bytearray, memoryview)):
            members["encoding"] = "base64"
            data_text = json_text(base64.b64encode(data).decode())
        else:
            data_text = encode(data)
        given = json_text({name: value for name, value in members.items() if value is not None})
        if self.removed and data is None:
            return given
        return f'{given[:-1]},"data":{data_text}}}'


@dataclass(frozen=True)
class Receipt:
    """What became of a published event.

    `id` is its place in the log; it is None where the event is not kept, or was `superseded` by a newer `version`.
    `repeated` says that the key was known: this is the result of the first time.
    """

    topic: str
    time: str
    id: str | None = None
    superseded: bool = False
    version: int | None = None
    """The version that is kept, where the event was superseded."""
    repeated: bool = False


def receipts_of(answer: Mapping[str, Any], *, repeated: bool) -> list[Receipt]:
    """The receipts in an answer of the broker."""
    return [
        Receipt(
            topic=receipt["topic"],
            time=receipt["time"],
            id=receipt.get("id"),
            superseded=bool(receipt.get("superseded")),
            version=receipt.get("version"),
            repeated=repeated and not receipt.get("superseded"),
        )
        for receipt in answer["events"]
    ]


Publishable = Publication | tuple[str, Any]
"""A publication, or just its topic and data."""


def batches(publications: Iterable[Publishable], encode: Encode, *, most_events: int, most_bytes: int) -> Iterator[bytes]:
    """The bodies to send, in order. The same publications come in the same batches each time, for their keys' sake."""
    texts: list[str] = []
    size = 0
    for given in publications:
        publication = given if isinstance(given, Publication) else Publication(*given)
        text = publication.text(encode)
        length = len(text.encode()) + 1
        if texts and (len(texts) >= most_events or size + length > most_bytes):
            yield _body(texts)
            texts, size = [], 0
        texts.append(text)
        size += length
    if texts:
        yield _body(texts)


def _body(texts: list[str]) -> bytes:
    return f'{{"events":[{",".join(texts)}]}}'.encode()

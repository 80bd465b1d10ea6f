"""A broker, a wire and a reader as plain state, so that thousands of interleavings can be gone through.

The broker follows docs/protocol.md; the wire loses what it still holds when it is cut; the reader judges what it is
handed: of mode `all` every matching event once and in order, or a gap; and where it keeps values, the right ones at the
end. Everything follows from the seed.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from fanfare.event import Event, Gap
from fanfare.place import Place

TOPICS = ("a.1", "a.2", "a.3", "b.1")
Frame = dict[str, Any]


class Fault(AssertionError):
    """What must never be."""


@dataclass
class Kept:
    seq: int
    topic: str
    data: int
    removed: bool = False

    def frame(self, log: str, **marks: Any) -> Frame:
        return {
            "op": "event",
            "id": f"{log}-1-{self.seq}",
            "topic": self.topic,
            "time": "2026-11-26T08:00:00.000Z",
            "data": self.data,
            **({"removed": True} if self.removed else {}),
            **marks,
        }


@dataclass
class Broker:
    """One log, of which the beginning may be removed, and which may be lost as a whole."""

    log: str = "log0"
    head: int = 0
    floor: int = 0
    events: list[Kept] = field(default_factory=list)

    def publish(self, topic: str, removed: bool) -> Kept:
        self.head += 1
        self.events.append(Kept(self.head, topic, self.head, removed))
        return self.events[-1]

    def forget(self, count: int) -> None:
        """The oldest events go, but for current values."""
        gone = self.events[:count]
        newest = {event.topic: event for event in self.events}
        self.events = [event for event in self.events if event not in gone or newest[event.topic] is event]
        if gone and (lost := [event.seq for event in gone if event not in self.events]):
            self.floor = max(self.floor, *lost)

    def wipe(self, name: str) -> None:
        self.log, self.head, self.floor, self.events = name, 0, 0, []

    def matching(self, after: int = 0) -> list[Kept]:
        return [event for event in self.events if event.topic.startswith("a.") and event.seq > after]

    def values(self) -> list[Kept]:
        newest = {event.topic: event for event in self.matching()}
        return [event for event in newest.values() if not event.removed]

    def cursor(self, seq: int) -> str:
        return f"{self.log}-1-{seq}"

    def place(self, since: str) -> int | None:
        """The sequence of a cursor that is retained."""
        log, _, seq = since.split("-")
        return int(seq) if log == self.log and self.floor <= int(seq) <= self.head else None


class Session:
    """One connection as the broker sees it; `wire` is what was sent and may yet be lost."""

    def __init__(self, broker: Broker, request: Frame, chance: random.Random) -> None:
        self.broker, self.request, self.chance = broker, request, chance
        self.is_latest = request.get("mode") == "latest"
        self.wire: deque[Frame] = deque([{"op": "ack", "ref": 1}])
        self.waiting: dict[str, Kept] = {}
        self.below: dict[str, int] = {}
        self._begin(request.get("since"))
        self.wire.append({"op": "live", "ref": 1, "cursor": broker.cursor(broker.head)})

    def _begin(self, since: str | None) -> None:
        if since is None:
            self._anew(0 if self.request.get("all_kept") else None)
            return
        place = self.broker.place(since)
        if place is None:
            self.wire.append({"op": "gap", "ref": 1, "since": since})
            self._anew(0)
            return
        self._replay(self.broker.matching(place))

    def _anew(self, everything_after: int | None) -> None:
        wishes = self.request
        if wishes.get("snapshot"):
            self.wire.extend(event.frame(self.broker.log, snapshot=True) for event in self.broker.values())
        elif wishes.get("last"):
            for topic in sorted({event.topic for event in self.broker.matching()}):
                of_topic = [event for event in self.broker.matching() if event.topic == topic]
                removed = max((event.seq for event in of_topic if event.removed), default=0)
                shown = [event for event in of_topic if event.seq > removed][-wishes["last"] :]
                self.wire.extend(event.frame(self.broker.log, snapshot=True) for event in shown)
        elif wishes.get("tail"):
            tail = self.broker.matching()[-wishes["tail"] :]
            self.wire.extend(event.frame(self.broker.log, replay=1) for event in tail)
        elif everything_after is not None:
            self._replay(self.broker.matching(everything_after))

    def _replay(self, events: list[Kept]) -> None:
        if self.is_latest:
            newest = {event.topic: event for event in events}
            events = sorted(newest.values(), key=lambda event: event.seq)
            self.wire.extend(event.frame(self.broker.log, replay=1, conflated=True) for event in events)
        else:
            self.wire.extend(event.frame(self.broker.log, replay=1) for event in events)

    def heard(self, event: Kept) -> None:
        """An event is published while it is live."""
        if not event.topic.startswith("a."):
            return
        if self.is_latest:
            self.below.setdefault(event.topic, event.seq)
            self.waiting[event.topic] = event
        else:
            self.wire.append(event.frame(self.broker.log))

    def flush(self) -> None:
        """One of the topics that wait has its turn."""
        if self.waiting:
            topic = self.chance.choice(sorted(self.waiting))
            self.below.pop(topic)
            self.wire.append(self.waiting.pop(topic).frame(self.broker.log, conflated=True))

    def progress(self) -> None:
        """A `cursor`, below whatever waits."""
        seq = min(self.below.values(), default=self.broker.head + 1) - 1
        self.wire.append({"op": "cursor", "cursor": self.broker.cursor(seq)})

    def lose(self) -> None:
        """Behind Redis: events are lost before they could be delivered."""
        self.wire.append({"op": "gap", "since": self.broker.cursor(max(0, self.broker.head - 1))})
        self.waiting.clear()
        self.below.clear()
        if self.request.get("snapshot"):
            self.wire.extend(event.frame(self.broker.log, snapshot=True) for event in self.broker.values())
        self.wire.append({"op": "live", "cursor": self.broker.cursor(self.broker.head)})


class Reader:
    """What a user makes of it, and whether that may be."""

    def __init__(self, is_latest: bool) -> None:
        self.is_latest = is_latest
        self.values: dict[str, int] = {}
        self.place: tuple[str, int] | None = None
        """The last event in order, or where it began; None behind a gap."""
        self.is_whole = False
        """Whether nothing may be missing between two events: not within what is left behind a gap, nor in a tail."""
        self.gaps = 0

    def take(self, thing: Event[Any] | Gap, published: dict[str, list[int]]) -> None:
        if isinstance(thing, Gap):
            self.gaps += 1
            self.values.clear()
            self.place, self.is_whole = None, False
            return
        if thing.removed:
            self.values.pop(thing.topic, None)
        else:
            self.values[thing.topic] = thing.data
        if self.is_latest or thing.snapshot or thing.id is None:
            return
        log, _, text = thing.id.split("-")
        seq = int(text)
        if self.place is not None:
            before, last = self.place
            if log != before:
                raise Fault(f"another log without a gap: {thing}")
            if seq <= last:
                raise Fault(f"twice, or out of order: {thing}, after {last}")
            missed = [other for other in published[log] if last < other < seq]
            if missed and self.is_whole:
                raise Fault(f"lost without a gap: {missed}")
        self.place = (log, seq)


def life(seed: int, kind: type[Place] = Place) -> Reader:
    """One subscription over many connections. Raises a `Fault`."""
    chance = random.Random(seed)
    broker = Broker()
    published: dict[str, list[int]] = {broker.log: []}

    def publish() -> None:
        event = broker.publish(chance.choice(TOPICS), chance.random() < 0.2)
        if event.topic.startswith("a."):
            published[broker.log].append(event.seq)
        if session is not None:
            session.heard(event)

    session: Session | None = None
    for _ in range(chance.randrange(6)):
        publish()
    begin: dict[str, Any] = chance.choice([{}, {"snapshot": True}, {"snapshot": True}, {"last": 2}, {"tail": 3}])
    is_latest = chance.random() < 0.4
    starts_at = broker.head if chance.random() < 0.3 else None
    since = None if starts_at is None else broker.cursor(starts_at)
    place = kind(["a.*"], **begin, since=since, latest=is_latest)
    reader = Reader(is_latest)
    if starts_at is not None:
        # Who begins at a cursor has what was there then.
        reader.place, reader.is_whole = (broker.log, starts_at), True
        reader.values = {event.topic: event.data for event in broker.values()}

    def connect() -> None:
        nonlocal session
        request, gap = place.begin(0.0)
        if gap is not None:
            reader.take(gap, published)
        session = Session(broker, request, chance)

    def hear() -> None:
        assert session is not None
        frame = session.wire.popleft()
        thing = place.take(frame)
        if thing is not None:
            reader.take(thing, published)
        if frame["op"] == "live":
            log, _, seq = frame["cursor"].split("-")
            reader.place, reader.is_whole = reader.place or (log, int(seq)), True

    for _ in range(chance.randrange(10, 60)):
        step = chance.random()
        if step < 0.35:
            publish()
        elif step < 0.40:
            broker.forget(chance.randrange(1, 4))
        elif step < 0.41:
            session = None
            broker.wipe(f"log{seed % 1000}x{chance.randrange(10**6)}")
            published[broker.log] = []
        elif session is None:
            connect()
        elif step < 0.75:
            if session.wire:
                hear()
        elif step < 0.85:
            session.flush()
        elif step < 0.90:
            session.progress()
        elif step < 0.91:
            session.lose()
        else:
            session = None
    if session is None:
        connect()
    assert session is not None
    while session.waiting or session.wire:
        session.flush()
        while session.wire:
            hear()
    _judge(broker, place, reader, published, begin)
    return reader


def _judge(broker: Broker, place: Place, reader: Reader, published: dict[str, list[int]], begin: dict[str, Any]) -> None:
    """At the end, when all has been heard."""
    if begin.get("snapshot"):
        expected = {event.topic: event.data for event in broker.values()}
        if reader.values != expected:
            raise Fault(f"values {reader.values} instead of {expected}")
    if not reader.is_latest and reader.place is not None:
        log, last = reader.place
        if missed := [seq for seq in published[log] if seq > last]:
            raise Fault(f"lost at the end: {missed}")
    if place.cursor is None:
        raise Fault("live without a place")

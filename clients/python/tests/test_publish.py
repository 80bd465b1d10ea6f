"""Publishing: once, in order, or an exception that says which (R29, R34)."""

from __future__ import annotations

import json
import threading
import time
from decimal import Decimal
from typing import Any

import pytest
from broker import Broker, eventually
from conftest import Start
from road import Road

from fanfare import Fanfare, NotLatest, OutcomeUnknown, Publication, Refused, Sender, Unavailable

HANGS_UP = b"\0"  # No answer at all, and the end of the connection.


def test_what_is_published_is_kept_as_it_was(broker: Broker) -> None:
    with Fanfare(broker.url) as fanfare:
        receipt = fanfare.publish("a", {"n": 2**70, "text": "ä\u2028"}, type="made", ttl_ms=60_000, version=7, epoch="e")
        [event] = fanfare.events("a").events
        assert (event.id, event.topic, event.time) == (receipt.id, receipt.topic, receipt.time)
        assert event.data == {"n": 2**70, "text": "ä\u2028"}
        assert (event.type, event.version, event.epoch) == ("made", 7, "e")
        assert event.expires is not None
        assert event.moment.utcoffset() is not None
        fanfare.publish("b", b"\x00\xff")
        assert fanfare.events("b").events[0].data == b"\x00\xff"
        fanfare.publish("c", None)
        assert fanfare.events("c").events[0].data is None


def test_data_that_json_cannot_say_is_refused_before_anything_is_sent(broker: Broker) -> None:
    with Fanfare(broker.url) as fanfare:
        with pytest.raises(ValueError, match="JSON"):
            fanfare.publish("a", float("nan"))
        with pytest.raises(TypeError):
            fanfare.publish("a", Decimal(1))
    with Fanfare(broker.url, encode=lambda data: json.dumps(data, default=str)) as fanfare:
        fanfare.publish("a", {"price": Decimal("1.10")})
        assert fanfare.events("a").events[0].data == {"price": "1.10"}


def test_a_tombstone_removes_the_value(broker: Broker) -> None:
    with Fanfare(broker.url) as fanfare:
        fanfare.publish("a", 1)
        fanfare.remove("a")
        assert fanfare.snapshot("a").events == []
        assert [event.removed for event in fanfare.events("a").events] == [False, True]


def test_an_older_version_is_superseded_and_no_error(broker: Broker) -> None:
    with Fanfare(broker.url) as fanfare:
        fanfare.publish("a", 2, version=2)
        receipt = fanfare.publish("a", 1, version=1)
        assert (receipt.superseded, receipt.version, receipt.id, receipt.repeated) == (True, 2, None, False)
        assert fanfare.publish("a", 1, version=1, epoch="restarted").id is not None


def test_if_latest_is_checked_and_the_newest_event_is_told(broker: Broker) -> None:
    with Fanfare(broker.url) as fanfare:
        first = fanfare.publish("a", 1, if_latest="absent")
        fanfare.publish("a", 2, if_latest=first.id)
        with pytest.raises(NotLatest) as refused:
            fanfare.publish("a", 3, if_latest=first.id)
        assert refused.value.code == "not_latest"
        assert refused.value.event is not None
        assert refused.value.event.data == 2


def test_an_event_that_is_not_kept_has_no_id(broker: Broker) -> None:
    with Fanfare(broker.url) as fanfare:
        assert fanfare.publish("typing", True, keep=False).id is None
        assert fanfare.events("typing").events == []


def test_a_key_with_full_rights_says_who_sent_it(start: Start) -> None:
    secured = start("auth.api_keys=0123456789abcdef0123456789abcdef")
    with Fanfare(secured.url, key="0123456789abcdef0123456789abcdef") as fanfare:
        fanfare.publish("a", 1, from_=Sender(user="ada"))
        assert fanfare.events("a").events[0].from_ == Sender(user="ada")


def test_a_repeat_with_the_same_key_is_stored_once(broker: Broker) -> None:
    with Fanfare(broker.url) as fanfare:
        first, second = fanfare.publish("a", 1, key="k"), fanfare.publish("a", 1, key="k")
        assert (first.id, first.repeated, second.repeated) == (second.id, False, True)
        with pytest.raises(Refused) as refused:
            fanfare.publish("a", 2, key="k")
        assert refused.value.code == "idempotency_mismatch"
        assert [event.data for event in fanfare.events("a").events] == [1]


def test_r34_a_publish_whose_answer_was_lost_is_repeated_and_stored_once(broker: Broker, road: Road) -> None:
    """The request comes through, and the connection ends before its answer."""
    with Fanfare(road.url) as fanfare:
        fanfare.publish("a", 0)
        road.silence()  # What was sent before the way was silent reaches nobody; so send it while it hangs.
        receipts: list[Any] = []
        writer = threading.Thread(target=lambda: receipts.append(fanfare.publish("a", 1)))
        writer.start()
        time.sleep(0.2)
        road.cut()
        road.silence(False)
        writer.join()
        assert receipts[0].id is not None
        assert [event.data for event in fanfare.events("a").events] == [0, 1]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nno!",
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 0\r\n\r\n",
        HANGS_UP,
    ],
)
def test_r34_a_proxy_that_fails_for_a_while_is_waited_out(broker: Broker, road: Road, answer: bytes) -> None:
    road.refuse(answer)
    with Fanfare(road.url) as fanfare:
        threading.Timer(0.7, road.refuse, [None]).start()
        fanfare.publish("a", 1)
        assert [event.data for event in fanfare.events("a").events] == [1]
    assert road.connects > 2


def test_without_a_key_nothing_is_repeated_that_may_be_stored(broker: Broker, road: Road) -> None:
    road.refuse(HANGS_UP)
    with Fanfare(road.url) as fanfare:
        with pytest.raises(OutcomeUnknown):
            fanfare.publish("a", 1, key=False)
        assert road.connects == 1


def test_what_certainly_was_not_stored_is_called_so(broker: Broker) -> None:
    broker.end()
    began = time.monotonic()
    with Fanfare(broker.url, retry_for=0.5) as fanfare:
        with pytest.raises(Unavailable) as away:
            fanfare.publish("a", 1, key="mine")
        assert (away.value.code, away.value.key) == ("unreachable", "mine")
        assert time.monotonic() - began < 10
        broker.start()
        fanfare.publish("a", 1, key="mine")


def test_a_publish_waits_for_a_broker_that_is_started_later(broker: Broker) -> None:
    broker.end()
    threading.Timer(1.0, broker.start).start()
    with Fanfare(broker.url) as fanfare:
        fanfare.publish("a", 1)
        assert [event.data for event in fanfare.events("a").events] == [1]


def test_a_batch_that_is_refused_names_what_was_stored_before_it(broker: Broker) -> None:
    with Fanfare(broker.url) as fanfare:
        publications = [("a", 1), ("a", 2), ("a", 3), ("not..a.topic", 4)]
        with pytest.raises(Refused) as refused:
            fanfare.publish_many(publications, key="mine", batch_events=2)
        assert len(refused.value.receipts) == 2
        assert refused.value.key == "mine"
        again = [*publications[:3], ("a", 4)]
        assert [receipt.repeated for receipt in fanfare.publish_many(again[:2], key="mine", batch_events=2)] == [True] * 2
        fanfare.publish_many(again, key="mine", batch_events=2)
        assert [event.data for event in fanfare.events("a").events] == [1, 2, 3, 4]


def test_batches_are_cut_by_number_and_by_bytes(broker: Broker) -> None:
    with Fanfare(broker.url) as fanfare:
        receipts = fanfare.publish_many((Publication("a", "x" * 1000, type="big") for _ in range(50)), batch_bytes=10_000)
        assert len({receipt.id for receipt in receipts}) == 50
        assert len(fanfare.publish_many(("b", n) for n in range(2500))) == 2500
        assert fanfare.publish_many([]) == []


def test_threads_publish_at_the_same_time(broker: Broker) -> None:
    with Fanfare(broker.url) as fanfare:

        def write(thread: int) -> None:
            for number in range(10):
                fanfare.publish(f"t.{thread}", number)

        threads = [threading.Thread(target=write, args=(thread,)) for thread in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for number in range(8):
            assert [event.data for event in fanfare.events(f"t.{number}").events] == list(range(10))


def test_an_address_that_has_moved_is_named_and_not_followed(broker: Broker, road: Road) -> None:
    road.refuse(b"HTTP/1.1 308 Permanent Redirect\r\nLocation: https://other.example/\r\nContent-Length: 0\r\n\r\n")
    with Fanfare(road.url, key="0123456789abcdef") as fanfare:
        with pytest.raises(Refused, match=r"https://other\.example/"):
            fanfare.publish("a", 1)
        with pytest.raises(Refused, match=r"https://other\.example/"):
            next(fanfare.subscribe("a"))


def test_a_publish_is_interrupted_at_once(broker: Broker) -> None:
    broker.end()
    with Fanfare(broker.url) as fanfare:
        future = fanfare._portal.start(fanfare._inner.publish("a", 1))
        time.sleep(0.2)
        future.cancel()
        eventually("it is cancelled", future.done)


def test_a_trace_goes_on_to_readers(start: Start) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    broker = start("server.trace_context=true")
    with Fanfare(broker.url) as fanfare:
        fanfare.publish("a", 1, trace=trace)
        assert fanfare.events("a").events[0].trace == trace

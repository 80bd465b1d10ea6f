"""The rules that stand for themselves: when to come back, when to give up, what to repeat."""

from __future__ import annotations

import asyncio
import random
import re
import time
from typing import Any

import pytest
from broker import ROOT

from fanfare import Event, Gap, NotLatest, OutcomeUnknown, Refused, Unavailable, pulse
from fanfare.attempts import Attempts
from fanfare.backoff import Backoff
from fanfare.blocks import Block, Blocks
from fanfare.buffer import Buffer
from fanfare.failure import FINAL_CLOSES, Failure, answered, bye, closed
from fanfare.pulse import Pulse


def test_r12_waits_grow_by_full_jitter_and_begin_anew_after_five_seconds() -> None:
    backoff = Backoff(chance=lambda: 1.0)
    assert [backoff.wait() for _ in range(7)] == [1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]
    assert backoff.wait(stood=4.9) == 15.0
    assert backoff.wait(stood=5.0) == 1.0
    assert Backoff(chance=lambda: 0.0).wait() == 0.0
    waits = [Backoff().wait(told=1.5) for _ in range(100)]
    assert min(waits) >= 1.5
    assert len(set(waits)) > 50, "even what is told is spread"
    assert Backoff(chance=lambda: 0.0).wait(told=1e9) == 300.0


def test_r15_silence_is_asked_about_and_then_left() -> None:
    heart = Pulse(25.0, 0.0, 1000.0)
    said = []
    now = 0.0
    while "dead" not in said:
        now += heart.pause()
        said.append(heart.look(now, 1000.0 + now))
    assert now == pytest.approx(25 + pulse.ANSWER, abs=pulse.TICK)
    assert said.count("ask") == 1


def test_r15_whatever_is_heard_counts() -> None:
    heart = Pulse(25.0, 0.0, 0.0)
    for step in range(1, 1000):
        now = step * 5.0
        if step % 6 == 0:
            heart.heard(now)
        assert heart.look(now, now) in ("fine", "ask")


@pytest.mark.parametrize("slept", [(5.0, 3600.0), (3600.0, 3600.0)])
def test_r16_after_sleep_it_is_asked_at_once_and_left_after_three_seconds(slept: tuple[float, float]) -> None:
    """A machine that slept: the clock that never steps stood still with it, or did not."""
    heart = Pulse(25.0, 0.0, 0.0)
    assert heart.look(*slept) == "ask"
    assert heart.pause() == pulse.WAKE_ANSWER
    assert heart.look(slept[0] + 3.0, slept[1] + 3.0) == "dead"


def test_a_process_that_stood_still_judges_nobody_by_that_time() -> None:
    heart = Pulse(25.0, 0.0, 0.0)
    assert heart.look(25.0, 25.0) == "ask"
    assert heart.look(500.0, 500.0) == "ask", "not dead: the answer may lie there unread"
    heart.heard(500.1)
    assert heart.look(503.0, 503.0) == "fine"


def test_a_time_of_day_that_is_set_back_ends_nothing() -> None:
    heart = Pulse(25.0, 0.0, 10_000.0)
    assert heart.look(5.0, 5.0) == "fine"


def test_where_nobody_reads_silence_says_nothing() -> None:
    heart = Pulse(25.0, 0.0, 0.0)
    heart.is_read = False
    assert {heart.look(now * 5.0, now * 5.0) for now in range(1, 100)} == {"fine"}


def test_the_table_of_close_codes_is_the_one_in_the_docs() -> None:
    rows = re.findall(r"^\| (\d{4}) \| `(\w+)` \|.*\| (yes|no) \|$", (ROOT / "docs/protocol.md").read_text(), re.M)
    assert len(rows) > 10
    for code, name, again in rows:
        assert (FINAL_CLOSES.get(int(code)) == name) == (again == "no"), name
        assert closed(int(code), "").is_final == (again == "no"), name
    assert not closed(1006, "").is_final
    assert not closed(None, "").is_final


def test_r13_a_bye_decides_by_whether_it_names_a_time() -> None:
    assert bye({"op": "bye", "code": "policy", "message": "m"}).is_final
    again = bye({"op": "bye", "code": "restart", "message": "m", "retry_after_ms": 1500})
    assert (again.is_final, again.retry_after) == (False, 1.5)
    assert bye({"code": "heartbeat_missed", "retry_after_ms": 0}).is_final is False


def problem(status: int, code: str) -> Failure:
    return answered(status, {"retry-after": "2"}, f'{{"code":"{code}","detail":"d"}}'.encode())


def test_every_code_of_a_refusal_has_its_kind() -> None:
    """Those of the docs, so that a new one is decided about here too."""
    headings = re.findall(r"^### (.*) \((\d{3})\)$", (ROOT / "docs/troubleshooting.md").read_text(), re.M)
    codes = {(int(status), code) for heading, status in headings for code in re.findall(r"`(\w+)`", heading)}
    assert len(codes) > 15
    undone = {"too_many", "unavailable", "storage_full", "too_slow"}
    unknown = {"outcome_unknown", "in_progress", "internal"}
    for status, code in codes:
        expected = "undone" if code in undone else "unknown" if code in unknown else "final"
        assert problem(status, code).kind == expected, code
        if status in (408, 429, 503):
            assert expected != "final", code


def attempts(**given: Any) -> Attempts:
    usual: dict[str, Any] = {"now": 0.0, "retry_for": 60.0, "key": "k", "key_life": 600.0}
    return Attempts(**(usual | given))


UNKNOWN, UNDONE = Failure("unknown", "outcome_unknown", "", 503), Failure("undone", "unavailable", "", 503)


def test_r34_a_publish_of_unknown_outcome_is_repeated_only_with_a_key() -> None:
    assert attempts().wait(UNKNOWN, sent_at=0.0, now=0.1) < 6
    assert attempts(key=None).wait(UNDONE, sent_at=0.0, now=0.1) < 6
    with pytest.raises(OutcomeUnknown):
        raise attempts_error(attempts(key=None), UNKNOWN)
    assert attempts(key=None, is_read=True).wait(UNKNOWN, sent_at=0.0, now=0.1) < 6


def attempts_error(of: Attempts, failure: Failure, *, sent_at: float = 0.0, now: float = 0.1) -> Exception:
    try:
        of.wait(failure, sent_at=sent_at, now=now)
    except Exception as error:
        return error
    raise AssertionError("it is repeated")


def test_r34_what_was_unknown_once_stays_so() -> None:
    of = attempts()
    of.wait(UNKNOWN, sent_at=0.0, now=0.1)
    assert isinstance(attempts_error(of, UNDONE, now=100.0), OutcomeUnknown)
    assert isinstance(attempts_error(of, problem(401, "unauthorized")), OutcomeUnknown)
    assert isinstance(attempts_error(of, problem(412, "not_latest")), NotLatest), "the key was looked at first"
    assert isinstance(attempts_error(of, problem(409, "idempotency_mismatch")), Refused)
    assert isinstance(attempts_error(attempts(), UNDONE, now=100.0), Unavailable)


def test_r34_nothing_is_repeated_beyond_the_life_of_its_key() -> None:
    of = attempts(retry_for=float("inf"))
    for now in range(0, 5000, 100):
        of.wait(UNDONE, sent_at=now, now=now)
    of.wait(UNKNOWN, sent_at=5000.0, now=5010.0)
    of.wait(UNDONE, sent_at=5500.0, now=5510.0)
    assert isinstance(attempts_error(of, UNDONE, sent_at=5590.0, now=5599.9), OutcomeUnknown)


def test_r22_blocks_are_the_same_however_they_are_cut() -> None:
    text = "\ufeff: welcome x\nretry: 5\n\nid: 1\r\ndata: a\rdata:b\n\nevent: e\ndata\n\n"
    text += "id: no\0\ndata: ä€😀\n\n:c\nid\ndata: z\r\n\r\ndata: cut"
    expected = [Block("message", "a\nb", "1"), Block("e", "", "1"), Block("message", "ä€😀", "1"), Block("message", "z", "")]
    raw = text.encode()
    assert list(Blocks().feed(raw)) == expected
    for seed in range(500):
        chance, blocks, begin = random.Random(seed), Blocks(), 0
        came: list[Block] = []
        while begin < len(raw):
            end = begin + chance.choice([1, 1, 2, 3, 7])
            came += blocks.feed(raw[begin:end])
            begin = end
        assert came == expected, seed
        assert blocks.size == len("data: cut")


def test_r22_a_large_event_in_single_bytes_takes_time_in_proportion() -> None:
    blocks = Blocks()
    began = time.process_time()
    for byte in b"data: " + b"x" * 1_000_000:
        assert not list(blocks.feed(bytes([byte])))
    [block] = blocks.feed(b"\n\n")
    assert len(block.data) == 1_000_000
    assert time.process_time() - began < 20


def event(number: int) -> Event[int]:
    return Event("a", number, "2026-11-26T08:00:00.000Z", id=f"l-1-{number}")


def test_r24_a_gap_stands_for_all_that_was_dropped_and_is_told_once() -> None:
    async def run() -> None:
        for limit in (1, 2, 3, 10):
            buffer = Buffer(limit, "drop_oldest")
            buffer.put(event(0), "l-1-0")
            assert await buffer.take(9) == [(event(0), "l-1-0")]
            for number in range(1, 50):
                buffer.put(event(number), f"l-1-{number}")
            [(gap, behind), *rest] = await buffer.take(99)
            assert gap == Gap(since="l-1-0", reason="overflow")
            assert [thing.data for thing, _ in rest if isinstance(thing, Event)] == list(range(50 - limit, 50))
            assert behind == f"l-1-{49 - limit}"

    asyncio.run(run())


def test_r24_the_buffer_takes_a_mark_for_no_event() -> None:
    async def run() -> None:
        buffer = Buffer(2, "raise")
        for number in range(100):
            buffer.mark(f"l-1-{number}")
        buffer.put(event(100), "l-1-100")
        buffer.mark("l-1-101")
        buffer.put(event(102), None)
        assert await buffer.take(9) == [(event(100), "l-1-101"), (event(102), None)]

    asyncio.run(run())

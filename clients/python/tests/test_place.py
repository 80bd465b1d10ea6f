"""The cursor rules, over thousands of interleavings (R9, R10), and one by one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from model import Fault, life

from fanfare.event import Event, Gap
from fanfare.place import Place

SEEDS = 6_000


def test_r9_every_event_comes_once_and_in_order_or_a_gap_is_told() -> None:
    gaps = 0
    for seed in range(SEEDS):
        try:
            gaps += life(seed).gaps
        except Fault as fault:
            pytest.fail(f"seed {seed}: {fault}")
    assert gaps > SEEDS / 20, "the lives had gaps to tell"


class TakesSnapshots(Place):
    """Takes the id of a current value for its place."""

    def take(self, frame: Mapping[str, Any], raw: str = "") -> Event[Any] | Gap | None:
        thing = super().take(frame, raw)
        if isinstance(thing, Event) and thing.snapshot:
            self.cursor = thing.id
        return thing


class TakesConflated(Place):
    """Takes the id of a conflated event for its place."""

    def take(self, frame: Mapping[str, Any], raw: str = "") -> Event[Any] | Gap | None:
        thing = super().take(frame, raw)
        if isinstance(thing, Event) and thing.conflated:
            self.cursor = thing.id
        return thing


class HidesThatItBeganAnew(Place):
    """Says nothing where it has no cursor yet and begins anew."""

    def begin(self, now: float) -> tuple[dict[str, Any], Gap | None]:
        return super().begin(now)[0], None


class ForgetsLive(Place):
    """Does not take the cursor of `live`."""

    def take(self, frame: Mapping[str, Any], raw: str = "") -> Event[Any] | Gap | None:
        return None if frame["op"] == "live" else super().take(frame, raw)


class BeginsAnew(Place):
    """Never says where it was."""

    def begin(self, now: float) -> tuple[dict[str, Any], Gap | None]:
        request, gap = super().begin(now)
        request.pop("since", None)
        return request, gap


class HidesGaps(Place):
    """Hands out no gap."""

    def take(self, frame: Mapping[str, Any], raw: str = "") -> Event[Any] | Gap | None:
        return None if frame["op"] == "gap" else super().take(frame, raw)


class TrustsItsCursorBehindAGap(Place):
    """Goes on from its cursor, though the values that follow a gap were cut off."""

    def begin(self, now: float) -> tuple[dict[str, Any], Gap | None]:
        self._is_mending = False
        return super().begin(now)


@pytest.mark.parametrize(
    "kind",
    [TakesSnapshots, TakesConflated, HidesThatItBeganAnew, ForgetsLive, BeginsAnew, HidesGaps, TrustsItsCursorBehindAGap],
)
def test_the_model_finds_each_client_that_is_wrong(kind: type[Place]) -> None:
    with pytest.raises(Fault):
        for seed in range(SEEDS):
            life(seed, kind)


def event(seq: int, **marks: Any) -> dict[str, Any]:
    return {"op": "event", "id": f"l-1-{seq}", "topic": "a", "time": "2026-11-26T08:00:00Z", "data": seq, **marks}


def test_an_event_without_an_id_moves_nothing() -> None:
    place = Place(["a"])
    place.take(event(1))
    unkept = event(2)
    del unkept["id"]
    assert isinstance(place.take(unkept), Event)
    assert place.cursor == "l-1-1"


def test_a_tail_that_was_cut_goes_on_where_it_was() -> None:
    place = Place(["a"], tail=5)
    place.take(event(3, replay=1))
    request, gap = place.begin(0.0)
    assert request == {"topics": ["a"], "tail": 5, "since": "l-1-3"}
    assert gap is None


def test_values_that_were_shown_before_the_first_cursor_are_called_out_of_date() -> None:
    place = Place(["a"], snapshot=True)
    assert place.begin(0.0) == ({"topics": ["a"], "snapshot": True}, None)
    place.take(event(3, snapshot=True))
    request, gap = place.begin(1.0)
    assert request == {"topics": ["a"], "snapshot": True}
    assert gap == Gap(reason="began_anew")
    assert place.begin(2.0)[1] is None, "told once"


def test_so_long_ago_means_the_same_at_each_attempt() -> None:
    for since in ("-15m", timedelta(minutes=15), timedelta(minutes=-15)):
        place = Place(["a"], since=since, now=100.0)
        assert place.begin(100.0)[0]["since"] == "-900000ms"
        assert place.begin(107.5)[0]["since"] == "-907500ms"


def test_a_moment_and_a_cursor_are_said_as_they_are() -> None:
    moment = datetime(2026, 11, 23, 8, tzinfo=timezone.utc)
    assert Place(["a"], since=moment).begin(9.0)[0]["since"] == "2026-11-23T08:00:00+00:00"
    assert Place(["a"], since="l-1-7").begin(9.0)[0]["since"] == "l-1-7"
    with pytest.raises(ValueError, match="zone"):
        Place(["a"], since=datetime(2026, 11, 23, 8))


def test_what_cannot_be_asked_for_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="at most one"):
        Place(["a"], snapshot=True, tail=3)
    with pytest.raises(ValueError, match="topic"):
        Place([])

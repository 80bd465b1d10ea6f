"""What is read over REST: values, and pages of the history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .event import Event, event_of


@dataclass(frozen=True)
class Snapshot:
    """The current values of topics, and the cursor to subscribe with, so that nothing is missed."""

    events: list[Event[Any]]
    cursor: str


@dataclass(frozen=True)
class Page:
    """Events of the history.

    `next` is the `since` or `before` of the page that follows; with `before` it is None at the end. `gap` says that
    events are missing: after `since`, or older than the last page has.
    """

    events: list[Event[Any]]
    next: str | None
    gap: bool


def page_of(answer: Mapping[str, Any]) -> Page:
    """A page out of an answer of the broker."""
    events = [event_of(event) for event in answer["events"]]
    return Page(events, answer.get("next"), bool(answer.get("gap")))

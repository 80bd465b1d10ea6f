"""The referee: the only one who reads what guests ask for, and the only one who says what is so.

It keeps nothing of its own. The state that it publishes says up to which event it was made (`after`), so whoever starts
next goes on from there, whenever the last one was killed. Two that run at once don't disturb each other: a state is stored
only on top of the one that it was made of (`if_latest`), and who comes second begins again from what is so.
"""

from __future__ import annotations

import asyncio
import math
import os
from functools import reduce
from typing import Any

from rules import Game, Refused

from fanfare import AsyncFanfare, Event, Gap, NotLatest, OutcomeUnknown

BOARD, SEATS, MOVES, TOLD = "four.board", "four.seats", "four.moves", "four.told"


async def main() -> None:
    url, key = os.environ["FANFARE_URL"], os.environ["FANFARE_API_KEY"]
    async with AsyncFanfare(url, key=key, retry_for=math.inf) as fanfare:
        while True:
            try:
                await referee(fanfare)
            except (NotLatest, OutcomeUnknown):
                continue  # What is so by now is in the log.


async def referee(fanfare: AsyncFanfare) -> None:
    """Goes on from the newest state."""
    game, after = Game(), "-1h"
    place: str | None = "absent"
    for board in (await fanfare.snapshot(BOARD)).events:
        game, after, place = Game.of(board.data), board.data["after"], board.id
    if place == "absent":
        place = (await fanfare.publish(BOARD, {**game.state(), "after": after}, if_latest=place)).id
    async with fanfare.subscribe(f"{SEATS}.*", f"{MOVES}.*", since=after, snapshot=True) as asked:
        async for event in asked:
            after = asked.cursor or after
            try:
                changed = judged(game, event)
            except Refused as why:
                assert isinstance(event, Event)
                # With a key, so that who is told again after a restart hears it once.
                about, user = event.topic.split(".")[1:]
                await fanfare.publish(f"{TOLD}.{user}", {"about": about, "why": str(why)}, key=f"refused-{event.id}")
                continue
            if changed != game:
                place = (await fanfare.publish(BOARD, {**changed.state(), "after": after}, if_latest=place)).id
                game = changed


def judged(game: Game, event: Event[Any] | Gap) -> Game:
    """The game after something happened. Raises `Refused`."""
    if isinstance(event, Gap):
        # It was away for so long that what was asked for is gone. Who has a seat by now is told next.
        left = [topic for topic in event.topics if topic.startswith(SEATS)] if event.topics else game.users
        return reduce(Game.leave, (each.rpartition(".")[2] for each in left), game)
    user = event.topic.rpartition(".")[2]
    if event.topic.startswith(SEATS):
        return game.leave(user) if event.removed else game.sit(user, event.data)
    return game if event.snapshot else game.play(user, event.data)


asyncio.run(main())

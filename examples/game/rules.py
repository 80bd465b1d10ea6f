"""Four in a row: who may do what, and what becomes of it.

Pure: no clock and no network. A game is a value, and each thing that happens makes another one of it or is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

COLUMNS, ROWS = 7, 6
COLOURS = ("red", "yellow")
NAME_LENGTH = 24


class Refused(Exception):
    """Why something can't be done, in words for who wanted to."""


@dataclass(frozen=True)
class Game:
    """A game at some moment."""

    columns: tuple[int, ...] = ()
    """The column of each disc, in the order in which they fell."""
    first: str = "red"
    seats: dict[str, dict[str, str]] = field(default_factory=dict)
    """Colour → `user` and `name` of who sits there."""

    @classmethod
    def of(cls, state: dict[str, Any]) -> Game:
        """The game of a state that was published."""
        return cls(tuple(state["columns"]), state["first"], state["seats"])

    def state(self) -> dict[str, Any]:
        """All there is to show, and all that `of` needs."""
        kept = {"columns": self.columns, "first": self.first, "seats": self.seats}
        winner = self.colour(len(self.columns) - 1) if self.line else None
        turn = None if self.is_over else self.turn
        return {**kept, "board": self.board, "turn": turn, "line": self.line, "winner": winner}

    # What there is to know of it.

    def colour(self, number: int) -> str:
        """Whose disc it is, of the first one and those behind it."""
        return COLOURS[(COLOURS.index(self.first) + number) % 2]

    @property
    def turn(self) -> str:
        return self.colour(len(self.columns))

    @property
    def board(self) -> list[list[str]]:
        """The discs of each column, from the bottom."""
        board: list[list[str]] = [[] for _ in range(COLUMNS)]
        for number, column in enumerate(self.columns):
            board[column].append(self.colour(number))
        return board

    @property
    def line(self) -> list[tuple[int, int]]:
        """The four that win, as column and row; or none."""
        discs = {(x, y): colour for x, column in enumerate(self.board) for y, colour in enumerate(column)}
        for (x, y), (dx, dy) in product(discs, ((1, 0), (0, 1), (1, 1), (1, -1))):
            four = [(x + n * dx, y + n * dy) for n in range(4)]
            if {discs.get(place) for place in four} == {discs[x, y]}:
                return four
        return []

    @property
    def is_over(self) -> bool:
        return len(self.columns) == COLUMNS * ROWS or bool(self.line)

    @property
    def users(self) -> list[str]:
        return [who["user"] for who in self.seats.values()]

    def colour_of(self, user: str) -> str | None:
        return next((colour for colour, who in self.seats.items() if who["user"] == user), None)

    # What may happen. What comes from a page may be anything at all.

    def sit(self, user: str, asked: Any) -> Game:
        """Who asks for a seat gets it, where it is free."""
        match asked:
            case {"seat": "red" | "yellow" as seat, "name": str(name)}:
                pass
            case _:
                raise Refused("That is no seat.")
        if self.seats.get(seat, {"user": user})["user"] != user:
            raise Refused(f"{self.seats[seat]['name']} was faster and sits there already.")
        person = {"user": user, "name": name.strip()[:NAME_LENGTH] or "Nobody"}
        return replace(self, seats={**self.leave(user).seats, seat: person})

    def leave(self, user: str) -> Game:
        """A seat is free again; the discs stay, and whoever sits down there plays on."""
        return replace(self, seats={colour: who for colour, who in self.seats.items() if who["user"] != user})

    def play(self, user: str, asked: Any) -> Game:
        """A disc falls, or another game begins."""
        colour = self.colour_of(user)
        if colour is None:
            raise Refused("You have no seat: you are watching.")
        match asked:
            case {"again": True}:
                if not self.is_over:
                    raise Refused("This game is not over yet.")
                return Game(first=COLOURS[1 - COLOURS.index(self.first)], seats=self.seats)
            case {"column": int(column)} if column in range(COLUMNS) and not isinstance(column, bool):
                pass
            case _:
                raise Refused("That is no move.")
        if self.is_over:
            raise Refused("This game is over.")
        if colour != self.turn:
            raise Refused("It is not your turn.")
        if len(self.board[column]) == ROWS:
            raise Refused("That column is full.")
        return replace(self, columns=(*self.columns, column))

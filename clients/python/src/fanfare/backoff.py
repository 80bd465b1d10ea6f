"""How long to wait before the next attempt.

Full jitter, also before the first one, so that the clients of a broker that restarts do not all come at once.
"""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """The waits between attempts that fail, in seconds."""

    def __init__(
        self,
        *,
        first: float = 1.0,
        base: float = 1.0,
        most: float = 15.0,
        steady: float = 5.0,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """The first wait is up to `first`; each later one up to twice the bound before, from `base` up to `most`.

        They begin anew after a connection that stood for `steady`.
        """
        self.attempt = 0
        self._first, self._base, self._most, self._steady = first, base, most, steady
        self._chance = chance

    def wait(self, *, stood: float = 0.0, told: float | None = None) -> float:
        """The next wait, after a connection that `stood` so long; never less than what the broker `told`, up to 5 min."""
        if stood >= self._steady:
            self.attempt = 0
        bound = self._first if self.attempt == 0 else min(self._most, self._base * 2.0 ** min(self.attempt, 16))
        self.attempt += 1
        least = min(max(told or 0.0, 0.0), 300.0)
        return least + self._chance() * bound

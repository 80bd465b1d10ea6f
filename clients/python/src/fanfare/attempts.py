"""Whether and when a request is sent again, so that a publish is stored once and never twice.

Pure: it is told the time. A repeat has the same key and the same body, so that the broker stores it once; without a key
nothing is repeated that may have been stored.
"""

from __future__ import annotations

from .backoff import Backoff
from .errors import FanfareError, NotLatest, OutcomeUnknown, Refused, Unavailable
from .event import event_of
from .failure import Failure


class Attempts:
    """The attempts at one request. Times are in seconds of a clock that never steps."""

    def __init__(
        self,
        *,
        now: float,
        retry_for: float,
        key: str | None,
        key_life: float,
        is_read: bool = False,
        backoff: Backoff | None = None,
    ) -> None:
        """`retry_for` is how long to go on; `key_life` how long the broker is sure to know `key`."""
        self._until = now + retry_for
        self._key, self._key_life = key, key_life
        self._is_repeatable = is_read or key is not None
        self._is_read = is_read
        self._unknown_since: float | None = None
        self._backoff = backoff or Backoff(first=0.2, base=0.2, most=5.0)

    def wait(self, failure: Failure, *, sent_at: float, now: float) -> float:
        """How long to wait before the next attempt, after one that failed. Raises what the caller is to be told."""
        if failure.kind == "unknown" and not self._is_read and self._unknown_since is None:
            self._unknown_since = sent_at
        if failure.is_final or (failure.kind == "unknown" and not self._is_repeatable):
            raise self.verdict(failure)
        wait = self._backoff.wait(told=failure.retry_after)
        is_late = now + wait > self._until
        is_forgotten = self._unknown_since is not None and now + wait > self._unknown_since + self._key_life
        if is_late or is_forgotten:
            raise self.verdict(failure)
        return wait

    def verdict(self, failure: Failure) -> FanfareError:
        """What the caller is told where this failure is the last one."""
        # The broker looks at the key before these two: what they answer was not stored before either.
        if failure.code == "not_latest":
            event = event_of(failure.event) if failure.event else None
            return NotLatest(failure.detail, event, key=self._key)
        if self._unknown_since is not None and failure.code != "idempotency_mismatch":
            detail = f"it may be stored or not; the last that was heard: {failure.code}: {failure.detail}"
            return OutcomeUnknown("outcome_unknown", detail, status=failure.status, key=self._key)
        kind = Refused if failure.is_final else Unavailable
        return kind(failure.code, failure.detail, status=failure.status, key=self._key)

"""What can go wrong, as exceptions with a stable `code` and a `detail` for a person.

One class for each thing that a caller does about it; `code` is the broker's own (`docs/troubleshooting.md` has
them all), or one of this client's: `unreachable`, `not_a_broker`, `too_large`, `token_failed`, `overflow`, `closed`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .event import Event
    from .publication import Receipt


class FanfareError(Exception):
    """Any of the errors of this client.

    `status` is that of HTTP, where there was one. `key` is the idempotency key of a publish: repeated with it, the same
    events are stored once. `receipts` are those of the batches of a `publish_many` that were stored before it failed.
    """

    def __init__(self, code: str, detail: str, *, status: int | None = None, key: str | None = None) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.status = status
        self.key = key
        self.receipts: list[Receipt] = []


class Refused(FanfareError):
    """Asked again, the same would be refused again: a credential, a right, a topic, a limit."""


class NotLatest(Refused):
    """What `if_latest` says is not so. `event` is the newest of the topic, where the caller may read it."""

    def __init__(self, detail: str, event: Event[Any] | None, *, key: str | None = None) -> None:
        super().__init__("not_latest", detail, status=412, key=key)
        self.event = event


class Unavailable(FanfareError):
    """Certainly not done, and repeated for as long as `retry_for` allows: nothing was stored."""


class OutcomeUnknown(FanfareError):
    """Stored whole or not at all, and nobody can say which. Repeat it with the same `key`."""


class Overflow(FanfareError):
    """More events waited to be read than `buffer`, where `overflow="raise"` asked to be told so."""


class Closed(FanfareError):
    """The client was closed."""

    def __init__(self) -> None:
        super().__init__("closed", "the client was closed")

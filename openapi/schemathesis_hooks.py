"""What Schemathesis can't know or gets wrong about the broker."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote

import schemathesis
from hypothesis import strategies

DOCUMENT = json.loads(Path(__file__).with_name("openapi.json").read_text())
CURSOR = DOCUMENT["components"]["schemas"]["Cursor"]["pattern"]
TOPIC = re.compile(DOCUMENT["components"]["schemas"]["TopicName"]["pattern"])


# Where to read from: a cursor, a moment, or as long ago.
MOMENTS = strategies.datetimes(timezones=strategies.just(UTC)).map(datetime.isoformat)
SINCE = strategies.from_regex(CURSOR, fullmatch=True) | strategies.from_regex("-[0-9]{1,9}(ms|s|m|h|d)", fullmatch=True) | MOMENTS
schemathesis.openapi.format("since", SINCE)


@schemathesis.serializer("application/x-ndjson")
def lines(ctx, value):
    """Writes an array as one JSON value a line. Anything else, which must be refused, as one line."""
    values = value if isinstance(value, list) else [value]
    return "".join(json.dumps(value) + "\n" for value in values).encode()


@schemathesis.serializer("image/png")
def image(ctx, value):
    """Writes bytes as they are."""
    return value if isinstance(value, bytes) else str(value).encode()


def says_null(value):
    """Whether a member other than `data` is null: that counts as absent, and clients need not know it."""
    if isinstance(value, list):
        return any(says_null(item) for item in value)
    if not isinstance(value, dict):
        return False
    return any((item is None or says_null(item)) and name != "data" for name, item in value.items())


def begins_twice(values):
    """Whether more than one way to begin is asked for, which is refused."""
    if not isinstance(values, dict):
        return False
    return sum(str(values.get(name, False)).lower() not in ("false", "none") for name in ("snapshot", "last", "tail")) > 1


def reads_both_ways(values):
    """Whether a page is asked for that goes on and back, which is refused."""
    return isinstance(values, dict) and "since" in values and "before" in values


def is_tombstone(value):
    """Whether an event removes a value, which needs no data: clients that are generated have a member for it all the same."""
    if isinstance(value, list):
        return any(is_tombstone(item) for item in value)
    return isinstance(value, dict) and (value.get("removed") is True or is_tombstone(value.get("events")))


def is_negative(case):
    return case.meta is not None and case.meta.generation.mode.is_negative


@schemathesis.hook
def filter_case(ctx, case):
    """Drops what is told as illegal and is taken all the same, and legal topics that would be sent as illegal ones.

    Schemathesis unquotes a path parameter before it quotes it, so that the text `%2A` within a
    topic goes out as `*` instead of `%252A`.
    """
    if is_negative(case) and (says_null(case.body) or is_tombstone(case.body) or "" in ((case.query or {}).get(name) for name in ("since", "before", "after"))):
        return False
    if not is_negative(case) and (begins_twice(case.query) or begins_twice(case.body) or reads_both_ways(case.query)):
        return False
    topic = (case.path_parameters or {}).get("topic")
    if topic is None or case.meta is None or is_negative(case):
        return True
    return TOPIC.fullmatch(unquote(str(topic))) is not None

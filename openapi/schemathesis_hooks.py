"""What Schemathesis can't know or gets wrong about the broker."""

import json
import re
from pathlib import Path
from urllib.parse import unquote

import schemathesis

DOCUMENT = json.loads(Path(__file__).with_name("openapi.json").read_text())
TOPIC = re.compile(DOCUMENT["components"]["schemas"]["TopicName"]["pattern"])


@schemathesis.serializer("application/x-ndjson")
def lines(ctx, value):
    """Writes an array as one JSON value a line. Anything else, which must be refused, as one line."""
    values = value if isinstance(value, list) else [value]
    return "".join(json.dumps(value) + "\n" for value in values).encode()


@schemathesis.hook
def filter_case(ctx, case):
    """Drops legal topics that would be sent as illegal ones.

    Schemathesis unquotes a path parameter before it quotes it, so that the text `%2A` within a
    topic goes out as `*` instead of `%252A`.
    """
    topic = (case.path_parameters or {}).get("topic")
    if topic is None or case.meta is None or case.meta.generation.mode.is_negative:
        return True
    return TOPIC.fullmatch(unquote(str(topic))) is not None

"""What an application would do with the client of openapi-python-client."""

import os

from fanfare import AuthenticatedClient
from fanfare.api.history import list_events
from fanfare.api.publishing import publish, publish_batch
from fanfare.models import EventBatch, EventInput, EventPage, Problem

TOPIC = "generated.openapi-python-client"
client = AuthenticatedClient(os.environ["FANFARE_URL"], os.environ["FANFARE_KEY"])

one = EventInput(topic=TOPIC, type_="order.paid", data={"order": 42})
receipts = publish_batch.sync(client=client, body=one)
batch = EventBatch(events=[EventInput(topic=TOPIC, data="text"), EventInput(topic=TOPIC, data=[1, 2])])
publish_batch.sync(client=client, body=batch, idempotency_key="key-of-openapi-python-client")
publish.sync(TOPIC, client=client, x_event_type="order.sent", body={"order": 42})


def listed(**query):
    page = list_events.sync(TOPIC, client=client, **query)
    assert isinstance(page, EventPage), page
    return page.events


events = listed()
assert len(events) == 4, events
assert events[0].type_ == "order.paid" and events[0].data == {"order": 42}, events[0]
assert len(listed(since=receipts.events[0].id, limit=2)) == 2
assert len(listed(since="-1h")) == 4
refused = publish_batch.sync(client=client, body=EventInput(topic="not..a.topic", data=1))
assert isinstance(refused, Problem) and refused.code == "invalid_topic", refused

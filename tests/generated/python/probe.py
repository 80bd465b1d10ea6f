"""What an application would do with the client of openapi-generator's `python`."""

import os

from openapi_client import ApiClient, Configuration, EventBatch, EventInput, HistoryApi, Publication, PublishingApi

TOPIC = "generated.python"
client = ApiClient(Configuration(host=os.environ["FANFARE_URL"], access_token=os.environ["FANFARE_KEY"]))
publishing, history = PublishingApi(client), HistoryApi(client)

one = EventInput(topic=TOPIC, type="order.paid", data={"order": 42})
receipts = publishing.publish_batch(Publication(one))
batch = EventBatch(events=[EventInput(topic=TOPIC, data="text"), EventInput(topic=TOPIC, data=[1, 2])])
publishing.publish_batch(Publication(batch), idempotency_key="key-of-python")
publishing.publish(TOPIC, x_event_type="order.sent", body={"order": 42})

events = history.list_events(TOPIC).events
assert len(events) == 4, events
assert events[0].type == "order.paid" and events[0].data == {"order": 42}, events[0]
assert len(history.list_events(TOPIC, since=receipts.events[0].id, limit=2).events) == 2
assert len(history.list_events(TOPIC, since="-1h").events) == 4
try:
    publishing.publish("$sys.mine", body=1)
except Exception as refused:
    assert getattr(refused, "status", None) == 403, refused
else:
    raise AssertionError("expected a refusal")

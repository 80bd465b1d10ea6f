// What an application would do with the types of openapi-typescript and the client openapi-fetch.
import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { paths } from "./api.js";

const topic = "generated.typescript";
const api = createClient<paths>({
  baseUrl: process.env.FANFARE_URL!,
  headers: { Authorization: `Bearer ${process.env.FANFARE_KEY}` },
});

const one = await api.POST("/v1/events", { body: { topic, type: "order.paid", data: { order: 42 } } });
assert(one.data, JSON.stringify(one.error));
await api.POST("/v1/events", {
  params: { header: { "Idempotency-Key": "key-of-typescript" } },
  body: { events: [{ topic, data: "text" }, { topic, data: [1, 2] }] },
});
await api.POST("/v1/topics/{topic}/events", {
  params: { path: { topic }, header: { "X-Event-Type": "order.sent" } },
  body: { order: 42 },
});

const list = async (query: { since?: string; limit?: number }) => {
  const { data, error } = await api.GET("/v1/topics/{topic}/events", { params: { path: { topic }, query } });
  assert(data, JSON.stringify(error));
  return data.events;
};
const all = await list({});
assert.equal(all.length, 4);
assert.equal(all[0].type, "order.paid");
assert.deepEqual(all[0].data, { order: 42 });
assert.equal((await list({ since: one.data.events[0].id, limit: 2 })).length, 2);
assert.equal((await list({ since: "-1h" })).length, 4);
const refused = await api.POST("/v1/events", { body: { topic: "not..a.topic", data: 1 } });
assert.equal(refused.error?.code, "invalid_topic");

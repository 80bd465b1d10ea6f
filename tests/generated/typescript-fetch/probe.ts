// What an application would do with the client of openapi-generator's `typescript-fetch`.
import * as assert from "node:assert/strict";
import { Configuration, HistoryApi, PublishingApi, ResponseError } from "./client";

const topic = "generated.typescript-fetch";

async function main() {
  const config = new Configuration({ basePath: process.env.FANFARE_URL, accessToken: process.env.FANFARE_KEY });
  const publishing = new PublishingApi(config);
  const history = new HistoryApi(config);

  const one = { topic, type: "order.paid", data: { order: 42 } };
  const receipts = await publishing.publishBatch({ publication: one });
  const events = [{ topic, data: "text" }, { topic, data: [1, 2] }];
  await publishing.publishBatch({ publication: { events }, idempotencyKey: "key-of-typescript-fetch" });
  await publishing.publish({ topic, xEventType: "order.sent", body: { order: 42 } });

  const all = (await history.listEvents({ topic })).events;
  assert.equal(all.length, 4);
  assert.equal(all[0].type, "order.paid");
  assert.deepEqual(all[0].data, { order: 42 });
  assert.equal((await history.listEvents({ topic, since: receipts.events[0].id, limit: 2 })).events.length, 2);
  assert.equal((await history.listEvents({ topic, since: "-1h" })).events.length, 4);
  const refused = publishing.publish({ topic: "not..a.topic", body: 1 });
  await assert.rejects(refused, (error: ResponseError) => error.response.status === 422);
}

main();

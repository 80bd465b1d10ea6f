// A held rate: 10,000 events a second for some seconds, of which nothing is lost and nothing piles up.
//
// It is judged by what came, and in which order; not by time, which a loaded machine has more of. FANFARE_RATE_SECONDS for the long form.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { client, eventually, publishAll, startBroker } from "./harness.mjs";

const RATE = 10_000, BATCH = 500, SECONDS = Number(process.env.FANFARE_RATE_SECONDS ?? 3);
/** What a client may have at hand more than before: far less than a second of the events would be. */
const NOISE_BYTES = 4_000_000;

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc");

function heap() {
  collect();
  return process.memoryUsage().heapUsed;
}

/** Publishes events `from` up to `to`, numbered by topic, no faster than the rate. */
async function publishAtRate(broker, from, to) {
  const begun = performance.now();
  for (let n = from; n < to; n += BATCH) {
    const dueMs = (n - from) / RATE * 1000 - (performance.now() - begun);
    if (dueMs > 0) await new Promise((next) => setTimeout(next, dueMs));
    await publishAll(broker, Array.from({ length: BATCH }, (_, at) => [`rate.${(n + at) % 10}`, Math.floor((n + at) / 10)]));
  }
}

for (const WebSocket of [undefined, null]) {
  const over = WebSocket === null ? "event streams" : "a WebSocket";
  test(`R33 10,000 events a second over ${over} for ${SECONDS} s come each once and in order, and memory is flat`, { timeout: 120_000 + SECONDS * 10_000 }, async (t) => {
    const broker = await startBroker(t, { FANFARE_HISTORY_STORAGE: "memory" });
    const { fanfare, is, gaps, states } = client(t, broker.url, WebSocket === null ? { WebSocket } : {});
    /** Topic → the number that comes next. */
    const nexts = new Map();
    let all = 0, isInOrder = true, screens = 0;
    fanfare.subscribe("rate.*", ({ topic, data }) => {
      isInOrder &&= data === (nexts.get(topic) ?? 0);
      nexts.set(topic, data + 1);
      all += 1;
    });
    const newest = new Map();
    fanfare.subscribe("rate.*", { latest: true }, ({ topic, data }) => { isInOrder &&= data > (newest.get(topic) ?? -1); newest.set(topic, data); screens += 1; });
    await is("live");
    const count = SECONDS * RATE;
    await publishAtRate(broker, 0, RATE);
    await eventually(() => all === RATE);
    const before = heap();
    await publishAtRate(broker, RATE, RATE + count);
    await eventually(() => all === RATE + count, "everything comes");
    const more = heap() - before;
    t.diagnostic(`${more} bytes more`);
    assert.ok(isInOrder);
    await eventually(() => [...newest.values()].every((n) => n === (RATE + count) / 10 - 1), "who wants the newest has it");
    assert.ok(more < NOISE_BYTES, `${more} bytes more`);
    assert.deepEqual(gaps, []);
    assert.deepEqual(states.map(({ state }) => state), ["connecting", "live"], "and the connection stands");
    assert.ok(screens <= all);
  });
}

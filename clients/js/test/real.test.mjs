// The rules of the cursor, against a real broker behind a way that breaks, in lives that follow from a seed.
//
// FANFARE_REAL_SEEDS says how many lives; FANFARE_SEED plays one of them again (time is real, so not to the letter).

import assert from "node:assert/strict";
import { test } from "node:test";
import { matcher } from "../fanfare/resume.js";
import { client, eventually, publish, startBroker, startProxy } from "./harness.mjs";
import { dice as diceOf } from "./model.mjs";

const SEEDS = Number(process.env.FANFARE_REAL_SEEDS ?? 4);
const TOPICS = ["a.x", "a.y", "b.x", "c"];
const PATTERNS = ["a.x", "a.*", "*.x", "c", ">"];
const WAYS = [{}, { snapshot: true }, { last: 2 }, { tail: 5 }, { since: "-1h" }, { latest: true, snapshot: true }, { maxRate: 50, snapshot: true }];

/** Everything that the broker keeps, in order. */
async function log({ url }) {
  const events = [];
  for (let since = "-1h"; ;) {
    const page = await (await fetch(`${url}/v1/events?match=${encodeURIComponent(">")}&limit=500&since=${since}`)).json();
    if (!page.events.length) return events;
    events.push(...page.events);
    since = page.next;
  }
}

async function live(t, seed, transport) {
  const dice = diceOf(seed);
  const broker = await startBroker(t);
  const proxy = await startProxy(t, broker.port);
  const { fanfare, gaps } = client(t, proxy.url, transport);
  const records = [];
  const subscribe = () => {
    const record = { pattern: dice.one(PATTERNS), how: dice.one(WAYS), got: [] };
    record.undo = fanfare.subscribe(record.pattern, record.how, (event) => record.got.push(event));
    records.push(record);
  };
  subscribe();
  await fanfare.ready();
  for (let n = 0; n < 150; n++) {
    const deed = dice.below(100);
    if (deed < 70) await publish(broker, dice.one(TOPICS), n);
    else if (deed < 80) subscribe();
    else if (deed < 85 && records.length > 2) records.splice(dice.below(records.length), 1)[0].undo();
    else if (deed < 92) proxy.drop();
    else if (deed < 93) await broker.restart();
    else if (deed < 95) fanfare.reconnect();
    if (dice.may(0.3)) await new Promise((next) => setTimeout(next, dice.below(30)));
  }
  await fanfare.ready();
  for (const topic of TOPICS) await publish(broker, topic, "last");
  const kept = await log(broker);
  for (const { pattern, how, got } of records) {
    const matches = matcher(pattern);
    const all = kept.filter(({ topic }) => matches(topic));
    const newest = new Map(all.map(({ topic, id }) => [topic, id]));
    const shows = (topic) => got.findLast((event) => event.topic === topic)?.id === newest.get(topic);
    await eventually(() => [...newest.keys()].every(shows), `seed ${seed}: ${pattern} ${JSON.stringify(how)} shows what is newest`);
    if (how.latest || how.maxRate) continue;
    const ids = got.filter(({ snapshot }) => !snapshot).map(({ id }) => id);
    const from = all.findIndex(({ id }) => id === ids[0]);
    assert.deepEqual(ids, all.slice(from).map(({ id }) => id), `seed ${seed}: ${pattern} ${JSON.stringify(how)}`);
    if (how.since) assert.equal(from, 0);
  }
  assert.deepEqual(gaps, []);
}

const seeds = process.env.FANFARE_SEED ? [Number(process.env.FANFARE_SEED)] : [...Array(SEEDS).keys()];
for (const seed of seeds) {
  test(`R9 life ${seed} with a real broker: each event once, in order`, { timeout: 120_000 }, (t) => live(t, seed, {}));
}
test("R9 and R21 a life with a real broker over event streams: each event once, in order", { timeout: 120_000 }, (t) => live(t, 100, { WebSocket: null }));

// Batches, and what becomes of all that is published where the broker is killed again and again.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { publishAll } from "../fanfare/batches.js";
import { client, eventually, startBroker, startProxy, tokenFor } from "./harness.mjs";

const options = { timeout: 120_000 };
const SECRET = "a-secret-for-this-test-and-no-other-0123456789";

/** What the broker keeps of a topic, oldest first. */
async function kept({ url }, topic) {
  const events = [];
  for (let since = "-1h"; since !== undefined;) {
    const page = await (await fetch(`${url}/v1/topics/${topic}/events?limit=1000&since=${since}`)).json();
    events.push(...page.events);
    since = page.events.length ? page.next : undefined;
  }
  return events;
}

const dataOf = (events) => events.map(({ data }) => data);
const numbers = (count, topic = "a") => Array.from({ length: count }, (_, data) => ({ topic, data }));

/** Something at the broker's place that answers as `answer(request)` says, `[status, body, headers]`, or not at all. */
async function startStandIn(t, answer) {
  const asked = [];
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const part of request) body += part;
    asked.push({ headers: request.headers, body });
    const said = answer(asked.length, request);
    if (!said) return request.socket.destroy();
    response.writeHead(said[0], { "Content-Type": "application/json", ...said[2] }).end(typeof said[1] === "string" ? said[1] : JSON.stringify(said[1]));
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  t.after(() => { server.closeAllConnections(); server.close(); });
  return { url: `http://127.0.0.1:${server.address().port}`, asked };
}

test("R34: a batch is one request, and each event has its receipt", options, async (t) => {
  const broker = await startBroker(t);
  const { fanfare } = client(t, broker.url);
  const receipts = await publishAll(fanfare, [
    { topic: "a", data: { text: "é" }, type: "said" },
    { topic: "b", data: 1, version: 2 },
    { topic: "b", data: 0, version: 1 },
    { topic: "c", data: null, keep: false },
    { topic: "a", removed: true },
  ]);
  assert.equal(receipts.length, 5);
  assert.deepEqual(receipts.map(({ id }) => Boolean(id)), [true, true, false, false, true]);
  assert.deepEqual(receipts[2], { superseded: true, version: 2 });
  const [first, last] = await kept(broker, "a");
  assert.deepEqual([first.data, first.type, first.id, last.removed, last.id], [{ text: "é" }, "said", receipts[0].id, true, receipts[4].id]);
  assert.deepEqual(await publishAll(fanfare, []), []);
  assert.equal(fanfare.state, "idle", "it needs no session");
});

test("R34: what is too much for a batch is several, each once under its key", options, async (t) => {
  const broker = await startBroker(t);
  const { fanfare } = client(t, broker.url);
  const stream = async function* () { yield* numbers(2300); };
  const first = await publishAll(fanfare, stream(), { key: "mine" });
  const again = await publishAll(fanfare, numbers(2300), { key: "mine" });
  assert.deepEqual(again.map(({ id }) => id), first.map(({ id }) => id));
  assert.ok(again.every(({ repeated }) => repeated) && first.every(({ repeated }) => !repeated));
  assert.deepEqual(dataOf(await kept(broker, "a")), numbers(2300).map(({ data }) => data));
  const large = "é".repeat(20_000);
  await publishAll(fanfare, Array.from({ length: 300 }, () => ({ topic: "large", data: large })));
  assert.equal((await kept(broker, "large")).length, 300, "12 MB come in batches that a broker takes");
});

test("R34: a refusal names the event, and what is stored before it", options, async (t) => {
  const broker = await startBroker(t);
  const { fanfare } = client(t, broker.url);
  const events = numbers(2300);
  events[1500] = { topic: "no topic", data: 0 };
  const refused = await publishAll(fanfare, events, { key: "k" }).catch((error) => error);
  assert.deepEqual([refused.code, refused.index, refused.receipts.length, refused.key], ["invalid_topic", 1500, 1000, "k"]);
  assert.equal((await kept(broker, "a")).length, 1000, "of its own batch nothing is stored");
  events[1500] = { topic: "a", data: 1500 };
  await publishAll(fanfare, events, { key: "k" });
  assert.deepEqual(dataOf(await kept(broker, "a")), numbers(2300).map(({ data }) => data));

  const { id } = await fanfare.publish("seat", "ann");
  const taken = await publishAll(fanfare, [{ topic: "b", data: 1 }, { topic: "seat", data: "bob", if_latest: "absent" }]).catch((error) => error);
  assert.deepEqual([taken.code, taken.index, taken.event.id], ["not_latest", 1, id]);
  assert.deepEqual(await kept(broker, "b"), []);
  await assert.rejects(publishAll(fanfare, numbers(1, "other"), { key: "k" }), { code: "idempotency_mismatch" });
});

test("R34: a broker that is away is waited for, as long as is said", options, async (t) => {
  const broker = await startBroker(t);
  const { fanfare } = client(t, broker.url);
  await broker.stop();
  await assert.rejects(publishAll(fanfare, numbers(1), { timeout: 300 }), { code: "timeout" });
  await assert.rejects(publishAll(fanfare, numbers(1), { signal: AbortSignal.abort() }), { code: "aborted" });
  await assert.rejects(publishAll(fanfare, numbers(1), { timeout: 0, signal: AbortSignal.timeout(100) }), ({ code }) => /^(aborted|outcome_unknown)$/.test(code));
  const waiting = publishAll(fanfare, numbers(3), { timeout: 0 });
  await broker.start();
  assert.equal((await waiting).length, 3);
  assert.deepEqual(dataOf(await kept(broker, "a")), [0, 1, 2]);
  fanfare.close();
  await broker.stop();
  await assert.rejects(publishAll(fanfare, numbers(1)), { code: "closed" });
});

test("R34: what passes is repeated with the same key and body, and what does not is told", options, async (t) => {
  const events = [{ id: "x-1-1", topic: "a", time: "…" }];
  const answers = [
    [429, { code: "too_many", detail: "…" }, { "Retry-After": "0" }],
    [502, "<html>Bad Gateway", { "Content-Type": "text/html" }],
    null,
    [409, { code: "in_progress", detail: "…" }],
    [200, { events }],
  ];
  const standIn = await startStandIn(t, (attempt) => answers[attempt - 1]);
  const { fanfare } = client(t, standIn.url);
  assert.deepEqual(await publishAll(fanfare, numbers(1)), [{ id: "x-1-1", repeated: true }]);
  assert.equal(standIn.asked.length, answers.length);
  assert.equal(new Set(standIn.asked.map(({ headers, body }) => headers["idempotency-key"] + body)).size, 1);

  const closed = await startStandIn(t, () => null);
  await assert.rejects(publishAll(client(t, closed.url).fanfare, numbers(1), { timeout: 50 }), { code: "outcome_unknown" });
  // It may have been stored before the right was lost.
  const lost = await startStandIn(t, (attempt) => attempt === 1 ? null : [403, { code: "forbidden", detail: "…" }]);
  await assert.rejects(publishAll(client(t, lost.url).fanfare, numbers(1)), { code: "outcome_unknown" });
  const refused = await startStandIn(t, () => [403, { code: "forbidden", detail: "…" }]);
  await assert.rejects(publishAll(client(t, refused.url).fanfare, numbers(1)), { code: "forbidden" });
  assert.equal(refused.asked.length, 1);
});

test("R19: a batch shows the token of its client, and a fresh one where that was refused", options, async (t) => {
  const broker = await startBroker(t, { FANFARE_AUTH_JWT_SECRET: SECRET });
  const seconds = [-600, 3600];
  const { fanfare } = client(t, broker.url, { token: () => tokenFor(SECRET, { seconds: seconds.shift() ?? 3600 }) });
  await publishAll(fanfare, numbers(2));
  await assert.rejects(publishAll(client(t, broker.url, { token: tokenFor("another-secret-that-the-broker-knows-not-0123") }).fanfare, numbers(1)), { code: "unauthorized" });
});

test("R34: the README's batch works as printed, in any Node", options, async (t) => {
  const broker = await startBroker(t);
  const readme = await readFile(new URL("../README.md", import.meta.url), "utf8");
  const [, script] = /```js\n(import [^`]*publishAll[^`]*)```/.exec(readme);
  const printed = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", script.replace("http://127.0.0.1:8080", broker.url)], { cwd: fileURLToPath(new URL("..", import.meta.url)) });
  assert.equal(printed.stderr, "");
  assert.deepEqual(dataOf(await kept(broker, "stock.socks")), [17]);
  assert.equal((await kept(broker, "stock.hats"))[0].removed, true);
});

test("R1: batches are no more than 2,816 bytes, compressed", options, async (t) => {
  const { length } = gzipSync(await readFile(new URL("../fanfare/batches.js", import.meta.url)), { level: 9 });
  t.diagnostic(`${length} bytes`);
  assert.ok(length <= 2816, `${length} bytes`);
});

// ---- kill -9 ----------------------------------------------------------------------------------

/** Numbers below 1 that follow from a seed. */
function chances(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const place = (id) => id.split("-").slice(1).map(Number);
const isBefore = ([epoch, sequence], [otherEpoch, other]) => epoch < otherEpoch || epoch === otherEpoch && sequence < other;

for (const [name, WebSocketOf] of [["a WebSocket", undefined], ["event streams", null]]) {
  test(`R34: over kill -9 nothing that is published alone or in batches is lost, doubled or out of place, over ${name}`, options, async (t) => {
    const KILLS = 5, SINGLES = 800, BATCHES = 20, BATCH = 60;
    const random = chances(7);
    const broker = await startBroker(t);
    const way = await startProxy(t, broker.port);
    const given = { queue: true, ...WebSocketOf === null && { WebSocket: null } };
    const { fanfare, gaps } = client(t, way.url, given);
    const reader = client(t, way.url, given);
    const came = [];
    reader.fanfare.subscribe("crash.>", ({ topic, id, data }) => came.push({ topic, id, data }));
    await reader.is("live");

    let kills = 0;
    const acknowledged = { "crash.alone": [], "crash.together": [], "crash.batches": [] };
    const note = (topic, data, { id }) => acknowledged[topic].push({ id, data });
    const go = (at, all) => kills < KILLS ? at < all || at / all < 5 : at < all;
    const writers = [
      // One after the other, which keeps the order on any way.
      (async () => {
        for (let n = 0; go(n, SINGLES); n++) note("crash.alone", n, await fanfare.publish("crash.alone", n));
      })(),
      // Many at a time; a WebSocket keeps their order.
      (async () => {
        for (let n = 0; go(n, SINGLES); n += 40) {
          const some = Array.from({ length: 40 }, (_, at) => n + at);
          const receipts = await Promise.all(some.map((data) => fanfare.publish("crash.together", data)));
          receipts.forEach((receipt, at) => note("crash.together", some[at], receipt));
        }
      })(),
      (async () => {
        for (let n = 0; go(n / BATCH, BATCHES); n += BATCH) {
          const some = Array.from({ length: BATCH }, (_, at) => ({ topic: "crash.batches", data: n + at }));
          const receipts = await publishAll(fanfare, some, { timeout: 0 });
          receipts.forEach((receipt, at) => note("crash.batches", n + at, receipt));
        }
      })(),
    ];
    const killer = (async () => {
      const count = () => Object.values(acknowledged).reduce((sum, { length }) => sum + length, 0);
      for (; kills < KILLS; kills++) {
        // In the midst of things: when some more were acknowledged, and others are under way.
        const enough = count() + 30 + 200 * random();
        await eventually(() => count() >= enough, "writers get on");
        if (random() < 0.5) way.drop();
        await broker.restart();
      }
    })();
    await Promise.all([...writers, killer]);

    const all = Object.values(acknowledged).flat();
    t.diagnostic(`${all.length} events over ${kills} kills`);
    assert.ok(all.length >= 2 * SINGLES + BATCHES * BATCH);
    await eventually(() => came.length >= all.length, "all of them come");
    for (const [topic, events] of Object.entries(acknowledged)) {
      const found = (await kept(broker, topic)).map(({ id, data }) => ({ id, data }));
      const heard = came.filter((event) => event.topic === topic).map(({ id, data }) => ({ id, data }));
      assert.deepEqual(heard, found, `${topic}: what came is what is kept, in its order`);
      const isOrdered = WebSocketOf !== null || topic !== "crash.together";
      if (!isOrdered) found.sort((one, other) => one.data - other.data);
      assert.deepEqual(found, events, `${topic}: kept is what was acknowledged, once${isOrdered ? ", in order" : ""}`);
      assert.deepEqual(dataOf(found), events.map((_, at) => at));
    }
    const places = came.map(({ id }) => place(id));
    assert.ok(places.every((each, at) => at === 0 || isBefore(places[at - 1], each)), "one order over all topics");
    assert.deepEqual([gaps, reader.gaps], [[], []]);
  });
}

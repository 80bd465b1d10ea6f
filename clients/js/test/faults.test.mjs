// What else may go wrong: brokers that stand still, nodes that die, tokens that end in the midst of things, and the faults that
// others had when "current state, then live" was young (each is a kind: G1 to G8).

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { client, eventually, modelSocket, publish, publishAll, startBroker, startProxy, startRedis, tokenFor, watchedSocket } from "./harness.mjs";
import { ModelBroker } from "./model.mjs";

const options = { timeout: 120_000 };
const SECRET = "a-secret-for-this-test-and-no-other-0123456789";

/** Subscribes to numbers, and says how many came and that none is missing, double or out of turn. */
function numbers(fanfare, how = {}, topic = "numbers") {
  const got = [];
  fanfare.subscribe(topic, how, ({ data }) => got.push(data.n ?? data));
  return { got, check: () => assert.deepEqual(got, got.map((_, n) => n)) };
}

test("R33 a broker that stands still for a while, and goes on, costs nothing", options, async (t) => {
  const broker = await startBroker(t, { FANFARE_SERVER_HEARTBEAT: "1s" });
  const { fanfare, is, gaps, tells, why } = client(t, broker.url);
  const all = numbers(fanfare, { tail: 100 });
  await is("live");
  await fanfare.publish("numbers", 0);
  broker.signal("SIGSTOP");
  const answer = fanfare.publish("numbers", 1);
  await tells("waiting");
  assert.equal(why(), "silence");
  broker.signal("SIGCONT");
  await answer;
  await fanfare.publish("numbers", 2, { queue: true });
  await eventually(() => all.got.length === 3);
  all.check();
  assert.deepEqual(gaps, []);
});

test("R33 a node of a cluster that is gone is left for another one, and nothing is lost or doubled", options, async (t) => {
  const redis = await startRedis(t);
  const [one, other] = [await startBroker(t, redis), await startBroker(t, redis)];
  const proxy = await startProxy(t, one.port);
  const { fanfare, is, gaps } = client(t, proxy.url, { queue: true });
  const all = numbers(fanfare, { tail: 1000 });
  await is("live");
  const answers = [];
  for (let n = 0; n < 60; n++) {
    answers.push(fanfare.publish("numbers", n));
    if (n % 10 === 0) await answers.at(-1);
    if (n !== 25) continue;
    proxy.port = other.port;
    await one.stop("SIGKILL");
  }
  await Promise.all(answers);
  await publish(other, "numbers", 60);
  await eventually(() => all.got.length >= 61);
  // What was under way is sent again, and may be stored in another order than that in which it was said.
  const { events } = await (await fetch(`${other.url}/v1/topics/numbers/events?limit=1000`)).json();
  assert.deepEqual(all.got, events.map(({ data }) => data));
  assert.deepEqual([...all.got].sort((a, b) => a - b), all.got.map((_, n) => n));
  assert.deepEqual(gaps, []);
});

/** Events of `size` bytes and more, which no compression makes small: `{n, text}`. */
const large = (count, size) => Array.from({ length: count }, (_, n) => ["numbers", { n, text: randomBytes(size / 2).toString("hex") }]);

for (const WebSocket of [undefined, null]) {
  const over = WebSocket === null ? "event streams" : "WebSockets";
  test(`R33 G3 a token that ends in the midst of a replay is followed by another one, and nothing is lost or doubled (${over})`, options, async (t) => {
    const broker = await startBroker(t, { FANFARE_AUTH_JWT_SECRET: SECRET, FANFARE_AUTH_LEEWAY: "0s", FANFARE_LIMITS_OUTBOX_BYTES: "64KiB" });
    const headers = { Authorization: `Bearer ${tokenFor(SECRET)}` };
    const count = 1500;
    await publishAll(broker, large(count, 4000), headers);
    const proxy = await startProxy(t, broker.port);
    let asked = 0;
    const { fanfare, is, gaps } = client(t, proxy.url, { ...WebSocket === null && { WebSocket }, token: () => tokenFor(SECRET, { seconds: asked++ ? 3600 : 2 }) });
    const all = numbers(fanfare, { since: "-1h" });
    await eventually(() => all.got.length > 10, "the replay is under way");
    proxy.hold();
    const held = all.got.length;
    // Its token ends, and the broker says so behind what it has sent already.
    await new Promise((later) => setTimeout(later, 2500));
    assert.ok(held < count, `${held} came before it could be held back`);
    proxy.flow();
    await publishAll(broker, [["numbers", { n: count }]], headers);
    await eventually(() => all.got.length === count + 1);
    await is("live");
    all.check();
    assert.ok(asked > 1);
    assert.deepEqual(gaps, []);
  });
}

test("R33 G3 a token that is renewed in the midst of a snapshot changes nothing of it, and one that grants less does at once", options, async (t) => {
  const broker = await startBroker(t, { FANFARE_AUTH_JWT_SECRET: SECRET });
  const headers = { Authorization: `Bearer ${tokenFor(SECRET)}` };
  const topics = Array.from({ length: 800 }, (_, n) => `${n % 2 ? "ok" : "no"}.${n}`);
  await publishAll(broker, topics.map((topic) => [topic, { text: "x".repeat(2000) }]), headers);
  const proxy = await startProxy(t, broker.port);
  const grants = [[">"], [">"], ["ok.>"]];
  const { fanfare, is, errors, gaps } = client(t, proxy.url, { token: () => tokenFor(SECRET, { subscribe: grants.shift() }) });
  const got = new Map();
  let renewed;
  fanfare.subscribe("*.*", { snapshot: true }, ({ topic }) => {
    got.set(topic, (got.get(topic) ?? 0) + 1);
    if (got.size === 50) renewed = fanfare.renew();
  });
  await is("live");
  await renewed;
  assert.equal(got.size, topics.length);
  assert.deepEqual(new Set(got.values()), new Set([1]));
  assert.deepEqual(gaps, []);
  await fanfare.renew();
  got.clear();
  for (const topic of ["no.1", "ok.1"]) await publish(broker, topic, 1, headers);
  await eventually(() => got.has("ok.1"));
  assert.equal(got.has("no.1"), false);
  assert.deepEqual(errors, []);
});

test("R33 G1 where the history is gone that a place stands in, there is one gap, and then what is current", options, async (t) => {
  const broker = await startBroker(t, { FANFARE_HISTORY_MAX_EVENTS: "3" });
  const proxy = await startProxy(t, broker.port);
  const { fanfare, is, gaps } = client(t, proxy.url);
  const tile = [], list = [], once = [];
  fanfare.subscribe("a", { snapshot: true, onGap: () => tile.push("gap"), onLive: () => tile.push("live") }, ({ data }) => tile.push(data));
  fanfare.subscribe("a", { onGap: () => list.push("gap"), onLive: () => list.push("live") }, ({ data }) => list.push(data));
  fanfare.subscribe("quiet", { onGap: () => once.push("gap") }, ({ data }) => once.push(data));
  await is("live");
  await publish(broker, "a", 0);
  await publish(broker, "quiet", 0);
  await eventually(() => list.includes(0) && tile.includes(0) && once.length === 1);
  await proxy.cut();
  await is("waiting");
  for (let n = 1; n < 9; n++) await publish(broker, "a", n);
  await proxy.mend();
  fanfare.reconnect();
  await is("live");
  assert.deepEqual(tile, ["live", 0, "gap", 8, "live"]);
  assert.deepEqual(list, ["live", 0, "gap", 6, 7, 8, "live"]);
  // The newest position is there, and everything before it is not.
  await proxy.cut();
  await is("waiting");
  await publish(broker, "a", 9);
  assert.ok((await fetch(`${broker.url}/v1/topics/a/events`, { method: "DELETE" })).ok);
  await proxy.mend();
  fanfare.reconnect();
  await is("live");
  assert.deepEqual(tile.slice(5), ["gap", "live"]);
  assert.deepEqual(list.slice(7), ["gap", "live"]);
  const told = gaps.length, { session } = fanfare;
  fanfare.reconnect();
  // It may be live again between two looks.
  await eventually(() => fanfare.session && fanfare.session !== session && fanfare.state === "live");
  assert.equal(gaps.length, told, "and it is told once");
});

for (const WebSocket of [undefined, null]) {
  const over = WebSocket === null ? "event streams" : "WebSockets";
  test(`R33 G2 what is added, changed or removed while a snapshot is read is there once, and nothing that was removed comes again (${over})`, options, async (t) => {
    const broker = await startBroker(t);
    const topics = Array.from({ length: 600 }, (_, n) => `v.${n}`);
    await publishAll(broker, topics.map((topic) => [topic, 0]));
    const proxy = await startProxy(t, broker.port);
    const writer = client(t, broker.url);
    const { fanfare, is, gaps } = client(t, proxy.url, WebSocket === null ? { WebSocket } : {});
    const shown = new Map();
    fanfare.subscribe("v.*", { snapshot: true }, ({ topic, data, removed }) => removed ? shown.delete(topic) : shown.set(topic, data));
    const answers = [];
    for (let n = 0; n < 1500; n++) {
      const topic = `v.${(n * 7) % 700}`;
      answers.push(writer.fanfare.publish(topic, n, n % 3 ? {} : { removed: true }));
      if (n % 50 === 0) await Promise.all(answers);
      if (n % 400 === 399) { proxy.drop(); fanfare.reconnect(); }
    }
    await Promise.all(answers);
    const expected = new Map();
    for (let after = ""; after !== undefined;) {
      const page = await (await fetch(`${broker.url}/v1/snapshot?match=v.*&limit=500${after && `&after=${encodeURIComponent(after)}`}`)).json();
      for (const { topic, data } of page.events) expected.set(topic, data);
      after = page.next;
    }
    const sorted = (map) => JSON.stringify([...map].sort());
    await eventually(() => fanfare.state === "live" && sorted(shown) === sorted(expected), "what is shown is what is current");
    assert.deepEqual(gaps, []);
    await is("live");
  });
}

const WAYS = [{}, { snapshot: true }, { last: 2 }, { tail: 4 }, { since: "-1h" }, { latest: true }, { latest: true, snapshot: true }, { maxRate: 50, last: 2 }];

test("R33 G4 each kind of event comes in each way to subscribe, and none stops a client", options, async (t) => {
  const broker = await startBroker(t);
  const kinds = {
    plain: (publishing, topic) => publishing(topic, { a: 1 }),
    null: (publishing, topic) => publishing(topic, null),
    typed: (publishing, topic) => publishing(topic, "a text", { type: "said" }),
    passing: (publishing, topic) => publishing(topic, 1, { keep: false }),
    removed: (publishing, topic) => publishing(topic, undefined, { removed: true }),
    versioned: (publishing, topic) => publishing(topic, 1, { version: 7, epoch: "one" }),
    expiring: (publishing, topic) => publishing(topic, 1, { ttl_ms: 60_000 }),
    binary: (_, topic) => fetch(`${broker.url}/v1/topics/${topic}/events`, { method: "POST", headers: { "Content-Type": "image/png" }, body: new Uint8Array([1, 2, 255]) }),
  };
  const forms = [{}, { raw: true }, { parse: (raw) => ({ raw }) }, { schemas: { ">": { "~standard": { validate: (value) => ({ value }) } } } }, { WebSocket: null }];
  const clients = forms.map((form) => {
    const own = client(t, broker.url, form);
    const records = WAYS.map((how) => {
      const got = [];
      // Each in a session's own pattern, for one with all the events speaks for others with the same.
      own.fanfare.subscribe("k.*", how, ({ topic }) => got.push(topic));
      return { how, got };
    });
    return { ...own, form, records };
  });
  const writer = client(t, broker.url);
  for (const { is } of clients) await is("live");
  for (const [kind, say] of Object.entries(kinds)) await say((...given) => writer.fanfare.publish(...given), `k.${kind}`);
  await writer.fanfare.publish("k.end", 1);
  for (const { records, form, errors } of clients) {
    for (const { how, got } of records) {
      const name = `${Object.keys(form)} ${JSON.stringify(how)}`;
      await eventually(() => got.includes("k.end"), name);
      assert.deepEqual([...got].sort(), [...Object.keys(kinds), "end"].map((kind) => `k.${kind}`).sort(), name);
    }
    assert.deepEqual(errors.filter(({ code }) => code !== "no_websocket"), []);
  }
});

test("R33 G5 the place moves behind the hand-over: whatever a handler does, each event comes once", options, async (t) => {
  const broker = await startBroker(t);
  const proxy = await startProxy(t, broker.port);
  const { fanfare, is, errors, gaps } = client(t, proxy.url);
  const got = [];
  const deeds = {
    1: () => { throw new Error("mine"); },
    2: () => proxy.drop(),
    3: () => fanfare.reconnect(),
    4: () => { fanfare.disconnect(); setTimeout(() => fanfare.reconnect()); },
    5: ({ id }) => { undo(); undo = fanfare.subscribe("a", { since: id }, heard); },
    6: ({ id }) => { undo(); proxy.drop(); undo = fanfare.subscribe("a", { since: id }, heard); },
    7: () => fanfare.subscribe("a", { tail: 3 }, ({ data }) => tail.push(data)),
    8: () => fanfare.subscribe("other", { snapshot: true }, () => {}),
  };
  const tail = [];
  const heard = (event) => { got.push(event.data); deeds[event.data]?.(event); };
  let undo = fanfare.subscribe("a", heard);
  await is("live");
  for (let n = 0; n < 12; n++) {
    await publish(broker, "a", n);
    if (n % 2) await eventually(() => got.length > n && fanfare.state === "live");
  }
  await eventually(() => got.length === 12 && tail.at(-1) === 11);
  assert.deepEqual(got, got.map((_, n) => n));
  assert.deepEqual(tail, tail.map((_, n) => tail[0] + n));
  assert.deepEqual(errors.map(({ code, message }) => [code, message]), [["handler", "mine"]]);
  assert.deepEqual(gaps, []);
});

for (const WebSocket of [undefined, null]) {
  const over = WebSocket === null ? "event streams" : "WebSockets";
  test(`R33 G6 a catch-up that is broken off again and again goes on where it was (${over})`, options, async (t) => {
    const broker = await startBroker(t);
    await publishAll(broker, large(300, 500));
    const proxy = await startProxy(t, broker.port);
    proxy.bytes = 80_000;
    const { fanfare, gaps } = client(t, proxy.url, WebSocket === null ? { WebSocket } : {});
    fanfare.on("state", ({ state }) => { if (state === "waiting") fanfare.reconnect(); });
    const all = numbers(fanfare, { since: "-1h" });
    const tail = numbers(fanfare, { tail: 1000 });
    await eventually(() => all.got.length === 300 || all.got.length && proxy.connects > 2);
    await publishAll(broker, [["numbers", { n: 300 }]]);
    await eventually(() => all.got.length > 150);
    proxy.bytes = Infinity;
    await eventually(() => all.got.length === 301 && tail.got.length === 301);
    all.check();
    tail.check();
    assert.ok(proxy.connects > 2, `${proxy.connects} connections`);
    assert.deepEqual(gaps, []);
  });
}

test("R33 G7 what is mounted twice is one subscription, each hears each event once, and the first unmount ends nobody else's", options, async (t) => {
  const broker = await startBroker(t);
  const socket = watchedSocket();
  const { fanfare, is } = client(t, broker.url, { WebSocket: socket });
  const got = [];
  const mount = (name) => fanfare.subscribe("a", { snapshot: true }, ({ data }) => got.push(`${name} ${data}`));
  await publish(broker, "a", 1);
  mount("first")();
  const second = mount("second");
  const other = mount("other");
  await is("live");
  assert.deepEqual(got, ["second 1", "other 1"]);
  other();
  await publish(broker, "a", 2);
  await eventually(() => got.length === 3);
  assert.deepEqual(got.slice(2), ["second 2"]);
  assert.deepEqual(socket.sent.map(({ op }) => op), ["subscribe"]);
  second();
});

test("R33 G8 no option brings an event without a right", options, async (t) => {
  const broker = await startBroker(t, { FANFARE_AUTH_JWT_SECRET: SECRET });
  const headers = { Authorization: `Bearer ${tokenFor(SECRET)}` };
  const say = async (n) => { for (const topic of ["no.a", "ok.a", "no.b", "ok.b"]) await publish(broker, topic, n, headers); };
  await say(1);
  const records = [];
  for (const form of [{}, { raw: true }, { WebSocket: null }]) {
    const { fanfare, is } = client(t, broker.url, { ...form, token: () => tokenFor(SECRET, { subscribe: ["ok.*"] }) });
    for (const how of WAYS) {
      const record = { name: `${Object.keys(form)} ${JSON.stringify(how)}`, got: [], refused: 0 };
      records.push(record);
      fanfare.subscribe("*.*", how, ({ topic, data }) => record.got.push([topic, data]));
      fanfare.subscribe("no.*", { ...how, onError: () => { record.refused += 1; } }, ({ topic, data }) => record.got.push([topic, data]));
    }
    await is("live");
  }
  await say(2);
  for (const { name, got, refused } of records) {
    await eventually(() => got.some(([topic, data]) => topic === "ok.b" && data === 2) && refused, name);
    assert.deepEqual(got.filter(([topic]) => !topic.startsWith("ok.")), [], name);
  }
});

test("R33 20,000 events come through as fast as they can, each once, in order", options, async (t) => {
  const broker = new ModelBroker();
  const WebSocket = modelSocket(broker);
  const { fanfare, is } = client(t, "http://broker.example", { WebSocket });
  const count = 20_000;
  let all = 0, wild = 0, inOrder = true;
  fanfare.subscribe("a.x", ({ data }) => { inOrder &&= data === `a.x/${++all}`; });
  fanfare.subscribe("a.*", () => { wild += 1; });
  await is("live");
  const begun = performance.now();
  for (let n = 0; n < count; n++) {
    broker.publish("a.x");
    WebSocket.opened[0].pump();
  }
  const seconds = (performance.now() - begun) / 1000;
  t.diagnostic(`${Math.round(count / seconds)} events a second`);
  assert.deepEqual([all, wild, inOrder], [count, count, true]);
});

test("R33 a burst of 20,000 events of a real broker comes through, each once, in order", options, async (t) => {
  const broker = await startBroker(t, { FANFARE_HISTORY_STORAGE: "memory" });
  const { fanfare, is, gaps } = client(t, broker.url);
  const all = numbers(fanfare);
  await is("live");
  await publishAll(broker, large(20_000, 0));
  await eventually(() => all.got.length === 20_000);
  all.check();
  assert.deepEqual(gaps, []);
});

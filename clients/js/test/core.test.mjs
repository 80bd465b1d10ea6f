// Subscribing and resuming, against a real broker.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Fanfare } from "../fanfare.js";
import { client, eventually, publish, startBroker, startProxy, watchedSocket } from "./harness.mjs";

const options = { timeout: 60_000 };

test("the first lines of the README work", options, async (t) => {
  const broker = await startBroker(t);
  const { fanfare } = client(t, broker.url);
  const got = [];
  fanfare.subscribe("demo.>", { snapshot: true }, ({ topic, data }) => got.push([topic, data]));
  const { id } = await fanfare.publish("demo.first", { hello: "world" });
  assert.match(id, /^\w+-\d+-\d+$/);
  await eventually(() => got.length > 0);
  assert.deepEqual(got, [["demo.first", { hello: "world" }]]);
});

test("R5 an undo takes back exactly itself, however often it is called, and is also a disposer and a signal", options, async (t) => {
  const broker = await startBroker(t);
  const { fanfare, is } = client(t, broker.url);
  const got = [];
  const stop = new AbortController();
  const handler = () => got.push("same");
  const first = fanfare.subscribe("a", handler);
  const second = fanfare.subscribe("a", handler);
  const third = fanfare.subscribe("a", { signal: stop.signal }, () => got.push("signal"));
  const last = fanfare.subscribe("a", () => got.push("last"));
  await is("live");
  await fanfare.publish("a", 1);
  await eventually(() => got.length === 4);
  first();
  first();
  stop.abort();
  await fanfare.publish("a", 2);
  await eventually(() => got.length === 6);
  assert.deepEqual(got.slice(4), ["same", "last"]);
  third[Symbol.dispose ?? "call"]?.();
  second();
  await fanfare.publish("a", 3);
  await eventually(() => got.length === 7);
  last();
  let heard = 0;
  const undo = fanfare.on("event", () => { heard += 1; });
  undo();
  undo();
  fanfare.subscribe("a", () => got.push("new"));
  await fanfare.publish("a", 4);
  await eventually(() => got.length === 8);
  assert.equal(heard, 0);
});

test("R6 many handlers of a pattern are one subscription, and what was mounted twice says nothing about it", options, async (t) => {
  const broker = await startBroker(t);
  const socket = watchedSocket();
  const { fanfare, is } = client(t, broker.url, { WebSocket: socket });
  // As React's StrictMode does: mount, unmount, mount.
  const twice = () => { fanfare.subscribe("a.*", { snapshot: true }, () => {})(); return fanfare.subscribe("a.*", { snapshot: true }, () => {}); };
  const undos = [twice(), twice(), fanfare.subscribe("a.*", { snapshot: true }, () => {})];
  await is("live");
  assert.deepEqual(socket.sent.map(({ op, topics, snapshot }) => ({ op, topics, snapshot })), [{ op: "subscribe", topics: ["a.*"], snapshot: true }]);
  // Who only wants what comes says nothing at all.
  undos.push(fanfare.subscribe("a.*", () => {}));
  undos.pop()();
  undos.pop()();
  undos.pop()();
  await fanfare.publish("a.x", 1);
  assert.deepEqual(socket.of("unsubscribe"), []);
  const last = undos.pop();
  last();
  fanfare.subscribe("a.*", () => {});
  await fanfare.publish("a.x", 2);
  assert.deepEqual(socket.of("unsubscribe"), [], "one was there in the same turn");
});

test("R6 the last undo gives the subscription back", options, async (t) => {
  const broker = await startBroker(t);
  const socket = watchedSocket();
  const { fanfare, is } = client(t, broker.url, { WebSocket: socket });
  fanfare.subscribe("b", () => {});
  const undo = fanfare.subscribe("a", () => {});
  await is("live");
  undo();
  await eventually(() => socket.of("unsubscribe").length === 1);
  assert.deepEqual(socket.of("unsubscribe")[0].topics, ["a"]);
});

test("R7 nothing is opened before something is wanted, and what nobody wants any more is closed", options, async (t) => {
  const broker = await startBroker(t);
  const socket = watchedSocket();
  const { fanfare, is, states } = client(t, broker.url, { WebSocket: socket, idleClose: 50 });
  await new Promise(setImmediate);
  assert.equal(fanfare.state, "idle");
  assert.equal(socket.opened.length, 0);
  const undo = fanfare.subscribe("a", () => {});
  await is("live");
  undo();
  await is("idle");
  await eventually(() => socket.opened[0].readyState === 3);
  await fanfare.publish("a", 1);
  await is("idle");
  assert.deepEqual(states.map(({ state }) => state), ["connecting", "live", "idle", "connecting", "live", "idle"]);
});

test("R8 after a cut one subscribe for each way to subscribe carries all its patterns and the cursor", options, async (t) => {
  const broker = await startBroker(t);
  const proxy = await startProxy(t, broker.port);
  const socket = watchedSocket();
  const { fanfare, is } = client(t, proxy.url, { WebSocket: socket });
  const got = [];
  for (let n = 0; n < 20; n++) fanfare.subscribe(`plain.${n}`, ({ data }) => got.push(data));
  for (let n = 0; n < 20; n++) fanfare.subscribe(`tile.${n}`, { snapshot: true }, ({ data }) => got.push(data));
  for (let n = 0; n < 5; n++) fanfare.subscribe(`slow.${n}`, { maxRate: 5 }, ({ data }) => got.push(data));
  await is("live");
  await publish(broker, "plain.3", 1);
  const id = await publish(broker, "tile.3", 2);
  await eventually(() => got.length === 2);
  socket.sent.length = 0;
  await proxy.cut();
  await is("waiting");
  await publish(broker, "plain.4", 3);
  await publish(broker, "tile.4", 4);
  await proxy.mend();
  await is("live");
  await eventually(() => got.length === 4);
  assert.deepEqual(got, [1, 2, 3, 4]);
  const asked = socket.of("subscribe");
  assert.deepEqual(asked.map(({ topics, snapshot, max_rate }) => [topics.length, snapshot, max_rate]), [[20, undefined, undefined], [20, true, undefined], [5, undefined, 5]]);
  assert.ok(asked.slice(0, 2).every(({ since }) => since === id));
  assert.ok(asked[2].since);
});

const RULES = { FANFARE_AUTH_API_KEYS: "a-key-for-this-test-and-no-other-0123456789", FANFARE_TOPICS: '[{match = "open.>", subscribe = "anyone", publish = "anyone"}, {match = ">", subscribe = "nobody"}]' };

test("R8 of a subscribe that is refused each pattern gets its own verdict", options, async (t) => {
  const broker = await startBroker(t, RULES);
  const { fanfare, errors } = client(t, broker.url);
  const live = [], refused = [];
  for (const pattern of ["open.a", "open.b", "shut.a", "open.c", "shut.b", "open.d"]) {
    fanfare.subscribe(pattern, { snapshot: true, onLive: () => live.push(pattern), onError: ({ pattern: which }) => refused.push(which) }, () => {});
  }
  await eventually(() => live.length === 4 && refused.length === 2);
  assert.deepEqual(live.sort(), ["open.a", "open.b", "open.c", "open.d"]);
  assert.deepEqual(refused.sort(), ["shut.a", "shut.b"]);
  assert.ok(errors.every(({ code }) => /unauthorized|forbidden/.test(code)), JSON.stringify(errors));
});

test("R10 a gap is told to whom it concerns, and current values come again", options, async (t) => {
  const broker = await startBroker(t);
  const proxy = await startProxy(t, broker.port);
  const { fanfare, is, gaps } = client(t, proxy.url);
  const tile = [], list = [];
  fanfare.subscribe("t.*", { snapshot: true, onGap: ({ since }) => tile.push(["gap", since]), onLive: () => tile.push("live") }, ({ data }) => tile.push(data));
  fanfare.subscribe("t.>", { onGap: () => list.push("gap"), onLive: () => list.push("live") }, ({ data }) => list.push(data));
  await is("live");
  await fanfare.publish("t.x", 1);
  await eventually(() => tile.includes(1) && list.includes(1));
  // It is back behind the event: one that is back before it is live before it.
  await proxy.cut();
  await broker.restart({ wiped: true });
  await publish(broker, "t.y", 2);
  await proxy.mend();
  await eventually(() => tile.includes(2) && list.includes(2) && tile.at(-1) === "live" && list.at(-1) === "live");
  assert.equal(tile[0], "live");
  assert.deepEqual(tile.slice(1, 2), [1]);
  assert.equal(tile[2][0], "gap");
  assert.deepEqual(tile.slice(3), [2, "live"]);
  assert.deepEqual(list, ["live", 1, "gap", 2, "live"]);
  assert.deepEqual(gaps.map(({ patterns }) => patterns.join()).sort(), ["t.*", "t.>"]);
});

test("R11 states say why and until when, and `ready` waits for all that begins", options, async (t) => {
  const broker = await startBroker(t);
  const { fanfare } = client(t, broker.url);
  const waits = [];
  fanfare.on("state", ({ state, reason, retryAt, attempt }) => { if (state === "waiting") waits.push({ reason, inMs: retryAt - Date.now(), attempt }); });
  fanfare.subscribe("a", () => {});
  await fanfare.ready();
  await broker.stop();
  await eventually(() => waits.length);
  const [{ reason, inMs, attempt }] = waits;
  assert.ok(reason.code);
  assert.ok(inMs > -2000 && inMs < 2000, `${inMs} ms`);
  assert.equal(attempt, 1);
  await broker.start();
  await fanfare.ready();
  fanfare.close();
  assert.equal(fanfare.state, "closed");
  await assert.rejects(fanfare.ready());
  assert.throws(() => fanfare.subscribe("a", () => {}), /closed/);
});

test("R13 a session that the operator ended is refused with the reason, and does not come back by itself", options, async (t) => {
  const broker = await startBroker(t);
  const { fanfare, is, errors } = client(t, broker.url);
  fanfare.subscribe("a", () => {});
  await is("live");
  assert.equal((await fetch(`${broker.url}/v1/sessions/${fanfare.session}`, { method: "DELETE" })).status, 204);
  await is("refused");
  assert.equal(errors.at(-1).code, "policy");
  await assert.rejects(fanfare.ready(), { code: "policy" });
  await assert.rejects(fanfare.publish("a", 1), { code: "offline" });
  fanfare.reconnect();
  await is("live");
});

test("R23 a handler that throws stops nobody else, and is told of", options, async (t) => {
  const broker = await startBroker(t);
  const { fanfare, errors } = client(t, broker.url);
  const got = [];
  fanfare.subscribe("a", () => { throw new Error("mine"); });
  fanfare.subscribe("a", async () => { throw new Error("mine, later"); });
  fanfare.subscribe("a", ({ data }) => got.push(data));
  for (const n of [1, 2]) await fanfare.publish("a", n);
  await eventually(() => got.length === 2 && errors.length === 4);
  assert.deepEqual(new Set(errors.map(({ code, message }) => `${code}: ${message}`)), new Set(["handler: mine", "handler: mine, later"]));
});

test("R24 a loop runs over events and gives the subscription back at its end", options, async (t) => {
  const broker = await startBroker(t);
  const socket = watchedSocket();
  const { fanfare } = client(t, broker.url, { WebSocket: socket });
  for (const n of [1, 2, 3]) await publish(broker, "a", n);
  const got = [];
  for await (const { data } of fanfare.subscribe("a", { tail: 2 })) {
    got.push(data);
    if (data === 3) await fanfare.publish("a", 4);
    if (data === 4) break;
  }
  assert.deepEqual(got, [2, 3, 4]);
  fanfare.subscribe("b", () => {});
  await eventually(() => socket.of("unsubscribe").some(({ topics }) => topics.includes("a")));
});

test("R24 a loop that does not keep up ends with an error, or leaves out what it says", options, async (t) => {
  const broker = await startBroker(t);
  const { fanfare } = client(t, broker.url);
  const loop = (overflow) => fanfare.subscribe("a.*", { buffer: 3, overflow })[Symbol.asyncIterator]();
  const loops = { throw: loop(), "drop-oldest": loop("drop-oldest"), latest: loop("latest") };
  await fanfare.ready();
  for (let n = 0; n < 6; n++) await fanfare.publish(`a.${n % 2}`, n);
  const read = async (each) => {
    const got = [];
    for (let n = 0; n < 2; n++) got.push((await each.next()).value.data);
    return got;
  };
  await new Promise(setImmediate);
  assert.deepEqual(await read(loops.latest), [4, 5]);
  assert.deepEqual(await read(loops["drop-oldest"]), [3, 4]);
  assert.deepEqual(await read(loops.throw), [0, 1]);
  assert.equal((await loops.throw.next()).value.data, 2);
  await loops.throw.next().then(() => assert.fail("it ends"), ({ code }) => assert.equal(code, "slow_consumer"));
  assert.deepEqual(await loops.throw.next(), { value: undefined, done: true });
});

test("R26 data is at hand exactly as it was sent, and may be read otherwise", options, async (t) => {
  const broker = await startBroker(t);
  const text = '{ "n": 12345678901234567890, "b": [1,{"data":2}], "a": "\\"}," }';
  await fetch(`${broker.url}/v1/topics/a/events`, { method: "POST", headers: { "Content-Type": "application/json" }, body: text });
  const { fanfare } = client(t, broker.url, { parse: (raw) => ({ raw }) });
  const got = [];
  fanfare.subscribe("a", { snapshot: true }, ({ raw, data }) => got.push([raw, data]));
  await eventually(() => got.length === 1);
  assert.deepEqual(got, [[text, { raw: text }]]);
});

test("a client needs to be told where the broker is, unless it came from one", () => {
  assert.throws(() => new Fanfare(), /say where the broker is/);
  assert.equal(new Fanfare("ws://push.example/live").url, "http://push.example/live/");
  assert.equal(new Fanfare("https://push.example/live/").url, "https://push.example/live/");
});

test("R8 the tail of a pattern is its own, whoever begins beside it", options, async (t) => {
  const broker = await startBroker(t);
  for (const topic of ["a", "b", "b", "b"]) await publish(broker, topic, 1);
  const { fanfare } = client(t, broker.url);
  const got = { a: 0, b: 0, ">": 0 };
  for (const pattern of Object.keys(got)) fanfare.subscribe(pattern, { tail: 2 }, () => { got[pattern] += 1; });
  await fanfare.ready();
  assert.deepEqual(got, { a: 1, b: 2, ">": 2 });
});

// What a client may count on, held by the broker and by `fanfare/testing` alike: each test runs on both, with the same
// assertions.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Fanfare } from "../fanfare.js";
import { TestBroker } from "../fanfare/testing.js";
import { eventually, startBroker, startProxy } from "./harness.mjs";

const options = { timeout: 60_000 };
const TOPICS = '[{match = "shut.>", subscribe = "nobody", publish = "nobody"}, {match = "room.>", presence = true, subscribe = "anyone"}, {match = "$presence.>", subscribe = "anyone"}, {match = ">", subscribe = "anyone", publish = "anyone"}]';

async function realWorld(t) {
  const broker = await startBroker(t, { FANFARE_TOPICS: TOPICS, FANFARE_AUTH_API_KEYS: "a-key-for-this-test-and-no-other-0123456789", FANFARE_LIMITS_BOUND_LINGER: "5s" });
  const proxy = await startProxy(t, broker.port);
  const ask = (path, init = {}) => fetch(new URL(path, broker.url), { ...init, headers: { "Content-Type": "application/json", ...init.headers } });
  return {
    url: proxy.url, WebSocket, ask,
    async publish(topic, data, more = {}) {
      const answer = await ask("/v1/events", { method: "POST", body: JSON.stringify({ topic, data, ...more }) });
      assert.ok(answer.ok, `${answer.status}`);
      return answer.json();
    },
    drop: () => proxy.drop(),
    wipe: () => broker.restart({ wiped: true }),
  };
}

async function testWorld(t) {
  const broker = new TestBroker({ presence: ["room.>"] });
  broker.forbid("shut.>");
  t.after(() => broker.close());
  return {
    url: broker.url, WebSocket: broker.WebSocket, ask: broker.fetch,
    publish: (...given) => broker.publish(...given),
    drop: () => broker.drop(),
    wipe: async () => { broker.wipe(); await broker.drop(); },
  };
}

/** A test that holds for both. */
function contract(name, deed) {
  for (const [kind, make] of [["the broker", realWorld], ["fanfare/testing", testWorld]]) {
    test(`R27 contract of ${kind}: ${name}`, options, async (t) => {
      const world = await make(t);
      const join = (more) => {
        const fanfare = new Fanfare(world.url, { WebSocket: world.WebSocket, ...more });
        t.after(() => fanfare.close());
        return fanfare;
      };
      await deed({ ...world, join });
    });
  }
}

/** What of an event does not depend on whose it is. */
const plain = ({ topic, data, type, removed, reason, snapshot, version, epoch }) => JSON.parse(JSON.stringify({ topic, data, type, removed, reason, snapshot, version, epoch }));

contract("each way to begin, and what comes behind it", async ({ join, publish }) => {
  for (const n of [1, 2, 3]) await publish("a.x", n);
  await publish("a.y", 4, { type: "made" });
  await publish("a.z", 5);
  await publish("a.z", null, { removed: true });
  const fanfare = join();
  const got = {};
  const ways = { plain: {}, snapshot: { snapshot: true }, last: { last: 2 }, tail: { tail: 3 }, since: { since: "-1h" }, latest: { latest: true, snapshot: true } };
  for (const [name, how] of Object.entries(ways)) fanfare.subscribe("a.*", { ...how, onLive: () => got[name].push("live") }, (event) => got[name].push(plain(event)), got[name] = []);
  await fanfare.ready();
  await publish("a.x", 6);
  await eventually(() => Object.values(got).every((list) => list.some(({ data }) => data === 6)));
  const x = (data, more) => ({ topic: "a.x", data, ...more }), y = (more) => ({ topic: "a.y", data: 4, type: "made", ...more });
  const gone = { topic: "a.z", data: null, removed: true };
  const sorted = (list) => [...list].sort((a, b) => JSON.stringify(a) < JSON.stringify(b) ? -1 : 1);
  const begins = (name, first) => assert.deepEqual([sorted(got[name].slice(0, first.length)), got[name].slice(first.length)], [sorted(first), ["live", x(6)]], name);
  const value = { snapshot: true };
  begins("plain", []);
  begins("snapshot", [x(3, value), y(value)]);
  begins("latest", [x(3, value), y(value)]);
  begins("last", [x(2, value), x(3, value), y(value)]);
  assert.deepEqual(got.tail, [y(), { topic: "a.z", data: 5 }, gone, "live", x(6)]);
  assert.deepEqual(got.since, [x(1), x(2), x(3), y(), { topic: "a.z", data: 5 }, gone, "live", x(6)]);
});

contract("over cuts each event comes once, in order", async ({ join, publish, drop }) => {
  const fanfare = join();
  const all = [], some = [], gaps = [];
  fanfare.on("gap", (gap) => gaps.push(gap));
  fanfare.subscribe("n", ({ data }) => all.push(data));
  fanfare.subscribe("*", { tail: 5 }, ({ data }) => some.push(data));
  await fanfare.ready();
  for (let n = 0; n < 40; n++) {
    if (n === 10 || n === 11) await drop();
    await publish("n", n);
    if (n === 25) { await fanfare.ready(); fanfare.reconnect(); }
  }
  await eventually(() => all.length >= 40 && some.length >= 40);
  assert.deepEqual([all, some, gaps], [[...Array(40).keys()], [...Array(40).keys()], []]);
});

contract("what is gone is told by a gap, and values come again", async ({ join, publish, wipe }) => {
  const fanfare = join();
  const tile = [], list = [], note = (to) => ({ onGap: ({ patterns }) => to.push(["gap", ...patterns]), onLive: () => to.push("live") });
  fanfare.subscribe("a.*", { snapshot: true, ...note(tile) }, ({ data }) => tile.push(data));
  fanfare.subscribe("a.>", note(list), ({ data }) => list.push(data));
  await fanfare.ready();
  await publish("a.x", 1);
  await eventually(() => tile.length === 2 && list.length === 2);
  await wipe();
  await publish("a.y", 2);
  await eventually(() => tile.length === 5 && list.length === 5);
  // Who is back before the event is live before it, too.
  const rest = (told) => [told.slice(0, 3), new Set(told.slice(3))];
  assert.deepEqual(rest(tile), [["live", 1, ["gap", "a.*"]], new Set([2, "live"])]);
  assert.deepEqual(rest(list), [["live", 1, ["gap", "a.>"]], new Set([2, "live"])]);
});

contract("a key stores once, versions and conditions hold, and refusals have their codes", async ({ join }) => {
  const fanfare = join();
  const first = await fanfare.publish("a", 1, { key: "k" });
  assert.match(first.id, /^\w+-\d+-\d+$/);
  assert.deepEqual(await fanfare.publish("a", 1, { key: "k" }), { id: first.id, repeated: true });
  await assert.rejects(fanfare.publish("a", 2, { key: "k" }), { code: "idempotency_mismatch" });
  await fanfare.publish("v", 1, { version: 5, epoch: "e" });
  assert.deepEqual(await fanfare.publish("v", 2, { version: 5, epoch: "e" }), { superseded: true, version: 5 });
  assert.ok((await fanfare.publish("v", 3, { version: 1, epoch: "f" })).id);
  await assert.rejects(fanfare.publish("a", 2, { if_latest: "absent" }), ({ code, event }) => code === "not_latest" && event.data === 1);
  const second = await fanfare.publish("a", 2, { if_latest: first.id });
  await assert.rejects(fanfare.publish("a", 3, { if_latest: first.id }), ({ code, event }) => code === "not_latest" && event.id === second.id);
  await fanfare.publish("a", undefined, { removed: true, if_latest: "present" });
  await assert.rejects(fanfare.publish("a", 3, { if_latest: "present" }), { code: "not_latest" });
  assert.deepEqual(await fanfare.publish("a", 4, { keep: false }), {});
  await assert.rejects(fanfare.publish("no topic", 1), { code: "invalid_topic" });
  await assert.rejects(fanfare.publish("shut.a", 1), { code: "unauthorized" });
  const refused = [], live = [];
  fanfare.subscribe("shut.a", { onError: ({ pattern, code }) => refused.push([pattern, code]) }, () => {});
  fanfare.subscribe("open.a", { onLive: () => live.push("open.a") }, () => {});
  fanfare.subscribe("a..b", { onError: ({ pattern, code }) => refused.push([pattern, code]) }, () => {});
  await eventually(() => refused.length === 2 && live.length === 1);
  assert.deepEqual(refused.sort(), [["a..b", "invalid_pattern"], ["shut.a", "unauthorized"]]);
});

contract("values end with their time and with their session, and say why", async ({ join, publish }) => {
  const seen = join(), holder = join();
  const got = [];
  seen.subscribe("v.*", (event) => got.push(plain(event)));
  await seen.ready();
  await holder.publish("v.seat", "ann", { bound: true });
  await holder.publish("v.replaced", "ann", { bound: true });
  await publish("v.replaced", "bob");
  // The last one, for its time is running.
  await holder.publish("v.ttl", 1, { ttl_ms: 300, version: 7 });
  await eventually(() => got.some(({ reason }) => reason === "expired"));
  holder.close();
  await eventually(() => got.some(({ reason }) => reason === "left"));
  assert.deepEqual(got, [
    { topic: "v.seat", data: "ann" }, { topic: "v.replaced", data: "ann" }, { topic: "v.replaced", data: "bob" }, { topic: "v.ttl", data: 1, version: 7 },
    { topic: "v.ttl", data: null, removed: true, reason: "expired", version: 7 }, { topic: "v.seat", data: null, removed: true, reason: "left" },
  ]);
});

contract("a bound value whose client comes back is never gone", async ({ join, drop }) => {
  const seen = join(), holder = join();
  const got = [];
  seen.subscribe("seat", ({ data, removed }) => got.push(removed ? "removed" : data));
  await seen.ready();
  await holder.publish("seat", "ann", { bound: true });
  await drop();
  await eventually(() => got.length === 2);
  holder.close();
  await eventually(() => got.length === 3);
  assert.deepEqual(got, ["ann", "ann", "removed"]);
});

contract("own events are known, and may be left out", async ({ join, publish }) => {
  const one = join(), other = join();
  const got = [];
  one.subscribe("a", ({ data, own, from }) => got.push([data, own, from?.session === one.session]));
  other.subscribe("a", () => {});
  await one.ready();
  await other.ready();
  await one.publish("a", 1);
  await other.publish("a", 2);
  await one.publish("a", 3, { except: true });
  await other.publish("a", 4);
  await eventually(() => got.length === 3);
  assert.deepEqual(got, [[1, true, true], [2, false, false], [4, false, false]]);
  await assert.rejects(one.publish("a", 1, { except: "somebody" }), { code: "unauthorized" });
});

contract("who is in a topic is told, from the members there are on", async ({ join }) => {
  const ann = join(), bob = join(), seen = join();
  const got = [], told = ({ type, snapshot, data }) => got.push([type, Boolean(snapshot), data.topic, data.session]);
  ann.subscribe("room.a", () => {});
  ann.subscribe("room.*", () => {});
  await ann.ready();
  seen.subscribe("$presence.room.a", { snapshot: true, onLive: () => got.push("live") }, told);
  await seen.ready();
  bob.subscribe("room.a", () => {});
  await bob.ready();
  await eventually(() => got.length === 3);
  const name = bob.session;
  bob.close();
  await eventually(() => got.length === 4);
  assert.deepEqual(got, [["presence.joined", true, "room.a", ann.session], "live", ["presence.joined", false, "room.a", name], ["presence.left", false, "room.a", name]]);
});

contract("a slow screen gets the newest, and the last one always", async ({ join }) => {
  const fanfare = join();
  const got = [];
  const times = [];
  fanfare.subscribe("a", { maxRate: 10 }, ({ data, conflated, skipped = 0, time }) => { got.push([data, conflated, skipped]); times.push(Date.parse(time)); });
  await fanfare.ready();
  const answers = [];
  for (let n = 0; n < 50; n++) answers.push(fanfare.publish("a", n));
  await Promise.all(answers);
  await eventually(() => got.at(-1)?.[0] === 49);
  // By the broker's clock, however long it takes to publish them.
  const ms = times.at(-1) - times[0];
  assert.ok(got.length < 50 && got.length <= 3 + ms / 100, `${got.length} within ${ms} ms`);
  assert.equal(got[0][0], 0);
  assert.ok(got.every(([, conflated]) => conflated === true));
  assert.equal(got.reduce((sum, [, , skipped]) => sum + 1 + skipped, 0), 50);
});

contract("values, pages of the past and the cursor are there over HTTP", async ({ ask, publish, join }) => {
  for (const n of [1, 2, 3]) await publish("a.x", n);
  await publish("a.y", 4);
  await publish("a.z", 5);
  await publish("a.z", null, { removed: true });
  const get = async (path) => (await ask(path)).json();
  const snapshot = await get("/v1/snapshot?match=a.*");
  assert.deepEqual(snapshot.events.map(plain), [{ topic: "a.x", data: 3 }, { topic: "a.y", data: 4 }]);
  assert.deepEqual(await get("/v1/cursor"), { cursor: snapshot.cursor });
  const page = await get("/v1/events?match=a.*&before=&limit=2");
  assert.deepEqual(page.events.map(({ data }) => data), [null, 5]);
  const older = await get(`/v1/events?match=a.*&limit=4&before=${page.next}`);
  assert.deepEqual([older.events.map(({ data }) => data), older.next, older.gap ?? false], [[4, 3, 2, 1], undefined, false]);
  const after = await get("/v1/topics/a.x/events?since=&limit=2");
  assert.deepEqual(after.events.map(({ data }) => data), [1, 2]);
  assert.deepEqual((await get(`/v1/topics/a.x/events?since=${after.next}`)).events.map(({ data }) => data), [3]);
  const answer = await ask("/v1/topics/a.x/events", { method: "POST", body: "7", headers: { "Idempotency-Key": "k" } });
  assert.equal(answer.status, 201);
  assert.equal((await ask("/v1/topics/a.x/events", { method: "POST", body: "7", headers: { "Idempotency-Key": "k" } })).status, 200);
  assert.equal((await ask("/v1/topics/a.x/events", { method: "POST", body: "8", headers: { "Idempotency-Key": "k" } })).status, 409);
  const got = [];
  join().subscribe("a.*", { since: snapshot.cursor }, ({ data }) => got.push(data));
  await eventually(() => got.length === 1);
  assert.deepEqual(got, [7]);
});

/** The frames of a connection that says what is given, and waits for what answers it before it goes on. */
async function transcript({ url, WebSocket, publish }) {
  const socket = new WebSocket(`${url.replace("http", "ws").replace(/\/?$/, "/")}v1/ws`);
  const heard = [];
  socket.onmessage = ({ data }) => heard.push(JSON.parse(data));
  await eventually(() => heard.length === 1);
  const ask = async (frame, until = (each) => each.ref === frame.ref && each.op !== "gap" && (frame.op !== "subscribe" || each.op !== "ack")) => {
    socket.send(JSON.stringify(frame));
    await eventually(() => heard.some(until), JSON.stringify([frame, heard]));
  };
  const stale = "abcdefgh-1-3";
  await ask({ op: "ping", ref: 1 });
  await ask({ op: "publish", ref: 2, topic: "a.x", data: 1, type: "t" });
  await ask({ op: "subscribe", ref: 3, topics: ["a.*"], snapshot: true });
  await ask({ op: "publish", ref: 4, topic: "a.y", data: "AP8H", encoding: "base64" }, ({ topic, op }) => op === "event" && topic === "a.y");
  await ask({ op: "subscribe", ref: 5, topics: ["a.*"], since: "-1h", tail: 1 });
  await ask({ op: "subscribe", ref: 6, topics: ["b"], since: stale, last: 2 });
  await ask({ op: "subscribe", ref: 7, topics: ["a.*", "b"], since: stale });
  await ask({ op: "subscribe", ref: 15, topics: ["a.*"], since: "no cursor" });
  await ask({ op: "subscribe", ref: 8, topics: ["a.*", "shut.x"] });
  await ask({ op: "subscribe", ref: 9, topics: ["a.*"], mode: "latest", since: "-1h" });
  await ask({ op: "publish", ref: 10, topic: "a.z", data: { n: 1 }, version: 3, epoch: "e", ttl_ms: 60_000, key: "k" }, ({ topic, op }) => op === "event" && topic === "a.z");
  await ask({ op: "unsubscribe", ref: 11, topics: ["a.*", "b"] });
  await ask({ op: "publish", ref: 12, topic: "a.z", removed: true });
  await ask({ op: "subscribe", ref: 13, topics: ["a..x"] });
  await ask({ op: "subscribe", ref: 14, topics: ["a.x"], last: 1, tail: 1 });
  socket.close();
  // Which of an answer and its event comes first is nobody's promise.
  const norm = (frame) => JSON.parse(JSON.stringify(frame, (name, value) => {
    // A broker in memory is of no release.
    if (name === "version" && frame.op === "welcome") return undefined;
    if (/^(time|expires|session|message)$/.test(name)) return typeof value;
    return typeof value === "string" && /-\d+-\d+$/.test(value) && value !== stale ? `@${value.split("-").at(-1)}` : value;
  }));
  const frames = heard.map(norm).filter(({ op }) => op !== "cursor");
  const order = (list) => list.map((frame) => JSON.stringify(Object.fromEntries(Object.entries(frame).sort()))).filter((text, at, all) => all.indexOf(text) === at);
  return { acks: order(frames.filter(({ op }) => op === "ack")), rest: order(frames.filter(({ op }) => op !== "ack")) };
}

test("R27 the broker and fanfare/testing say the same, frame by frame", options, async (t) => {
  const [real, ours] = await Promise.all([realWorld(t), testWorld(t)]);
  const [theirs, own] = [await transcript(real), await transcript(ours)];
  assert.deepEqual(own, theirs);
  assert.ok(theirs.rest.length > 12);
});

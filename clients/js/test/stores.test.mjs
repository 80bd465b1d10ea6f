// Live state: right over whatever becomes of connections, and honest meanwhile.

import assert from "node:assert/strict";
import { test } from "node:test";
import { connection, latest, list, map, presence, publisher, reduced } from "../fanfare/stores.js";
import { matcher } from "../fanfare/resume.js";
import { client, eventually, publish, startBroker, startProxy, tokenFor, watchedSocket } from "./harness.mjs";
import { dice as diceOf } from "./model.mjs";

const options = { timeout: 60_000 };
const SEEDS = Number(process.env.FANFARE_REAL_SEEDS ?? 3);

/** Listens until the end of the test; returns what was told, and how to stop. */
function listen(t, store) {
  const told = [];
  const stop = store.subscribe((value) => told.push(value));
  t.after(stop);
  return Object.assign(told, { stop });
}

const isLive = (store) => eventually(() => !store.current.stale, "the store is live");

/** Publishes with the envelope's members; returns the answer for its one event. */
async function publishEvent({ url }, event) {
  const answer = await fetch(`${url}/v1/events`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(event) });
  assert.ok(answer.ok, await answer.clone().text());
  return (await answer.json()).events?.[0];
}

const remove = ({ url }, topic) => fetch(`${url}/v1/topics/${topic}`, { method: "DELETE" }).then(({ ok }) => assert.ok(ok));

/** Current values as the broker has them: topic → id. */
async function snapshot({ url }, pattern) {
  const values = {};
  for (let after; ;) {
    const query = new URLSearchParams({ match: pattern, limit: 1000, ...after && { after } });
    const page = await (await fetch(`${url}/v1/snapshot?${query}`)).json();
    for (const { topic, id } of page.events) values[topic] = id;
    if (!(after = page.next)) return values;
  }
}

const idsOf = ({ entries }) => Object.fromEntries([...entries].sort(([a], [b]) => (a < b ? -1 : 1)).map(([topic, { id }]) => [topic, id]));

/** A client without a broker: the test says what its subscriptions hear, and when. */
function puppet() {
  const listeners = { state: new Set(), event: new Set() };
  const fanfare = {
    state: "idle", session: null, subscriptions: [], url: "http://puppet/",
    on(name, listener) {
      listeners[name].add(listener);
      return () => listeners[name].delete(listener);
    },
    subscribe(pattern, how, handler) {
      const subscription = { pattern, how, handler };
      fanfare.subscriptions.push(subscription);
      return () => { fanfare.subscriptions = fanfare.subscriptions.filter((each) => each !== subscription); };
    },
    token: async () => undefined,
    /** What the one subscription is told. */
    get one() {
      assert.equal(fanfare.subscriptions.length, 1);
      return fanfare.subscriptions[0];
    },
    set(state, session, more) {
      Object.assign(fanfare, { state }, session && { session });
      for (const listener of listeners.state) listener({ state, attempt: 0, ...more });
    },
    say(topic, number, more = {}) {
      const event = { topic, data: number, ...number !== undefined && { id: `log-1-${number}` }, time: new Date().toISOString(), ...more };
      for (const listener of listeners.event) listener(event);
      fanfare.one.handler(event);
    },
  };
  return fanfare;
}

const settled = (store) => new Promise((next) => setTimeout(next, 40)).then(() => store.current);

test("R10 the value of a topic: stale until live, then as it is, gone once removed", options, async (t) => {
  const broker = await startBroker(t);
  await publish(broker, "cpu", 1);
  const { fanfare } = client(t, broker.url);
  const store = latest(fanfare, "cpu", { maxRate: 50 });
  const told = listen(t, store);
  assert.deepEqual([...told], [{ data: undefined, event: undefined, stale: true, error: null }]);
  await isLive(store);
  assert.equal(store.current.data, 1);
  await publish(broker, "cpu", 2);
  await eventually(() => store.current.data === 2);
  const before = store.current;
  await remove(broker, "cpu");
  await eventually(() => store.current.data === undefined);
  assert.equal(store.current.event.removed, true);
  assert.equal(before.data, 2, "a snapshot stays as it was");
});

test("R10 a map: what was removed, has expired or ended with its session is out", options, async (t) => {
  const broker = await startBroker(t, { FANFARE_LIMITS_BOUND_LINGER: "200ms" });
  const { fanfare } = client(t, broker.url);
  const other = client(t, broker.url).fanfare;
  const store = map(fanfare, "seat.*");
  listen(t, store);
  await publish(broker, "seat.1", "a");
  await other.publish("seat.3", "c", { bound: true });
  await eventually(() => store.current.entries.size === 2);
  // The last one, for its time is running.
  await publishEvent(broker, { topic: "seat.2", data: "b", ttl_ms: 1000 });
  await eventually(() => store.current.entries.size === 3);
  await eventually(() => !store.current.entries.has("seat.2"));
  other.close();
  await eventually(() => !store.current.entries.has("seat.3"));
  assert.deepEqual(idsOf(store.current), await snapshot(broker, "seat.*"));
  await remove(broker, "seat.1");
  await eventually(() => store.current.entries.size === 0);
});

test("R10 what expires while the connection is gone is out by the broker's time, whatever the clock here says", options, async (t) => {
  t.mock.timers.enable({ apis: ["Date"], now: Date.now() - 3_600_000 });
  const clock = setInterval(() => t.mock.timers.tick(20), 20);
  t.after(() => clearInterval(clock));
  const broker = await startBroker(t);
  const proxy = await startProxy(t, broker.port);
  const { fanfare } = client(t, proxy.url);
  const store = map(fanfare, "seat.*"), one = latest(fanfare, "seat.1");
  listen(t, store);
  listen(t, one);
  await isLive(store);
  await publishEvent(broker, { topic: "seat.1", data: "a", ttl_ms: 4000 });
  await publish(broker, "seat.2", "b");
  await eventually(() => store.current.entries.size === 2 && one.current.data === "a");
  await proxy.cut();
  await eventually(() => store.current.stale);
  assert.equal(store.current.entries.size, 2);
  await eventually(() => store.current.entries.size === 1 && one.current.data === undefined);
  assert.equal(store.current.stale && one.current.stale, true);
  assert.equal(one.current.event.data, "a");
});

test("R10 what seemed to have expired is there again where the broker still has it", options, async (t) => {
  const fanfare = puppet();
  const store = map(fanfare, "a");
  listen(t, store);
  fanfare.one.how.onLive();
  fanfare.set("live", "one");
  fanfare.say("a", 1, { expires: new Date(Date.now() + 50).toISOString() });
  await eventually(() => store.current.entries.size === 1);
  await new Promise((next) => setTimeout(next, 80));
  assert.equal((await settled(store)).entries.size, 1, "while it is live, the broker says what has ended");
  fanfare.set("waiting");
  await eventually(() => store.current.entries.size === 0);
  fanfare.one.how.onLive();
  fanfare.say("a", 2, { expires: new Date(Date.now() + 1500).toISOString() });
  fanfare.set("waiting");
  await eventually(() => store.current.stale && store.current.entries.size === 1);
  await eventually(() => store.current.entries.size === 0);
});

test("R10 a wiped history: swapped whole once all is there, never half", options, async (t) => {
  const broker = await startBroker(t);
  const proxy = await startProxy(t, broker.port);
  const { fanfare, gaps } = client(t, proxy.url);
  const store = map(fanfare, "a.*"), log = list(fanfare, "a.*", { tail: 30 });
  const fill = async (from, text) => { for (let n = from; n < from + 40; n++) await publish(broker, `a.${n}`, text); };
  await fill(0, "old");
  const [told, lists] = [listen(t, store), listen(t, log)];
  await eventually(() => store.current.entries.size === 40 && log.current.events.length === 30);
  await proxy.cut();
  await eventually(() => store.current.stale && log.current.stale);
  await broker.restart({ wiped: true });
  await fill(30, "new");
  await proxy.mend();
  await eventually(() => !store.current.stale && !log.current.stale);
  assert.deepEqual(idsOf(store.current), await snapshot(broker, "a.*"));
  assert.deepEqual(log.current.events.map(({ topic }) => topic), Array.from({ length: 30 }, (_, n) => `a.${40 + n}`));
  for (const { entries } of told) assert.ok([0, 40].includes(entries.size) && new Set([...entries.values()].map(({ data }) => data)).size <= 1, `${entries.size}`);
  for (const { events } of lists) assert.ok([0, 30].includes(events.length) && new Set(events.map(({ data }) => data)).size <= 1);
  assert.ok(gaps.length);
});

test("R10 a gap of some topics, while live: these are swapped, the others stay; stale meanwhile", options, async (t) => {
  const fanfare = puppet();
  const store = map(fanfare, "*");
  const told = listen(t, store);
  fanfare.set("live", "one");
  for (const [n, topic] of ["a", "b", "c"].entries()) fanfare.say(topic, n, { snapshot: true });
  fanfare.one.how.onLive();
  await eventually(() => store.current.entries.size === 3);
  fanfare.one.how.onGap({ since: "log-1-3", topics: ["a", "b"], patterns: ["*"] });
  fanfare.say("a", 5, { snapshot: true });
  fanfare.say("c", 6);
  assert.equal((await settled(store)).stale, true);
  assert.deepEqual(idsOf(store.current), { a: "log-1-0", b: "log-1-1", c: "log-1-2" });
  fanfare.one.how.onLive();
  await eventually(() => !store.current.stale);
  assert.deepEqual(idsOf(store.current), { a: "log-1-5", c: "log-1-6" });
  assert.equal(told.filter(({ entries }) => entries.size === 1).length, 0);
});

test("R10 what began on one connection and went live on another begins anew", options, async (t) => {
  const fanfare = puppet();
  const store = map(fanfare, "*");
  listen(t, store);
  fanfare.set("connecting", "one");
  fanfare.say("gone", 1, { snapshot: true });
  // As under `goaway`: nobody is told of a state.
  fanfare.session = "two";
  const first = fanfare.one;
  fanfare.say("b", 3, { snapshot: true });
  first.how.onLive();
  assert.notEqual(fanfare.one, first);
  assert.equal((await settled(store)).stale, true);
  fanfare.say("b", 3, { snapshot: true });
  fanfare.one.how.onLive();
  await eventually(() => !store.current.stale);
  assert.deepEqual(idsOf(store.current), { b: "log-1-3" });
});

test("R10 an older value that comes late, or one that is not kept, takes no place of a kept one", options, async (t) => {
  const fanfare = puppet();
  const store = latest(fanfare, "a");
  listen(t, store);
  fanfare.one.how.onLive();
  fanfare.say("a", undefined, { data: "not kept" });
  await eventually(() => store.current.data === "not kept");
  fanfare.say("a", 10);
  await eventually(() => store.current.data === 10);
  fanfare.say("a", 9, { snapshot: true });
  fanfare.say("a", undefined, { data: "typing" });
  assert.equal((await settled(store)).data, 10);
  fanfare.say("a", 11, { removed: true });
  fanfare.say("a", undefined, { data: "not kept" });
  await eventually(() => store.current.data === "not kept");
});

test("R10 a list: the newest, those that come, and older ones up to the first", options, async (t) => {
  const secret = "s".repeat(32);
  const broker = await startBroker(t, { FANFARE_AUTH_JWT_SECRET: secret, FANFARE_AUTH_API_KEYS: "key" });
  const say = (n) => publish(broker, `chat.${n % 3}`, n, { Authorization: "Bearer key" });
  for (let n = 0; n < 95; n++) await say(n);
  const { fanfare } = client(t, broker.url, { token: () => tokenFor(secret, { subscribe: ["chat.>"] }) });
  const store = list(fanfare, "chat.>", { tail: 20 });
  listen(t, store);
  await isLive(store);
  const shows = (from, to) => assert.deepEqual(store.current.events.map(({ data }) => data), Array.from({ length: to - from }, (_, n) => from + n));
  shows(75, 95);
  assert.equal(store.current.more, true);
  await say(95);
  const { fetch } = globalThis;
  let open;
  const gate = new Promise((next) => { open = next; });
  t.mock.method(globalThis, "fetch", async (...given) => { await gate; return fetch(...given); });
  // As a button calls it.
  const loading = [store.older({ type: "click" }), store.older()];
  assert.equal(loading[0], loading[1], "one at a time");
  await eventually(() => store.current.loading);
  open();
  await Promise.all(loading);
  await eventually(() => store.current.events.at(-1).data === 95);
  assert.equal(store.current.loading, false);
  shows(55, 96);
  while (store.current.more) await store.older(50);
  shows(0, 96);
  await store.older();
  shows(0, 96);
});

test("R10 a list holds `max`: its front goes, `more` says so, and older ones are refused until there is room", options, async (t) => {
  const broker = await startBroker(t);
  for (let n = 0; n < 10; n++) await publish(broker, "a", n);
  const { fanfare } = client(t, broker.url);
  const store = list(fanfare, "a", { tail: 20, max: 20 });
  listen(t, store);
  await isLive(store);
  assert.equal(store.current.more, false);
  for (let n = 10; n < 25; n++) await publish(broker, "a", n);
  await eventually(() => store.current.events.at(-1)?.data === 24);
  assert.deepEqual(store.current.events.map(({ data }) => data), Array.from({ length: 20 }, (_, n) => n + 5));
  assert.equal(store.current.more, true);
  await assert.rejects(store.older(), { code: "too_many" });
  await eventually(() => !store.current.loading);
});

test("R10 a map holds `max` topics and says that there are more", options, async (t) => {
  const broker = await startBroker(t);
  for (let n = 0; n < 6; n++) await publish(broker, `a.${n}`, n);
  const { fanfare } = client(t, broker.url);
  const store = map(fanfare, "a.*", { max: 5 });
  listen(t, store);
  await isLive(store);
  assert.equal(store.current.entries.size, 5);
  assert.equal(store.current.error.code, "too_many");
});

test("R10 who is there: comes, goes, by sessions and users, over cuts and a gap", options, async (t) => {
  const secret = "s".repeat(32);
  const broker = await startBroker(t, { FANFARE_AUTH_JWT_SECRET: secret, FANFARE_TOPICS: '[{match = "room.>", presence = true}]', FANFARE_LIMITS_BOUND_LINGER: "200ms" });
  const proxy = await startProxy(t, broker.port);
  const as = (sub, url = broker.url) => client(t, url, { token: () => tokenFor(secret, { sub, subscribe: ["room.>", "$presence.>"] }) });
  const { fanfare, gaps } = as("viewer", proxy.url);
  const store = presence(fanfare, "room.a");
  listen(t, store);
  await isLive(store);
  const [ada, ada2, bob] = [as("ada"), as("ada"), as("bob")];
  for (const { fanfare: each } of [ada, ada2, bob]) each.subscribe("room.a", () => {});
  const members = () => store.current.members.map(({ user, user_sessions }) => `${user} ${user_sessions}`).sort();
  await eventually(() => `${members()}` === "ada 2,ada 2,bob 1");
  ada2.fanfare.close();
  await eventually(() => `${members()}` === "ada 1,bob 1");
  await proxy.cut();
  await eventually(() => store.current.stale);
  bob.fanfare.close();
  await eventually(async () => (await (await fetch(`${broker.url}/v1/topics/room.a/presence`, { headers: { Authorization: `Bearer ${tokenFor(secret)}` } })).json()).members?.length === 1);
  await proxy.mend();
  await eventually(() => !store.current.stale && `${members()}` === "ada 1");
  assert.deepEqual(gaps, [], "who asks who is there now has missed nothing");
});

test("R10 a refused pattern is said by `error`, and stale until it is not", options, async (t) => {
  const secret = "s".repeat(32);
  const broker = await startBroker(t, { FANFARE_AUTH_JWT_SECRET: secret });
  let subscribe = ["b"];
  const { fanfare } = client(t, broker.url, { token: () => tokenFor(secret, { subscribe }) });
  const store = map(fanfare, "a");
  listen(t, store);
  await eventually(() => store.current.error?.code === "forbidden");
  assert.equal(store.current.stale, true);
  subscribe = ["a"];
  await fanfare.renew();
  await isLive(store);
  assert.equal(store.current.error, null);
});

test("R6 listeners that come and go in a turn send one subscribe and no unsubscribe, and stores of the same are one", options, async (t) => {
  const broker = await startBroker(t);
  const WebSocket = watchedSocket();
  const { fanfare, is } = client(t, broker.url, { WebSocket });
  const store = latest(fanfare, "a");
  assert.equal(latest(fanfare, "a"), store);
  assert.notEqual(latest(fanfare, "a", { maxRate: 1 }), store);
  const undo = store.subscribe(() => {});
  undo();
  const stop = store.subscribe(() => {});
  await is("live");
  const again = store.subscribe(() => {});
  stop();
  stop();
  again();
  const last = store.subscribe(() => {});
  await publish(broker, "a", 1);
  await eventually(() => store.current.data === 1);
  assert.equal(WebSocket.of("subscribe").length, 1);
  assert.equal(WebSocket.of("unsubscribe").length, 0);
  last();
  await eventually(() => WebSocket.of("unsubscribe").length === 1);
  assert.equal(store.current.stale, true);
});

test("R30 a thousand events a second are told at most 60 times, and none is lost to a reducer", options, async (t) => {
  const broker = await startBroker(t);
  const { fanfare } = client(t, broker.url);
  const store = reduced(fanfare, "a", { initial: 0, reduce: (sum, { data }) => sum + data });
  let first, last, count = 0;
  t.after(store.subscribe(({ state }) => {
    if (!state) return;
    count += 1;
    first ??= performance.now();
    last = performance.now();
  }));
  await isLive(store);
  for (let batch = 0; batch < 40; batch++) {
    await publishEvent(broker, { events: Array.from({ length: 50 }, () => ({ topic: "a", data: 1 })) });
    await new Promise((next) => setTimeout(next, 25));
  }
  await eventually(() => store.current.state === 2000);
  assert.ok(count <= 2 + 60 * (last - first) / 1000, `${count} times within ${last - first} ms`);
  assert.ok(count > 5);
});

test("R30 screens of 240 frames a second are told 60 times, and pages without frames all the same", options, async (t) => {
  t.after(() => { delete globalThis.requestAnimationFrame; delete globalThis.cancelAnimationFrame; });
  Object.assign(globalThis, { requestAnimationFrame: (run) => setTimeout(run, 4), cancelAnimationFrame: clearTimeout });
  const fanfare = puppet();
  const store = latest(fanfare, "a");
  const told = listen(t, store);
  fanfare.one.how.onLive();
  const begun = performance.now();
  for (let n = 0; n < 200; n++) {
    fanfare.say("a", n);
    await new Promise((next) => setTimeout(next, 2));
  }
  await eventually(() => store.current.data === 199);
  const ms = performance.now() - begun;
  assert.ok(told.length > 5 && told.length <= 3 + 60 * ms / 1000, `${told.length} times within ${ms} ms`);
  Object.assign(globalThis, { requestAnimationFrame: () => 1, cancelAnimationFrame: () => {} });
  fanfare.say("a", 200);
  await eventually(() => store.current.data === 200);
});

test("R23 a listener that throws stops nobody else", options, async (t) => {
  const fanfare = puppet();
  const reported = [];
  t.mock.method(console, "error", (error) => reported.push(error));
  const store = latest(fanfare, "a");
  let isFirst = true;
  t.after(store.subscribe(() => {
    if (!isFirst) throw new Error("mine");
    isFirst = false;
  }));
  const told = listen(t, store);
  fanfare.one.how.onLive();
  await eventually(() => told.length === 2);
  assert.equal(reported[0].message, "mine");
});

test("R10 a loaded state: loaded once, and again after a gap only; what came between the two places is in it once", options, async (t) => {
  const broker = await startBroker(t);
  const proxy = await startProxy(t, broker.port);
  const { fanfare } = client(t, proxy.url);
  let loads = 0;
  // The application's own database, and its API that reads the place first.
  let rows = [];
  const add = async (n) => { rows = [...rows, n]; await publish(broker, "row", n); };
  const load = async () => {
    loads += 1;
    const { cursor } = await (await fetch(`${broker.url}/v1/cursor`)).json();
    await add(`while loading ${loads}`);
    const state = rows;
    await add(`behind loading ${loads}`);
    return { state, since: cursor };
  };
  const store = reduced(fanfare, "row", { load, reduce: (state, { data }) => (state.includes(data) ? state : [...state, data]) });
  const told = listen(t, store);
  assert.deepEqual(store.current, { state: undefined, loading: false, stale: true, error: null });
  await isLive(store);
  await add("live");
  await eventually(() => store.current.state.includes("live"));
  assert.deepEqual(store.current.state, rows);
  proxy.drop();
  await add("after a cut");
  await eventually(() => store.current.state.includes("after a cut"));
  await broker.restart();
  await add("after a restart");
  await eventually(() => store.current.state.includes("after a restart"));
  assert.equal(loads, 1);
  await proxy.cut();
  await broker.restart({ wiped: true });
  rows = ["another database"];
  await publish(broker, "row", "gone again");
  await proxy.mend();
  await eventually(() => loads === 2 && !store.current.stale);
  assert.deepEqual(store.current.state, rows);
  assert.equal(loads, 2);
  const half = told.find(({ state }) => state?.includes("another database") && state.includes("live"));
  assert.equal(half, undefined);
});

test("R10 a state that is loaded without a place: events that come meanwhile are held back, and more than `buffer` say so", options, async (t) => {
  const fanfare = puppet();
  const answers = [];
  const load = () => new Promise((resolve, reject) => answers.push({ resolve, reject }));
  const store = reduced(fanfare, "a", { load, buffer: 2, reduce: (state, { data }) => [...state, data] });
  listen(t, store);
  await eventually(() => answers.length === 1);
  answers[0].resolve({ state: ["first"] });
  await eventually(() => fanfare.subscriptions.length === 1);
  assert.deepEqual((await settled(store)).state, ["first"]);
  assert.equal(store.current.stale, true);
  fanfare.say("a", 1);
  fanfare.one.how.onLive();
  await eventually(() => answers.length === 2);
  fanfare.say("a", 2);
  fanfare.say("a", 3);
  assert.deepEqual((await settled(store)).state, ["first"]);
  fanfare.say("a", 4);
  await eventually(() => store.current.error?.code === "too_many");
  await eventually(() => answers.length === 3);
  answers[1].resolve({ state: ["too late"] });
  fanfare.say("a", 5);
  answers[2].resolve({ state: ["loaded"] });
  await eventually(() => !store.current.stale);
  assert.deepEqual(store.current, { state: ["loaded", 5], loading: false, stale: false, error: null });
  fanfare.one.how.onGap({ since: "x", patterns: ["a"] });
  fanfare.say("a", 6);
  fanfare.one.how.onLive();
  await eventually(() => answers.length === 4);
  answers[3].reject(new Error("no database"));
  await eventually(() => store.current.error?.code === "load");
  await eventually(() => answers.length === 5);
  fanfare.set("waiting");
  answers[4].resolve({ state: ["again"] });
  await eventually(() => store.current.state[0] === "again");
  assert.equal(store.current.stale, true);
  fanfare.one.how.onLive();
  fanfare.say("a", 7);
  await eventually(() => store.current.state[1] === 7);
  assert.equal(answers.length, 5);
});

test("R10 a place that is gone is asked of the application again, but not without end", options, async (t) => {
  const broker = await startBroker(t);
  const { fanfare } = client(t, broker.url);
  let loads = 0;
  const store = reduced(fanfare, "a", { load: async () => ({ state: ++loads, since: "abcdefgh-1-1" }), reduce: (state) => state });
  listen(t, store);
  const begun = performance.now();
  await eventually(() => loads === 3);
  assert.ok(performance.now() - begun > 1000, "later each time");
  assert.equal(store.current.error.code, "gap");
  assert.equal(store.current.stale, true);
});

test("R30 how it goes is a store as well, and trouble lasts until it is over", options, async (t) => {
  const fanfare = puppet();
  const store = connection(fanfare);
  listen(t, store);
  assert.deepEqual(store.current, { state: "idle", attempt: 0, trouble: null });
  const shows = (state, trouble) => eventually(() => store.current.state === state && store.current.trouble === trouble, `${state} ${trouble}`);
  fanfare.set("connecting", "one", { trouble: "no disk" });
  fanfare.set("live");
  await shows("live", "no disk");
  fanfare.set("live", "one", { trouble: null });
  await shows("live", null);
  fanfare.set("live", "one", { trouble: "no Redis" });
  await shows("live", "no Redis");
  fanfare.set("waiting");
  await shows("waiting", null);
  const broker = await startBroker(t);
  const { fanfare: real } = client(t, broker.url);
  const own = connection(real);
  const told = listen(t, own);
  real.subscribe("a", () => {});
  await eventually(() => own.current.state === "live");
  await broker.stop();
  await eventually(() => own.current.state === "waiting" && own.current.retryAt);
  assert.equal(told[0].state, "idle");
});

test("R30 what is published too fast goes as the newest, in time, and the last one always", options, async (t) => {
  const broker = await startBroker(t);
  const { fanfare } = client(t, broker.url);
  const got = [];
  fanfare.subscribe("a", ({ data, time }) => got.push({ data, time: Date.parse(time) }));
  await fanfare.ready();
  const move = publisher(fanfare, "a", { throttle: 100 });
  const answers = [], begun = performance.now();
  for (let n = 0; n < 50; n++) {
    answers.push(move(n));
    await new Promise((next) => setTimeout(next, 5));
  }
  const ms = performance.now() - begun;
  const ids = (await Promise.all(answers)).map(({ id }) => id);
  await eventually(() => got.at(-1)?.data === 49);
  assert.equal(got[0].data, 0);
  assert.equal(new Set(ids).size, got.length);
  assert.ok(got.length < 50 && got.length <= 3 + ms / 100, `${got.length} within ${ms} ms`);
});

// ---- Whatever comes ---------------------------------------------------------------------------

async function life(t, seed, transport) {
  const dice = diceOf(seed);
  const broker = await startBroker(t, { FANFARE_TOPICS: '[{match = "room", presence = true}]', FANFARE_SERVER_SHUTDOWN_DELAY: "300ms" });
  const proxy = await startProxy(t, broker.port);
  const { fanfare } = client(t, proxy.url, transport);
  const { fanfare: other } = client(t, broker.url);
  other.on("error", () => {});
  const topics = ["a.x", "a.y", "b.x", "b.y", "c"], patterns = ["a.*", "*.x", ">", "c"];
  const rows = new Map();
  // An application's own state: rows, each published once it is written.
  const write = async (n) => {
    const topic = dice.one(topics);
    rows.set(topic, n);
    await publish(broker, topic, n);
  };
  const load = async () => {
    const { cursor } = await (await fetch(`${broker.url}/v1/cursor`)).json();
    return { state: Object.fromEntries(rows), since: cursor };
  };
  const stores = [
    ...patterns.map((pattern) => ({ kind: "map", pattern, store: map(fanfare, pattern, dice.may(0.5) ? { maxRate: 100 } : {}) })),
    ...topics.map((pattern) => ({ kind: "latest", pattern, store: latest(fanfare, pattern) })),
    ...patterns.map((pattern) => ({ kind: "list", pattern, store: list(fanfare, pattern, { tail: 1 + dice.below(20) }) })),
    { kind: "presence", store: presence(fanfare, "room") },
    { kind: "reduced", store: reduced(fanfare, ">", { load, reduce: (state, { topic, data, removed }) => ({ ...state, [topic]: removed ? undefined : data }) }) },
  ];
  const broken = [];
  for (const { kind, pattern, store } of stores) {
    let before = store.current;
    const run = (value) => {
      // Whatever was live is whole: what a list shows is of one log and in its order.
      if (kind === "list") {
        const numbers = value.events.map(({ id }) => Number(id.split("-")[2]));
        if (new Set(value.events.map(({ id }) => id.split("-")[0])).size > 1 || numbers.some((n, at) => at && n <= numbers[at - 1])) broken.push(pattern);
      }
      before = value;
    };
    t.after(store.subscribe(run));
  }
  let undo = null;
  for (let n = 0; n < 120; n++) {
    const deed = dice.below(100);
    if (deed < 60) await write(n);
    else if (deed < 66) {
      const topic = dice.one(topics);
      rows.delete(topic);
      await remove(broker, topic);
    } else if (deed < 70) await publishEvent(broker, { topic: `a.${dice.one(["t", "u"])}`, data: n, ttl_ms: 1 + dice.below(400) });
    else if (deed < 74) undo = undo ? undo() : other.subscribe("room", () => {});
    else if (deed < 84) proxy.drop();
    else if (deed < 86) await broker.restart({ signal: dice.one(["SIGKILL", "SIGTERM"]) });
    else if (deed < 88) {
      await broker.restart({ wiped: true, signal: dice.one(["SIGKILL", "SIGTERM"]) });
      rows.clear();
    } else if (deed < 90) fanfare.reconnect();
    else if (deed < 93) dice.one(stores.filter(({ kind }) => kind === "list")).store.older(1 + dice.below(9)).catch(() => {});
    else await new Promise((next) => setTimeout(next, dice.below(60)));
  }
  // Quiet: what has a time to live has none left.
  await eventually(async () => Object.keys(await snapshot(broker, "a.*")).every((topic) => !/^a\.[tu]$/.test(topic)));
  await write("last");
  if (undo) await other.ready();
  const why = (kind, pattern, store) => `seed ${seed}: ${kind} ${pattern}: ${JSON.stringify(store.current)} ${store.current.entries ? JSON.stringify(idsOf(store.current)) : ""}`;
  const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
  for (const { kind, pattern, store } of stores) {
    const matches = pattern && matcher(pattern);
    const values = await snapshot(broker, ">");
    const kept = Object.fromEntries(Object.entries(values).filter(([topic]) => !pattern || matches(topic)).sort(([a], [b]) => (a < b ? -1 : 1)));
    const log = kind === "list" && (await (await fetch(`${broker.url}/v1/events?${new URLSearchParams({ match: pattern, before: "", limit: 1000 })}`)).json()).events.reverse().map(({ id }) => id);
    await eventually(() => {
      const { current } = store;
      if (current.stale || current.error) return false;
      if (kind === "map") return same(idsOf(current), kept);
      if (kind === "latest") return kept[pattern] === (current.data === undefined ? undefined : current.event.id);
      if (kind === "presence") return same(current.members.map(({ session }) => session), undo ? [other.session] : []);
      if (kind === "list") return same(current.events.map(({ id }) => id), log.slice(log.length - current.events.length)) && (current.more || current.events.length === log.length);
      return same(Object.entries(current.state).filter(([topic, data]) => data !== undefined && !/^a\.[tu]$/.test(topic)).sort(), [...rows].sort());
    }, "quiet, it shows what the broker has").catch((error) => assert.fail(`${error.message}: ${why(kind, pattern, store)} ${JSON.stringify(kept)}`));
  }
  assert.deepEqual(broken, []);
}

const seeds = process.env.FANFARE_SEED ? [Number(process.env.FANFARE_SEED)] : [...Array(SEEDS).keys()];
for (const seed of seeds) test(`R10 life ${seed} of stores with a real broker: quiet, they show what it has`, { timeout: 120_000 }, (t) => life(t, seed, {}));
test("R10 and R21 a life of stores over event streams", { timeout: 120_000 }, (t) => life(t, 100, { WebSocket: null }));

test("R10 a session that is refused is said by each store, also by one that comes later", options, async (t) => {
  const broker = await startBroker(t, { FANFARE_AUTH_JWT_SECRET: "s".repeat(32) });
  const { fanfare, is } = client(t, broker.url, { token: tokenFor("another".repeat(5)) });
  // Before any store has heard of it.
  fanfare.subscribe("a", () => {});
  await is("refused");
  for (const store of [latest(fanfare, "a"), map(fanfare, "a.*"), list(fanfare, "a.*"), presence(fanfare, "a"), reduced(fanfare, "a", { reduce: (n) => n })]) {
    listen(t, store);
    await eventually(() => store.current.error);
    assert.equal(store.current.error.code, "unauthorized");
    assert.ok(store.current.error.message);
    assert.equal(store.current.stale, true);
  }
  fanfare.close();
  await eventually(() => latest(fanfare, "a").current.error.code === "closed");
});

test("R10 what keeps a session from coming to be is said until it is live; a mere cut is not", options, async (t) => {
  const fanfare = puppet();
  const store = latest(fanfare, "a");
  listen(t, store);
  fanfare.set("waiting", null, { reason: { code: 1006, message: "" } });
  assert.equal((await settled(store)).error, null);
  fanfare.set("waiting", null, { reason: { code: "origin_not_allowed", message: "list it in server.allowed_origins" } });
  fanfare.set("connecting");
  fanfare.set("waiting", null, { reason: { code: 1006, message: "" } });
  assert.deepEqual((await settled(store)).error, { code: "origin_not_allowed", message: "list it in server.allowed_origins" });
  fanfare.one.how.onLive();
  fanfare.set("live", "one");
  assert.equal((await settled(store)).error, null);
});

test("R10 presence that is off says so, by the setting; where it is on and nobody is there, nothing is wrong", options, async (t) => {
  const broker = await startBroker(t, { FANFARE_TOPICS: '[{match = "room.>", presence = true}]' });
  const { fanfare } = client(t, broker.url);
  const [off, on] = [presence(fanfare, "hall.a"), presence(fanfare, "room.a")];
  listen(t, off);
  listen(t, on);
  await eventually(() => off.current.error);
  assert.equal(off.current.error.code, "presence_off");
  assert.match(off.current.error.message, /hall\.a.*presence = true.*\[\[topics\]\]/);
  await isLive(on);
  fanfare.subscribe("room.a", () => {});
  await eventually(() => on.current.members.length === 1);
  assert.equal(on.current.error, null);
});

test("what is no topic, or no client, is refused by name where it is asked for", () => {
  const fanfare = puppet();
  for (const deed of [() => latest(fanfare, "a.*"), () => presence(fanfare, "room.>"), () => publisher(fanfare, "a.*")]) {
    assert.throws(deed, { name: "TypeError", code: "invalid_topic", message: /is of one topic, and ".*" is a pattern/ });
  }
  assert.throws(() => latest("http://x"), /a client comes first/);
  assert.throws(() => map(fanfare, ["a"]), /a text, not object/);
  assert.throws(() => reduced(fanfare, "a", {}), /\{ reduce \}/);
  assert.ok(map(fanfare, "a.*") && list(fanfare, ">") && latest(fanfare, ""));
});

// Calls in odd orders and of odd kinds.

import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import { Fanfare } from "../fanfare.js";
import { client, eventually, modelSocket, publish, startBroker, watchedSocket } from "./harness.mjs";
import { ModelBroker } from "./model.mjs";

const options = { timeout: 60_000 };
const turn = () => new Promise(setImmediate);

/** A client of a model of the broker, and the sockets that it opened. */
function modelClient(t, { broker = new ModelBroker(), welcome, ...more } = {}) {
  const Model = modelSocket(broker, welcome);
  const { opened } = Model;
  const asked = [];
  class WebSocket extends Model {
    send(text) {
      const { op, topics } = JSON.parse(text);
      if (op === "subscribe") asked.push(topics);
      super.send(text);
    }
  }
  return Object.assign(client(t, "http://broker.example", { WebSocket, ...more }), { broker, opened, asked, pump: () => opened.at(-1).pump() });
}

test("what is no text, no function or no name is a TypeError that says what is wanted, at once", (t) => {
  const { fanfare } = modelClient(t);
  for (const pattern of [undefined, null, 7, {}, ["a"], ""]) assert.throws(() => fanfare.subscribe(pattern, () => {}), { name: "TypeError", message: /subscribe\(pattern, options, handler\)/ });
  for (const handler of [7, "a", {}]) assert.throws(() => fanfare.subscribe("a", {}, handler), { name: "TypeError", message: /subscribe\(pattern, options, handler\)/ });
  assert.throws(() => fanfare.on("states", () => {}), { name: "TypeError", message: /state\|gap/ });
  assert.throws(() => fanfare.on("state"), { name: "TypeError" });
  for (const url of ["ftp://push.example", "nowhere", 7, "localhost:8080", "http://push.example/?a=1", "http://push.example/#a"]) assert.throws(() => new Fanfare(url), TypeError, `${url}`);
});

/** Options of a subscription that are none, and what is said of them. */
const WRONG = [
  [{ snapshots: true }, /no option is called snapshots; is it snapshot\?/],
  [{ snapshots: undefined }, /snapshots/],
  [{ onlive: () => {} }, /is it onLive\?/],
  [{ max_rate: 5 }, /is it maxRate\?/],
  [{ everything: true }, /no option is called everything; there are snapshot, last, /],
  [{ toString: 1 }, /no option is called toString/],
  [{ raw: true }, /raw; it is one of the client: new Fanfare\(url, \{ raw \}\)/],
  ...["maxRate", "tail", "last", "buffer"].flatMap((name) => [0, NaN, -1, "x"].map((value) => [{ [name]: value }, new RegExp(`${name} is to be a number above 0, not "?${value}`)])),
  ...["onLive", "onGap", "onError"].map((name) => [{ [name]: 5 }, new RegExp(`${name} is to be a function, not 5`)]),
  ...["maxRate", "tail", "last", "buffer"].map((name) => [{ [name]: "5" }, new RegExp(`${name} is to be a number above 0, not "5"`)]),
  [{ tail: 5, snapshot: true }, /tail and snapshot exclude each other/],
  [{ tail: 5, last: 5 }, /tail and last exclude each other/],
];

test("an option of a subscription that is misspelt, of another kind, or contradicts another is one error that says so, and nothing is subscribed", options, async (t) => {
  for (const [wrong, message] of WRONG) {
    const { fanfare, errors, opened, asked } = modelClient(t);
    const told = [];
    const onError = (error) => told.push(error);
    fanfare.subscribe("a.*", { onError, ...wrong }, () => {});
    await assert.rejects(async () => { for await (const _ of fanfare.subscribe("a.*", wrong)); }, { code: "invalid_option", pattern: "a.*", message });
    await eventually(() => errors.length === 2, `two errors: ${Object.keys(wrong)}`);
    for (const { code, pattern, message: said } of [...errors, ...told]) {
      assert.deepEqual([code, pattern], ["invalid_option", "a.*"], said);
      assert.match(said, message);
    }
    assert.equal(told.length, "onError" in wrong ? 0 : 1);
    assert.deepEqual([opened.length, errors.length], [0, 2]);
    fanfare.reconnect();
    fanfare.subscribe("b", () => {});
    await fanfare.ready();
    assert.deepEqual(asked, [["b"]]);
  }
});

test("R24 a loop that is to overflow in a way that there is none is refused by name, and subscribes to nothing", options, async (t) => {
  const { fanfare, is, broker } = modelClient(t);
  fanfare.subscribe("b", () => {});
  for (const overflow of ["drop", 5]) {
    await assert.rejects(async () => { for await (const _ of fanfare.subscribe("a", { overflow })); }, { code: "invalid_option", message: /overflow is to be "throw", "latest" or "drop-oldest", not ("drop"|5)/ });
  }
  await is("live");
  await eventually(() => !broker.session.live.has("a"));
});

test("what goes to the broker as it is said is refused by it, by name, and stops nothing else", options, async (t) => {
  const broker = await startBroker(t);
  for (const [wrong, message] of [[{ snapshot: "yes" }, /snapshot/], [{ snapshot: 1 }, /snapshot/], [{ since: 5 }, /since/], [{ since: "a while ago" }, /since/], [{ last: true }, /last/]]) {
    const { fanfare, errors, is } = client(t, broker.url);
    const got = [];
    fanfare.subscribe("a", wrong, () => {});
    fanfare.subscribe("b", ({ data }) => got.push(data));
    await is("live");
    await publish(broker, "b", 1);
    await eventually(() => got.length === 1 && errors.length === 1);
    assert.match(errors[0].code, /^(bad_request|invalid_cursor)$/);
    assert.deepEqual(errors[0].pattern, "a");
    assert.match(errors[0].message, message);
    fanfare.close();
  }
});

test("options of a subscription that say nothing, or what they may, are heeded", options, async (t) => {
  const { fanfare, errors } = modelClient(t);
  const { signal } = new AbortController();
  const nothing = { snapshot: undefined, last: null, tail: undefined, since: undefined, latest: false, maxRate: undefined, signal: undefined, onGap: null, onLive: undefined, onError: undefined, buffer: undefined, overflow: undefined };
  const all = [null, undefined, {}, nothing, { snapshot: true, last: 2 }, { tail: 1, snapshot: false }, { latest: true, maxRate: 0.5 }, { signal, buffer: 5, overflow: "latest" }];
  const live = [];
  for (const [n, each] of all.entries()) fanfare.subscribe(`a.${n}`, each && { ...each, onLive: () => live.push(n) }, () => {});
  await fanfare.ready();
  assert.deepEqual(live.sort(), [2, 3, 4, 5, 6, 7]);
  assert.deepEqual(errors, []);
});

test("an option of a client that is misspelt or of another kind is refused before anything is opened, and says so", options, async (t) => {
  for (const [wrong, message] of [
    [{ tokens: "x" }, /new Fanfare: no option is called tokens; is it token\?/],
    [{ WebSocket: "x" }, /WebSocket is to be a class, not "x"/],
    [{ parse: "x" }, /parse is to be a function, not "x"/],
    [{ raw: "yes" }, /raw is to be true or false, not "yes"/],
    [{ schemas: 5 }, /schemas is to be an object of schemas, by topic or pattern, not 5/],
    [{ schemas: { a: "string" } }, /schemas is to be an object of schemas, by topic or pattern, not an object/],
    ...["x", "5000", -5, NaN].map((idleClose) => [{ idleClose }, /idleClose is to be milliseconds, not /]),
    ...[5, {}, true].map((token) => [{ token }, /token is to be a text or a function, not /]),
    [{ snapshot: true }, /snapshot; it is one of a subscription: subscribe\(pattern, \{ snapshot \}\)/],
  ]) {
    const { fanfare, is, errors, opened } = modelClient(t, wrong);
    fanfare.subscribe("a", () => {});
    await is("refused");
    await assert.rejects(fanfare.ready(), { code: "invalid_option", message });
    await assert.rejects(fanfare.publish("a", 1), { code: "offline" });
    assert.deepEqual(errors.map(({ code }) => code), ["invalid_option"]);
    assert.match(errors[0].message, message);
    assert.equal(opened.length, 0);
  }
  await assert.rejects(modelClient(t, { queue: "yes" }).fanfare.publish("a", 1), { name: "TypeError", code: "invalid_option", message: "publish: queue is to be boolean, not yes" });
  const undefinedOnes = modelClient(t, { idleClose: undefined, schemas: null, raw: null, token: null });
  await undefinedOnes.fanfare.publish("a", 1);
  assert.deepEqual(undefinedOnes.errors, []);
  const { fanfare, errors } = modelClient(t, { token: undefined, idleClose: 0, queue: false, raw: false, parse: undefined, schemas: undefined, read: JSON.parse, write: JSON.stringify });
  await fanfare.publish("a", 1);
  assert.deepEqual(errors, []);
});

test("R5 a signal that was aborted before begins nothing, and ends its loop", options, async (t) => {
  const { fanfare, opened } = modelClient(t);
  const { signal } = Object.assign(new AbortController());
  const gone = AbortSignal.abort();
  fanfare.subscribe("a", { signal: gone }, () => assert.fail("nobody is to hear"));
  for await (const _ of fanfare.subscribe("a", { signal: gone })) assert.fail("nothing comes");
  await turn();
  assert.equal(fanfare.state, "idle");
  assert.equal(opened.length, 0);
  // A signal that lives on keeps nothing of what was undone.
  for (let n = 0; n < 100; n++) fanfare.subscribe("a", { signal }, () => {})();
  assert.equal(getEventListeners(signal, "abort").length, 0);
});

test("R7 closed is closed, whatever is called then", options, async (t) => {
  const { fanfare, opened, states } = modelClient(t);
  fanfare.subscribe("a", () => {});
  fanfare.close();
  for (const deed of ["disconnect", "reconnect", "close"]) fanfare[deed]();
  await fanfare.renew();
  await assert.rejects(fanfare.publish("a", 1), { code: "closed" });
  await assert.rejects(fanfare.ready(), { code: "closed" });
  assert.throws(() => fanfare.subscribe("a", () => {}), { code: "closed" });
  await new Promise((later) => setTimeout(later, 20));
  assert.deepEqual(states.map(({ state }) => state), ["closed"]);
  assert.equal(opened.length, 0);
});

test("R7 a client that is closed while it connects opens nothing more, and lets go of what is open", options, async (t) => {
  let answer;
  const { fanfare, opened } = modelClient(t, { token: () => new Promise((resolve) => { answer = resolve; }) });
  fanfare.subscribe("a", () => {});
  await eventually(() => answer);
  fanfare.close();
  answer("a token");
  await new Promise((later) => setTimeout(later, 20));
  assert.equal(opened.length, 0, "its token came too late");
  const other = modelClient(t);
  other.fanfare.subscribe("a", () => {});
  await eventually(() => other.opened.length === 1);
  other.fanfare.close();
  await turn();
  assert.equal(other.opened[0].readyState, 3);
  assert.equal(other.fanfare.state, "closed");
});

test("R7 what was let go of stays so while less is wanted, and comes back with more", options, async (t) => {
  const { fanfare, is, opened } = modelClient(t);
  const undo = fanfare.subscribe("a", () => {});
  fanfare.subscribe("b", () => {});
  await is("live");
  fanfare.disconnect();
  undo();
  await new Promise((later) => setTimeout(later, 20));
  assert.equal(fanfare.state, "idle");
  fanfare.subscribe("c", () => {});
  await is("live");
  assert.equal(opened.length, 2);
});

test("R11 a client may be told to reconnect, let go and subscribe from within everything that it tells", options, async (t) => {
  const { fanfare, is, broker, opened, pump, errors } = modelClient(t);
  const deeds = ["reconnect", "disconnect", "subscribe", "undo", "reconnect"];
  const did = [];
  const act = () => {
    const deed = deeds.shift();
    if (!deed) return;
    did.push(deed);
    if (deed === "subscribe") fanfare.subscribe("b", act);
    else if (deed === "undo") undo();
    else fanfare[deed]();
  };
  const undo = fanfare.subscribe("a", { onLive: act, onGap: act }, act);
  fanfare.on("state", ({ state }) => { if (state === "live") act(); });
  for (let n = 0; did.length < 5 && n < 100; n++) {
    if (fanfare.state === "idle") fanfare.reconnect();
    await new Promise((later) => setTimeout(later, 5));
    broker.publish("a");
    broker.publish("b");
    if (opened.at(-1)?.session) pump();
  }
  assert.equal(did.length, 5);
  await is("live");
  assert.deepEqual(errors, []);
});

test("R5 handlers that undo themselves or others, or subscribe, while an event is handed over are heeded at once", options, async (t) => {
  const { fanfare, is, broker, pump } = modelClient(t);
  const got = [];
  const first = fanfare.subscribe("a", () => { got.push("first"); first(); second(); fanfare.subscribe("a", () => got.push("new")); });
  const second = fanfare.subscribe("a", () => got.push("second"));
  fanfare.subscribe("a", () => got.push("third"));
  await is("live");
  broker.publish("a");
  pump();
  assert.deepEqual(got, ["first", "third"]);
  await new Promise((later) => setTimeout(later, 20));
  broker.publish("a");
  pump();
  assert.deepEqual(got, ["first", "third", "third", "new"]);
});

test("R10 who subscribes or undoes when it hears of a gap gets what is its own", options, async (t) => {
  const { fanfare, is, broker, pump } = modelClient(t);
  const got = [];
  const undo = fanfare.subscribe("a", { snapshot: true, onGap: () => { undo(); fanfare.subscribe("a", { snapshot: true }, ({ data }) => got.push(`again ${data}`)); } }, ({ data }) => got.push(data));
  await is("live");
  broker.publish("a");
  broker.publish("a", { lost: true });
  pump();
  await eventually(() => got.length === 2);
  assert.deepEqual(got, ["a/1", "again a/2"]);
});

test("two clients of one broker have nothing in common", options, async (t) => {
  const broker = await startBroker(t);
  const [one, other] = [client(t, broker.url), client(t, broker.url)];
  const got = [];
  for (const { fanfare } of [one, other]) fanfare.subscribe("a", ({ data }) => got.push(data));
  await one.is("live");
  await other.is("live");
  one.fanfare.close();
  await publish(broker, "a", 1);
  await eventually(() => got.length === 1);
  assert.equal(other.fanfare.state, "live");
});

test("R4 a broker of another release is told of once", options, async (t) => {
  const broker = await startBroker(t);
  const same = client(t, broker.url, { WebSocket: watchedSocket() });
  same.fanfare.subscribe("a", () => {});
  await same.is("live");
  assert.deepEqual(same.errors, []);
  const welcome = {};
  const { fanfare, is, errors } = modelClient(t, { welcome });
  fanfare.subscribe("a", () => {});
  await is("live");
  assert.deepEqual(errors, [], "one that does not say");
  for (const version of ["0.1.7", "0.2.0", "0.2.0", "0.10.0"]) {
    welcome.version = version;
    const { session } = fanfare;
    fanfare.reconnect();
    await eventually(() => fanfare.session && fanfare.session !== session && fanfare.state === "live");
  }
  assert.deepEqual(errors.map(({ code }) => code), ["version", "version"]);
  assert.deepEqual(errors.map(({ message }) => message), ["0.2.0", "0.10.0"].map((version) => `${version}, not 0.1.x`));
});

/** A schema as Standard Schema has it: a positive number, which becomes a text. */
const positive = {
  "~standard": {
    version: 1, vendor: "test",
    validate: (data) => data?.n > 0 ? { value: { n: `${data.n}` } } : { issues: [{ message: "it is not above 0", path: [{ key: "n" }] }] },
  },
};

test("R25 what a schema does not let through is told of and handed to nobody, and what it lets through is as it says", options, async (t) => {
  const broker = await startBroker(t);
  const socket = watchedSocket();
  const { fanfare, is, errors } = client(t, broker.url, { WebSocket: socket, schemas: { "orders.*": positive, "orders.free": { "~standard": { validate: (data) => ({ value: data }) } } } });
  const got = [], heard = [], rest = [];
  fanfare.subscribe("orders.*", { snapshot: true }, ({ topic, data }) => got.push([topic, data]));
  fanfare.subscribe(">", ({ topic, data }) => rest.push([topic, data]));
  fanfare.on("event", ({ data }) => heard.push(data));
  await is("live");
  await publish(broker, "orders.1", { n: 1 });
  await publish(broker, "orders.1", { n: -1 });
  const spoilt = (await publish(broker, "orders.1", { n: "none" }));
  await publish(broker, "orders.free", { n: 0 });
  await publish(broker, "constructor", { n: 0 });
  await eventually(() => rest.length === 3);
  assert.deepEqual(got, [["orders.1", { n: "1" }], ["orders.free", { n: 0 }]]);
  assert.deepEqual(rest, [...got, ["constructor", { n: 0 }]]);
  assert.equal(heard.length, 3);
  assert.deepEqual(errors.map(({ code, message }) => [code, message]), Array(2).fill(["schema", "orders.1 has other data: n: it is not above 0"]));
  assert.deepEqual([errors[0].error.topic, errors[0].error.issues.length], ["orders.1", 1]);
  // What was told of once is not asked for again, also where nothing came behind it.
  const last = await publish(broker, "orders.1", { n: -2 });
  await eventually(() => errors.length === 3);
  assert.notEqual(last, spoilt);
  fanfare.reconnect();
  await eventually(() => socket.of("subscribe").some(({ since }) => since === last), "it goes on behind it");
  await fanfare.publish("orders.1", undefined, { removed: true });
  await eventually(() => got.length === 3);
  assert.equal(errors.length, 3, "a tombstone has no data of its kind");
});

test("R25 a schema that would answer later, and a parser that throws, are told of and stop nothing", options, async (t) => {
  const broker = await startBroker(t);
  const later = client(t, broker.url, { schemas: { a: { "~standard": { validate: async (data) => ({ value: data }) } } } });
  const throws = client(t, broker.url, { parse: (raw) => { if (raw === "1") throw new Error("mine"); return JSON.parse(raw); } });
  const got = [];
  for (const { fanfare, is } of [later, throws]) {
    fanfare.subscribe(">", ({ topic, data }) => got.push([topic, data]));
    await is("live");
  }
  await publish(broker, "a", 1);
  await publish(broker, "b", 2);
  await eventually(() => got.length === 2);
  assert.deepEqual(got, [["b", 2], ["b", 2]]);
  assert.deepEqual(later.errors.map(({ code }) => code), ["schema"]);
  assert.match(later.errors[0].message, /one is needed that answers at once/);
  assert.deepEqual(throws.errors.map(({ code, message }) => [code, message]), [["parse", "mine"]]);
});

test("R6 what is undone by somebody who joins what is live already is given back", options, async (t) => {
  const { fanfare, is, broker } = modelClient(t);
  fanfare.subscribe("a", () => {});
  const undo = fanfare.subscribe("b", () => {});
  await is("live");
  // It is live without a word, and it is from within that that one is given back.
  fanfare.subscribe("a", { onLive: () => undo() }, () => {});
  await eventually(() => !broker.session.live.has("b"));
});

test("many patterns over the limit are one error", options, async (t) => {
  const broker = await startBroker(t, { FANFARE_LIMITS_SUBSCRIPTIONS: "10" });
  const { fanfare, errors, is } = client(t, broker.url);
  let refused = 0;
  for (let n = 0; n < 200; n++) fanfare.subscribe(`x.${n}`, { onError: () => { refused += 1; } }, () => {});
  await is("live");
  await eventually(() => refused >= 190);
  assert.deepEqual(errors.map(({ code }) => code), ["too_many"]);
});

test("an error that nobody hears is on the console, and one that somebody hears is not", options, async (t) => {
  const broker = await startBroker(t);
  const warned = [];
  t.mock.method(console, "warn", (text) => warned.push(text));
  const fanfare = new Fanfare(broker.url);
  t.after(() => fanfare.close());
  let heard = 0;
  fanfare.subscribe("a..b", { onError: () => { heard += 1; } }, () => {});
  await eventually(() => heard);
  assert.deepEqual(warned, []);
  fanfare.subscribe("c..d", () => {});
  await eventually(() => warned.length);
  assert.match(warned[0], /^fanfare: invalid_pattern: "c\.\.d"/);
});

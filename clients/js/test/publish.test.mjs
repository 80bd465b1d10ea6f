// Publishing: each event once, whatever happens on the way.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Publishing } from "../fanfare/publishing.js";
import { client, eventually, startBroker, startProxy, tokenFor, watchedSocket } from "./harness.mjs";

const options = { timeout: 90_000 };

const kept = async ({ url }, topic) => {
  const events = [];
  for (let since = ""; since !== undefined;) {
    const page = await (await fetch(`${url}/v1/topics/${topic}/events?limit=1000${since && `&since=${since}`}`)).json();
    events.push(...page.events.map(({ data }) => data));
    since = page.events.length ? page.next : undefined;
  }
  return events;
};

test("R29 a publish resolves with the event's id, and a refusal rejects with its code", options, async (t) => {
  const broker = await startBroker(t);
  const { fanfare } = client(t, broker.url);
  const first = await fanfare.publish("a", 1, { type: "created" });
  assert.match(first.id, /-1$/);
  assert.deepEqual(await fanfare.publish("a", 2, { key: "mine" }), await fanfare.publish("a", 2, { key: "mine" }).then(({ repeated, ...rest }) => { assert.ok(repeated); return rest; }));
  await assert.rejects(fanfare.publish("no topic", 1), { code: "invalid_topic" });
  await assert.rejects(fanfare.publish("a", 3, { key: "mine" }), { code: "idempotency_mismatch" });
  const circle = {};
  circle.circle = circle;
  const no = 'publish("a", data): no JSON can be made of the data: ';
  await assert.rejects(fanfare.publish("a", circle), { name: "TypeError", message: `${no}it contains itself, so it would have no end` });
  await assert.rejects(fanfare.publish("a", { n: [1n] }), { name: "TypeError", message: `${no}it has a BigInt; make it a text, or use fanfare/cbor, which has them` });
  for (const thrown of [new Error("not me"), "not me"]) await assert.rejects(fanfare.publish("a", { toJSON() { throw thrown; } }), { name: "TypeError", message: `${no}not me`, cause: thrown });
  await assert.rejects(fanfare.publish("a", { toJSON() { throw undefined; } }), { name: "TypeError", message: `${no}undefined` });
  assert.deepEqual(await fanfare.publish("a", 4, { keep: false }), {});
  await fanfare.publish("a", undefined, { removed: true });
  const answer = fanfare.publish("b", circle.list = { n: 1 });
  circle.list.n = 2;
  await answer;
  assert.deepEqual(await kept(broker, "b"), [{ n: 1 }], "as it was");
});

test("R29 while the broker is away a publish is refused at once, or waits in its turn", options, async (t) => {
  const broker = await startBroker(t);
  const { fanfare, is } = client(t, broker.url);
  fanfare.subscribe("a", () => {});
  await is("live");
  await broker.stop();
  await is("waiting");
  await assert.rejects(fanfare.publish("a", 0), { code: "offline" });
  const waiting = [1, 2, 3].map((n) => fanfare.publish("a", n, { queue: true }));
  const stop = new AbortController();
  const given = fanfare.publish("a", 4, { queue: true, signal: stop.signal });
  stop.abort();
  await assert.rejects(given, { code: "aborted" });
  await assert.rejects(fanfare.publish("a", 5, { queue: true, timeout: 20 }), { code: "timeout" });
  await broker.start();
  await Promise.all(waiting);
  assert.deepEqual(await kept(broker, "a"), [1, 2, 3]);
});

test("R29 no more than a thousand wait", options, async (t) => {
  const broker = await startBroker(t);
  await broker.stop();
  const { fanfare } = client(t, broker.url, { queue: true });
  const waiting = Array.from({ length: 1000 }, (_, n) => fanfare.publish("a", n));
  await assert.rejects(fanfare.publish("a", 1000), { code: "too_many" });
  fanfare.close();
  for (const { status, reason } of await Promise.allSettled(waiting)) assert.deepEqual([status, reason.code], ["rejected", "closed"]);
});

test("R34 and R29 what is under way at a cut or a kill -9 is stored once", options, async (t) => {
  const broker = await startBroker(t);
  const proxy = await startProxy(t, broker.port);
  const { fanfare, is } = client(t, proxy.url, { queue: true });
  fanfare.subscribe("other", () => {});
  await is("live");
  const answers = [];
  for (let n = 0; n < 600; n++) {
    answers.push(fanfare.publish("a", n));
    if (n % 100 === 50) proxy.drop();
    if (n === 320) await broker.restart();
    if (n % 10 === 0) await new Promise(setImmediate);
  }
  const ids = (await Promise.all(answers)).map(({ id }) => id);
  const found = await kept(broker, "a");
  assert.equal(new Set(ids).size, 600);
  assert.deepEqual([...found].sort((a, b) => a - b), found.map((_, n) => n));
  assert.equal(found.length, 600);
});

/** Publishes, of which `send()` gives the data of the next one that may go; `answer(n, frame)` answers the nth. */
function publishes(t) {
  const publishing = new Publishing();
  t.after(() => publishing.fail("closed", "closed"));
  let ref = 0;
  const refs = new Map(), settled = new Map();
  return {
    publishing, settled,
    add(topic, n, options = {}) {
      publishing.add({ topic, ...options }, `${n}`).then((answer) => settled.set(n, answer.id ?? "stored"), ({ code, message }) => settled.set(n, `${code}: ${message}`));
    },
    send() {
      const text = publishing.next(() => ++ref);
      if (text === null) return null;
      const { data } = JSON.parse(text);
      refs.set(data, ref);
      return data;
    },
    answer: (n, frame = { op: "ack" }) => publishing.take({ ref: refs.get(n), ...frame }),
    goOn: () => eventually(() => !publishing.pauseMs),
  };
}

const forNow = { op: "error", code: "unavailable", message: "for now" };

test("R29 what is refused for a while goes out again in the order in which it was published, and one by one", options, async (t) => {
  const { publishing, add, send, answer, goOn, settled } = publishes(t);
  for (let n = 0; n < 5; n++) add("a", n);
  assert.deepEqual(Array.from({ length: 4 }, send), [0, 1, 2, 3]);
  answer(0);
  for (const refused of [2, 1, 3]) answer(refused, forNow);
  assert.equal(send(), null, "not at once");
  await goOn();
  assert.deepEqual([send(), send()], [1, null]);
  add("b", 9);
  assert.deepEqual([send(), send()], [9, null], "another topic has its own order");
  answer(1);
  assert.deepEqual([send(), send()], [2, null]);
  // What was sent again goes before what was not, wherever it stood.
  publishing.cut();
  assert.deepEqual([send(), send(), send()], [2, 9, null]);
  for (const n of [2, 3, 4]) {
    answer(n);
    assert.equal(send(), n < 4 ? n + 1 : null);
  }
  await eventually(() => settled.size === 5);
  assert.deepEqual([...settled.values()], Array(5).fill("stored"));
});

test("R29 what is refused for a while is not stored behind what was published later on its topic: it is rejected then", options, async (t) => {
  const { add, send, answer, goOn, settled } = publishes(t);
  for (let n = 0; n < 4; n++) add("a", n);
  assert.deepEqual(Array.from({ length: 4 }, send), [0, 1, 2, 3]);
  answer(0, forNow);
  answer(1, forNow);
  await goOn();
  assert.equal(send(), null, "while later ones are under way it waits for what becomes of them");
  answer(2);
  answer(3, forNow);
  await eventually(() => settled.size === 3);
  const rejected = "unavailable: for now; and what was published behind it on a is stored";
  assert.deepEqual([...settled].sort(), [[0, rejected], [1, rejected], [2, "stored"]]);
  await goOn();
  assert.deepEqual([send(), send()], [3, null]);
});

test("R29 what is to arrive however long it takes goes one by one on its topic, so that a refusal for a while loses nothing", options, async (t) => {
  const { add, send, answer, goOn, settled } = publishes(t);
  for (let n = 0; n < 3; n++) add("a", n, { queue: true });
  add("b", 3, { queue: true });
  assert.deepEqual([send(), send(), send()], [0, 3, null]);
  answer(0, forNow);
  await goOn();
  for (const n of [0, 1, 2]) {
    assert.deepEqual([send(), send()], [n, null]);
    answer(n);
  }
  answer(3);
  await eventually(() => settled.size === 4);
  assert.deepEqual([...settled.values()], Array(4).fill("stored"));
});

test("R29 of what has no key nobody knows, and that is said", options, async (t) => {
  const broker = await startBroker(t);
  const proxy = await startProxy(t, broker.port);
  const socket = watchedSocket();
  const { fanfare, is } = client(t, proxy.url, { WebSocket: socket });
  fanfare.subscribe("other", () => {});
  await is("live");
  proxy.swallows = true;
  const answer = fanfare.publish("a", 1, { key: null });
  await eventually(() => socket.of("publish").length === 1, "it is under way");
  proxy.swallows = false;
  proxy.drop();
  await assert.rejects(answer, { code: "outcome_unknown" });
});

test("own events are known, and may be left out", options, async (t) => {
  const secret = "a-secret-for-this-test-and-no-other-0123456789";
  const broker = await startBroker(t, { FANFARE_AUTH_JWT_SECRET: secret });
  const [one, other] = ["ada", "bob"].map((sub) => client(t, broker.url, { token: () => tokenFor(secret, { sub }) }));
  const got = [], theirs = [];
  one.fanfare.subscribe("a", ({ data, own }) => got.push([data, own]));
  other.fanfare.subscribe("a", ({ data, own }) => theirs.push([data, own]));
  await one.fanfare.ready();
  await other.fanfare.ready();
  await one.fanfare.publish("a", 1);
  await other.fanfare.publish("a", 2);
  await one.fanfare.publish("a", 3, { except: true });
  await other.fanfare.publish("a", 4);
  await eventually(() => got.length === 3 && theirs.length === 4);
  assert.deepEqual(got, [[1, true], [2, false], [4, false]]);
  assert.deepEqual(theirs, [[1, false], [2, true], [3, false], [4, true]]);
});

for (const WebSocket of [undefined, null]) {
  test(`own events are known by their answer where nothing says who sent them (${WebSocket === null ? "event streams" : "WebSockets"})`, options, async (t) => {
    const broker = await startBroker(t, { FANFARE_TOPICS: '[{match = "quiet", from = false}]' });
    const { fanfare, is } = client(t, broker.url, WebSocket === null ? { WebSocket } : {});
    const other = client(t, broker.url);
    const got = [];
    fanfare.subscribe("quiet", ({ data, own }) => got.push([data, own]));
    await is("live");
    await Promise.all(Array.from({ length: 60 }, (_, n) => (n % 3 ? fanfare : other.fanfare).publish("quiet", n)));
    await eventually(() => got.length === 60);
    assert.deepEqual(got.filter(([n, own]) => own !== (n % 3 > 0)), []);
  });
}

test("what JSON can't carry, and what is no option, is refused by name", options, async (t) => {
  const broker = await startBroker(t);
  const { fanfare } = client(t, broker.url);
  for (const data of [undefined, () => 1, Symbol("a")]) await assert.rejects(fanfare.publish("a", data), { name: "TypeError", message: /no undefined and no functions/ });
  await assert.rejects(fanfare.publish("a", 1, { queu: true }), { name: "TypeError", message: /no option queu/ });
  await assert.rejects(fanfare.publish("a", 1, { timeout: "5" }), { name: "TypeError", message: /timeout is to be number/ });
});

test("a bound value of a session's own topic moves to the next session's, and one that is refused there is told of", options, async (t) => {
  const secret = "a-secret-for-this-test-and-no-other-0123456789";
  const broker = await startBroker(t, { FANFARE_AUTH_JWT_SECRET: secret, FANFARE_TOPICS: '[{match = "seats.{session}", publish = "own", subscribe = "anyone"}]' });
  const { fanfare, is, errors } = client(t, broker.url, { token: () => tokenFor(secret, { publish: [] }) });
  const got = [];
  fanfare.subscribe("seats.*", ({ topic, removed }) => got.push([topic, removed]));
  await is("live");
  const { session } = fanfare;
  await fanfare.publish("seats.{session}", "ann", { bound: true });
  await eventually(() => got.some(([topic]) => topic === `seats.${session}`));
  fanfare.reconnect();
  await eventually(() => fanfare.session && fanfare.session !== session && got.some(([topic]) => topic === `seats.${fanfare.session}`));
  assert.deepEqual(errors, []);
  await fanfare.publish(`seats.${fanfare.session}`, "bob", { bound: true });
  fanfare.reconnect();
  await eventually(() => errors.some(({ message }) => /the bound value of seats\./.test(message)));
});

test("a bound value is said again on each connection, before a planned stop ends the old one, and ends with its client", options, async (t) => {
  const broker = await startBroker(t, { FANFARE_SERVER_SHUTDOWN_DELAY: "2s", FANFARE_LIMITS_BOUND_LINGER: "30s" });
  const proxy = await startProxy(t, broker.port);
  const seen = client(t, broker.url), holder = client(t, proxy.url);
  const got = [];
  seen.fanfare.subscribe("seat", ({ data, removed, from }) => got.push(removed ? "removed" : [data, from?.session]));
  await seen.fanfare.ready();
  await holder.fanfare.publish("seat", "ann", { bound: true });
  const first = holder.fanfare.session;
  proxy.drop();
  await eventually(() => got.length === 2);
  const second = holder.fanfare.session;
  const stopping = broker.stop("SIGTERM");
  await eventually(() => got.length === 3);
  assert.deepEqual(got.map(([data]) => data), ["ann", "ann", "ann"]);
  assert.equal(new Set([first, second, holder.fanfare.session]).size, 3);
  await stopping;
  await broker.start();
  await eventually(() => got.length === 4);
  await seen.is("live");
  assert.ok(!got.includes("removed"), "nobody saw it flicker");
  holder.fanfare.close();
  await eventually(() => got.at(-1) === "removed");
});

test("a client that only publishes gives its connection back", options, async (t) => {
  const broker = await startBroker(t);
  const socket = watchedSocket();
  const { fanfare, is } = client(t, broker.url, { WebSocket: socket, idleClose: 20 });
  await fanfare.publish("a", 1);
  await is("idle");
});

test("R34 over one kill -9 after the other nothing that is published is lost or doubled, and what is acknowledged is what the broker has", { timeout: 300_000 }, async (t) => {
  const kills = Number(process.env.FANFARE_KILLS ?? 3);
  const broker = await startBroker(t);
  const publishers = [client(t, broker.url, { queue: true }), client(t, broker.url, { queue: true }), client(t, broker.url, { queue: true, WebSocket: null })];
  const acknowledged = new Map();
  let isOver = false, said = 0;
  /** One publish behind the other, and some of them side by side, as long as it lasts. */
  const publishOn = async ({ fanfare }, who) => {
    const lane = async (lane) => {
      for (let n = 0; !isOver; n++) {
        const name = `${who}/${lane}/${n}`;
        said += 1;
        const { id } = await fanfare.publish(`from.${who}`, name);
        assert.ok(!acknowledged.has(name), name);
        acknowledged.set(name, id);
      }
    };
    await Promise.all(Array.from({ length: 20 }, (_, n) => lane(n)));
  };
  const running = publishers.map(publishOn);
  for (let n = 0; n < kills; n++) {
    const before = acknowledged.size;
    await eventually(() => acknowledged.size > before + 200);
    await broker.stop("SIGKILL");
    await broker.start();
  }
  const before = acknowledged.size;
  await eventually(() => acknowledged.size > before + 100);
  isOver = true;
  await Promise.all(running);
  const history = new Map();
  for (let since = "-1h"; ;) {
    const page = await (await fetch(`${broker.url}/v1/events?match=from.*&limit=1000&since=${since}`)).json();
    if (!page.events.length) break;
    for (const { data, id } of page.events) {
      assert.ok(!history.has(data), `${data} is there twice`);
      history.set(data, id);
    }
    since = page.next;
  }
  t.diagnostic(`${said} publishes over ${kills} kills`);
  assert.equal(said, acknowledged.size);
  assert.deepEqual(history, new Map([...acknowledged].sort(([, a], [, b]) => a.split("-")[1] - b.split("-")[1] || a.split("-")[2] - b.split("-")[2])));
});

// Event streams, for where WebSockets do not come through.

import assert from "node:assert/strict";
import { createServer, request as httpRequest } from "node:http";
import { test } from "node:test";
import { EventStream } from "../fanfare/eventstream.js";
import { client, eventually, publish, startBroker, startProxy, tokenFor, watchedSocket } from "./harness.mjs";

const options = { timeout: 90_000 };
const SECRET = "a-secret-for-this-test-and-no-other-0123456789";

/** What a stream has in it, cut into pieces at these places. */
function read(text, size = text.length) {
  const blocks = [];
  const stream = new EventStream((block) => blocks.push(block));
  for (let at = 0; at < text.length; at += size) stream.push(text.slice(at, at + size));
  return blocks;
}

test("R22 a stream is read alike however its lines end and wherever it is cut", () => {
  for (const end of ["\n", "\r", "\r\n"]) {
    const lines = [": comment", "", "event: fanfare.live", "id: 7", "data: {\"a\":", "data:1}", "", "id: x\0y", "data", "", "id", "data:  two", "unknown: 1", "nothing", "", "event: no data", "", "data: never ended"];
    const expected = [{ event: "fanfare.live", id: "7", data: '{"a":\n1}' }, { data: "" }, { id: "", data: " two" }];
    const text = lines.join(end);
    for (let size = 1; size <= text.length; size++) assert.deepEqual(read(text, size), expected, `${JSON.stringify(end)} by ${size}`);
  }
});

test("R22 a large event in pieces of one character takes linear time", () => {
  const data = "x".repeat(1_000_000);
  const begun = process.cpuUsage();
  assert.deepEqual(read(`data: ${data}\n\n`, 1), [{ data }]);
  assert.ok(process.cpuUsage(begun).user < 5_000_000);
});

const without = { WebSocket: null };

/** An HTTP proxy before a broker, which answers by itself where `answers(request, response)` says that it did. */
async function startRelay(t, broker, answers) {
  const server = createServer((request, response) => {
    if (answers(request, response)) return;
    const far = httpRequest(`${broker.url}${request.url}`, { method: request.method, headers: request.headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    far.on("error", () => response.destroy());
    response.on("close", () => far.destroy());
    request.pipe(far);
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  t.after(() => { server.closeAllConnections(); server.close(); });
  return { server, url: `http://127.0.0.1:${server.address().port}` };
}

/** Holds the timers of this many milliseconds, which run when they are told to; returns what they are to do. */
function holdTimers(t, heldMs) {
  const { setTimeout } = globalThis;
  const held = [];
  globalThis.setTimeout = (deed, ms, ...more) => ms === heldMs ? (held.push(deed), setTimeout(() => {}, 0)) : setTimeout(deed, ms, ...more);
  t.after(() => { globalThis.setTimeout = setTimeout; });
  return held;
}

test("R21 without a WebSocket all works over event streams", options, async (t) => {
  const broker = await startBroker(t);
  await publish(broker, "a.x", 0);
  const { fanfare, is } = client(t, broker.url, without);
  const all = [], tiles = [], late = [];
  fanfare.subscribe("a.>", ({ data }) => all.push(data));
  fanfare.subscribe("a.*", { snapshot: true }, ({ data }) => tiles.push(data));
  await is("live");
  assert.match((await fanfare.publish("a.x", 1)).id, /-2$/);
  await eventually(() => all.length === 1 && tiles.length === 2);
  const undo = fanfare.subscribe("a.x", { tail: 5 }, ({ data }) => late.push(data));
  await eventually(() => late.length === 2);
  await fanfare.publish("a.x", 2);
  await eventually(() => all.length === 2 && tiles.length === 3 && late.length === 3);
  undo();
  await fanfare.publish("a.x", 3);
  await eventually(() => all.length === 3 && tiles.length === 4);
  assert.deepEqual([all, tiles, late], [[1, 2, 3], [0, 1, 2, 3], [0, 1, 2]]);
  await assert.rejects(fanfare.publish("a.x", 1, { bound: true }), { code: "bound_needs_websocket" });
  await assert.rejects(fanfare.publish("no topic", 1), { code: "invalid_topic" });
});

test("R21 what is published over event streams keeps the order of its topic", options, async (t) => {
  const broker = await startBroker(t);
  const { fanfare, is } = client(t, broker.url, without);
  const got = [];
  fanfare.subscribe("a.x", ({ data }) => got.push(data));
  await is("live");
  const numbers = Array.from({ length: 200 }, (_, n) => n);
  await Promise.all(numbers.map((n) => fanfare.publish("a.x", n)));
  await eventually(() => got.length === numbers.length);
  assert.deepEqual(got, numbers);
});

test("R21 a publish over event streams that nobody answers is given up after 30 s and sent again by the same key, in its turn", options, async (t) => {
  const broker = await startBroker(t);
  const keys = [], ended = [];
  const { url } = await startRelay(t, broker, (request, response) => {
    if (!/events$/.test(request.url)) return false;
    keys.push(request.headers["idempotency-key"]);
    response.on("close", () => ended.push(response.writableFinished));
    // The first one hangs.
    return keys.length === 1;
  });
  const { fanfare, is } = client(t, url, without);
  const got = [];
  fanfare.subscribe("a", ({ data }) => got.push(data));
  await is("live");
  const limits = holdTimers(t, 30_000);
  // A limit of its own would be of 30 s too.
  const answers = [1, 2].map((n) => fanfare.publish("a", n, { timeout: 0 }));
  await eventually(() => keys.length === 1);
  assert.equal(limits.length, 1);
  assert.deepEqual([ended, got], [[], []], "the second one waits for the first");
  limits[0]();
  await Promise.all(answers);
  await eventually(() => got.length === 2);
  assert.equal(ended[0], false, "the request that hung was ended");
  assert.ok(keys[0] && keys.slice(1).includes(keys[0]), keys.join(" "));
  assert.deepEqual(got, [1, 2]);
});

test("R21 a proxy's page in place of an event stream passes, and nothing is lost", options, async (t) => {
  const broker = await startBroker(t);
  let isPage = false;
  const { url, server } = await startRelay(t, broker, ({ url }, response) => isPage && url.includes("/v1/sse") && response.writeHead(200, { "Content-Type": "text/html" }).end("<p>back soon</p>"));
  const { fanfare, is, errors, gaps } = client(t, url, without);
  const got = [];
  fanfare.subscribe("a", ({ data }) => got.push(data));
  await is("live");
  await publish(broker, "a", 1);
  await eventually(() => got.length === 1);
  isPage = true;
  server.closeAllConnections();
  await eventually(() => errors.some(({ code }) => code === "http_200"));
  assert.notEqual(fanfare.state, "live");
  await publish(broker, "a", 2);
  isPage = false;
  await eventually(() => got.length === 2);
  assert.deepEqual([got, gaps], [[1, 2], []]);
});

test("R13 over event streams a token that is refused ends in `refused`, as it does over a WebSocket", options, async (t) => {
  const broker = await startBroker(t, { FANFARE_AUTH_JWT_SECRET: SECRET });
  for (const more of [without, {}]) {
    const { fanfare, is } = client(t, broker.url, { ...more, token: "no-token" });
    fanfare.subscribe("a", () => {});
    await is("refused");
    await assert.rejects(fanfare.ready(), { code: "unauthorized" });
  }
});

test("R21 and R9 nothing is lost or doubled over event streams that break", options, async (t) => {
  const broker = await startBroker(t);
  const proxy = await startProxy(t, broker.port);
  const { fanfare, is, gaps } = client(t, proxy.url, without);
  const got = [], wild = [];
  fanfare.subscribe("a", { tail: 100 }, ({ data }) => got.push(data));
  fanfare.subscribe("*", { tail: 100 }, ({ data }) => wild.push(data));
  await is("live");
  for (let n = 0; n < 30; n++) {
    await publish(broker, "a", n);
    if (n % 10 === 5) proxy.drop();
    if (n === 20) await broker.restart();
  }
  await eventually(() => got.length >= 30 && wild.length >= 30);
  assert.deepEqual(got, got.map((_, n) => n));
  assert.deepEqual(wild, got);
  assert.deepEqual(gaps, []);
});

test("R21 behind a proxy that takes the upgrade away event streams do, and a WebSocket takes over once it comes through", options, async (t) => {
  const broker = await startBroker(t);
  const proxy = await startProxy(t, broker.port);
  proxy.strips = true;
  const socket = watchedSocket();
  const { fanfare, is, errors } = client(t, proxy.url, { WebSocket: socket });
  const got = [];
  fanfare.subscribe("a", ({ data }) => got.push(data));
  await is("live");
  await fanfare.publish("a", 0);
  await eventually(() => got.length === 1);
  assert.equal(fanfare.session, null);
  assert.equal(errors.at(-1).code, "no_websocket");
  proxy.strips = false;
  await eventually(() => fanfare.session !== null, "a WebSocket takes over");
  await fanfare.publish("a", 1);
  await eventually(() => got.length === 2);
  assert.deepEqual(got, [0, 1]);
});

test("R20 a stream comes again with another token before its own ends, without a loss", options, async (t) => {
  const broker = await startBroker(t, { FANFARE_AUTH_JWT_SECRET: SECRET, FANFARE_AUTH_LEEWAY: "0s" });
  let asked = 0;
  const { fanfare, is, gaps } = client(t, broker.url, { ...without, token: () => tokenFor(SECRET, { seconds: ++asked === 1 ? 4 : 3600 }) });
  const got = [];
  fanfare.subscribe("a", ({ data }) => got.push(data));
  await is("live");
  const headers = { Authorization: `Bearer ${tokenFor(SECRET)}` };
  const until = Date.now() + 5000;
  let n = 0;
  for (; Date.now() < until; n++) {
    await publish(broker, "a", n, headers);
    await new Promise((later) => setTimeout(later, 20));
  }
  await eventually(() => got.length >= n);
  assert.deepEqual(got, got.map((_, at) => at));
  assert.ok(asked > 1);
  assert.deepEqual(gaps, []);
});

test("R19 a publish over event streams whose token is over is sent again with the next one, and refused where there is none", options, async (t) => {
  const broker = await startBroker(t, { FANFARE_AUTH_JWT_SECRET: SECRET, FANFARE_AUTH_LEEWAY: "0s" });
  const tokens = [tokenFor(SECRET, { seconds: -5 }), tokenFor(SECRET)];
  const { fanfare, errors } = client(t, broker.url, { ...without, token: () => tokens.shift() });
  assert.match((await fanfare.publish("a", 1)).id, /-1$/);
  assert.deepEqual([tokens, errors], [[], []]);
  const other = client(t, broker.url, { ...without, token: tokenFor(SECRET, { seconds: -5 }) });
  other.fanfare.publish("a", 2).catch(() => {});
  await other.is("refused");
  assert.equal(other.errors.at(-1).code, "unauthorized");
});

test("R14 over event streams too each refusal is told apart", options, async (t) => {
  const broker = await startBroker(t, { FANFARE_AUTH_JWT_SECRET: SECRET });
  const { fanfare, errors } = client(t, broker.url, without);
  fanfare.subscribe("a", () => {});
  await eventually(() => errors.length > 0);
  assert.equal(errors[0].code, "unauthorized");
});

test("R20 a renewal over event streams is no change of state, asks once, and refuses no publish", options, async (t) => {
  const broker = await startBroker(t, { FANFARE_AUTH_JWT_SECRET: SECRET, FANFARE_AUTH_LEEWAY: "0s" });
  let asked = 0;
  const { fanfare, is, states, errors, gaps } = client(t, broker.url, { ...without, token: () => tokenFor(SECRET, { seconds: asked++ ? 3600 : 4 }) });
  const got = [], more = [];
  fanfare.subscribe("a", ({ data }) => got.push(data));
  fanfare.subscribe("*", { latest: true }, ({ data }) => more.push(data));
  await is("live");
  const until = Date.now() + 5000;
  let n = 0;
  for (; Date.now() < until; n++) await fanfare.publish("a", n);
  await eventually(() => got.length === n && more.at(-1) === n - 1);
  assert.deepEqual(got, got.map((_, at) => at));
  assert.deepEqual(states.map(({ state }) => state), ["connecting", "live"]);
  assert.deepEqual([asked, errors, gaps], [2, [], []]);
});

test("R14 what answers and is no broker is told from one, as a development server whose address was taken for the broker's", options, async (t) => {
  const server = createServer((_, response) => response.setHeader("Content-Type", "text/html").end("<!doctype html><title>an app</title>"));
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  t.after(() => { server.closeAllConnections(); server.close(); });
  const { fanfare, errors } = client(t, `http://127.0.0.1:${server.address().port}`, { WebSocket: null });
  fanfare.subscribe("a", () => {});
  await eventually(() => errors.length);
  assert.equal(errors[0].code, "unreachable");
  assert.match(errors[0].message, /is a page, and no Fanfare broker: a proxy's\? Else new Fanfare\("http:\/\/localhost:8080"\) says where it is/);
});

// When the way to the broker breaks, in each of the ways in which ways break.

import assert from "node:assert/strict";
import { createServer } from "node:net";
import { test } from "node:test";
import { backoff } from "../fanfare/backoff.js";
import { client, eventually, publish, startBroker, startProxy, tokenFor, watchedSocket } from "./harness.mjs";

const options = { timeout: 90_000 };
const SECRET = "a-secret-for-this-test-and-no-other-0123456789";

/** Subscribes to numbers, and says how many came and that none is missing, double or out of turn. */
function numbers(fanfare, topic = "numbers", how = {}) {
  const got = [];
  fanfare.subscribe(topic, how, ({ data }) => got.push(data));
  return { got, check: () => assert.deepEqual(got, got.map((_, n) => n)) };
}

test("R12 the first attempt is soon, later ones are spread up to 15 s, and the broker's word is kept", () => {
  const at = (attempt, random, more = {}) => backoff(attempt, { random: () => random, ...more });
  assert.equal(at(0, 0), 0);
  assert.equal(at(0, 0.5), 500);
  assert.equal(at(0, 0.9, { hintMs: 1500 }), 1500);
  assert.deepEqual([1, 2, 3, 4, 9].map((attempt) => at(attempt, 1)), [2000, 4000, 8000, 15_000, 15_000]);
  assert.deepEqual([1, 4, 9].map((attempt) => at(attempt, 0)), [500, 500, 500]);
  assert.equal(at(3, 0, { hintMs: 9000 }), 9000);
  assert.equal(at(1, 0, { hidden: true }), 60_000, "R17: a hidden page has time");
  assert.equal(at(0, 0, { hidden: true }), 0);
});

test("R33 and R9 nothing is lost or doubled over cuts and a kill -9", options, async (t) => {
  const broker = await startBroker(t);
  const proxy = await startProxy(t, broker.port);
  const { fanfare, is, gaps } = client(t, proxy.url);
  const all = numbers(fanfare, "numbers", { tail: 100 });
  const wild = numbers(fanfare, "*", { tail: 100 });
  await is("live");
  for (let n = 0; n < 60; n++) {
    await publish(broker, "numbers", n);
    if (n % 20 === 5) proxy.drop();
    if (n === 30) await broker.restart();
  }
  await eventually(() => all.got.length >= 60 && wild.got.length >= 60);
  all.check();
  wild.check();
  assert.deepEqual(gaps, []);
});

test("R13 and R12 a planned stop is waited for as long as the broker says", options, async (t) => {
  const broker = await startBroker(t);
  const { fanfare, is, states } = client(t, broker.url);
  const all = numbers(fanfare);
  await is("live");
  await publish(broker, "numbers", 0);
  await broker.restart({ signal: "SIGTERM" });
  await publish(broker, "numbers", 1);
  await eventually(() => all.got.length === 2);
  assert.equal(states.find(({ state }) => state === "waiting").reason.code, "restart");
  all.check();
});

test("a planned stop that is announced moves the client before it comes, and nothing is lost", options, async (t) => {
  // As long as what is to happen meanwhile may take.
  const broker = await startBroker(t, { FANFARE_SERVER_SHUTDOWN_DELAY: "5s" });
  const socket = watchedSocket();
  const { fanfare, is, states } = client(t, broker.url, { WebSocket: socket });
  const all = numbers(fanfare);
  await is("live");
  await publish(broker, "numbers", 0);
  const stopping = broker.stop("SIGTERM");
  await eventually(() => socket.heard.some(({ op }) => op === "goaway"));
  await eventually(() => socket.heard.filter(({ op }) => op === "welcome").length === 2);
  await eventually(() => socket.opened[0].readyState === 3);
  assert.equal(states.filter(({ state }) => state === "waiting").length, 0, "it never was away");
  await publish(broker, "numbers", 1);
  await eventually(() => all.got.length === 2);
  await stopping;
  assert.equal(socket.opened.length, 2, "the same node says it again, which is not heeded");
  await broker.start();
  await is("live");
  all.check();
});

test("R14 who does not say welcome in time is given up, and a late one is ignored", options, async (t) => {
  const silent = createServer(() => {});
  await new Promise((ready) => silent.listen(0, "127.0.0.1", ready));
  const sockets = new Set();
  silent.on("connection", (socket) => sockets.add(socket));
  t.after(() => { for (const socket of sockets) socket.destroy(); silent.close(); });
  const { fanfare, tells, why } = client(t, `http://127.0.0.1:${silent.address().port}`);
  fanfare.subscribe("a", () => {});
  await tells("waiting");
  assert.equal(why(), "timeout");
});

test("R14 a handshake that failed twice is explained: nothing answers", options, async (t) => {
  const broker = await startBroker(t);
  await broker.stop();
  const { fanfare, errors, is } = client(t, broker.url);
  fanfare.subscribe("a", () => {});
  await eventually(() => errors.length > 0);
  assert.equal(errors[0].code, "unreachable");
  assert.match(errors[0].message, /nothing answers at http/);
  await broker.start();
  fanfare.reconnect();
  await is("live");
});

test("R14 a handshake that failed twice is explained: over a limit", options, async (t) => {
  const broker = await startBroker(t, { FANFARE_LIMITS_CONNECTIONS: "1" });
  const first = client(t, broker.url);
  first.fanfare.subscribe("a", () => {});
  await first.is("live");
  const { fanfare, errors, is } = client(t, broker.url);
  fanfare.subscribe("a", () => {});
  await eventually(() => errors.some(({ code }) => code === "too_many" || code === "unavailable"));
  assert.match(errors.map(({ message }) => message).join(), /limits\.connections/);
  first.fanfare.close();
  await is("live");
});

test("R33 and R15 a connection that swallows everything is abandoned, and nothing is lost", options, async (t) => {
  const broker = await startBroker(t, { FANFARE_SERVER_HEARTBEAT: "1s" });
  const proxy = await startProxy(t, broker.port);
  const { fanfare, is, tells, why } = client(t, proxy.url);
  const all = numbers(fanfare);
  await is("live");
  await publish(broker, "numbers", 0);
  await eventually(() => all.got.length === 1);
  proxy.swallows = true;
  await publish(broker, "numbers", 1);
  await tells("waiting");
  assert.equal(why(), "silence");
  proxy.swallows = false;
  await eventually(() => all.got.length === 2);
  all.check();
});

/** What a page has that Node has not. */
function pretendPage(t) {
  const page = Object.assign(new EventTarget(), { visibilityState: "visible" });
  const before = globalThis.document;
  globalThis.document = page;
  const listeners = new EventTarget();
  globalThis.addEventListener = listeners.addEventListener.bind(listeners);
  t.after(() => { globalThis.document = before; delete globalThis.addEventListener; });
  return { page, window: listeners };
}

test("R16 on waking a dead connection is replaced within seconds", options, async (t) => {
  const { page } = pretendPage(t);
  const broker = await startBroker(t);
  const proxy = await startProxy(t, broker.port);
  const { fanfare, is, tells } = client(t, proxy.url);
  const all = numbers(fanfare);
  await is("live");
  await publish(broker, "numbers", 0);
  await eventually(() => all.got.length === 1);
  proxy.swallows = true;
  await publish(broker, "numbers", 1);
  await new Promise((later) => setTimeout(later, 1100)); // what was heard just now needs no question
  const wokenAt = Date.now();
  page.dispatchEvent(new Event("visibilitychange"));
  await tells("waiting");
  proxy.swallows = false;
  await eventually(() => all.got.length === 2);
  assert.ok(Date.now() - wokenAt < 6000, `${Date.now() - wokenAt} ms`);
  all.check();
});

test("R12 and R17 a wait is cut short by what a page hears, and a hidden page waits for a minute", options, async (t) => {
  const { page, window } = pretendPage(t);
  const broker = await startBroker(t);
  const { fanfare, is, states } = client(t, broker.url);
  fanfare.subscribe("a", () => {});
  await is("live");
  page.visibilityState = "hidden";
  await broker.stop();
  await eventually(() => states.some(({ state, retryAt }) => state === "waiting" && retryAt - Date.now() > 30_000));
  await broker.start();
  window.dispatchEvent(new Event("online"));
  await is("live");
});

test("R18 a page that goes lets go of its connection and resumes when it is shown again", options, async (t) => {
  const { window } = pretendPage(t);
  const broker = await startBroker(t);
  const socket = watchedSocket();
  const { fanfare, is } = client(t, broker.url, { WebSocket: socket });
  const all = numbers(fanfare);
  await is("live");
  await publish(broker, "numbers", 0);
  await eventually(() => all.got.length === 1);
  window.dispatchEvent(new Event("pagehide"));
  assert.equal(fanfare.state, "waiting");
  assert.ok(socket.opened[0].readyState >= 2, "closed at once");
  await publish(broker, "numbers", 1);
  assert.equal(socket.opened.length, 1);
  window.dispatchEvent(new Event("pageshow"));
  await eventually(() => all.got.length === 2);
  all.check();
});

const WITH_TOKENS = { FANFARE_AUTH_JWT_SECRET: SECRET, FANFARE_AUTH_LEEWAY: "0s" };

test("R19 a token is fetched before the connection is opened, and renewed in place before it ends", options, async (t) => {
  const broker = await startBroker(t, WITH_TOKENS);
  const socket = watchedSocket();
  let asked = 0;
  const token = async () => {
    asked += 1;
    assert.ok(asked > 1 || socket.opened.length === 0, "before the socket");
    return tokenFor(SECRET, { seconds: asked === 1 ? 4 : 3600 });
  };
  const { fanfare, is, states } = client(t, broker.url, { token, WebSocket: socket });
  const all = numbers(fanfare);
  await is("live");
  await eventually(() => socket.heard.some(({ op }) => op === "warn"));
  await eventually(() => socket.heard.filter(({ op, ref }) => op === "ack" && ref).length >= 3);
  await new Promise((later) => setTimeout(later, 4000)); // the first one has ended
  await fanfare.publish("numbers", 0);
  await eventually(() => all.got.length === 1);
  assert.equal(asked, 2);
  assert.equal(socket.opened.length, 1);
  assert.deepEqual(states.map(({ state }) => state), ["connecting", "live"]);
});

test("R19 a token that can't be had is told of and asked for again, and nobody becomes anonymous", options, async (t) => {
  const broker = await startBroker(t, { ...WITH_TOKENS, FANFARE_TOPICS: '[{match = ">", subscribe = "anyone"}]' });
  const socket = watchedSocket();
  const answers = [() => { throw new Error("no network"); }, () => tokenFor(SECRET), () => undefined, () => tokenFor(SECRET)];
  const { fanfare, is, errors } = client(t, broker.url, { token: () => answers.shift()(), WebSocket: socket });
  fanfare.subscribe("a", () => {});
  await is("live");
  assert.match(errors[0].message, /no network/);
  fanfare.reconnect();
  await eventually(() => errors.length === 2);
  assert.match(errors[1].message, /gave none/);
  await is("live");
  assert.equal(answers.length, 0);
  assert.equal(socket.of("auth").length, socket.opened.length, "each connection said who it is");
});

test("R19 and R13 a token that is refused is asked for once more, and then it is the end", options, async (t) => {
  const broker = await startBroker(t, WITH_TOKENS);
  const answers = ["no token at all", tokenFor(SECRET)];
  const good = client(t, broker.url, { token: () => answers.shift() });
  good.fanfare.subscribe("a", () => {});
  await good.is("live");
  let asked = 0;
  const bad = client(t, broker.url, { token: () => { asked += 1; return "no token at all"; } });
  bad.fanfare.subscribe("a", () => {});
  await bad.is("refused");
  assert.equal(asked, 2);
  assert.equal(bad.errors.at(-1).code, "unauthorized");
});

test("R19 a right that a renewal takes away is told of, and what is left goes on without a loss", options, async (t) => {
  const broker = await startBroker(t, WITH_TOKENS);
  const answers = [tokenFor(SECRET), tokenFor(SECRET, { subscribe: ["numbers"] })];
  const { fanfare, is, errors } = client(t, broker.url, { token: () => answers.shift() });
  const all = numbers(fanfare);
  fanfare.subscribe("other", () => {});
  await is("live");
  await fanfare.publish("numbers", 0);
  const renewed = fanfare.renew();
  await fanfare.publish("numbers", 1);
  await renewed;
  await eventually(() => errors.some(({ pattern }) => pattern === "other"));
  await fanfare.publish("numbers", 2);
  await eventually(() => all.got.length === 3);
  all.check();
});

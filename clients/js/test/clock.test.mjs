// Silence, and clocks that jump.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Tokens } from "../fanfare/tokens.js";
import { client, eventually, modelSocket, publish, startBroker, startClock, startProxy, tokenFor, watchedSocket } from "./harness.mjs";
import { ModelBroker } from "./model.mjs";

const options = { timeout: 90_000 };
const SECRET = "a-secret-for-this-test-and-no-other-0123456789";
const HOUR_MS = 3_600_000;

/** Subscribes to numbers, and says how many came and that none is missing, double or out of turn. */
function numbers(fanfare) {
  const got = [];
  fanfare.subscribe("numbers", ({ data }) => got.push(data));
  return { got, check: () => assert.deepEqual(got, got.map((_, n) => n)) };
}

/** A client of a model of the broker whose newest socket may swallow what it is sent. */
function modelClient(t) {
  const broker = new ModelBroker();
  let swallows = false;
  const sent = [];
  const Model = modelSocket(broker);
  class WebSocket extends Model {
    send(text) {
      sent.push(JSON.parse(text));
      if (!swallows) super.send(text);
    }
  }
  return Object.assign(client(t, "http://broker.example", { WebSocket }), { opened: Model.opened, sent, swallow: (is) => { swallows = is; } });
}

test("R15 before anything is sent over a connection that was silent for too long it is asked whether it is there", options, async (t) => {
  const clock = startClock(t);
  const { fanfare, is, opened, sent, swallow, tells, why } = modelClient(t);
  fanfare.subscribe("a", () => {});
  await is("live");
  // All timers were asleep.
  clock.aheadMs += HOUR_MS;
  await fanfare.publish("a", 1);
  assert.deepEqual(sent.map(({ op }) => op), ["subscribe", "ping", "publish"]);
  assert.equal(opened.length, 1, "who answers stays");
  swallow(true);
  clock.aheadMs += HOUR_MS;
  const begun = performance.now();
  const answer = fanfare.publish("a", 2);
  await eventually(() => sent.filter(({ op }) => op === "publish").length === 2);
  // As one who sends all the time: that postpones nothing.
  const more = setInterval(() => fanfare.publish("a", 3).catch(() => {}), 100);
  t.after(() => clearInterval(more));
  await tells("waiting");
  clearInterval(more);
  assert.ok(performance.now() - begun < 6000);
  assert.equal(why(), "silence");
  swallow(false);
  await answer;
});

test("R15 a question whose time is over is the end before the next thing is sent, though its timer still sleeps", options, async (t) => {
  const clock = startClock(t);
  const { fanfare, is, sent, swallow, tells, why } = modelClient(t);
  fanfare.subscribe("a", () => {});
  await is("live");
  swallow(true);
  clock.aheadMs += HOUR_MS;
  const first = fanfare.publish("a", 1);
  await eventually(() => sent.some(({ op }) => op === "ping"));
  await eventually(() => sent.some(({ op }) => op === "publish"));
  clock.aheadMs += 4000;
  const begun = performance.now();
  const second = fanfare.publish("a", 2);
  await tells("waiting");
  assert.ok(performance.now() - begun < 2000, "the timer of three seconds was not waited for");
  assert.equal(why(), "silence");
  swallow(false);
  await Promise.all([first, second]);
});

test("R33 and R15 a clock that jumps, forwards or back, costs neither connection nor event", options, async (t) => {
  const clock = startClock(t);
  const broker = await startBroker(t, { FANFARE_SERVER_HEARTBEAT: "1s" });
  const socket = watchedSocket();
  const { fanfare, is, gaps } = client(t, broker.url, { WebSocket: socket });
  const all = numbers(fanfare);
  await is("live");
  let n = 0;
  for (const jump of [HOUR_MS, -2 * HOUR_MS, 30 * 24 * HOUR_MS, -60 * 24 * HOUR_MS, 40_000]) {
    clock.aheadMs += jump;
    const pings = socket.of("ping").length;
    await fanfare.publish("numbers", n++);
    if (jump > 0) await eventually(() => socket.of("ping").length > pings);
  }
  await eventually(() => all.got.length === n);
  all.check();
  assert.equal(socket.opened.length, 1);
  assert.deepEqual(gaps, []);
});

test("R15 a connection that dies after the clock was set back is found out all the same", options, async (t) => {
  const clock = startClock(t);
  const broker = await startBroker(t, { FANFARE_SERVER_HEARTBEAT: "1s" });
  const proxy = await startProxy(t, broker.port);
  const { fanfare, is, tells, why } = client(t, proxy.url);
  const all = numbers(fanfare);
  await is("live");
  await publish(broker, "numbers", 0);
  await eventually(() => all.got.length === 1);
  clock.aheadMs -= HOUR_MS;
  proxy.swallows = true;
  await publish(broker, "numbers", 1);
  await tells("waiting");
  assert.equal(why(), "silence");
  proxy.swallows = false;
  await eventually(() => all.got.length === 2);
  all.check();
});

test("R29 a refusal that passes is waited for as long as it takes, also where the clock is set back", options, async (t) => {
  const clock = startClock(t);
  const broker = new ModelBroker();
  let refusals = 1;
  class WebSocket extends modelSocket(broker) {
    send(text) {
      const { op, ref } = JSON.parse(text);
      if (op !== "publish" || !refusals--) return super.send(text);
      this.session.say({ op: "error", ref, code: "unavailable", message: "" });
      setImmediate(() => { this.pump(); clock.aheadMs -= HOUR_MS; });
    }
  }
  const { fanfare } = client(t, "http://broker.example", { WebSocket });
  await fanfare.publish("a", 1);
});

const jwt = (claims) => `e30.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.x`;

/** Tokens from `source`, and how often another one was shown. */
function tokens(t, source) {
  const said = { shown: 0, told: [] };
  const of = new Tokens(source, async () => { said.shown += 1; await of.get(); }, ({ message }) => said.told.push(message));
  t.after(() => of.end());
  return Object.assign(said, { of });
}

test("R19 where no warning comes a token is renewed before it ends", options, async (t) => {
  let asked = 0;
  const said = tokens(t, () => jwt({ iat: 1000, exp: asked++ ? 1000 + 3600 : 1001 }));
  await said.of.get();
  await eventually(() => said.shown === 1);
  assert.equal(asked, 2);
  // Further away than timers can tell, or with no end at all: it is not asked again and again.
  for (const token of [jwt({ iat: 1000, exp: 1000 + 10 ** 9 }), jwt({}), "an API key", jwt({ exp: 5 })]) {
    const other = tokens(t, () => token);
    await other.of.get();
    await new Promise((later) => setTimeout(later, 20));
    other.of.check();
    assert.equal(other.shown, 0, token);
  }
});

test("R19 where the clock has jumped a token is renewed behind half of its life", options, async (t) => {
  const clock = startClock(t);
  const said = tokens(t, () => jwt({ iat: 5, exp: 5 + 3600 }));
  await said.of.get();
  said.of.check();
  clock.aheadMs += HOUR_MS / 2 - 5000;
  said.of.check();
  assert.equal(said.shown, 0);
  clock.aheadMs += 10_000;
  said.of.check();
  assert.equal(said.shown, 1);
  await said.of.get();
  said.of.check();
  assert.equal(said.shown, 1);
  clock.aheadMs -= 48 * HOUR_MS;
  said.of.check();
  assert.equal(said.shown, 1, "one that was set back says nothing");
});

test("R19 a sleeper's token is renewed in place when it wakes, without a loss", options, async (t) => {
  const clock = startClock(t);
  const broker = await startBroker(t, { FANFARE_AUTH_JWT_SECRET: SECRET });
  const socket = watchedSocket();
  let asked = 0;
  const { fanfare, is, gaps } = client(t, broker.url, { WebSocket: socket, token: () => { asked += 1; return tokenFor(SECRET); } });
  const all = numbers(fanfare);
  await is("live");
  await fanfare.publish("numbers", 0);
  clock.aheadMs += HOUR_MS * 0.6;
  await eventually(() => asked === 2, "the tick of the watch notices it");
  await eventually(() => socket.of("auth").length === 2);
  clock.aheadMs = 0;
  await fanfare.publish("numbers", 1);
  await eventually(() => all.got.length === 2);
  all.check();
  assert.equal(socket.opened.length, 1);
  assert.deepEqual(gaps, []);
});

test("R19 a token that does not come at all is given up, and asked for again", options, async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const said = tokens(t, () => new Promise(() => {}));
  const got = said.of.get();
  t.mock.timers.tick(30_000);
  await assert.rejects(got, { code: "token", message: /no answer within 30 s/ });
});

test("R19 a connection that breaks while a token is renewed is no error of the token, and a failure of it is", options, async (t) => {
  const told = [], shows = [{ code: 1006, message: "the connection broke", final: false }, new Error("no network")];
  const of = new Tokens(() => "a token", async () => { throw shows.shift(); }, ({ message }) => told.push(message));
  t.after(() => of.end());
  await of.renew();
  assert.deepEqual(told, []);
  await of.renew();
  assert.deepEqual(told, ["no network"]);
});

test("R19 what is no text is no token", options, async (t) => {
  for (const given of [{ token: "x" }, 7, true]) await assert.rejects(tokens(t, () => given).of.get(), { code: "token", message: /gave no text/ });
});

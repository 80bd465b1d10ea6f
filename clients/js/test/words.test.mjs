// What is said of what goes wrong, in words; and when what was refused for a while is asked for again.

import assert from "node:assert/strict";
import { createServer } from "node:net";
import { test } from "node:test";
import { client, eventually, modelSocket, startBroker, tokenFor } from "./harness.mjs";
import { ModelBroker } from "./model.mjs";

const options = { timeout: 60_000 };
const SECRET = "a-secret-for-this-test-and-no-other-0123456789";

test("R14 a welcome that does not come is said, in words", options, async (t) => {
  const silent = createServer((socket) => { t.after(() => socket.destroy()); });
  await new Promise((ready) => silent.listen(0, "127.0.0.1", ready));
  t.after(() => silent.close());
  const { fanfare, states } = client(t, `http://127.0.0.1:${silent.address().port}`);
  fanfare.subscribe("a", () => {});
  await eventually(() => states.some(({ state }) => state === "waiting"));
  assert.deepEqual(states.at(-1).reason, { code: "timeout", message: "no welcome in time" });
});

test("R15 silence is said, in words", options, async (t) => {
  class WebSocket extends modelSocket(new ModelBroker(), { heartbeat: 0.05 }) {
    send(text) {
      if (JSON.parse(text).op !== "ping") super.send(text);
    }
  }
  const { fanfare, states } = client(t, "http://broker.example", { WebSocket });
  fanfare.subscribe("a", () => {});
  await eventually(() => states.some(({ state }) => state === "waiting"));
  assert.deepEqual(states.at(-1).reason, { code: "silence", message: "no answer in time" });
});

for (const WebSocket of [undefined, null]) {
  test(`R13 of a token that is a text and is over, it is said what to do (${WebSocket === null ? "event streams" : "a WebSocket"})`, options, async (t) => {
    const broker = await startBroker(t, { FANFARE_AUTH_JWT_SECRET: SECRET, FANFARE_AUTH_LEEWAY: "0s" });
    const { fanfare, is, errors } = client(t, broker.url, { token: tokenFor(SECRET, { seconds: 2 }), ...WebSocket === null && { WebSocket } });
    fanfare.subscribe("a", () => {});
    await is("live");
    await is("refused");
    const { code, message } = errors.at(-1);
    assert.equal(code, "unauthorized");
    assert.match(message, /; `token` is a text, and a function could give the next one$/);
  });
}

test("R14 a page of https that a browser lets reach no broker without TLS hears so", options, async (t) => {
  class WebSocket {
    constructor() { throw new DOMException("An insecure WebSocket connection may not be initiated from a page loaded over HTTPS.", "SecurityError"); }
  }
  const { fetch } = globalThis;
  t.after(() => { globalThis.fetch = fetch; delete globalThis.location; });
  globalThis.fetch = async () => { throw new TypeError("Failed to fetch"); };
  globalThis.location = new URL("https://dash.example/");
  const { fanfare, errors, states } = client(t, "http://broker.example", { WebSocket });
  fanfare.subscribe("a", () => {});
  await eventually(() => errors.length);
  assert.deepEqual(states.filter(({ state }) => state === "waiting").map(({ reason: { code } }) => code), ["unreachable", "unreachable", "unreachable"]);
  assert.deepEqual([errors[0].code, errors[0].message], ["unreachable", "browsers let a page of https reach nothing without TLS, and the broker is said to be at http://broker.example/: it is to be https://"]);
});

test("R10 a gap that a cut brings is told to who hears of all gaps, too", options, async (t) => {
  const broker = new ModelBroker();
  const WebSocket = modelSocket(broker);
  const { fanfare, is, gaps } = client(t, "http://broker.example", { WebSocket });
  const own = [];
  fanfare.subscribe("a.*", { snapshot: true, onGap: (gap) => own.push(gap) }, () => {});
  await is("live");
  const { session } = WebSocket.opened[0];
  session.say({ op: "gap", since: "model000-1-0", topics: ["a.x"] });
  WebSocket.opened[0].onmessage({ data: session.out.shift() });
  // The values behind it have not come.
  WebSocket.opened[0].break();
  assert.deepEqual(gaps.map(({ since, patterns, topics }) => [since, patterns, topics]), [["model000-1-0", ["a.*"], ["a.x"]], ["model000-1-0", ["a.*"], undefined]]);
  assert.equal(own.length, 2);
});

test("R8 what is refused for there being too much of it is asked for again less and less often, and anew on a new connection", options, async (t) => {
  const waits = [];
  const { setTimeout } = globalThis;
  const { random } = Math;
  t.after(() => { Object.assign(globalThis, { setTimeout }); Math.random = random; });
  Math.random = () => 1;
  globalThis.setTimeout = (deed, ms, ...more) => {
    const isAgain = ms >= 8_000 && ms % 4_000 === 0 && ms <= 60_000 && /again/.test(deed);
    if (isAgain) waits.push(ms);
    return setTimeout(deed, isAgain ? 1 : ms, ...more);
  };
  class WebSocket extends modelSocket(new ModelBroker()) {
    send(text) {
      const { op, ref, topics } = JSON.parse(text);
      if (op !== "subscribe" || !topics.includes("full")) return super.send(text);
      this.session.say({ op: "error", ref, code: "too_many", message: "no more" });
      setImmediate(() => this.pump());
    }
  }
  const { fanfare, errors } = client(t, "http://broker.example", { WebSocket });
  fanfare.subscribe("full", () => {});
  await eventually(() => waits.length >= 6);
  assert.deepEqual(waits.slice(0, 6), [8_000, 16_000, 32_000, 60_000, 60_000, 60_000]);
  assert.deepEqual(errors.map(({ code }) => code), ["too_many"], "and it is told once");
  const before = waits.length;
  fanfare.reconnect();
  await eventually(() => waits.slice(before).includes(8_000));
});

// The hooks, with React itself: what they send, what they render, and when.

import assert from "node:assert/strict";
import { test } from "node:test";
import { JSDOM } from "jsdom";
import { client, eventually, publish, startBroker, startProxy, watchedSocket } from "./harness.mjs";

const { window } = new JSDOM("<!doctype html><div id=root></div>", { pretendToBeVisual: true });
Object.assign(globalThis, { window, document: window.document, IS_REACT_ACT_ENVIRONMENT: false });
globalThis.navigator ??= window.navigator;
Object.assign(globalThis, { AbortController: window.AbortController, AbortSignal: window.AbortSignal });
for (const name of ["requestAnimationFrame", "cancelAnimationFrame"]) globalThis[name] = window[name].bind(window);

const { createElement: h, StrictMode, startTransition, useEffect, useState } = await import("react");
const { createRoot, hydrateRoot } = await import("react-dom/client");
const { renderToString } = await import("react-dom/server");
const { FanfareProvider, useConnection, useEvents, useFanfare, useLatest, useMap, usePresence, usePublish } = await import("../fanfare/react.js");
const { latest } = await import("../fanfare/stores.js");

const options = { timeout: 60_000 };

/** Renders into a root of its own, which ends with the test. */
function render(t, element) {
  const place = document.createElement("div");
  const root = createRoot(place);
  root.render(element);
  t.after(() => root.unmount());
  return Object.assign(root, { text: () => place.textContent, shows: (text) => eventually(() => place.textContent === text, `${text}, not ${place.textContent}`) });
}

const within = (fanfare, ...children) => h(FanfareProvider, { client: fanfare }, ...children);

test("R6, R30 and R33 StrictMode sends one subscribe and no unsubscribe, and unmounting gives it back", options, async (t) => {
  const broker = await startBroker(t);
  await publish(broker, "cpu", 41);
  const WebSocket = watchedSocket();
  const { fanfare, is } = client(t, broker.url, { WebSocket });
  function Tile() {
    const { data, stale } = useLatest("cpu");
    return `${data ?? "–"}${stale ? " stale" : ""} `;
  }
  const root = render(t, h(StrictMode, null, within(fanfare, h(Tile), h(Tile))));
  await root.shows("41 41 ");
  assert.equal(WebSocket.of("subscribe").length, 1);
  assert.equal(WebSocket.of("unsubscribe").length, 0);
  root.render(h(StrictMode, null, within(fanfare, h(Tile))));
  await publish(broker, "cpu", 42);
  await root.shows("42 ");
  assert.equal(WebSocket.sent.length, 1);
  root.render(null);
  await eventually(() => WebSocket.of("unsubscribe").length === 1);
  await is("live");
});

test("R30 another callback sends no frame, and is the one that is called", options, async (t) => {
  const broker = await startBroker(t);
  const WebSocket = watchedSocket();
  const { fanfare } = client(t, broker.url, { WebSocket });
  let loads = 0;
  function Sum({ factor }) {
    const { state, stale } = useEvents("a", {
      load: async () => { loads += 1; return { state: 0, since: (await (await fetch(`${broker.url}/v1/cursor`)).json()).cursor }; },
      reduce: (sum, { data }) => sum + factor * data,
    });
    return stale ? "stale" : `${state}`;
  }
  const root = render(t, h(StrictMode, null, within(fanfare, h(Sum, { factor: 1 }))));
  await root.shows("0");
  await publish(broker, "a", 1);
  await root.shows("1");
  const sent = WebSocket.sent.length;
  for (let factor = 2; factor <= 10; factor++) root.render(h(StrictMode, null, within(fanfare, h(Sum, { factor }))));
  await new Promise((next) => setTimeout(next, 50));
  await publish(broker, "a", 1);
  await root.shows("11");
  assert.equal(WebSocket.sent.length, sent);
  assert.equal(loads, 1, "StrictMode and new callbacks load nothing again");
});

test("R30 a thousand events a second render at most 60 times a second, and none is lost to a reducer", options, async (t) => {
  const broker = await startBroker(t);
  const { fanfare } = client(t, broker.url);
  let renders = 0;
  const reduce = (sum, { data }) => sum + data;
  function Sum() {
    const { state, stale } = useEvents("a", { initial: 0, reduce });
    const { data } = useLatest("a");
    renders += 1;
    return stale ? "stale" : `${state} ${data ?? ""}`;
  }
  const root = render(t, within(fanfare, h(Sum)));
  await root.shows("0 ");
  const [begun, before] = [performance.now(), renders];
  for (let batch = 0; batch < 40; batch++) {
    const events = Array.from({ length: 50 }, () => ({ topic: "a", data: 1 }));
    await fetch(`${broker.url}/v1/events`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ events }) });
    await new Promise((next) => setTimeout(next, 25));
  }
  await root.shows("2000 1");
  const [count, ms] = [renders - before, performance.now() - begun];
  t.diagnostic(`${count} renders within ${Math.round(ms)} ms`);
  assert.ok(count > 10 && count <= 2 + 60 * ms / 1000, `${count} renders within ${ms} ms`);
});

test("R30 a server renders what is there before anything was heard, opens nothing, and the page goes on from it", options, async (t) => {
  const broker = await startBroker(t);
  await publish(broker, "cpu", 41);
  const WebSocket = watchedSocket();
  const { fanfare } = client(t, broker.url, { WebSocket });
  function Page() {
    const { data, stale } = useLatest("cpu");
    const { entries } = useMap("c*".replace("c", ""));
    const { events, more } = useEvents("cpu", { tail: 5 });
    const { state } = useEvents("cpu", { reduce: (count) => count + 1, initial: 7, tail: 1 });
    const { members } = usePresence("room");
    const how = useConnection();
    usePublish("cpu");
    return h("p", null, `${data ?? "–"} ${stale} ${entries.size} ${events.length} ${more} ${state} ${members.length} ${how.state}`);
  }
  // Whatever the page knows already, it takes over what the server said.
  t.after(latest(fanfare, "cpu").subscribe(() => {}));
  await eventually(() => latest(fanfare, "cpu").current.data === 41);
  const server = client(t, broker.url, { WebSocket: watchedSocket() }).fanfare;
  const html = renderToString(within(server, h(Page)));
  assert.equal(html, "<p>– true 0 0 false 7 0 idle</p>");
  assert.equal(server.state, "idle");
  const place = document.createElement("div");
  place.innerHTML = html;
  const errors = [];
  t.mock.method(console, "error", (...said) => errors.push(said));
  const root = hydrateRoot(place, within(fanfare, h(Page)), { onRecoverableError: (error) => errors.push(error) });
  t.after(() => root.unmount());
  await eventually(() => place.textContent === "41 false 1 1 false 8 0 live", place.textContent);
  assert.deepEqual(errors, []);
});

test("R30 what renders for long, and is interrupted, shows one moment of all stores", options, async (t) => {
  const broker = await startBroker(t);
  const { fanfare } = client(t, broker.url);
  const torn = [];
  let renders = 0, commits = 0, again;
  function Slow() {
    const { data } = useLatest("a");
    const until = performance.now() + 2;
    while (performance.now() < until);
    renders += 1;
    return h("b", null, `${data ?? 0}`);
  }
  function Page() {
    const [round, setRound] = useState(0);
    again = () => startTransition(() => setRound((n) => n + 1));
    useEffect(() => {
      commits += 1;
      const shown = new Set([...place.querySelectorAll("b")].map(({ textContent }) => textContent));
      if (shown.size > 1) torn.push([...shown]);
    });
    return [h("i", { key: "i" }, round), ...Array.from({ length: 20 }, (_, at) => h(Slow, { key: at, round }))];
  }
  const place = document.createElement("div");
  const root = createRoot(place);
  root.render(within(fanfare, h(Page)));
  t.after(() => root.unmount());
  await fanfare.ready();
  for (let n = 1; n <= 10; n++) {
    again();
    await new Promise((next) => setTimeout(next, 2));
    await publish(broker, "a", n);
    await eventually(() => place.querySelector("i").textContent === `${n}` && place.querySelector("b").textContent === `${n}`);
  }
  assert.ok(commits >= 10 && renders > 20 * commits, `${renders} renders, ${commits} commits: nothing was interrupted`);
  assert.deepEqual(torn, []);
});

test("R30 and R33 each hook with a broker that comes and goes; what is not wanted yet is not asked for", options, async (t) => {
  const broker = await startBroker(t, { FANFARE_TOPICS: '[{match = "room", presence = true}]' });
  const proxy = await startProxy(t, broker.port);
  for (let n = 0; n < 9; n++) await publish(broker, `a.${n}`, n);
  const WebSocket = watchedSocket();
  const { fanfare } = client(t, proxy.url, { WebSocket });
  let older, move, own;
  function Page({ topic }) {
    const { entries, stale } = useMap("a.*", { maxRate: 100 });
    const list = useEvents("a.*", { tail: 4 });
    const { members } = usePresence("room");
    const { data } = useLatest(topic);
    const { state } = useConnection();
    ({ older } = list);
    move = usePublish("room", { throttle: 10, type: "move" });
    own = useFanfare();
    return `${entries.size} ${stale} ${list.events.map((event) => event.data)} ${list.more} ${members.length} ${data} ${state}`;
  }
  const root = render(t, within(fanfare, h(Page, { topic: null })));
  await root.shows("9 false 5,6,7,8 true 0 undefined live");
  assert.equal(own, fanfare);
  assert.equal(WebSocket.of("subscribe").flatMap(({ topics }) => topics).includes(null), false);
  const same = move;
  root.render(within(fanfare, h(Page, { topic: "room" })));
  await root.shows("9 false 5,6,7,8 true 1 undefined live");
  assert.equal(move, same);
  await Promise.all([move("x"), move("y"), move("z")]);
  await older();
  await root.shows("9 false 1,2,3,4,5,6,7,8 true 1 z live");
  await proxy.cut();
  await eventually(() => /true .* waiting$/.test(root.text()));
  await broker.restart({ wiped: true });
  await publish(broker, "a.new", "new");
  await proxy.mend();
  await root.shows("1 false new false 1 undefined live");
});

test("R30 a hook without a client says what to do; one of its own goes before the one around", options, async (t) => {
  const broker = await startBroker(t);
  await publish(broker, "a", 1);
  const { fanfare } = client(t, broker.url);
  const Tile = ({ client: own }) => `${useLatest("a", { client: own }).data}`;
  assert.throws(() => renderToString(h(Tile)), /FanfareProvider/);
  const root = render(t, within({}, h(Tile, { client: fanfare })));
  await root.shows("1");
});

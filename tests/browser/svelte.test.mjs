// Live state in Svelte, in a browser.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { compile } from "svelte/compiler";
import { openApp, snippet, startApp } from "./app.mjs";
import { eventually, launchBrowser, publish, startBroker } from "./harness.mjs";

const options = { timeout: 180_000 };
let browser;
before(async () => { browser = await launchBrowser(); });
after(() => browser?.close());

const shows = (page, selector, wanted) => eventually(async () => await page.locator(selector).evaluateAll(([element]) => element?.textContent) === wanted, `${selector} shows ${wanted}`);
const topics = (frames) => frames.flatMap((frame) => frame.topics).sort();

/** An app of these components, `name → source`, that mounts `App`. */
function startSvelte(t, broker, components) {
  const files = { "/": `<body><script type="module">
    import { flushSync, mount, unmount } from "svelte";
    import App from "./App.js";
    const app = mount(App, { target: document.body });
    Object.assign(globalThis, { flushSync, unmountAll: () => unmount(app) });
  </script>` };
  for (const [name, source] of Object.entries(components)) {
    files[`/${name}.js`] = compile(source, { filename: `${name}.svelte`, generate: "client", dev: false }).js.code.replace(/\.svelte(["'])/g, ".js$1");
  }
  return startApp(t, broker, files);
}

test("R31 the snippet of the README for Svelte is a live tile as printed", options, async (t) => {
  const broker = await startBroker(t);
  const app = await openApp(t, browser, await startSvelte(t, broker, { App: await snippet("svelte", "useLatest", broker) }));
  await shows(app.page, "p", "CPU – %");
  await publish(broker.url, "host.ada.cpu", { percent: 12.34 });
  await shows(app.page, "p", "CPU 12.34 %");
  await eventually(() => app.page.locator("p:not(.stale)").count());
  assert.deepEqual(await app.complaints(), []);
});

const APP = ({ url }, body) => `<script module>
  import { Fanfare } from "fanfare";
  export const fanfare = globalThis.fanfare = new Fanfare("${url}");
</script>
<script>
  import { provideFanfare } from "fanfare/svelte";
  import Tile from "./Tile.svelte";
  provideFanfare(fanfare);
  let shown = $state({ key: 0, isThere: true, topic: "a" });
  globalThis.change = (more) => Object.assign(shown, more);
</script>
${body}`;

test("R31 Svelte shows what stores hold, by runes and as stores, follows topics that change, and gives back what is unmounted", options, async (t) => {
  const broker = await startBroker(t, { config: "[[topics]]\nmatch = \"room.>\"\npresence = true\n" });
  await publish(broker.url, "a", 1);
  await publish(broker.url, "b", 2);
  for (const n of [1, 2, 3]) await publish(broker.url, `m.${n}`, n);
  const app = await openApp(t, browser, await startSvelte(t, broker, {
    App: APP(broker, "{#if shown.isThere}<Tile topic={shown.topic} />{:else}<i>gone</i>{/if}"),
    Tile: `<script>
      import { useConnection, useEvents, useFanfare, useLatest, useMap, usePresence, usePublish } from "fanfare/svelte";
      let { topic } = $props();
      const latest = useLatest(() => topic), map = useMap("m.*"), connection = useConnection(), members = usePresence("room.a");
      const log = useEvents("m.*", { tail: 2 }), sum = useEvents("m.*", () => ({ tail: 3, initial: 0, reduce: (sum, { data }) => sum + data }));
      const twice = $derived((latest.current.data ?? 0) * 2);
      const client = useFanfare();
      const derived = $derived(useLatest(topic, { client }));
      client.subscribe("room.a", () => {});
      Object.assign(globalThis, { log, publish: usePublish(() => topic) });
    </script>
    <p>{latest.current.data ?? "nothing"}|{$latest.data ?? "nothing"}|{derived.current.data ?? "nothing"}|{twice}|{[...map.current.entries.values()].map(({ data }) => data)}|{$log.events.map(({ data }) => data)}|{sum.current.state}|{members.current.members.length}|{$connection.state}</p>`,
  }));
  const { page } = app;
  const line = (latest, map, log, sum) => shows(page, "p", `${latest}|${latest}|${latest}|${2 * latest || 0}|${map}|${log}|${sum}|1|live`);
  await line(1, [1, 2, 3], [2, 3], 6);
  await page.evaluate(() => globalThis.change({ topic: "b" }));
  await line(2, [1, 2, 3], [2, 3], 6);
  await eventually(() => topics(app.of("unsubscribe")).join() === "a");
  await page.evaluate(() => globalThis.publish(7));
  await line(7, [1, 2, 3], [2, 3], 6);
  await page.evaluate(() => { const { older } = globalThis.log; return older(1); });
  await line(7, [1, 2, 3], [1, 2, 3], 6);
  await publish(broker.url, "m.2", 5);
  await line(7, [1, 5, 3], [1, 2, 3, 5], 11);
  await page.evaluate(() => globalThis.change({ topic: null }));
  await line("nothing", [1, 5, 3], [1, 2, 3, 5], 11);
  await eventually(() => topics(app.of("unsubscribe")).join() === "a,b");
  await page.evaluate(() => globalThis.change({ isThere: false }));
  await shows(page, "i", "gone");
  assert.deepEqual(topics(app.of("subscribe").filter((frame) => /^[ab]$/.test(frame.topics))), ["a", "b"], "each topic once, however it is read");
  await eventually(() => topics(app.of("unsubscribe")).join() === "$presence.room.a,a,b,m.*");
  assert.equal(app.sockets, 1);
  assert.deepEqual(await app.complaints(), []);
});

test("R31 Svelte components that come as others go take over their subscriptions, without a frame", options, async (t) => {
  const broker = await startBroker(t);
  await publish(broker.url, "a", 1);
  const app = await openApp(t, browser, await startSvelte(t, broker, {
    App: APP(broker, "{#key shown.key}<Tile />{/key}{#if shown.isThere}<Tile />{/if}"),
    Tile: `<script>
      import { useEvents, useLatest } from "fanfare/svelte";
      const latest = useLatest("a"), log = useEvents("a", { tail: 5 });
    </script>
    <p>{latest.current.data}, {$log.events.length}</p>`,
  }));
  const { page } = app;
  await shows(page, "p", "1, 1");
  const before = app.of("subscribe").length;
  const seen = await page.evaluate(async () => {
    const seen = [];
    for (let n = 1; n <= 5; n++) {
      globalThis.change({ key: n, isThere: n % 2 === 0 });
      globalThis.flushSync();
      await null;
      seen.push(document.querySelector("p").textContent);
    }
    return seen;
  });
  assert.deepEqual(seen, Array(5).fill("1, 1"), "nothing flickers");
  await page.evaluate(() => globalThis.unmountAll());
  await eventually(() => topics(app.of("unsubscribe")).join() === "a");
  assert.equal(app.of("subscribe").length, before);
  assert.equal(app.of("unsubscribe").length, 1);
});

test("R31 outside of components what Svelte gets is a store that follows and gives back", options, async (t) => {
  const broker = await startBroker(t);
  await publish(broker.url, "a", 1);
  const app = await openApp(t, browser, await startApp(t, broker, { "/": `<script type="module">
    import { Fanfare } from "fanfare";
    import { useLatest } from "fanfare/svelte";
    const cpu = useLatest("a", { client: new Fanfare("${broker.url}") });
    globalThis.got = [];
    globalThis.take = () => cpu.subscribe(({ data }) => { if (data !== undefined) got.push(data); });
    globalThis.undo = take();
    try { useLatest("a"); } catch (error) { globalThis.said = error.message; }
  </script>` }));
  const { page } = app;
  const got = (wanted) => eventually(async () => JSON.stringify(await page.evaluate(() => globalThis.got)) === JSON.stringify(wanted), `got ${wanted}`);
  await got([1]);
  await publish(broker.url, "a", 2);
  await got([1, 2]);
  await page.evaluate(() => globalThis.undo());
  await eventually(() => topics(app.of("unsubscribe")).join() === "a");
  await publish(broker.url, "a", 3);
  await page.evaluate(() => { globalThis.got = []; globalThis.take(); });
  await eventually(async () => (await page.evaluate(() => globalThis.got)).at(-1) === 3);
  assert.equal(typeof await page.evaluate(() => globalThis.said), "string");
});

// The bindings where a server renders: nothing opens, and what is not a page's is not there.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { compile } from "svelte/compiler";
import { render } from "svelte/server";
import { createSSRApp, effectScope, h } from "vue";
import { renderToString } from "vue/server-renderer";
import { useLatest as svelteLatest } from "fanfare/svelte";
import { fanfarePlugin, useConnection, useEvents, useLatest, useMap, usePresence } from "fanfare/vue";
import { client, publish, startBroker, watchedSocket } from "./harness.mjs";

const options = { timeout: 60_000 };

/** A client that would be heard of if it opened anything, and proof that it didn't. */
async function watchedClient(t) {
  const broker = await startBroker(t);
  await publish(broker, "a", 1);
  const WebSocket = watchedSocket();
  const { fanfare, states } = client(t, broker.url, { WebSocket });
  async function nothingOpens() {
    // Whatever was begun would be under way by now.
    for (let n = 0; n < 5; n++) await new Promise((next) => setTimeout(next));
    assert.deepEqual([WebSocket.opened.length, states], [0, []]);
  }
  return { fanfare, nothingOpens };
}

/** A component for each composable, because one that opens something may be stopped by another one. */
const tiles = [
  [() => useLatest("a"), ({ data, stale }) => `${data ?? "–"} ${stale}`, "– true"],
  [() => useMap(() => "m.*"), ({ entries }) => entries.size, "0"],
  [() => useEvents("a"), ({ events }) => events.length, "0"],
  [() => useEvents("a", { initial: 7, reduce: (sum, { data }) => sum + data }), ({ state }) => state, "7"],
  [() => usePresence("a"), ({ members }) => members.length, "0"],
  [() => useConnection(), ({ state }) => state, "idle"],
];

async function rendersWithVue(t) {
  const { fanfare, nothingOpens } = await watchedClient(t);
  for (const [use, show, wanted] of tiles) {
    const Tile = { setup() { const shown = use(); return () => h("p", show(shown.value)); } };
    assert.equal(await renderToString(createSSRApp(Tile).use(fanfarePlugin, fanfare)), `<p>${wanted}</p>`);
    await nothingOpens();
  }
  return { fanfare, nothingOpens };
}

test("R31 Vue renders on a server what there is before anything is heard, and opens nothing", options, async (t) => {
  const { fanfare, nothingOpens } = await rendersWithVue(t);
  assert.equal(effectScope().run(() => useLatest("a", { client: fanfare })).value.data, undefined);
  await nothingOpens();
});

test("R31 Vue opens nothing for a server that has a document of its own either", options, async (t) => {
  globalThis.document = {};
  t.after(() => { delete globalThis.document; });
  await rendersWithVue(t);
});

test("R31 Svelte renders on a server what there is before anything is heard, and opens nothing", options, async (t) => {
  const { fanfare, nothingOpens } = await watchedClient(t);
  const { code } = compile(`<script>
    import { provideFanfare, useConnection, useEvents, useLatest, useMap, usePresence } from "fanfare/svelte";
    let { fanfare } = $props();
    provideFanfare(fanfare);
    const latest = useLatest("a"), map = useMap(() => "m.*"), log = useEvents("a"), members = usePresence("a"), connection = useConnection();
    const sum = useEvents("a", { initial: 0, reduce: (sum, { data }) => sum + data });
    const size = $derived(map.current.entries.size);
  </script>
  <p>{$latest.data ?? "–"} {latest.current.stale} {size} {$log.events.length} {members.current.members.length} {$connection.state} {sum.current.state}</p>`, { generate: "server" }).js;
  const source = code.replace(/(from |import )(["'])([a-z][^"']*)\2/g, (_, before, __, name) => `${before}"${import.meta.resolve(name)}"`);
  const { default: App } = await import(`data:text/javascript,${encodeURIComponent(source)}`);
  assert.match((await render(App, { props: { fanfare } })).body, /<p>– true 0 0 0 idle 0<\/p>/);
  await nothingOpens();
  // Nor what only asks for it.
  svelteLatest("a", { client: fanfare }).subscribe(() => {})();
  await nothingOpens();
});

test("R32 a server may import the elements", options, async () => {
  const { provideFanfare } = await import("fanfare/elements");
  assert.equal(typeof provideFanfare, "function");
});

test("R31 the bindings for Vue and Svelte are no more than 1,024 bytes each, compressed; R32 the elements no more than 3,072", options, async (t) => {
  const { url } = await startBroker(t);
  for (const [name, limit] of [["vue", 1024], ["svelte", 1024], ["elements", 3072]]) {
    const answer = await fetch(`${url}/fanfare/${name}.js`);
    assert.equal(answer.status, 200, name);
    const { length } = gzipSync(await answer.text(), { level: 9 });
    t.diagnostic(`${name}: ${length} bytes`);
    assert.ok(length <= limit, `${name}: ${length} bytes`);
  }
});

// Live state in React, in a browser: what the README prints, as a project builds it, and the hooks as the broker serves them.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { bundle, snippet } from "./app.mjs";
import { eventually, eventuallyIn, launchBrowser, openPage, publish, startBroker, startProxy } from "./harness.mjs";

const options = { timeout: 180_000 };
let browser;
before(async () => { browser = await launchBrowser(); });
after(() => browser?.close());

/** A development server with files by their paths; another origin than the broker's. */
async function startPages(t, files) {
  const server = createServer(({ url }, response) => {
    const isPage = url === "/";
    response.setHeader("content-type", isPage ? "text/html" : "text/javascript");
    response.end(isPage ? `<!doctype html><meta charset=utf-8><link rel=icon href="data:,"><title>a page</title><body>${files[url]}` : files[url]);
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  t.after(() => { server.closeAllConnections(); server.close(); });
  return `http://localhost:${server.address().port}/`;
}

test("R30 and R33 the README's live tile works as printed, over a cut and a restart", options, async (t) => {
  const broker = await startBroker(t);
  const proxy = await startProxy(t, broker.port);
  await publish(broker.url, "host.ada.cpu", { percent: 41 });
  const script = await bundle(t, await snippet("jsx", "useLatest", proxy));
  const { page, complaints } = await openPage(t, browser, await startPages(t, { "/": "<script type=module src=/main.js></script>", "/main.js": script }));
  const shows = (text, opacity = "1") => eventuallyIn(page, ([wanted, clear]) => {
    const tile = document.querySelector("main p");
    return tile?.textContent === wanted && tile.style.opacity === clear;
  }, [text, opacity]);
  await shows("host.ada.cpu 41 %");
  await publish(broker.url, "host.ada.cpu", { percent: 42 });
  await shows("host.ada.cpu 42 %");
  assert.deepEqual(await complaints(), []);
  await proxy.cut();
  await shows("host.ada.cpu 42 %", "0.5");
  await publish(broker.url, "host.ada.cpu", { percent: 43 });
  await broker.restart("SIGKILL");
  await proxy.mend();
  await shows("host.ada.cpu 43 %");
});

test("R30 and R33 the hooks as the broker serves them: in StrictMode, 1,000 events a second, 60 renders at most, none lost", options, async (t) => {
  const broker = await startBroker(t);
  const react = await bundle(t, `
    export { createContext, createElement, StrictMode, useContext, useInsertionEffect, useMemo, useRef, useSyncExternalStore } from "react";
    export { createRoot } from "react-dom/client";`);
  const { page, complaints } = await openPage(t, browser, await startPages(t, {
    "/react.js": react,
    "/": `<script type=importmap>{ "imports": { "react": "/react.js" } }</script>
      <main></main>
      <script type=module>
        import { createElement, createRoot, StrictMode } from "react";
        import { Fanfare } from "${broker.url}/fanfare.js";
        import { FanfareProvider, useEvents, useLatest } from "${broker.url}/fanfare/react.js";
        Object.assign(globalThis, { sent: [], renders: 0 });
        const { send } = WebSocket.prototype;
        WebSocket.prototype.send = function (text) { sent.push(JSON.parse(text).op); send.call(this, text); };
        function Sum() {
          const { state, stale } = useEvents("a", { initial: 0, reduce: (sum, { data }) => sum + data });
          const { data } = useLatest("a");
          renders += 1;
          return stale ? "stale" : state + " " + data;
        }
        createRoot(document.querySelector("main")).render(
          createElement(StrictMode, null, createElement(FanfareProvider, { client: new Fanfare() }, createElement(Sum))));
      </script>`,
  }));
  const shows = (text) => eventuallyIn(page, (wanted) => document.querySelector("main").textContent === wanted, text);
  await shows("0 undefined");
  const before = await page.evaluate(() => [renders, performance.now()]);
  for (let batch = 0; batch < 40; batch++) {
    const events = Array.from({ length: 50 }, () => ({ topic: "a", data: 1 }));
    await fetch(`${broker.url}/v1/events`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ events }) });
    await new Promise((next) => setTimeout(next, 25));
  }
  await shows("2000 1");
  const end = await page.evaluate(() => [renders, performance.now()]);
  const [count, ms] = [end[0] - before[0], end[1] - before[1]];
  t.diagnostic(`${count} renders within ${Math.round(ms)} ms`);
  assert.ok(count > 10 && count <= 2 + 60 * ms / 1000, `${count} renders within ${ms} ms`);
  assert.deepEqual(await page.evaluate(() => sent), ["subscribe", "subscribe"], "one for what begins with nothing, one for what begins with a value");
  assert.deepEqual(await complaints(), []);
});

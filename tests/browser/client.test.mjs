// The broker's own client in a browser: what only browsers do to a connection, and hide of it.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createServer as createTcpServer, connect } from "node:net";
import { after, before, test } from "node:test";
import { collectPrinted, eventually, eventuallyIn, freePort, launchBrowser, openPage, publish, startBroker, startProxy, stopProcess } from "./harness.mjs";

const options = { timeout: 180_000 };
let browser;
before(async () => { browser = await launchBrowser(); });
after(() => browser?.close());

/** A development server with one page, and another one to go to; another origin than the broker's. */
async function startPages(t, html) {
  const server = createServer((request, response) => {
    response.setHeader("content-type", "text/html");
    response.end(`<!doctype html><link rel=icon href='data:,'><title>a page</title>${request.url === "/" ? html : "elsewhere"}`);
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  t.after(() => { server.closeAllConnections(); server.close(); });
  return `http://localhost:${server.address().port}/`;
}

/** A page with the client that `from` serves; `got`, `states`, `errors` and `gaps` are the page's, as is `fanfare`. */
const clientPage = (from) => `<script type="module">
  Object.assign(globalThis, { got: [], states: [], errors: [], gaps: [], shown: [] });
  addEventListener("pageshow", ({ persisted }) => shown.push(persisted));
  const { Fanfare } = await import("${from}/fanfare.js");
  globalThis.fanfare = new Fanfare(undefined);
  fanfare.on("state", (said) => states.push(said));
  fanfare.on("error", (said) => errors.push(said));
  fanfare.on("gap", (said) => gaps.push(said));
  fanfare.subscribe("a", ({ data }) => got.push(data));
</script>`;

const is = (page, state) => eventuallyIn(page, (wanted) => globalThis.fanfare?.state === wanted, state);
const got = (page) => page.evaluate(() => globalThis.got);

/** The first example of a README, asking `broker`. */
async function firstExample(name, broker) {
  const text = await readFile(new URL(`../../${name}`, import.meta.url), "utf8");
  const [, example] = /```html\n([^]*?)```/.exec(text);
  return example.replaceAll("http://127.0.0.1:8080", broker.url);
}

for (const name of ["README.md", "clients/js/README.md"]) {
  test(`the first example of ${name} works as printed, from a development server on another port`, options, async (t) => {
    const broker = await startBroker(t);
    const printed = [];
    const { page, complaints } = await openPage(t, browser, "about:blank");
    collectPrinted(page, printed);
    await page.goto(await startPages(t, await firstExample(name, broker)));
    await eventually(() => printed.length > 0);
    assert.deepEqual(printed, [["demo.first", { hello: "world" }]]);
    await publish(broker.url, "demo.second", 2);
    await eventually(() => printed.length === 2);
    assert.deepEqual(await complaints(), []);
  });
}

test("the lines of README.md that need no library work as printed", options, async (t) => {
  const broker = await startBroker(t);
  const text = await readFile(new URL("../../README.md", import.meta.url), "utf8");
  const [, lines] = /```js\n(new WebSocket[^]*?)```/.exec(text);
  const printed = [];
  const { page, complaints } = await openPage(t, browser, "about:blank");
  collectPrinted(page, printed);
  await page.goto(await startPages(t, `<script>${lines.replaceAll("127.0.0.1:8080", new URL(broker.url).host)}</script>`));
  await eventually(async () => {
    await publish(broker.url, "demo.first", { hello: "world" });
    return printed.some(([frame]) => frame.op === "event" && frame.data.hello === "world") && printed.some(([id, data]) => /^\w+-\d+-\d+$/.test(id) && /"hello":"world"/.test(data));
  });
  assert.deepEqual(await complaints(), []);
});

test("a page without an origin gets nothing", options, async (t) => {
  const broker = await startBroker(t);
  const { page } = await openPage(t, browser, "about:blank");
  const failed = new Promise((done) => page.on("requestfailed", done));
  await page.goto(`data:text/html,${encodeURIComponent(await firstExample("README.md", broker))}`);
  assert.match((await failed).url(), /fanfare\.js$/);
});

test("R4 pages load one file of the client, and what they need beside it when they need it", options, async (t) => {
  const broker = await startBroker(t);
  const { page } = await openPage(t, browser, "about:blank");
  const asked = [];
  page.on("request", (request) => { if (request.url().startsWith(broker.url) && request.resourceType() === "script") asked.push(new URL(request.url()).pathname); });
  await page.goto(await startPages(t, clientPage(broker.url)));
  await is(page, "live");
  assert.deepEqual(asked, ["/fanfare.js"]);
  await page.evaluate(() => globalThis.fanfare.publish("a", 1));
  await eventually(async () => (await got(page)).length === 1);
  assert.deepEqual(asked, ["/fanfare.js", "/fanfare/publishing.js"]);
});

// A page that browsers freeze, or whose machine sleeps, runs no line; what becomes of its connection meanwhile, it is not told at once.
for (const [what, happens] of [["is cut", async (proxy) => { await proxy.cut(); await proxy.mend(); }], ["goes nowhere", (proxy) => proxy.swallow()], ["stands", () => {}]]) {
  test(`R33 and R16 a page that was frozen goes on without a loss, and its connection ${what} meanwhile`, options, async (t) => {
    const broker = await startBroker(t);
    const proxy = await startProxy(t, broker.port);
    const { page } = await openPage(t, browser, await startPages(t, clientPage(proxy.url)));
    await is(page, "live");
    await publish(broker.url, "a", 0);
    await eventually(async () => (await got(page)).length === 1);
    await page.evaluate(() => document.dispatchEvent(new Event("freeze")));
    const goOn = await stopProcess(browser, page);
    t.after(goOn);
    await publish(broker.url, "a", 1);
    await happens(proxy);
    await publish(broker.url, "a", 2);
    goOn();
    await page.evaluate(() => document.dispatchEvent(new Event("resume")));
    await eventually(async () => (await got(page)).length === 3);
    assert.deepEqual(await got(page), [0, 1, 2]);
    assert.deepEqual(await page.evaluate(() => globalThis.gaps), []);
  });
}

test("R12 and R33 a page that was offline is there again as soon as it has a network, without a loss", options, async (t) => {
  const broker = await startBroker(t);
  const { page } = await openPage(t, browser, await startPages(t, clientPage(broker.url)));
  await is(page, "live");
  await page.context().setOffline(true);
  await publish(broker.url, "a", 0);
  await page.context().setOffline(false);
  await publish(broker.url, "a", 1);
  await eventually(async () => (await got(page)).length === 2);
  assert.deepEqual(await got(page), [0, 1]);
  assert.deepEqual(await page.evaluate(() => globalThis.gaps), []);
});

test("R18 and R33 a page in the back/forward cache has no connection, and resumes when it is shown again", options, async (t) => {
  const { chromium } = await import("playwright-core");
  const own = await chromium.launch({
    executablePath: process.env.CHROMIUM_BIN ?? "/usr/bin/chromium", headless: true,
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--enable-features=BackForwardCache"],
    ignoreDefaultArgs: ["--disable-back-forward-cache"],
  });
  t.after(() => own.close());
  const broker = await startBroker(t);
  const { page } = await openPage(t, own, await startPages(t, clientPage(broker.url)));
  await is(page, "live");
  await publish(broker.url, "a", 0);
  await eventually(async () => (await got(page)).length === 1);
  const sessions = async () => (await (await fetch(`${broker.url}/v1/sessions`)).json()).sessions.length;
  await page.goto(new URL("/elsewhere", page.url()).href);
  await eventually(async () => await sessions() === 0, "no session is left");
  await publish(broker.url, "a", 1);
  await page.goBack({ waitUntil: "commit" });
  await eventually(async () => (await got(page).catch(() => [])).length === 2);
  assert.deepEqual(await page.evaluate(() => globalThis.shown), [false, true], "it came out of the cache");
  assert.deepEqual(await got(page), [0, 1]);
});

/** A page with the client that is served from its own origin, so that it can say what the broker does to it. */
async function startClientOf(t, { url }, target, port = 0) {
  const server = createServer(async (request, response) => {
    if (request.url === "/") {
      response.setHeader("content-type", "text/html");
      response.end(clientPage("").replace("new Fanfare(undefined", `new Fanfare("${target}"`));
      return;
    }
    const answer = await fetch(url + request.url);
    response.writeHead(answer.status, { "content-type": answer.headers.get("content-type") });
    response.end(await answer.text());
  });
  await new Promise((ready) => server.listen(port, "127.0.0.1", ready));
  t.after(() => { server.closeAllConnections(); server.close(); });
  return `http://127.0.0.1:${server.address().port}/`;
}

test("R14 what a browser hides of a handshake is told: each refusal by its name", options, async (t) => {
  const source = await startBroker(t);
  const key = "a-key-for-this-test-and-no-other-0123456789";
  const wants = await startBroker(t, { env: { FANFARE_AUTH_API_KEYS: key } });
  const away = `http://127.0.0.1:${await freePort()}`;
  const full = await startBroker(t, { env: { FANFARE_LIMITS_CONNECTIONS: "1" } });
  const first = await fetch(`${full.url}/v1/sse?topic=a`);
  t.after(() => first.body.cancel().catch(() => {}));
  for (const [code, target, words] of [
    ["unreachable", away, /nothing answers at http/],
    ["origin_not_allowed", wants.url, /list it in server\.allowed_origins/],
    ["unavailable", full.url, /limits\.connections/],
  ]) {
    const { page } = await openPage(t, browser, await startClientOf(t, source, target));
    await eventuallyIn(page, () => globalThis.errors?.length > 0);
    const said = await page.evaluate(() => globalThis.errors[0]);
    assert.equal(said.code, code);
    assert.match(said.message, words);
    // Now and then it tries again.
    await is(page, "waiting");
  }
});

test("R14 a page that must say who it is hears so", options, async (t) => {
  const key = "a-key-for-this-test-and-no-other-0123456789";
  const port = await freePort();
  const source = await startBroker(t);
  const broker = await startBroker(t, { env: { FANFARE_AUTH_API_KEYS: key, FANFARE_SERVER_ALLOWED_ORIGINS: `http://127.0.0.1:${port}` } });
  await startClientOf(t, source, broker.url, port);
  const { page } = await openPage(t, browser, `http://127.0.0.1:${port}/`);
  await eventuallyIn(page, () => globalThis.errors?.some(({ code }) => code === "unauthorized"));
});

/** A proxy that takes the upgrade out of requests. */
async function startStrippingProxy(t, port) {
  const way = { handshakes: 0, strips: true };
  const open = new Set();
  const server = createTcpServer((near) => {
    const far = connect(port, "127.0.0.1");
    for (const [from, to] of [[near, far], [far, near]]) {
      open.add(from);
      from.on("close", () => to.destroy());
      from.on("error", () => to.destroy());
      from.on("data", (bytes) => {
        const text = bytes.toString("latin1");
        const isHandshake = from === near && /^upgrade: websocket/im.test(text);
        if (isHandshake) way.handshakes += 1;
        to.write(isHandshake && way.strips ? Buffer.from(text.replace(/^(upgrade|connection):.*\r\n/gim, ""), "latin1") : bytes);
      });
    }
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  t.after(() => { for (const socket of open) socket.destroy(); server.close(); });
  return Object.assign(way, { url: `http://127.0.0.1:${server.address().port}` });
}

test("R21 where WebSockets do not come through event streams do, and the tab remembers it", options, async (t) => {
  const broker = await startBroker(t);
  const proxy = await startStrippingProxy(t, broker.port);
  const { page } = await openPage(t, browser, await startPages(t, clientPage(proxy.url)));
  await is(page, "live");
  await publish(broker.url, "a", 0);
  await eventually(async () => (await got(page)).length === 1);
  assert.equal(await page.evaluate(() => globalThis.errors.at(-1).code), "no_websocket");
  await eventuallyIn(page, () => Object.keys(sessionStorage).some((key) => key.startsWith("fanfare.streams "))); // a WebSocket was tried again, in vain
  await page.reload();
  const before = proxy.handshakes;
  await is(page, "live");
  assert.equal(proxy.handshakes, before, "no WebSocket was tried first");
});

test("R33 10,000 events a second come into a page each once and in order, and its memory is flat", options, async (t) => {
  const rate = 10_000, seconds = 3, batch = 500;
  const broker = await startBroker(t, { env: { FANFARE_HISTORY_STORAGE: "memory" } });
  const { page } = await openPage(t, browser, await startPages(t, clientPage(broker.url)));
  await is(page, "live");
  await page.evaluate(() => {
    Object.assign(globalThis, { all: 0, isInOrder: true });
    globalThis.fanfare.subscribe("rate", ({ data }) => { globalThis.isInOrder &&= data === globalThis.all++; });
    return globalThis.fanfare.ready();
  });
  await is(page, "live");
  const { send, detach } = await page.context().newCDPSession(page).then((session) => ({ send: (name) => session.send(name), detach: () => session.detach() }));
  const heap = async () => {
    await send("HeapProfiler.collectGarbage");
    return (await send("Runtime.getHeapUsage")).usedSize;
  };
  const publishAtRate = async (from, to) => {
    const begun = performance.now();
    for (let n = from; n < to; n += batch) {
      const dueMs = (n - from) / rate * 1000 - (performance.now() - begun);
      if (dueMs > 0) await new Promise((next) => setTimeout(next, dueMs));
      const events = Array.from({ length: batch }, (_, at) => ({ topic: "rate", data: n + at }));
      const answer = await fetch(`${broker.url}/v1/events`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ events }) });
      assert.equal(answer.status, 201);
    }
    await eventuallyIn(page, (wanted) => globalThis.all === wanted, to);
  };
  await publishAtRate(0, rate);
  const before = await heap();
  await publishAtRate(rate, rate + seconds * rate);
  const more = await heap() - before;
  await detach();
  t.diagnostic(`${more} bytes more`);
  assert.ok(more < 4_000_000, `${more} bytes more`);
  assert.deepEqual(await page.evaluate(() => [globalThis.isInOrder, globalThis.gaps, globalThis.states.filter(({ state }) => state === "waiting")]), [true, [], []]);
});

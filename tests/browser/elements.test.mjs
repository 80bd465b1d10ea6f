// Live state in plain HTML: the custom elements, in pages without a line of script.

import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";
import { openApp, snippet, startApp, startBeside } from "./app.mjs";
import { eventually, eventuallyIn, launchBrowser, openPage, publish, signedToken, startBroker, startProxy } from "./harness.mjs";

const options = { timeout: 180_000 };
let browser;
before(async () => { browser = await launchBrowser(); });
after(() => browser?.close());

const text = (page, selector) => page.locator(selector).evaluate((element) => element.textContent);
const shows = (page, selector, wanted) => eventually(async () => await text(page, selector) === wanted, `${selector} shows ${wanted}`);
const rows = (page, selector = "li") => page.locator(selector).evaluateAll((all) => all.map((element) => element.textContent));
const list = (page, wanted, selector) => eventually(async () => (await rows(page, selector)).join("|") === wanted.join("|"), `rows are ${wanted}`);
const topics = (frames) => frames.flatMap((frame) => frame.topics).sort();
const elements = (broker) => `<script type="module" src="${broker.url}/fanfare/elements.js"></script>`;

test("R32 elements show live state under the broker's own content security policy, and only as text", options, async (t) => {
  const broker = await startBroker(t);
  const html = `<script type="module" src="/fanfare/elements.js"></script>
    <fanfare-value id="cpu" topic="host.ada.cpu" path="percent" digits="1" lang="de">–</fanfare-value>
    <fanfare-value id="name" topic="host.ada.cpu" path="name">–</fanfare-value>
    <fanfare-value id="all" topic="host.ada.cpu">–</fanfare-value>
    <fanfare-list pattern="orders.*" tail="20"><ul><template><li><b data-field="item">?</b><i data-field="@topic"></i></li></template></ul></fanfare-list>`;
  const policy = (await fetch(broker.url)).headers.get("content-security-policy");
  assert.match(policy, /script-src 'self'.*require-trusted-types-for 'script'/);
  const { page, complaints, ...app } = await openApp(t, browser, await startBeside(t, broker, html, { "content-security-policy": policy }));
  const evil = "<img src=x onerror=\"globalThis.hacked = 1\"><script>globalThis.hacked = 1</script>";
  await publish(broker.url, "host.ada.cpu", { percent: 12.345, name: evil });
  await publish(broker.url, "orders.1", { item: evil });
  await shows(page, "#cpu", "12,3");
  await shows(page, "#name", evil);
  await shows(page, "#all", JSON.stringify({ percent: 12.345, name: evil }));
  await list(page, [`${evil}orders.1`]);
  assert.equal(await page.locator("img, li script, fanfare-value *").count(), 0);
  assert.equal(await page.evaluate(() => globalThis.hacked), undefined);
  assert.deepEqual(await complaints(), []);
  // One client, and each topic once.
  assert.deepEqual(topics(app.of("subscribe")), ["host.ada.cpu", "orders.*"]);
});

test("R32 the snippet of the README for plain HTML is a live tile as printed", options, async (t) => {
  const broker = await startBroker(t);
  const page = await startApp(t, broker, { "/": await snippet("html", "elements.js", broker) });
  const app = await openApp(t, browser, page);
  await publish(broker.url, "host.ada.cpu", { percent: 12.34 });
  await shows(app.page, "fanfare-value", "12.3");
  await publish(broker.url, "orders.1", { item: "tea" });
  await eventually(async () => (await text(app.page, "fanfare-list")).includes("tea"));
  assert.deepEqual(await app.complaints(), []);
});

test("R32 what is moved keeps its subscription, what is removed gives it back, and what comes again takes it", options, async (t) => {
  const broker = await startBroker(t);
  await publish(broker.url, "a", 1);
  await publish(broker.url, "b.1", 1);
  const app = await openApp(t, browser, await startApp(t, broker, { "/": `${elements(broker)}
    <div id="left"><fanfare-value id="a" topic="a">–</fanfare-value><fanfare-list pattern="b.*"><ul><template><li data-field></li></template></ul></fanfare-list></div>
    <div id="right"></div><fanfare-value id="other" topic="c">–</fanfare-value>` }));
  const { page } = app;
  await shows(page, "#a", "1");
  await list(page, ["1"]);
  await page.evaluate(() => { globalThis.row = document.querySelector("li"); document.querySelector("#right").append(...document.querySelector("#left").children); });
  await publish(broker.url, "a", 2);
  await publish(broker.url, "b.1", 2);
  await shows(page, "#right #a", "2");
  await list(page, ["1", "2"], "#right li");
  assert.equal(await page.evaluate(() => document.querySelector("li") === globalThis.row), true, "the row that was there is the same");
  assert.deepEqual(topics(app.of("subscribe")), ["a", "b.*", "c"]);
  assert.deepEqual(app.of("unsubscribe"), []);
  await page.evaluate(() => { globalThis.kept = [...document.querySelector("#right").children]; document.querySelector("#right").replaceChildren(); });
  await eventually(() => topics(app.of("unsubscribe")).join() === "a,b.*");
  await publish(broker.url, "a", 3);
  await publish(broker.url, "c", 1);
  await shows(page, "#other", "1");
  assert.equal(await page.evaluate(() => globalThis.kept[0].textContent), "2", "what is in no page shows nothing new");
  await page.evaluate(() => document.querySelector("#left").append(...globalThis.kept));
  await shows(page, "#a", "3");
  await list(page, ["1", "2"]);
  assert.deepEqual(topics(app.of("subscribe")), ["a", "a", "b.*", "b.*", "c"]);
  assert.equal(app.sockets, 1);
  await page.evaluate(() => document.body.replaceChildren());
  await eventually(() => topics(app.of("unsubscribe")).join() === "a,a,b.*,b.*,c");
});

test("R32 attributes that change take effect, and together they are one change", options, async (t) => {
  const broker = await startBroker(t);
  const second = await startBroker(t);
  await publish(broker.url, "a", { x: 1.5, y: [{ z: 2 }] });
  await publish(broker.url, "b", { x: 3 });
  await publish(second.url, "b", { x: "there" });
  for (const n of [1, 2, 10]) await publish(broker.url, `n.${n}`, n);
  await publish(broker.url, "n.1", 7);
  const app = await openApp(t, browser, await startApp(t, broker, { "/": `${elements(broker)}<fanfare-value path="x">–</fanfare-value>
    <fanfare-list pattern="n.*" tail="2"><ul><template><li data-field="">–</li></template></ul></fanfare-list>` }));
  const { page } = app;
  const set = (selector, attributes) => page.locator(selector).evaluate((element, all) => {
    for (const [name, value] of Object.entries(all)) value === null ? element.removeAttribute(name) : element.setAttribute(name, value);
  }, attributes);
  await list(page, ["10", "7"]);
  assert.equal(await text(page, "fanfare-value"), "–", "without a topic it is as the page has it");
  await set("fanfare-value", { topic: "nothing" });
  await set("fanfare-value", { topic: "a" });
  await shows(page, "fanfare-value", "1.5");
  const asked = app.of("subscribe").length;
  await set("fanfare-value", { digits: "2" });
  await shows(page, "fanfare-value", "1.50");
  await set("fanfare-value", { path: "y.0.z", digits: null });
  await shows(page, "fanfare-value", "2");
  await set("fanfare-value", { path: "@topic" });
  await shows(page, "fanfare-value", "a");
  await set("fanfare-value", { path: "constructor.name" });
  await shows(page, "fanfare-value", "–");
  await set("fanfare-value", { path: "x" });
  assert.equal(app.of("subscribe").length, asked, "what is only shown otherwise asks the broker for nothing");
  await page.evaluate(() => {
    const value = document.querySelector("fanfare-value");
    for (const topic of ["c", "d", "b"]) value.setAttribute("topic", topic);
  });
  await shows(page, "fanfare-value", "3");
  assert.deepEqual(app.of("subscribe").slice(asked).map((frame) => frame.topics), [["b"]]);
  await set("fanfare-value", { url: second.url });
  await shows(page, "fanfare-value", "there");
  await set("fanfare-value", { topic: null });
  await shows(page, "fanfare-value", "–");
  await set("fanfare-list", { reversed: "" });
  await list(page, ["7", "10"]);
  await set("fanfare-list", { tail: "3", reversed: null });
  await list(page, ["2", "10", "7"]);
  await publish(broker.url, "n.2", 8);
  await list(page, ["10", "7", "8"]);
  await set("fanfare-list", { map: "" });
  await list(page, ["7", "8", "10"]);
  await set("fanfare-value", { topic: "a", url: null, "max-rate": "2" });
  await shows(page, "fanfare-value", "1.5");
  assert.equal(app.of("subscribe").at(-1).max_rate, 2);
  await set("fanfare-value", { topic: "a", url: "ftp://nowhere" });
  await eventually(() => page.locator("fanfare-value[error=invalid_url][stale]").count());
});

test("R32 rows stand where the template stands, one for each event or topic, and stay the same while it does", options, async (t) => {
  const broker = await startBroker(t);
  await publish(broker.url, "stock.b", { price: 2, "when": "2026-11-23T08:00:00.000Z" });
  await publish(broker.url, "stock.a", { price: 1 });
  const app = await openApp(t, browser, await startApp(t, broker, { "/": `${elements(broker)}
    <fanfare-list pattern="stock.*" map lang="en-GB"><table><thead><tr><th>what<th>price</thead><tbody>
      <template><tr><td data-field="@topic"><td data-field="price" data-digits="2">–<td><time data-field="when">never</time></tr></template>
      <tr id="end"><td>that is all</tbody></table></fanfare-list>
    <fanfare-list id="plain" pattern="stock.*" tail="1"></fanfare-list>` }));
  const { page } = app;
  await list(page, ["stock.a1.00never", `stock.b2.00${await page.evaluate(() => new Intl.DateTimeFormat("en-GB", { dateStyle: "short", timeStyle: "medium" }).format(Date.parse("2026-11-23T08:00:00Z")))}`, "that is all"], "tbody tr");
  assert.equal(await page.locator("time").last().getAttribute("datetime"), "2026-11-23T08:00:00.000Z");
  await list(page, ["stock.a {\"price\":1} "], "#plain div");
  await page.evaluate(() => { globalThis.before = [...document.querySelectorAll("tbody tr")]; });
  await publish(broker.url, "stock.a", {});
  await publish(broker.url, "stock.aa", { price: 3 });
  await list(page, ["stock.a–never", "stock.aa3.00never", (await rows(page, "tbody tr")).at(-2), "that is all"], "tbody tr");
  assert.deepEqual(await page.evaluate(() => [...document.querySelectorAll("tbody tr")].map((row) => globalThis.before.indexOf(row))), [0, -1, 1, 2]);
  await fetch(`${broker.url}/v1/topics/stock.b`, { method: "DELETE" });
  await list(page, ["stock.a–never", "stock.aa3.00never", "that is all"], "tbody tr");
  assert.deepEqual(await app.complaints(), []);
});

test("R32 what shows old state says so, what is removed shows what the page said, and what is refused says why", options, async (t) => {
  const broker = await startBroker(t);
  const proxy = await startProxy(t, broker.port);
  await publish(broker.url, "a", 1);
  const app = await openApp(t, browser, await startApp(t, broker, { "/": `${elements(broker)}<fanfare-value id="a" topic="a" url="${proxy.url}/">–</fanfare-value>
    <fanfare-value id="refused" topic="a..b">–</fanfare-value>` }));
  const { page } = app;
  assert.equal(await page.locator("#a").count(), 1);
  await shows(page, "#a", "1");
  await eventually(() => page.locator("#a:not([stale])").count());
  await eventually(() => page.locator("#refused[error=invalid_pattern][stale]").count());
  await proxy.cut();
  await eventually(() => page.locator("#a[stale]").count());
  assert.equal(await text(page, "#a"), "1");
  await publish(broker.url, "a", 2);
  await proxy.mend();
  await shows(page, "#a", "2");
  await eventually(() => page.locator("#a:not([stale])").count());
  await fetch(`${broker.url}/v1/topics/a`, { method: "DELETE" });
  await shows(page, "#a", "–");
});

test("R32 elements use the client that the page provides, with its token", options, async (t) => {
  const secret = "a-secret-for-this-test-and-no-other-0123456789";
  const broker = await startBroker(t, { env: { FANFARE_AUTH_JWT_SECRET: secret } });
  const token = signedToken(secret, { subscribe: ["a"], publish: ["a"] });
  // The page of the broker's own origin, for there are credentials.
  const html = `<fanfare-value topic="a">–</fanfare-value>
    <script type="module">
      import { Fanfare } from "/fanfare.js";
      import { provideFanfare } from "/fanfare/elements.js";
      provideFanfare(globalThis.fanfare = new Fanfare({ token: "${token}" }));
    </script>`;
  const app = await openApp(t, browser, await startBeside(t, broker, html));
  await eventuallyIn(app.page, () => globalThis.fanfare?.state === "live");
  await app.page.evaluate(() => globalThis.fanfare.publish("a", "mine"));
  await shows(app.page, "fanfare-value", "mine");
  assert.equal(app.sockets, 1);
  // Another one in its place is taken at once.
  await app.page.evaluate(async (token) => {
    const { Fanfare } = await import("/fanfare.js");
    const { provideFanfare } = await import("/fanfare/elements.js");
    globalThis.fanfare.close();
    provideFanfare(globalThis.fanfare = new Fanfare({ token }));
    await globalThis.fanfare.publish("a", "another");
  }, token);
  await shows(app.page, "fanfare-value", "another");
  assert.deepEqual(await app.complaints(), []);
});

test("R32 a client that is provided late takes the place of the elements' own, which is let go of", options, async (t) => {
  const broker = await startBroker(t);
  await publish(broker.url, "a", 1);
  const app = await openApp(t, browser, await startApp(t, broker, { "/": `${elements(broker)}<fanfare-value topic="a">–</fanfare-value>` }));
  await shows(app.page, "fanfare-value", "1");
  const session = await app.page.evaluate(async () => {
    const [{ Fanfare }, { provideFanfare }] = await Promise.all([import("fanfare"), import("fanfare/elements")]);
    const fanfare = new Fanfare();
    provideFanfare(fanfare);
    await new Promise((next) => setTimeout(next));
    await fanfare.ready();
    return fanfare.session;
  });
  await publish(broker.url, "a", 2);
  await shows(app.page, "fanfare-value", "2");
  const sessions = async () => (await (await fetch(`${broker.url}/v1/sessions`)).json()).sessions.map(({ session }) => session);
  await eventually(async () => (await sessions()).join() === session, `${session} is the only session`);
});

test("R32 elements wait for what they enclose, where the page comes slower than the script", options, async (t) => {
  const broker = await startBroker(t);
  await publish(broker.url, "a", 1);
  let finish;
  const server = createServer((request, response) => {
    response.setHeader("content-type", "text/html; charset=utf-8");
    response.write(`<!doctype html><meta charset=utf-8><!--${" ".repeat(2000)}--><link rel=icon href='data:,'><script async type="module" src="${broker.url}/fanfare/elements.js"></script><fanfare-list pattern="a"><ul>`);
    finish = () => response.end("<template><li>row <b data-field></b></li></template></ul></fanfare-list>");
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  t.after(() => { server.closeAllConnections(); server.close(); });
  const { page } = await openPage(t, browser, "about:blank");
  await page.goto(`http://localhost:${server.address().port}/`, { waitUntil: "commit" });
  await eventuallyIn(page, () => Boolean(customElements.get("fanfare-list") && document.querySelector("fanfare-list")));
  finish();
  await list(page, ["row 1"]);
});

test("R32 a removal takes out the rows of its topic and is none itself; a wildcard for a value is refused, with an event", options, async (t) => {
  const broker = await startBroker(t);
  for (const n of [1, 2]) await publish(broker.url, `orders.${n}`, { item: `item ${n}` });
  const app = await openApp(t, browser, await startApp(t, broker, { "/": `<script>addEventListener("error", ({ detail }) => { globalThis.said = detail; }, true);</script>${elements(broker)}
    <fanfare-list pattern="orders.*"><ul><template><li data-field="item">?</li></template></ul></fanfare-list><fanfare-value topic="orders.*">–</fanfare-value>` }));
  const { page } = app;
  await list(page, ["item 1", "item 2"]);
  await fetch(`${broker.url}/v1/topics/orders.1`, { method: "DELETE" });
  await list(page, ["item 2"]);
  await publish(broker.url, "orders.1", { item: "again" });
  await list(page, ["item 2", "again"]);
  await eventually(() => page.locator("fanfare-value[error=invalid_topic]").count());
  await eventuallyIn(page, () => globalThis.said?.code === "invalid_topic" && /is of one topic/.test(globalThis.said.message));
});

test("R32 elements of a page whose origin is not listed say so, by an attribute and an event, though they come from that broker", options, async (t) => {
  const broker = await startBroker(t, { env: { FANFARE_AUTH_JWT_SECRET: "a-secret-for-this-test-and-no-other-0123456789" } });
  const html = `<!doctype html><meta charset=utf-8><link rel=icon href="data:,"><script>addEventListener("error", ({ detail }) => { globalThis.said = detail; }, true);</script>
    ${elements(broker)}<fanfare-value topic="a">–</fanfare-value><fanfare-list pattern="a"></fanfare-list>`;
  const app = await startApp(t, broker, { "/": html });
  const folder = await mkdtemp(join(tmpdir(), "fanfare-elements-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  await writeFile(join(folder, "page.html"), html);
  for (const [url, words] of [
    [app, /pages of http:\/\/localhost:\d+ in: list it in server\.allowed_origins/],
    [`${pathToFileURL(join(folder, "page.html"))}`, /no origin that could be listed, as one that is opened from the disk: serve it/],
  ]) {
    const { page } = await openApp(t, browser, url);
    for (const name of ["value", "list"]) await eventually(() => page.locator(`fanfare-${name}[error=origin_not_allowed][stale]`).count());
    assert.match(await page.evaluate(() => globalThis.said.message), words);
  }
});

// The browser's own EventSource, with no library in between.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import {
  eventuallyIn, launchBrowser, openPage, publish, startBalancer, startBroker, startCompressingProxy, startOtherOrigin, startProxy,
} from "./harness.mjs";

const options = { timeout: 180_000 };
let browser;
before(async () => { browser = await launchBrowser(); });
after(() => browser?.close());

/** Opens a source in the page and writes down, in `globalThis.seen`, all that it tells. */
function watchSource(page, url) {
  return page.evaluate((url) => {
    globalThis.seen = { opens: 0, errors: 0, live: [], byes: [], gaps: 0, events: [] };
    globalThis.source = new EventSource(url);
    source.onopen = () => { seen.opens += 1; };
    source.onerror = () => { seen.errors += 1; };
    source.onmessage = ({ data, lastEventId }) => { seen.events.push({ ...JSON.parse(data), lastEventId }); };
    source.addEventListener("fanfare.live", ({ data }) => { seen.live.push(JSON.parse(data)); });
    source.addEventListener("fanfare.bye", ({ data }) => { seen.byes.push(JSON.parse(data)); });
    source.addEventListener("fanfare.gap", () => { seen.gaps += 1; });
  }, url);
}

test("the reader of docs/protocol.md follows with a token in a header, and comes back by itself", options, async (t) => {
  const key = "an-api-key-for-tests";
  const broker = await startBroker(t, { env: { FANFARE_AUTH_API_KEYS: key } });
  const { page } = await openPage(t, browser, `${broker.url}/docs`);
  const docs = await readFile(new URL("../../docs/protocol.md", import.meta.url), "utf8");
  const [, reader] = docs.match(/```js\n(.*?)```/s);
  const begin = `${reader}; globalThis.seen = []; void follow("/v1/sse", () => ${JSON.stringify(key)}, ["a"], (event, data) => seen.push([event, data]))`;
  await page.evaluate(`{ ${begin}; }`);
  await eventuallyIn(page, () => seen.some(([event]) => event === "fanfare.live"));
  await publish(broker.url, "a", 1, "-H", `Authorization: Bearer ${key}`);
  await eventuallyIn(page, () => seen.some(([event, { data }]) => event === "message" && data === 1));
  const next = await broker.restart();
  await publish(next.url, "a", 2, "-H", `Authorization: Bearer ${key}`);
  await eventuallyIn(page, () => seen.some(([, { data }]) => data === 2));
  assert.equal(await page.evaluate(() => seen.filter(([event]) => event === "message").length), 2);
  const refusal = () => page.evaluate(`(() => { ${reader}; return follow("/v1/sse", () => "wrong", ["a"], () => {}).catch((error) => error.message); })()`);
  assert.match(await refusal(), /^unauthorized: /);
  // Answers of something that stands between.
  for (const [status, said] of [[404, /^HTTP 404: /], [200, /no event stream/]]) {
    await page.route("**/v1/sse", (route) => route.fulfill({ status, contentType: "text/html", body: "<!doctype html>" }));
    assert.match(await refusal(), said);
    await page.unroute("**/v1/sse");
  }
});

test("a plain EventSource hears when it is live and then each event in onmessage", options, async (t) => {
  const broker = await startBroker(t);
  const { page } = await openPage(t, browser, broker.url);
  await watchSource(page, "/v1/sse?topic=orders.%3E");
  await eventuallyIn(page, () => globalThis.seen.live.length === 1);
  const { id } = await publish(broker.url, "orders.eu.42", { total: 42 }, "-H", "X-Event-Type: created");
  const event = await eventuallyIn(page, () => globalThis.seen.events[0]);
  assert.equal(event.id, id);
  assert.equal(event.lastEventId, id);
  assert.equal(event.type, "created");
  assert.equal(event.topic, "orders.eu.42");
  assert.deepEqual(event.data, { total: 42 });
  assert.equal(event.op, undefined);
});

test("an EventSource whose connection is cut comes back by itself and gets what it missed, each event once", options, async (t) => {
  const broker = await startBroker(t);
  const proxy = await startProxy(t, broker.port);
  const { page } = await openPage(t, browser, proxy.url);
  await watchSource(page, "/v1/sse?topic=steps.%3E");
  await eventuallyIn(page, () => globalThis.seen.live.length === 1);
  await publish(broker.url, "steps.1", 1);
  await eventuallyIn(page, () => globalThis.seen.events.length === 1);

  await proxy.cut();
  await eventuallyIn(page, () => globalThis.seen.errors > 0);
  await publish(broker.url, "steps.2", 2);
  await publish(broker.url, "steps.3", 3);
  await proxy.mend();
  await eventuallyIn(page, () => globalThis.seen.live.length === 2);
  // One more, live, so that a repetition of the earlier ones would have come before it.
  await publish(broker.url, "steps.4", 4);
  await eventuallyIn(page, () => globalThis.seen.events.some(({ data }) => data === 4));
  const seen = await page.evaluate(() => globalThis.seen);
  assert.deepEqual(seen.events.map(({ data }) => data), [1, 2, 3, 4]);
  assert.equal(seen.gaps, 0);
});

// Exact where the history outlives the broker, a gap where it does not; never silence.
test("an EventSource outlives a restart of the broker, and hears what it missed or of the gap", options, async (t) => {
  const broker = await startBroker(t);
  const { page } = await openPage(t, browser, broker.url);
  await watchSource(page, "/v1/sse?topic=steps.%3E");
  await eventuallyIn(page, () => globalThis.seen.live.length === 1);
  await publish(broker.url, "steps.1", 1);
  await eventuallyIn(page, () => globalThis.seen.events.length === 1);

  await broker.stop("SIGTERM");
  await eventuallyIn(page, () => globalThis.seen.errors > 0);
  assert.deepEqual(await page.evaluate(() => globalThis.seen.byes.map(({ code }) => code)), ["restart"]);
  const next = await broker.restart();
  await publish(next.url, "steps.2", 2);
  await eventuallyIn(page, () => globalThis.seen.live.length === 2);
  await publish(next.url, "steps.3", 3);
  await eventuallyIn(page, () => globalThis.seen.events.some(({ data }) => data === 3));
  const seen = await page.evaluate(() => globalThis.seen);
  assert.deepEqual(seen.events.map(({ data }) => data), [1, 2, 3]);
  const sameLog = seen.events[0].id.split("-")[0] === seen.events[1].id.split("-")[0];
  assert.equal(seen.gaps, sameLog ? 0 : 1);
});

// A browser gives up for good on any status but 200, and a balancer without a node has nothing else to say by itself.
test("an EventSource of another origin outlives the time when no node is behind the balancer", options, async (t) => {
  const origin = await startOtherOrigin(t);
  const broker = await startBroker(t, { env: { FANFARE_SERVER_ALLOWED_ORIGINS: origin } });
  const balancer = await startBalancer(t, broker.port);
  const { page } = await openPage(t, browser, origin);
  await watchSource(page, `${balancer}/v1/sse?topic=steps.%3E`);
  await eventuallyIn(page, () => globalThis.seen.live.length === 1);
  await publish(broker.url, "steps.1", 1);
  await eventuallyIn(page, () => globalThis.seen.events.length === 1);

  await broker.stop("SIGKILL");
  // Twice the balancer alone answered.
  await eventuallyIn(page, () => globalThis.seen.byes.length >= 2);
  assert.equal(await page.evaluate(() => globalThis.source.readyState !== EventSource.CLOSED), true);
  const next = await broker.restart();
  await publish(next.url, "steps.2", 2);
  await eventuallyIn(page, () => globalThis.seen.events.some(({ data }) => data === 2));
  const seen = await page.evaluate(() => globalThis.seen);
  assert.deepEqual(seen.events.map(({ data }) => data), [1, 2]);
  assert.equal(seen.gaps, 0);
});

test("events come one by one through Node's compression", options, async (t) => {
  const broker = await startBroker(t);
  const proxy = await startCompressingProxy(t, broker.port);
  const { page } = await openPage(t, browser, broker.url);
  const { headers } = await fetch(`${proxy}/v1/topics`, { headers: { "accept-encoding": "gzip" } });
  assert.equal(headers.get("content-encoding"), "gzip", "it does compress");
  await page.goto(`${proxy}/docs`);
  await watchSource(page, "/v1/sse?topic=steps.%3E");
  await eventuallyIn(page, () => globalThis.seen.live.length === 1);
  await publish(broker.url, "steps.1", 1);
  await eventuallyIn(page, () => globalThis.seen.events.length === 1);
});

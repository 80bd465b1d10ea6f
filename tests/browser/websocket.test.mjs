// The browser's own WebSocket, with no library in between.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { eventuallyIn, launchBrowser, openPage, publish, startBroker, startOtherOrigin, startPasswordProxy } from "./harness.mjs";

const options = { timeout: 180_000 };
let browser;
before(async () => { browser = await launchBrowser(); });
after(() => browser?.close());

/** Opens a socket in the page and writes down, in `globalThis.seen`, all that it tells. */
function watchSocket(page, url) {
  return page.evaluate((url) => {
    globalThis.seen = { open: 0, errors: 0, frames: [], close: null };
    globalThis.socket = new WebSocket(url);
    socket.onopen = () => { seen.open += 1; };
    socket.onerror = () => { seen.errors += 1; };
    socket.onmessage = ({ data }) => { seen.frames.push(JSON.parse(data)); };
    socket.onclose = ({ code, reason, wasClean }) => { seen.close = { code, reason, wasClean }; };
  }, url);
}

/** Run in the page: whether an `EventSource` opens, or is given up for good. */
const openStream = (url) => new Promise((done) => {
  const source = new EventSource(url);
  source.onopen = () => { source.close(); done("open"); };
  source.onerror = () => { if (source.readyState === EventSource.CLOSED) done("refused"); };
});

const isLive = () => globalThis.seen.frames.some(({ op }) => op === "live");

test("a plain new WebSocket(url) opens, hears events and is closed with 1012 when the broker stops", options, async (t) => {
  const broker = await startBroker(t);
  const { page } = await openPage(t, browser, broker.url);
  await watchSocket(page, `${broker.ws}/v1/ws?topic=orders.%3E`);
  await eventuallyIn(page, isLive);
  const { id } = await publish(broker.url, "orders.eu.42", { total: 42 });
  await publish(broker.url, "elsewhere", "unheard");
  const event = await eventuallyIn(page, () => globalThis.seen.frames.find(({ op }) => op === "event"));
  assert.equal(event.id, id);
  assert.equal(event.topic, "orders.eu.42");
  assert.deepEqual(event.data, { total: 42 });
  assert.match(event.time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);

  await broker.stop("SIGTERM");
  await eventuallyIn(page, () => globalThis.seen.close);
  const seen = await page.evaluate(() => globalThis.seen);
  assert.equal(seen.open, 1);
  assert.equal(seen.errors, 0);
  assert.equal(seen.close.code, 1012);
  assert.equal(seen.close.wasClean, true);
  assert.equal(seen.frames.filter(({ op }) => op === "event").length, 1);
  assert.deepEqual(seen.frames.map(({ op }) => op).filter((op) => op !== "cursor" && op !== "event"), ["welcome", "ack", "live", "bye"]);
  assert.equal(seen.frames.at(-1).code, "restart");
});

test("a bad query is an error event, and the socket never opens", options, async (t) => {
  const broker = await startBroker(t);
  const { page } = await openPage(t, browser, broker.url);
  await watchSocket(page, `${broker.ws}/v1/ws?topic=a..b`);
  await eventuallyIn(page, () => globalThis.seen.close);
  const seen = await page.evaluate(() => globalThis.seen);
  assert.equal(seen.errors, 1);
  assert.equal(seen.open, 0);
  assert.equal(seen.close.code, 1006);
  assert.equal(seen.close.wasClean, false);
});

test("two pages chat in both directions at the same time, and see the same order", options, async (t) => {
  const broker = await startBroker(t);
  const pages = [];
  for (let n = 0; n < 2; n++) {
    const { page } = await openPage(t, browser, broker.url);
    await watchSocket(page, `${broker.ws}/v1/ws?topic=chat.lobby`);
    await eventuallyIn(page, isLive);
    pages.push(page);
  }
  const each = 50;
  const say = ({ who, each }) => {
    for (let n = 0; n < each; n++) {
      globalThis.socket.send(JSON.stringify({ op: "publish", ref: n + 1, topic: "chat.lobby", type: "message", data: { who, n } }));
    }
  };
  await Promise.all(pages.map((page, who) => page.evaluate(say, { who, each })));

  const heard = await Promise.all(pages.map(async (page) => {
    await eventuallyIn(page, (all) => globalThis.seen.frames.filter(({ op }) => op === "event").length >= all, 2 * each);
    await eventuallyIn(page, (each) => globalThis.seen.frames.filter(({ op, ref }) => op === "ack" && ref > 0).length >= each, each);
    return page.evaluate(() => globalThis.seen.frames);
  }));
  const events = heard.map((frames) => frames.filter(({ op }) => op === "event").map(({ id, type, data }) => ({ id, type, ...data })));
  assert.equal(events[0].length, 2 * each);
  assert.deepEqual(events[0], events[1]);
  for (const who of [0, 1]) {
    const own = events[0].filter((event) => event.who === who);
    assert.deepEqual(own.map(({ n }) => n), Array.from({ length: each }, (_, n) => n), "each speaker's words in the order said");
    // What a page was told of its own words is what everybody was told.
    const acked = heard[who].filter(({ op, ref }) => op === "ack" && ref > 0);
    assert.deepEqual(acked.map(({ id }) => id).sort(), own.map(({ id }) => id).sort());
  }
  assert.ok(events[0].every(({ type }) => type === "message"));
});

// With a key, for pages of this machine need no listing while the broker is open. All that these show is right but the origin.
const KEY = "a-key-for-this-test-and-no-other-0123456789";
const closed = (t) => startBroker(t, { env: { FANFARE_AUTH_API_KEYS: KEY } });

test("an unlisted origin is refused before anything is said", options, async (t) => {
  const broker = await closed(t);
  const { page } = await openPage(t, browser, await startOtherOrigin(t));
  await watchSocket(page, `${broker.ws}/v1/ws?topic=orders.%3E&access_token=${KEY}`);
  await eventuallyIn(page, () => globalThis.seen.close);
  const seen = await page.evaluate(() => globalThis.seen);
  assert.deepEqual(seen, { open: 0, errors: 1, frames: [], close: { code: 1006, reason: "", wasClean: false } });
  assert.equal(await page.evaluate(openStream, `${broker.url}/v1/sse?topic=orders.%3E&access_token=${KEY}`), "refused");
});

test("an unlisted origin can't publish with a request that needs no preflight", options, async (t) => {
  const broker = await closed(t);
  const { page } = await openPage(t, browser, await startOtherOrigin(t));
  const url = `${broker.url}/v1/topics/victim/events`;
  const shown = `${url}?access_token=${KEY}`;
  const sent = page.waitForRequest(shown);
  // The page may not even see that there was an answer (Cross-Origin-Resource-Policy).
  const seen = await page.evaluate((url) => fetch(url, { method: "POST", mode: "no-cors", headers: { "Content-Type": "text/plain" }, body: "planted" })
    .then(() => "an answer", (error) => error.name), shown);
  assert.equal(seen, "TypeError");
  assert.equal((await sent).method(), "POST");
  const kept = await (await fetch(url, { headers: { Authorization: `Bearer ${KEY}` } })).json();
  assert.deepEqual(kept.events, []);
});

test("a page of a development server works with an open broker, and one without an origin does not", options, async (t) => {
  const broker = await startBroker(t);
  const { page } = await openPage(t, browser, await startOtherOrigin(t));
  await watchSocket(page, `${broker.ws}/v1/ws?topic=orders.%3E`);
  await eventuallyIn(page, isLive);
  // Its type needs a preflight.
  const published = await page.evaluate(async (url) => {
    const answer = await fetch(url, { method: "POST", headers: { "Content-Type": "application/json" }, body: "1" });
    return [answer.status, (await answer.json()).topic];
  }, `${broker.url}/v1/topics/orders.eu/events`);
  assert.deepEqual(published, [201, "orders.eu"]);
  await eventuallyIn(page, () => globalThis.seen.frames.some(({ op, data }) => op === "event" && data === 1));
  assert.equal(await page.evaluate(openStream, `${broker.url}/v1/sse?topic=orders.%3E`), "open");

  const heard = await page.evaluate(([ws, url]) => new Promise((done) => {
    addEventListener("message", ({ data }) => done(data));
    const frame = document.createElement("iframe");
    frame.sandbox = "allow-scripts";
    frame.srcdoc = `<script>
      const socket = new WebSocket(${JSON.stringify(ws)});
      socket.onopen = () => parent.postMessage("open", "*");
      socket.onclose = () => fetch(${JSON.stringify(url)}).then(() => "an answer", () => "refused")
        .then((fetched) => parent.postMessage([origin, fetched], "*"));
    <${"/"}script>`;
    document.body.append(frame);
  }), [`${broker.ws}/v1/ws?topic=orders.%3E`, `${broker.url}/v1/topics`]);
  assert.deepEqual(heard, ["null", "refused"]);
  const metrics = await (await fetch(`${broker.url}/metrics`)).text();
  assert.match(metrics, /fanfare_refusals_total\{reason="origin_not_allowed"\} 2\b/);
});

test("a listed origin is let in", options, async (t) => {
  const origin = await startOtherOrigin(t);
  const broker = await startBroker(t, { env: { FANFARE_SERVER_ALLOWED_ORIGINS: origin } });
  const { page } = await openPage(t, browser, origin);
  await watchSocket(page, `${broker.ws}/v1/ws?topic=orders.%3E`);
  await eventuallyIn(page, isLive);
});

// What a page of a listed origin does with `fetch` and `EventSource`, as its browser lets it.
test("a page of a listed origin sends credentials and headers of its own, and reads what comes back", options, async (t) => {
  const origin = await startOtherOrigin(t);
  const broker = await startBroker(t, {
    env: { FANFARE_SERVER_ALLOWED_ORIGINS: origin, FANFARE_LIMITS_CONNECTIONS: "1" },
  });
  const { page } = await openPage(t, browser, origin);
  const post = (options) => page.evaluate(async ([url, options]) => {
    const answer = await fetch(url, { method: "POST", body: "1", ...options });
    return { status: answer.status, ...(await answer.json()) };
  }, [`${broker.url}/v1/topics/a/events`, options]);
  const simple = await post({ credentials: "include" });
  assert.equal(simple.status, 201);
  const traced = await post({
    credentials: "include",
    headers: { "Content-Type": "application/json", traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", baggage: "a=b", "X-Request-ID": "1" },
  });
  assert.equal(traced.status, 201);
  // What only a proxy may say, the browser does not send.
  const forged = await post({ headers: { "X-Forwarded-For": "1.1.1.1" } }).catch(() => "refused");
  assert.equal(forged, "refused");
  const event = await page.evaluate((url) => new Promise((done) => {
    globalThis.source = new EventSource(url, { withCredentials: true });
    source.onmessage = ({ data }) => done(JSON.parse(data).data);
    source.onerror = () => done("refused");
  }), `${broker.url}/v1/sse?topic=a&snapshot=true`);
  assert.equal(event, 1);
  // There is room for one session, and the page may read when to come back.
  const full = await page.evaluate(async (url) => {
    const answer = await fetch(url, { credentials: "include" });
    return [answer.status, answer.headers.get("Retry-After")];
  }, `${broker.url}/v1/sse?topic=a`);
  assert.deepEqual(full, [503, "5"]);
});

test("a page of the broker's own works behind a proxy that asks for a password", options, async (t) => {
  const broker = await startBroker(t, { env: { FANFARE_SERVER_TRUSTED_PROXIES: "127.0.0.1" } });
  const proxy = await startPasswordProxy(t, broker.port, "ada:secret");
  const { page } = await openPage(t, browser, proxy, { httpCredentials: { username: "ada", password: "secret" } });
  await watchSocket(page, `${proxy.replace("http", "ws")}/v1/ws?topic=orders.%3E`);
  await eventuallyIn(page, isLive);
  const status = await page.evaluate(async () => (await fetch("/v1/topics/orders.1/events", { method: "POST", body: "1" })).status);
  assert.equal(status, 201);
  await eventuallyIn(page, () => globalThis.seen.frames.some(({ op }) => op === "event"));
});

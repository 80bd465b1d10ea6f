// A token in a cookie: what a browser does with it for the broker's own pages, and for others.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { curl, eventually, eventuallyIn, launchBrowser, openPage, publish, signedToken, startBroker, startOtherOrigin } from "./harness.mjs";

const options = { timeout: 180_000 };
const SECRET = "a secret of at least thirty-two bytes";
const KEY = "an-api-key-for-tests";
const WITH_KEY = ["-H", `Authorization: Bearer ${KEY}`];
let browser;
before(async () => { browser = await launchBrowser(); });
after(() => browser?.close());

const token = () => signedToken(SECRET, { subscribe: ["a.>"], publish: ["a.>"] });

/** A broker that takes tokens in cookies, and a page of `origin`, or its own, in a browser that has one. */
async function begin(t, origin, extra = {}) {
  const env = { FANFARE_AUTH_API_KEYS: KEY, FANFARE_AUTH_JWT_SECRET: SECRET, FANFARE_AUTH_COOKIE: "fanfare", ...extra };
  const broker = await startBroker(t, { env });
  const where = { domain: "127.0.0.1", path: "/", expires: -1 };
  const cookie = { name: "fanfare", value: token(), ...where, httpOnly: true, secure: false, sameSite: "Lax" };
  const storageState = { cookies: [cookie], origins: [] };
  const { page } = await openPage(t, browser, `${origin ?? broker.url}/docs`, { storageState });
  return { broker, page };
}

test("an EventSource with a cookie comes back by itself, and reads, publishes and sockets work", options, async (t) => {
  const { broker, page } = await begin(t);
  await page.evaluate(() => {
    globalThis.seen = [];
    const source = new EventSource("/v1/sse?topic=a.x");
    source.onmessage = ({ data }) => seen.push(JSON.parse(data).data);
    source.addEventListener("fanfare.live", () => seen.push("live"));
  });
  await eventuallyIn(page, () => seen.includes("live"));
  const status = await page.evaluate(async () => (await fetch("/v1/topics/a.x/events", { method: "POST", headers: { "Content-Type": "application/json" }, body: "1" })).status);
  assert.equal(status, 201);
  await eventuallyIn(page, () => seen.includes(1));
  assert.equal(await page.evaluate(async () => (await fetch("/v1/topics/a.x/events")).status), 200);
  await page.evaluate(() => {
    new WebSocket(`ws://${location.host}/v1/ws?topic=a.x`).onmessage = ({ data }) => seen.push(JSON.parse(data).op);
  });
  await eventuallyIn(page, () => seen.includes("welcome"));
  const next = await broker.restart();
  await publish(next.url, "a.x", 2, ...WITH_KEY);
  await eventuallyIn(page, () => seen.includes(2));
});

/** Tries all that a page may send without asking, with the cookie that its browser adds. */
async function attack(page, url) {
  await page.evaluate((url) => {
    const form = document.createElement("form");
    Object.assign(form, { method: "POST", enctype: "text/plain", action: `${url}/v1/topics/a.x/events`, target: "sink" });
    const sink = Object.assign(document.createElement("iframe"), { name: "sink" });
    sink.onload = () => { globalThis.sent = (globalThis.sent ?? 0) + 1; };
    document.body.append(form, sink);
    form.submit();
    const post = fetch(`${url}/v1/topics/a.x/events`, { method: "POST", mode: "no-cors", credentials: "include", body: "1" });
    post.catch(() => {}).finally(() => { globalThis.posted = true; });
    const image = new Image();
    image.onerror = () => { globalThis.shown = true; };
    image.src = `${url}/v1/topics/a.x`;
    const socket = new WebSocket(`${url.replace("http", "ws")}/v1/ws?topic=a.x`);
    socket.onmessage = socket.onclose = ({ type }) => { globalThis.socket = type; };
  }, url);
  await eventuallyIn(page, () => globalThis.posted && globalThis.shown && globalThis.socket && globalThis.sent > 1);
}

// Cookies know no ports: to a browser both are one site, and the cookie goes along.

test("a page of the same host on another port gets nothing by the cookie that its browser sends", options, async (t) => {
  const { broker, page } = await begin(t, await startOtherOrigin(t));
  await attack(page, broker.url);
  assert.equal(await page.evaluate(() => globalThis.socket), "close");
  const topic = (await curl(...WITH_KEY, `${broker.url}/v1/topics/a.x`)).body;
  assert.deepEqual([topic.retained, topic.subscribers], [0, 0]);
});

test("a page of a listed origin gets what the cookie grants", options, async (t) => {
  const origin = await startOtherOrigin(t);
  const { broker, page } = await begin(t, origin, { FANFARE_SERVER_ALLOWED_ORIGINS: origin });
  await attack(page, broker.url);
  assert.equal(await page.evaluate(() => globalThis.socket), "message");
  // A socket is greeted before it is subscribed.
  await eventually(async () => {
    const { retained, subscribers } = (await curl(...WITH_KEY, `${broker.url}/v1/topics/a.x`)).body;
    return retained === 2 && subscribers === 1;
  }, "both events are kept, and the socket is subscribed");
});

// The host dashboard of the examples, from the machine's counters to the pixels.

import assert from "node:assert/strict";
import { hostname } from "node:os";
import { after, before, test } from "node:test";
import { eventually, eventuallyIn, freePort, launchBrowser, openPage, startBroker, startHostDashboard, startProxy } from "./harness.mjs";

const options = { timeout: 180_000 };
const KINDS = ["cpu", "memory", "network", "disk"];
const segment = hostname().replaceAll(/[^A-Za-z0-9_]/g, "-").slice(0, 100);
let browser;
before(async () => { browser = await launchBrowser(); });
after(() => browser?.close());

/** Both as the README starts them: while the broker is open, the page of this machine needs no listing. */
async function startBoth(t) {
  const broker = await startBroker(t);
  const dashboard = await startHostDashboard(t, broker.url);
  return { dashboard, broker };
}

const live = (page) => page.locator('#status[data-state="live"]').waitFor();

/** The number of points that each chart draws. */
const points = (page) => page.evaluate(() => Object.fromEntries(
  [...document.querySelectorAll("figure")].map((figure) => [figure.dataset.chart, Number(figure.dataset.points ?? 0)])));

/** How many pixels of each canvas are not blank, and a sum that changes with any of them. */
const pixels = (page) => page.evaluate(() => Object.fromEntries(
  [...document.querySelectorAll("figure")].map((figure) => {
    const canvas = figure.querySelector("canvas");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let inked = 0, sum = 0;
    for (let at = 3; at < data.length; at += 4) {
      if (data[at]) inked += 1;
      sum = (sum * 31 + data[at] + data[at - 1] + data[at - 2] + data[at - 3]) | 0;
    }
    return [figure.dataset.chart, { inked, sum }];
  })));

/** The numbers of the samples of one topic that the broker keeps, in its order. */
async function keptSamples(broker, kind) {
  const response = await fetch(`${broker.url}/v1/topics/host.${segment}.${kind}/events?limit=100`);
  const { events } = await response.json();
  return events.map(({ data }) => data.sample);
}

/** Asserts that these are the numbers from the first to the last, in order. */
function assertWithoutHole(numbers, what) {
  assert.deepEqual(numbers, numbers.map((_, at) => numbers[0] + at), what);
}

/** How many samples between the first and the last of the processor's chart the page never saw. */
const missingOnPage = (page) => page.evaluate(() => {
  const { first, last, points } = document.querySelector('figure[data-chart="cpu"]').dataset;
  return Number(last) - Number(first) + 1 - Number(points);
});

test("the host dashboard draws this machine and moves", options, async (t) => {
  const { dashboard } = await startBoth(t);
  const { page, complaints } = await openPage(t, browser, dashboard.url);
  await live(page);
  await eventually(async () => Object.values(await points(page)).filter((count) => count >= 3).length === KINDS.length, "three points in each chart");
  assert.equal(await page.locator("section.host").getAttribute("data-host"), segment);
  for (const figure of await page.locator(".large [data-figure]").allInnerTexts()) assert.match(figure, /^\d[\d.]*\s?(%|[kMGTP]?B\/s)$/);

  const before = await pixels(page);
  for (const kind of KINDS) assert.ok(before[kind].inked > 500, `${kind}: ${before[kind].inked} pixels drawn`);
  const latest = await page.locator('figure[data-chart="cpu"]').getAttribute("data-latest");
  await eventuallyIn(page, (latest) => document.querySelector('figure[data-chart="cpu"]').dataset.latest > latest, latest);
  // Each has samples of its own, which do not come with those of the others.
  for (const kind of KINDS) await eventually(async () => (await pixels(page))[kind].sum !== before[kind].sum, `${kind} moves`);
  assert.deepEqual(await complaints(), []);
});

test("no sample is lost while the way to the broker is cut, and the page goes on where it was", options, async (t) => {
  const brokerPort = await freePort();
  const proxy = await startProxy(t, brokerPort);
  const dashboard = await startHostDashboard(t, proxy.url);
  const broker = await startBroker(t, { port: brokerPort, env: { FANFARE_SERVER_ALLOWED_ORIGINS: dashboard.url } });
  const { page } = await openPage(t, browser, dashboard.url);
  await live(page);
  await eventually(async () => (await points(page)).cpu >= 2, "two points");

  await proxy.cut();
  await page.locator('#status[data-state="waiting"]').waitFor();
  const cutAt = (await keptSamples(broker, "cpu")).at(-1);
  await eventually(() => dashboard.printed().split("no broker answers at").length > 1, "it says that the broker is away");
  await proxy.mend();
  await live(page);
  await eventually(async () => (await keptSamples(broker, "cpu")).at(-1) >= cutAt + 4, "samples of the outage and after it");

  for (const kind of KINDS) {
    const kept = await keptSamples(broker, kind);
    assert.equal(kept[0], 1);
    assertWithoutHole(kept, kind);
  }
  await eventuallyIn(page, (least) => Number(document.querySelector('figure[data-chart="cpu"]').dataset.last) >= least, cutAt + 4);
  assert.equal(await missingOnPage(page), 0);
  assert.equal(await page.locator("#gaps li").count(), 0);
});

test("kill -9 of the broker leaves no hole: samples of before, of the outage and of after it are drawn", options, async (t) => {
  const { dashboard, broker } = await startBoth(t);
  const { page } = await openPage(t, browser, dashboard.url);
  await live(page);
  await eventually(async () => (await points(page)).cpu >= 2, "two points");
  await broker.stop("SIGKILL");
  const stoppedAt = await page.locator('figure[data-chart="cpu"]').getAttribute("data-last").then(Number);
  await eventually(() => /no broker answers at/.test(dashboard.printed()), "it says that the broker is away");
  const next = await broker.restart();
  await eventually(() => /publishing again/.test(dashboard.printed()), "it publishes again");
  await live(page);
  await eventually(async () => (await keptSamples(next, "cpu")).at(-1) >= stoppedAt + 4, "samples of the outage and after it");
  for (const kind of KINDS) {
    const kept = await keptSamples(next, kind);
    assert.ok(kept[0] < stoppedAt, `${kind}: ${kept}, and ${stoppedAt} was the last before`);
    assertWithoutHole(kept, kind);
  }
  await eventuallyIn(page, (least) => Number(document.querySelector('figure[data-chart="cpu"]').dataset.last) >= least, stoppedAt + 4);
  assert.equal(await missingOnPage(page), 0);
  assert.equal(await page.locator("#gaps li").count(), 0);
});

test("a page that is opened anew shows the minutes before it", options, async (t) => {
  const { dashboard, broker } = await startBoth(t);
  await eventually(async () => (await keptSamples(broker, "cpu")).length >= 5, "five samples");
  const { page, complaints } = await openPage(t, browser, dashboard.url);
  // From the first on, where a page that only went on from the newest would begin later.
  await eventuallyIn(page, (kinds) => kinds.every((kind) => document.querySelector(`figure[data-chart="${kind}"]`)?.dataset.first === "1"), KINDS);
  assert.equal(await missingOnPage(page), 0);
  assert.deepEqual(await complaints(), []);
});

test("a gap is marked where the broker's log was lost", options, async (t) => {
  const { dashboard, broker } = await startBoth(t);
  const { page } = await openPage(t, browser, dashboard.url);
  await live(page);
  await eventually(async () => (await points(page)).cpu >= 2, "two points");
  await broker.stop("SIGKILL");
  await startBroker(t, { port: broker.port }); // other data
  await page.locator("#gaps li").first().waitFor();
  await live(page);
  await eventuallyIn(page, () => document.querySelector('figure[data-chart="cpu"]').dataset.gaps === "1");
});

test("a page whose origin is not listed says what to do", options, async (t) => {
  // With a key, for while the broker is open pages of this machine need no listing.
  const key = "a-key-for-this-test-and-no-other-0123456789";
  const broker = await startBroker(t, { env: { FANFARE_AUTH_API_KEYS: key } });
  const dashboard = await startHostDashboard(t, broker.url, { args: ["--page-token", key], env: { FANFARE_API_KEY: key } });
  const { page } = await openPage(t, browser, dashboard.url);
  await page.locator("#notice", { hasText: `does not let pages of ${dashboard.url} in: list it in server.allowed_origins` }).waitFor();
});

test("a dashboard without the key that the broker wants says so", options, async (t) => {
  const key = "a-key-for-this-test-and-no-other-0123456789";
  const broker = await startBroker(t, { env: { FANFARE_AUTH_API_KEYS: key } });
  const without = await startHostDashboard(t, broker.url);
  await eventually(() => /401 .*--key or FANFARE_API_KEY/.test(without.printed()), "a hint at the key");
  const topic = "with-key";
  await startHostDashboard(t, broker.url, { args: ["--name", topic], env: { FANFARE_API_KEY: key } });
  await eventually(async () => {
    const response = await fetch(`${broker.url}/v1/topics/host.${topic}.cpu/events`, { headers: { Authorization: `Bearer ${key}` } });
    return (await response.json()).events?.length >= 1;
  }, "a sample published with the key");
});

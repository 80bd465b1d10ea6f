// The host dashboard of the examples, from the machine's counters to the pixels.

import assert from "node:assert/strict";
import { hostname } from "node:os";
import { after, before, test } from "node:test";
import { eventually, eventuallyIn, freePort, launchBrowser, openPage, startBroker, startHostDashboard } from "./harness.mjs";

const options = { timeout: 90_000 };
const KINDS = ["cpu", "memory", "network", "disk"];
const segment = hostname().replaceAll(/[^A-Za-z0-9_]/g, "-").slice(0, 100);
let browser;
before(async () => { browser = await launchBrowser(); });
after(() => browser?.close());

/** The dashboard first, for the broker must be told the origin of its page; it waits for the broker. */
async function startBoth(t) {
  const port = await freePort();
  const dashboard = await startHostDashboard(t, `http://127.0.0.1:${port}`);
  const broker = await startBroker(t, { port, env: { FANFARE_SERVER_ALLOWED_ORIGINS: dashboard.url } });
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

const isWithoutHole = (numbers) => numbers.every((number, at) => number === at + 1);

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
  const later = await pixels(page);
  for (const kind of KINDS) assert.notEqual(later[kind].sum, before[kind].sum, `${kind} stands still`);
  assert.deepEqual(await complaints(), []);
});

test("no sample is lost while the broker is away, and the page goes on where it was", options, async (t) => {
  const { dashboard, broker } = await startBoth(t);
  const { page } = await openPage(t, browser, dashboard.url);
  await live(page);
  await eventually(async () => (await keptSamples(broker, "cpu")).length >= 2, "two samples kept");

  await broker.stop("SIGKILL");
  await page.locator('#status[data-state="waiting"]').waitFor();
  await eventually(() => /no broker answers at/.test(dashboard.printed()), "the dashboard says that the broker is away");
  const beforeOutage = (await points(page)).cpu;
  const next = await broker.restart();
  await live(page);
  await eventually(() => /publishing again/.test(dashboard.printed()), "the dashboard publishes again");

  const known = await eventually(async () => {
    const kept = await keptSamples(next, "cpu");
    return kept.length >= beforeOutage + 4 && kept;
  }, "samples of the outage and after it");
  for (const kind of KINDS) assert.ok(isWithoutHole(await keptSamples(next, kind)), `${kind}: ${await keptSamples(next, kind)}`);
  // The page has all of them from the first it saw, and was told of no gap.
  await eventually(async () => (await points(page)).cpu >= known.length - 1, "the page draws them all");
  assert.equal(await page.locator("#gaps li").count(), 0);
});

test("a gap is marked where the broker's log was lost", options, async (t) => {
  const { dashboard, broker } = await startBoth(t);
  const { page } = await openPage(t, browser, dashboard.url);
  await live(page);
  await eventually(async () => (await points(page)).cpu >= 2, "two points");
  await broker.stop("SIGKILL");
  await startBroker(t, { port: broker.port, env: { FANFARE_SERVER_ALLOWED_ORIGINS: dashboard.url } }); // other data
  await page.locator("#gaps li").first().waitFor();
  await live(page);
  assert.equal(await page.locator('figure[data-chart="cpu"]').getAttribute("data-gaps"), "1");
});

test("a page whose origin is not listed says what to do", options, async (t) => {
  const broker = await startBroker(t);
  const dashboard = await startHostDashboard(t, broker.url);
  const { page } = await openPage(t, browser, dashboard.url);
  await page.locator("#notice", { hasText: `allowed_origins list ${dashboard.url}` }).waitFor();
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

// The pages of the broker under a prefix of a proxy: `/fanfare/` there is `/` here.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launchBrowser, openPage, publish, startBroker, startHostDashboard, startPrefixProxy } from "./harness.mjs";

const options = { timeout: 180_000 };
let browser;
before(async () => { browser = await launchBrowser(); });
after(() => browser?.close());

test("under a prefix the console connects, subscribes and publishes", options, async (t) => {
  const broker = await startBroker(t);
  const proxy = await startPrefixProxy(t, broker.port, "/fanfare");
  const { page, complaints } = await openPage(t, browser, `${proxy}/fanfare/#/events`);
  await page.locator('#status[data-state="open"]').waitFor();
  await page.fill("#pattern", "orders.>");
  await page.press("#pattern", "Enter");
  await page.locator('[data-testid="chip"][data-pattern="orders.>"][data-state="live"]').waitFor();
  const { id } = await publish(`${proxy}/fanfare`, "orders.eu", 1);
  await page.locator(`[data-testid="event-row"][data-id="${id}"]`).waitFor();
  await page.fill("#publish-topic", "orders.us");
  await page.fill("#publish-data", "2");
  await page.locator("#publish-form button[type=submit]").click();
  await page.locator('[data-testid="event-row"][data-topic="orders.us"]').waitFor();
  for (const command of ["#curl-publish", "#curl-watch"]) {
    assert.match(await page.locator(command).textContent(), new RegExp(`${proxy}/fanfare/v1/`));
  }
  for (const link of await page.locator("footer a").all()) {
    const target = await link.evaluate((anchor) => anchor.href);
    assert.equal((await fetch(target)).status, 200, target);
  }
  assert.deepEqual(await complaints(), []);
});

test("under a prefix the API's description is shown, with lines for curl that work", options, async (t) => {
  const broker = await startBroker(t);
  const proxy = await startPrefixProxy(t, broker.port, "/a/b");
  const { page, complaints } = await openPage(t, browser, `${proxy}/a/b/docs`);
  const line = await page.locator("#listtopics pre").first().innerText();
  assert.match(line, new RegExp(`${proxy}/a/b/v1/topics`));
  const document = `${proxy}/a/b/openapi.json`;
  const { servers } = await (await fetch(document)).json();
  assert.equal(new URL(servers[0].url, document).href, `${proxy}/a/b/`);
  assert.deepEqual(await complaints(), []);
});

test("under a prefix the host dashboard shows its charts", options, async (t) => {
  const broker = await startBroker(t);
  const dashboard = await startHostDashboard(t, broker.url);
  const proxy = await startPrefixProxy(t, new URL(dashboard.url).port, "/dashboard");
  const { page } = await openPage(t, browser, `${proxy}/dashboard/`);
  await page.locator('#status[data-state="live"]').waitFor();
  await page.locator('figure[data-chart="cpu"][data-points]').waitFor();
});

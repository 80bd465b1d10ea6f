// State from SQLite and live events, without a seam: nothing that is committed is missed, doubled or undone on a page, whatever was killed meanwhile.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { eventually, launchBrowser, openPage, startExample } from "./harness.mjs";

const options = { timeout: 180_000 };
let browser;
before(async () => { browser = await launchBrowser(); });
after(() => browser?.close());

async function startOrders(t) {
  const directory = await mkdtemp(join(tmpdir(), "fanfare-orders-"));
  const orders = await startExample(t, "sqlite", { env: { DATABASE: join(directory, "orders.db") } });
  t.after(() => rm(directory, { recursive: true, force: true }));
  return orders;
}

/** Says what an order is to be until that is answered, as the page does. */
async function put({ url }, id, order) {
  for (;;) {
    const answer = await fetch(`${url}orders/${id}`, { method: "PUT", body: JSON.stringify(order) }).catch(() => null);
    if (answer?.ok) return;
    if (answer && answer.status < 500) throw new Error(await answer.text());
    await new Promise((next) => setTimeout(next, 50));
  }
}

const read = ({ url }) => fetch(`${url}orders`).then((answer) => answer.json()).catch(() => null);

const shown = (page) => page.evaluate(() => [...document.querySelectorAll("tbody tr")].map((row) =>
  [row.dataset.id, row.cells[0].textContent, Number(row.cells[1].textContent), row.querySelector("input").checked].join(" ")).sort());

const isStanding = (page) => page.locator("#standing[data-standing=live]").waitFor();

/** All that the database has, each once, is what a page shows. */
async function showsAll(page, orders) {
  const { orders: all } = await eventually(() => read(orders), "the server answers");
  const expected = all.map(({ id, item, quantity, shipped }) => [id, item, quantity, Boolean(shipped)].join(" ")).sort();
  await eventually(async () => (await shown(page)).length >= expected.length, `${expected.length} rows`);
  await eventually(async () => JSON.stringify(await shown(page)) === JSON.stringify(expected), "what is committed is shown").catch(async () => assert.deepEqual(await shown(page), expected));
  return all;
}

/** Each version of each order was told once and in order, and no other. */
async function assertToldOnce({ broker }, all) {
  const versions = new Map();
  const page = async (since) => (await fetch(`${broker}/v1/events?match=orders.*&limit=1000&since=${since}`)).json();
  for (let { events, next } = await page("-1h"); events.length; { events, next } = await page(next)) {
    for (const { data: { id, version } } of events) versions.set(id, [...versions.get(id) ?? [], version]);
  }
  assert.deepEqual(Object.fromEntries(versions), Object.fromEntries(all.map(({ id, version }) => [id, Array.from({ length: version }, (_, at) => at + 1)])));
}

/** Orders that are written without a pause, and shipped soon after, until `stop()`, which waits for the last one. */
function write(orders) {
  let isOver = false, count = 0;
  const writers = Array.from({ length: 3 }, async () => {
    while (!isOver) {
      const id = randomUUID(), order = { item: `Item ${count++}`, quantity: 1 + count % 9, shipped: false };
      await put(orders, id, order);
      // A relay that lies far behind would tell late readers everything anyhow.
      await eventually(() => fetch(`${orders.broker}/v1/snapshot?match=orders.${id}`).then(async (answer) => (await answer.json()).events.length, () => 0), "it is told");
      if (count % 2) await put(orders, id, { ...order, shipped: true });
    }
  });
  return { stop: () => { isOver = true; return Promise.all(writers); }, count: () => count };
}

/** Has the page remember each time that a row was gone, or was shipped and then was not. */
const watchForUndone = (page) => page.evaluate(() => {
  globalThis.undone = [];
  const seen = new Map();
  const look = () => {
    const there = new Set();
    for (const row of document.querySelectorAll("tbody tr")) {
      const { id } = row.dataset;
      if (there.has(id)) globalThis.undone.push(`${id} is there twice`);
      there.add(id);
      if (seen.get(id) && !row.querySelector("input").checked) globalThis.undone.push(`${id} is not shipped any more`);
      seen.set(id, row.querySelector("input").checked);
    }
    for (const id of seen.keys()) if (!there.has(id)) globalThis.undone.push(`${id} is gone`);
  };
  new MutationObserver(look).observe(document.querySelector("tbody"), { childList: true, subtree: true, attributes: true, characterData: true });
  look();
});

test("what is ordered on one page is on the other, by keys alone and in a small window", options, async (t) => {
  const orders = await startOrders(t);
  const [one, other] = [await openPage(t, browser, orders.url, { viewport: { width: 360, height: 640 }, colorScheme: "dark" }), await openPage(t, browser, orders.url)];
  await isStanding(one.page);
  const { keyboard } = one.page;
  await keyboard.press("Tab");
  await keyboard.type("Hats");
  await keyboard.press("Tab");
  await keyboard.type("2");
  await keyboard.press("Enter");
  await other.page.getByRole("cell", { name: "Hats", exact: true }).waitFor();
  await other.page.getByRole("checkbox", { name: "2 × Hats: shipped" }).check();
  await one.page.locator("tr.shipped", { hasText: "Hats" }).waitFor();
  await one.page.locator("#sums", { hasText: "1 order, 0 open, 2 items" }).waitFor();
  await assertToldOnce(orders, await showsAll(one.page, orders));
  assert.equal(await one.page.evaluate(() => document.documentElement.scrollWidth), 360);
  for (const { complaints } of [one, other]) assert.deepEqual(await complaints(), []);
});

test("what is written while pages load is shown once, and nothing of it is undone", options, async (t) => {
  const orders = await startOrders(t);
  const writing = write(orders);
  const pages = [];
  // Each opens in the midst of it.
  for (let n = 0; n < 3; n++) {
    const { page } = await openPage(t, browser, orders.url);
    await watchForUndone(page);
    pages.push(page);
    const enough = writing.count() + 12;
    await eventually(() => writing.count() > enough, "more is written");
  }
  await pages[0].reload();
  await writing.stop();
  for (const page of pages) await showsAll(page, orders);
  await assertToldOnce(orders, await showsAll(pages[0], orders));
  for (const page of pages.slice(1)) assert.deepEqual(await page.evaluate(() => globalThis.undone), []);
});

test("kill -9 of the broker, the server and the relay in the middle of it loses nothing and doubles nothing", options, async (t) => {
  const orders = await startOrders(t);
  const pages = [(await openPage(t, browser, orders.url)).page, (await openPage(t, browser, orders.url)).page];
  await Promise.all(pages.map(isStanding));
  const writing = write(orders);
  for (const page of pages) await watchForUndone(page);
  const goesOn = async () => {
    const enough = writing.count() + 15;
    await eventually(() => writing.count() > enough, "more is written");
  };
  await goesOn();
  const { isBack } = await orders.kill("publisher");
  await goesOn();
  await orders.killBroker();
  await goesOn();
  await isBack();
  const both = await orders.kill("server");
  await orders.kill("publisher");
  await both.isBack();
  await goesOn();
  await writing.stop();
  const late = (await openPage(t, browser, orders.url)).page;
  for (const page of [...pages, late]) await showsAll(page, orders);
  await assertToldOnce(orders, await showsAll(late, orders));
  for (const page of pages) assert.deepEqual(await page.evaluate(() => globalThis.undone), []);
});

// The ticker of the examples, as its README says to run it.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { eventually, eventuallyIn, launchBrowser, onceIn, openPage, startExample } from "./harness.mjs";

const options = { timeout: 180_000 };

let browser;
before(async () => { browser = await launchBrowser(); });
after(() => browser.close());

async function open(t, example, settings) {
  const opened = await openPage(t, browser, "about:blank", settings);
  const { page } = opened;
  /** What comes: each live event as the broker says it. */
  const events = [];
  page.on("websocket", (socket) => socket.on("framereceived", ({ payload }) => {
    if (!payload.includes('"op":"event"')) return;
    const event = JSON.parse(payload);
    if (!event.snapshot) events.push(event);
  }));
  await page.goto(example.url);
  await eventuallyIn(page, () => document.body.dataset.state === "live");
  await eventuallyIn(page, () => document.getElementById("table").ariaRowCount === "1001");
  return { ...opened, events };
}

const skipped = (page) => page.$eval("#skipped", (node) => Number(node.textContent.replace(/\D/g, "")));

/** What the rows on the screen say: symbol → its cells. */
const rows = (page) => page.$$eval("#rows [role=row]:not([hidden])", (nodes) => Object.fromEntries(nodes.map((node) => [
  node.children[0].textContent, { price: Number(node.children[1].textContent.replaceAll(",", "")), index: Number(node.ariaRowIndex), top: node.getBoundingClientRect().top },
])));

test("a slow screen gets each symbol once a second, is told what was skipped, and another page gets all", options, async (t) => {
  const example = await startExample(t, "ticker");
  const [slow, fast] = [await open(t, example), await open(t, example)];
  await slow.page.check("#slow");
  await eventually(async () => await skipped(slow.page) > 50, "updates are skipped");
  // What came before the switch is not meant.
  slow.events.length = fast.events.length = 0;
  await eventually(() => slow.events.length > 300, "three hundred updates of the slow page");
  const byTopic = new Map();
  for (const event of slow.events) byTopic.set(event.topic, [...byTopic.get(event.topic) ?? [], event]);
  for (const [topic, events] of byTopic) {
    // By the broker's clock: here several may come at once where a page was late to read them.
    const seconds = (Date.parse(events.at(-1).time) - Date.parse(events[0].time)) / 1000;
    assert.ok(events.length <= seconds + 3, `${topic}: ${events.length} in ${seconds} s`);
  }
  assert.ok(fast.events.length > slow.events.length, `${fast.events.length} and ${slow.events.length}`);
  assert.ok(slow.events.every(({ conflated }) => conflated));

  await slow.page.uncheck("#slow");
  const before = await skipped(slow.page);
  assert.ok(before > 50);
  // Both show one market: of a symbol that rests they show the same price.
  await eventually(async () => {
    const [one, other] = [await rows(slow.page), await rows(fast.page)];
    return Object.keys(one).filter((symbol) => one[symbol].price === other[symbol]?.price).length > 5;
  }, "both pages show the same prices");
  assert.deepEqual(await slow.complaints(), []);
});

test("only rows that can be seen exist, prices flash up and down, and a frame's work is short", options, async (t) => {
  const example = await startExample(t, "ticker");
  const { page, complaints } = await open(t, example, { viewport: { width: 900, height: 700 } });
  assert.ok(await page.locator("#rows [role=row]").count() < 30, "far fewer than a thousand");
  for (const direction of ["up", "down"]) await eventuallyIn(page, (direction) => [...document.querySelectorAll(`[data-moved=${direction}]`)].some((cell) => cell.getAnimations().length), direction);

  // What is scrolled to is what it says, in its place, and goes on being painted.
  await page.$eval("#scroll", (node) => { node.scrollTop = node.scrollHeight; });
  await eventuallyIn(page, () => [...document.querySelectorAll("#rows [role=row]")].some((row) => row.ariaRowIndex === "1001"));
  const last = Object.entries(await rows(page)).sort(([, a], [, b]) => a.index - b.index);
  assert.deepEqual(last.map(([symbol]) => symbol), last.map(([symbol]) => symbol).toSorted());
  assert.deepEqual(last.map(([, { index }]) => index), Array.from(last, (_, n) => 1001 - last.length + 1 + n));
  for (let n = 1; n < last.length; n++) assert.ok(last[n][1].top > last[n - 1][1].top);

  await page.fill("#find", "bab");
  await eventually(async () => `${Object.keys(await rows(page))}` === "BAB", "the one that is looked for");
  await page.fill("#find", "");
  await page.$eval("#scroll", (node) => { node.scrollTop = 0; });

  // 60 frames a second leave 16 ms for each; the page's own part is measured, for the machine may be busy otherwise.
  const work = await page.evaluate(() => new Promise((done) => {
    const durations = [];
    const ask = globalThis.requestAnimationFrame;
    globalThis.requestAnimationFrame = (deed) => ask((now) => {
      const began = performance.now();
      deed(now);
      durations.push(performance.now() - began);
      if (durations.length === 120) done(durations.sort((a, b) => a - b)[60]);
    });
  }));
  assert.ok(work < 8, `${work} ms`);
  assert.deepEqual(await complaints(), []);
});

test("prices go on behind a crash of the broker, and a page says while they are old", options, async (t) => {
  const example = await startExample(t, "ticker");
  const pages = [await open(t, example), await open(t, example)];
  const areOffline = Promise.all(pages.map(({ page }) => onceIn(page, () => /^Offline/.test(document.getElementById("state").textContent))));
  await example.killBroker();
  await areOffline;
  for (const { page, events } of pages) {
    await eventuallyIn(page, () => document.body.dataset.state === "live");
    events.length = 0;
    await eventually(() => events.length > 20, "prices come again");
  }
});

// The console, left open: FANFARE_SOAK_MINUTES=60 for the long form, which is an hour of what an operator may do; the short one is as many screens as fit a test.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { eventually, eventuallyIn, launchBrowser, openPage, publish, startBroker, startProxy } from "./harness.mjs";

const MINUTES = Number(process.env.FANFARE_SOAK_MINUTES ?? 0);
/** Of the short form: rounds over all screens before what is there is taken as what there is to be, and after it. */
const WARM_ROUNDS = 4, ROUNDS = 12;
/** Of the long form: by then the 15 minutes of past are full, which are the one thing that is meant to grow; and how long one looks at what a round came to. */
const WARM_MINUTES = 17, PAUSE_MS = 8_000;
/** What the heap may have grown by: what is compiled and collected now and then, and of the short form the seconds that are told meanwhile. */
const NOISE_BYTES = 300_000, BYTES_A_SECOND = 6_000;
const WIDTHS = [320, 700, 1280, 2560];
const TOPICS = 60;

let browser;
before(async () => { browser = await launchBrowser(); });
after(() => browser?.close());

/** Counts what the page holds on to beside nodes and listeners: timers that go on, observers of sizes and what they watch. */
function countWhatIsHeld() {
  const timers = new Set(), observers = new Map();
  globalThis.held = { timers, observers };
  const { setInterval: begin, clearInterval: end } = globalThis;
  globalThis.setInterval = (...given) => { const timer = begin(...given); timers.add(timer); return timer; };
  globalThis.clearInterval = (timer) => { timers.delete(timer); end(timer); };
  globalThis.ResizeObserver = class extends ResizeObserver {
    observe(node, ...rest) { observers.set(this, (observers.get(this) ?? new Set()).add(node)); super.observe(node, ...rest); }
    unobserve(node) { observers.get(this)?.delete(node); super.unobserve(node); }
    disconnect() { observers.delete(this); super.disconnect(); }
  };
}

/** What the page holds once what nobody holds is gone. */
async function measure(protocol, page) {
  // What was let go of in a round of collecting may hold what goes in the next.
  for (let n = 0; n < 3; n++) await protocol.send("HeapProfiler.collectGarbage");
  const read = () => page.evaluate(() => {
    let attached = 1;
    for (const all = document.createTreeWalker(document); all.nextNode();) attached += 1;
    const watched = [...held.observers.values()].reduce((sum, nodes) => sum + nodes.size, 0);
    return { attached, timers: held.timers.size, observed: watched };
  });
  // All of one moment: what is attached is the same before and after all else is asked for.
  return eventually(async () => {
    const { attached } = await read();
    const { metrics } = await protocol.send("Performance.getMetrics");
    const own = await read();
    if (own.attached !== attached) return false;
    const of = (name) => metrics.find((each) => each.name === name).value;
    return { heap: of("JSHeapUsedSize"), detached: of("Nodes") - own.attached, listeners: of("JSEventListeners"), ...own };
  }, "the page stands still for a moment");
}

test(`R51: a console that stays open for ${MINUTES ? `${MINUTES} minutes` : "many screens"} keeps no memory, no node, no listener and no timer of what was closed`, { timeout: (MINUTES + 10) * 60_000 }, async (t) => {
  const broker = await startBroker(t, { config: '[notices]\nsessions = true\n\n[[topics]]\nmatch = "orders.>"\npresence = true\n' });
  for (let n = 0; n < TOPICS; n++) await publish(broker.url, `orders.eu.${n}`, { n, note: "x".repeat(300) });
  const proxy = await startProxy(t, broker.port);
  const { page, complaints } = await openPage(t, browser, "about:blank");
  await page.addInitScript(countWhatIsHeld);
  await page.goto(proxy.url);
  await page.locator("section.verdict.good").waitFor();
  const protocol = await page.context().newCDPSession(page);
  await protocol.send("Performance.enable");

  const goTo = async (screen) => {
    await page.evaluate((hash) => { location.hash = hash; }, `#/${screen}`);
    await eventuallyIn(page, (name) => document.querySelector(".screens [aria-current]")?.hash === `#/${name}` && document.querySelector("#screen h1") && !document.querySelector("[aria-busy=true]"), screen.split("/")[0]);
  };
  const click = (name) => page.getByRole("button", { name, exact: true }).first().click();
  const publishAll = () => fetch(`${broker.url}/v1/events`, {
    method: "POST", headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ events: Array.from({ length: TOPICS }, (_, n) => ({ topic: `orders.eu.${n}`, data: { n, note: "y".repeat(300) } })) }),
  });

  /** What is done on each screen, such that all that it makes is made; it ends where it begun. */
  const SCREENS = {
    async topics() {
      await click("What is below orders");
      await click("What is below orders.eu");
      await page.locator(".segment", { hasText: "59" }).waitFor();
      await page.fill("#find", "orders.*.5");
      await page.locator("caption", { hasText: "1 topic" }).waitFor();
    },
    async "topics/orders.eu.1"() {
      await page.locator("[aria-labelledby=latest] .value-box").waitFor();
      await page.locator("[aria-labelledby=history] [data-testid=event-row]").first().waitFor();
      await click("As it came");
      await page.locator("[data-testid=event-row] .time button").first().click();
    },
    async sessions() {
      await page.locator("tr[data-session] button").first().click();
      await page.locator(".detail").waitFor();
    },
    async nodes() { await page.locator(".tile svg").first().hover(); },
    async events() {
      await page.fill("#pattern", "orders.>");
      await page.press("#pattern", "Enter");
      await page.locator("[data-testid=chip][data-state=live]").waitFor();
      await publishAll();
      await eventually(async () => await page.getByTestId("event-row").count() >= TOPICS, "all events are shown");
      await page.fill("#filter", "topic:orders.eu.1");
      await page.locator("[data-testid=event-row]:visible summary").first().click();
      await page.getByRole("button", { name: "Unsubscribe from orders.>" }).click();
    },
    async webhooks() {},
    async token() {},
    async settings() { await page.fill("#setting", "replays"); },
    async overview() {
      await click("Show as a table");
      for (let tile = 0; tile < 6; tile++) await page.locator(".tile svg").nth(tile).hover();
      await click("Hide the table");
    },
  };

  let rounds = 0;
  const round = async () => {
    rounds += 1;
    for (const [screen, use] of Object.entries(SCREENS)) {
      await page.setViewportSize({ width: WIDTHS[rounds % WIDTHS.length], height: 900 });
      await goTo(screen);
      await use();
    }
    for (let theme = 0; theme < 3; theme++) await page.click("#theme");
    await page.click("#help");
    await page.keyboard.press("Escape");
    if (rounds % 3 === 0) {
      await proxy.cut();
      await page.locator('#status[data-state="waiting"]').waitFor();
      await proxy.mend();
      await page.locator('#status[data-state="open"]').waitFor();
    }
    // What is pointed at is drawn too.
    await page.mouse.move(0, 0);
    await eventuallyIn(page, () => !document.querySelector(".tile .said") && !document.querySelector("[aria-busy=true]"));
  };

  const begun = performance.now();
  const minutes = () => (performance.now() - begun) / 60_000;
  const seen = [];
  const look = async () => {
    const one = { minutes: minutes(), ...await measure(protocol, page) };
    seen.push(one);
    t.diagnostic(`round ${rounds}, ${one.minutes.toFixed(1)} min: heap ${(one.heap / 1e6).toFixed(2)} MB, ${one.detached} nodes detached, ${one.attached} attached, ${one.listeners} listeners, ${one.timers} timers, ${one.observed} observed`);
  };
  while (MINUTES ? minutes() < WARM_MINUTES : rounds < WARM_ROUNDS) {
    await round();
    if (MINUTES) await page.waitForTimeout(PAUSE_MS);
  }
  // Of a few looks the least: between two of them a reading or a line may be under way.
  const least = async () => {
    const from = seen.length;
    for (let n = 0; n < 3; n++) { await round(); await look(); }
    const of = (name) => Math.min(...seen.slice(from).map((each) => each[name]));
    return { minutes: minutes(), heap: of("heap"), detached: of("detached"), listeners: of("listeners"), timers: of("timers"), observed: of("observed"), attached: of("attached") };
  };
  const first = await least();
  const before = rounds;
  while (MINUTES ? minutes() < MINUTES : rounds < before + ROUNDS) {
    await round();
    if (rounds % 10 === 0) await look();
    if (MINUTES) await page.waitForTimeout(PAUSE_MS);
  }
  const last = await least();
  const changes = (rounds - before) * Object.keys(SCREENS).length;
  t.diagnostic(`${changes} screens later: heap ${last.heap - first.heap} bytes more, ${last.detached - first.detached} detached nodes, ${last.listeners - first.listeners} listeners, ${last.timers - first.timers} timers`);
  const told = MINUTES ? 0 : (last.minutes - first.minutes) * 60 * BYTES_A_SECOND;
  assert.ok(last.heap - first.heap < NOISE_BYTES + told, `the heap is ${last.heap - first.heap} bytes more`);
  for (const name of ["detached", "listeners", "timers", "observed"]) assert.ok(last[name] <= first[name], `${last[name]} ${name}, and ${first[name]} before`);
  assert.equal(last.observed, 0);
  assert.deepEqual((await complaints()).filter((line) => !/ERR_|WebSocket/.test(line)), []);
});

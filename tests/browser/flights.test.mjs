// The Python feed of the examples on a React page: what the broker keeps is what each page shows, whatever was killed meanwhile.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { isDeepStrictEqual } from "node:util";
import { eventually, launchBrowser, onceIn, openPage, startExample } from "./harness.mjs";

const options = { timeout: 180_000 };
let browser;
before(async () => { browser = await launchBrowser(); });
after(() => browser?.close());

const time = (page) => page.locator("header time").textContent();
const hasFlights = (page) => page.locator("tr[data-flight]").first().waitFor();
const isLive = (page) => page.locator("footer[data-state=live]").waitFor();
const comesLater = (page, than) => eventually(async () => (await time(page)) > than, `it is later than ${than}`);

/** What a page shows of one moment. */
const shown = (page) => page.evaluate(() => document.querySelector("main").ariaBusy === "false" && ({
  time: document.querySelector("header time").textContent,
  departed: Number(document.querySelector("dd").textContent),
  rows: [...document.querySelectorAll("tr[data-flight]")].map((row) => {
    const [planned, flight, to] = [...row.cells].map((cell) => cell.textContent);
    return [planned, flight, to.slice(0, 3), row.parentElement.className].join(" ");
  }).sort(),
}));

/** What the broker keeps, in three answers: of one moment where the next time they say the same, for a minute is stored whole. */
async function kept(broker, airport) {
  const [{ events }, { events: [clock] }, { events: [board] }] = await Promise.all([`flights.${airport}.*`, "clock", `boards.${airport}`].map(async (match) =>
    (await fetch(`${broker}/v1/snapshot?limit=1000&match=${match}`)).json()));
  return {
    time: clock?.data.time.slice(11),
    departed: board?.data.departed,
    rows: events.map(({ topic, data }) => [data.planned, topic.split(".")[2], data.to, data.status].join(" ")).sort(),
  };
}

/** Until a page and the broker show the same minute, which lasts a second; then the rest has to be the same. */
async function showsWhatIsKept(page, { broker }, airport) {
  await eventually(async () => {
    const [before, there, after] = [await kept(broker, airport), await shown(page), await kept(broker, airport)];
    if (!there || !isDeepStrictEqual(before, after) || before.time !== there.time) return false;
    assert.deepEqual(there, after);
    return true;
  }, "the page shows the broker's minute");
}

test("two pages show the flights of their airports, minute by minute", options, async (t) => {
  const feed = await startExample(t, "python-feed");
  const [one, other] = [await openPage(t, browser, feed.url), await openPage(t, browser, feed.url, { viewport: { width: 360, height: 640 }, colorScheme: "dark" })];
  await Promise.all([one, other].map(({ page }) => hasFlights(page)));
  await other.page.keyboard.press("Tab");
  await other.page.keyboard.press("ArrowRight");
  assert.equal(await other.page.evaluate(() => document.activeElement.closest("label").textContent), "LGA La Guardia");
  await showsWhatIsKept(one.page, feed, "JFK");
  await showsWhatIsKept(other.page, feed, "LGA");
  await comesLater(one.page, await time(one.page));
  await one.page.locator(".departed progress").first().waitFor();
  await showsWhatIsKept(one.page, feed, "JFK");
  assert.equal(await other.page.evaluate(() => document.documentElement.scrollWidth), 360);
  for (const { complaints } of [one, other]) assert.deepEqual(await complaints(), []);
});

test("over kills of the broker and of the feed both pages go on, and are right", options, async (t) => {
  const feed = await startExample(t, "python-feed");
  const pages = [(await openPage(t, browser, feed.url)).page, (await openPage(t, browser, feed.url)).page];
  await Promise.all(pages.map(hasFlights));
  const isStale = onceIn(pages[0], () => document.querySelector("main.stale"));
  await feed.killBroker();
  await isStale;
  await Promise.all(pages.map(isLive));
  await (await feed.kill("publisher")).isBack();
  const before = await time(pages[0]);
  for (const page of pages) await comesLater(page, before);
  for (const page of pages) await showsWhatIsKept(page, feed, "JFK");
});

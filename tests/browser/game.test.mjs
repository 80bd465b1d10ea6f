// The game of the examples: moves that a server process judges, seats that are free when their tab goes.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { eventually, launchBrowser, openPage, startExample } from "./harness.mjs";

const options = { timeout: 180_000 };
let browser;
before(async () => { browser = await launchBrowser(); });
after(() => browser?.close());

const who = (page, seat) => page.locator(`[data-seat=${seat}] .who`);
const isIn = (page, seat, name) => eventually(async () => (await who(page, seat).textContent()) === name, `${name} in ${seat}`);
const says = (page, text) => page.locator("#said", { hasText: text }).waitFor();
const isRefused = (page, text) => page.locator("#refusal:not([hidden])", { hasText: text }).waitFor();
const discs = (page) => page.locator(".hole.red, .hole.yellow").count();
const hasDiscs = (count, ...pages) => Promise.all(pages.map((page) => eventually(async () => (await discs(page)) === count, `${count} discs`)));

/** A page of somebody who is named so, and sits where it is said. */
async function guest(t, { url }, name, seat) {
  const opened = await openPage(t, browser, url);
  const { page } = opened;
  await eventually(() => page.locator("#name").inputValue(), "the page has given a name");
  await page.locator("#name").fill(name);
  await page.locator("#name").blur();
  if (seat) {
    await page.locator(`[data-seat=${seat}] button`).click();
    await isIn(page, seat, name);
  }
  return opened;
}

/** Drops discs by turns, each once it is their turn. */
async function play(pages, ...columns) {
  let at = 0;
  for (const column of columns) {
    const page = pages[at++ % 2];
    const before = await discs(page);
    await says(page, "It is your turn.");
    await page.locator("#board button").nth(column - 1).click();
    await hasDiscs(before + 1, ...pages);
  }
}

test("a game is played on two pages while a third one watches, and what is against the rules is refused to who asked", options, async (t) => {
  const game = await startExample(t, "game");
  const [ada, bob, eve] = [await guest(t, game, "Ada", "red"), await guest(t, game, "Bob", "yellow"), await guest(t, game, "Eve")];
  await isIn(eve.page, "red", "Ada");
  await isIn(eve.page, "yellow", "Bob");
  assert.equal(await eve.page.locator(".seat button:visible").count(), 0, "both seats are taken");
  await eve.page.locator("#watching", { hasText: "3 are here." }).waitFor();
  await eve.page.locator("#board button").first().click();
  await isRefused(eve.page, "You have no seat");
  await bob.page.locator("#board button").first().click();
  await isRefused(bob.page, "It is not your turn.");
  assert.ok(await ada.page.locator("#refusal").isHidden(), "nobody else is told");

  await play([ada.page, bob.page], 4, 5, 4, 5, 4, 5, 4);
  await says(ada.page, "You have four in a row!");
  await says(bob.page, "Ada has four in a row!");
  await says(eve.page, "Ada has four in a row!");
  await hasDiscs(7, eve.page);
  assert.equal(await eve.page.locator(".hole.line").count(), 4);
  await bob.page.locator("#board button").first().click();
  await isRefused(bob.page, "This game is over.");
  await bob.page.locator("#again").click();
  await hasDiscs(0, ada.page, bob.page, eve.page);
  await says(bob.page, "It is your turn.");
  for (const { complaints } of [ada, bob, eve]) assert.deepEqual(await complaints(), []);
});

test("who writes to the broker past the page gets no further than the rules", options, async (t) => {
  const game = await startExample(t, "game");
  const [ada, eve] = [await guest(t, game, "Ada", "red"), await guest(t, game, "Eve")];
  const codes = await eve.page.evaluate(async () => {
    const { Fanfare } = await import("fanfare");
    const identify = async () => (await fetch("token", { method: "POST", body: JSON.stringify({ secret: sessionStorage.secret }) })).json();
    const { guest } = await identify();
    const fanfare = new Fanfare({ token: async () => (await identify()).token });
    const codeOf = (promise) => promise.then(({ id }) => Boolean(id), ({ code }) => code);
    const heard = (topic) => new Promise((done) => fanfare.subscribe(topic, { snapshot: true, onLive: () => done("live"), onError: ({ code }) => done(code) }, () => {}));
    const codes = {
      board: await codeOf(fanfare.publish("four.board", { columns: [] })),
      seat: await codeOf(fanfare.publish("four.seats.somebody", { seat: "yellow", name: "Eve" })),
      seats: await heard("four.seats.*"),
      told: await heard("four.told.somebody"),
      // What makes no sense is for the referee to refuse, and not to stumble over.
      nonsense: await Promise.all([null, true, 3, "3", [], { column: 7 }, { column: -1 }, { column: true }, { column: 1.5 }, { column: 1e300 }, { again: 1 }].map((move) => codeOf(fanfare.publish(`four.moves.${guest}`, move)))),
      oddSeat: await codeOf(fanfare.publish(`four.seats.${guest}`, { seat: "green", name: 5 })),
      taken: await codeOf(fanfare.publish(`four.seats.${guest}`, { seat: "red", name: "Eve" })),
    };
    fanfare.close();
    return codes;
  });
  assert.deepEqual({ ...codes, nonsense: new Set(codes.nonsense) }, { board: "forbidden", seat: "forbidden", seats: "forbidden", told: "forbidden", nonsense: new Set([true]), oddSeat: true, taken: true });
  await isRefused(eve.page, "Ada was faster and sits there already.");
  await ada.page.locator("#board button").first().click();
  await hasDiscs(1, ada.page, eve.page);
});

test("a seat is free when its tab goes, and a reload keeps it", options, async (t) => {
  const game = await startExample(t, "game");
  const [ada, bob] = [await guest(t, game, "Ada", "red"), await guest(t, game, "Bob", "yellow")];
  await play([ada.page, bob.page], 4, 4);
  await ada.page.reload();
  await isIn(ada.page, "red", "Ada");
  await hasDiscs(2, ada.page);
  await play([ada.page, bob.page], 5, 5);
  await ada.page.close();
  await isIn(bob.page, "red", "free");
  await says(bob.page, "Red is to move: the seat is free.");
  const cleo = await guest(t, game, "Cleo", "red");
  await isIn(bob.page, "red", "Cleo");
  await play([cleo.page, bob.page], 6, 6);
  await bob.page.locator("[data-seat=yellow] button").click();
  await isIn(cleo.page, "yellow", "free");
});

test("the referee and the broker are killed in the middle of a game, and it goes on", options, async (t) => {
  const game = await startExample(t, "game");
  const [ada, bob] = [await guest(t, game, "Ada", "red"), await guest(t, game, "Bob", "yellow")];
  await play([ada.page, bob.page], 1, 2, 3);
  // A move without a referee waits for the next one.
  const { isBack } = await game.kill("publisher");
  await bob.page.locator("#board button").nth(3).click();
  await isBack();
  await hasDiscs(4, ada.page, bob.page);
  // Both at once.
  const both = game.kill("publisher");
  await game.killBroker();
  await (await both).isBack();
  for (const { page } of [ada, bob]) await page.locator("#connection", { hasText: "live" }).waitFor();
  await isIn(bob.page, "red", "Ada");
  await isIn(ada.page, "yellow", "Bob");
  await play([ada.page, bob.page], 5, 6, 5, 6, 5, 6, 5);
  await says(bob.page, "Ada has four in a row!");
  await hasDiscs(11, ada.page, bob.page);
});

test("two referees at once do not disturb each other: each move counts once, and each refusal is told once", options, async (t) => {
  const game = await startExample(t, "game");
  // All that the first one was told.
  const [, pid] = await eventually(() => /the publisher is process (\d+)/.exec(game.printed()), "the referee is there");
  const env = Object.fromEntries((await readFile(`/proc/${pid}/environ`, "utf8")).split("\0").filter(Boolean).map((entry) => entry.split(/=(.*)/s)));
  const second = spawn(`${env.WORK}/bin/python3`, [fileURLToPath(new URL("../../examples/game/publisher.py", import.meta.url))], { env, stdio: "inherit" });
  t.after(() => second.kill("SIGKILL"));
  const [ada, bob] = [await guest(t, game, "Ada", "red"), await guest(t, game, "Bob", "yellow")];
  await play([ada.page, bob.page], 1, 2, 3, 4);
  await bob.page.locator("#board button").first().click();
  await isRefused(bob.page, "It is not your turn.");
  await play([ada.page, bob.page], 5, 6);
  assert.equal(second.exitCode, null);
  const events = async (match) => (await (await fetch(`${game.broker}/v1/events?limit=1000&since=-1h&match=${match}`, { headers: { Authorization: `Bearer ${env.FANFARE_API_KEY}` } })).json()).events.map(({ data }) => data);
  assert.deepEqual((await events("four.board")).map(({ columns, seats }) => [columns.length, Object.keys(seats).length].join("-")), ["0-0", "0-1", "0-2", "1-2", "2-2", "3-2", "4-2", "5-2", "6-2"]);
  assert.deepEqual((await events("four.told.*")).map(({ why }) => why), ["It is not your turn."]);
});

test("it is played by keys alone, in a small window", options, async (t) => {
  const game = await startExample(t, "game");
  const bob = await guest(t, game, "Bob", "yellow");
  const { page, complaints } = await openPage(t, browser, game.url, { viewport: { width: 360, height: 640 }, colorScheme: "dark" });
  await isIn(page, "yellow", "Bob");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.ariaLabel), "Sit down, red");
  await page.keyboard.press("Enter");
  await says(page, "It is your turn.");
  await page.keyboard.press("4");
  await hasDiscs(1, page, bob.page);
  await page.keyboard.press("Tab");
  await page.keyboard.press("ArrowRight");
  assert.equal(await page.evaluate(() => document.activeElement.ariaLabel), "Column 2: empty");
  assert.equal(await page.locator("#board button").nth(3).getAttribute("aria-label"), "Column 4: red from the bottom");
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360);
  assert.deepEqual(await complaints(), []);
});

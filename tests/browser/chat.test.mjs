// The chat of the examples, as its README says to run it.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { eventually, eventuallyIn, launchBrowser, openPage, startExample } from "./harness.mjs";

const options = { timeout: 180_000 };

let browser;
before(async () => { browser = await launchBrowser(); });
after(() => browser.close());

async function join(t, example, name, settings) {
  const opened = await openPage(t, browser, example.url, settings);
  await opened.page.fill("#name", name);
  await opened.page.click("#login button");
  await eventuallyIn(opened.page, () => document.getElementById("room").dataset.state === "live");
  return opened;
}

async function say(page, text) {
  await page.fill("#text", text);
  await page.press("#text", "Enter");
}

/** What stands on the page: who, what, and whether it is on its way. */
const messages = (page) => page.$$eval("#log li", (rows) => rows.map((row) => [
  row.querySelector(".who").textContent, row.querySelector("p").textContent, row.classList.contains("sending"),
]));

const hasText = (page, text) => eventuallyIn(page, (text) => [...document.querySelectorAll("#log li:not(.sending) p")].some((each) => each.textContent === text), text);

const members = (page) => page.$$eval("#members .name", (names) => names.map((name) => name.textContent));

async function post(url, body, headers = {}) {
  const answer = await fetch(url, { method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json", ...headers } });
  return { status: answer.status, text: await answer.text() };
}

/** Somebody without a page: `publish(topic, event)` answers with the status. */
async function visitor(example, name) {
  const { pass } = JSON.parse((await post(`${example.url}login`, { name })).text);
  const { text: token } = await post(`${example.url}token`, { pass });
  const headers = { authorization: `Bearer ${token}` };
  return {
    publish: (topic, data) => post(`${example.broker}/v1/topics/${topic}/events`, data, headers),
    kept: async (topic) => (await (await fetch(`${example.broker}/v1/topics/${topic}/events?since=-1h`, { headers })).json()).events,
    batch: (events) => post(`${example.broker}/v1/events`, { events }, headers),
  };
}

test("two people see each other, what each says with its name, and who is typing", options, async (t) => {
  const example = await startExample(t, "chat");
  const [ada, bob] = [await join(t, example, "Ada"), await join(t, example, "Bob")];
  for (const { page } of [ada, bob]) await eventually(async () => (await members(page)).length === 2, "both are here");
  assert.deepEqual(await members(ada.page), ["Ada (you)", "Bob"]);

  await bob.page.type("#text", "Hel");
  await eventuallyIn(ada.page, () => document.getElementById("typing").textContent === "Bob is typing…");
  assert.equal(await bob.page.textContent("#typing"), "", "nobody is told of their own typing");
  await say(bob.page, "Hello Ada");
  await hasText(ada.page, "Hello Ada");
  await eventuallyIn(ada.page, () => document.getElementById("typing").textContent === "");
  await say(ada.page, "Hello <b>Bob</b>");
  await hasText(bob.page, "Hello <b>Bob</b>");
  await hasText(ada.page, "Hello <b>Bob</b>");
  const said = [["Bob", "Hello Ada", false], ["Ada", "Hello <b>Bob</b>", false]];
  for (const { page } of [ada, bob]) assert.deepEqual(await messages(page), said);

  // What was typed is kept nowhere: who comes later sees what was said, and no more.
  const reader = await visitor(example, "Reader");
  assert.deepEqual([(await reader.kept("chat.lobby")).length, await reader.kept("chat.lobby.typing")], [2, []]);
  const eve = await join(t, example, "Eve");
  await hasText(eve.page, "Hello Ada");
  assert.deepEqual(await messages(eve.page), said);
  assert.equal(await eve.page.textContent("#typing"), "");
  await bob.page.close();
  await eventually(async () => `${await members(ada.page)}` === "Ada (you),Eve", "Bob is here no more");
  assert.deepEqual(await ada.complaints(), []);
});

test("a name is its owner's, and who says something says it under their own", options, async (t) => {
  const example = await startExample(t, "chat");
  const ada = await join(t, example, "Ada");
  const { page } = await openPage(t, browser, example.url);
  await page.fill("#name", "ada");
  await page.click("#login button");
  await page.getByText("ada is somebody else already.").waitFor();
  assert.equal((await post(`${example.url}token`, { pass: "made up" })).status, 401);

  const mallory = await visitor(example, "Mallory");
  const forged = await mallory.batch([{ topic: "chat.lobby", data: { text: "I am Ada" }, from: { user: "Ada" } }]);
  assert.ok(forged.status >= 400, forged.text);
  assert.equal((await mallory.publish("chat.lobby", { text: "I am Ada" })).status, 201);
  await hasText(ada.page, "I am Ada");
  assert.deepEqual(await messages(ada.page), [["Mallory", "I am Ada", false]]);

  // Whatever else Mallory says breaks no page.
  for (const data of [null, 7, {}, { text: { a: 1 } }]) assert.equal((await mallory.publish("chat.lobby", data)).status, 201);
  await say(ada.page, "still here");
  await hasText(ada.page, "still here");
  assert.equal((await messages(ada.page)).length, 2);
  assert.equal((await mallory.publish("$presence.chat.lobby", {})).status >= 400, true);
  assert.deepEqual(await ada.complaints(), []);
});

test("older messages come before those that are there, without a hole", options, async (t) => {
  const example = await startExample(t, "chat");
  const texts = Array.from({ length: 120 }, (_, n) => `message ${n}`);
  for (let at = 0; at < texts.length; at += 20) {
    // Each as many as one may say in a second.
    const writer = await visitor(example, `Writer ${at}`);
    const { status } = await writer.batch(texts.slice(at, at + 20).map((text) => ({ topic: "chat.lobby", data: { text } })));
    assert.equal(status, 201);
  }
  const { page } = await join(t, example, "Ada");
  const shown = async () => (await messages(page)).map(([, text]) => text);
  await eventually(async () => `${await shown()}` === `${texts.slice(-50)}`, "the newest fifty");
  await page.click("#older");
  await eventually(async () => `${await shown()}` === `${texts.slice(-100)}`, "fifty before them");
  await page.click("#older");
  await eventually(async () => `${await shown()}` === `${texts}`, "all of them");
  await page.locator("#older").waitFor({ state: "hidden" });
});

test("while the broker is away a page says so, and nothing that was written is lost or doubled", options, async (t) => {
  const example = await startExample(t, "chat");
  const [ada, bob] = [await join(t, example, "Ada"), await join(t, example, "Bob")];
  await say(ada.page, "before");
  await hasText(bob.page, "before");
  // At once, in the page, for the broker is not away for long.
  const meanwhile = ada.page.evaluate(async () => {
    while (!/^Offline/.test(document.getElementById("state").textContent)) await new Promise((next) => setTimeout(next, 10));
    const text = document.getElementById("text");
    for (const said of ["one meanwhile", "two meanwhile"]) {
      text.value = said;
      text.form.requestSubmit();
    }
    return [...document.querySelectorAll("#log .sending p")].map((each) => each.textContent);
  });
  await example.killBroker();
  assert.deepEqual(await meanwhile, ["one meanwhile", "two meanwhile"]);
  for (const { page } of [ada, bob]) {
    await hasText(page, "two meanwhile");
    assert.deepEqual((await messages(page)).map(([, text]) => text), ["before", "one meanwhile", "two meanwhile"]);
    await eventually(async () => (await members(page)).length === 2, "both are here again");
  }
  await eventuallyIn(ada.page, () => document.getElementById("state").textContent === "");
});

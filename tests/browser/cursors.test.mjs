// The shared cursors of the examples, as their README says to run them.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { eventually, eventuallyIn, launchBrowser, onceIn, openPage, startExample } from "./harness.mjs";

const options = { timeout: 180_000 };

let browser;
before(async () => { browser = await launchBrowser(); });
after(() => browser.close());

async function open(t, example) {
  const opened = await openPage(t, browser, example.url);
  const { page } = opened;
  await eventuallyIn(page, () => document.getElementById("board").dataset.state === "live");
  const { user, pass } = await page.evaluate(async () => {
    const pass = localStorage.getItem("cursors");
    const answer = await fetch("guest", { method: "POST", body: JSON.stringify({ pass }) });
    return answer.json();
  });
  return { ...opened, user, pass };
}

/** Moves the pointer to a part of the board. */
async function move(page, x, y) {
  const { x: left, y: top, width, height } = await page.locator("#board").boundingBox();
  await page.mouse.move(left + x * width, top + y * height);
}

/** Where cursors of others are drawn: name → parts of the board. */
const cursors = (page) => page.evaluate(() => Object.fromEntries([...document.querySelectorAll("#board .cursor")].map((node) => {
  const { m41, m42 } = new DOMMatrix(node.style.transform);
  return [node.textContent, [m41 / node.parentNode.clientWidth, m42 / node.parentNode.clientHeight]];
})));

async function isAt(page, name, x, y) {
  await eventually(async () => {
    const [atX, atY] = (await cursors(page))[name] ?? [];
    return Math.abs(atX - x) < 0.01 && Math.abs(atY - y) < 0.01;
  }, `${name} is at ${x}, ${y}`);
}

test("a cursor moves on the other's board, and is gone with its tab", options, async (t) => {
  const example = await startExample(t, "cursors");
  const [ada, bob] = [await open(t, example), await open(t, example)];
  assert.notEqual(ada.user, bob.user);
  await move(ada.page, 0.25, 0.75);
  await isAt(bob.page, ada.user, 0.25, 0.75);
  await move(bob.page, 0.5, 0.1);
  await isAt(ada.page, bob.user, 0.5, 0.1);
  assert.deepEqual(Object.keys(await cursors(ada.page)), [bob.user], "nobody is shown their own");

  // A second tab of the same user is a cursor of its own; it ends alone.
  const second = await ada.page.context().newPage();
  await second.goto(example.url);
  await eventuallyIn(second, () => document.getElementById("board").dataset.state === "live");
  await move(second, 0.9, 0.9);
  await bob.page.getByText(`${ada.user}, 2 tabs`).waitFor();
  await second.close();
  await bob.page.getByText(ada.user, { exact: true }).first().waitFor();
  await isAt(bob.page, ada.user, 0.25, 0.75);
  await ada.page.close();
  await eventually(async () => Object.keys(await cursors(bob.page)).length === 0, "no cursor is left");
  assert.deepEqual(await bob.complaints(), []);
});

test("a cursor is sent no more than thirty times a second, and shown no more often to whoever sends more", options, async (t) => {
  const example = await startExample(t, "cursors");
  const [ada, bob] = [await openPage(t, browser, "about:blank"), await openPage(t, browser, "about:blank")];
  const sent = [], got = [];
  ada.page.on("websocket", (socket) => socket.on("framesent", ({ payload }) => { if (payload.includes('"publish"')) sent.push(payload); }));
  bob.page.on("websocket", (socket) => socket.on("framereceived", ({ payload }) => { if (payload.includes('"op":"event"')) got.push(payload); }));
  for (const { page } of [ada, bob]) {
    await page.goto(example.url);
    await eventuallyIn(page, () => document.getElementById("board").dataset.state === "live");
  }

  const { seconds, moves, user } = await ada.page.evaluate(async () => {
    const board = document.getElementById("board"), { left, top, width, height } = board.getBoundingClientRect();
    const to = (x, y) => board.dispatchEvent(new PointerEvent("pointermove", { clientX: left + width * x, clientY: top + height * y }));
    const began = performance.now();
    let moves = 0;
    for (; performance.now() < began + 1500; moves++) {
      to(Math.random(), Math.random());
      if (moves % 10 === 0) await new Promise((next) => setTimeout(next));
    }
    to(0.8, 0.3);
    return { seconds: (performance.now() - began) / 1000, moves, user: document.querySelector("#people li").textContent.split(" ")[0] };
  });
  await isAt(bob.page, user, 0.8, 0.3);
  assert.ok(moves > 30 * seconds, `${moves} moves`);
  assert.ok(sent.length > 5 && sent.length <= 30 * seconds + 2, `${sent.length} sent in ${seconds} s`);

  got.length = 0;
  const began = Date.now();
  await ada.page.evaluate(async ({ broker, user }) => {
    const pass = localStorage.getItem("cursors");
    const { token } = await (await fetch("guest", { method: "POST", body: JSON.stringify({ pass }) })).json();
    const { Fanfare } = await import(`${broker}/fanfare.js`);
    const fanfare = new Fanfare(broker, { token });
    await Promise.all(Array.from({ length: 120 }, (_, n) => fanfare.publish(`cursors.${user}.{session}`, [(n + 1) / 240, 0.5], { key: null })));
  }, { broker: example.broker, user });
  await eventually(() => got.some((text) => text.includes("[0.5,0.5]")), "the last of the flood arrives");
  const since = (Date.now() - began) / 1000;
  assert.ok(got.length <= 30 * since + 3, `${got.length} of 120 values shown in ${since} s`);
});

test("nobody moves another's cursor, not even with a token of their own", options, async (t) => {
  const example = await startExample(t, "cursors");
  const [ada, mallory] = [await open(t, example), await open(t, example)];
  await move(ada.page, 0.2, 0.2);
  await isAt(mallory.page, ada.user, 0.2, 0.2);
  const answers = await mallory.page.evaluate(async ({ broker, victim, pass }) => {
    const { token } = await (await fetch("guest", { method: "POST", body: JSON.stringify({ pass }) })).json();
    const snapshot = await (await fetch(`${broker}/v1/snapshot?match=cursors.*.*`, { headers: { authorization: `Bearer ${token}` } })).json();
    const { topic } = snapshot.events.find((event) => event.topic.split(".")[1] === victim);
    const { Fanfare } = await import(`${broker}/fanfare.js`);
    const fanfare = new Fanfare(broker, { token });
    const attempts = {
      value: [topic, [0.9, 0.9]],
      removal: [topic, undefined, { removed: true }],
      tab: [`cursors.${victim}.another-tab`, [0.9, 0.9]],
      click: [`clicks.another-session`, [0.9, 0.9]],
    };
    const codes = {};
    for (const [name, [to, data, more]] of Object.entries(attempts)) codes[name] = await fanfare.publish(to, data, more).then(() => "done", ({ code }) => code);
    codes.http = (await fetch(`${broker}/v1/topics/${topic}/events`, {
      method: "POST", body: "[0.9,0.9]", headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    })).status;
    codes.nobody = (await fetch(`${broker}/v1/topics/${topic}`, { method: "DELETE" })).status;
    fanfare.close();
    return codes;
  }, { broker: example.broker, victim: ada.user, pass: mallory.pass });
  assert.deepEqual(answers, { value: "forbidden", removal: "forbidden", tab: "forbidden", click: "forbidden", http: 403, nobody: 401 });
  await move(ada.page, 0.3, 0.3);
  await isAt(mallory.page, ada.user, 0.3, 0.3);
});

test("clicks reach others once, keys move a cursor too, and a pointer that leaves takes its cursor away", options, async (t) => {
  const example = await startExample(t, "cursors");
  const [ada, bob] = [await open(t, example), await open(t, example)];
  await bob.page.evaluate(() => {
    globalThis.ripples = 0;
    new MutationObserver((changes) => {
      for (const { addedNodes } of changes) for (const node of addedNodes) if (node.className === "ripple") globalThis.ripples += 1;
    }).observe(document.getElementById("board"), { childList: true });
  });
  await move(ada.page, 0.5, 0.5);
  await ada.page.mouse.down();
  await eventuallyIn(bob.page, () => globalThis.ripples === 1);
  await ada.page.mouse.up();
  await ada.page.mouse.move(10, 10);
  await eventually(async () => Object.keys(await cursors(bob.page)).length === 0, "the pointer has left the board");

  await ada.page.focus("#board");
  for (let n = 0; n < 5; n++) await ada.page.keyboard.press("ArrowRight");
  await isAt(bob.page, ada.user, 0.6, 0.5);
  assert.deepEqual(Object.keys(await cursors(ada.page)), [ada.user], "who moves by keys sees where");
  await ada.page.keyboard.press("Enter");
  await eventuallyIn(bob.page, () => globalThis.ripples === 2);
});

test("behind a crash of the broker every cursor is back where it was", options, async (t) => {
  const example = await startExample(t, "cursors");
  const [ada, bob] = [await open(t, example), await open(t, example)];
  await move(ada.page, 0.4, 0.6);
  await isAt(bob.page, ada.user, 0.4, 0.6);
  const isOffline = onceIn(bob.page, () => /^Offline/.test(document.getElementById("state").textContent));
  await example.killBroker();
  await isOffline;
  for (const { page } of [ada, bob]) await eventuallyIn(page, () => document.getElementById("board").dataset.state === "live");
  await isAt(bob.page, ada.user, 0.4, 0.6);
  // The broker keeps these values in memory alone: this one was said again, to a session of its own.
  const { page } = await open(t, example);
  await isAt(page, ada.user, 0.4, 0.6);
});

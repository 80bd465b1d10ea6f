// The console: watching events and publishing them, as a person does.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { after, before, test } from "node:test";
import { curl, eventually, eventuallyIn, launchBrowser, openPage, publish, signedToken, signIn, startBroker, startProxy } from "./harness.mjs";

const options = { timeout: 180_000 };
let browser;
before(async () => { browser = await launchBrowser(); });
after(() => browser?.close());

/** The text of each event row, newest first. */
const rows = (page) => page.getByTestId("event-row").allInnerTexts();

/** The topic of each event row, newest first. */
const shownTopics = (page) => page.getByTestId("event-row").evaluateAll((rows) => rows.map((row) => row.dataset.topic));

const connected = (page) => page.locator('#status[data-state="open"]').waitFor();

const live = (page, pattern) => page.locator(`[data-testid="chip"][data-pattern="${pattern}"][data-state="live"]`).waitFor();

async function subscribe(page, pattern) {
  await page.fill("#pattern", pattern);
  await page.press("#pattern", "Enter");
  await live(page, pattern);
}

test("the console opens without an error, a policy violation or a request to another host", options, async (t) => {
  const broker = await startBroker(t);
  const { page, hosts, complaints } = await openPage(t, browser, `${broker.url}/#/events`);
  await connected(page);
  await page.locator("#round-trip", { hasText: "ms" }).waitFor();
  assert.deepEqual(await complaints(), []);
  assert.deepEqual([...hosts], [new URL(broker.url).host]);
  assert.equal(await page.evaluate(() => { try { trustedTypes.createPolicy("any", {}); return "made"; } catch { return "refused"; } }), "refused");
  const policy = (await fetch(broker.url)).headers.get("content-security-policy");
  assert.match(policy, /default-src 'none'/);
  assert.doesNotMatch(policy, /unsafe/);
});

test("an event published with curl appears in a console subscribed to its pattern", options, async (t) => {
  const broker = await startBroker(t);
  const { page } = await openPage(t, browser, `${broker.url}/#/events`);
  await connected(page);
  await subscribe(page, "orders.>");
  const { status, body } = await curl("-H", "Content-Type: application/json", "-H", "X-Event-Type: created",
    "-d", '{"total": 9007199254740993}', `${broker.url}/v1/topics/orders.eu.42/events`);
  assert.equal(status, 201);
  const row = page.locator(`[data-testid="event-row"][data-id="${body.id}"]`);
  await row.waitFor();
  assert.equal(await row.locator(".topic").innerText(), "orders.eu.42");
  assert.equal(await row.locator(".type").innerText(), "created");
  // Digit for digit, though no JavaScript number holds it.
  assert.equal(await row.locator(".data code").textContent(), '{"total": 9007199254740993}');
  // It is drawn with the next frame.
  await eventuallyIn(page, () => document.querySelector("#count")?.textContent.trim() === "1");
});

test("what the publish form sends comes back in the table", options, async (t) => {
  const broker = await startBroker(t);
  const { page, complaints } = await openPage(t, browser, `${broker.url}/#/events`);
  await connected(page);
  await subscribe(page, "chat.*");
  await page.fill("#publish-topic", "chat.lobby");
  await page.fill("#publish-type", "message");
  await page.fill("#publish-data", '{"text":"hello"}');
  await page.click("#publish");
  await page.locator('#publish-result[data-state="good"]', { hasText: "201" }).waitFor();
  const [, id] = (await page.locator("#publish-result").innerText()).split(" ");
  const row = page.locator(`[data-testid="event-row"][data-id="${id}"]`);
  await row.waitFor();
  assert.equal(await row.locator(".data code").textContent(), '{"text":"hello"}');

  await page.selectOption("#publish-format", "text");
  await page.fill("#publish-data", "plain words");
  await page.click("#publish");
  await page.getByTestId("event-row").filter({ hasText: '"plain words"' }).waitFor();
  assert.deepEqual(await complaints(), []);
});

test("all events and the newest of each topic can be switched while live", options, async (t) => {
  const broker = await startBroker(t);
  const { page, complaints } = await openPage(t, browser, `${broker.url}/#/events`);
  await connected(page);
  await subscribe(page, "sensors.>");
  const row = async (data) => {
    const { id } = await publish(broker.url, "sensors.one", data);
    const row = page.locator(`[data-testid="event-row"][data-id="${id}"]`);
    await row.waitFor();
    return row;
  };
  const newest = (row) => row.locator(".tag", { hasText: "newest" }).count();
  // What was chosen before holds until the other is live, which the page does not show.
  let published = 0;
  const comeAs = (count) => eventually(async () => await newest(await row(published += 1)) === count, `events come with ${count} tags`);
  assert.equal(await newest(await row(published)), 0);
  await page.check("#latest");
  await comeAs(1);
  await page.uncheck("#latest");
  await comeAs(0);
  assert.deepEqual(await complaints(), []);
});

test("the command shown for curl publishes what the form would", options, async (t) => {
  const broker = await startBroker(t);
  const { page } = await openPage(t, browser, `${broker.url}/#/events`);
  await connected(page);
  await subscribe(page, "it's.>");
  await page.fill("#publish-topic", "it's.odd/one");
  await page.fill("#publish-data", '{"quote":"it\'s $HOME `x`"}');
  await page.locator("#curl-publish", { hasText: "quote" }).waitFor();
  const command = await page.locator("#curl-publish").innerText();
  execFileSync("sh", ["-c", command], { stdio: "pipe" });
  const row = page.locator('[data-testid="event-row"]', { hasText: "it's.odd/one" });
  await row.waitFor();
  assert.equal(await row.locator(".data code").textContent(), '{"quote":"it\'s $HOME `x`"}');
});

test("a bad topic shows the problem that the broker found", options, async (t) => {
  const broker = await startBroker(t);
  const { page } = await openPage(t, browser, `${broker.url}/#/events`);
  await connected(page);
  await page.fill("#publish-topic", "orders..42");
  await page.click("#publish");
  const result = page.locator('#publish-result[data-state="bad"]');
  await result.waitFor();
  assert.match(await result.innerText(), /422 invalid_topic: ./);
});

test("data that is not JSON shows the problem that the broker found", options, async (t) => {
  const broker = await startBroker(t);
  const { page } = await openPage(t, browser, `${broker.url}/#/events`);
  await connected(page);
  await page.fill("#publish-data", "{not json");
  await page.click("#publish");
  const result = page.locator('#publish-result[data-state="bad"]');
  await result.waitFor();
  assert.match(await result.innerText(), /400 invalid_json/);
});

test("a refused pattern says why and harms no other subscription", options, async (t) => {
  const broker = await startBroker(t);
  const { page } = await openPage(t, browser, `${broker.url}/?topic=good.%3E&topic=bad..one`);
  await live(page, "good.>");
  await page.locator('[data-testid="chip"][data-pattern="bad..one"][data-state="refused"]').waitFor();
  assert.match(await page.locator("#subscribe-error").innerText(), /bad\.\.one was refused\. invalid_pattern/);
  await publish(broker.url, "good.a", 1);
  await page.locator('[data-testid="event-row"][data-topic="good.a"]').waitFor();
  await page.getByRole("button", { name: "Unsubscribe from bad..one" }).click();
  await eventually(async () => await page.locator("#subscribe-error").innerText() === "", "no refusal is left");
  assert.equal(await page.evaluate(() => location.search), "?topic=good.%3E");
});

test("a pattern that was removed brings no more events", options, async (t) => {
  const broker = await startBroker(t);
  const { page } = await openPage(t, browser, `${broker.url}/?topic=a.%3E&topic=b.%3E`);
  await live(page, "a.>");
  await page.getByRole("button", { name: "Unsubscribe from a.>" }).click();
  await eventuallyIn(page, () => document.querySelectorAll("[data-testid=chip]").length === 1);
  // The session's requests are answered in order: a later one that is done proves the earlier.
  await subscribe(page, "c.>");
  await publish(broker.url, "a.1", 1);
  await publish(broker.url, "b.1", 1);
  await page.locator('[data-testid="event-row"][data-topic="b.1"]').waitFor();
  assert.equal((await rows(page)).length, 1);
});

test("markup in an event is shown as text", options, async (t) => {
  const broker = await startBroker(t);
  const { page, complaints } = await openPage(t, browser, `${broker.url}/?topic=%3E`);
  await live(page, ">");
  const markup = "<img src=x onerror=alert(1)><script>alert(2)</script>";
  await publish(broker.url, "<b>bold</b>".replaceAll(">", "&gt;"), markup, "-H", "X-Event-Type: <i>type</i>");
  const row = page.getByTestId("event-row").first();
  await row.waitFor();
  assert.ok((await row.locator(".data").innerText()).includes(markup));
  assert.equal(await page.locator("#event-rows img, #event-rows script, #event-rows b, #event-rows i").count(), 0);
  assert.deepEqual(await complaints(), []);
});

test("after its connection was cut the console shows what it missed, each event once", options, async (t) => {
  const broker = await startBroker(t);
  const proxy = await startProxy(t, broker.port);
  const { page } = await openPage(t, browser, `${proxy.url}/?topic=steps.%3E`);
  await live(page, "steps.>");
  await publish(broker.url, "steps.one", 1);
  await page.locator('[data-testid="event-row"][data-topic="steps.one"]').waitFor();

  await proxy.cut();
  await page.locator('#status[data-state="waiting"]').waitFor();
  for (const step of ["two", "three", "four"]) await publish(broker.url, `steps.${step}`, step);
  await proxy.mend();
  await live(page, "steps.>");
  await publish(broker.url, "steps.five", 5);
  await page.locator('[data-testid="event-row"][data-topic="steps.five"]').waitFor();
  assert.deepEqual(await shownTopics(page), ["steps.five", "steps.four", "steps.three", "steps.two", "steps.one"]);
  const log = await page.locator("#log").textContent();
  assert.match(log, /resumed/);
  assert.doesNotMatch(log, /gap/);
});

// Exact where the history outlives the broker, a gap where it does not; never silence.
test("after a restart of the broker the console says why, comes back, and shows what it missed or the gap", options, async (t) => {
  const broker = await startBroker(t);
  const { page } = await openPage(t, browser, `${broker.url}/?topic=steps.%3E`);
  await live(page, "steps.>");
  await publish(broker.url, "steps.one", 1);
  await page.locator('[data-testid="event-row"][data-topic="steps.one"]').waitFor();

  const next = await broker.restart("SIGTERM");
  for (const step of ["two", "three", "four"]) await publish(next.url, `steps.${step}`, step);
  await page.locator('[data-testid="event-row"][data-topic="steps.four"]').waitFor();

  assert.deepEqual(await shownTopics(page), ["steps.four", "steps.three", "steps.two", "steps.one"]);
  // It is live behind what it missed.
  await eventuallyIn(page, () => /bye: restart/.test(document.querySelector("#log").textContent) && /resumed/.test(document.querySelector("#log").textContent));
});

test("a console whose place is in a log that is gone is told of the gap", options, async (t) => {
  const broker = await startBroker(t);
  const { page } = await openPage(t, browser, `${broker.url}/?topic=steps.%3E`);
  await live(page, "steps.>");
  await publish(broker.url, "steps.one", 1);
  await page.locator('[data-testid="event-row"][data-topic="steps.one"]').waitFor();
  await broker.stop();
  // The same port, other data.
  await startBroker(t, { port: broker.port });
  await page.getByTestId("gap-row").waitFor();
  await live(page, "steps.>");
});

test("a burst leaves at most 500 rows and counts every event", options, async (t) => {
  const broker = await startBroker(t);
  const { page } = await openPage(t, browser, `${broker.url}/?topic=burst.%3E`);
  await live(page, "burst.>");
  for (let batch = 0; batch < 4; batch++) {
    const events = Array.from({ length: 500 }, (_, n) => ({ topic: `burst.${batch}`, data: n }));
    const response = await fetch(`${broker.url}/v1/events`, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ events }),
    });
    assert.equal(response.status, 201);
  }
  await eventually(async () => (await page.locator("#count").innerText()).replace(/\D/g, "") === "2000", "2000 counted");
  // Each batch ends with the same number.
  await eventuallyIn(page, () => {
    const rows = [...document.querySelectorAll("#event-rows tr")].map((row) => `${row.dataset.topic} ${row.querySelector(".data").textContent}`);
    return rows.length === 500 && rows[0] === "burst.3 499";
  });
});

test("pause holds the table still and resume shows what came meanwhile", options, async (t) => {
  const broker = await startBroker(t);
  const { page } = await openPage(t, browser, `${broker.url}/?topic=p.%3E`);
  await live(page, "p.>");
  await publish(broker.url, "p.before", 1);
  await page.locator('[data-topic="p.before"]').waitFor();
  await page.click("#pause");
  await publish(broker.url, "p.during", 2);
  await page.getByRole("button", { name: "Resume (1)" }).waitFor();
  assert.equal(await page.locator('[data-topic="p.during"]').count(), 0);
  await page.click("#pause");
  await page.locator('[data-topic="p.during"]').waitFor();
});

test("the filter shows the rows that hold its text, clear removes all", options, async (t) => {
  const broker = await startBroker(t);
  const { page } = await openPage(t, browser, `${broker.url}/?topic=f.%3E`);
  await live(page, "f.>");
  await publish(broker.url, "f.apple", { colour: "red" });
  await publish(broker.url, "f.pear", { colour: "green" });
  await page.locator('[data-topic="f.pear"]').waitFor();
  await page.fill("#filter", "RED");
  assert.deepEqual(await page.locator("[data-testid=event-row]:visible").evaluateAll((rows) => rows.map((row) => row.dataset.topic)), ["f.apple"]);
  await page.click("#clear");
  assert.equal(await page.getByTestId("event-row").count(), 0);
  await eventually(async () => await page.locator("#count").innerText() === "0", "none counted");
});

test("where a key is needed the console says so, and works once it has it", options, async (t) => {
  const key = "a-key-for-this-test-and-no-other-0123456789";
  const broker = await startBroker(t, { env: { FANFARE_AUTH_API_KEYS: key } });
  const { page } = await openPage(t, browser, `${broker.url}/?topic=k.%3E`);
  await page.locator('#status[data-state="refused"]').waitFor();
  assert.equal(await page.locator("#publish").count(), 0, "what it may not do is not offered");
  await signIn(page, key);
  await live(page, "k.>");
  await page.fill("#publish-topic", "k.1");
  await page.click("#publish");
  await page.locator('[data-testid="event-row"][data-topic="k.1"]').waitFor();
  assert.ok(!page.url().includes(key));
  assert.ok(!(await page.locator("#curl-publish").innerText()).includes(key));
  assert.equal(await page.evaluate(() => localStorage.length + sessionStorage.length + document.cookie.length), 0);
});

test("the console can be used with the keyboard alone", options, async (t) => {
  const broker = await startBroker(t);
  const { page } = await openPage(t, browser, `${broker.url}/#/events`);
  await connected(page);
  await page.focus("#connect");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.id), "pattern");
  await page.keyboard.type("keys.>");
  await page.keyboard.press("Enter");
  await live(page, "keys.>");
  await page.focus("#publish-topic");
  await page.keyboard.press("Control+A");
  await page.keyboard.type("keys.pressed");
  await page.focus("#publish-data");
  await page.keyboard.press("Control+Enter");
  await page.locator('[data-testid="event-row"][data-topic="keys.pressed"]').waitFor();
  const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  assert.equal(outline, "solid");
});

test("disconnect ends the session and connect begins another where it left off", options, async (t) => {
  const broker = await startBroker(t);
  const { page } = await openPage(t, browser, `${broker.url}/?topic=d.%3E`);
  await live(page, "d.>");
  await publish(broker.url, "d.1", 1);
  await page.locator('[data-topic="d.1"]').waitFor();
  await page.click("#connect");
  await page.locator('#status[data-state="closed"]').waitFor();
  await publish(broker.url, "d.2", 2);
  await page.click("#connect");
  await page.locator('[data-topic="d.2"]').waitFor();
  assert.equal((await rows(page)).length, 2);
});

test("an event shows who sent it, its version and its end, and the inspector all that it carries", options, async (t) => {
  const broker = await startBroker(t);
  const { page, complaints } = await openPage(t, browser, `${broker.url}/?topic=orders.%3E`);
  await live(page, "orders.>");
  const row = async (event) => {
    const { status, body } = await curl("-H", "Content-Type: application/json", "--data-raw", JSON.stringify(event), `${broker.url}/v1/events`);
    assert.equal(status, 201, JSON.stringify(body));
    const row = page.locator(`[data-testid="event-row"][data-id="${body.events[0].id}"]`);
    await row.waitFor();
    return row;
  };
  const tags = (row) => row.locator(".tag").allInnerTexts();
  const event = { topic: "orders.1", data: 1, version: 7, epoch: "run-2", ttl_ms: 3_600_000 };
  const first = await row(event);
  const [version, expires] = await tags(first);
  assert.equal(version, "version 7 of run-2");
  assert.match(expires, /^expires \d\d:\d\d:\d\d/);
  await first.getByRole("button").first().click();
  const carried = JSON.parse(await first.locator(".carried").innerText());
  assert.deepEqual([carried.version, carried.epoch, "data" in carried, "op" in carried], [7, "run-2", false, false]);
  assert.ok(carried.id && carried.expires);
  await first.getByRole("button").first().click();
  assert.equal(await first.locator(".carried").count(), 0);
  assert.deepEqual(await tags(await row({ topic: "orders.1", removed: true })), ["removed"]);
  // Without a credential, what comes over a WebSocket is known by its session.
  await page.evaluate(async (url) => {
    const socket = new WebSocket(url);
    await new Promise((open) => { socket.onopen = open; });
    socket.send(JSON.stringify({ op: "publish", topic: "orders.2", data: 2 }));
  }, `${broker.ws}/v1/ws`);
  const second = page.locator('[data-testid="event-row"][data-topic="orders.2"]');
  await second.waitFor();
  assert.match((await tags(second))[0], /^from session [0-9a-f]{8}…$/);
  assert.deepEqual(await complaints(), []);
});

test("the form removes the current value of a topic", options, async (t) => {
  const broker = await startBroker(t);
  const { page, complaints } = await openPage(t, browser, `${broker.url}/?topic=seats.%3E`);
  await live(page, "seats.>");
  await publish(broker.url, "seats.1", "ann");
  await page.fill("#publish-topic", "seats.1");
  await page.selectOption("#publish-format", "removed");
  await page.locator("#curl-publish", { hasText: "-X DELETE" }).waitFor();
  assert.match(await page.locator("#curl-publish").innerText(), /^curl -X DELETE http:.*\/v1\/topics\/seats\.1$/);
  await page.click("#publish");
  assert.equal(await page.locator("#go-on").isDisabled(), true, "the name is asked for");
  await page.fill("#name", "seats.1");
  await page.click("#go-on");
  await page.locator('#publish-result[data-state="good"]').waitFor();
  await page.locator(".tag", { hasText: "removed" }).waitFor();
  const { body } = await curl(`${broker.url}/v1/topics/seats.1`);
  assert.deepEqual([body.latest, body.retained], [undefined, 2]);
  assert.deepEqual(await complaints(), []);
});

test("older events are loaded page by page, of all patterns, each once and in order, and their end is said", options, async (t) => {
  const broker = await startBroker(t);
  const events = Array.from({ length: 250 }, (_, n) => ({ topic: `log.${n % 2 ? "a" : "b"}`, data: n }));
  const response = await fetch(`${broker.url}/v1/events`, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ events }),
  });
  assert.equal(response.status, 201);
  const { page, complaints } = await openPage(t, browser, `${broker.url}/#/events`);
  await connected(page);
  assert.equal(await page.locator("#older").isVisible(), false);
  await page.uncheck("#snapshot");
  // What both match comes once.
  await subscribe(page, "log.*");
  await subscribe(page, "log.a");
  await live(page, "log.a");
  await publish(broker.url, "log.c", 250);
  await page.locator('[data-testid="event-row"][data-topic="log.c"]').waitFor();
  const data = () => page.locator("[data-testid=event-row] .data code").allTextContents();
  // Both patterns go back at their own pace, so a page of each may leave a hole between, and the next one fills it.
  while (await page.locator("#older").isVisible()) {
    const before = (await data()).length;
    // It goes with the last page, which may be now.
    if (!await page.click("#older", { timeout: 2_000 }).then(() => true, () => false)) continue;
    await eventually(async () => !(await page.locator("#older").isVisible()) || (await data()).length > before, "more is shown");
  }
  assert.deepEqual((await data()).map(Number), Array.from({ length: 251 }, (_, n) => 250 - n));
  await publish(broker.url, "log.c", 251);
  await eventuallyIn(page, () => document.querySelector("#event-rows .data code")?.textContent === "251");
  assert.equal((await data()).length, 252);
  assert.deepEqual(await complaints(), []);
});

test("who is in a topic is shown by name, with how many sessions", options, async (t) => {
  const secret = "a secret of at least thirty-two bytes";
  const key = "a-key-for-this-test-and-no-other-0123456789";
  const config = `[auth]\njwt_secret = "${secret}"\napi_keys = ["${key}"]\n[[topics]]\nmatch = "room"\npresence = true\n`;
  const broker = await startBroker(t, { config });
  const { page, complaints } = await openPage(t, browser, `${broker.url}/#/events`);
  await signIn(page, key);
  await subscribe(page, "$presence.room");
  const token = signedToken(secret, { subscribe: ["room"], info: { name: "Ada L." } });
  await page.evaluate(async (url) => {
    globalThis.tabs = [];
    for (let tab = 0; tab < 2; tab++) {
      const socket = new WebSocket(url);
      await new Promise((live) => { socket.onmessage = ({ data }) => { if (JSON.parse(data).op === "live") live(); }; });
      tabs.push(socket);
    }
  }, `${broker.ws}/v1/ws?topic=room&access_token=${token}`);
  const told = (type, who) => page.getByTestId("event-row").filter({ has: page.locator(".type", { hasText: type }) })
    .filter({ has: page.locator(".tag", { hasText: who }) }).waitFor();
  await told("presence.joined", "Ada L.: 1 session");
  await told("presence.joined", "Ada L.: 2 sessions");
  await page.evaluate(() => tabs[0].close());
  await told("presence.left", "Ada L.: 1 session");
  assert.deepEqual(await complaints(), []);
});

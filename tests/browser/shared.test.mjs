// One connection for all tabs: several pages of one context, counted at the broker, whose leader ends at any moment.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { collectPrinted, eventually, eventuallyIn, freePort, launchBrowser, processOf, publish, startBroker, startProxy, stopProcess } from "./harness.mjs";

const options = { timeout: 180_000 };
let browser;
before(async () => { browser = await launchBrowser(); });
after(() => browser?.close());

const PAGE = (broker) => `<!doctype html><link rel=icon href='data:,'><script type="module">
  import { Fanfare } from "/fanfare.js";
  import { shared } from "/fanfare/shared.js";
  Object.assign(globalThis, { got: [], states: [], errors: [], gaps: [], late: [] });
  // How late timers come on this machine, which is nobody's fault here.
  let due = Date.now() + 50;
  setInterval(() => { late.push({ at: Date.now(), ms: Math.max(0, Date.now() - due) }); due = Date.now() + 50; }, 50);
  globalThis.start = (name, ...subscriptions) => {
    const fanfare = globalThis.fanfare = new Fanfare("${broker}", shared(name));
    fanfare.on("state", (said) => states.push(said));
    fanfare.on("error", (said) => errors.push(said));
    fanfare.on("gap", (said) => gaps.push(said));
    for (const [pattern, how = {}] of subscriptions) fanfare.subscribe(pattern, how, ({ topic, data, snapshot }) => got.push({ pattern, topic, data, snapshot, at: Date.now() }));
  };
</script>`;

/**
 * An origin of an application that brings the client itself. `tab(...)` opens a page of it; `leader()` is the one with a connection, once no
 * other has one: a leader for which the machine had no time for half a second is relieved, and lets go of its own a little later.
 */
async function startTabs(t, { url }, { prepare, port = 0 } = {}) {
  const server = createServer(async (request, response) => {
    const isScript = /^\/fanfare[\w/]*\.js$/.test(request.url);
    response.setHeader("content-type", isScript ? "text/javascript" : "text/html");
    response.end(isScript ? await readFile(new URL(`../../clients/js${request.url}`, import.meta.url)) : PAGE(url));
  });
  await new Promise((ready) => server.listen(port, "127.0.0.1", ready));
  const context = await browser.newContext();
  t.after(async () => { await context.close(); server.closeAllConnections(); server.close(); });
  const tabs = [];
  return {
    tabs, context,
    async tab(name, ...subscriptions) {
      const page = await context.newPage();
      const tab = { page, sockets: new Set(), complaints: [] };
      page.on("pageerror", (error) => tab.complaints.push(error.message));
      page.on("websocket", (socket) => {
        tab.sockets.add(socket);
        socket.on("close", () => tab.sockets.delete(socket));
      });
      if (prepare) await page.addInitScript(prepare);
      await page.goto(`http://localhost:${server.address().port}/`);
      await eventuallyIn(page, () => Boolean(globalThis.start));
      await page.evaluate(([who, all]) => globalThis.start(who, ...all), [name, subscriptions]);
      await live(tab);
      tabs.push(tab);
      return tab;
    },
    leader: () => {
      const [one, ...more] = tabs.filter(({ sockets }) => sockets.size);
      return more.length ? undefined : one;
    },
  };
}

const live = ({ page }) => eventuallyIn(page, () => globalThis.fanfare?.state === "live");
const read = ({ page }, what = "got") => page.evaluate((name) => globalThis[name], what);
const heard = async (tab) => (await read(tab)).map(({ data }) => data);
const sessions = async ({ url }) => (await (await fetch(`${url}/v1/sessions`)).json()).sessions;

test("R28 tabs of one identity have one connection, each hears what it asked for, and identities never mix", options, async (t) => {
  const broker = await startBroker(t);
  const { tab } = await startTabs(t, broker);
  await publish(broker.url, "tile.x", 0);
  const one = await tab("ada", ["a.*"], ["tile.*", { snapshot: true }]);
  const two = await tab("ada", ["a.y"], ["b"]);
  const three = await tab("ada", ["a.*", { tail: 5 }], ["tile.*", { snapshot: true, latest: true }]);
  assert.equal((await sessions(broker)).length, 1);
  const other = await tab("bob", ["a.*"]);
  assert.equal((await sessions(broker)).length, 2);
  for (const [topic, data] of [["a.x", 1], ["a.y", 2], ["b", 3], ["tile.x", 4], ["c", 5], ["a.y", 6]]) await publish(broker.url, topic, data);
  const expected = [[one, [0, 1, 2, 4, 6]], [two, [2, 3, 6]], [three, [0, 1, 2, 4, 6]], [other, [1, 2, 6]]];
  for (const [each, list] of expected) {
    await eventually(async () => (await heard(each)).length >= list.length);
    assert.deepEqual(await heard(each), list);
    assert.deepEqual([await read(each, "gaps"), await read(each, "errors"), each.complaints], [[], [], []]);
  }
  // Answers come back to who asked.
  const answers = await Promise.all([one, two, three].map(({ page }, n) => page.evaluate((at) => Promise.all([1, 2, 3].map((k) => globalThis.fanfare.publish(`own.${at}`, k))), n)));
  assert.equal(new Set(answers.flat().map(({ id }) => id)).size, 9);
  const refused = await two.page.evaluate(() => globalThis.fanfare.publish("a", 1, { bound: true }).catch(({ code }) => code));
  assert.equal(refused, "bound_needs_websocket");
  // What nobody wants any more is given back, and the connection with the last tab.
  for (const { page } of [one, three]) await page.close();
  await eventually(async () => (await sessions(broker)).some(({ subscriptions }) => `${subscriptions.sort()}` === "a.y,b"), "only a.y and b are left");
  await two.page.close();
  await eventually(async () => (await sessions(broker)).length === 1);
});

test("R28 a pattern that is refused is refused to the tab that asked", options, async (t) => {
  const rules = '[{match = "open.>", subscribe = "anyone", publish = "anyone"}, {match = ">", subscribe = "nobody"}]';
  const port = await freePort();
  const broker = await startBroker(t, { env: { FANFARE_SERVER_ALLOWED_ORIGINS: `http://localhost:${port}`, FANFARE_AUTH_API_KEYS: "a-key-for-this-test-and-no-other-0123456789", FANFARE_TOPICS: rules } });
  const { tab } = await startTabs(t, broker, { port });
  const good = await tab("ada", ["open.a"], ["open.b"]);
  const mixed = await tab("ada", ["open.a"], ["shut.a"], ["open.c"], ["shut.b"]);
  await eventually(async () => (await read(mixed, "errors")).length === 2);
  assert.deepEqual((await read(mixed, "errors")).map(({ pattern }) => pattern).sort(), ["shut.a", "shut.b"]);
  await mixed.page.evaluate(() => globalThis.fanfare.publish("open.c", 1));
  await mixed.page.evaluate(() => globalThis.fanfare.publish("open.a", 2));
  await eventually(async () => (await heard(mixed)).length === 2 && (await heard(good)).length === 1);
  assert.deepEqual([await heard(mixed), await heard(good), await read(good, "errors")], [[1, 2], [2], []]);
});

/** The ways in which a leading tab ends; each returns what is to be done when all is checked. */
const ENDS = {
  async closes({ page }) { await page.close(); },
  async crashes({ page }) {
    const protocol = await page.context().newCDPSession(page);
    await Promise.race([protocol.send("Page.crash").catch(() => {}), new Promise((done) => page.once("crash", done))]);
  },
  // As browsers freeze a page that nobody sees, which they tell it before.
  async freezes(tab) {
    await tab.page.evaluate(() => document.dispatchEvent(new Event("freeze")));
    const goOn = await stopProcess(browser, tab.page);
    return async () => {
      goOn();
      await tab.page.evaluate(() => document.dispatchEvent(new Event("resume")));
    };
  },
  "is stopped": ({ page }) => stopProcess(browser, page),
  async hangs({ page }) {
    const over = page.evaluate(() => { for (const end = Date.now() + 2_000; Date.now() < end;); });
    return () => over;
  },
};

for (const [how, end] of Object.entries(ENDS)) {
  test(`R28 when the leading tab ${how} under a stream of events another one takes over within a second, and nothing is lost or doubled`, options, async (t) => {
    const broker = await startBroker(t);
    const { tab, tabs, leader } = await startTabs(t, broker);
    for (let n = 0; n < 3; n++) await tab("ada", ["n"], ["*", { tail: 3 }]);
    let published = 0, isOver = false;
    const publishedAt = [];
    const stream = (async () => {
      while (!isOver) {
        await fetch(`${broker.url}/v1/topics/n/events`, { method: "POST", headers: { "Content-Type": "application/json" }, body: `${published++}` });
        publishedAt.push(Date.now());
        await new Promise((next) => setTimeout(next, 5));
      }
    })();
    t.after(() => { isOver = true; });
    for (let round = 0; round < 2; round++) {
      const before = published;
      await eventually(() => published > before + 10 + 7 * round);
      const first = await eventually(leader);
      tabs.splice(tabs.indexOf(first), 1);
      // Found before, for it is found by having the tab work.
      await processOf(browser, first.page);
      const at = Date.now();
      const mend = await end(first);
      const later = await eventually(leader, "another tab leads");
      const reached = published;
      await eventually(async () => (await heard(later)).at(-1) >= reached);
      const times = (await read(later)).map((event) => event.at).filter((came) => came >= at);
      const longest = (all) => Math.max(...all.map((each, k) => each - (k ? all[k - 1] : at)));
      const silence = longest(times), pause = longest(publishedAt.filter((said) => said >= at));
      const lateness = (await read(later, "late")).filter((tick) => tick.at >= at).reduce((sum, { ms }) => sum + ms, 0);
      t.diagnostic(`round ${round}: the longest silence was ${silence} ms, nothing was published for ${pause} ms, and timers were ${lateness} ms late`);
      assert.ok(silence < 1_000 + pause + lateness, `${silence} ms of silence`);
      if (mend) {
        // It comes back as one of the others.
        await mend();
        tabs.push(first);
      }
      while (tabs.length < 3) await tab("ada", ["n"], ["*", { tail: 3 }]);
    }
    isOver = true;
    await stream;
    for (const each of tabs) {
      const of = async (pattern) => (await read(each)).filter((event) => event.pattern === pattern).map(({ data }) => data);
      for (const pattern of ["n", "*"]) {
        await eventually(async () => (await of(pattern)).at(-1) === published - 1, `${pattern} has all`);
        const list = await of(pattern);
        assert.deepEqual(list, list.map((_, k) => list[0] + k), pattern);
      }
      assert.deepEqual([await read(each, "gaps"), each.complaints], [[], []]);
    }
    await eventually(async () => (await sessions(broker)).length === 1, "one connection is left");
  });
}

test("R28 and R33 all tabs go on over cuts and a restart of the broker, over one connection", options, async (t) => {
  const broker = await startBroker(t);
  const proxy = await startProxy(t, broker.port);
  const { tab, tabs } = await startTabs(t, proxy);
  for (let n = 0; n < 3; n++) await tab("ada", ["n"]);
  await publish(broker.url, "n", 0);
  await proxy.cut();
  await publish(broker.url, "n", 1);
  await proxy.mend();
  for (const each of tabs) await eventually(async () => (await heard(each)).length === 2);
  const again = await broker.restart("SIGKILL");
  await publish(again.url, "n", 2);
  for (const each of tabs) {
    await eventually(async () => (await heard(each)).length === 3);
    assert.deepEqual([await heard(each), await read(each, "gaps")], [[0, 1, 2], []]);
    await live(each);
  }
  await eventually(async () => (await sessions(again)).length === 1);
});

test("R28 and R33 a tab that stands still holds nobody up, and goes on from where it stood", options, async (t) => {
  const broker = await startBroker(t);
  const { tab, tabs, leader } = await startTabs(t, broker);
  for (let n = 0; n < 2; n++) await tab("ada", ["n"]);
  const COUNT = 10_500;
  for (let round = 1, hasLed = false; !hasLed; round++) {
    const first = await eventually(leader), other = tabs.find((each) => each !== first), [connection] = first.sockets;
    const goOn = await stopProcess(browser, other.page);
    for (let n = (round - 1) * COUNT; n < round * COUNT; n += 500) {
      const events = Array.from({ length: 500 }, (_, k) => ({ topic: "n", data: n + k }));
      const answer = await fetch(`${broker.url}/v1/events`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ events }) });
      assert.equal(answer.status, 201);
    }
    await eventuallyIn(first.page, (count) => globalThis.got.length === count, round * COUNT);
    // Where the other one had just taken over, nothing was on its way to it: then once more.
    hasLed = first.sockets.has(connection);
    await goOn();
    await eventuallyIn(other.page, (count) => globalThis.got.length >= count, round * COUNT);
    assert.deepEqual(await heard(other), [...Array(round * COUNT).keys()]);
    if (hasLed) assert.ok((await read(other, "states")).some(({ reason }) => reason?.code === 4409 || reason?.code === "slow_consumer"), "more than fits was on its way");
    assert.deepEqual(await read(other, "gaps"), []);
  }
});

test("R28 and R33 an announced stop of the broker moves all tabs before it comes", options, async (t) => {
  // As long as three pages and a publisher may need to do their part meanwhile.
  const broker = await startBroker(t, { env: { FANFARE_SERVER_SHUTDOWN_DELAY: "8s" } });
  const { tab, tabs } = await startTabs(t, broker);
  for (let n = 0; n < 3; n++) await tab("ada", ["n"]);
  const before = new Set(await Promise.all(tabs.map(({ page }) => page.evaluate(() => globalThis.fanfare.session))));
  const restarted = broker.restart("SIGTERM");
  for (const { page } of tabs) await eventuallyIn(page, (old) => globalThis.fanfare.session !== old && globalThis.fanfare.session, [...before][0]);
  await publish(broker.url, "n", 1);
  for (const each of tabs) {
    await eventually(async () => (await heard(each)).length === 1);
    assert.deepEqual((await read(each, "states")).map(({ state }) => state), ["connecting", "live"]);
  }
  await eventually(() => tabs.reduce((sum, { sockets }) => sum + sockets.size, 0) === 1, "the old connection is let go of");
  const again = await restarted;
  await publish(again.url, "n", 2);
  for (const each of tabs) await eventually(async () => (await heard(each)).length === 2);
});

for (const [what, prepare] of [["Web Locks", "Object.defineProperty(navigator, 'locks', { value: undefined })"], ["BroadcastChannel", "delete globalThis.BroadcastChannel"]]) {
  test(`R28 without ${what} each tab has a connection of its own, silently`, options, async (t) => {
    const broker = await startBroker(t);
    const { tab, tabs } = await startTabs(t, broker, { prepare });
    for (let n = 0; n < 2; n++) await tab("ada", ["n"]);
    assert.equal((await sessions(broker)).length, 2);
    await publish(broker.url, "n", 1);
    for (const each of tabs) {
      await eventually(async () => (await heard(each)).length === 1);
      assert.deepEqual([await read(each, "errors"), each.complaints], [[], []]);
    }
  });
}

test("R28 what the README prints of shared works as printed", options, async (t) => {
  const broker = await startBroker(t);
  const readme = await readFile(new URL("../../clients/js/README.md", import.meta.url), "utf8");
  const [example] = [...readme.matchAll(/```html\n([^]*?)```/g)].map(([, text]) => text).filter((text) => text.includes("shared("));
  const server = createServer((_, response) => {
    response.setHeader("content-type", "text/html");
    response.end(`<!doctype html><link rel=icon href='data:,'>${example.replaceAll("http://127.0.0.1:8080", broker.url)}`);
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  const context = await browser.newContext();
  t.after(async () => { await context.close(); server.closeAllConnections(); server.close(); });
  const printed = [[], []];
  for (const list of printed) {
    const page = await context.newPage();
    collectPrinted(page, list);
    await page.goto(`http://localhost:${server.address().port}/`);
  }
  await eventually(async () => (await sessions(broker)).length === 1);
  await eventually(async () => {
    await publish(broker.url, "demo.first", 1);
    return printed.every((list) => list.some(([topic]) => topic === "demo.first"));
  });
  assert.equal((await sessions(broker)).length, 1);
});

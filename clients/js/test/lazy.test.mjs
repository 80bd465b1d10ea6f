// What not every page loads, where it does not come, or late: as for a page that is offline when it first needs it.

import assert from "node:assert/strict";
import { register } from "node:module";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { client, eventually, modelSocket, publish, startBroker, tokenFor } from "./harness.mjs";
import { ModelBroker } from "./model.mjs";

const options = { timeout: 60_000 };
const SECRET = "a-secret-for-this-test-and-no-other-0123456789";

// Files in it name what does not come (`feed.fails`), or not yet (`feed.hangs`), to the thread in which modules are found.
const folder = mkdtempSync(join(tmpdir(), "fanfare-lazy-"));
after(() => rmSync(folder, { recursive: true, force: true }));
register(`data:text/javascript,${encodeURIComponent(`
  import { existsSync, appendFileSync } from "node:fs";
  const folder = ${JSON.stringify(folder)};
  export async function resolve(name, context, next) {
    const [, part] = /fanfare\\/(\\w+)\\.js/.exec(name) ?? [];
    if (part) appendFileSync(folder + "/" + part + ".asked", ".");
    while (existsSync(folder + "/" + part + ".hangs")) await new Promise((later) => setTimeout(later, 10));
    if (existsSync(folder + "/" + part + ".fails")) throw new Error("Failed to fetch dynamically imported module");
    return next(name, context);
  }`)}`);

/** Has a module not come, until the test says so. */
function withhold(t, part, how) {
  const path = join(folder, `${part}.${how}`);
  writeFileSync(path, "");
  const give = () => rmSync(path, { force: true });
  t.after(give);
  return give;
}

const wasAskedFor = (part) => existsSync(join(folder, `${part}.asked`));

/** Has waits of 5 s be short. */
function hurry(t) {
  const { setTimeout } = globalThis;
  globalThis.setTimeout = (deed, ms, ...more) => setTimeout(deed, ms === 5_000 ? 20 : ms, ...more);
  t.after(() => { globalThis.setTimeout = setTimeout; });
}

// In this order, for what has come is there.

test("R24 a loop whose module does not come waits for it, as it does for a connection, and then has what came meanwhile", options, async (t) => {
  hurry(t);
  const give = withhold(t, "feed", "fails");
  const broker = await startBroker(t);
  const { fanfare, is, errors } = client(t, broker.url);
  const got = [];
  const loop = (async () => { for await (const { data } of fanfare.subscribe("a")) if (got.push(data) === 3) break; })();
  const full = fanfare.subscribe("a", { buffer: 2 });
  const newest = fanfare.subscribe("a", { buffer: 2, overflow: "drop-oldest" });
  const gone = fanfare.subscribe("a");
  gone();
  const ended = (async () => { for await (const _ of gone) assert.fail("nothing comes"); })();
  await is("live");
  for (let n = 0; n < 5; n++) await publish(broker, "a", n);
  let seen = 0;
  fanfare.subscribe("a", { tail: 1 }, () => { seen += 1; });
  await eventually(() => seen && wasAskedFor("feed"));
  assert.deepEqual(got, []);
  give();
  await loop;
  assert.deepEqual(got, [0, 1, 2]);
  // Once nobody wants it, it is not loaded any more; its loop ends all the same.
  await Promise.race([ended.catch(() => {}), eventually(() => true)]);
  const rest = [];
  await assert.rejects(async () => { for await (const { data } of full) rest.push(data); }, { code: "slow_consumer" });
  assert.equal(rest.length, 2, "no more waited than it says");
  for await (const { data } of newest) if (rest.push(data) === 4) break;
  assert.deepEqual(rest.slice(2), [3, 4]);
  assert.deepEqual(errors, []);
});

test("R29 a publish whose module does not come is refused at once, or waits and is given up when it says", options, async (t) => {
  hurry(t);
  const broker = await startBroker(t);
  let give = withhold(t, "publishing", "fails");
  const { fanfare, is } = client(t, broker.url);
  fanfare.subscribe("other", () => {});
  await is("live");
  await assert.rejects(fanfare.publish("a", 0), { code: "offline" });
  const stop = new AbortController();
  const given = fanfare.publish("a", 1, { queue: true, signal: stop.signal });
  const late = fanfare.publish("a", 2, { queue: true, timeout: 50 });
  const first = fanfare.publish("a", 3, { queue: true }), second = fanfare.publish("a", 4, { queue: true });
  stop.abort();
  await new Promise((later) => setTimeout(later, 60));
  give();
  await assert.rejects(given, { code: "aborted" });
  await assert.rejects(late, { code: "timeout" });
  const ids = await Promise.all([first, second]);
  assert.deepEqual(ids.map(({ id }) => Number(id.split("-").at(-1))), [1, 2], "in their order");
});

test("R29 what waits for a module that does not come is published in its order, whichever look for it would be the first", options, async (t) => {
  const { setTimeout } = globalThis;
  const waits = [300];
  let looks = 0;
  globalThis.setTimeout = (deed, ms, ...more) => setTimeout(deed, ms === 5_000 ? (looks += 1, waits.shift() ?? 5) : ms, ...more);
  t.after(() => { globalThis.setTimeout = setTimeout; });
  const broker = await startBroker(t);
  const give = withhold(t, "publishing", "fails");
  const { fanfare, is } = client(t, broker.url);
  fanfare.subscribe("other", () => {});
  await is("live");
  const published = [fanfare.publish("a", 1, { queue: true })];
  // It looks again only in a long while; the next one would do so soon.
  await eventually(() => looks === 1);
  published.push(fanfare.publish("a", 2, { queue: true }), fanfare.publish("a", 3, { queue: true }));
  give();
  const ids = await Promise.all(published);
  assert.deepEqual(ids.map(({ id }) => Number(id.split("-").at(-1))), [1, 2, 3]);
});

test("a mistake in options is an error, also where what would say which does not come", options, async (t) => {
  withhold(t, "options", "fails");
  const broker = await startBroker(t);
  const { fanfare, errors } = client(t, broker.url);
  const told = [];
  fanfare.subscribe("a", { snapshots: true, onError: ({ code }) => told.push(code) }, () => {});
  await eventually(() => told.length);
  assert.deepEqual([told, errors.length], [["invalid_option"], 1]);
});

test("R19 a connection whose tokens or schemas do not come yet waits for them, and opens nothing without", options, async (t) => {
  const broker = await startBroker(t, { FANFARE_AUTH_JWT_SECRET: SECRET });
  for (const part of ["tokens", "reading", "streams"]) {
    const give = withhold(t, part, "fails");
    const { fanfare, is, states } = client(t, broker.url, { token: () => tokenFor(SECRET), raw: true, ...part === "streams" && { WebSocket: null } });
    fanfare.subscribe("a", () => {});
    await eventually(() => states.some(({ state, reason }) => state === "waiting" && reason));
    assert.equal(fanfare.session, null);
    give();
    fanfare.reconnect();
    await is("live");
  }
});

test("R7 a client that is closed while something is loaded does nothing more", options, async (t) => {
  const Model = modelSocket(new ModelBroker());
  const give = withhold(t, "feed", "hangs");
  const { fanfare } = client(t, "http://broker.example", { WebSocket: Model });
  const loop = fanfare.subscribe("a");
  fanfare.close();
  give();
  for await (const _ of loop) assert.fail("nothing comes");
  assert.equal(Model.opened.length, 0);
  assert.ok(readdirSync(folder).length);
});

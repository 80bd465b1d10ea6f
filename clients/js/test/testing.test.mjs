// The broker for tests: what it has a client go through, in time that passes when the test says so.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mock, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Fanfare } from "../fanfare.js";
import { TestBroker } from "../fanfare/testing.js";
import { turns } from "../fanfare/faketime.js";
import { runPrinted } from "./harness.mjs";

/** A broker and a client in fake time, and what the client said. */
function start(t, { broker: given, ...options } = {}) {
  const broker = new TestBroker({ fakeTime: true, ...given });
  const fanfare = new Fanfare(broker.url, { WebSocket: broker.WebSocket, ...options });
  const said = { states: [], errors: [], gaps: [] };
  fanfare.on("state", (state) => said.states.push(state));
  fanfare.on("error", (error) => said.errors.push(error));
  fanfare.on("gap", (gap) => said.gaps.push(gap));
  t.after(() => { fanfare.close(); broker.close(); });
  const got = [];
  fanfare.subscribe("n", ({ data }) => got.push(data));
  return { broker, fanfare, got, ...said };
}

test("R27 time stands still until it is told to pass, and is given back", async (t) => {
  const before = [setTimeout, clearTimeout, setInterval, clearInterval, Date];
  const broker = new TestBroker({ fakeTime: true });
  t.after(() => broker.close());
  const begun = Date.now(), ran = [];
  setTimeout(() => ran.push("later"), 60_000);
  const every = setInterval(() => ran.push(`every ${Date.now() - begun}`), 20_000);
  setTimeout(() => { ran.push("first"); setTimeout(() => ran.push("from it"), 5_000); }, 1_000);
  setTimeout(() => ran.push("at once"));
  clearTimeout(setTimeout(() => ran.push("never"), 10));
  await broker.settled();
  assert.deepEqual([ran, Date.now() - begun], [["at once"], 0]);
  await broker.advance(45_000);
  assert.deepEqual(ran, ["at once", "first", "from it", "every 20000", "every 40000"]);
  assert.equal(new Date().getTime() - begun, 45_000);
  assert.ok(new Date() instanceof Date);
  clearInterval(every);
  await broker.advance(15_000);
  assert.equal(ran.at(-1), "later");
  broker.close();
  assert.deepEqual([setTimeout, clearTimeout, setInterval, clearInterval, Date], before);
  assert.equal(await Promise.race([new Promise((done) => setTimeout(done, 1, "real"))]), "real");
});

test("R27 a cut is resumed from, and an hour of waiting takes no time", async (t) => {
  const { broker, fanfare, got, gaps, states } = start(t);
  await fanfare.ready();
  await broker.publish("n", 1);
  assert.deepEqual(got, [1]);
  await broker.stop();
  await broker.publish("n", 2);
  await broker.advance(3_600_000);
  assert.equal(fanfare.state, "waiting");
  assert.ok(states.at(-1).attempt > 100);
  await assert.rejects(fanfare.publish("n", 0), { code: "offline" });
  await broker.start();
  await broker.advance(15_000);
  assert.equal(fanfare.state, "live");
  assert.deepEqual([got, gaps], [[1, 2], []]);
});

test("R27 a machine that slept finds its dead connection within seconds, and nothing is lost", async (t) => {
  const { broker, fanfare, got, states } = start(t);
  await fanfare.ready();
  await broker.publish("n", 1);
  await broker.sleep(8 * 3_600_000);
  await broker.publish("n", 2);
  assert.deepEqual([fanfare.state, got], ["live", [1]], "nobody told it");
  await broker.advance(4_500);
  assert.deepEqual([fanfare.state, got, states.find(({ state }) => state === "waiting").reason.code], ["live", [1, 2], "silence"]);
});

test("R27 a short sleep loses no connection", async (t) => {
  const { broker, fanfare, got, states } = start(t);
  await fanfare.ready();
  await broker.sleep(30_000);
  await broker.publish("n", 1);
  await broker.advance(30_000);
  assert.deepEqual([got, states.map(({ state }) => state)], [[1], ["connecting", "live"]]);
});

test("R27 a connection that swallows is found out by silence", async (t) => {
  const { broker, fanfare, got } = start(t);
  await fanfare.ready();
  await broker.stall();
  await broker.publish("n", 1);
  await broker.advance(24_000);
  assert.deepEqual([fanfare.state, got], ["live", []]);
  await broker.advance(15_000);
  assert.deepEqual([fanfare.state, got], ["live", [1]]);
});

test("R27 gaps are told, while live and behind a cut, and values come again", async (t) => {
  const { broker, fanfare, gaps } = start(t);
  const tile = [];
  fanfare.subscribe("a.*", { snapshot: true, onGap: ({ topics }) => tile.push(topics ?? "any"), onLive: () => tile.push("live") }, ({ data }) => tile.push(data));
  await fanfare.ready();
  await broker.publish("a.x", 1);
  await broker.publish("a.y", 2);
  await broker.gap("a.x");
  assert.deepEqual(tile.splice(0), ["live", 1, 2, ["a.x"], 1, "live"]);
  await broker.gap();
  assert.deepEqual(tile.splice(0), ["any", 1, 2, "live"]);
  await broker.stop();
  await broker.publish("a.x", 3);
  broker.forget();
  await broker.start();
  await broker.advance(20_000);
  assert.deepEqual(tile, ["any", 3, 2, "live"]);
  assert.deepEqual(gaps.map(({ patterns }) => patterns.join()), ["a.*", "n,a.*", "n", "a.*"]);
});

test("R27 a credential that is over is asked for anew, one that will be is renewed in place, and one that is refused is the end", async (t) => {
  const tokens = ["ann", "ann", "ann", "bad", "bad"];
  const authenticate = (token) => {
    if (token === "bad") throw new Error("nobody knows it");
    return { user: token };
  };
  const { broker, fanfare, errors, states } = start(t, { broker: { authenticate }, token: () => tokens.shift() });
  await fanfare.ready();
  await broker.warn();
  assert.deepEqual([tokens.length, states.length], [3, 2], "in place");
  await broker.expire();
  await broker.advance(2_000);
  assert.deepEqual([tokens.length, fanfare.state], [2, "live"]);
  await broker.expire();
  await broker.advance(60_000);
  assert.deepEqual([tokens.length, fanfare.state, errors.at(-1)], [1, "refused", { code: "unauthorized", message: "nobody knows it" }]);
});

test("R27 a refusal is for good or for a while, as its code says", async (t) => {
  const { broker, fanfare } = start(t);
  await fanfare.ready();
  await broker.refuse("unavailable");
  await broker.advance(30_000);
  assert.equal(fanfare.state, "waiting");
  await broker.refuse(null);
  await broker.advance(15_000);
  assert.equal(fanfare.state, "live");
  await broker.refuse("policy", "go away");
  await broker.advance(3_600_000);
  assert.equal(fanfare.state, "refused");
  await assert.rejects(fanfare.ready(), { code: "policy", message: "go away" });
  await assert.rejects(broker.refuse("tired"), TypeError);
});

test("R27 an announced stop moves clients before it comes", async (t) => {
  const { broker, fanfare, states } = start(t);
  await fanfare.ready();
  const first = fanfare.session;
  await broker.goaway(10_000);
  assert.notEqual(fanfare.session, first);
  assert.equal(broker.connections, 1);
  await broker.advance(20_000);
  assert.deepEqual(states.map(({ state }) => state), ["connecting", "live"]);
});

test("R27 trouble is told, and that it is over", async (t) => {
  const { broker, fanfare, states } = start(t);
  await fanfare.ready();
  await broker.trouble("the log is away");
  await broker.trouble();
  assert.deepEqual(states.slice(2).map(({ trouble }) => trouble), ["the log is away", null]);
});

test("R27 a pattern is refused and allowed again", async (t) => {
  const { broker, fanfare, errors } = start(t, { token: "ann", broker: { authenticate: (user) => ({ user }) } });
  broker.forbid("secret.>");
  const got = [];
  fanfare.subscribe("secret.a", ({ data }) => got.push(data));
  await fanfare.ready();
  assert.deepEqual(errors.map(({ code, pattern }) => [code, pattern]), [["forbidden", "secret.a"]]);
  broker.allow("secret.>");
  await fanfare.renew();
  await broker.settled();
  await broker.publish("secret.a", 1);
  assert.deepEqual(got, [1]);
});

test("R27 a value ends with its time, and what is bound a while after a cut", async (t) => {
  const { broker, fanfare } = start(t);
  await broker.publish("t", 1, { ttl_ms: 3_600_000 });
  await fanfare.publish("seat", "ann", { bound: true });
  assert.deepEqual([broker.latest("t").data, broker.latest("seat").data], [1, "ann"]);
  await broker.stop();
  await broker.advance(4_900);
  assert.equal(broker.latest("seat").data, "ann");
  await broker.advance(200);
  assert.equal(broker.latest("seat"), undefined);
  await broker.start();
  await broker.advance(20_000);
  await fanfare.publish("seat", "bob", { bound: true });
  fanfare.close();
  await broker.settled();
  assert.equal(broker.latest("seat"), undefined, "at once, where it says that it goes");
  await broker.advance(3_600_000 - 25_101);
  assert.equal(broker.latest("t").data, 1);
  await broker.advance(1);
  assert.equal(broker.latest("t"), undefined);
});

test("R27 it works under a framework's own timers", async (t) => {
  mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"], now: 1_700_000_000_000 });
  t.after(() => mock.timers.reset());
  const pass = async (ms) => {
    for (let n = 0; n < ms; n += 250) {
      mock.timers.tick(250);
      await turns();
    }
  };
  const broker = new TestBroker();
  const fanfare = new Fanfare(broker.url, { WebSocket: broker.WebSocket });
  t.after(() => { fanfare.close(); broker.close(); });
  const got = [];
  fanfare.subscribe("n", ({ data }) => got.push(data));
  await pass(250);
  await broker.publish("n", 1);
  await broker.drop();
  await broker.publish("n", 2);
  assert.deepEqual(got, [1]);
  await pass(1_250);
  assert.deepEqual([fanfare.state, got], ["live", [1, 2]]);
  mock.timers.setTime(Date.now() + 3_600_000);
  await broker.sleep(3_600_000);
  await broker.publish("n", 3);
  await pass(10_000);
  assert.deepEqual([fanfare.state, got], ["live", [1, 2, 3]]);
  await broker.publish("t", 1, { ttl_ms: 1_000 });
  await pass(1_250);
  assert.equal(broker.latest("t"), undefined);
  await assert.rejects(broker.advance(1), /timers of your framework/);
});

test("R27 event streams and plain requests come from it too", async (t) => {
  const { broker, fanfare, got } = start(t, { WebSocket: null });
  await fanfare.ready();
  await fanfare.publish("n", 1);
  await broker.drop();
  await broker.publish("n", 2);
  await broker.advance(2_000);
  assert.deepEqual([fanfare.state, got], ["live", [1, 2]]);
  await assert.rejects(fanfare.publish("n", 1, { bound: true }), { code: "bound_needs_websocket" });
  const { events } = await (await fetch(`${broker.url}v1/snapshot?match=n`)).json();
  assert.deepEqual(events.map(({ data }) => data), [2]);
  await broker.advance(120_000);
  assert.equal(fanfare.state, "live");
});

test("R27 two brokers have nothing of each other", async (t) => {
  const one = new TestBroker(), other = new TestBroker();
  t.after(() => { one.close(); other.close(); });
  await one.publish("a", 1);
  assert.notEqual(one.url, other.url);
  assert.equal(other.latest("a"), undefined);
});

test("R27 what the README prints of testing works as printed", { timeout: 60_000 }, async (t) => {
  const { stdout } = await runPrinted(t, "fanfare/testing");
  assert.match(stdout, /^# pass 1$/m);
});

test("R27 the README's tests of a React component pass in vitest as printed, with its timers and without, in any order", { timeout: 120_000 }, async (t) => {
  const here = fileURLToPath(new URL("..", import.meta.url));
  const folder = await mkdtemp(join(tmpdir(), "fanfare-vitest-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  await mkdir(join(folder, "node_modules"));
  await symlink(here, join(folder, "node_modules/fanfare"));
  for (const name of ["@testing-library", "jsdom", "react", "react-dom", "vitest"]) await symlink(join(here, "node_modules", name), join(folder, "node_modules", name));
  const [, printed] = /```jsx\n([^`]*vitest-environment[^]*?)```/.exec(await readFile(join(here, "README.md"), "utf8"));
  await writeFile(join(folder, "printed.test.jsx"), printed);
  // What a component left to tell when its timers went away keeps nobody else waiting.
  await writeFile(join(folder, "again.test.jsx"), printed.replace("  cleanup();\n", "  vi.useRealTimers();\n  cleanup();\n") + printed.slice(printed.indexOf("\ntest(")));
  await writeFile(join(folder, "vitest.config.js"), 'export default { esbuild: { jsx: "automatic" } };');
  const { stdout } = await promisify(execFile)(process.execPath, [join(here, "node_modules/vitest/vitest.mjs"), "run", "--reporter=tap-flat", "--no-file-parallelism"], { cwd: folder, env: { ...process.env, NODE_TEST_CONTEXT: "", CI: "1" } })
    .catch(({ stdout, stderr }) => assert.fail(`${stdout}${stderr}`));
  assert.equal(stdout.match(/^ok /gm)?.length, 6, stdout);
});

test("R27 presence that is off is told as a broker tells it", async (t) => {
  const { presence } = await import("../fanfare/stores.js");
  const { broker, fanfare } = start(t, { broker: { presence: ["room.*"] } });
  const [off, on] = [presence(fanfare, "hall"), presence(fanfare, "room.a")];
  for (const store of [off, on]) t.after(store.subscribe(() => {}));
  await broker.advance(1000);
  assert.deepEqual([off.current.error?.code, on.current.error], ["presence_off", null]);
});

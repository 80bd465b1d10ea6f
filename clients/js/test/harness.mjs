// What the tests of the client need: a broker of their own, a way to it that breaks, sockets that are watched.
//
// Nothing sleeps for a fixed time: `eventually` asks until the answer is yes. FANFARE_BIN names another broker than
// target/debug/fanfare.

import { spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer, connect } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { Fanfare } from "../fanfare.js";

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
export const FANFARE_BIN = resolve(process.env.FANFARE_BIN ?? join(ROOT, "target/debug/fanfare"));
const PATIENCE_MS = 45_000;

/** Asks `question` until its answer is truthy, and returns that. */
export async function eventually(question, what = question.toString()) {
  // Not by the time of day, which some tests set.
  const deadline = performance.now() + PATIENCE_MS;
  for (;;) {
    const answer = await question();
    if (answer) return answer;
    if (performance.now() > deadline) throw new Error(`still not so after ${PATIENCE_MS} ms: ${what}`);
    await new Promise((next) => setTimeout(next, 10));
  }
}

/** A broker that ends with the test. `restart()` has it again on the same port, with the same data unless `wiped`. */
export async function startBroker(t, env = {}) {
  let directory = await mkdtemp(join(tmpdir(), "fanfare-js-"));
  let port = 0, child, url;
  async function start() {
    const own = Object.entries(process.env).filter(([name]) => !name.startsWith("FANFARE_"));
    child = spawn(FANFARE_BIN, [], {
      cwd: directory,
      env: { ...Object.fromEntries(own), FANFARE_SERVER_LISTEN: `127.0.0.1:${port}`, FANFARE_HISTORY_PATH: join(directory, "history"), ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "", isOver = false;
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => { output += text; });
    child.on("error", (error) => { output += error; isOver = true; });
    child.on("exit", () => { isOver = true; });
    await eventually(() => /http:\/\/127\.0\.0\.1:[1-9]\d*\D/.test(output) || isOver, "the broker says where it serves");
    [url] = /http:\/\/127\.0\.0\.1:[1-9]\d*(?=\D)/.exec(output) ?? [];
    if (!url) throw new Error(`the broker ended before it served:\n${output}`);
    port = Number(new URL(url).port);
  }
  const isThere = () => child.pid && child.exitCode === null && child.signalCode === null;
  // Not by `child.kill`, which sends one signal and no second one in Deno: it answers false once `child.killed` is true.
  const signal = (name) => { if (isThere()) process.kill(child.pid, name); };
  async function stop(name = "SIGKILL") {
    if (!isThere()) return;
    const ended = new Promise((done) => child.on("exit", done));
    signal(name);
    await ended;
  }
  t.after(async () => {
    signal("SIGCONT");
    await stop();
    await rm(directory, { recursive: true, force: true });
  });
  await start();
  return {
    url, port, stop, start,
    /** Sends a signal that ends nothing, such as SIGSTOP. */
    signal,
    async restart({ wiped = false, signal: name } = {}) {
      await stop(name);
      if (wiped) await rm(join(directory, "history"), { recursive: true, force: true });
      await start();
    },
  };
}

/** A port that was free a moment ago, and not one of those that are given to who asks for any: somebody else may have been given it by then. */
export async function freePort() {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 20_000);
    const server = createServer();
    const isFree = await new Promise((said) => server.on("error", () => said(false)).listen(port, "127.0.0.1", () => said(true)));
    if (!isFree) continue;
    await new Promise((closed) => server.close(closed));
    return port;
  }
}

/** A Redis for several brokers, which ends with the test; returns what is said of it to each of them. */
export async function startRedis(t) {
  const port = await freePort();
  const child = spawn("redis-server", ["--port", `${port}`, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"], { cwd: tmpdir(), stdio: "ignore" });
  t.after(() => child.kill("SIGKILL"));
  const answers = () => new Promise((said) => {
    const socket = connect(port, "127.0.0.1", () => { socket.destroy(); said(true); }).on("error", () => said(false));
  });
  await eventually(answers, "Redis answers");
  return { FANFARE_REDIS_URL: `redis://127.0.0.1:${port}` };
}

/** Publishes many events over HTTP, `[topic, data]` each, in batches. */
export async function publishAll({ url }, events, headers = {}) {
  for (let at = 0; at < events.length; at += 500) {
    const batch = events.slice(at, at + 500).map(([topic, data]) => ({ topic, data }));
    const answer = await fetch(`${url}/v1/events`, { method: "POST", headers: { "Content-Type": "application/json", ...headers }, body: JSON.stringify({ events: batch }) });
    if (!answer.ok) throw new Error(`publish: ${answer.status} ${await answer.text()}`);
  }
}

/** Publishes over HTTP, and returns the event's id. */
export async function publish({ url }, topic, data, headers = {}) {
  const answer = await fetch(`${url}/v1/topics/${topic}/events`, {
    method: "POST", headers: { "Content-Type": "application/json", ...headers }, body: JSON.stringify(data),
  });
  const said = await answer.json();
  if (!answer.ok) throw new Error(`publish: ${answer.status} ${said.detail}`);
  return said.id;
}

/**
 * A way to `port` that may be cut (all that goes through it ends), swallow (nothing comes through, and nobody is told; or nothing of
 * what is open: `blackhole`), end each connection behind so many bytes from the broker (`bytes`), or
 * take the upgrade out of requests, as proxies do that know no WebSockets. It may lead elsewhere from some time on (`port`).
 */
export async function startProxy(t, port) {
  const open = new Set(), fars = new Set(), holes = new WeakSet();
  const way = { port, strips: false, swallows: false, bytes: Infinity, connects: 0 };
  const server = createServer((near) => {
    way.connects += 1;
    const far = connect(way.port, "127.0.0.1");
    let left = way.bytes;
    fars.add(far);
    far.on("close", () => fars.delete(far));
    for (const [from, to] of [[near, far], [far, near]]) {
      open.add(from);
      // A way that swallows tells nobody of an end either.
      from.on("close", () => { open.delete(from); if (!way.swallows && !holes.has(from)) to.destroy(); });
      from.on("error", () => to.destroy());
      from.on("data", (bytes) => {
        if (way.swallows || holes.has(from)) return;
        if (from === far && (left -= bytes.length) < 0) {
          far.pause();
          near.write(bytes.subarray(0, left));
          // What came before the end is read by then: not every implementation reads it behind that.
          return setTimeout(() => near.destroy(), 50);
        }
        const isHandshake = way.strips && from === near && /^upgrade: websocket/im.test(bytes.toString("latin1"));
        to.write(isHandshake ? Buffer.from(bytes.toString("latin1").replace(/^(upgrade|connection):.*\r\n/gim, ""), "latin1") : bytes);
      });
    }
  });
  const listen = (at) => new Promise((ready) => server.listen(at, "127.0.0.1", ready));
  await listen(0);
  const own = server.address().port;
  const destroy = () => { for (const socket of open) socket.destroy(); };
  t.after(() => new Promise((done) => { server.listening ? server.close(done) : done(); destroy(); }));
  return Object.assign(way, {
    url: `http://127.0.0.1:${own}`,
    /** Ends what is open; new connections come through. */
    drop: destroy,
    /** What is open comes to nothing, and nobody is told; new connections come through. */
    blackhole: () => { for (const socket of open) holes.add(socket); },
    /** Keeps everything that comes from the broker, and then hands it on. */
    hold: () => { for (const socket of fars) socket.pause(); },
    flow: () => { for (const socket of fars) socket.resume(); },
    /** Ends what is open and refuses what is new, until `mend`. */
    cut: () => new Promise((done) => { server.close(done); destroy(); }),
    mend: () => listen(own),
  });
}

/** A WebSocket whose frames are kept: `sent` by the client, `heard` from the broker, of all sockets together. */
export function watchedSocket() {
  const watched = class extends WebSocket {
    static sent = [];
    static heard = [];
    static opened = [];
    constructor(...given) {
      super(...given);
      watched.opened.push(this);
      this.addEventListener("message", ({ data }) => watched.heard.push(JSON.parse(data)));
    }
    send(text) {
      watched.sent.push(JSON.parse(text));
      super.send(text);
    }
    static of(op) {
      return watched.sent.filter((frame) => frame.op === op);
    }
  };
  return watched;
}

/** The time of day, which may jump: `aheadMs` is how far it is ahead of the truth. */
export function startClock(t) {
  const { now } = Date;
  const clock = { aheadMs: 0 };
  Date.now = () => now() + clock.aheadMs;
  t.after(() => { Date.now = now; });
  return clock;
}

/** WebSockets to a model of the broker, in this process: as many and as fast as one likes. `welcome` is what it says first. */
export function modelSocket(broker, welcome = {}) {
  return class ModelSocket {
    static opened = [];
    readyState = 0;

    constructor() {
      ModelSocket.opened.push(this);
      setImmediate(() => {
        if (this.readyState) return;
        this.readyState = 1;
        this.session = broker.connect();
        this.session.say({ op: "welcome", session: `s${ModelSocket.opened.length}`, heartbeat: 25, ...welcome });
        this.pump();
      });
    }

    /** What the broker has to say, all of it. */
    pump() {
      const { session } = this;
      while (this.readyState === 1 && (session.out.length || session.catchups.length)) {
        if (session.out.length) this.onmessage?.({ data: session.out.shift() });
        else session.step(session.catchups[0]);
      }
    }

    send(text) {
      const request = JSON.parse(text);
      if (request.op === "auth") this.session.say({ op: "ack", ref: request.ref });
      else if (request.op === "ping") this.session.say({ op: "pong", ref: request.ref });
      else if (request.op === "publish") this.session.say({ op: "ack", ref: request.ref, id: broker.publish(request.topic).id });
      else this.session.ask(request);
      setImmediate(() => this.pump());
    }

    close() {
      this.readyState = 3;
      if (broker.session === this.session) broker.cut();
    }

    /** The connection breaks. */
    break() {
      this.close();
      this.onclose?.({ code: 1006, reason: "" });
    }
  };
}

/** A client that ends with the test, and what it said: `states`, `errors`, `gaps`. */
export function client(t, url, options = {}) {
  const fanfare = new Fanfare(url, options);
  const said = { states: [], errors: [], gaps: [] };
  fanfare.on("state", (state) => said.states.push(state));
  fanfare.on("error", (error) => said.errors.push(error));
  fanfare.on("gap", (gap) => said.gaps.push(gap));
  t.after(() => fanfare.close());
  const is = (state) => eventually(() => fanfare.state === state, `the state is ${state}`);
  /** Until it is in a state or has told of it from now on: one that passes may be over between two looks. */
  const tells = (state) => {
    const from = said.states.length;
    return eventually(() => fanfare.state === state || said.states.slice(from).some((told) => told.state === state), `the state was ${state}`);
  };
  /** Why it waited last; it may have gone on since. */
  const why = () => said.states.findLast(({ state }) => state === "waiting")?.reason.code;
  return Object.assign(said, { fanfare, is, tells, why });
}

/** A token signed with `secret` for so many seconds. */
export function tokenFor(secret, { sub = "ada", seconds = 3600, subscribe = [">"], publish: may = [">"] } = {}) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const body = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub, exp: Math.floor(Date.now() / 1000) + seconds, jti: `${Math.random()}`, fanfare: { subscribe, publish: may } })}`;
  return `${body}.${createHmac("sha256", secret).update(body).digest("base64url")}`;
}

/**
 * Runs the first example of the README that imports `name`, as it is printed but for the broker's address, until its output
 * is as `until` says or it ends; returns the output and the exit code.
 */
export async function runPrinted(t, name, { url, until } = {}) {
  const readme = await readFile(join(ROOT, "clients/js/README.md"), "utf8");
  const [example] = [...readme.matchAll(/```js\n([^]*?)```/g)].map(([, text]) => text).filter((text) => text.includes(`from "${name}"`));
  if (!example) throw new Error(`the README has no example with ${name}`);
  const script = url ? example.replaceAll("https://push.example", url) : example;
  const runner = /from "node:test"/.test(example) ? ["--test-reporter=tap"] : [];
  const child = spawn(process.execPath, ["--experimental-websocket", "--no-warnings", ...runner, "--input-type=module", "-e", script], {
    cwd: join(ROOT, "clients/js"),
    // One that knows that a test runs it would report in a form of the runner's own.
    env: { ...process.env, NODE_TEST_CONTEXT: "" },
  });
  t.after(() => child.kill());
  let stdout = "", stderr = "", code;
  child.stdout.on("data", (text) => { stdout += text; });
  child.stderr.on("data", (text) => { stderr += text; });
  child.on("close", (status) => { code = status ?? -1; });
  await eventually(() => code !== undefined || until?.test(stdout), `the example of ${name} prints ${until}: ${stdout}${stderr}`);
  if (code) throw new Error(`the example of ${name} ended with ${code}:\n${stdout}${stderr}`);
  return { stdout, stderr, code };
}

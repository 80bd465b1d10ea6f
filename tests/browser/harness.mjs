// What every browser test needs: a broker of its own, a browser, a page that is watched, curl.
//
// Nothing here sleeps for a fixed time: `eventually` asks until the answer is yes.
//
// To run: `cargo build --bin fanfare --example host-dashboard`, then here `npm ci` and `npm test`.
// FANFARE_BIN, HOST_DASHBOARD_BIN and CHROMIUM_BIN name other binaries than those built here.

import { execFile, spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, request as ask } from "node:http";
import { connect, createServer as createTcpServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import compression from "compression";
import { chromium } from "playwright-core";

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));
export const FANFARE_BIN = resolve(process.env.FANFARE_BIN ?? join(ROOT, "target/debug/fanfare"));
const HOST_DASHBOARD_BIN = resolve(process.env.HOST_DASHBOARD_BIN ?? join(ROOT, "target/debug/examples/host-dashboard"));
const CHROMIUM_BIN = process.env.CHROMIUM_BIN ?? "/usr/bin/chromium";
const PATIENCE_MS = 45_000;
/** An example may have to fetch what it needs first. */
const PREPARE_MS = 90_000;

/** The first `http://127.0.0.1:PORT` in what a program prints; the character behind it proves it whole. */
const PRINTED_URL = /http:\/\/127\.0\.0\.1:[1-9]\d*(?=\D)/;

/** Asks `question` until its answer is truthy, and returns that. */
export async function eventually(question, what = question.toString(), patienceMs = PATIENCE_MS) {
  const deadline = Date.now() + patienceMs;
  for (;;) {
    const answer = await question();
    if (answer) return answer;
    if (Date.now() > deadline) throw new Error(`still not so after ${patienceMs} ms: ${what}`);
    await new Promise((next) => setTimeout(next, 20));
  }
}

/** Asks `question` in the page until its answer is truthy, and returns that. */
export function eventuallyIn(page, question, argument) {
  return eventually(() => page.evaluate(question, argument), question.toString());
}

/** The same, asked by the page itself from now on, and often: for what passes, to be begun before what brings it about. */
export function onceIn(page, question, argument) {
  return page.waitForFunction(question, argument, { polling: 10 });
}

// ---- Ends -------------------------------------------------------------------------------------

const undoings = new WeakMap();

/** Has `undo` done when the test `t` ends: the last one first, for it may stand on those before, and each whatever becomes of others. */
export function atEnd(t, undo) {
  if (!undoings.has(t)) {
    undoings.set(t, []);
    t.after(async () => {
      const failures = [];
      for (const undo of undoings.get(t).reverse()) await Promise.resolve().then(undo).catch((error) => failures.push(error));
      if (failures.length > 0) throw failures[0];
    });
  }
  undoings.get(t).push(undo);
}

// ---- Programs ---------------------------------------------------------------------------------

/** A child process that says its address when it serves. */
export class Program {
  constructor(bin, args, { cwd, env }) {
    this.output = "";
    this.child = spawn(bin, args, { cwd, env, stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream.setEncoding("utf8");
      stream.on("data", (text) => { this.output += text; });
    }
    this.ended = new Promise((resolve) => {
      this.child.on("error", (error) => { this.output += `${error}\n`; resolve(error.code); });
      this.child.on("exit", (code, signal) => resolve(signal ?? code));
    });
    this.ended.then(() => { this.isOver = true; });
  }

  async url() {
    await eventually(() => PRINTED_URL.test(this.output) || this.isOver, `an address in the output of ${this.child.spawnfile}`);
    const [url] = this.output.match(PRINTED_URL) ?? [];
    if (!url) throw new Error(`${this.child.spawnfile} ended before it served:\n${this.output}`);
    return url;
  }

  /** Sends a signal and waits for the end; returns the exit code, or the signal's name. */
  stop(signal = "SIGTERM") {
    if (!this.isOver) this.child.kill(signal);
    return this.ended;
  }
}

/** This environment without any setting of the programs under test. */
export function cleanEnvironment(extra) {
  const own = Object.entries(process.env).filter(([name]) => !/^(FANFARE_|HOST_DASHBOARD_|RUST_LOG$)/.test(name));
  return { ...Object.fromEntries(own), ...extra };
}

export async function temporaryDirectory(t) {
  const directory = await mkdtemp(join(tmpdir(), "fanfare-browser-"));
  atEnd(t, () => rm(directory, { recursive: true, force: true }));
  return directory;
}

/**
 * A broker that ends with the test `t`, configured by `env` and the text of a file, `config`. `restart()` gives the next one on the same port and data.
 *
 * @returns {Promise<{url: string, ws: string, port: number, stop: Function, hang: Function, restart: Function}>}
 */
export async function startBroker(t, { env = {}, port = 0, directory, config } = {}) {
  directory ??= await temporaryDirectory(t);
  if (config) await writeFile(join(directory, "fanfare.toml"), config);
  const program = new Program(FANFARE_BIN, [], {
    cwd: directory,
    env: cleanEnvironment({
      FANFARE_SERVER_LISTEN: `127.0.0.1:${port}`,
      FANFARE_HISTORY_PATH: join(directory, "history"),
      ...env,
    }),
  });
  atEnd(t, () => program.stop("SIGKILL"));
  const url = await program.url();
  return {
    url,
    ws: url.replace("http", "ws"),
    port: Number(new URL(url).port),
    stop: (signal) => program.stop(signal),
    /** Has it stand still, with all that it has open. */
    hang: () => program.child.kill("SIGSTOP"),
    async restart(signal) {
      await program.stop(signal);
      return startBroker(t, { env, port: Number(new URL(url).port), directory });
    },
  };
}

/** The host dashboard of the examples, publishing to `brokerUrl`. */
export async function startHostDashboard(t, brokerUrl, { args = [], env = {} } = {}) {
  const program = new Program(HOST_DASHBOARD_BIN, ["--url", brokerUrl, "--listen", "127.0.0.1:0", ...args], {
    env: cleanEnvironment(env),
  });
  atEnd(t, () => program.stop("SIGKILL"));
  return { url: await program.url(), printed: () => program.output, stop: (signal) => program.stop(signal) };
}

/**
 * An example, by the one command that its README says. `killBroker()` ends its broker for a while, as a crash would, and `kill("publisher")` another part of it, until
 * `isBack`; `env` is for the example's own processes.
 *
 * @returns {Promise<{url: string, broker: string, printed: Function, killBroker: Function, kill: Function, stop: Function}>}
 */
export async function startExample(t, name, { env = {} } = {}) {
  const program = new Program(join(ROOT, "examples/run"), [name, "--port", "0"], { cwd: ROOT, env: cleanEnvironment({ FANFARE_BIN, ...env }) });
  atEnd(t, () => program.stop());
  const said = (pattern) => eventually(() => {
    if (program.isOver) throw new Error(`examples/run ${name} ended:\n${program.output}`);
    return [...program.output.matchAll(pattern)].at(-1);
  }, `${pattern} in the output of examples/run ${name}`, PREPARE_MS);
  const broker = () => said(/the broker is process (\d+) at (\S+);/g);
  const [[, url], [, , at]] = await Promise.all([said(/the page is at (\S+)\n/g), broker()]);
  return {
    url,
    broker: at,
    printed: () => program.output,
    async killBroker() { process.kill((await broker())[1], "SIGKILL"); },
    async kill(part) {
      const [, pid] = await said(new RegExp(`the ${part} is process (\\d+)`, "g"));
      process.kill(pid, "SIGKILL");
      return { isBack: () => eventually(async () => (await said(new RegExp(`the ${part} is process (\\d+)`, "g")))[1] !== pid, `the ${part} is started again`) };
    },
    stop: () => program.stop(),
  };
}

/**
 * A port that was free a moment ago, for what must know its peer's address before the peer runs. Not one of those that are given to who asks
 * for any, which somebody else may have been given by then.
 */
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

/**
 * A way to `port` that can be cut: every connection through it ends at once and new ones are
 * refused, until it is mended. What goes wrong on the way, with both ends alive. Or it leads on to another port from then on.
 */
export async function startProxy(t, port) {
  const open = new Set();
  const server = createTcpServer((near) => {
    const far = connect(port, "127.0.0.1");
    for (const [from, to] of [[near, far], [far, near]]) {
      open.add(from);
      from.on("close", () => { open.delete(from); to.destroy(); });
      from.on("error", () => to.destroy());
      from.pipe(to);
    }
  });
  const listen = (at) => new Promise((ready) => server.listen(at, "127.0.0.1", ready));
  const cut = () => new Promise((closed) => {
    server.close(closed);
    for (const socket of open) socket.destroy();
  });
  /** What is open goes nowhere from here on, and nobody is told; what is new comes through. */
  const swallow = () => { for (const socket of open) socket.unpipe().resume(); };
  await listen(0);
  const own = server.address().port;
  atEnd(t, () => { if (server.listening) return cut(); });
  return { url: `http://127.0.0.1:${own}`, ws: `ws://127.0.0.1:${own}`, cut, swallow, mend: () => listen(own), leadTo: (other) => { port = other; } };
}

const processes = new WeakMap();

/** The process of a page: which one that is shows by the work that the page has it do, however slow this machine is. It is found once. */
export async function processOf(browser, page) {
  if (processes.has(page)) return processes.get(page);
  const protocol = await browser.newBrowserCDPSession();
  const work = async () => {
    const { processInfo } = await protocol.send("SystemInfo.getProcessInfo");
    return new Map(processInfo.filter(({ type }) => type === "renderer").map(({ id, cpuTime }) => [id, cpuTime]));
  };
  let last;
  const id = await eventually(async () => {
    const before = await work();
    await page.evaluate(() => { for (const end = performance.now() + 100; performance.now() < end;); });
    // One that the browser has just started, for a page that may come, has had work to do as well, and the page is in none of these.
    const done = [...await work()].filter(([each]) => before.has(each)).map(([each, now]) => [each, now - before.get(each)]);
    const [[most, seconds], [, next] = [0, 0]] = done.sort(([, a], [, b]) => b - a);
    const isSame = most === last;
    last = seconds >= 0.02 && seconds > 2 * next ? most : undefined;
    return isSame && last;
  }, "the process of the page does most, twice");
  await protocol.detach();
  processes.set(page, id);
  return id;
}

/** Stops the process of a page for real; returns what lets it go on. */
export async function stopProcess(browser, page) {
  const id = await processOf(browser, page);
  process.kill(id, "SIGSTOP");
  let isStopped = true;
  return () => { if (isStopped) isStopped = !process.kill(id, "SIGCONT"); };
}

/** A proxy that asks for a password by basic authentication, and passes it on with all else. */
export function startPasswordProxy(t, port, password) {
  const expected = `Basic ${btoa(password)}`;
  return startHttpProxy(t, port, {
    refusal: ({ headers }) => (headers.authorization === expected ? null : [401, { "www-authenticate": "Basic realm=here" }]),
  });
}

/** A proxy that has what is at `port` under a prefix, such as `/fanfare`, and nothing beside it. */
export function startPrefixProxy(t, port, prefix) {
  return startHttpProxy(t, port, {
    refusal: ({ url }) => (url.startsWith(`${prefix}/`) ? null : [404, {}]),
    pathOf: (url) => url.slice(prefix.length),
  });
}

/** A proxy that passes on what it does not refuse, at the path that `pathOf` says. */
async function startHttpProxy(t, port, { refusal, pathOf = (url) => url }) {
  const server = createServer((request, response) => {
    const refused = refusal(request);
    if (refused) {
      response.writeHead(...refused).end();
      return;
    }
    const { method, headers } = request;
    const path = pathOf(request.url);
    const onward = ask({ port, method, path, headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    onward.on("error", () => response.destroy());
    request.pipe(onward);
  });
  server.on("upgrade", (request, near, early) => {
    if (refusal(request)) {
      near.destroy();
      return;
    }
    const far = connect(port, "127.0.0.1");
    const head = request.rawHeaders.map((text, at) => (at % 2 ? `${text}\r\n` : `${text}: `)).join("");
    far.write(`${request.method} ${pathOf(request.url)} HTTP/1.1\r\n${head}\r\n`);
    far.write(early);
    for (const [from, to] of [[near, far], [far, near]]) {
      from.on("close", () => to.destroy());
      from.on("error", () => to.destroy());
      from.pipe(to);
    }
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  atEnd(t, () => { server.closeAllConnections(); server.close(); });
  return `http://127.0.0.1:${server.address().port}`;
}

/** A proxy as Node's frameworks make one: what it passes on goes through the `compression` middleware. */
export async function startCompressingProxy(t, port) {
  const compress = compression({ threshold: 0 });
  const server = createServer((request, response) => compress(request, response, () => {
    const { method, url: path, headers } = request;
    const onward = ask({ port, method, path, headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    onward.on("error", () => response.destroy());
    response.on("close", () => onward.destroy());
    request.pipe(onward);
  }));
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  atEnd(t, () => { server.closeAllConnections(); server.close(); });
  return `http://127.0.0.1:${server.address().port}`;
}

/** haproxy with the file that is shipped, before one node. */
export async function startBalancer(t, port) {
  const own = await freePort();
  const balancer = new Program("haproxy", ["-f", join(ROOT, "examples/cluster/haproxy.cfg")], {
    env: cleanEnvironment({ BIND: `127.0.0.1:${own}`, NODE_1: `127.0.0.1:${port}` }),
  });
  atEnd(t, () => balancer.stop());
  const url = `http://127.0.0.1:${own}`;
  await eventually(() => fetch(`${url}/health/ready`).then(({ ok }) => ok, () => false), "the balancer finds the node");
  return url;
}

/** An empty page on another port: another origin. */
export async function startOtherOrigin(t) {
  const server = createServer((_, response) => {
    response.setHeader("content-type", "text/html");
    response.end("<!doctype html><link rel=icon href='data:,'><title>another origin</title>");
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  atEnd(t, () => { server.closeAllConnections(); server.close(); });
  return `http://127.0.0.1:${server.address().port}`;
}

/** Runs curl and returns the status and the body, read as JSON where it is. */
export async function curl(...args) {
  const { stdout } = await promisify(execFile)("curl", ["-sS", "-m", "10", "-w", "\n%{http_code}", ...args]);
  const end = stdout.lastIndexOf("\n");
  let body = stdout.slice(0, end);
  try { body = JSON.parse(body); } catch { /* not JSON: as it is */ }
  return { status: Number(stdout.slice(end + 1)), body };
}

/** Publishes JSON data with curl, which must be accepted. */
export async function publish(url, topic, data, ...args) {
  const answer = await curl("-H", "Content-Type: application/json", "--data-raw", JSON.stringify(data),
    `${url}/v1/topics/${encodeURIComponent(topic)}/events`, ...args);
  if (answer.status !== 201) throw new Error(`publish: ${answer.status} ${JSON.stringify(answer.body)}`);
  return answer.body;
}

/** A token of ada's, good for ten minutes, that grants what `fanfare` says. */
export function signedToken(secret, fanfare) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const claims = { sub: "ada", exp: Math.floor(Date.now() / 1000) + 600, fanfare };
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
}

// ---- The browser ------------------------------------------------------------------------------

/** One Chromium for a test file. */
export function launchBrowser() {
  return chromium.launch({
    executablePath: CHROMIUM_BIN,
    headless: true,
    args: [
      "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync",
    ],
  });
}

/** Adds to `printed` what each call of the page's `console.log` and the like is given, as values. */
export function collectPrinted(page, printed) {
  page.on("console", async (message) => {
    // A page that is closed meanwhile has printed nothing that anybody waits for.
    const values = await Promise.all(message.args().map((each) => each.jsonValue())).catch(() => undefined);
    if (values) printed.push(values);
  });
}

/**
 * A page in a context of its own, which ends with the test. `complaints` fills with uncaught
 * errors, console errors and violations of the page's content security policy; `hosts` with every
 * host that was asked for anything.
 */
export async function openPage(t, browser, url, options = {}) {
  const context = await browser.newContext(options);
  atEnd(t, () => context.close());
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  const complaints = [];
  const hosts = new Set();
  page.on("pageerror", (error) => complaints.push(`uncaught: ${error.message}`));
  page.on("console", (message) => { if (message.type() === "error") complaints.push(`console: ${message.text()}`); });
  page.on("request", (request) => {
    const { protocol, host } = new URL(request.url());
    if (protocol !== "data:") hosts.add(host);
  });
  page.on("websocket", (socket) => hosts.add(new URL(socket.url()).host));
  await page.addInitScript(() => {
    globalThis.cspViolations = [];
    addEventListener("securitypolicyviolation", (violation) => {
      globalThis.cspViolations.push(`${violation.violatedDirective}: ${violation.blockedURI}`);
    });
  });
  await page.goto(url);
  return {
    page,
    hosts,
    async complaints() {
      const violations = await page.evaluate(() => globalThis.cspViolations);
      return [...complaints, ...violations.map((violation) => `csp: ${violation}`)];
    },
  };
}

/** Signs in to the console. */
export async function signIn(page, credential) {
  await page.click("#sign-in");
  await page.fill("#token", credential);
  await page.click("#token-apply");
  await page.locator("#sign-out").waitFor();
  // Until it is known who that is, and what is typed goes there.
  await page.locator("#dialog").waitFor({ state: "hidden" });
}

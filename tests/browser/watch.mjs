// What an operator looks at while something goes wrong: the console, `fanfare top`, and the alerts of a Prometheus. No log.

import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { atEnd, cleanEnvironment, eventually, FANFARE_BIN, freePort, openPage, Program, ROOT, signIn, temporaryDirectory } from "./harness.mjs";

/** How much later than a cause it may be told: so many of what each watcher gets once a second. */
const SECONDS = 5;
const SCRAPES = 2;

/** A Redis that keeps nothing. */
export async function startRedis(t) {
  const port = await freePort();
  const redis = new Program("redis-server", ["--port", `${port}`, "--save", "", "--appendonly", "no"], { cwd: await temporaryDirectory(t), env: process.env });
  atEnd(t, () => redis.stop("SIGKILL"));
  await eventually(() => redis.output.includes("Ready to accept connections"), "Redis is ready");
  return { url: `redis://127.0.0.1:${port}`, kill: () => redis.stop("SIGKILL"), hang: () => redis.child.kill("SIGSTOP") };
}

/** A client that connects to a broker by hand, and reads nothing once it is let in. */
export async function sleeper(t, { port }, query) {
  const socket = connect(port, "127.0.0.1");
  atEnd(t, () => socket.destroy());
  socket.on("error", () => {});
  const answer = new Promise((first, gone) => { socket.once("data", first); socket.once("close", gone); });
  const key = Buffer.from("sixteen bytes!!!").toString("base64");
  socket.write(`GET /v1/ws?${query} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${key}\r\n\r\n`);
  assert.match(`${await answer}`, /^HTTP\/1\.1 101 /);
  return socket.pause();
}

/** Watches a broker by all three with an operator's key, with Prometheus scraping `brokers` beside it. */
export async function watch(t, browser, broker, { key, brokers = [broker] }) {
  const [console, top, prometheus] = await Promise.all([watchConsole(t, browser, broker, key), watchTop(t, broker, key), watchAlerts(t, brokers, key)]);
  return {
    /** Does what `cause` does, and has each of the three say so in time; without an `alert`, both of those that people look at. */
    async told(cause, expected) {
      assert.doesNotMatch(await console.first(), expected.console);
      assert.doesNotMatch(top.newest(), expected.top);
      assert.deepEqual((await prometheus.firing()).filter(({ name }) => name === expected.alert), []);
      await cause();
      const begun = Date.now();
      // All that are silent, and not the first of them alone.
      const told = await Promise.allSettled([console.says(expected.console), top.says(expected.top), expected.alert && prometheus.fires(expected.alert, begun)]);
      const missing = told.filter(({ status }) => status === "rejected").map(({ reason }) => reason.message);
      assert.equal(missing.length, 0, missing.join("\n\n"));
    },
  };
}

/**
 * The overview in Chromium. Its seconds are those of `$sys.metrics`: a page that the machine leaves without a processor is late by a clock on the wall,
 * and not by what it has heard. The same holds for the pictures of `top`.
 */
async function watchConsole(t, browser, broker, key) {
  const { page } = await openPage(t, browser, "about:blank");
  const heard = new Map();
  page.on("websocket", (socket) => socket.on("framereceived", ({ payload }) => {
    const { topic, snapshot, data } = JSON.parse(payload);
    if (topic === "$sys.metrics" && !snapshot) heard.set(data.node, (heard.get(data.node) ?? 0) + 1);
  }));
  await page.goto(broker.url);
  await signIn(page, key);
  await page.locator(".verdict").waitFor();
  const first = () => page.evaluate(() => document.querySelector(".verdict li")?.innerText ?? "");
  const seconds = () => Math.max(...heard.values());
  await eventually(() => heard.size, "the console hears of a node");
  return {
    first,
    async says(words) {
      const begun = seconds();
      await eventually(async () => words.test(await first()), `the console says ${words}`).catch(async (error) => { throw new Error(`${error.message}, but: ${await first()}`); });
      assert.ok(seconds() - begun <= SECONDS, `the console says ${words} after ${seconds() - begun} s`);
    },
  };
}

/** `fanfare top` in a terminal of the size that all have, which draws a picture a second. */
async function watchTop(t, broker, key) {
  const command = `stty cols 80 rows 24; exec '${FANFARE_BIN}' top --url ${broker.url}`;
  const env = cleanEnvironment({ NO_COLOR: "1", TERM: "xterm", FANFARE_TOKEN: key });
  const terminal = new Program("script", ["-qefc", command, "/dev/null"], { cwd: ROOT, env });
  atEnd(t, () => terminal.stop("SIGKILL"));
  // Each begins in the corner and ends by clearing what is below it; a line that goes on is indented.
  const pictures = () => terminal.output.split("\x1b[H").slice(1).filter((text) => text.includes("\x1b[J")).map((text) => text.replace(/(\x1b\[K)?\r?\n {4}/g, " "));
  const newest = () => pictures().at(-1) ?? "";
  await eventually(() => /nodes \d/.test(newest()) || terminal.isOver, "a picture of top");
  return {
    newest,
    async says(words) {
      const begun = pictures().length;
      const isSaid = () => pictures().findIndex((picture, at) => at >= begun - 1 && words.test(picture));
      await eventually(() => isSaid() >= 0, `top says ${words}`).catch((error) => { throw new Error(`${error.message}, but: ${newest()}`); });
      assert.ok(isSaid() - begun < SECONDS, `top says ${words} in picture ${isSaid() - begun + 1}`);
    },
  };
}

/** A Prometheus with the alerts of `deploy/prometheus`. */
async function watchAlerts(t, brokers, key) {
  const directory = await temporaryDirectory(t);
  const targets = brokers.map(({ port }) => `'127.0.0.1:${port}'`).join(", ");
  await writeFile(join(directory, "prometheus.yml"), `
global: {scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 500ms}
rule_files: [${join(ROOT, "deploy/prometheus/fanfare.rules.yml")}]
scrape_configs: [{job_name: fanfare, authorization: {credentials: '${key}'}, static_configs: [{targets: [${targets}]}]}]
`);
  const port = await freePort();
  const options = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", `--web.listen-address=127.0.0.1:${port}`];
  const prometheus = new Program("prometheus", options, { cwd: directory, env: process.env });
  atEnd(t, () => prometheus.stop("SIGKILL"));
  const ask = async (path) => {
    const response = await fetch(`http://127.0.0.1:${port}/api/v1/${path}`).catch(() => undefined);
    return (await response?.json().catch(() => undefined))?.data ?? {};
  };
  const query = async (text) => (await ask(`query?query=${encodeURIComponent(text)}`)).result ?? [];
  await eventually(async () => (await query("fanfare_build_info")).length === brokers.length, "all are scraped");
  const firing = async () => {
    const { alerts = [] } = await ask("alerts");
    return alerts.filter(({ state }) => state === "firing").map(({ labels, activeAt }) => ({ name: labels.alertname, instance: labels.instance, at: Date.parse(activeAt) }));
  };
  return {
    firing,
    async fires(name, begun) {
      const alert = await eventually(async () => (await firing()).find((each) => each.name === name), `${name} fires`);
      const [{ values }] = await query(`up{instance="${alert.instance}"}[5m]`);
      const scrapes = values.filter(([at]) => at * 1000 > begun && at * 1000 <= alert.at).length;
      assert.ok(scrapes <= SCRAPES, `${name} fires after ${scrapes} scrapes`);
    },
  };
}

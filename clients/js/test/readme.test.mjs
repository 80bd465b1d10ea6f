// What the README prints works as printed. (What is of pages is run in a browser, by `tests/browser`.)

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { eventually, freePort, publish, startBroker, tokenFor } from "./harness.mjs";

const HERE = fileURLToPath(new URL("..", import.meta.url));
const options = { timeout: 60_000 };
const README = await readFile(join(HERE, "README.md"), "utf8");
const blocks = [...README.matchAll(/```(\w+)\n([^]*?)```/g)].map(([, language, text]) => ({ language, text }));
const [, section] = /## Live state\n([^]*?)\n## /.exec(README);
const [imports, ...snippets] = [...section.matchAll(/```js\n([^]*?)```/g)].map(([, text]) => text);

/** The one block of the README that has these words. */
function blockWith(words) {
  const found = blocks.filter(({ text }) => text.includes(words));
  assert.equal(found.length, 1, words);
  return found[0].text;
}

/** A folder of a project's that has the client and these packages beside it. */
async function startProject(t, ...packages) {
  const folder = await mkdtemp(join(tmpdir(), "fanfare-readme-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  await mkdir(join(folder, "node_modules"));
  await symlink(HERE, join(folder, "node_modules/fanfare"));
  for (const name of packages) await symlink(join(HERE, "node_modules", name), join(folder, "node_modules", name));
  return folder;
}

/** Runs a program as a project has it; returns the lines that it prints. */
async function run(t, text, addresses, env) {
  const folder = await startProject(t, "zod");
  for (const [printed, real] of Object.entries(addresses)) text = text.replaceAll(printed, real);
  await writeFile(join(folder, "main.mjs"), text);
  const child = spawn(process.execPath, ["--experimental-websocket", "--no-warnings", "main.mjs"], { cwd: folder, env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  t.after(() => child.kill());
  let printed = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (piece) => { printed += piece; });
  return { printed: () => printed, signal: (name) => child.kill(name), prints: (line) => eventually(() => printed.split("\n").includes(line), line).catch(() => assert.fail(`it does not print ${line}, but\n${printed}`)) };
}

const snippetOf = (word) => {
  const found = snippets.filter((text) => text.includes(`${word}(fanfare`));
  assert.equal(found.length, 1, word);
  return found[0];
};

test("R30 the README's snippets of live state work as printed", options, async (t) => {
  const broker = await startBroker(t, { FANFARE_TOPICS: '[{match = "room.>", presence = true}]' });
  const start = (word, more) => run(t, imports + snippetOf(word), { "http://127.0.0.1:8080": broker.url, ...more });
  assert.equal(snippets.length, 5);
  await publish(broker, "host.ada.cpu", { percent: 41 });
  for (const [n, total] of [7, 12].entries()) await publish(broker, `orders.${n}`, { total });
  for (const text of ["one", "two", "three"]) await publish(broker, "chat.lobby", text);
  await publish(broker, "stock.7", 5);
  const { cursor } = await (await fetch(`${broker.url}/v1/cursor`)).json();
  const api = createServer((_, response) => response.setHeader("Content-Type", "application/json").end(JSON.stringify({ state: { "stock.7": 5 }, since: cursor })));
  await new Promise((ready) => api.listen(0, "127.0.0.1", ready));
  t.after(() => { api.closeAllConnections(); api.close(); });

  const [tile, orders, chat, room, stock] = await Promise.all([
    start("latest"), start("map"),
    // Printed is that it asks a second later, when a loaded machine may have nothing yet that is older than anything.
    start("list", { "setTimeout(() => chat.older(50), 1000)": 'process.once("SIGUSR2", () => chat.older(50))' }),
    start("presence"),
    start("reduced", { "http://127.0.0.1:3000": `http://127.0.0.1:${api.address().port}` }),
  ]);
  await Promise.all([
    tile.prints("undefined true"), tile.prints("41 false"),
    orders.prints("[ 7, 12 ]"),
    chat.prints("[ 'two', 'three' ] true").then(() => {
      chat.signal("SIGUSR2");
      return chat.prints("[ 'one', 'two', 'three' ] false");
    }),
    room.prints("1"),
    stock.prints("{ 'stock.7': 5 }"),
  ]);
  await publish(broker, "host.ada.cpu", { percent: 42 });
  await fetch(`${broker.url}/v1/topics/orders.0`, { method: "DELETE" });
  await publish(broker, "chat.lobby", "four");
  await publish(broker, "stock.8", 1);
  await tile.prints("42 false");
  await orders.prints("[ 12 ]");
  await chat.prints("[ 'one', 'two', 'three', 'four' ] false");
  await stock.prints("{ 'stock.7': 5, 'stock.8': 1 }");
});

test("R19 and R24 the README's server, its client with a token from there, and its loop work as printed", options, async (t) => {
  const secret = "a-secret-for-this-test-and-no-other-0123456789";
  const broker = await startBroker(t, { FANFARE_AUTH_JWT_SECRET: secret });
  const own = { Authorization: `Bearer ${tokenFor(secret)}` };
  for (const total of [7, 12]) await publish(broker, `orders.${total}`, { total }, own);
  // Another port than the printed one, which somebody may have.
  const port = await freePort();
  const server = await run(t, blockWith("createHmac"), { "listen(3000)": `listen(${port}, () => console.log("serves"))` }, { FANFARE_AUTH_JWT_SECRET: secret });
  await server.prints("serves");
  const page = `{ const { fetch } = globalThis; globalThis.fetch = (url, ...more) => fetch(url === "/token" ? "http://127.0.0.1:${port}/token" : url, ...more); }\n`;
  const loop = await run(t, page + blockWith('fetch("/token")') + blockWith("for await"), { "https://push.example": broker.url });
  await loop.prints("orders.7 { total: 7 }");
  await loop.prints("orders.12 { total: 12 }");
  await publish(broker, "orders.7", { total: 8 }, own);
  await loop.prints("orders.7 { total: 8 }");
});

test("R25 the README's schema works as printed, and says what is let through to the compiler", options, async (t) => {
  const broker = await startBroker(t);
  const program = await run(t, blockWith("z.object"), { "http://127.0.0.1:8080": broker.url });
  await eventually(async () => {
    await publish(broker, "orders.7", { total: "seven" });
    await publish(broker, "orders.7", { total: 7 });
    // What is printed and what went wrong come by different ways, in any order.
    return program.printed().includes("7\n") && /^Error: orders\.7 has other data: total: /m.test(program.printed());
  });
  assert.doesNotMatch(program.printed(), /^seven$/m);
  await compiles(t, `${blockWith("z.object")}
    fanfare.subscribe("orders.7", ({ data: { total } }) => total.toFixed());
    // @ts-expect-error a total is a number
    fanfare.subscribe("orders.7", ({ data: { total } }) => total.length);`);
});

test("R25 what the README says once of all topics is what the compiler knows", options, async (t) => {
  await compiles(t, `${blockWith("interface Register")}
    import { useLatest } from "fanfare/react";
    useLatest("orders.7").data?.total.toFixed();
    // @ts-expect-error no such topic
    useLatest("order.7");`);
});

/** Has the compiler read a module of a project's. */
async function compiles(t, text) {
  const folder = await startProject(t, "zod");
  await writeFile(join(folder, "main.ts"), text);
  await writeFile(join(folder, "tsconfig.json"), JSON.stringify({ extends: join(HERE, "test/types/tsconfig.json"), compilerOptions: { skipLibCheck: true }, include: ["main.ts"] }));
  await promisify(execFile)(join(HERE, "node_modules/.bin/tsc"), ["--project", folder]).catch(({ stdout }) => assert.fail(stdout));
}

/** What runs the blocks that are of no test here, by words that are in no other block. */
const ELSEWHERE = {
  "clients/js/test/batches.test.mjs": ["publishAll(fanfare, [{"],
  "clients/js/test/cbor.test.mjs": ["cbor({ queue: true })"],
  "clients/js/test/testing.test.mjs": ["fakeTime: true", "@vitest-environment"],
  "tests/browser/client.test.mjs": ['publish("demo.first"'],
  "tests/browser/elements.test.mjs": ["<fanfare-value topic"],
  "tests/browser/react.test.mjs": ["createRoot(document.body"],
  "tests/browser/shared.test.mjs": ['shared("ada")'],
  "tests/browser/svelte.test.mjs": ["<script module>"],
  "tests/browser/vue.test.mjs": ['useLatest("host.ada.cpu", { client: fanfare });\n</script>\n\n<template>', "chat.more"],
};

test("R34 every block of code of the README is run by a test", options, async () => {
  const here = [imports, ...snippets, ...['fetch("/token")', "createHmac", "for await", "z.object", "interface Register"].map(blockWith)];
  const elsewhere = Object.values(ELSEWHERE).flat().map(blockWith);
  const tested = new Set([...here, ...elsewhere]);
  assert.deepEqual(blocks.filter(({ text }) => !tested.has(text)), []);
  for (const path of Object.keys(ELSEWHERE)) assert.match(await readFile(join(HERE, "../..", path), "utf8"), /README/, path);
});

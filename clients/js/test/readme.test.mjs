// What the README prints of live state works as printed. (Its first example and the one for React are run in a browser.)

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { eventually, publish, startBroker } from "./harness.mjs";

const HERE = fileURLToPath(new URL("..", import.meta.url));
const options = { timeout: 60_000 };
const [, section] = /## Live state\n([^]*?)\n## /.exec(await readFile(join(HERE, "README.md"), "utf8"));
const [imports, ...snippets] = [...section.matchAll(/```js\n([^]*?)```/g)].map(([, text]) => text);

/** Runs a snippet as a program of its own; returns the lines that it prints. */
async function run(t, snippet, addresses) {
  const folder = await mkdtemp(join(tmpdir(), "fanfare-readme-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  await mkdir(join(folder, "node_modules"));
  await symlink(HERE, join(folder, "node_modules/fanfare"));
  let text = imports + snippet;
  for (const [printed, real] of Object.entries(addresses)) text = text.replaceAll(printed, real);
  await writeFile(join(folder, "main.mjs"), text);
  const child = spawn(process.execPath, ["--experimental-websocket", "--no-warnings", "main.mjs"], { cwd: folder, stdio: ["ignore", "pipe", "pipe"] });
  t.after(() => child.kill());
  let printed = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (piece) => { printed += piece; });
  return { prints: (line) => eventually(() => printed.split("\n").includes(line), line).catch(() => assert.fail(`it does not print ${line}, but\n${printed}`)) };
}

const snippetOf = (word) => {
  const found = snippets.filter((text) => text.includes(`${word}(fanfare`));
  assert.equal(found.length, 1, word);
  return found[0];
};

test("R30 the README's snippets of live state work as printed", options, async (t) => {
  const broker = await startBroker(t, { FANFARE_TOPICS: '[{match = "room.>", presence = true}]' });
  const start = (word, more) => run(t, snippetOf(word), { "http://127.0.0.1:8080": broker.url, ...more });
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
    start("latest"), start("map"), start("list"), start("presence"),
    start("reduced", { "http://127.0.0.1:3000": `http://127.0.0.1:${api.address().port}` }),
  ]);
  await Promise.all([
    tile.prints("undefined true"), tile.prints("41 false"),
    orders.prints("[ 7, 12 ]"),
    chat.prints("[ 'two', 'three' ] true"), chat.prints("[ 'one', 'two', 'three' ] false"),
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

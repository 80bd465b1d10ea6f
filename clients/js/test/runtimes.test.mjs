// Other runtimes: Deno, Bun and a newer Node, as `npm ci` in `runtimes` brings them, and this Node as it starts by itself.
//
// FANFARE_RUNTIMES=all has each of them run all tests of the client, and not only those that differ most.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { access } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { publish, startBroker } from "./harness.mjs";

const HERE = fileURLToPath(new URL(".", import.meta.url));
const MODULES = join(HERE, "runtimes/node_modules");
const parts = ["core", "odd", ...process.env.FANFARE_RUNTIMES === "all" ? ["clock", "connection", "faults", "model", "publish", "real", "streams"] : []];

const RUNTIMES = {
  "Node 24": { command: join(MODULES, `node-${process.platform}-${process.arch}/bin/node`), run: [], test: ["--test", "--test-reporter=tap"] },
  Deno: { command: join(MODULES, ".bin/deno"), run: ["run", "--allow-all"], test: ["test", "--allow-all", "--no-check"] },
  Bun: { command: join(MODULES, ".bin/bun"), run: ["run"], test: ["test", "--timeout=120000"] },
};

/** What a program printed; where it failed, all that it said. */
async function run(command, args) {
  const { NODE_TEST_CONTEXT: _, NODE_OPTIONS: __, ...env } = process.env;
  const ended = promisify(execFile)(command, args, { cwd: HERE, timeout: 900_000, maxBuffer: 1 << 26, env: { ...env, NO_COLOR: "1" } });
  return ended.catch(({ stdout, stderr, message }) => assert.fail(`${message}\n${stdout}\n${stderr}`));
}

async function hello(t, command, args, hasSession) {
  const broker = await startBroker(t);
  await publish(broker, "a", 1);
  const { stdout } = await run(command, [...args, "runtimes/hello.mjs", broker.url]);
  assert.deepEqual(JSON.parse(stdout), { got: [1, 2], hasSession });
}

test("R33 a Node without a WebSocket of its own speaks event streams", { timeout: 60_000 }, async (t) => {
  const [major] = process.versions.node.split(".");
  await hello(t, process.execPath, [], major >= 22);
});

for (const [name, runtime] of Object.entries(RUNTIMES)) {
  test(`R33 in ${name} a program ends with its client, and the client's tests pass`, { timeout: 1_000_000 }, async (t) => {
    try {
      await access(runtime.command);
    } catch {
      // Not each of them is there for each machine.
      return t.skip(`there is no ${runtime.command}: npm ci in clients/js/test/runtimes`);
    }
    await hello(t, runtime.command, runtime.run, true);
    await run(runtime.command, [...runtime.test, ...parts.map((part) => `./${part}.test.mjs`)]);
  });
}

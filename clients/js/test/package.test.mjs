// What is published, and what the broker serves.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { publish, startBroker } from "./harness.mjs";

const HERE = fileURLToPath(new URL("..", import.meta.url));
const run = (command, args, more) => promisify(execFile)(command, args, { cwd: HERE, ...more });
const options = { timeout: 120_000 };

test("R1 what every page loads is no more than 8,192 bytes, compressed", options, async (t) => {
  const { url } = await startBroker(t);
  const sizes = {};
  const load = async (path) => {
    if (sizes[path]) return;
    const text = await (await fetch(url + path)).text();
    sizes[path] = gzipSync(text, { level: 9 }).length;
    for (const [, name] of text.matchAll(/^(?:import|export) [^(]*?"(\.[^"]+)"/gm)) await load(new URL(name, url + path).pathname);
  };
  await load("/fanfare.js");
  const sum = Object.values(sizes).reduce((all, size) => all + size, 0);
  t.diagnostic(`${sum} bytes: ${JSON.stringify(sizes)}`);
  assert.ok(sum <= 8192, `${sum} bytes`);
});

/** What is optional, and how large it may be. */
const OPTIONAL = { "R26 fanfare/cbor": 3072, "R30 fanfare/react": 1536, "stores: fanfare/stores": 6144 };
for (const [name, most] of Object.entries(OPTIONAL)) {
  test(`${name} is no more than ${most} bytes, compressed`, options, async (t) => {
    const { url } = await startBroker(t);
    const path = `${name.split(" ").at(-1)}.js`;
    const answer = await fetch(`${url}/${path}`);
    assert.equal(answer.status, 200, path);
    const size = gzipSync(await answer.text(), { level: 9 }).length;
    t.diagnostic(`${path}: ${size} bytes`);
    assert.ok(size <= most, `${size} bytes`);
  });
}

test("R2 importing it touches nothing of the runtime", options, async () => {
  const script = `
    import vm from "node:vm";
    import { readFile } from "node:fs/promises";
    const context = vm.createContext({});
    vm.runInContext("Math.random = () => { throw new Error('random at import') }", context);
    const modules = new Map();
    async function load(url) {
      if (!modules.has(url)) modules.set(url, new vm.SourceTextModule(await readFile(new URL(url), "utf8"), { context, identifier: url, initializeImportMeta: (meta) => { meta.url = url; } }));
      return modules.get(url);
    }
    for (const url of ${JSON.stringify(["../fanfare.js", "../fanfare/stores.js", "../fanfare/elements.js"].map((path) => new URL(path, import.meta.url).href))}) {
      const entry = await load(url);
      await entry.link((name, from) => load(new URL(name, from.identifier).href));
      await entry.evaluate();
      console.log(typeof (Object.values(entry.namespace)[0]));
    }`;
  const { stdout } = await run(process.execPath, ["--experimental-vm-modules", "--no-warnings", "--input-type=module", "-e", script]);
  assert.equal(stdout.trim(), "function\nfunction\nfunction");
});

test("R3 what is packed is what a project needs, and works from an empty one", options, async (t) => {
  const { url } = await startBroker(t);
  const folder = await mkdtemp(join(tmpdir(), "fanfare-pack-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const { stdout } = await run("npm", ["pack", "--json", "--pack-destination", folder]);
  const [{ filename, files }] = JSON.parse(stdout);
  const names = files.map(({ path }) => path).sort();
  assert.deepEqual(names.filter((name) => !name.startsWith("fanfare/")), ["README.md", "fanfare.d.ts", "fanfare.js", "package.json"]);
  const project = join(folder, "project");
  await mkdir(project);
  await writeFile(join(project, "package.json"), '{"private":true,"type":"module"}');
  await run("npm", ["install", "--offline", "--no-audit", "--no-fund", join(folder, filename)], { cwd: project });
  await writeFile(join(project, "main.js"), `
    import { Fanfare } from "fanfare";
    const fanfare = new Fanfare(process.argv[2]);
    console.log((await fanfare.publish("a", 1)).id);
    fanfare.close();`);
  const printed = await run(process.execPath, ["main.js", url], { cwd: project });
  assert.match(printed.stdout, /-1$/m);
  assert.equal(printed.stderr, "");
  await run("npx", ["--no-install", "publint", "--strict"]);
  await run("npx", ["--no-install", "attw", "--profile", "esm-only", join(folder, filename)]).catch(({ stdout }) => assert.fail(stdout));
});

test("R4 the client, its package and the broker are of one release", options, async () => {
  const { version } = JSON.parse(await readFile(join(HERE, "package.json"), "utf8"));
  const [, broker] = /^version = "(.+)"$/m.exec(await readFile(join(HERE, "../../Cargo.toml"), "utf8"));
  assert.equal(version, broker);
  assert.match(await readFile(join(HERE, "fanfare/testing.js"), "utf8"), new RegExp(`version: "${version}"`));
  const [, release] = /RELEASE = "(.+)"/.exec(await readFile(join(HERE, "fanfare.js"), "utf8"));
  assert.equal(release, version.slice(0, version.lastIndexOf(".") + 1));
});

test("R25 types are inferred from topics and patterns, of a client's own map and of one that is said once for all", options, async () => {
  for (const project of ["test/types", "test/types/registered"]) {
    await run("npx", ["--no-install", "tsc", "--project", project]).catch(({ stdout }) => assert.fail(stdout));
  }
});

test("R4 the broker serves the client with its types, to every page, and no more than once", options, async (t) => {
  const { url } = await startBroker(t, { FANFARE_SERVER_ALLOWED_ORIGINS: "https://dash.example" });
  const ask = (path, headers) => fetch(url + path, { headers });
  const script = await ask("/fanfare.js", { Origin: "http://localhost:5173" });
  assert.equal(script.headers.get("content-type"), "text/javascript; charset=utf-8");
  assert.equal(script.headers.get("access-control-allow-origin"), "http://localhost:5173");
  assert.equal(script.headers.get("x-typescript-types"), "./fanfare.d.ts");
  assert.equal((await ask("/fanfare.js", { Origin: "https://dash.example" })).headers.get("access-control-allow-origin"), "https://dash.example");
  for (const origin of ["null", "https://evil.example"]) assert.equal((await ask("/fanfare.js", { Origin: origin })).headers.get("access-control-allow-origin"), "*");
  const again = await ask("/fanfare.js", { "If-None-Match": script.headers.get("etag") });
  assert.equal(again.status, 304);
  for (const name of ["elements", "react", "stores", "svelte", "vue"]) {
    const more = await ask(`/fanfare/${name}.js`);
    assert.equal(more.headers.get("x-typescript-types"), `./${name}.d.ts`);
    assert.equal(await (await ask(`/fanfare/${name}.d.ts`)).text(), await readFile(join(HERE, `fanfare/${name}.d.ts`), "utf8"));
  }
  const types = await ask("/fanfare.d.ts");
  assert.equal(await types.text(), await readFile(join(HERE, "fanfare.d.ts"), "utf8"));
  for (const [, name] of (await script.text()).matchAll(/import\("\.(\/[^"]+)"\)/g)) assert.equal((await ask(name)).status, 200, name);
});

test("R33 a closed client holds no process, and closes at once", options, async (t) => {
  const broker = await startBroker(t);
  await publish(broker, "a", 1);
  const script = `
    import { Fanfare } from ${JSON.stringify(new URL("../fanfare.js", import.meta.url).href)};
    for (const options of [{}, { WebSocket: null }]) {
      const fanfare = new Fanfare(${JSON.stringify(broker.url)}, options);
      for await (const _ of fanfare.subscribe("a", { snapshot: true })) break;
      const begun = performance.now();
      fanfare.close();
      console.log(performance.now() - begun < 100);
    }
    process.on("beforeExit", () => console.log("over"));`;
  const { stdout } = await run(process.execPath, ["--experimental-websocket", "--no-warnings", "--input-type=module", "-e", script], { timeout: 20_000 });
  assert.deepEqual(stdout.trim().split("\n"), ["true", "true", "over"]);
});

test("R35 the broker's own pages have no other client", options, async () => {
  for (const page of ["src/console/console.js", "examples/host-dashboard/page/dashboard.js"]) {
    const text = await readFile(new URL(`../../../${page}`, import.meta.url), "utf8");
    assert.doesNotMatch(text, /new WebSocket|new EventSource/, page);
    assert.match(text, /fanfare\.js/, page);
  }
});

// What tests of the bindings need: an application's own server with the frameworks beside it, and what its page says to the broker.

import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { createServer, request as ask } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { openPage } from "./harness.mjs";

const CLIENT = fileURLToPath(new URL("../../clients/js", import.meta.url));
const HERE = fileURLToPath(new URL(".", import.meta.url));
const HEAD = "<!doctype html><meta charset=utf-8><link rel=icon href='data:,'><title>an app</title>";
const MODULES = {
  "vue": "vue/dist/vue.esm-browser.prod.js",
  "svelte": "svelte/src/index-client.js",
  "svelte/attachments": "svelte/src/attachments/index.js",
  "svelte/events": "svelte/src/events/index.js",
  "svelte/internal/client": "svelte/src/internal/client/index.js",
  "svelte/internal/disclose-version": "svelte/src/internal/disclose-version.js",
  "svelte/internal/flags/legacy": "svelte/src/internal/flags/legacy.js",
  "svelte/reactivity": "svelte/src/reactivity/index-client.js",
  "svelte/store": "svelte/src/store/index-client.js",
  "#client/constants": "svelte/src/internal/client/constants.js",
  "clsx": "clsx/dist/clsx.mjs",
  "esm-env": "esm-env/index.js",
  "esm-env/browser": "esm-env/true.js",
  "esm-env/development": "esm-env/false.js",
  "esm-env/node": "esm-env/false.js",
};

/** Names of modules as a bundler would find them, with `fanfare` from the broker. */
function importMap(broker) {
  const imports = Object.fromEntries(Object.entries(MODULES).map(([name, path]) => [name, `/node_modules/${path}`]));
  imports.fanfare = `${broker.url}/fanfare.js`;
  // What `bundle` makes of it, for it comes as no module.
  imports.react = "/react.js";
  for (const name of ["elements", "react", "stores", "svelte", "vue"]) imports[`fanfare/${name}`] = `${broker.url}/fanfare/${name}.js`;
  return `<script type="importmap">${JSON.stringify({ imports })}</script>`;
}

/** A development server: another origin than the broker's, with these files, `path → text`, and what is installed. */
export async function startApp(t, broker, files) {
  const server = createServer(async ({ url }, response) => {
    try {
      if (url.startsWith("/node_modules/")) {
        response.setHeader("content-type", "text/javascript");
        return response.end(await readFile(new URL(`.${url}`, import.meta.url)));
      }
      const text = files[url];
      response.setHeader("content-type", url.endsWith(".js") ? "text/javascript" : "text/html");
      response.end(url.endsWith(".js") ? text : `${HEAD}${importMap(broker)}${text ?? "elsewhere"}`);
    } catch (error) {
      response.writeHead(404).end(`${error}`);
    }
  });
  return listen(t, server);
}

/** What a project with `fanfare` and React makes of its entry. */
export async function bundle(t, entry) {
  const folder = await mkdtemp(join(tmpdir(), "fanfare-react-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  await mkdir(join(folder, "node_modules/fanfare"), { recursive: true });
  // What the package consists of, without what it is tested with, such as a React of its own.
  for (const name of ["package.json", "fanfare.js", "fanfare"]) await symlink(join(CLIENT, name), join(folder, "node_modules/fanfare", name));
  for (const name of ["react", "react-dom", "scheduler"]) await symlink(join(HERE, "node_modules", name), join(folder, "node_modules", name));
  await writeFile(join(folder, "main.jsx"), entry);
  const { outputFiles: [{ text }] } = await build({
    absWorkingDir: folder, entryPoints: ["main.jsx"], bundle: true, write: false, format: "esm", jsx: "automatic", preserveSymlinks: true,
    define: { "process.env.NODE_ENV": '"production"' }, logLevel: "error",
  });
  return text;
}

/** The broker's own origin with one page more, at `/`: what a proxy before both makes of them. */
export async function startBeside(t, { port }, html, headers = {}) {
  const server = createServer((request, response) => {
    if (request.url === "/") return response.writeHead(200, { "content-type": "text/html", ...headers }).end(HEAD + html);
    const { method, url: path, headers: asked } = request;
    const onward = ask({ host: "127.0.0.1", port, method, path, headers: asked }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    onward.on("error", () => response.destroy());
    request.pipe(onward);
  });
  server.on("upgrade", ({ url, rawHeaders }, near, head) => {
    const far = connect(port, "127.0.0.1");
    for (const [from, to] of [[near, far], [far, near]]) from.on("error", () => to.destroy()).on("close", () => to.destroy());
    const lines = rawHeaders.flatMap((name, n) => n % 2 ? [] : [`${name}: ${rawHeaders[n + 1]}\r\n`]);
    far.write(`GET ${url} HTTP/1.1\r\n${lines.join("")}\r\n`);
    far.write(head);
    near.pipe(far).pipe(near);
  });
  return listen(t, server);
}

async function listen(t, server) {
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  t.after(() => { server.closeAllConnections(); server.close(); });
  return `http://localhost:${server.address().port}/`;
}

/** A page whose frames are kept: `of(op)` are those that it sent, and `sockets` how many connections it opened. */
export async function openApp(t, browser, url) {
  const opened = await openPage(t, browser, "about:blank");
  const { page } = opened;
  const sent = [];
  const app = { ...opened, sockets: 0, of: (op) => sent.filter((frame) => frame.op === op) };
  page.on("websocket", (socket) => {
    app.sockets += 1;
    socket.on("framesent", ({ payload }) => sent.push(JSON.parse(payload)));
  });
  await page.goto(url);
  return app;
}

/** The first block of the client's README in `language` that has `words` in it, asking `broker`. */
export async function snippet(language, words, broker) {
  const text = await readFile(new URL("../../clients/js/README.md", import.meta.url), "utf8");
  const blocks = [...text.matchAll(/```(\w+)\n([^]*?)```/g)];
  const [, , found] = blocks.find(([, of, block]) => of === language && block.includes(words));
  return found.replaceAll("http://127.0.0.1:8080", broker.url);
}

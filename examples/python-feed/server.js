// Gives the page and the modules that it names, without a build: React's package has CommonJS alone, which is wrapped as it is asked for.

import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { serve } from "../serve.js";

const MODULES = join(process.env.WORK, "node_modules");
const require = createRequire(join(MODULES, "/"));
const CJS = {
  "react": "react/cjs/react.production.js",
  "react-dom": "react-dom/cjs/react-dom.production.js",
  "react-dom/client": "react-dom/cjs/react-dom-client.production.js",
  "scheduler": "scheduler/cjs/scheduler.production.js",
};

/** A CommonJS module as one that browsers read: what it requires is imported, what it exports has the same names. */
async function moduleOf(name) {
  const source = await readFile(join(MODULES, CJS[name]), "utf8");
  const needs = [...new Set(source.match(/(?<=require\(")[^"]+/g))];
  return [
    ...needs.map((need, at) => `import need${at} from "${need}";`),
    `const needs = { ${needs.map((need, at) => `"${need}": need${at}`)} }, module = { exports: {} };`,
    `(function (exports, require) {${source}\n})(module.exports, (name) => needs[name]);`,
    "export default module.exports;",
    `export const { ${Object.keys(require(name))} } = module.exports;`,
  ].join("\n");
}

const script = (text) => new Response(text, { headers: { "content-type": "text/javascript; charset=utf-8", "cache-control": "no-cache" } });

serve(new URL("page/", import.meta.url), {
  ...Object.fromEntries(Object.keys(CJS).map((name) => [`GET /modules/${name}`, async () => script(await moduleOf(name))])),
  "GET /modules/htm": async () => script(await readFile(join(MODULES, "htm/dist/htm.module.js"), "utf8")),
});

// What a component shows of a session that the broker refuses, and what becomes of what it publishes: alike in React, Vue and Svelte.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { compile } from "svelte/compiler";
import { bundle, openApp, startApp } from "./app.mjs";
import { eventually, freePort, launchBrowser, publish, signedToken, startBroker } from "./harness.mjs";

const options = { timeout: 180_000 };
const SECRET = "a-secret-for-this-test-and-no-other-0123456789";
const RULES = "[[topics]]\nmatch = \"room.>\"\npresence = true\n";
let browser;
before(async () => { browser = await launchBrowser(); });
after(() => browser?.close());

/** What every framework's page has: its clients, what they publish with, and what a component says of all that it shows. */
const COMMON = `
  globalThis.clients = {};
  globalThis.publish = {};
  export const say = (all, { state }) => all.map(({ error, stale }) => (error?.code ?? "fine") + (stale ? "?" : "")).join(" ") + " " + state;`;

/** What is to be shown of a client named \`name\`, in each framework: the state of five stores and of the connection. */
const FRAMEWORKS = {
  async React(t) {
    return {
      "/react.js": await bundle(t, `
        export { createContext, createElement, StrictMode, useContext, useInsertionEffect, useMemo, useRef, useState, useSyncExternalStore } from "react";
        export { createRoot } from "react-dom/client";`),
      "/app.js": `
        import { createElement, createRoot, StrictMode, useState } from "react";
        import { useConnection, useEvents, useLatest, useMap, usePresence, usePublish } from "fanfare/react";
        import { say } from "./common.js";
        function Tile({ name }) {
          const how = { client: clients[name] };
          publish[name] = usePublish("room.b", how);
          const sum = useEvents("room.b", { ...how, initial: 0, reduce: (n) => n + 1 });
          return createElement("p", { id: name }, say([useLatest("room.b", how), useMap("room.b", how), useEvents("room.b", how), sum, usePresence("room.b", how)], useConnection(how)));
        }
        function Page() {
          const [names, show] = useState([]);
          globalThis.show = (name) => show((shown) => [...shown, name]);
          return names.map((name) => createElement(Tile, { name, key: name }));
        }
        createRoot(document.querySelector("main")).render(createElement(StrictMode, null, createElement(Page)));`,
    };
  },
  async Vue() {
    return {
      "/app.js": `
        import { createApp, h, reactive } from "vue";
        import { useConnection, useEvents, useLatest, useMap, usePresence, usePublish } from "fanfare/vue";
        import { say } from "./common.js";
        const Tile = { props: ["name"], setup({ name }) {
          const how = { client: clients[name] };
          publish[name] = usePublish("room.b", how);
          const sum = useEvents("room.b", { ...how, initial: 0, reduce: (n) => n + 1 });
          const all = [useLatest("room.b", how), useMap("room.b", how), useEvents("room.b", how), sum, usePresence("room.b", how)], connection = useConnection(how);
          return () => h("p", { id: name }, say(all.map(({ value }) => value), connection.value));
        } };
        const names = reactive([]);
        globalThis.show = (name) => names.push(name);
        createApp({ render: () => names.map((name) => h(Tile, { name, key: name })) }).mount("main");`,
    };
  },
  async Svelte() {
    const component = (source) => compile(source, { generate: "client", dev: false }).js.code.replace(/\.svelte(["'])/g, ".js$1");
    return {
      "/Tile.js": component(`<script>
        import { useConnection, useEvents, useLatest, useMap, usePresence, usePublish } from "fanfare/svelte";
        import { say } from "./common.js";
        let { name } = $props();
        const how = { client: clients[name] };
        publish[name] = usePublish("room.b", how);
        const sum = useEvents("room.b", { ...how, initial: 0, reduce: (n) => n + 1 });
        const all = [useLatest("room.b", how), useMap("room.b", how), useEvents("room.b", how), sum, usePresence("room.b", how)], connection = useConnection(how);
      </script>
      <p id={name}>{say(all.map(({ current }) => current), $connection)}</p>`),
      "/App.js": component(`<script>
        import Tile from "./Tile.svelte";
        let names = $state([]);
        globalThis.show = (name) => names.push(name);
      </script>
      {#each names as name (name)}<Tile {name} />{/each}`),
      "/app.js": `import { mount } from "svelte"; import App from "./App.js"; mount(App, { target: document.querySelector("main") });`,
    };
  },
};

for (const [framework, filesOf] of Object.entries(FRAMEWORKS)) {
  test(`${framework === "React" ? "R30" : "R31"} and R33 ${framework} says why a session is refused, by each of its components and by what it publishes, and goes on once it is not`, options, async (t) => {
    const source = await startBroker(t, { config: RULES });
    const files = { "/common.js": COMMON, ...await filesOf(t) };
    const url = await startApp(t, source, files);
    const env = { FANFARE_AUTH_JWT_SECRET: SECRET };
    const strict = await startBroker(t, { config: RULES, env: { ...env, FANFARE_SERVER_ALLOWED_ORIGINS: new URL(url).origin } });
    const strange = await startBroker(t, { env });
    const port = await freePort();
    files["/"] = `<main></main><script type="module">
      import { Fanfare } from "fanfare";
      import "./app.js";
      const token = (fanfare) => async () => fanfare;
      Object.assign(clients, {
        text: new Fanfare("${strict.url}", { token: "no.such.token" }),
        asked: new Fanfare("${strict.url}", { token: () => globalThis.token ?? "no.such.token" }),
        none: new Fanfare("${strict.url}", { token: async () => { throw new Error("the session is over"); } }),
        nobody: new Fanfare("${strict.url}"),
        narrow: new Fanfare("${strict.url}", { token: "${signedToken(SECRET, { subscribe: ["room.a"], publish: [] })}" }),
        strange: new Fanfare("${strange.url}"),
        away: new Fanfare("http://127.0.0.1:${port}"),
        open: new Fanfare("${source.url}"),
      });
      globalThis.ready = true;
    </script>`;
    const { page, complaints } = await openApp(t, browser, url);
    await eventually(() => page.evaluate(() => Boolean(globalThis.ready && globalThis.show)));
    const show = (name) => page.evaluate((name) => globalThis.show(name), name);
    const shows = (name, code, state, stale = "?") => eventually(async () => {
      const text = await page.locator(`#${name}`).textContent();
      return text === `${Array(5).fill(`${code}${stale}`).join(" ")} ${state}`;
    }, `${name} shows ${code} ${state}`).catch(async (error) => assert.fail(`${error.message}, not ${await page.locator(`#${name}`).textContent()}`));
    const said = (name) => page.evaluate((name) => globalThis.publish[name](1).then(() => "done", ({ code, message }) => `${code}: ${message}`), name);
    for (const name of ["text", "asked", "none", "nobody", "narrow", "strange", "away", "open"]) await show(name);

    await shows("text", "unauthorized", "refused");
    await shows("asked", "unauthorized", "refused");
    await shows("none", "token", "waiting");
    await shows("nobody", "unauthorized", "live");
    await shows("narrow", "forbidden", "live");
    await shows("strange", "origin_not_allowed", "waiting");
    await shows("away", "unreachable", "waiting");
    await shows("open", "fine", "live", "");
    for (const [name, words] of Object.entries({
      text: /^offline: .*token/, asked: /^offline: .*token/, none: /^offline: .*the session is over/, nobody: /^unauthorized: /, narrow: /^forbidden: .*room\.b/,
      strange: /^offline: .*server\.allowed_origins/, away: /^offline: .*nothing answers at/, open: /^done$/,
    })) assert.match(await said(name), words, name);

    // Who is let in then, needs no component made anew.
    await page.evaluate((token) => { globalThis.token = token; globalThis.clients.asked.reconnect(); }, signedToken(SECRET, { subscribe: ["room.>", "$presence.room.*"], publish: ["room.>"] }));
    await startBroker(t, { config: RULES, port });
    await shows("asked", "fine", "live", "");
    await page.evaluate(() => globalThis.clients.away.reconnect());
    await shows("away", "fine", "live", "");
    assert.equal(await said("asked"), "done");

    // What is closed stays so, also for who comes later.
    await page.evaluate(() => { globalThis.clients.open.close(); globalThis.clients.late = globalThis.clients.open; });
    await show("late");
    for (const name of ["open", "late"]) {
      await shows(name, "closed", "closed");
      assert.match(await said(name), /^closed: the client was closed/);
    }
    assert.deepEqual((await complaints()).filter((said) => !/^console: (WebSocket connection|Access to|Failed to load)/.test(said)), []);
  });
}

// Live state in Vue, in a browser.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { compileScript, parse } from "vue/compiler-sfc";
import { openApp, snippet, startApp } from "./app.mjs";
import { eventually, eventuallyIn, launchBrowser, publish, startBroker } from "./harness.mjs";

const options = { timeout: 180_000 };
let browser;
before(async () => { browser = await launchBrowser(); });
after(() => browser?.close());

const shows = (page, selector, wanted) => eventually(async () => await page.locator(selector).evaluateAll(([element]) => element?.textContent) === wanted, `${selector} shows ${wanted}`);
const topics = (frames) => frames.flatMap((frame) => frame.topics).sort();

/** An app of one module, with what it needs of Vue; `state` is reactive and the page's own. */
const appOf = (broker, setup, template) => `<div id="app"></div><script type="module">
  import { createApp, defineComponent, effectScope, reactive, ref, toRef } from "vue";
  import { Fanfare } from "fanfare";
  import { fanfarePlugin, provideFanfare, useConnection, useEvents, useFanfare, useLatest, useMap, usePresence, usePublish } from "fanfare/vue";
  const state = globalThis.state = reactive({ key: 0, isThere: true, topic: "a" });
  const fanfare = globalThis.fanfare = new Fanfare("${broker.url}");
  const Tile = defineComponent({ ${setup} });
  globalThis.app = createApp({ components: { Tile }, setup: () => ({ state }), template: ${JSON.stringify(template)} }).use(fanfarePlugin, fanfare);
  globalThis.app.mount("#app");
</script>`;

test("R31 the snippet of the README for Vue is a live tile as printed", options, async (t) => {
  const broker = await startBroker(t);
  const { descriptor, errors } = parse(await snippet("vue", "useLatest", broker));
  assert.deepEqual(errors, []);
  const { content } = compileScript(descriptor, { id: "tile", inlineTemplate: true });
  const app = await openApp(t, browser, await startApp(t, broker, {
    "/": "<div id=app></div><script type=module>import { createApp } from 'vue'; import App from './App.js'; createApp(App).mount('#app');</script>",
    "/App.js": content,
  }));
  await shows(app.page, "p", "CPU – %");
  await publish(broker.url, "host.ada.cpu", { percent: 12.34 });
  await shows(app.page, "p", "CPU 12.34 %");
  await eventually(() => app.page.locator("p:not(.stale)").count());
  assert.deepEqual(await app.complaints(), []);
});

test("R31 the list of the README for Vue has its older events on a click, as printed", options, async (t) => {
  const broker = await startBroker(t);
  for (const text of ["one", "two", "three"]) await publish(broker.url, "chat.lobby", text);
  const { descriptor } = parse(await snippet("vue", "useEvents", broker));
  const { content } = compileScript(descriptor, { id: "chat", inlineTemplate: true });
  const app = await openApp(t, browser, await startApp(t, broker, {
    "/": "<div id=app></div><script type=module>import { createApp } from 'vue'; import App from './App.js'; createApp(App).mount('#app');</script>",
    "/App.js": content,
  }));
  await shows(app.page, "ul", "twothree");
  await app.page.click("button");
  await shows(app.page, "ul", "onetwothree");
  assert.deepEqual(await app.complaints(), []);
});

test("R31 Vue shows what stores hold, follows topics that change, and gives back what is unmounted", options, async (t) => {
  const broker = await startBroker(t, { config: "[[topics]]\nmatch = \"room.>\"\npresence = true\n" });
  await publish(broker.url, "a", 1);
  await publish(broker.url, "b", 2);
  for (const n of [1, 2, 3]) await publish(broker.url, `m.${n}`, n);
  const app = await openApp(t, browser, await startApp(t, broker, { "/": appOf(broker, `
    setup() {
      const latest = useLatest(() => state.topic), map = useMap("m.*"), connection = useConnection();
      const log = useEvents(ref("m.*"), () => ({ tail: 2 })), sum = useEvents("m.*", { tail: 3, initial: 0, reduce: (sum, { data }) => sum + data });
      const members = usePresence("room.a");
      fanfare.subscribe("room.a", () => {});
      Object.assign(globalThis, { latest, log, publish: usePublish(toRef(state, "topic")) });
      return { latest, map, connection, log, sum, members };
    },
    template: "<p>{{ latest.data ?? 'nothing' }}|{{ [...map.entries.values()].map(({ data }) => data) }}|{{ log.events.map(({ data }) => data) }}|{{ sum.state }}|{{ members.members.length }}|{{ connection.state }}</p>"`,
    "<Tile v-if='state.isThere' /><i v-else>gone</i>") }));
  const { page } = app;
  const line = (latest, map, log, sum) => shows(page, "p", `${latest}|${JSON.stringify(map, null, 2)}|${JSON.stringify(log, null, 2)}|${sum}|1|live`);
  await line(1, [1, 2, 3], [2, 3], 6);
  await page.evaluate(() => { globalThis.state.topic = "b"; });
  await line(2, [1, 2, 3], [2, 3], 6);
  await eventually(() => topics(app.of("unsubscribe")).join() === "a");
  await page.evaluate(() => globalThis.publish(7));
  await line(7, [1, 2, 3], [2, 3], 6);
  await page.evaluate(() => { const { older } = globalThis.log; return older(1); });
  await line(7, [1, 2, 3], [1, 2, 3], 6);
  await publish(broker.url, "m.2", 5);
  await line(7, [1, 5, 3], [1, 2, 3, 5], 11);
  await page.evaluate(() => { globalThis.state.topic = null; });
  await line("nothing", [1, 5, 3], [1, 2, 3, 5], 11);
  await eventually(() => topics(app.of("unsubscribe")).join() === "a,b");
  await page.evaluate(() => { globalThis.state.isThere = false; });
  await shows(page, "i", "gone");
  await eventually(() => topics(app.of("unsubscribe")).join() === "$presence.room.a,a,b,m.*");
  assert.equal(app.sockets, 1);
  assert.deepEqual(await app.complaints(), []);
});

test("R31 Vue components that come as others go take over their subscriptions, without a frame", options, async (t) => {
  const broker = await startBroker(t);
  await publish(broker.url, "a", 1);
  const app = await openApp(t, browser, await startApp(t, broker, { "/": appOf(broker, `
    setup() { return { latest: useLatest("a"), log: useEvents("a", { tail: 5 }) }; },
    template: "<p>{{ latest.data }}, {{ log.events.length }}</p>"`,
    "<Tile :key='state.key' /><Tile v-if='state.isThere' />") }));
  const { page } = app;
  await shows(page, "p", "1, 1");
  const before = app.of("subscribe").length;
  const seen = await page.evaluate(async () => {
    const { nextTick } = await import("vue");
    const seen = [];
    for (let n = 0; n < 5; n++) {
      globalThis.state.key += 1;
      globalThis.state.isThere = !globalThis.state.isThere;
      await nextTick();
      seen.push(document.querySelector("p").textContent);
    }
    return seen;
  });
  assert.deepEqual(seen, Array(5).fill("1, 1"), "nothing flickers");
  await page.evaluate(() => { globalThis.app.unmount(); });
  await eventually(() => topics(app.of("unsubscribe")).join() === "a");
  assert.equal(app.of("subscribe").length, before);
  assert.equal(app.of("unsubscribe").length, 1);
});

test("R31 Vue takes over what a server rendered as that was, and then shows what the page knows", options, async (t) => {
  const broker = await startBroker(t);
  await publish(broker.url, "a", 1);
  const app = await openApp(t, browser, await startApp(t, broker, { "/": `<div id="app"><p>– true</p></div><script type="module">
    import { createSSRApp } from "vue";
    import { Fanfare } from "fanfare";
    import { latest } from "fanfare/stores";
    import { fanfarePlugin, useLatest } from "fanfare/vue";
    const fanfare = new Fanfare("${broker.url}");
    const known = latest(fanfare, "a");
    known.subscribe(({ data }) => {
      if (data !== 1 || globalThis.mounted) return;
      globalThis.mounted = createSSRApp({ setup: () => ({ latest: useLatest("a") }), template: "<p>{{ latest.data ?? '–' }} {{ latest.stale }}</p>" }).use(fanfarePlugin, fanfare);
      globalThis.mounted.mount("#app");
    });
  </script>` }));
  await shows(app.page, "p", "1 false");
  await publish(broker.url, "a", 2);
  await shows(app.page, "p", "2 false");
  assert.deepEqual(await app.complaints(), [], "Vue found what it had rendered");
  assert.equal(app.of("subscribe").length, 1);
});

test("R31 outside of components a scope of Vue's gives back what it holds", options, async (t) => {
  const broker = await startBroker(t);
  await publish(broker.url, "a", 1);
  const app = await openApp(t, browser, await startApp(t, broker, { "/": appOf(broker, `template: "<p>a page</p>"`, "<Tile />").replace("</script>", `
    globalThis.scope = effectScope();
    globalThis.held = scope.run(() => useLatest("a", reactive({ client: fanfare })));
    let said;
    try { scope.run(() => useLatest("a")); } catch (error) { said = error.message; }
    globalThis.said = said;
  </script>`) }));
  await eventuallyIn(app.page, () => globalThis.held?.value.data === 1);
  assert.match(await app.page.evaluate(() => globalThis.said), /there is no client: app\.use/);
  await app.page.evaluate(() => globalThis.scope.stop());
  await eventually(() => topics(app.of("unsubscribe")).join() === "a");
  await publish(broker.url, "a", 2);
  assert.equal(await app.page.evaluate(() => globalThis.held.value.data), 1);
});

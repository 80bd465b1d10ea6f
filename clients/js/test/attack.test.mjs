// Everything at once that may go wrong, as a seed has it, with real brokers, real sockets and real pages; and in the end each handler was told
// what its subscription promises: in order, nothing twice, nothing missing without a gap, and nothing without a right.
//
// FANFARE_ATTACKS says how many lives of each form, of FANFARE_ATTACK_STEPS each; FANFARE_SEED plays one again (time is real, so its steps
// are the same, and not each moment).

import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { later, matcher } from "../fanfare/resume.js";
import { client, eventually, publish, startBroker, startProxy, startRedis, tokenFor } from "./harness.mjs";
import { dice as diceOf } from "./model.mjs";

const ATTACKS = Number(process.env.FANFARE_ATTACKS ?? 1);
const STEPS = Number(process.env.FANFARE_ATTACK_STEPS ?? 90);
const SECRET = "a-secret-for-this-test-and-no-other-0123456789";
const TOPICS = ["a.x", "a.y", "b.x", "c.x", "no.x", "no.y"];
const PATTERNS = ["a.x", "a.*", "*.x", "c.x", "b.x", ">"];
const GRANTED = ["a.*", "b.x", "c.*"];
const WAYS = [
  {}, {}, { snapshot: true }, { last: 2 }, { tail: 5 }, { since: "-1h" }, { since: "-1h", snapshot: true },
  { latest: true }, { latest: true, snapshot: true }, { maxRate: 50, snapshot: true }, { maxRate: 20 },
];

/** A page of its own; `told` is what it has to say of its publishes. */
async function startPage(t, given, told) {
  const child = fork(fileURLToPath(new URL("page.mjs", import.meta.url)), [JSON.stringify(given)], { execArgv: ["--experimental-websocket", "--no-warnings"] });
  const answers = new Map();
  let asked = 0, isReady = false;
  child.on("message", ({ ready, ask, answer, ...more }) => {
    if (ready) isReady = true;
    else if (ask) answers.get(ask)(answer);
    else told(more);
  });
  t.after(() => child.kill("SIGKILL"));
  await eventually(() => isReady, "the page is there");
  return {
    subscriptions: new Map(),
    tell: (deed, more = {}) => child.send({ deed, ...more }),
    ask: (deed) => new Promise((answer) => { answers.set(++asked, answer); child.send({ deed, ask: asked }); }),
    freeze: () => process.kill(child.pid, "SIGSTOP"),
    thaw: () => process.kill(child.pid, "SIGCONT"),
  };
}

const inOrder = (one, other) => one === other ? 0 : later(one, other) === one ? 1 : -1;

class Attack {
  /** Id → `{id, topic, data}` of each event that is kept, as who published it was told; in the end with its `place` among them. */
  truth = new Map();
  failures = [];
  isOver = false;
  said = 0;
  running = [];
  later = [];

  constructor(t, seed, { isSmall, isCluster }) {
    Object.assign(this, { t, seed, isSmall, isCluster, dice: diceOf(seed) });
  }

  async start() {
    const { t, dice } = this;
    const env = {
      FANFARE_AUTH_JWT_SECRET: SECRET, FANFARE_AUTH_LEEWAY: "0s", FANFARE_SERVER_HEARTBEAT: "1s",
      ...this.isSmall && { FANFARE_HISTORY_MAX_EVENTS: "20" }, ...this.isCluster && await startRedis(t),
    };
    this.brokers = [await startBroker(t, env)];
    if (this.isCluster) this.brokers.push(await startBroker(t, env));
    const way = () => startProxy(t, dice.one(this.brokers).port);
    this.pages = [];
    for (const isWithout of [false, false, true]) {
      const proxy = await way();
      const name = `page${this.pages.length}`;
      const page = await startPage(t, { url: proxy.url, secret: SECRET, grant: GRANTED, seed: dice.below(1e9), isWithout }, (told) => this.keep(told));
      this.pages.push(Object.assign(page, { name, proxy }));
    }
    this.publishers = [];
    for (const options of [{}, { WebSocket: null }]) {
      const proxy = await way();
      const { fanfare } = client(t, proxy.url, { ...options, queue: true, token: () => tokenFor(SECRET, { sub: "feed" }) });
      this.publishers.push({ fanfare, proxy, name: `feed${this.publishers.length}` });
    }
    this.ways = [...this.pages, ...this.publishers].map(({ proxy }) => proxy);
    for (const publisher of this.publishers) for (const topic of TOPICS) this.running.push(this.publishOn(publisher, topic));
  }

  keep({ id, topic, data, code }) {
    if (code) this.failures.push(`${data}: ${code}`);
    else this.truth.set(id, { id, topic, data });
    this.said -= 1;
  }

  /** One event of a topic behind the other, as long as it lasts; some are under way together. */
  async publishOn({ fanfare, name }, topic) {
    for (let n = 0; !this.isOver; n++) {
      const data = `${name}/${topic}/${n}`;
      this.said += 1;
      const answer = fanfare.publish(topic, data).then(({ id }) => this.keep({ id, topic, data }), ({ code }) => this.keep({ topic, data, code }));
      if (n % 4 === 0) await answer;
      await new Promise((next) => setTimeout(next, 20));
    }
  }

  subscribe(page) {
    const { dice } = this;
    const n = this.numbers = (this.numbers ?? 0) + 1;
    const subscription = { n, pattern: dice.one(PATTERNS), how: dice.one(WAYS) };
    page.subscriptions.set(n, subscription);
    page.tell("subscribe", subscription);
  }

  /** Has something happen in a while; all of it has happened before the end. */
  in(ms, deed) {
    this.later.push(new Promise((next) => setTimeout(next, ms)).then(deed));
  }

  async step() {
    const { dice } = this;
    const page = dice.one(this.pages), broker = dice.one(this.brokers), way = dice.one(this.ways);
    const deeds = [
      [5, () => broker.isBusy || this.kill(broker)],
      [4, () => broker.isBusy || this.halt(broker, dice.below(1200))],
      [10, () => way.drop()],
      [6, () => { way.blackhole(); if (page.proxy === way || dice.may(0.7)) this.in(200, () => this.pages.find(({ proxy }) => proxy === way)?.tell("wake")); }],
      [6, () => { way.bytes = 1 + dice.below(30_000); this.in(1500, () => { way.bytes = Infinity; }); }],
      [5, () => { way.hold(); this.in(dice.below(600), () => way.flow()); }],
      [4, () => { way.strips = true; way.drop(); this.in(dice.below(4000), () => { way.strips = false; }); }],
      [6, () => page.isFrozen || this.freeze(page, dice.below(2500))],
      [14, () => this.subscribe(page)],
      [9, () => {
        const open = [...page.subscriptions.values()].filter(({ isOver }) => !isOver);
        if (open.length < 4) return;
        const one = dice.one(open);
        one.isOver = true;
        page.tell("undo", one);
      }],
      [4, () => page.tell("reconnect")],
      [2, () => page.tell("disconnect")],
      [5, () => page.tell("renew")],
      [3, () => { page.tell("hide"); this.in(dice.below(500), () => page.tell("show")); }],
      [12, () => {
        this.said += 1;
        const topic = dice.one(["a.x", "a.y", "b.x", "c.x"]), except = dice.may(0.5);
        page.tell("publish", { topic, except, data: `${page.name}/${topic}/${this.said * 1e6 + this.truth.size}${except ? "/except" : ""}` });
      }],
    ];
    let at = dice.below(deeds.reduce((sum, [weight]) => sum + weight, 0));
    const [, deed] = deeds.find(([weight]) => (at -= weight) < 0);
    await deed();
    await new Promise((next) => setTimeout(next, dice.below(120)));
    // A node that is behind another way from now on.
    if (this.isCluster && dice.may(0.1)) way.port = dice.one(this.brokers).port;
  }

  async kill(broker) {
    broker.isBusy = true;
    await broker.stop("SIGKILL");
    const other = this.brokers.find((each) => each !== broker);
    if (other) for (const way of this.ways) if (way.port === broker.port) way.port = other.port;
    const start = () => broker.start().then(() => { broker.isBusy = false; });
    if (other) this.in(this.dice.below(800), start);
    else await start();
  }

  halt(broker, ms) {
    broker.isBusy = true;
    broker.signal("SIGSTOP");
    this.in(ms, () => { broker.signal("SIGCONT"); broker.isBusy = false; });
  }

  freeze(page, ms) {
    page.isFrozen = true;
    page.freeze();
    this.in(ms, () => { page.thaw(); page.isFrozen = false; if (this.dice.may(0.5)) page.tell("wake"); });
  }

  /** Nothing goes wrong any more, and each topic has a last event. */
  async end() {
    for (let n = 0; n < this.later.length; n++) await this.later[n];
    for (const page of this.pages) page.tell("wake");
    this.isOver = true;
    await Promise.all(this.running);
    await eventually(() => this.said === 0, `${this.said} publishes are answered`);
    assert.deepEqual(this.failures, []);
    await this.untilAll("has all live", ({ n }, { begun }) => begun.includes(n));
    const headers = { Authorization: `Bearer ${tokenFor(SECRET)}` };
    this.last = new Map();
    for (const topic of TOPICS) {
      const id = await publish(this.brokers[0], topic, `end/${topic}`, headers);
      this.last.set(topic, id);
      this.truth.set(id, { id, topic, data: `end/${topic}` });
    }
    await this.untilAll("shows what is newest", ({ n, pattern }, { newest }) => this.seen(pattern).every((topic) => newest[n][topic] === this.last.get(topic)));
  }

  /** Waits until each page is live, and each of its subscriptions is so. */
  async untilAll(what, isSo) {
    for (const page of this.pages) {
      let missing;
      const question = async () => {
        const how = await page.ask("how");
        missing = [...page.subscriptions.values()].filter((each) => !each.isOver && !isSo(each, how));
        return how.isLive && !missing.length;
      };
      await eventually(question, `${page.name} ${what}`).catch(async (error) => {
        const { states, errors, told } = await page.ask("all");
        const shown = missing.map((each) => [each, told[each.n].slice(-5)]);
        throw Object.assign(error, { message: `${error.message}: ${JSON.stringify({ states: states.slice(-8), errors: errors.slice(-4), shown })}` });
      });
    }
  }

  /** The topics of a pattern that pages may read. */
  seen(pattern) {
    return TOPICS.filter((topic) => matcher(pattern)(topic) && GRANTED.some((each) => matcher(each)(topic)));
  }

  async check() {
    const order = [...this.truth.values()].sort((one, other) => inOrder(one.id, other.id));
    for (const [at, event] of order.entries()) event.place = at + 1;
    assert.equal(new Set(order.map(({ data }) => data)).size, order.length, "each publish is one event");
    const counts = new Map();
    for (const { data } of order) {
      const [by, topic, n] = data.split("/");
      if (!by.startsWith("feed")) continue;
      const name = `${by}/${topic}`;
      assert.ok(Number(n) === (counts.get(name) ?? 0), `${data} is stored in its turn, and not as ${counts.get(name)}`);
      counts.set(name, Number(n) + 1);
    }
    let told = 0, gaps = 0;
    for (const page of this.pages) {
      const all = await page.ask("all");
      for (const subscription of page.subscriptions.values()) {
        told += all.told[subscription.n].length;
        try { this.checkOne(page, subscription, all.told[subscription.n], order); } catch (error) {
          error.message = `${page.name}, ${JSON.stringify(subscription)}: ${error.message}`;
          throw error;
        }
      }
      gaps += all.gaps.length;
      if (!this.isSmall) assert.deepEqual(all.gaps, [], `${page.name} has lost nothing`);
      assert.deepEqual(all.errors.filter(([code]) => !/^(token|unauthorized|no_websocket|unreachable|unavailable|cut|silence|timeout|restart|http_\d+)$/.test(code)), []);
    }
    this.t.diagnostic(`${order.length} events, of which handlers were told ${told} times; ${gaps} gaps`);
  }

  checkOne(page, { pattern, how, isOver }, told, order) {
    const topics = this.seen(pattern);
    const isLatest = how.latest || how.maxRate;
    /** Topic → the places told of it, with those of values apart; and where gaps stand between what came. */
    const newest = new Map(), seen = new Map();
    const gaps = [];
    let before = 0;
    for (const [at, [id, topic, data, kind]] of told.entries()) {
      if (id === "gap") { gaps.push({ at, topics: topic, since: data }); continue; }
      if (id === "live" || id === "error") continue;
      assert.ok(topics.includes(topic), `nobody asked for, or may see, ${topic}`);
      const event = this.truth.get(id);
      assert.deepEqual([event?.topic, event?.data], [topic, data], `${id} is what was published`);
      const { place } = event;
      const isAnew = gaps.some((gap) => !gap.topics || gap.topics.includes(topic));
      if (isLatest || kind) {
        assert.ok(kind === "value" && how.last || isAnew || place >= (newest.get(topic) ?? 0), `${id} of ${topic} came behind a newer one`);
      } else {
        assert.ok(place > before || how.tail && isAnew, `${id} of ${topic} came behind ${before}`);
        assert.ok(!seen.has(place) || how.tail && isAnew, `${id} of ${topic} came twice`);
        before = Math.max(before, place);
        seen.set(place, at);
      }
      newest.set(topic, Math.max(place, newest.get(topic) ?? 0));
    }
    if (isLatest) return;
    // From where it begins it has all: with values each topic from its value on.
    const first = new Map();
    let begin = Infinity;
    for (const [id, topic, , kind] of told) {
      if (!this.truth.has(id)) continue;
      const { place } = this.truth.get(id);
      if (!kind) begin = Math.min(begin, place);
      if (!first.has(topic) || kind && first.get(topic).isValue) first.set(topic, { place, isValue: Boolean(kind) });
      else first.get(topic).isValue = false;
    }
    if (how.since && !gaps.length) begin = 0;
    for (const { id, place, topic, data } of order) {
      if (!topics.includes(topic) || seen.has(place)) continue;
      const from = Math.min(begin, first.get(topic)?.place ?? Infinity);
      const isValue = told.some(([each, , , kind]) => each === id && kind);
      if (place < from || isValue || data.endsWith("/except") && data.startsWith(page.name)) continue;
      if (isOver && ![...seen.keys()].some((each) => each > place)) continue;
      assert.ok(gaps.some((gap) => this.isOf(gap, told, topic, id)), `${id} (${data}) of ${topic} never came, and no gap said so: ${JSON.stringify(gaps)}`);
    }
  }

  /** Whether an event is among what a gap tells of: behind its place there is only what is left, until it is live again. */
  isOf({ at, topics, since }, told, topic, id) {
    if (topics && !topics.includes(topic) || this.truth.has(since) && inOrder(id, since) <= 0) return false;
    const live = told.findIndex(([what], n) => n > at && what === "live");
    const next = live < 0 ? undefined : told.find(([each], n) => n > live && this.truth.has(each));
    return !next || inOrder(id, next[0]) < 0;
  }
}

async function live(t, seed, form) {
  t.diagnostic(`FANFARE_SEED=${seed}`);
  const attack = new Attack(t, seed, form);
  await attack.start();
  for (const page of attack.pages) for (let n = 0; n < 3; n++) attack.subscribe(page);
  for (let n = 0; n < STEPS; n++) await attack.step();
  await attack.end();
  await attack.check();
}

const FORMS = { "with the history on disk": {}, "with a history that forgets": { isSmall: true }, "with two nodes behind Redis": { isCluster: true } };
const seeds = process.env.FANFARE_SEED ? [Number(process.env.FANFARE_SEED)] : [...Array(ATTACKS).keys()];
for (const [name, form] of Object.entries(FORMS)) {
  for (const seed of seeds) test(`R33 and R9 attack ${seed}, ${name}: each handler is told what its subscription promises`, { timeout: 180_000 }, (t) => live(t, seed, form));
}

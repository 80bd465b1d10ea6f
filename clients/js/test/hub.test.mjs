// Tabs that share a connection, against a model of the broker, through interleavings that follow from a seed; and what becomes of
// a tab that has more to catch up with than fits.
//
// FANFARE_SEEDS says how many lives; FANFARE_SEED plays one of them again.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Hub } from "../fanfare/hub.js";
import { Resume } from "../fanfare/resume.js";
import { Life, check, playAll, trace, wanted } from "./life.mjs";
import { ModelBroker, dice as diceOf } from "./model.mjs";

const SEEDS = Number(process.env.FANFARE_SEEDS ?? 600);
const STEPS = 250;

/** A tab: a client whose connection is one of the hub's. */
class Tab extends Life {
  isReady = false;

  constructor(dice, world, house, id) {
    super(dice, world);
    Object.assign(this, { house, id });
  }

  connect() {
    if (this.link) return;
    const hub = this.house.hub ?? this.house.open();
    const id = `${this.id}/${this.clock}`;
    const link = this.link = { id, out: [], ask: (request) => hub.take(id, JSON.stringify(request)) };
    hub.open(id, { send: (message) => link.out.push(message), over: () => this.lose(link), alone: () => assert.fail("nothing here is that long") });
  }

  speak() {
    if (this.isReady) super.speak();
  }

  hear() {
    if (!/^{"op":"welcome"/.test(this.link.out[0])) return super.hear();
    this.link.out.shift();
    this.isReady = true;
    this.resume.again();
    this.speak();
  }

  /** The connection is gone, whatever of it has come. */
  lose(link) {
    if (this.link !== link) return;
    for (let n = this.dice.below(link.out.length + 1); n > 0; n--) this.hear();
    trace(this.clock, this.id, "cut");
    this.link = null;
    this.isReady = false;
    this.requests = [];
    this.tellCut();
    this.resume.cut();
  }

  cut() {
    const { link } = this;
    if (!link) return;
    this.lose(link);
    this.house.hub?.close(link.id);
  }
}

class House {
  hub = null;
  session = null;
  requests = [];

  constructor(dice) {
    this.dice = dice;
    this.world = { broker: new ModelBroker(), clock: 0, published: [] };
    this.tabs = [1, 2, 3].map((n) => new Tab(dice, this.world, this, `tab${n}`));
  }

  open() {
    this.session = this.world.broker.connect();
    this.session.say({ op: "welcome", session: this.session.name, heartbeat: 25 });
    this.socket = { send: (text) => this.requests.push(JSON.parse(text)), close() {} };
    this.hub = new Hub(this.socket, { read: JSON.parse, goaway() {}, over: () => this.forget() });
    return this.hub;
  }

  forget() {
    this.hub = this.session = null;
    this.requests = [];
    this.world.broker.cut();
  }

  hear() {
    trace(this.world.clock, "< hub", this.session.out[0]);
    this.socket.onmessage({ data: this.session.out.shift() });
  }

  /** The hub's tab closes, or the connection breaks. */
  cut() {
    for (let n = this.dice.below(this.session.out.length + 1); n > 0 && this.session; n--) this.hear();
    this.hub?.end(1006);
  }

  step() {
    const { dice, session, world } = this;
    const tab = dice.one(this.tabs);
    world.clock += 1;
    const deed = dice.below(100);
    if (deed < 22) tab.publish();
    else if (deed < 36) { if (session?.out.length) this.hear(); }
    else if (deed < 46) { if (session && this.requests.length) session.ask(this.requests.shift()); }
    else if (deed < 58) { if (session?.catchups.length) session.step(dice.one(session.catchups)); }
    else if (deed < 62) { if (session?.pending.size) session.flush(dice.one([...session.pending.keys()])); }
    else if (deed < 64) session?.beat();
    else if (deed < 74) { if (tab.link?.out.length) tab.hear(); }
    else if (deed < 82) { if (tab.requests.length) tab.link.ask(tab.requests.shift()); }
    else if (deed < 88) { tab.subscribe(); if (dice.may(0.7)) tab.speak(); }
    else if (deed < 91) { tab.unsubscribe(); if (dice.may(0.7)) tab.speak(); }
    else if (deed < 93) tab.cut();
    else if (deed < 97) tab.connect();
    else if (deed < 98) { if (this.hub && dice.may(0.5)) this.cut(); }
    else if (deed < 99) { tab.gone(); world.broker.evict(); }
    else if (dice.may(0.3) && !this.hub) {
      tab.gone();
      for (const event of world.published) event.isWiped = true;
      world.broker.wipe();
    }
  }

  settle() {
    this.world.clock += 1;
    for (let n = 0; n < 50_000; n++) {
      for (const tab of this.tabs) { tab.connect(); tab.speak(); }
      const { session } = this;
      const heard = this.tabs.find(({ link }) => link.out.length), asking = this.tabs.find(({ requests }) => requests.length);
      if (heard) heard.hear();
      else if (asking) asking.link.ask(asking.requests.shift());
      else if (session.out.length) this.hear();
      else if (this.requests.length) session.ask(this.requests.shift());
      else if (session.catchups.length) session.step(session.catchups[0]);
      else if (session.pending.size) session.flush([...session.pending.keys()][0]);
      else return;
    }
    assert.fail("it never settles");
  }
}

function play(seed) {
  const house = new House(diceOf(seed));
  for (let n = 0; n < STEPS; n++) house.step();
  house.settle();
  const all = house.tabs.flatMap(({ records }) => records);
  for (const tab of house.tabs) {
    trace("check", tab.id);
    check(tab, all);
  }
  assert.deepEqual(new Set(house.session.live.keys()), wanted(all), "the broker has what is wanted, and nothing else");
}

test("R28 tabs that share a connection are told each event once, in order, or of a gap, in whatever order things happen", () => playAll(SEEDS, play));

/** A hub with tabs, whose broker is the test: what it was asked, and what each tab was told. */
function startHub(...ids) {
  const sent = [], told = {}, alone = [];
  const socket = { send: (text) => sent.push(JSON.parse(text)), close() {} };
  const hub = new Hub(socket, { read: JSON.parse, goaway() {}, over() {} });
  for (const id of ids) {
    told[id] = [];
    hub.open(id, { send: (message) => told[id].push(JSON.parse(message)), over() {}, alone: () => { alone.push(id); hub.close(id); } });
  }
  const say = (...frames) => { for (const frame of frames) socket.onmessage({ data: JSON.stringify(frame) }); };
  say({ op: "welcome", session: "s", heartbeat: 25 });
  let ref = 0;
  return { hub, sent, told, alone, say, take: (id, frame) => hub.take(id, JSON.stringify({ op: frame.op, ref: ++ref, ...frame })), cursor: (n) => `aaaaaaaa-1-${n}` };
}

const kinds = (frames) => frames.map(({ op, data, replay, snapshot }) => [op, data, replay !== undefined && "replay", snapshot && "snapshot"].filter((each) => each !== undefined && each !== false).join(" "));

test("R28 an event of two patterns that the broker was asked for one by one comes to their tab once", () => {
  const { told, say, take, sent, cursor } = startHub("one", "two");
  take("two", { op: "subscribe", topics: ["a.x"] });
  say({ op: "ack", ref: 1 }, { op: "live", ref: 1, cursor: cursor(5) });
  take("one", { op: "subscribe", topics: ["a.*", "a.x"], since: cursor(1), mode: "latest" });
  const event = { op: "event", topic: "a.x", id: cursor(3), data: 3 };
  say({ op: "ack", ref: 2 }, { ...event, replay: 2, conflated: true }, { op: "live", ref: 2, cursor: cursor(5) });
  say({ op: "ack", ref: 3 }, { ...event, replay: 3 }, { op: "live", ref: 3, cursor: cursor(5) });
  assert.deepEqual(sent.slice(1).map(({ topics, mode = "all" }) => [topics, mode]), [[["a.*"], "latest"], [["a.x"], "all"]], "who wants all of it keeps all");
  assert.deepEqual(kinds(told.one), ["welcome", "ack", "event 3 replay", "live"]);
});

test("R28 what a tab begins with comes in its order, though another tab has had some of it before", () => {
  const { told, say, take, cursor } = startHub("one", "two");
  take("two", { op: "subscribe", topics: ["a.x"] });
  say({ op: "ack", ref: 1 }, { op: "live", ref: 1, cursor: cursor(5) });
  take("one", { op: "subscribe", topics: ["a.x", "b.x"] });
  say({ op: "ack", ref: 2 }, { op: "event", topic: "a.x", id: cursor(8), data: 8 });
  say({ op: "event", topic: "b.x", id: cursor(7), data: 7, replay: 2 }, { op: "live", ref: 2, cursor: cursor(8) });
  assert.deepEqual(kinds(told.one), ["welcome", "ack", "event 7 replay", "event 8 replay", "live"]);
});

test("R28 behind a gap a tab is live again only with its values, whoever else has the pattern without", () => {
  const { told, say, take, cursor } = startHub("one", "two");
  take("one", { op: "subscribe", topics: ["a"], snapshot: true });
  say({ op: "ack", ref: 1 }, { op: "live", ref: 1, cursor: cursor(5) });
  take("one", { op: "subscribe", topics: ["b"] });
  say({ op: "ack", ref: 2 }, { op: "live", ref: 2, cursor: cursor(5) });
  take("two", { op: "subscribe", topics: ["a"], since: cursor(4) });
  say({ op: "ack", ref: 3 }, { op: "live", ref: 3, cursor: cursor(5) });
  told.one.length = 0;
  say({ op: "gap", since: cursor(5) }, { op: "live", cursor: cursor(6) });
  say({ op: "ack", ref: 4 }, { op: "event", topic: "a", id: cursor(6), data: 6, snapshot: true }, { op: "live", ref: 4, cursor: cursor(6) });
  assert.deepEqual(kinds(told.one), ["gap", "event 6 snapshot", "live"]);
});

test("R28 the newest value is the last one that a tab begins with, though a gap brought it before older ones", () => {
  const { told, say, take, cursor } = startHub("one", "two");
  take("two", { op: "subscribe", topics: ["a"], snapshot: true });
  say({ op: "ack", ref: 1 }, { op: "live", ref: 1, cursor: cursor(5) });
  take("one", { op: "subscribe", topics: ["a", "b"], last: 2 });
  const value = (n) => ({ op: "event", topic: "a", id: cursor(n), data: n, snapshot: true });
  say({ op: "ack", ref: 2 }, { op: "gap", since: cursor(6) }, value(7), { op: "live", cursor: cursor(7) });
  say(value(4), value(5), value(5), value(7), { op: "live", ref: 2, cursor: cursor(7) });
  assert.deepEqual(kinds(told.one), ["welcome", "ack", "gap", "event 4 snapshot", "event 5 snapshot", "event 7 snapshot", "live"]);
});

test("R28 the place of a tab lies behind all that it was handed, though the broker's cursor waits for a slow one", () => {
  const { told, say, take, cursor } = startHub("one", "two");
  take("one", { op: "subscribe", topics: ["a"] });
  say({ op: "ack", ref: 1 }, { op: "live", ref: 1, cursor: cursor(5) });
  say({ op: "event", topic: "a", id: cursor(9), data: 9 }, { op: "cursor", cursor: cursor(6) });
  take("two", { op: "subscribe", topics: ["a"] });
  assert.deepEqual(told.two.at(-1), { op: "live", ref: 2, cursor: cursor(9) });
});

test("R28 a cut skips nothing that still waited for a slow screen, though the tab's other patterns were further", () => {
  const { hub, told, say, take, cursor } = startHub("other");
  take("other", { op: "subscribe", topics: ["all"] });
  say({ op: "ack", ref: 1 }, { op: "live", ref: 1, cursor: cursor(5) });
  const tab = new Resume();
  const drive = () => {
    for (let ref = 1, request; (request = tab.next(ref)); ref++) hub.take("tab", JSON.stringify(request));
  };
  hub.open("tab", { send: (message) => tab.take(JSON.parse(message)), over() {}, alone() {} });
  const add = (pattern, latest) => tab.add({ pattern, begin: {}, at: undefined, latest, hand() {}, gap() {}, live() {}, refused() {} });
  add("slow", true);
  drive();
  say({ op: "ack", ref: 2 }, { op: "live", ref: 2, cursor: cursor(5) });
  // One of `slow`, 7, waits at the broker meanwhile.
  say({ op: "event", topic: "all", id: cursor(9), data: 9 });
  add("all");
  drive();
  assert.equal(told.other.at(-1).data, 9);
  tab.cut();
  assert.deepEqual([tab.next(1), tab.subscriptions.size], [{ op: "subscribe", ref: 1, topics: ["slow"], since: cursor(5), mode: "latest" }, 2]);
});

test("R28 a tab that asks for more than fits is sent its own way, and the others go on", () => {
  const { told, alone, say, take, sent, cursor } = startHub("one", "two");
  take("two", { op: "subscribe", topics: ["c"] });
  say({ op: "ack", ref: 1 }, { op: "live", ref: 1, cursor: cursor(0) });
  take("one", { op: "subscribe", topics: ["a", "b"], since: "-1h" });
  say({ op: "ack", ref: 2 });
  for (let n = 1; n <= 10_000; n++) say({ op: "event", topic: "a", id: cursor(n), replay: 2, data: n });
  assert.deepEqual([alone, told.one.length], [[], 1], "it waits for its whole");
  say({ op: "event", topic: "a", id: cursor(10_001), replay: 2, data: 0 });
  assert.deepEqual([alone, sent.at(-1).op, sent.at(-1).topics], [["one"], "unsubscribe", ["a", "b"]]);
  say({ op: "event", topic: "c", id: cursor(10_002), data: "still" });
  assert.equal(told.two.at(-1).data, "still");
});

test("R28 the text of an event is the broker's, to the letter", () => {
  const socket = { send() {}, close() {} };
  const hub = new Hub(socket, { read: JSON.parse, goaway() {}, over() {} });
  const told = [];
  hub.open("one", { send: (message) => told.push(message), over() {} });
  socket.onmessage({ data: '{"op":"welcome","session":"s","heartbeat":25}' });
  hub.take("one", '{"op":"subscribe","ref":7,"topics":["a"],"since":"-1h"}');
  socket.onmessage({ data: '{"op":"ack","ref":1}' });
  const data = '{"n": 12345678901234567890, "replay":1, "t":",\\"snapshot\\":true}"}';
  socket.onmessage({ data: `{"op":"event","id":"aaaaaaaa-1-1","topic":"a","data":${data},"replay":1}` });
  socket.onmessage({ data: '{"op":"live","ref":1,"cursor":"aaaaaaaa-1-1"}' });
  socket.onmessage({ data: `{"op":"event","id":"aaaaaaaa-1-2","topic":"a","data":${data}}` });
  assert.ok(told[2].includes(data) && JSON.parse(told[2]).replay === 7);
  assert.equal(told.at(-1), `{"op":"event","id":"aaaaaaaa-1-2","topic":"a","data":${data}}`);
});

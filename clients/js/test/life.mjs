// The life of a client, as a seed has it: what it asks for, what it is told, and whether that is what it should have been told.

import assert from "node:assert/strict";
import { Resume, later, matcher } from "../fanfare/resume.js";
import { ModelBroker } from "./model.mjs";

const TOPICS = ["a.x", "a.y", "b.x", "c"];
const PATTERNS = ["a.x", "a.*", "*.x", "b.x", "c", ">", "bad", "a.>"];
const BEGINNINGS = [{}, {}, { snapshot: true }, { last: 2 }, { tail: 3 }];

/** What happens, told where one life is played again. */
export const trace = process.env.FANFARE_SEED ? (...told) => console.log(...told.map((each) => typeof each === "object" ? JSON.stringify(each) : each)) : () => {};

/** One life of a client: what happened, and what each subscription was told. */
export class Life {
  resume = new Resume();
  ref = 0;
  records = [];
  link = null;
  requests = [];

  /** What several clients may have in common: the broker, the time, and what was published. */
  constructor(dice, world = { broker: new ModelBroker(), clock: 0, published: [] }) {
    this.dice = dice;
    this.world = world;
    world.broker.forbidden.add("bad");
  }

  get broker() {
    return this.world.broker;
  }

  get clock() {
    return this.world.clock;
  }

  get published() {
    return this.world.published;
  }

  subscribe() {
    const { dice, broker } = this;
    const latest = dice.may(0.3);
    const at = dice.may(0.15) && broker.sequence ? broker.cursor(dice.below(broker.sequence)) : undefined;
    const record = { got: [], told: [], gaps: [], pattern: dice.one(PATTERNS), latest, at, begin: dice.one(BEGINNINGS), refused: 0, liveAt: null, lives: [] };
    const subscription = {
      pattern: record.pattern, begin: record.begin, at, latest, rate: latest && dice.may(0.5) ? 5 : undefined,
      hand: (event) => {
        record.got.push({ ...event, at: this.clock });
        record.told.push(event);
        this.act();
      },
      // Of what is told in one step, each has its moment.
      gap: ({ topics }) => {
        const gap = { op: "gap", at: ++this.world.clock, isOf: (topic) => !topics || topics.includes(topic), isLive: subscription.phase === "live" };
        record.gaps.push(gap);
        record.told.push(gap);
        this.act(5);
      },
      live: () => {
        record.lives.push(++this.world.clock);
        record.liveAt ??= this.clock;
        record.told.push({ op: "live" });
        this.act(2);
      },
      refused: () => { record.refused += 1; },
    };
    record.subscription = subscription;
    trace(this.clock, "subscribe", record.pattern, record.begin, at, { latest });
    this.records.push(record);
    this.resume.add(subscription);
  }

  /** What an application may do from within anything that it is told. */
  act(eagerness = 1) {
    if (this.dice.may(0.02 * eagerness)) this.unsubscribe();
    else if (this.dice.may(0.02 * eagerness)) this.subscribe();
    else return;
    this.isSoon = true;
  }

  unsubscribe() {
    const open = this.records.filter(({ subscription }) => this.resume.subscriptions.has(subscription));
    if (!open.length) return;
    const record = this.dice.one(open);
    this.resume.remove(record.subscription);
    record.endedAt = this.clock;
  }

  /** The client says what it has to say; it comes to the broker by and by. */
  speak() {
    let request;
    while (this.link && (request = this.resume.next(++this.ref))) {
      trace(this.clock, ">", request);
      this.requests.push(request);
    }
  }

  hear() {
    const frame = JSON.parse(this.link.out.shift());
    trace(this.clock, "<", frame);
    this.resume.take(frame);
    if (frame.op !== "event") this.speak();
  }

  cut() {
    if (!this.link) return;
    const heard = this.dice.below(this.link.out.length + 1);
    for (let n = 0; n < heard; n++) this.hear();
    trace(this.clock, "cut");
    this.link = null;
    this.broker.cut();
    this.requests = [];
    this.tellCut();
    this.resume.cut();
  }

  tellCut() {
    for (const { told } of this.records) told.push({ op: "cut" });
  }

  /** A planned stop: another connection takes the place of this one, whatever was under way here, without a moment between. */
  move() {
    this.cut();
    this.connect();
  }

  connect() {
    if (this.link) return;
    this.link = this.broker.connect();
    this.resume.again();
    this.speak();
  }

  publish() {
    const { dice } = this;
    const how = { kept: dice.may(0.9), lost: dice.may(0.04), named: dice.may(0.5) };
    const event = this.broker.publish(dice.one(TOPICS), how);
    trace(this.clock, "published", event.id, event.topic, how);
    this.published.push({ ...event, at: this.clock, isGone: how.lost, log: this.broker.name });
  }

  /** What may happen next, each as often as it is here. */
  step() {
    const { dice, broker, link } = this;
    this.world.clock += 1;
    const deed = dice.below(100);
    if (deed < 30) this.publish();
    else if (deed < 42) { if (link?.out.length) this.hear(); }
    else if (deed < 52) { if (link && this.requests.length) link.ask(this.requests.shift()); }
    else if (deed < 68) { if (link?.catchups.length) link.step(dice.one(link.catchups)); }
    else if (deed < 74) { if (link?.pending.size) link.flush(dice.one([...link.pending.keys()])); }
    else if (deed < 77) link?.beat();
    else if (deed < 84) { this.subscribe(); if (dice.may(0.7)) this.speak(); }
    else if (deed < 88) { this.unsubscribe(); if (dice.may(0.7)) this.speak(); }
    else if (deed < 90) this.cut();
    else if (deed < 91) this.move();
    else if (deed < 97) this.connect();
    else if (deed < 98) { this.gone(); broker.evict(); }
    else if (dice.may(0.2) && !link) {
      this.gone();
      for (const event of this.published) event.isWiped = true;
      broker.wipe();
    }
    else if (dice.may(0.3)) { this.tellCut(); this.resume.doubt(); this.speak(); }
  }

  gone() {
    for (const event of this.published) event.isGone = true;
  }

  /** Everything that is under way comes to pass. */
  settle() {
    this.world.clock += 1;
    this.connect();
    for (let n = 0; n < 10_000; n++) {
      // What was said from within what it was told goes out in a turn of its own.
      this.isSoon = false;
      this.speak();
      if (this.isSoon) continue;
      if (this.link.out.length) this.hear();
      else if (this.requests.length) this.link.ask(this.requests.shift());
      else if (this.link.catchups.length) this.link.step(this.link.catchups[0]);
      else if (this.link.pending.size) this.link.flush([...this.link.pending.keys()][0]);
      else return;
    }
    assert.fail("it never settles");
  }
}

/** Of a subscription to all events: each once, in order, or a gap. */
function checkAll({ got, gaps, lives, pattern, liveAt, begin, at }, life) {
  const kept = got.filter(({ id, snapshot }) => id && !snapshot);
  const seen = new Map();
  let before = null;
  for (const event of kept) {
    const again = seen.get(event.id);
    const beganAnew = (since) => begin.tail && gaps.some((gap) => gap.at >= since);
    assert.ok(!again || beganAnew(again.at), `${event.id} of ${pattern} came twice`);
    seen.set(event.id, event);
    if (before && !beganAnew(before.at)) assert.equal(later(before.id, event.id), event.id, `${event.id} came behind ${before.id}`);
    before = event;
  }
  // An event that is not kept comes at most once.
  const passing = got.filter(({ id }) => !id).map(({ data }) => data);
  assert.equal(new Set(passing).size, passing.length, `an event that is not kept came twice to ${pattern}: ${passing}`);
  const matches = matcher(pattern);
  const first = kept[0]?.id;
  const place = at && Number(at.split("-").at(-1));
  let isIn = false;
  for (const event of life.published) {
    if (event.id === undefined || !matches(event.topic)) continue;
    isIn ||= event.id === first || at !== undefined && event.log === at.split("-")[0] && event.sequence > place || liveAt !== null && event.at > liveAt;
    if (!isIn || seen.has(event.id)) continue;
    // Behind a gap it begins anew, which it has done once it is live again.
    const isAnew = (gap) => gap.isOf(event.topic) && (gap.at >= event.at || !lives.some((live) => live >= gap.at && live < event.at));
    assert.ok((event.isGone || Object.keys(begin).length) && gaps.some(isAnew), `${event.id} of ${event.topic} never came to ${pattern}, and no gap said so`);
  }
}

/** How many values of each topic it begins with. */
const valuesOf = ({ snapshot, last }) => last ?? (snapshot ? 1 : 0);

/**
 * Of a topic nothing older comes behind what is newer. Current values come before it is live, and again behind each gap: of the
 * topics that it is of, as many as were asked for, and the last of them is the newest.
 */
function checkOrder({ told, begin, latest, pattern }, all, isShared) {
  const asked = valuesOf(begin);
  // Behind a gap a topic comes once for all of a connection, as often as the one says that wants most of it.
  const most = asked && Math.max(...all.map((other) => valuesOf(other.begin)));
  const newest = new Map();
  /** Topic → the values of it since it was live. */
  const values = new Map();
  /** Topics of which the newest is to come again. */
  const behind = new Set();
  // While it begins, a gap brings values twice: those of who is live already, which do not say for whom they are, and then its own.
  const others = (topic) => Math.max(0, ...all.filter((other) => other.told !== told && matcher(other.pattern)(topic)).map((other) => valuesOf(other.begin)));
  let isLive = false, occasions = [() => true], beside = [];
  for (const one of told) {
    const { op, id, topic, snapshot } = one;
    if (op === "live") {
      assert.deepEqual([...behind], [], `${pattern} is live with what is old`);
      [isLive, occasions, beside] = [true, [], []];
      values.clear();
    } else if (op === "gap") {
      occasions.push(one.isOf);
      if (!one.isLive) beside.push(one.isOf);
      // What is left has no values where none were asked for: it is read anew.
      if (!isLive && (begin.tail || latest && !most)) newest.clear();
    } else if (op === "cut") {
      // What was under way begins once more from its place, behind which values and gaps may have told something already.
      if (occasions.length) {
        occasions.push(() => true);
        newest.clear();
        behind.clear();
      }
      isLive = false;
    } else if (id) {
      const before = newest.get(topic);
      const isNewer = before === undefined || before !== id && later(before, id) === id;
      const times = most && occasions.filter((isOf) => isOf(topic)).length;
      if (snapshot && times) {
        const shown = values.get(topic) ?? [];
        values.set(topic, [...shown, id]);
        // For whom else a value is it does not say: to a tab that waits for its values those that begin for another come as well.
        const bound = most * times + others(topic) * beside.filter((isOf) => isOf(topic)).length;
        assert.ok(isShared || shown.length < bound, `${id} of ${topic} is one value too many for ${pattern}`);
        const isOlder = !isNewer && id !== before;
        // While it begins, a gap of its connection may bring what is newer before its own.
        assert.ok(most > 1 || !isOlder || times > 1, `the value ${id} of ${topic} came behind ${before} to ${pattern}`);
        behind[isOlder ? "add" : "delete"](topic);
        if (isOlder) continue;
      } else {
        // Another's value stands for what waits for a slow screen.
        assert.ok(!snapshot || latest, `nothing asks for the value ${id} of ${topic} in ${pattern}`);
        // The place of who wants the latest lies below what it was shown: behind a cut the same may come once more.
        assert.ok(isNewer || latest && id === before, `${id} of ${topic} came behind ${before} to ${pattern}`);
      }
      newest.set(topic, id);
    }
  }
}

/** Of any subscription that is live: what is shown of a topic is its newest event. */
function checkNewest({ got, gaps, begin, pattern, liveAt }, life) {
  const matches = matcher(pattern);
  for (const topic of TOPICS.filter(matches)) {
    const newest = life.published.findLast((event) => event.topic === topic && event.id);
    // A list that began anew behind a gap has what is newest of all, not of each topic.
    if (begin.tail && gaps.some((gap) => gap.at >= newest?.at)) continue;
    // Who has current values has them again behind a gap.
    const isAway = begin.snapshot || begin.last ? newest?.isWiped : newest?.isGone;
    if (!newest || isAway || newest.at <= liveAt) continue;
    const shown = got.findLast((event) => event.topic === topic && event.id);
    assert.equal(shown?.id, newest.id, `${pattern} shows ${shown?.id} of ${topic}`);
  }
}

/** Whether each subscription was told what it should have been. */
export function check(life, all = life.records) {
  for (const record of life.records) {
    const { subscription, endedAt, pattern } = record;
    if (pattern === "bad") {
      assert.ok(endedAt || record.refused > 0, "what is refused is told so");
      continue;
    }
    assert.ok(endedAt || subscription.phase === "live", `${pattern} is ${subscription.phase}`);
    // Through a hub, beside who wants all of its pattern, it is told again what the screen was too slow for.
    const isAlone = !record.latest || !all.some((other) => other.pattern === pattern && !other.latest);
    const isShared = all !== life.records;
    if (isAlone || !isShared) checkOrder(record, all, isShared || !isAlone);
    if (!endedAt && !record.latest) checkAll(record, life);
    if (!endedAt) checkNewest(record, life);
  }
}

/** What is wanted of the broker, and nothing else. */
export const wanted = (records) => new Set(records.filter(({ endedAt, pattern }) => !endedAt && pattern !== "bad").map(({ pattern }) => pattern));

/** Plays each seed from FANFARE_FIRST on, or the one that FANFARE_SEED names. */
export function playAll(seeds, play) {
  const only = process.env.FANFARE_SEED, first = Number(process.env.FANFARE_FIRST ?? 0);
  for (const seed of only ? [Number(only)] : Array.from({ length: seeds }, (_, n) => first + n)) {
    try { play(seed); } catch (error) {
      error.message = `FANFARE_SEED=${seed}: ${error.message}`;
      throw error;
    }
  }
}

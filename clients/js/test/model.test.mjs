// The rules of the cursor, against a model of the broker, through interleavings that follow from a seed.
//
// FANFARE_SEEDS says how many lives; FANFARE_SEED plays one of them again.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Life, check, playAll, wanted } from "./life.mjs";
import { Resume } from "../fanfare/resume.js";
import { ModelBroker, dice } from "./model.mjs";

const SEEDS = Number(process.env.FANFARE_SEEDS ?? 4000);
const STEPS = 120;

function play(seed) {
  const life = new Life(dice(seed));
  life.connect();
  for (let n = 0; n < STEPS; n++) life.step();
  life.settle();
  check(life);
  assert.deepEqual(new Set(life.link.live.keys()), wanted(life.records), "the broker has what is wanted, and nothing else");
}

test("R9 every event of mode all comes once, in order, or a gap says that it does not, in whatever order things happen", () => playAll(SEEDS, play));

test("R10 what a cut leaves of the values behind a gap comes again", () => {
  const resume = new Resume();
  const got = [];
  const subscription = (pattern, begin) => ({ pattern, begin, at: undefined, hand: ({ data }) => got.push(data), gap: ({ topics = ["all"] }) => got.push(`gap of ${topics}`), live() {}, refused() {} });
  resume.add(subscription("a.*", { snapshot: true }));
  const { ref } = resume.next(1);
  resume.take({ op: "ack", ref });
  resume.take({ op: "live", ref, cursor: "l-1-5" });
  assert.ok(!resume.next(2));
  resume.take({ op: "gap", since: "l-1-5", topics: ["a.x", "a.y"] });
  resume.take({ op: "event", topic: "a.x", id: "l-1-9", data: "x", snapshot: true });
  resume.take({ op: "event", topic: "a.z", id: "l-1-10", data: "z" });
  // The value of a.y has not come; what is after l-1-10 would never tell it. What else came meanwhile is gone by that, of any topic.
  resume.cut();
  assert.deepEqual(resume.next(3), { op: "subscribe", ref: 3, topics: ["a.*"], snapshot: true });
  assert.deepEqual(got, ["gap of a.x,a.y", "x", "z", "gap of all"]);
});

test("R10 the values that others have again behind a gap are nobody's who asked for none", () => {
  const resume = new Resume();
  const got = { one: [], two: [] };
  const add = (name, pattern, begin) => resume.add({ pattern, begin, at: undefined, hand: ({ data }) => got[name].push(data), gap: () => got[name].push("gap"), live() {}, refused() {} });
  add("one", "a.x", { snapshot: true });
  const first = resume.next(1);
  resume.take({ op: "ack", ref: first.ref });
  resume.take({ op: "live", ref: first.ref, cursor: "l-1-5" });
  add("two", "a.*", { tail: 3 });
  const { ref } = resume.next(2);
  resume.take({ op: "ack", ref });
  resume.take({ op: "event", topic: "a.x", id: "l-1-5", data: 5, replay: ref });
  resume.take({ op: "gap", since: "l-1-5" });
  resume.take({ op: "event", topic: "a.x", id: "l-1-7", data: 7, snapshot: true });
  resume.take({ op: "live", cursor: "l-1-7" });
  resume.take({ op: "event", topic: "a.x", id: "l-1-7", data: 7, replay: ref });
  assert.deepEqual(got, { one: ["gap", 7], two: [5, "gap", 7] });
});

test("R10 amid a replay, nothing older comes behind a value that a gap brought to who is live, and a cut loses nothing by that", () => {
  const resume = new Resume();
  const got = { one: [], two: [] };
  const add = (name, at) => resume.add({ pattern: "a", begin: { last: 2 }, at, hand: ({ data }) => got[name].push(data), gap: () => got[name].push("gap"), live() {}, refused() {} });
  const event = (number, more) => resume.take({ op: "event", topic: "a", id: `l-1-${number}`, data: number, ...more });
  add("one");
  const first = resume.next(1);
  resume.take({ op: "ack", ref: first.ref });
  resume.take({ op: "live", ref: first.ref, cursor: "l-1-5" });
  add("two", "l-1-1");
  const { ref } = resume.next(2);
  resume.take({ op: "ack", ref });
  event(2, { replay: ref });
  resume.take({ op: "gap", since: "l-1-5" });
  for (const number of [5, 7]) event(number, { snapshot: true });
  resume.take({ op: "live", cursor: "l-1-7" });
  for (const number of [3, 5]) event(number, { replay: ref });
  assert.deepEqual(got, { one: ["gap", 5, 7], two: [2, "gap", 5, 7] });
  // Its own values have not come, and were perhaps more than those.
  resume.cut();
  while (resume.next(3).since !== "l-1-5") { resume.take({ op: "ack", ref: 3 }); resume.take({ op: "live", ref: 3, cursor: "l-1-7" }); }
  resume.take({ op: "ack", ref: 3 });
  for (const number of [7, 8]) event(number, { replay: 3 });
  assert.deepEqual(got.two, [2, "gap", 5, 7, 7, 8]);
});

test("R10 the values that others have again are nobody's who goes on from a place, unless a gap was told there", () => {
  const resume = new Resume();
  const got = { one: [], two: [] };
  const add = (name, at) => resume.add({ pattern: "a", begin: { snapshot: true }, at, hand: ({ data }) => got[name].push(data), gap: () => got[name].push("gap"), live() {}, refused() {} });
  const event = (number, more) => resume.take({ op: "event", topic: "a", id: `l-1-${number}`, data: number, ...more });
  add("one");
  const first = resume.next(1);
  resume.take({ op: "ack", ref: first.ref });
  resume.take({ op: "live", ref: first.ref, cursor: "l-1-5" });
  // Its request comes to the broker behind the gap, and before the values that follow that.
  add("two", "l-1-4");
  const { ref } = resume.next(2);
  resume.take({ op: "gap", since: "l-1-5" });
  resume.take({ op: "ack", ref });
  event(7, { snapshot: true });
  for (const number of [5, 6, 7]) event(number, { replay: ref });
  resume.take({ op: "live", cursor: "l-1-7" });
  resume.take({ op: "live", ref, cursor: "l-1-7" });
  assert.deepEqual(got, { one: ["gap", 7], two: [5, 6, 7] });
});

test("R10 who begins amid a gap may have the values of who is live already, and then all of its own", () => {
  const script = [];
  const life = new Life({ may: () => false, below: () => 0, one: () => script.shift() });
  const subscribe = (...wanted) => { script.push(...wanted); life.subscribe(); };
  const publish = (how) => { life.world.clock += 1; life.published.push({ ...life.broker.publish("c", how), at: life.clock, log: life.broker.name, isGone: how?.lost }); };
  for (let n = 0; n < 3; n++) publish();
  subscribe("c", { last: 2 });
  life.settle();
  subscribe(">", { last: 2 });
  life.speak();
  life.link.ask(life.requests.shift());
  for (let n = 0; n < 2; n++) life.link.step(life.link.catchups[0]);
  publish({ lost: true });
  life.settle();
  assert.deepEqual(life.records[1].got.map(({ data }) => data), ["c/2", "c/3", "c/3", "c/4", "c/3", "c/4"]);
  check(life);
});

test("R27 the model sends no value that was read before a gap behind it, as a broker does not", () => {
  const broker = new ModelBroker();
  for (let n = 0; n < 3; n++) broker.publish("c");
  broker.publish("a.x");
  const session = broker.connect();
  session.ask({ op: "subscribe", ref: 1, topics: [">"], last: 2 });
  session.step(session.catchups[0]);
  broker.publish("c", { lost: true, named: true });
  while (session.catchups.length) session.step(session.catchups[0]);
  const told = session.out.map((text) => JSON.parse(text)).map(({ op, data }) => data ?? op);
  assert.deepEqual(told, ["ack", "c/2", "gap", "a.x/4", "c/3", "c/5", "live"]);
});

test("R10 who wants more values than another's request asks for begins anew behind a gap, and is told so of all its topics", () => {
  const resume = new Resume();
  const got = [];
  const add = (begin, gap) => resume.add({ pattern: "a.*", begin, at: undefined, hand() {}, gap, live() {}, refused() {} });
  const begin = (number) => {
    const request = resume.next(number);
    resume.take({ op: "ack", ref: number });
    resume.take({ op: "live", ref: number, cursor: "l-1-5" });
    return request;
  };
  add({ last: 2 }, ({ topics }) => got.push(topics));
  begin(1);
  add({ snapshot: true }, () => {});
  begin(2);
  resume.take({ op: "gap", since: "l-1-5", topics: ["a.x"] });
  assert.deepEqual(got, [undefined]);
  assert.deepEqual(begin(3), { op: "subscribe", ref: 3, topics: ["a.*"], last: 2 });
});

test("R9 who wants the latest is never shown an older event of a topic behind a newer one", () => {
  const resume = new Resume();
  const got = [];
  resume.add({ pattern: ">", begin: {}, at: undefined, latest: true, hand: ({ data }) => got.push(data), gap() {}, live() {}, refused() {} });
  const { ref } = resume.next(1);
  resume.take({ op: "ack", ref });
  resume.take({ op: "live", ref, cursor: "l-1-5" });
  // Another pattern of the connection had all of it, while this one waited; what is not kept has no place.
  const event = (number, more) => resume.take({ op: "event", topic: "a.x", data: number, ...number && { id: `l-1-${number}` }, ...more });
  event(7);
  event(6, { conflated: true });
  event(0);
  event(8, { conflated: true });
  assert.deepEqual(got, [7, 0, 8]);
});

test("R8 where a session is full what is left is refused at once: 2,000 patterns over a limit of 1,000 are asked for in a few frames", () => {
  const resume = new Resume();
  const those = (wanted) => [...resume.subscriptions].filter(({ phase }) => phase === wanted);
  const told = [];
  for (let n = 0; n < 2_000; n++) resume.add({ pattern: `x.${n}`, begin: {}, at: undefined, hand() {}, gap() {}, live() {}, refused: ({ code, pattern }) => told.push([code, pattern]) });
  let ref = 0;
  const has = new Set();
  const drive = () => {
    let frames = 0;
    for (let request; (request = resume.next(++ref)); frames += 1) {
      if (request.op === "unsubscribe") for (const pattern of request.topics) has.delete(pattern);
      else if (has.size + request.topics.length > 1_000) resume.take({ op: "error", ref, code: "too_many", message: "no more" });
      else {
        for (const pattern of request.topics) has.add(pattern);
        resume.take({ op: "ack", ref });
        resume.take({ op: "live", ref, cursor: "l-1-5" });
      }
    }
    return frames;
  };
  const first = drive();
  assert.ok(first <= 25, `${first} frames`);
  assert.deepEqual([those("live").length, those("refused").length, new Set(told.map(([, pattern]) => pattern)).size], [1_000, 1_000, 1_000]);
  // Asked for again, they find no room; one that is given back makes room for one.
  resume.again();
  assert.ok(drive() <= 25);
  resume.remove(those("live")[0]);
  resume.again();
  assert.ok(drive() <= 25);
  assert.deepEqual([those("live").length, those("refused").length, has.size], [1_000, 999, 1_000]);
});

test("R21 over event streams who wants the latest has it, and its own place, beside who wants all of the same pattern", () => {
  const resume = new Resume();
  const got = { one: [], two: [] };
  resume.lanes = true;
  const add = (name, latest) => resume.add({ pattern: "a", begin: {}, at: undefined, latest, hand: ({ data }) => got[name].push(data), gap() {}, live() {}, refused() {} });
  const begin = (ref, number) => {
    assert.equal(resume.next(ref).ref, ref);
    resume.take({ op: "ack", ref });
    resume.take({ op: "live", ref, lane: ref, cursor: `l-1-${number}` });
  };
  const event = (lane, number, more) => resume.take({ op: "event", lane, topic: "a", id: `l-1-${number}`, data: number, ...more });
  add("one", true);
  begin(1, 5);
  add("two");
  begin(2, 6);
  // A slow screen's lane lies behind; what the other one says of its place says nothing of this one.
  event(1, 9, { conflated: true });
  for (const number of [7, 8, 9]) event(2, number);
  resume.take({ op: "cursor", lane: 2, cursor: "l-1-9" });
  event(1, 9, { conflated: true });
  assert.deepEqual(got, { one: [9], two: [7, 8, 9] });
  resume.cut();
  assert.deepEqual([resume.next(3).since, resume.subscriptions.size], ["l-1-5", 2]);
  // Now that all of it is asked for, what is older than what was shown is nothing new.
  resume.take({ op: "ack", ref: 3 });
  for (const number of [7, 8, 9, 10]) event(3, number, { replay: 3 });
  assert.deepEqual(got.one, [9, 10]);
});

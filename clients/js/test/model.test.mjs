// The rules of the cursor, against a model of the broker, through interleavings that follow from a seed.
//
// FANFARE_SEEDS says how many lives; FANFARE_SEED plays one of them again.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Life, check, playAll, wanted } from "./life.mjs";
import { Resume } from "../fanfare/resume.js";
import { dice } from "./model.mjs";

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
  const subscription = (pattern, begin) => ({ pattern, begin, at: undefined, hand: ({ data }) => got.push(data), gap: () => got.push("gap"), live() {}, refused() {} });
  resume.add(subscription("a.*", { snapshot: true }));
  const { ref } = resume.next(1);
  resume.take({ op: "ack", ref });
  resume.take({ op: "live", ref, cursor: "l-1-5" });
  assert.ok(!resume.next(2));
  resume.take({ op: "gap", since: "l-1-5" });
  resume.take({ op: "event", topic: "a.x", id: "l-2-9", data: "x", snapshot: true });
  resume.take({ op: "event", topic: "a.z", id: "l-2-10", data: "z" });
  // The value of a.y has not come; what is after l-2-10 would never tell it.
  resume.cut();
  assert.deepEqual(resume.next(3), { op: "subscribe", ref: 3, topics: ["a.*"], snapshot: true });
  assert.deepEqual(got, ["gap", "x", "z"]);
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

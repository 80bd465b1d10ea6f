// The rules of the cursor, against a model of the broker, through interleavings that follow from a seed.
//
// FANFARE_SEEDS says how many lives; FANFARE_SEED plays one of them again.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Life, check, playAll, wanted } from "./life.mjs";
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

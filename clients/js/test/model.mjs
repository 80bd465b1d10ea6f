// The broker that the model test plays with, `fanfare/model.js`, and the dice that say what happens.

import { Model } from "../fanfare/model.js";

/** Numbers that follow from a seed (mulberry32). */
export function dice(seed) {
  let state = seed >>> 0;
  const random = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  return { random, below: (n) => Math.floor(random() * n), one: (list) => list[Math.floor(random() * list.length)], may: (chance) => random() < chance };
}

/** A broker with one client, whose events say which they are. */
export class ModelBroker extends Model {
  published = 0;
  session = null;

  connect() {
    this.sessions.clear();
    this.session = super.connect();
    return this.session;
  }

  cut() {
    this.sessions.clear();
    this.session = null;
  }

  /** Publishes, and returns the event with its place; a session that loses it is told of a gap. */
  publish(topic, { kept = true, lost = false, named = false } = {}) {
    const { id } = super.publish({ topic, data: `${topic}/${++this.published}`, ...!kept && { keep: false } }, { lost, named });
    return { topic, id, sequence: id && this.sequence };
  }
}

// A broker as docs/protocol.md promises one, without sockets and clock, and a client on it: what the model test plays with.
//
// What goes out waits in the session's `out`, so that a cut can come between any two frames. A subscribe is caught up in
// steps, while events come; what the history has lost is told by gaps.

import { matcher } from "../fanfare/resume.js";

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

export class ModelBroker {
  log = [];
  name = "log0";
  sequence = 0;
  /** Events up to here are gone, but the newest of each topic. */
  evicted = 0;
  published = 0;
  forbidden = new Set();
  session = null;

  cursor(sequence) {
    return `${this.name}-1-${sequence}`;
  }

  connect() {
    this.session = new ModelSession(this);
    return this.session;
  }

  /** Publishes; a session that loses the event is told of a gap. */
  publish(topic, { kept = true, lost = false, named = false } = {}) {
    const event = { topic, uid: `${topic}/${++this.published}`, sequence: kept ? ++this.sequence : undefined };
    if (kept) {
      event.id = this.cursor(event.sequence);
      this.log.push(event);
    }
    if (!lost) this.session?.deliver(event);
    else this.session?.lose(event, named);
    return event;
  }

  evict() {
    this.evicted = this.sequence;
  }

  /** The log is gone with all that was in it. */
  wipe() {
    this.name = `log${Number(this.name.slice(3)) + 1}`;
    this.log = [];
    this.sequence = this.evicted = 0;
  }

  newest(matches, count = 1, upto = Infinity) {
    const byTopic = new Map();
    for (const event of this.log) {
      if (event.sequence > upto || !matches(event.topic)) continue;
      const list = byTopic.get(event.topic) ?? [];
      byTopic.set(event.topic, list);
      if (list.length && list[0].sequence <= this.evicted) list.shift();
      list.push(event);
      if (list.length > count) list.shift();
    }
    return [...byTopic.values()].flat();
  }
}

class ModelSession {
  out = [];
  live = new Map();
  catchups = [];
  /** Topic → the newest event that waits for a slow screen. */
  pending = new Map();

  constructor(broker) {
    this.broker = broker;
  }

  say(frame) {
    this.out.push(JSON.stringify(frame));
  }

  event({ topic, id, uid }, marks = {}) {
    this.say({ op: "event", ...id && { id }, topic, data: uid, ...marks });
  }

  ask(request) {
    const { op, ref, topics } = request;
    if (op === "unsubscribe") {
      for (const pattern of topics) this.live.delete(pattern);
      this.catchups = this.catchups.filter((one) => (one.topics = one.topics.filter((each) => !topics.includes(each))).length);
      for (const topic of [...this.pending.keys()]) if (!this.isLiveFor(topic)) this.pending.delete(topic);
      return this.say({ op: "ack", ref });
    }
    if (topics.some((topic) => this.broker.forbidden.has(topic))) return this.say({ op: "error", ref, code: "forbidden", message: "" });
    if ([request.snapshot, request.last, request.tail].filter(Boolean).length > 1) throw new Error("two ways to begin");
    this.say({ op: "ack", ref });
    const boundary = this.broker.sequence;
    const all = !request.mode && !request.max_rate;
    this.catchups.push({ ref, topics, all, values: request.last ?? (request.snapshot ? 1 : 0), items: this.history(request, all, boundary), held: [] });
  }

  /** What is to be sent before a subscribe is live, as `[event, marks]`, or a gap. */
  history({ ref, topics, since, snapshot, last, tail }, all, upto) {
    const { broker } = this;
    const wants = topics.map(matcher);
    const matches = (topic) => wants.some((one) => one(topic));
    const kept = broker.log.filter(({ topic, sequence }) => matches(topic) && sequence > broker.evicted);
    const open = () => {
      if (snapshot || last) return broker.newest(matches, last ?? 1, upto).map((event) => [event, { snapshot: true }]);
      return tail ? kept.slice(-tail).map((event) => [event, { replay: ref }]) : null;
    };
    if (since === undefined) return open() ?? [];
    const [, name, number] = /^(.+)-1-(\d+)$/.exec(since);
    const place = Number(number);
    const isGap = name !== broker.name || place < broker.evicted;
    const after = name === broker.name ? place : 0;
    const gap = isGap ? [{ op: "gap", ref, since }] : [];
    if (isGap && open()) return [...gap, ...open()];
    if (!all) return [...gap, ...broker.newest(matches, 1, upto).filter(({ sequence }) => isGap || sequence > after).map((event) => [event, { replay: ref, conflated: true }])];
    return [...gap, ...kept.filter(({ sequence }) => sequence > after).map((event) => [event, { replay: ref }])];
  }

  isLiveFor(topic) {
    const modes = [...this.live].filter(([pattern]) => matcher(pattern)(topic)).map(([, { all }]) => all);
    return modes.length ? { all: modes.some(Boolean) } : null;
  }

  deliver(event) {
    const begun = this.catchups.filter((one) => one.topics.some((pattern) => matcher(pattern)(event.topic)));
    const mode = this.isLiveFor(event.topic);
    if (event.sequence === undefined) {
      if (mode || begun.length) this.event(event);
      return;
    }
    for (const one of begun) one.held.push(event);
    if (mode?.all) this.event(event);
    else if (mode) this.pending.set(event.topic, event);
  }

  /** An event that did not come to this session, behind Redis. */
  lose(event, named) {
    if (event.sequence === undefined) return;
    const topics = named ? [event.topic] : undefined;
    const concerns = (patterns) => !named || patterns.some((pattern) => matcher(pattern)(event.topic));
    if (!concerns([...this.live.keys(), ...this.catchups.flatMap((one) => one.topics)]) || !this.live.size && !this.catchups.length) return;
    this.say({ op: "gap", since: this.broker.cursor(event.sequence - 1), topics });
    for (const one of this.catchups) {
      if (!concerns(one.topics)) continue;
      const again = one.topics.map(matcher);
      if (!one.values && one.all) continue;
      // What was to be sent of these topics is read again, and what waits from before is not sent behind it.
      const marks = one.values ? { snapshot: true } : { replay: one.ref, conflated: true };
      const isLost = (topic) => (!named || topic === event.topic) && again.some((each) => each(topic));
      one.items.push(...this.broker.newest(isLost, one.values || 1).map((each) => [each, marks]));
      one.held = one.held.filter(({ topic }) => !isLost(topic));
    }
    if (!this.live.size) return;
    for (const [pattern, { values }] of this.live) {
      const matches = matcher(pattern);
      if (!values) continue;
      for (const each of this.broker.newest((topic) => matches(topic) && (!named || topic === event.topic), values)) {
        this.pending.delete(each.topic);
        this.event(each, { snapshot: true });
      }
    }
    this.say({ op: "live", cursor: this.broker.cursor(this.floor()) });
  }

  floor() {
    return Math.min(this.broker.sequence, ...[...this.pending.values()].map(({ sequence }) => sequence - 1));
  }

  /** Sends some more of what is caught up, or goes live. */
  step(one) {
    const item = one.items.shift();
    if (Array.isArray(item)) {
      const [{ topic, sequence }, { replay, conflated }] = item;
      if ((conflated || replay === undefined) && this.pending.get(topic)?.sequence <= sequence) this.pending.delete(topic);
      return this.event(...item);
    }
    if (item) return this.say(item);
    this.catchups = this.catchups.filter((each) => each !== one);
    // What waits of what is asked for in another way goes out before.
    const isAnother = (topic) => one.topics.some((pattern) => (one.all || this.live.has(pattern)) && matcher(pattern)(topic));
    for (const topic of [...this.pending.keys()]) if (isAnother(topic)) this.flush(topic);
    for (const pattern of one.topics) this.live.set(pattern, { all: one.all, values: one.values });
    for (const event of one.held) {
      if (this.isLiveFor(event.topic)?.all) this.event(event, { replay: one.ref });
      else this.pending.set(event.topic, event);
    }
    this.say({ op: "live", ref: one.ref, cursor: this.broker.cursor(this.floor()) });
  }

  flush(topic) {
    const event = this.pending.get(topic);
    this.pending.delete(topic);
    if (this.isLiveFor(topic)) this.event(event, { conflated: true });
  }

  beat() {
    if (!this.catchups.length && this.live.size) this.say({ op: "cursor", cursor: this.broker.cursor(this.floor()) });
  }
}

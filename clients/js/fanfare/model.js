// A broker as docs/protocol.md promises one, without sockets and timers: what `fanfare/testing` gives to applications' tests,
// and what our own model test plays with.
//
// What goes out waits in the session's `out`, so that a cut can come between any two frames. A subscribe is caught up in
// steps, while events come; what the history has lost is told by gaps.

import { matcher } from "./resume.js";

const UNITS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** What only the broker knows of an event. */
const shown = ({ sequence, except, bound, key, keep, ...event }) => event;

const refused = (code, message, more) => Object.assign(new Error(message), { code, ...more });

const isTopic = (topic) => typeof topic === "string" && topic.length <= 255 && /^[!-~]+$/.test(topic) && !/[*>]/.test(topic) && topic.split(".").every(Boolean);
const isPattern = (pattern) => typeof pattern === "string" && isTopic(pattern.replace(/(^|\.)(\*(?=\.|$)|>$)/g, "$1x").replace(/(^|\.)\*(?=\.|$)/g, "$1x"));

export class Model {
  log = [];
  name = "model000";
  sequence = 0;
  /** Events up to here are gone, but the newest of each topic. */
  evicted = 0;
  /** Patterns that nobody may subscribe to, nor publish to what they match. */
  forbidden = new Set();
  /** Patterns of the topics whose members are told. */
  presence = new Set();
  sessions = new Set();
  #keys = new Map();
  #names = 0;

  cursor(sequence) {
    return `${this.name}-1-${sequence}`;
  }

  /** Time, in milliseconds since 1970. */
  now() {
    return Date.now();
  }

  connect() {
    const session = new Session(this, `session${++this.#names}`);
    this.sessions.add(session);
    return session;
  }

  /** The session is over: it hears nothing any more. */
  disconnect(session) {
    if (!this.sessions.delete(session)) return;
    for (const topic of session.rooms.keys()) this.#tellLeft(session, topic);
    session.rooms.clear();
  }

  mayUse(pattern) {
    return ![...this.forbidden].some((each) => each === pattern || matcher(each)(pattern));
  }

  /**
   * Stores an event, and delivers it; returns the answer. `lost`: the sessions are told of a gap instead, which names the topic
   * where that is `named`. `by` is the session that publishes.
   */
  publish({ key, ...event }, { lost = false, named = false, by } = {}) {
    const { topic, version, epoch, if_latest: wanted } = event;
    if (!isTopic(topic)) throw refused("invalid_topic", `not a topic: ${topic}`);
    if (!this.mayUse(topic)) throw refused(by?.denial ?? "forbidden", `${topic} is not to be published to`);
    const same = JSON.stringify(event);
    const before = key === undefined ? undefined : this.#keys.get(key);
    if (before && before.same !== same) throw refused("idempotency_mismatch", "the key came with another event before");
    if (before) return { ...before.answer, repeated: true };
    const newest = this.log.findLast((each) => each.topic === topic);
    const versioned = version !== undefined && this.log.findLast((each) => each.topic === topic && each.version !== undefined);
    if (versioned && versioned.epoch === epoch && versioned.version >= version) return { superseded: true, version: versioned.version };
    const isThere = newest && !newest.removed;
    if (wanted !== undefined && !(wanted === "absent" ? !isThere : wanted === "present" ? isThere : newest?.id === wanted)) {
      throw refused("not_latest", "the newest event of the topic is another one", newest && { event: shown(newest) });
    }
    const answer = this.#store(event, { lost, named, by });
    if (key !== undefined) this.#keys.set(key, { same, answer });
    return answer;
  }

  #store({ if_latest: _, ttl_ms: ttl, keep, ...event }, { lost, named, by }) {
    const stored = { ...event, data: event.data ?? null, time: new Date(this.now()).toISOString() };
    if (by) stored.from ??= { ...by.user && { user: by.user }, session: by.name };
    if (keep !== false) {
      stored.sequence = ++this.sequence;
      stored.id = this.cursor(this.sequence);
      if (ttl) stored.expires = new Date(this.now() + ttl).toISOString();
      this.log.push(stored);
    }
    for (const session of this.sessions) {
      if (!lost) session.deliver(stored);
      else session.lose(stored, named);
    }
    this.stored?.(stored, { ttl, by });
    return stored.id ? { id: stored.id } : {};
  }

  /** A tombstone, unless something newer stands there. */
  end(event, reason) {
    if (this.log.findLast(({ topic }) => topic === event.topic) !== event || event.removed) return;
    const { topic, version, epoch } = event;
    this.#store({ topic, removed: true, reason, ...version !== undefined && { version }, ...epoch !== undefined && { epoch } }, {});
  }

  evict() {
    this.evicted = this.sequence;
  }

  /** The log is gone with all that was in it. */
  wipe() {
    this.name = `model${`${Number(this.name.slice(5)) + 1}`.padStart(3, "0")}`;
    this.log = [];
    this.#keys.clear();
    this.sequence = this.evicted = 0;
  }

  /** The newest `count` of each topic that has a value; as many as `count(topic)`, where that is a function. */
  newest(matches, count = 1, upto = Infinity) {
    const wanted = typeof count === "function" ? count : () => count;
    const byTopic = new Map();
    for (const event of this.log) {
      if (event.sequence > upto || !matches(event.topic)) continue;
      if (event.removed) {
        byTopic.delete(event.topic);
        continue;
      }
      const list = byTopic.get(event.topic) ?? [];
      byTopic.set(event.topic, list);
      if (list.length && list[0].sequence <= this.evicted) list.shift();
      list.push(event);
      if (list.length > wanted(event.topic)) list.shift();
    }
    return [...byTopic.values()].flat();
  }

  kept(matches) {
    return this.log.filter(({ topic, sequence }) => matches(topic) && sequence > this.evicted);
  }

  /** The place that a cursor, a moment or `-15m` says: `[place, isGone]`; nothing for what is none of them. */
  placeOf(since) {
    const [, ago, unit] = /^-(\d+)(ms|s|m|h|d)$/.exec(since) ?? [];
    const moment = ago ? this.now() - ago * UNITS[unit] : /^\d{4}-\d\d-\d\d[Tt]/.test(since) ? Date.parse(since) : NaN;
    if (!Number.isNaN(moment)) {
      const first = this.log.find(({ time }) => Date.parse(time) >= moment);
      return [first ? first.sequence - 1 : this.sequence, Boolean(first) && first.sequence <= this.evicted];
    }
    const [, name, number] = /^([a-z0-9]{8})-\d+-(\d+)$/.exec(since) ?? [];
    if (!name) return null;
    if (name !== this.name) return [0, true];
    return [Number(number), Number(number) < this.evicted];
  }

  // ---- Pages --------------------------------------------------------------------------------------

  snapshotPage(pattern) {
    const events = this.newest(matcher(pattern)).map(shown).sort((a, b) => (a.topic < b.topic ? -1 : 1));
    return { events, cursor: this.cursor(this.sequence) };
  }

  /** Kept events after `since`, oldest first, or before `before`, newest first. */
  page(pattern, asked) {
    const [since, before, limit = 100] = ["since", "before", "limit"].map((name) => asked.get(name) ?? undefined);
    const all = this.kept(matcher(pattern));
    if (before === undefined) {
      const [place, gap] = since ? this.placeOf(since) : [0, false];
      const events = all.filter(({ sequence }) => sequence > place).slice(0, limit);
      return { events: events.map(shown), next: this.cursor(events.at(-1)?.sequence ?? this.sequence), ...gap && { gap } };
    }
    const [place, gap] = before ? this.placeOf(before) : [Infinity, false];
    const older = all.filter(({ sequence }) => gap || sequence < place);
    const events = older.slice(-limit).reverse();
    return { events: events.map(shown), ...older.length > events.length && { next: events.at(-1).id }, ...(gap || older.length <= events.length && this.evicted > 0) && { gap: true } };
  }

  // ---- Presence ---------------------------------------------------------------------------------

  #hasPresence(topic) {
    return [...this.presence].some((pattern) => matcher(pattern)(topic));
  }

  #sessionsOf(user, topic) {
    return [...this.sessions].filter((each) => each.user === user && each.rooms.has(topic)).length;
  }

  member(session, topic, sessions = this.#sessionsOf(session.user, topic)) {
    const { name, user, info } = session;
    const since = session.rooms.get(topic);
    return { topic, session: name, ...user && { user }, ...info && { info }, since, transport: "websocket", node: "test", ...user && { user_sessions: sessions } };
  }

  /** Who is in which topic, each as it would be told. */
  members(matches) {
    const all = [...this.sessions].flatMap((session) => [...session.rooms.keys()].map((topic) => ({ session, topic })));
    return all.filter(({ topic }) => matches(`$presence.${topic}`)).map(({ session, topic }) => this.#told("joined", this.member(session, topic), session.rooms.get(topic)));
  }

  #told(what, data, time = new Date(this.now()).toISOString()) {
    return { topic: `$presence.${data.topic}`, type: `presence.${what}`, time, data };
  }

  enter(session, topic) {
    if (!this.#hasPresence(topic) || session.rooms.has(topic)) return;
    session.rooms.set(topic, new Date(this.now()).toISOString());
    const event = this.#told("joined", this.member(session, topic));
    for (const each of this.sessions) each.deliver(event);
  }

  leave(session, topic) {
    if (!session.rooms.has(topic)) return;
    this.#tellLeft(session, topic);
    session.rooms.delete(topic);
  }

  #tellLeft(session, topic) {
    const { user } = session;
    const others = [...this.sessions].filter((each) => each !== session && each.user === user && each.rooms.has(topic)).length;
    const event = this.#told("left", this.member(session, topic, others));
    for (const each of this.sessions) each.deliver(event);
  }
}

export class Session {
  out = [];
  user = undefined;
  info = undefined;
  /** Pattern → how the broker sends what it matches: `{all, rate, values}`. */
  live = new Map();
  catchups = [];
  /** Topic → the newest event that waits for a slow screen. */
  pending = new Map();
  /** Topic → since when it is a member. */
  rooms = new Map();

  constructor(broker, name) {
    Object.assign(this, { broker, name });
  }

  /** Why it may not: who is somebody lacks a right, and who is nobody a credential. */
  get denial() {
    return this.user ? "forbidden" : "unauthorized";
  }

  say(frame) {
    this.out.push(JSON.stringify(frame));
  }

  event(event, marks = {}) {
    if (event.except === this.name && !marks.snapshot) return;
    this.say({ op: "event", ...shown(event), ...marks });
  }

  ask(request) {
    const { op, ref, topics } = request;
    if (op === "ping") return this.say({ op: "pong", ref });
    if (op === "unsubscribe") {
      for (const pattern of topics) {
        this.live.delete(pattern);
        this.broker.leave(this, pattern);
      }
      this.catchups = this.catchups.filter((one) => (one.topics = one.topics.filter((each) => !topics.includes(each))).length);
      for (const topic of [...this.pending.keys()]) if (!this.isLiveFor(topic)) this.pending.delete(topic);
      return this.say({ op: "ack", ref });
    }
    const fail = (code, message) => this.say({ op: "error", ref, code, message });
    const odd = topics.find((topic) => !isPattern(topic));
    if (odd !== undefined) return fail("invalid_pattern", `not a pattern: ${odd}`);
    const denied = topics.find((topic) => !this.broker.mayUse(topic));
    if (denied !== undefined) return fail(this.denial, `${denied} is not to be subscribed to`);
    if ([request.snapshot, request.last, request.tail].filter(Boolean).length > 1) return fail("bad_request", "at most one of `snapshot`, `last` and `tail`");
    if (request.since !== undefined && !this.broker.placeOf(request.since)) return fail("invalid_cursor", `not a cursor: ${request.since}`);
    this.say({ op: "ack", ref });
    const boundary = this.broker.sequence;
    const all = !request.mode && !request.max_rate;
    this.catchups.push({ ref, topics, all, rate: request.max_rate, values: request.last ?? (request.snapshot ? 1 : 0), items: this.#history(request, all, boundary), held: [] });
  }

  /** What is to be sent before a subscribe is live, as `[event, marks]`, or a gap. */
  #history({ ref, topics, since, snapshot, last, tail }, all, upto) {
    const { broker } = this;
    const wants = topics.map(matcher);
    const matches = (topic) => wants.some((one) => one(topic));
    const kept = broker.kept(matches);
    const members = snapshot || last ? broker.members(matches).map((event) => [event, { snapshot: true }]) : [];
    const open = () => {
      if (snapshot || last) return broker.newest(matches, last ?? 1, upto).map((event) => [event, { snapshot: true }]).concat(members);
      return tail ? kept.slice(-tail).map((event) => [event, { replay: ref }]) : null;
    };
    if (since === undefined) return open() ?? [];
    const [place, isGap] = broker.placeOf(since);
    const after = isGap && !since.startsWith(broker.name) ? 0 : place;
    const gap = isGap ? [{ op: "gap", ref, since }] : [];
    if (isGap && open()) return [...gap, ...open()];
    // Who left meanwhile is in no history.
    const rooms = topics.filter((topic) => topic.startsWith("$presence."));
    const anew = rooms.length && (snapshot || last) ? [{ op: "gap", ref, since, ...rooms.every(isTopic) && { topics: rooms } }, ...members] : [];
    if (!all) {
      const newest = new Map(broker.log.filter(({ topic, sequence }) => matches(topic) && (isGap || sequence > after)).map((event) => [event.topic, event]));
      return [...gap, ...anew, ...[...newest.values()].map((event) => [event, { replay: ref, conflated: true }])];
    }
    return [...gap, ...anew, ...kept.filter(({ sequence }) => sequence > after).map((event) => [event, { replay: ref }])];
  }

  isLiveFor(topic) {
    const modes = [...this.live].filter(([pattern]) => matcher(pattern)(topic)).map(([, mode]) => mode);
    if (!modes.length) return null;
    // A rate of nobody's is none.
    return { all: modes.some(({ all }) => all), rate: Math.max(...modes.map(({ rate }) => rate ?? Infinity)) };
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
    else if (mode) this.wait(event);
  }

  /** Keeps an event until the screen takes it, in place of the one before. */
  wait(event) {
    const before = this.pending.get(event.topic);
    this.pending.set(event.topic, { event, skipped: before ? before.skipped + 1 : 0 });
  }

  /** An event that did not come to this session, behind Redis. */
  lose(event, named) {
    if (event.sequence === undefined) return;
    this.gap({ since: this.broker.cursor(event.sequence - 1), topics: named ? [event.topic] : undefined });
  }

  /** Tells that events of these topics were lost, or of any. */
  gap({ since, topics }) {
    const isOf = (topic) => !topics || topics.includes(topic);
    const concerns = (patterns) => !topics || patterns.some((pattern) => topics.some(matcher(pattern)));
    if (!concerns([...this.live.keys(), ...this.catchups.flatMap((one) => one.topics)]) || !this.live.size && !this.catchups.length) return;
    this.say({ op: "gap", since, topics });
    for (const one of this.catchups) {
      if (!concerns(one.topics)) continue;
      const again = one.topics.map(matcher);
      if (!one.values && one.all) continue;
      // What was to be sent of these topics is read again, and what waits from before is not sent behind it.
      const marks = one.values ? { snapshot: true } : { replay: one.ref, conflated: true };
      const isLost = (topic) => isOf(topic) && again.some((each) => each(topic));
      // (Who is in a topic has no id, and a replay stands as it was.)
      const isRead = (item) => Array.isArray(item) && item[0].id && (item[1].snapshot || item[1].conflated) && isLost(item[0].topic);
      one.items = one.items.filter((item) => !isRead(item)).concat(this.broker.newest(isLost, one.values || 1).map((each) => [each, marks]));
      one.held = one.held.filter(({ topic }) => !isLost(topic));
    }
    if (!this.live.size) return;
    // Each topic once, as often as the pattern says that wants most of it.
    const wanted = (topic) => Math.max(0, ...[...this.live].map(([pattern, { values }]) => isOf(topic) && matcher(pattern)(topic) ? values : 0));
    for (const each of this.broker.newest(wanted, wanted)) {
      this.pending.delete(each.topic);
      this.event(each, { snapshot: true });
    }
    for (const each of this.broker.members(wanted)) this.event(each, { snapshot: true });
    this.say({ op: "live", cursor: this.broker.cursor(this.floor()) });
  }

  floor() {
    return Math.min(this.broker.sequence, ...[...this.pending.values()].map(({ event }) => event.sequence - 1));
  }

  /** Sends some more of what is caught up, or goes live. */
  step(one) {
    const item = one.items.shift();
    if (Array.isArray(item)) {
      const [{ topic, sequence }, { replay, conflated }] = item;
      if ((conflated || replay === undefined) && this.pending.get(topic)?.event.sequence <= sequence) this.pending.delete(topic);
      return this.event(...item);
    }
    if (item) return this.say(item);
    this.catchups = this.catchups.filter((each) => each !== one);
    // What waits of what is asked for in another way goes out before.
    const isAnother = (topic) => one.topics.some((pattern) => (one.all || this.live.has(pattern)) && matcher(pattern)(topic));
    for (const topic of [...this.pending.keys()]) if (isAnother(topic)) this.flush(topic);
    for (const pattern of one.topics) this.live.set(pattern, { all: one.all, rate: one.rate, values: one.values });
    const wants = one.topics.map(matcher);
    for (const event of one.held) {
      // What was given back meanwhile is wanted no more; of what others still want newer events may wait.
      if (!wants.some((matches) => matches(event.topic))) continue;
      if (this.isLiveFor(event.topic)?.all) this.event(event, { replay: one.ref });
      else this.wait(event);
    }
    this.say({ op: "live", ref: one.ref, cursor: this.broker.cursor(this.floor()) });
    for (const pattern of one.topics) this.broker.enter(this, pattern);
  }

  flush(topic) {
    const { event, skipped } = this.pending.get(topic);
    this.pending.delete(topic);
    if (this.isLiveFor(topic)) this.event(event, { conflated: true, ...skipped && { skipped } });
  }

  beat() {
    if (!this.catchups.length && this.live.size) this.say({ op: "cursor", cursor: this.broker.cursor(this.floor()) });
  }
}

// Live state: what a page shows of topics, kept right by itself.
//
// A store takes the events of a subscription into `shown`. What it begins with, and what comes behind a gap, gathers in
// `filling` until it is whole. Listeners are told of all stores together, so that no two of a page are of different moments,
// and see snapshots that stay as they are between two tellings.

const FRAME_MS = 1000 / 60, EARLY_MS = 4, HIDDEN_MS = 100;
/** What was to be told by then is not told any more: a test took its timers away, and their time with them. */
const LOST_MS = 1_000;
const MAX = 10_000, BUFFER = 1_000, TAIL = 50, PAGE = 1_000;
const RETRY_MS = 1_000, MAX_RETRY_MS = 30_000, MAX_TIMER_MS = 2 ** 31 - 1;

const report = (error) => (globalThis.reportError ?? console.error)(error);

const failed = (code, message) => Object.assign(new Error(message), { code });

// ---- Telling ----------------------------------------------------------------------------------

/** Stores that have something to tell. */
const due = new Set();
/** Who waits until all of them are told. */
const untold = [];
let nextAt = 0, armedAt = 0, frame, timer;

/** With the next frame; a page that nobody sees has none. */
function arm() {
  disarm();
  armedAt = performance.now();
  frame = globalThis.requestAnimationFrame?.(tell);
  timer = setTimeout(tell, frame === undefined ? FRAME_MS : HIDDEN_MS);
}

function disarm() {
  if (frame !== undefined) globalThis.cancelAnimationFrame?.(frame);
  clearTimeout(timer);
}

function tell() {
  disarm();
  // Some screens have more frames than anybody can read, and none has them to the millisecond.
  const now = performance.now();
  if (nextAt > now + 2 * FRAME_MS) nextAt = now;
  if (now < nextAt - EARLY_MS) return arm();
  nextAt = Math.max(nextAt, now) + FRAME_MS;
  const stores = [...due].filter((store) => store.refresh());
  due.clear();
  for (const store of stores) store.tell();
  for (const next of untold.splice(0)) next();
}

/** A value and its listeners; open while it has any, and for a moment longer, in which the next may come. */
class Told {
  #listeners = new Set();
  #isOpen = false;
  #closing;

  constructor(initial) {
    this.initial = this.current = initial;
  }

  subscribe = (run) => {
    const listener = { run };
    this.#listeners.add(listener);
    clearTimeout(this.#closing);
    if (!this.#isOpen) {
      this.#isOpen = true;
      this.open();
    }
    run(this.current);
    return () => {
      if (!this.#listeners.delete(listener) || this.#listeners.size) return;
      this.#closing = setTimeout(() => {
        this.#isOpen = false;
        this.close();
        due.delete(this);
      });
    };
  };

  /** Has the listeners told soon, where `refresh` then says that there is something new. */
  changed() {
    if (!due.size || Math.abs(performance.now() - armedAt) > LOST_MS) arm();
    due.add(this);
  }

  tell() {
    for (const listener of [...this.#listeners]) {
      if (!this.#listeners.has(listener)) continue;
      try { listener.run(this.current); } catch (error) { report(error); }
    }
  }
}

// ---- What is known of a client ----------------------------------------------------------------

const known = new WeakMap();

/** Reasons of a client that goes on trying, and gets nowhere until somebody does something. */
const HELPLESS = /^(origin_not_allowed|unreachable|token)$/;

/**
 * The broker's time, as far as events have shown it: `ahead` of this machine's, and late rather than early, as they come late. And
 * the `failure` for which nothing comes over any connection of this client.
 */
function knownOf(fanfare) {
  let client = known.get(fanfare);
  if (!client) {
    known.set(fanfare, client = { ahead: undefined, failure: null });
    fanfare.on("event", ({ time, snapshot, replay }) => {
      if (snapshot || replay !== undefined) return;
      const ahead = Date.parse(time) - Date.now();
      if (!(client.ahead >= ahead)) client.ahead = ahead;
    });
    const hear = (state, reason) => {
      if (state === "live") client.failure = null;
      else if (state === "closed") client.failure = { code: state, message: "the client was closed" };
      else if (state === "refused" || HELPLESS.test(reason?.code)) {
        client.failure = { code: `${reason.code}`, message: reason.message || `the connection ended with ${reason.code}` };
      }
    };
    fanfare.on("state", ({ state, reason }) => hear(state, reason));
    // Before anybody listened.
    if (fanfare.state === "refused") fanfare.ready().catch((error) => hear("refused", error));
    else hear(fanfare.state);
  }
  return client;
}

const endOf = ({ expires }) => expires ? Date.parse(expires) : Infinity;

// ---- A subscription and what is shown of it ---------------------------------------------------

/** Whether `a` is before `b`. Cursors are opaque to all but the broker's own client: a current value may come late. */
function isBefore(a, b) {
  const [[log, epoch, number], [log2, epoch2, number2]] = [a, b].map((cursor) => cursor.split("-"));
  return log === log2 && (epoch - epoch2 || number - number2) < 0;
}

/** Whether `old` stands against `event`: it is newer, or it is kept and the other is not. */
function stands(old, { id }) {
  if (old?.id === undefined) return false;
  return id === undefined ? !old.removed : isBefore(id, old.id);
}

/**
 * What a kind of store makes of events: `how` it subscribes, `empty(values?, topics?)` to begin with (of `values` without
 * those topics), `put(values, event)`, which says whether that changed anything, and `view(values, now)`, where what ended
 * before `now` is left out. `ends(values)` are the moments at which something does. `isFleeting`: what ended while nobody
 * listened is not told later.
 */
class Live extends Told {
  shown;
  /** `{values, session, isBroken}`: what comes until it is whole; of one connection, once something has come. */
  filling = null;
  isLive = false;
  stale = true;
  error = null;
  #isDirty = false;
  #undo;
  #unhear;
  #ending;

  constructor(fanfare, pattern, kind) {
    const shown = kind.empty();
    super({ ...kind.view(shown, -Infinity), stale: true, error: null });
    Object.assign(this, { fanfare, pattern, kind, shown });
  }

  open() {
    this.known = knownOf(this.fanfare);
    this.#unhear = this.fanfare.on("state", ({ state }) => this.heard(state));
    this.begin();
    this.#awaitEnd();
    if (this.fanfare.state === "refused") this.fanfare.ready().catch(() => this.changed());
  }

  close() {
    this.#unhear();
    this.quit();
    clearTimeout(this.#ending);
    this.refresh();
  }

  /** Subscribes anew, in place of what was, from nothing. */
  begin(how = this.kind.how, values = this.kind.empty()) {
    this.quit();
    this.changed();
    if (this.fanfare.state === "closed") return;
    this.filling = { values };
    this.#undo = this.fanfare.subscribe(this.pattern, {
      ...how,
      onLive: () => this.live(),
      onGap: (gap) => this.gap(gap),
      onError: (error) => this.refused(error),
    }, (event) => this.take(event));
  }

  /** Subscribes no more. */
  quit() {
    this.#undo?.();
    this.#undo = this.filling = null;
    this.isLive = false;
    this.stale = true;
  }

  take(event) {
    const { filling } = this;
    if (filling) filling.session ??= this.fanfare.session;
    if (this.kind.put(filling ? filling.values : this.shown, event) && !filling) this.dirty();
  }

  gap({ topics }) {
    this.isLive = false;
    this.stale = true;
    this.changed();
    const { kind } = this;
    // The newest are not sent again while it is live; and who asked for neither has nothing to begin anew with.
    if (kind.how.tail) return this.begin();
    if (!kind.how.snapshot) return;
    const base = this.filling?.values ?? this.shown;
    this.filling = { values: topics ? kind.empty(base, topics) : kind.empty(), session: this.fanfare.session };
  }

  live() {
    const { filling } = this;
    // Of current values that came over two connections, some may have ended between them.
    if (this.kind.how.snapshot && filling?.session !== undefined && (filling.isBroken || filling.session !== this.fanfare.session)) return this.begin();
    if (filling) this.shown = filling.values;
    this.filling = this.error = null;
    this.isLive = true;
    this.stale = false;
    clearTimeout(this.#ending);
    this.dirty();
  }

  refused(error) {
    this.isLive = false;
    this.stale = true;
    this.error = error;
    this.#breakOff();
  }

  heard(state) {
    if (state === "live") return this.changed();
    const wasLive = this.isLive;
    this.isLive = false;
    this.stale = true;
    this.#breakOff();
    // Who left meanwhile is in no history. What is idle, or over, stays so.
    if (wasLive && this.kind.isFleeting && !/idle|closed/.test(state)) this.begin();
    this.#awaitEnd();
  }

  #breakOff() {
    if (this.filling?.session !== undefined) this.filling.isBroken = true;
    this.changed();
  }

  dirty() {
    this.#isDirty = true;
    this.changed();
  }

  /** The broker's time, while nobody hears from it what has ended; else that is left to the broker. */
  get #now() {
    const { isLive, fanfare, known } = this;
    return isLive || fanfare.state === "live" || known?.ahead === undefined ? -Infinity : Date.now() + known.ahead;
  }

  #awaitEnd() {
    clearTimeout(this.#ending);
    if (!this.kind.ends) return;
    this.dirty();
    const now = this.#now;
    let next = Infinity;
    for (const end of this.kind.ends(this.shown)) if (end > now && end < next) next = end;
    if (next === Infinity || now === -Infinity) return;
    this.#ending = setTimeout(() => this.#awaitEnd(), Math.min(next - now + 1, MAX_TIMER_MS));
    this.#ending.unref?.();
  }

  /** Makes `current` of what is shown; false where that is what it was. */
  refresh() {
    const { stale, current } = this;
    const error = this.known?.failure ?? this.error ?? this.shown.error ?? null;
    if (!this.#isDirty && stale === current.stale && error === current.error) return false;
    const view = this.#isDirty ? this.kind.view(this.shown, this.#now) : current;
    this.#isDirty = false;
    this.current = { ...view, ...this.extra, stale, error };
    return true;
  }
}

// ---- Kinds ------------------------------------------------------------------------------------

/** Keeps no more than `max` of what has a name, and says so. */
function hold(values, key, value, max, what) {
  const { entries } = values;
  if (!entries.has(key) && entries.size >= max) {
    values.error ??= { code: "too_many", message: `there are more than ${max} ${what}: raise \`max\`` };
    return true;
  }
  entries.set(key, value);
  return true;
}

const ofTopic = (maxRate) => ({
  how: { snapshot: true, latest: true, maxRate },
  empty: () => ({ event: undefined }),
  put(values, event) {
    if (stands(values.event, event)) return false;
    values.event = event;
    return true;
  },
  view({ event }, now) {
    const isThere = event && !event.removed && endOf(event) > now;
    return { data: isThere ? event.data : undefined, event };
  },
  ends: ({ event }) => event ? [endOf(event)] : [],
});

const ofTopics = (maxRate, max) => ({
  how: { snapshot: true, latest: true, maxRate },
  empty(values, topics) {
    const entries = new Map(values?.entries);
    for (const topic of topics ?? []) entries.delete(topic);
    return { entries, error: values?.error };
  },
  put(values, event) {
    const { entries } = values, { topic } = event;
    if (stands(entries.get(topic), event)) return false;
    return event.removed ? entries.delete(topic) : hold(values, topic, event, max, "topics");
  },
  view: ({ entries }, now) => ({ entries: new Map(now === -Infinity ? entries : [...entries].filter(([, event]) => endOf(event) > now)) }),
  *ends({ entries }) {
    for (const event of entries.values()) yield endOf(event);
  },
});

const ofMembers = (max) => ({
  how: { snapshot: true },
  isFleeting: true,
  empty: () => ({ entries: new Map() }),
  put(values, { type, data }) {
    const { entries } = values, { session, user, user_sessions } = data;
    if (values.error?.code === "presence_off") values.error = null;
    if (type === "presence.joined") hold(values, session, data, max, "members");
    else entries.delete(session);
    // Each of a user's sessions says how many they are.
    if (user_sessions !== undefined) {
      for (const [key, member] of entries) if (member.user === user && key !== session) entries.set(key, { ...member, user_sessions });
    }
    return true;
  },
  view: ({ entries }) => ({ members: [...entries.values()] }),
});

const ofLog = (tail, max) => ({
  how: { tail },
  max,
  empty: () => ({ events: [], more: false, next: undefined }),
  put(values, event) {
    const { events } = values;
    if (events.push(event) > max) {
      events.shift();
      Object.assign(values, { more: true, next: undefined });
    }
    return true;
  },
  view: ({ events, more }) => ({ events: [...events], more, loading: false }),
});

const ofState = ({ reduce, initial, since, tail }) => ({
  how: tail ? { tail } : { since },
  empty: () => ({ state: initial }),
  put(values, event) {
    values.state = reduce(values.state, event);
    return true;
  },
  view: ({ state }) => ({ state, loading: false }),
});

/** Asks over HTTP as the client itself would. */
async function ask(fanfare, path) {
  const token = await fanfare.token();
  const answer = await fetch(fanfare.url + path, { headers: token ? { Authorization: `Bearer ${token}` } : {} });
  return { answer, said: await answer.json().catch(() => ({})) };
}

class Log extends Live {
  #loading = null;

  get extra() {
    return { loading: Boolean(this.#loading) };
  }

  live() {
    const { filling } = this;
    if (filling) filling.values.more ||= filling.values.events.length >= this.kind.how.tail;
    super.live();
  }

  /** Also as a handler of clicks, whose event is no number. */
  older = (n) => {
    this.#loading ??= this.#load(n > 0 ? n : this.kind.how.tail).finally(() => {
      this.#loading = null;
      this.dirty();
      // So that `current` has it.
      return new Promise((next) => untold.push(next));
    });
    this.dirty();
    return this.#loading;
  };

  async #load(n) {
    const { fanfare, pattern, shown } = this;
    const { events } = shown;
    const room = this.kind.max - events.length;
    if (shown.more && room < 1) throw failed("too_many", `the list holds ${events.length} events already: raise \`max\``);
    for (let isFull = false; shown.more && !isFull;) {
      const [first] = events;
      const before = shown.next ?? events.find(({ id }) => id)?.id ?? "";
      const query = new URLSearchParams({ match: pattern, before, limit: Math.min(n, room, PAGE) });
      const { answer, said } = await ask(fanfare, `v1/events?${query}`);
      if (!answer.ok) throw failed(said.code ?? `http_${answer.status}`, said.detail ?? `the broker answers ${answer.status}`);
      // Swapped meanwhile, or without the front that it had, or of another log: what came would not stand next to it.
      const isNext = said.events.every(({ id }) => !before || isBefore(id, before));
      if (shown !== this.shown || first !== events[0] || !isNext) return;
      const isOwn = ({ from }) => Boolean(fanfare.session) && from?.session === fanfare.session;
      events.unshift(...said.events.map((event) => ({ ...event, own: isOwn(event) })).reverse());
      Object.assign(shown, { next: said.next, more: Boolean(said.next) });
      // A page without events may still not be the last one.
      isFull = said.events.length > 0;
    }
  }
}

/** Who is in a topic. That nobody is there may also be that nobody is told of, which the broker says where it is asked. */
class Room extends Live {
  constructor(fanfare, topic, max) {
    super(fanfare, `$presence.${topic}`, ofMembers(max));
    this.topic = topic;
  }

  live() {
    super.live();
    if (this.isLive && !this.shown.entries.size) this.#ask();
  }

  async #ask() {
    const { fanfare, shown } = this;
    try {
      const { said } = await ask(fanfare, `v1/topics/${encodeURIComponent(this.topic)}/presence?limit=1`);
      if (said.setting !== "topics.presence" || shown !== this.shown || shown.entries.size) return;
      shown.error = { code: "presence_off", message: `presence is off for ${this.topic}: set \`presence = true\` in its [[topics]] rule` };
      this.changed();
    } catch { /* the connection says so */ }
  }
}

/** A state that is loaded: from its place on, or, where `load` names none, with what came meanwhile behind it. */
class Folded extends Live {
  #loading = false;
  #isShown = false;
  /** Until `load` has answered behind the beginning, or behind the last gap. */
  #isUnloaded = false;
  #namesPlace = true;
  /** Events that came while it loads. */
  #held = null;
  /** What is loaded for; another one makes this void. */
  #turn = null;
  #tries = 0;
  #wait;

  constructor(fanfare, pattern, options) {
    super(fanfare, pattern, ofState(options));
    this.options = { buffer: BUFFER, ...options };
  }

  get extra() {
    return { loading: this.#loading };
  }

  begin() {
    if (!this.options.load) return super.begin();
    this.quit();
    this.#isUnloaded = true;
    if (this.fanfare.state === "closed") return;
    if (this.#namesPlace) this.#load(0);
    else super.begin({});
  }

  quit() {
    super.quit();
    this.#stop();
  }

  #stop() {
    clearTimeout(this.#wait);
    this.#turn = this.#held = null;
    this.#loading = false;
    this.dirty();
  }

  take(event) {
    if (!this.#isUnloaded) return super.take(event);
    const { buffer } = this.options;
    if (this.#held?.push(event) > buffer) this.#again({ code: "too_many", message: `more than ${buffer} events came while it loaded: raise \`buffer\`` });
  }

  gap(gap) {
    if (!this.options.load) return super.gap(gap);
    const { isLive } = this;
    this.isLive = false;
    this.stale = this.#isUnloaded = true;
    if (this.#namesPlace) super.quit();
    // Whoever shows the same loads it again, too.
    if (!this.#namesPlace) this.#stop();
    else if (isLive) this.#load(RETRY_MS * Math.random());
    else this.#again({ code: "gap", message: "what came after the place that `load` named is gone" });
  }

  live() {
    if (this.#isUnloaded) {
      this.isLive = true;
      if (!this.#turn) this.#load(0);
      return;
    }
    this.#tries = 0;
    super.live();
  }

  #again(error) {
    this.error = error;
    const wait = Math.min(RETRY_MS * 2 ** this.#tries, MAX_RETRY_MS);
    this.#tries += 1;
    this.#load(wait * (0.5 + 0.5 * Math.random()));
  }

  #load(wait) {
    this.#stop();
    const turn = this.#turn = {};
    this.#wait = setTimeout(async () => {
      this.#loading = true;
      this.dirty();
      if (!this.#namesPlace) this.#held = [];
      try {
        const loaded = await this.options.load();
        if (turn === this.#turn) this.#take(loaded);
      } catch (error) {
        if (turn === this.#turn) this.#again({ code: "load", message: `load() failed: ${error?.message ?? error}`, error });
      }
    }, wait);
  }

  #take({ state, since }) {
    const held = this.#held, values = { state };
    const isFirst = !this.#isShown;
    this.#namesPlace = since !== undefined;
    this.#isUnloaded = !held && !this.#namesPlace;
    for (const event of this.#namesPlace ? [] : held ?? []) {
      try { this.kind.put(values, event); } catch (error) { report(error); }
    }
    if (isFirst || held && !this.#namesPlace) this.shown = { ...values };
    if (held) this.filling = null;
    this.#isShown = true;
    this.#stop();
    if (this.#namesPlace) super.begin({ since }, values);
    else if (!held) super.begin({});
    else if (this.isLive) this.live();
  }
}

class Connection extends Told {
  #said;
  #unhear;

  constructor(fanfare) {
    super({ state: "idle", attempt: 0, trouble: null });
    this.fanfare = fanfare;
  }

  open() {
    const { state } = this.fanfare;
    if (this.current.state !== state) this.current = { state, attempt: 0, trouble: null };
    this.#said = this.current;
    this.#unhear = this.fanfare.on("state", (change) => {
      // It lasts until it is over, or the connection is.
      const trouble = /live|connecting/.test(change.state) ? this.#said.trouble : null;
      this.#said = { trouble, ...change };
      this.changed();
    });
  }

  close() {
    this.#unhear();
  }

  refresh() {
    const isNew = this.current !== this.#said;
    this.current = this.#said;
    return isNew;
  }
}

// ---- What an application asks for -------------------------------------------------------------

const sharedBy = new WeakMap();

/** Names whose store nobody has any more. */
const gone = new FinalizationRegistry(({ stores, name, ref }) => { if (stores.get(name) === ref) stores.delete(name); });

/** The store of these arguments, as long as anybody has it: whoever asks for the same shows the same. */
function shared(fanfare, args, make) {
  if (!sharedBy.has(fanfare)) sharedBy.set(fanfare, new Map());
  const stores = sharedBy.get(fanfare), name = JSON.stringify(args);
  let store = stores.get(name)?.deref();
  if (!store) {
    store = make();
    const ref = new WeakRef(store);
    stores.set(name, ref);
    gone.register(store, { stores, name, ref });
  }
  return store;
}

/** Refuses what can't be meant, where it is said. Nothing yet is no topic, and asks for nothing. */
function expect(fanfare, topic, name, more = "") {
  if (!fanfare?.subscribe) throw new TypeError(`${name}(fanfare, …): a client comes first, as new Fanfare(url) makes one`);
  if (topic && !topic.split) throw new TypeError(`${name}(fanfare, "a.topic"): a text, not ${typeof topic}`);
  if (more !== null && /[*>]/.test(topic)) {
    throw Object.assign(new TypeError(`${name}() is of one topic, and "${topic}" is a pattern${more}`), { code: "invalid_topic" });
  }
}

function latest(fanfare, topic, { maxRate } = {}) {
  expect(fanfare, topic, "latest", ": map() has the values of all that match");
  return shared(fanfare, ["latest", topic, maxRate], () => new Live(fanfare, topic, ofTopic(maxRate)));
}

function map(fanfare, pattern, { maxRate, max = MAX } = {}) {
  expect(fanfare, pattern, "map", null);
  return shared(fanfare, ["map", pattern, maxRate, max], () => new Live(fanfare, pattern, ofTopics(maxRate, max)));
}

function list(fanfare, pattern, { tail = TAIL, max = MAX } = {}) {
  expect(fanfare, pattern, "list", null);
  return shared(fanfare, ["list", pattern, tail, max], () => new Log(fanfare, pattern, ofLog(Math.min(tail, max), max)));
}

function presence(fanfare, topic, { max = MAX } = {}) {
  expect(fanfare, topic, "presence");
  return shared(fanfare, ["presence", topic, max], () => new Room(fanfare, topic, max));
}

function connection(fanfare) {
  expect(fanfare, "", "connection");
  return shared(fanfare, ["connection"], () => new Connection(fanfare));
}

function reduced(fanfare, pattern, options) {
  expect(fanfare, pattern, "reduced", null);
  if (!options?.reduce?.call) throw new TypeError("reduced(fanfare, pattern, { reduce }): a function that makes the next state of one and an event");
  return new Folded(fanfare, pattern, options);
}

function publisher(fanfare, topic, { throttle = 0, ...options } = {}) {
  expect(fanfare, topic, "publisher");
  const client = knownOf(fanfare);
  let readyAt = -Infinity, waiting = null;
  const go = async ({ data, more }) => {
    readyAt = performance.now() + throttle;
    try {
      return await fanfare.publish(topic, data, { ...options, ...more });
    } catch (error) {
      if (/^(offline|closed)$/.test(error.code)) error.message = client.failure?.message ?? "there is no connection now; with `queue: true` it waits for one";
      throw error;
    }
  };
  return (data, more) => {
    const given = { data, more }, wait = readyAt - performance.now();
    if (waiting) return Object.assign(waiting, given).answer;
    if (wait <= 0) return go(given);
    waiting = given;
    given.answer = new Promise((next) => setTimeout(next, wait)).then(() => {
      waiting = null;
      return go(given);
    });
    return given.answer;
  };
}

export { connection, latest, list, map, presence, publisher, reduced };

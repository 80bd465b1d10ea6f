// What is on its way to the broker.
//
// Pure state beside a promise for each. Each publish has an idempotency key, by which what was under way when a connection
// broke is sent again and stored once. Values that are bound to the session are said again on each connection.

/** At most so many wait, and so many of them for an answer. */
const MOST = 1000, WINDOW = 256;

/** So many ids of its own are known; so many frames wait, and no longer, for an answer that says whose an event is. */
const OWN = 1000, HELD = 1000, HELD_MS = 2_000;

const KINDS = {
  topic: "string", type: "string", key: "string", queue: "boolean", timeout: "number", signal: "object", except: "boolean string", removed: "boolean", version: "number",
  epoch: "string", if_latest: "string", ttl_ms: "above 0", keep: "boolean", bound: "boolean", encoding: "string", from: "object",
};

/** Refusals after which the same request, with the same key, may do. */
const PASSING = new Set(["in_progress", "outcome_unknown", "unavailable", "storage_full", "too_many", "internal"]);

/** Refuses by name what is no option, or not of its kind. */
function check(options) {
  const refuse = (message) => { throw Object.assign(new TypeError(message), { code: "invalid_option" }); };
  for (const [name, value] of Object.entries(options)) {
    const kind = KINDS[name];
    if (!kind && value !== undefined) refuse(`publish has no option ${name}; it has ${Object.keys(KINDS).join(", ")}`);
    if (value != null && !kind?.includes(typeof value) && !(kind === "above 0" && value > 0)) refuse(`publish: ${name} is to be ${kind}, not ${value}`);
  }
}

/** Why data is no JSON, alike in each browser. */
function reasonOf(error) {
  const message = `${error?.message ?? error}`;
  if (/BigInt/i.test(message)) return "it has a BigInt; make it a text, or use fanfare/cbor, which has them";
  return /circular|cyclic/i.test(message) ? "it contains itself, so it would have no end" : message;
}

const failed = (code, message, more) => Object.assign(new Error(message), more, { code });

/** A key that no other publish has. */
function newKey() {
  return Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join("");
}

export class Publishing {
  /** In the order in which they were published, be they sent for the first time or again. */
  #waiting = [];
  #published = 0;
  /** Request number → what waits for its answer. */
  #asked = new Map();
  /** Topic → the value that this session holds there. */
  #bound = new Map();
  #notBefore = 0;
  /** Nothing that waits may go before something changes. */
  #isStuck = false;
  /** The sessions that published, and the ids of what was acknowledged: the newest of them. */
  #sessions = new Set();
  #ids = new Set();
  /** What came behind an event that may be this client's own, in order: `{frame, again}`; what is being handed on is not held. */
  #held = [];
  #isPassing = false;
  #timer;

  /** `tell(error)` is told what nobody waits for. */
  constructor(tell = () => {}) {
    this.tell = tell;
  }

  /** Whether it keeps a connection: values end with their session. */
  get holds() {
    return this.#bound.size > 0;
  }

  /** When to go on after a refusal that passes, in milliseconds from now; 0 for at once. */
  get pauseMs() {
    return this.#waiting.length ? Math.max(0, this.#notBefore - performance.now()) : 0;
  }

  /**
   * Takes an event, its data as JSON or `{error}` where there is none of it, and resolves with the broker's answer. `timeout` in milliseconds, 0 for as long as it
   * takes, as is the default where it is to be queued, counts from `begun`. `except: true` and a `{session}` in the topic are the session that it goes out in.
   */
  add(given, data, begun = performance.now()) {
    check(given);
    if (typeof data === "object") throw new TypeError(`publish("${given.topic}", data): no JSON can be made of the data: ${reasonOf(data.error)}`, { cause: data.error });
    let { key, timeout, signal, queue, except, ...event } = given;
    if (data === undefined && !event.removed) throw new TypeError("publish(topic, data): JSON has no undefined and no functions; null is a value, and `removed: true` needs none");
    timeout ??= queue ? 0 : 30_000;
    if (key === undefined && event.keep !== false) key = newKey();
    const { topic } = event;
    this.#bound.delete(topic);
    if (event.bound) this.#bound.set(topic, [{ ...event, queue: true }, data]);
    const rest = data === undefined ? "}" : `,"data":${data}}`;
    const textFor = (session) => {
      const more = { topic: topic.replace("{session}", session ?? "{session}"), ...key && { key }, ...except && { except: except === true ? session : except } };
      return JSON.stringify({ ...event, ...more }).slice(1, -1) + rest;
    };
    const isOfSession = topic.includes("{session}");
    return new Promise((resolve, reject) => {
      if (this.#waiting.length + this.#asked.size >= MOST) return reject(failed("too_many", `${MOST} publishes wait already`));
      const item = { topic, textFor, key, queue, isOfSession, resolve, reject, order: this.#published++ };
      const give = (code, why) => this.#drop(item, item.sent ? failed("outcome_unknown", `${why}, perhaps behind the event`) : failed(code, why));
      const abort = () => give("aborted", "given up");
      if (signal?.aborted) return reject(failed("aborted", "given up"));
      signal?.addEventListener("abort", abort);
      if (timeout) item.timer = setTimeout(() => give("timeout", `no answer within ${timeout / 1000} s`), begun + timeout - performance.now());
      item.done = () => { clearTimeout(item.timer); signal?.removeEventListener("abort", abort); };
      this.#waiting.push(item);
      this.#isStuck = false;
    });
  }

  #drop(item, error) {
    this.#isStuck = false;
    item.done();
    this.#waiting = this.#waiting.filter((each) => each !== item);
    for (const [ref, each] of this.#asked) if (each === item) this.#asked.delete(ref);
    item.reject(error);
  }

  /** The next text to send, or nothing; `nextRef` numbers it. */
  next(nextRef, session) {
    if (this.#isStuck || !this.#waiting.length || this.#asked.size >= WINDOW || this.pauseMs) return null;
    const at = this.#turn();
    this.#isStuck = at < 0;
    if (this.#isStuck) return null;
    const [item] = this.#waiting.splice(at, 1);
    const ref = nextRef();
    // What is sent again, or is to arrive however long that takes, has its topic to itself: what was behind it could else be stored before it.
    item.isAlone = item.key && (item.queue || item.sent);
    item.sent = true;
    this.#asked.set(ref, item);
    if (session) this.#remember(this.#sessions, session);
    return `{"op":"publish","ref":${ref},${item.textFor(session)}`;
  }

  /** Which of those that wait goes next, or -1: those of a topic keep their order. */
  #turn() {
    const asked = [...this.#asked.values()];
    const isAway = new Set(asked.map(({ topic }) => topic));
    const isTaken = new Set(asked.filter(({ isAlone }) => isAlone).map(({ topic }) => topic));
    return this.#waiting.findIndex(({ topic, sent }) => {
      const isFree = !isTaken.has(topic) && !(sent && isAway.has(topic));
      isTaken.add(topic);
      return isFree;
    });
  }

  #remember(set, value) {
    set.delete(value);
    set.add(value);
    if (set.size > OWN) set.delete(set.values().next().value);
  }

  /** Whether this client published it: its session says so, or else the id that the broker answered with. */
  isOwn({ id, from }) {
    return from?.session ? this.#sessions.has(from.session) : this.#ids.has(id);
  }

  /** Whether an answer that is still to come may say that this event is this client's own. */
  #mayBeOwn({ op, id, topic, from }) {
    if (op !== "event" || id === undefined || from?.session || this.#ids.has(id)) return false;
    return [...this.#asked.values(), ...this.#waiting].some((item) => item.sent && item.topic === topic);
  }

  /**
   * Takes an answer, or holds back what comes behind an event that may be this client's own, until its answer has come, and hands it
   * on then with `again()`; false for all else. Over a WebSocket an event comes right before its answer.
   */
  take(frame, again) {
    if (this.#asked.has(frame.ref) && /ack|error/.test(frame.op)) {
      this.#answer(frame);
      this.#release();
      return true;
    }
    if (this.#isPassing || !this.#held.length && !this.#mayBeOwn(frame)) return false;
    if (!this.#held.length) {
      this.#timer = setTimeout(() => this.#release(true), HELD_MS);
      this.#timer.unref?.();
    }
    this.#held.push({ frame, again });
    // Who waits too long or with too many is handed on, as nobody's own.
    if (this.#held.length > HELD) this.#release(true);
    return true;
  }

  #release(isAll) {
    while (this.#held.length && (isAll || !this.#mayBeOwn(this.#held[0].frame))) {
      const { again } = this.#held.shift();
      this.#isPassing = true;
      try { again(); } finally { this.#isPassing = false; }
    }
    if (!this.#held.length) clearTimeout(this.#timer);
  }

  #answer({ op, ref, code, message, ...rest }) {
    const item = this.#asked.get(ref);
    this.#asked.delete(ref);
    this.#isStuck = false;
    if (op === "error" && PASSING.has(code) && item.key) {
      item.refusal = { code, message };
      this.#again([item]);
      // Not by the time of day, which may be set back.
      this.#notBefore = performance.now() + 500 + 1000 * Math.random();
      return;
    }
    item.done();
    if (rest.id) this.#remember(this.#ids, rest.id);
    if (op === "error") return item.reject(failed(code, message, rest));
    item.resolve(rest);
    // What was refused before it and is behind it now would take the place of something newer.
    const isPast = ({ topic, order, refusal }) => refusal && topic === item.topic && order < item.order;
    for (const past of this.#waiting.filter(isPast)) this.#drop(past, failed(past.refusal.code, `${past.refusal.message}; and what was published behind it on ${item.topic} is stored`));
  }

  /**
   * The connection is gone: what has a key is sent again, and of what has none nobody knows, nor of what was in the session's own
   * topic, unless it is bound: that ends with the session, and is said in the next one as if it was new.
   */
  cut() {
    this.#held = [];
    clearTimeout(this.#timer);
    const asked = [...this.#asked.values()];
    this.#asked.clear();
    const isSure = ({ key, isOfSession }) => key && !isOfSession;
    this.#again(asked.filter(isSure));
    for (const item of asked) if (!isSure(item)) this.#drop(item, failed("outcome_unknown", "the connection broke meanwhile"));
  }

  /** Sends items again: refused one by one, they would else go out the last one first. */
  #again(items) {
    this.#isStuck = false;
    this.#waiting = [...items, ...this.#waiting].sort((one, other) => one.order - other.order);
  }

  /** A new session holds none of the values yet; resolves once it does. */
  bindAgain() {
    const missing = [...this.#bound.values()].filter(([{ topic }]) => !this.#waiting.some((item) => item.topic === topic));
    return Promise.all(missing.map(([event, data]) => this.add(event, data).catch(({ code, message }) => {
      if (code !== "closed") this.tell({ code, message: `the bound value of ${event.topic}: ${message}` });
    })));
  }

  /** Nothing more will be sent. */
  fail(code, message) {
    this.#bound.clear();
    clearTimeout(this.#timer);
    for (const item of [...this.#asked.values(), ...this.#waiting]) this.#drop(item, item.sent ? failed("outcome_unknown", message) : failed(code, message));
  }
}

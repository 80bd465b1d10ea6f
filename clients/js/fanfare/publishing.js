// What is on its way to the broker.
//
// Pure state beside a promise for each. Each publish has an idempotency key, by which what was under way when a connection
// broke is sent again and stored once. Values that are bound to the session are said again on each connection.

/** At most so many wait, and so many of them for an answer. */
const MOST = 1000, WINDOW = 256;

/** Refusals after which the same request, with the same key, may do. */
const PASSING = new Set(["in_progress", "outcome_unknown", "unavailable", "storage_full", "too_many", "internal"]);

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

  /** Whether it keeps a connection: values end with their session. */
  get holds() {
    return this.#bound.size > 0;
  }

  /** When to go on after a refusal that passes, in milliseconds from now; 0 for at once. */
  get pauseMs() {
    return this.#waiting.length ? Math.max(0, this.#notBefore - performance.now()) : 0;
  }

  /**
   * Takes an event, its data as JSON, and resolves with the broker's answer. `timeout` in milliseconds, 0 for as long as it
   * takes, as is the default where it is to be queued. `except: true` is the present session.
   */
  add({ key, timeout, signal, queue, except, ...event }, data, session) {
    timeout ??= queue ? 0 : 30_000;
    if (key === undefined && event.keep !== false) key = newKey();
    const { topic } = event;
    this.#bound.delete(topic);
    if (event.bound) this.#bound.set(topic, [{ ...event, queue: true }, data]);
    const more = { ...key && { key }, ...except && { except: except === true ? session : except } };
    const members = JSON.stringify({ ...event, ...more }).slice(1, -1);
    const text = `${members}${data === undefined ? "" : `,"data":${data}`}}`;
    return new Promise((resolve, reject) => {
      if (this.#waiting.length + this.#asked.size >= MOST) return reject(failed("too_many", `${MOST} publishes wait already`));
      const item = { topic, text, key, resolve, reject, order: this.#published++ };
      const give = (code, why) => this.#drop(item, item.sent ? failed("outcome_unknown", `${why}, perhaps behind the event`) : failed(code, why));
      const abort = () => give("aborted", "given up");
      if (signal?.aborted) return reject(failed("aborted", "given up"));
      signal?.addEventListener("abort", abort);
      if (timeout) item.timer = setTimeout(() => give("timeout", `no answer within ${timeout / 1000} s`), timeout);
      item.done = () => { clearTimeout(item.timer); signal?.removeEventListener("abort", abort); };
      this.#waiting.push(item);
    });
  }

  #drop(item, error) {
    item.done();
    this.#waiting = this.#waiting.filter((each) => each !== item);
    for (const [ref, each] of this.#asked) if (each === item) this.#asked.delete(ref);
    item.reject(error);
  }

  /** The next text to send, or nothing; `nextRef` numbers it. */
  next(nextRef) {
    if (!this.#waiting.length || this.#asked.size >= WINDOW || this.pauseMs) return null;
    const item = this.#waiting.shift();
    const ref = nextRef();
    item.sent = true;
    this.#asked.set(ref, item);
    return `{"op":"publish","ref":${ref},${item.text}`;
  }

  /** Takes an answer; false where it is none to a publish. */
  take({ op, ref, code, message, ...rest }) {
    const item = this.#asked.get(ref);
    if (!item) return false;
    this.#asked.delete(ref);
    if (op === "error" && PASSING.has(code) && item.key) {
      this.#again([item]);
      // Not by the time of day, which may be set back.
      this.#notBefore = performance.now() + 500 + 1000 * Math.random();
      return true;
    }
    item.done();
    if (op === "ack") item.resolve(rest);
    else item.reject(failed(code, message, rest));
    return true;
  }

  /** The connection is gone: what has a key is sent again, and of what has none nobody knows. */
  cut() {
    const asked = [...this.#asked.values()];
    this.#asked.clear();
    this.#again(asked.filter(({ key }) => key));
    for (const item of asked) if (!item.key) this.#drop(item, failed("outcome_unknown", "the connection broke meanwhile"));
  }

  /** Sends items again: refused one by one, they would else go out the last one first. */
  #again(items) {
    this.#waiting = [...items, ...this.#waiting].sort((one, other) => one.order - other.order);
  }

  /** A new session holds none of the values yet; resolves once it does. */
  bindAgain() {
    const missing = [...this.#bound.values()].filter(([{ topic }]) => !this.#waiting.some((item) => item.topic === topic));
    return Promise.allSettled(missing.map(([event, data]) => this.add(event, data)));
  }

  /** Nothing more will be sent. */
  fail(code, message) {
    this.#bound.clear();
    for (const item of [...this.#asked.values(), ...this.#waiting]) this.#drop(item, item.sent ? failed("outcome_unknown", message) : failed(code, message));
  }
}

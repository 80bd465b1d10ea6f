// Events that wait for a loop: `for await (const event of fanfare.subscribe("orders.>"))`.

const FULL = "more events wait for this loop than `buffer`";

export class Feed {
  #events = [];
  #waiting = [];
  #over = false;
  #error = null;

  /** At most `buffer` wait; with more, `overflow` says: "throw", "drop-oldest", or "latest" for the newest of each topic. `early` is to be done first. */
  constructor(stop, { buffer = 1000, overflow = "throw" } = {}, early = []) {
    Object.assign(this, { stop, buffer, overflow });
    if (!/^(throw|latest|drop-oldest)$/.test(overflow ?? "throw")) {
      this.fail(Object.assign(new Error(`overflow is to be "throw", "latest" or "drop-oldest", not ${JSON.stringify(overflow)}`), { code: "invalid_option" }));
    }
    for (const deed of early) deed(this);
  }

  push(event) {
    if (this.#over) return;
    const next = this.#waiting.shift();
    if (next) return next.resolve({ value: event, done: false });
    const isFull = this.#events.length >= this.buffer;
    if (isFull && this.overflow === "throw") return this.fail(Object.assign(new Error(FULL), { code: "slow_consumer" }));
    this.#events.push(event);
    if (!isFull) return;
    if (this.overflow === "latest") this.#events = [...new Map(this.#events.map((each) => [each.topic, each])).values()];
    while (this.#events.length > this.buffer) this.#events.shift();
  }

  /** Ends the loop behind what waits; with an error, by throwing it. */
  fail(error = null) {
    if (this.#over) return;
    this.#over = true;
    this.#error = error;
    this.stop();
    for (const { resolve, reject } of this.#waiting.splice(0)) error ? reject(error) : resolve({ value: undefined, done: true });
  }

  next() {
    if (this.#events.length) return Promise.resolve({ value: this.#events.shift(), done: false });
    if (!this.#over) return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
    const error = this.#error;
    this.#error = null;
    return error ? Promise.reject(error) : Promise.resolve({ value: undefined, done: true });
  }

  return(value) {
    this.#events = [];
    this.fail();
    return Promise.resolve({ value, done: true });
  }

  [Symbol.asyncIterator]() {
    return this;
  }
}

// One connection, from its opening to its end. All that is true of it alone dies with it.

/** How long until an unanswered ping is the end; less where the machine was away. */
const PATIENCE_MS = 10_000, SHORT_MS = 3_000;

/** Close codes after which coming back unchanged ends the same way (docs/protocol.md). */
const FINAL = new Set([1002, 1007, 1008, 1009, 4400, 4401, 4403]);

export class Link {
  session = null;
  welcomed = false;
  /** The connection is open and the broker knows who this is. */
  ready = false;
  over = false;
  #ref = 0;
  #timer;
  #authRefs = new Map();
  /** When the wait for an answer to a ping ends; 0 where none is waited for. */
  #endsAt = 0;

  /**
   * `hooks`: `read(text)`, which makes a frame of a message, `ready()`, `frame(frame, text)` for what is not the connection's
   * own, and `end(reason)`, once, with `{code, message, retry_after_ms?, final}`.
   */
  constructor(socket, token, welcomeMs, hooks) {
    Object.assign(this, { socket, hooks, heardAt: Date.now(), beatMs: 25_000 });
    this.#after(welcomeMs, () => this.end("timeout", "no welcome in time"));
    socket.onmessage = ({ data }) => this.#hear(data, token);
    // Deno has no code for a connection that broke.
    socket.onclose = ({ code, reason }) => this.end(code || 1006, reason);
    socket.onerror = (error) => {
      this.error = error?.message;
      // Its `close` says more, but not every implementation has one behind each error.
      setTimeout(() => this.end(1006));
    };
  }

  /** The number of the next request. */
  nextRef() {
    return ++this.#ref;
  }

  /** Whether there is anything to send it over. Timers are throttled where nobody looks, so it is judged here as well. */
  get isOpen() {
    if (this.#endsAt && Date.now() > this.#endsAt) this.end("silence", "no answer in time");
    else if (Date.now() - this.heardAt > 2 * this.beatMs) this.check();
    return this.ready && !this.over;
  }

  send(frame) {
    if (!this.over) this.socket.send(frame.op ? JSON.stringify(frame) : frame);
  }

  /** Identifies, or renews in place; resolves when that is accepted. */
  auth(token) {
    const ref = this.nextRef();
    return new Promise((resolve, reject) => {
      this.#authRefs.set(ref, { resolve, reject });
      this.send({ op: "auth", ref, token });
    });
  }

  /** Asks whether anybody is there: no answer in time is the end of it. */
  check(patienceMs = SHORT_MS) {
    const endsAt = Date.now() + patienceMs;
    // Who is asked already has no more time than that left.
    if (!this.welcomed || this.over || this.#endsAt && this.#endsAt <= endsAt) return;
    this.#endsAt = endsAt;
    this.send({ op: "ping", ref: this.nextRef() });
    this.#after(patienceMs, () => {
      if (!this.#endsAt) return this.#listen();
      if (Date.now() - this.#endsAt < 1000) return this.end("silence", "no answer in time");
      // A timer that comes late slept itself, and what came meanwhile is still to be read.
      this.#endsAt = 0;
      this.check();
    });
  }

  /** Ends it, whatever its socket says: that of a dead connection may say nothing for minutes. */
  end(code, message = "") {
    if (this.over) return;
    this.over = true;
    clearTimeout(this.#timer);
    const { socket, bye } = this;
    socket.onmessage = socket.onclose = null;
    socket.onerror = () => {};
    // One that never opened may not be closed everywhere.
    try { socket.close(1000); } catch {}
    const reason = { code, message: message || this.error || "the connection broke", ...bye, final: bye ? bye.retry_after_ms === undefined : FINAL.has(code) };
    for (const { reject } of this.#authRefs.values()) reject(reason);
    this.hooks.end(reason);
  }

  #after(ms, deed) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(deed, ms);
    this.#timer.unref?.();
  }

  /** Browsers hide the broker's pings from the page, so behind a heartbeat of silence it asks for itself. */
  #listen() {
    // A clock that was set back says nothing: the silence counts from here.
    this.heardAt = Math.min(this.heardAt, Date.now());
    const leftMs = this.beatMs + this.heardAt - Date.now();
    if (leftMs <= 0) this.check(PATIENCE_MS);
    else this.#after(leftMs, () => this.#listen());
  }

  #hear(text, token) {
    this.heardAt = Date.now();
    let frame;
    try { frame = this.hooks.read(text); } catch { return this.end("bad_message", "not a broker"); }
    const { op, ref } = frame;
    // What waited in the machine while it slept is from before, and answers nothing.
    if (op === "pong" || this.#endsAt - this.heardAt < 2000) this.#endsAt = 0;
    const auth = this.#authRefs.get(ref);
    if (auth) {
      this.#authRefs.delete(ref);
      return op === "ack" ? auth.resolve() : auth.reject(frame);
    }
    if (op === "welcome") this.#welcome(frame, token);
    else if (op === "bye") this.bye = frame;
    else if (op !== "pong" && op !== "heartbeat") this.hooks.frame(frame, text);
  }

  async #welcome({ session, heartbeat, version }, token) {
    Object.assign(this, { session, version, welcomed: true, beatMs: heartbeat * 1000 });
    this.#listen();
    try {
      if (token) await this.auth(token);
    } catch ({ code, message }) {
      this.bye ??= { code, message };
      return this.end(4401);
    }
    if (this.over) return;
    this.ready = true;
    this.hooks.ready();
  }
}

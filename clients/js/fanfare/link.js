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
  #pingedAt = 0;

  /**
   * `hooks`: `read(text)`, which makes a frame of a message, `ready()`, `frame(frame, text)` for what is not the connection's
   * own, and `end(reason)`, once, with `{code, message, retry_after_ms?, final}`.
   */
  constructor(socket, token, welcomeMs, hooks) {
    Object.assign(this, { socket, hooks, heardAt: Date.now(), beatMs: 25_000 });
    this.#after(welcomeMs, () => this.end("timeout", "no welcome in time"));
    socket.onmessage = ({ data }) => this.#hear(data, token);
    socket.onclose = ({ code, reason }) => this.end(code, reason);
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

  /** Asks whether anybody is there, where nothing was heard just now: no answer in time is the end of it. */
  check(patienceMs = SHORT_MS) {
    if (!this.welcomed || this.over || Date.now() - this.heardAt < 1000) return;
    this.#pingedAt = Date.now();
    this.send({ op: "ping", ref: this.nextRef() });
    this.#after(patienceMs, () => {
      if (this.heardAt >= this.#pingedAt) return this.#listen();
      // A timer that comes late slept itself, and what came meanwhile is still to be read.
      if (Date.now() - this.#pingedAt > patienceMs + 1000) return this.check();
      this.end("silence", "no answer");
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
    try { socket.close(1000); } catch { /* never opened */ }
    const reason = { code, message: message || this.error || "", ...bye, final: bye ? bye.retry_after_ms === undefined : FINAL.has(code) };
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
    const silentMs = Date.now() - this.heardAt;
    // A clock that was set back says nothing.
    if (silentMs >= this.beatMs) this.check(PATIENCE_MS);
    else this.#after(Math.min(this.beatMs, this.beatMs - silentMs), () => this.#listen());
  }

  #hear(text, token) {
    this.heardAt = Date.now();
    let frame;
    try { frame = this.hooks.read(text); } catch { return this.end("bad_message", "not a broker"); }
    const { op, ref } = frame;
    const auth = this.#authRefs.get(ref);
    if (auth) {
      this.#authRefs.delete(ref);
      return op === "ack" ? auth.resolve() : auth.reject(frame);
    }
    if (op === "welcome") this.#welcome(frame, token);
    else if (op === "bye") this.bye = frame;
    else if (op !== "pong" && op !== "heartbeat") this.hooks.frame(frame, text);
  }

  async #welcome({ session, heartbeat }, token) {
    Object.assign(this, { session, welcomed: true, beatMs: heartbeat * 1000 });
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

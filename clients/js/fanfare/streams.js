// A connection that looks like a WebSocket, made of event streams, for where WebSockets do not come through.
//
// Each subscribe is a stream of its own, read with `fetch`, so that the token is in no URL; what comes over it carries the
// subscribe's number as its `lane`. Publishing goes over HTTP. Where not even this opens, it says why, which a
// browser says of no WebSocket.

import { EventStream } from "./eventstream.js";

const BEAT_S = 15;
/** A publish that is not answered by then is sent again: others of its topic wait behind it. */
const POST_MS = 30_000;
/** When a WebSocket is tried again where none came through, and streams that were to take over; the first try. */
const SOCKET_AGAIN_MS = 600_000, AGAIN_MS = 5_000, FIRST_MS = 1_000;

/** Broker → when no WebSocket came through to it. */
const missedAt = new Map();

/** Statuses of what can't be for now. */
const PASSING = new Set([408, 425, 429, 500, 502, 503, 504]);

export class Streams {
  /** What is told where a runtime has WebSockets, and they fail. */
  why;
  #lanes = new Map();
  /** Topic → what is published there last, for requests of their own overtake each other. */
  #published = new Map();
  #over = false;
  #timer;

  constructor(url, token, WebSocket) {
    Object.assign(this, { url, token });
    if (WebSocket) this.why = { code: "no_websocket", message: "the broker answers, but not to WebSockets: does what stands between pass on Upgrade and Connection?" };
    this.#hello();
  }

  /** Takes a request as a WebSocket does. */
  send(text) {
    const { op, ref, ...request } = JSON.parse(text);
    // It was shown with each request already.
    if (op === "auth") this.#say({ op: "ack", ref });
    else if (op === "subscribe") this.#follow(ref, request);
    else if (op === "publish") this.#publish(ref, request);
    else if (op === "ping") this.#ask("health/live").then(() => this.#say({ op: "pong", ref }), () => {});
    else if (op === "unsubscribe") {
      for (const lane of request.lanes) this.#leave(lane);
      this.#say({ op: "ack", ref });
    }
  }

  /** What was to take the place of this did not come through: a WebSocket, which is kept for this tab, or other streams. */
  missed(isStreams) {
    if (isStreams) return this.#moveIn(AGAIN_MS, false);
    missedAt.set(this.url, Date.now());
    try { sessionStorage.setItem(`fanfare.streams ${this.url}`, Date.now()); } catch { /* no storage: it is found out again */ }
    this.#moveIn(SOCKET_AGAIN_MS, true);
  }

  /** Asks after a while for a connection in place of this one. */
  #moveIn(ms, socket) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#say({ op: "goaway", within_ms: 0, socket }), ms);
    this.#timer.unref?.();
  }

  close() {
    this.#over = true;
    clearTimeout(this.#timer);
    for (const lane of [...this.#lanes.keys()]) this.#leave(lane);
  }

  #say(frame) {
    if (!this.#over) this.onmessage?.({ data: typeof frame === "string" ? frame : JSON.stringify(frame) });
  }

  #end(code, reason) {
    if (this.#over) return;
    this.close();
    this.onclose?.({ code, reason });
  }

  #ask(path, { headers, ...options } = {}) {
    const identified = this.token ? { Authorization: `Bearer ${this.token}`, ...headers } : headers;
    return fetch(this.url + path, { credentials: "include", cache: "no-store", ...options, headers: identified });
  }

  /** Whether a broker is there and speaks to this page, and what is wrong if not. */
  async #hello() {
    let answer;
    try {
      answer = await this.#ask("health/ready");
    } catch (error) {
      // A browser tells no page of another origin what went wrong, but whether anything answers.
      const isThere = await fetch(`${this.url}health/live`, { mode: "no-cors", cache: "no-store" }).then(() => true, () => false);
      const origin = globalThis.origin ?? globalThis.location?.origin;
      const what = origin === "null" ? "this page has no origin that could be listed, as one that is opened from the disk: serve it, as http://localhost:3000" : `the broker does not let pages of ${origin} in: list it in server.allowed_origins`;
      if (isThere && origin) return this.#end("origin_not_allowed", what);
      // To this machine they do.
      if (/^https:/.test(globalThis.location?.href) && /^http:..(?!localhost|127\.|\[::1)/.test(this.url)) {
        return this.#end("unreachable", `browsers let a page of https reach nothing without TLS, and the broker is said to be at ${this.url}: it is to be https://`);
      }
      const { code, message } = error.cause ?? {};
      const isPlain = /SSL|TLS|EPROTO/.test(code) && this.url.startsWith("https:");
      return this.#end("unreachable", isPlain ? `what answers at ${this.url} speaks no TLS: is it http://?` : `nothing answers at ${this.url}${message ? ` (${message})` : ""}`);
    }
    const { checks, detail } = await answer.json().catch(() => ({}));
    if (answer.ok && !checks) return this.#end("unreachable", `what answers at ${this.url} is a page, and no Fanfare broker: a proxy's? Else new Fanfare("http://localhost:8080") says where it is`);
    if (!answer.ok) {
      const wrong = Object.values(checks ?? {}).filter((said) => said !== "ok").join("; ");
      return this.#end(answer.status === 503 ? "unavailable" : `http_${answer.status}`, detail ?? (wrong || `${this.url}health/ready answers ${answer.status}`));
    }
    this.#say({ op: "welcome", session: null, heartbeat: BEAT_S });
    if (!this.why) return;
    let missed = missedAt.get(this.url);
    try { missed ??= Number(sessionStorage.getItem(`fanfare.streams ${this.url}`)); } catch { /* no storage */ }
    this.#moveIn(Math.max(FIRST_MS, (missed || 0) + SOCKET_AGAIN_MS - Date.now()), true);
  }

  #leave(lane) {
    const { stop, timer } = this.#lanes.get(lane) ?? {};
    clearTimeout(timer);
    stop?.abort();
    this.#lanes.delete(lane);
  }

  async #follow(lane, request) {
    const stop = new AbortController();
    this.#lanes.set(lane, { stop });
    this.#listen(lane);
    try {
      const answer = await this.#ask("v1/sse", {
        method: "POST", signal: stop.signal,
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ ...request, heartbeat: BEAT_S }),
      });
      if (!answer.ok || !/^text\/event-stream/.test(answer.headers.get("Content-Type"))) return await this.#refused(lane, answer);
      this.#say({ op: "ack", ref: lane });
      const stream = new EventStream((block) => this.#heard(lane, block));
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let piece; !(piece = await reader.read()).done;) {
        this.#listen(lane);
        stream.push(piece.value);
      }
      this.#end("cut", "the event stream ended");
    } catch (error) {
      if (!stop.signal.aborted) this.#end("cut", `the event stream broke: ${error.message}`);
    }
  }

  /** Whoever is silent for two and a half heartbeats is not there. */
  #listen(lane) {
    const own = this.#lanes.get(lane);
    if (!own) return;
    clearTimeout(own.timer);
    own.timer = setTimeout(() => this.#end("silence", "the event stream is silent"), 2_500 * BEAT_S);
    own.timer.unref?.();
  }

  async #refused(lane, answer) {
    const { code, detail = "what answers is no event stream: is it a proxy's page?" } = await answer.json().catch(() => ({}));
    this.#leave(lane);
    const status = `http_${answer.status}`;
    // A token that is refused is refused to all of them.
    const isFinal = code === "unauthorized" && this.token !== undefined;
    // What is not the broker's word says nothing of the pattern, and may pass.
    const isPassing = !code || code === "origin_not_allowed" || PASSING.has(answer.status);
    if (!isFinal && !isPassing) return this.#say({ op: "error", ref: lane, code, message: detail });
    const seconds = Number(answer.headers.get("Retry-After"));
    const more = isFinal ? {} : { retry_after_ms: seconds ? seconds * 1000 : 1000 + 2000 * Math.random() };
    this.#say({ op: "bye", code: code ?? status, message: detail, ...more });
    this.#end(code ?? status, detail);
  }

  /** What a stream says, as a WebSocket would: the numbers 0 in it are those of its own subscribe. */
  #heard(lane, { event, data }) {
    const { ref, replay } = JSON.parse(data);
    const more = { op: event?.replace("fanfare.", "") ?? "event", lane, ...ref === 0 && { ref: lane }, ...replay === 0 && { replay: lane } };
    const inner = data.trim().slice(1, -1);
    // The later one of two members counts.
    this.#say(`{${inner}${inner.trim() ? "," : ""}${JSON.stringify(more).slice(1)}`);
  }

  /** Publishes behind what came before on the topic: where that is to be sent again, so is this. */
  #publish(ref, event) {
    const { topic } = event;
    const done = Promise.resolve(this.#published.get(topic)).then((isAgain) => {
      if (this.#over) return;
      if (!isAgain || !event.key) return this.#post(ref, event);
      this.#say({ op: "error", ref, code: "outcome_unknown", message: "what was published before on the topic has no answer" });
      return true;
    }).then((isAgain) => {
      if (this.#published.get(topic) === done) this.#published.delete(topic);
      return isAgain;
    });
    this.#published.set(topic, done);
  }

  /** Returns true where it is to be sent again: nobody answered, or nobody could. */
  async #post(ref, { key, ...event }) {
    if (event.bound) {
      return this.#say({ op: "error", ref, code: "bound_needs_websocket", message: "a `bound` value lives with a WebSocket session, and this connection is made of event streams" });
    }
    const stop = new AbortController();
    const timer = setTimeout(() => stop.abort(), POST_MS);
    timer.unref?.();
    try {
      const answer = await this.#ask("v1/events", {
        method: "POST", signal: stop.signal,
        headers: { "Content-Type": "application/json", ...key && { "Idempotency-Key": key } },
        body: JSON.stringify(event),
      });
      const said = await answer.json();
      // A token that is over is so for all; what has a key is sent again with another one.
      if (said.code === "unauthorized" && this.token !== undefined) {
        this.#say({ op: "bye", code: said.code, message: said.detail });
        this.#end(said.code, said.detail);
        return true;
      }
      if (!answer.ok) {
        this.#say({ op: "error", ref, code: said.code, message: said.detail, event: said.event });
        return said.code === "in_progress" || PASSING.has(answer.status);
      }
      const { time: _, topic: __, ...rest } = said.events?.[0] ?? said;
      this.#say({ op: "ack", ref, ...rest, ...answer.status === 200 && !rest.superseded && { repeated: true } });
    } catch (error) {
      this.#say({ op: "error", ref, code: "outcome_unknown", message: error.message });
      return true;
    } finally {
      clearTimeout(timer);
    }
  }
}

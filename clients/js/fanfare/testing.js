// A broker in memory, for tests of applications: it speaks to the client as a real one does (`docs/protocol.md`), and does
// on request what real ones seldom do. Time passes when the test says so, by `fakeTime` or by a framework's own timers.

import { FakeTime, turns } from "./faketime.js";
import { Model } from "./model.js";
import { matcher } from "./resume.js";
// What the client loads when it is needed, so that no test waits for a disk.
import "./feed.js";
import "./publishing.js";
import "./raw.js";
import "./streams.js";
import "./tokens.js";

const HEARTBEAT_S = 25, STREAM_HEARTBEAT_S = 15, LINGER_MS = 5_000, RETRY_MS = 1_500;

/** Reason → close code, and whether coming back may help (docs/protocol.md). */
const CLOSES = {
  policy: [1008, false], internal: [1011, true], restart: [1012, true], unavailable: [1013, true], bad_message: [4400, false],
  unauthorized: [4401, false], forbidden: [4403, false], heartbeat_missed: [4408, true], slow_consumer: [4409, true], too_many: [4429, true],
};
/** Ends for good: what is bound to a session ends with it at once. */
const FOR_GOOD = new Set([1000, 1001, 1005, 1008, 4400, 4401, 4403, 4429]);

const MESSAGES = {
  policy: "the session was ended by the operator", unauthorized: "the credential is no longer valid", forbidden: "the right was taken away",
  restart: "the broker is restarting", unavailable: "the broker can't do this for now", too_many: "over a limit of the broker",
};

let brokers = 0;

export class TestBroker {
  #model = new Model();
  #sockets = new Set();
  #refusal = null;
  #isDown = false;
  #isStalled = false;
  #time = null;
  #timers = new Set();
  /** Event → the session that it ends with. */
  #bound = new Map();
  #authenticate;
  /** The runtime's own `fetch`, for all that is not of this broker, and what stands in its place. */
  #elsewhere;
  #fetch;

  /**
   * `fakeTime`: time passes by `advance` alone, until `close`. `presence`: patterns of the topics whose members are told.
   * `authenticate(token)` says who that is, `{user, info}`, or throws; without it everybody may do everything.
   */
  constructor({ fakeTime = false, presence = [], authenticate } = {}) {
    if (fakeTime) this.#time = new FakeTime();
    this.#authenticate = authenticate;
    this.url = `http://test-broker-${++brokers}.invalid/`;
    for (const pattern of presence) this.#model.presence.add(pattern);
    this.#model.stored = (event, { ttl, by }) => this.#stored(event, ttl, by);
    const broker = this;
    /** The class of its sockets, for `new Fanfare(broker.url, { WebSocket: broker.WebSocket })`. */
    this.WebSocket = class extends TestSocket {
      constructor(url) {
        super(url);
        broker.#accept(this);
      }
    };
    this.fetch = (input, init) => this.#answer(input, init);
    this.#elsewhere = globalThis.fetch;
    globalThis.fetch = this.#fetch = (input, init) => (`${input?.url ?? input}`.startsWith(this.url) ? this.fetch(input, init) : this.#elsewhere(input, init));
  }

  /** How many connections are open. */
  get connections() {
    return this.#sockets.size;
  }

  /** The newest event of a topic that has a value. */
  latest(topic) {
    return this.#model.newest((each) => each === topic)[0];
  }

  // ---- What a test has it do ----------------------------------------------------------------------

  /** Publishes as a backend does, and resolves with the broker's answer once everybody has it. `options` are those of `fanfare.publish`. */
  async publish(topic, data, options = {}) {
    const answer = this.#model.publish({ ...options, topic, data });
    await this.settled();
    return answer;
  }

  /** Breaks each connection; nobody is told why. New ones come through. */
  async drop() {
    for (const socket of [...this.#sockets]) this.#lose(socket, 1006);
    await this.settled();
  }

  /** Nothing comes through any more, either way, and nobody is told: a cable that is out. New connections come through. */
  async stall() {
    for (const socket of [...this.#sockets]) this.#silence(socket);
    await this.settled();
  }

  /** The broker is away, with each connection, until `start`. What it keeps is kept. */
  async stop() {
    this.#isDown = true;
    await this.drop();
  }

  async start() {
    this.#isDown = false;
    await this.settled();
  }

  /** Events of these topics, or of any, are lost before anybody hears them: who is live is told of a gap. */
  async gap(...topics) {
    const since = this.#model.cursor(this.#model.sequence);
    for (const session of this.#model.sessions) session.gap({ since, ...topics.length && { topics } });
    await this.settled();
  }

  /** What was kept is gone but the current values: who comes back behind it is told of a gap. */
  forget() {
    this.#model.evict();
  }

  /** The whole log is gone, with its values. */
  wipe() {
    this.#model.wipe();
  }

  /** Each credential that was shown is over, as when its time is up. */
  async expire() {
    await this.end("unauthorized");
  }

  /** Says that credentials will be over soon: clients renew them. */
  async warn(expires_ms = 60_000) {
    await this.#tellAll({ op: "warn", code: "token_expires", message: "the token expires soon", expires_ms });
  }

  /** Announces a planned stop, which comes after that time. */
  async goaway(within_ms = 20_000) {
    const told = [...this.#sockets];
    await this.#tellAll({ op: "goaway", within_ms });
    this.#later(within_ms, () => { for (const socket of told) this.#end(socket, "restart"); });
  }

  /** Says that the broker can't do its whole job, or with nothing that it can again. */
  async trouble(message) {
    await this.#tellAll({ op: "trouble", code: message ? "unavailable" : "over", message: message ?? "it can again" });
  }

  /** Ends each connection for this reason, a code of the protocol's table of close codes. */
  async end(code, message) {
    for (const socket of [...this.#sockets]) this.#end(socket, code, message);
    await this.settled();
  }

  /** As `end`, and refuses each new connection as well, until `refuse(null)`. */
  async refuse(code, message) {
    if (code !== null && !(code in CLOSES)) throw new TypeError(`no reason of the protocol: ${code}`);
    this.#refusal = code && { code, message };
    if (code) await this.end(code, message);
  }

  /** Nobody may subscribe to this pattern, nor publish to what it matches; `allow` takes it back. */
  forbid(pattern) {
    this.#model.forbidden.add(pattern);
  }

  allow(pattern) {
    this.#model.forbidden.delete(pattern);
  }

  // ---- Time ---------------------------------------------------------------------------------------

  /** Lets so many milliseconds pass. */
  async advance(ms) {
    if (!this.#time) throw new Error("time is not ours: new TestBroker({ fakeTime: true }), or the timers of your framework");
    await this.#time.advance(ms);
    await this.settled();
  }

  /**
   * The client's machine sleeps for so long: time passes, and no timer runs. Beyond what the broker waits for a heartbeat its
   * connections are dead afterwards, and nobody says so. Where time is a framework's, set its clock before.
   */
  async sleep(ms) {
    this.#isStalled = true;
    if (ms > 2_500 * HEARTBEAT_S) for (const socket of [...this.#sockets]) this.#silence(socket);
    if (this.#time) await this.#time.leap(ms);
    this.#isStalled = false;
    await this.settled();
  }

  /** Resolves when everything that is on its way has come, and what that caused. */
  async settled() {
    this.#pumpAll();
    await turns();
  }

  /** Ends the broker, and gives the runtime its own time back. */
  close() {
    for (const socket of [...this.#sockets]) this.#lose(socket, 1006);
    this.#isDown = true;
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    this.#time?.restore();
    this.#time = null;
    if (globalThis.fetch === this.#fetch) globalThis.fetch = this.#elsewhere;
  }

  #later(ms, deed) {
    const timer = setTimeout(() => { this.#timers.delete(timer); deed(); }, ms);
    timer?.unref?.();
    this.#timers.add(timer);
    return timer;
  }

  // ---- Connections ----------------------------------------------------------------------------------

  #accept(socket) {
    soon(() => {
      if (socket.readyState !== 0) return;
      if (this.#isDown) return socket.over(1006, "");
      socket.opened();
      if (this.#refusal) return this.#turnAway(socket);
      socket.session = this.#model.connect();
      socket.toBroker = (text) => this.#hear(socket, text);
      socket.closed = (code) => this.#gone(socket, code);
      socket.session.say({ op: "welcome", session: socket.session.name, heartbeat: HEARTBEAT_S, version: "0.1.0" });
      this.#sockets.add(socket);
      this.#beat(socket);
      this.#pump(socket);
    });
  }

  #turnAway(socket) {
    const { code, message } = this.#refusal;
    const [number, mayComeBack] = CLOSES[code];
    socket.deliver(JSON.stringify({ op: "bye", code, message: message ?? MESSAGES[code] ?? code, ...mayComeBack && { retry_after_ms: RETRY_MS } }));
    socket.over(number, code);
  }

  #beat(socket) {
    this.#later(1000 * (socket.send ? HEARTBEAT_S : STREAM_HEARTBEAT_S), () => {
      if (!this.#sockets.has(socket)) return;
      socket.session.beat();
      if (!socket.send) socket.session.say({ op: "heartbeat" });
      this.#pump(socket);
      this.#beat(socket);
    });
  }

  #end(socket, code, message = MESSAGES[code] ?? code) {
    if (!this.#sockets.has(socket)) return;
    const [number, mayComeBack] = CLOSES[code];
    socket.session.say({ op: "bye", code, message, ...mayComeBack && { retry_after_ms: RETRY_MS } });
    this.#pump(socket);
    this.#gone(socket, number);
    socket.over(number, code);
  }

  #lose(socket, code) {
    this.#gone(socket, code);
    socket.over(code, "");
  }

  /** It is dead, and its client does not know. */
  #silence(socket) {
    this.#gone(socket, 4408);
    socket.toBroker = socket.closed = () => {};
  }

  #gone(socket, code) {
    if (!this.#sockets.delete(socket)) return;
    const { session } = socket;
    this.#model.disconnect(session);
    const end = () => {
      for (const [event, holder] of [...this.#bound]) {
        if (holder !== session) continue;
        this.#bound.delete(event);
        this.#model.end(event, "left");
      }
      this.#pumpAll();
    };
    if (FOR_GOOD.has(code)) end();
    else this.#later(LINGER_MS, end);
    this.#pumpAll();
  }

  #tellAll(frame) {
    for (const { session } of this.#sockets) session.say(frame);
    return this.settled();
  }

  /** What sessions have to say goes out; what one says may be of another. */
  #pumpAll() {
    do for (const socket of [...this.#sockets]) this.#pump(socket);
    while (!this.#isStalled && [...this.#sockets].some(({ session }) => session.out.length));
  }

  #pump(socket) {
    const { session } = socket;
    if (this.#isStalled || !this.#sockets.has(socket)) return;
    while (session.catchups.length) session.step(session.catchups[0]);
    this.#flush(socket);
    for (const text of session.out.splice(0)) socket.deliver(text);
  }

  /** What waits for a slow screen: the first of a topic at once, and then no more than its rate. */
  #flush(socket) {
    const { session } = socket;
    socket.nextAt ??= new Map();
    for (const topic of [...session.pending.keys()]) {
      const wait = (socket.nextAt.get(topic) ?? 0) - Date.now();
      if (wait > 0) {
        socket.flushing ??= this.#later(wait, () => { socket.flushing = null; this.#pump(socket); });
        continue;
      }
      socket.nextAt.set(topic, Date.now() + 1000 / (session.isLiveFor(topic)?.rate ?? Infinity));
      session.flush(topic);
    }
  }

  // ---- What clients say -----------------------------------------------------------------------------

  #hear(socket, text) {
    const { session } = socket;
    const { op, ref, token, ...request } = JSON.parse(text);
    if (op === "auth") this.#auth(session, ref, token);
    else if (op === "publish") this.#publishFor(session, ref, request);
    else session.ask({ op, ref, ...request });
    this.#pumpAll();
  }

  #auth(session, ref, token) {
    try {
      Object.assign(session, this.#authenticate?.(token));
      session.say({ op: "ack", ref });
    } catch ({ message }) {
      session.say({ op: "error", ref, code: "unauthorized", message });
    }
  }

  #publishFor(session, ref, { except, ...event }) {
    try {
      if (except !== undefined && except !== session.name) throw Object.assign(new Error("a client may leave out its own session alone"), { code: session.denial });
      session.say({ op: "ack", ref, ...this.#model.publish({ ...event, except }, { by: session }) });
    } catch ({ code = "internal", message, event: newest }) {
      session.say({ op: "error", ref, code, message, ...newest && { event: newest } });
    }
  }

  #stored(event, ttl, by) {
    if (ttl) this.#later(ttl, () => { this.#model.end(event, "expired"); this.#pumpAll(); });
    if (event.bound && by) this.#bound.set(event, by);
    delete event.bound;
  }

  // ---- HTTP -----------------------------------------------------------------------------------------

  /** What is asked over HTTP: publishing, values, pages of the past, the cursor, event streams. */
  async #answer(input, { method = "GET", body, headers, signal } = {}) {
    const url = new URL(`${input?.url ?? input}`, this.url);
    await turns(1);
    if (this.#isDown) throw new TypeError("fetch failed: the test broker is down");
    const said = new Headers(headers), topic = /^\/v1\/topics\/([^/]+)\/events$/.exec(url.pathname)?.[1];
    const pattern = topic ? decodeURIComponent(topic) : url.searchParams.get("match");
    try {
      if (this.#refusal) throw Object.assign(new Error(this.#refusal.message ?? MESSAGES[this.#refusal.code]), this.#refusal);
      const user = this.#authenticate && this.#authenticate(/^Bearer (.*)$/.exec(said.get("Authorization"))?.[1]);
      if (url.pathname.startsWith("/health/")) return json(200, { checks: {} });
      if (url.pathname === "/v1/cursor") return json(200, { cursor: this.#model.cursor(this.#model.sequence) });
      if (url.pathname === "/v1/sse" && method === "POST") return this.#stream(JSON.parse(body), user, signal);
      if (method === "POST" && (topic || url.pathname === "/v1/events")) return await this.#publishOver(topic ? { topic: pattern, data: JSON.parse(body) } : JSON.parse(body), said);
      const [, room] = /^\/v1\/topics\/([^/]+)\/presence$/.exec(url.pathname) ?? [];
      if (room) return this.#roll(decodeURIComponent(room));
      if (pattern && url.pathname === "/v1/snapshot") return json(200, this.#model.snapshotPage(pattern));
      if (pattern && (topic || url.pathname === "/v1/events")) return json(200, this.#model.page(pattern, url.searchParams));
      return json(404, { code: "not_found", detail: `the test broker has no ${method} ${url.pathname}` });
    } catch ({ code = "unauthorized", message, event }) {
      return json(STATUSES[code] ?? 503, { code, detail: message, ...event && { event } });
    }
  }

  #roll(topic) {
    if (![...this.#model.presence].some((pattern) => matcher(pattern)(topic))) {
      return json(404, { code: "not_found", setting: "topics.presence", detail: `presence is off for ${topic}; a [[topics]] rule can turn it on` });
    }
    return json(200, { members: this.#model.members((room) => room === `$presence.${topic}`).map(({ data }) => data) });
  }

  async #publishOver({ bound, ...event }, headers) {
    if (bound) throw Object.assign(new Error("`bound` is of WebSocket clients"), { code: "invalid_event" });
    const answer = this.#model.publish({ ...event, key: headers.get("Idempotency-Key") ?? undefined });
    await this.settled();
    return json(answer.repeated || answer.superseded ? 200 : 201, { topic: event.topic, ...answer });
  }

  /** An event stream, as `POST /v1/sse` gives one: a session with one subscribe. */
  #stream(request, user, signal) {
    const session = Object.assign(this.#model.connect(), user);
    const { heartbeat: _, format: __, ...asked } = request;
    session.ask({ op: "subscribe", ref: 0, ...asked });
    const error = session.out.map((text) => JSON.parse(text)).find(({ op }) => op === "error");
    if (error) {
      this.#model.disconnect(session);
      throw Object.assign(new Error(error.message), error);
    }
    const toBytes = new TextEncoder();
    let stream;
    const body = new ReadableStream({
      start: (controller) => { stream = controller; },
      cancel: () => this.#gone(socket, 1001),
    });
    const write = (text) => { try { stream.enqueue(toBytes.encode(text)); } catch { /* nobody reads it any more */ } };
    const socket = {
      session,
      deliver: (text) => write(block(JSON.parse(text))),
      over: (code) => { try { if (code === 1006) stream.error(new TypeError("the stream broke")); else stream.close(); } catch { /* over already */ } },
    };
    signal?.addEventListener("abort", () => this.#lose(socket, 1001));
    write(`: ${session.name}\n\n`);
    this.#sockets.add(socket);
    this.#beat(socket);
    this.#pumpAll();
    return new Response(body, { headers: { "Content-Type": "text/event-stream" } });
  }
}

const STATUSES = {
  bad_request: 400, invalid_cursor: 400, unauthorized: 401, forbidden: 403, policy: 403, idempotency_mismatch: 409, not_latest: 412,
  invalid_topic: 422, invalid_pattern: 422, invalid_event: 422, too_many: 429,
};

const json = (status, said) => new Response(JSON.stringify(said), { status, headers: { "Content-Type": "application/json" } });

/** A frame as a block of an event stream. */
function block({ op, ...rest }) {
  if (op === "ack") return "";
  const id = op === "event" ? !rest.snapshot && !rest.conflated && rest.id : rest.cursor;
  return `${id ? `id: ${id}\n` : ""}${op === "event" ? "" : `event: fanfare.${op}\n`}data: ${JSON.stringify(rest)}\n\n`;
}

/** Runs it behind what runs now, whatever timers are. */
const soon = (deed) => Promise.resolve().then(deed);

/** One end of a connection, as browsers have it; the other one is the broker. */
class TestSocket extends EventTarget {
  static CONNECTING = 0;
  static OPEN = 1;
  static CLOSING = 2;
  static CLOSED = 3;
  readyState = 0;
  protocol = "";
  extensions = "";
  bufferedAmount = 0;
  binaryType = "blob";
  onopen = null;
  onmessage = null;
  onclose = null;
  onerror = null;
  toBroker = () => {};
  closed = () => {};
  /** What is on its way to the client, in order. */
  #way = Promise.resolve();

  constructor(url) {
    super();
    this.url = `${url}`;
  }

  send(text) {
    if (this.readyState === 0) throw new DOMException("the connection is not open yet", "InvalidStateError");
    if (this.readyState === 1) soon(() => this.toBroker(text));
  }

  close(code = 1005, reason = "") {
    if (this.readyState > 1) return;
    this.readyState = 2;
    soon(() => { this.closed(code); this.over(code, reason); });
  }

  opened() {
    this.readyState = 1;
    this.#fire(new Event("open"));
  }

  deliver(text) {
    this.#way = this.#way.then(() => {
      if (this.readyState === 1) this.#fire(Object.assign(new Event("message"), { data: text, origin: this.url }));
    });
  }

  over(code, reason) {
    this.#way = this.#way.then(() => {
      if (this.readyState === 3) return;
      this.readyState = 3;
      if (code === 1006) this.#fire(new Event("error"));
      this.#fire(Object.assign(new Event("close"), { code, reason, wasClean: code !== 1006 }));
    });
  }

  #fire(event) {
    this.dispatchEvent(event);
    this[`on${event.type}`]?.(event);
  }
}

// The console: watch topics and publish to them, from a browser and with nothing else.
//
// `Connection` is a complete client of the WebSocket API: it reconnects, resumes at its cursor and
// renews its subscriptions. The rest shows what it says. Nothing that came from outside is ever
// parsed as markup, and what arrives is drawn in batches, however much it is.

const MAX_ROWS = 500;
const MAX_LOG_LINES = 200;
const LONG_DATA = 160;
const OLDER_EVENTS = 100;

// Coming back unchanged after one of these would end the same way (`docs`: close codes).
const FINAL_CLOSE_CODES = new Set([1002, 1007, 1008, 1009, 4400, 4401, 4403]);
const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 15_000;
const STABLE_AFTER_MS = 5_000;

/** The broker that served this page, also where a proxy has it under a prefix; ends with `/`. */
const BROKER = new URL(".", location).href;

// In the words of `fanfare check`.
const UPGRADE = 'what stands between does not pass on the upgrade; nginx: proxy_http_version 1.1, proxy_set_header Upgrade $http_upgrade, proxy_set_header Connection "upgrade"';
const FOREIGN = "for the broker's own pages: what stands between tells it another address; pass on host, scheme and client (nginx: proxy_set_header Host $http_host, X-Forwarded-Host $http_host, X-Forwarded-Proto $scheme, X-Forwarded-For $remote_addr: all of them, or clients set what is missing) and set server.trusted_proxies";

/** Why a WebSocket of this page did not open, as far as the broker says so. */
async function whyNotOpen() {
  const ready = await fetch(new URL("health/ready", BROKER));
  const { checks } = await ready.json();
  if (!ready.ok) return Object.values(checks).filter((said) => said !== "ok").join("; ");
  // Of requests to its own address, a browser tells the origin with those that might change something. This one
  // is refused in any case: for its origin first, and else for its body.
  const refused = await fetch(new URL("v1/tickets", BROKER), { method: "POST", body: "?" });
  const { code, detail } = await refused.json().catch(() => ({}));
  if (code === "origin_not_allowed") return `${detail}; ${FOREIGN}`;
  const reading = new AbortController();
  const stream = await fetch(new URL("v1/sse?topic=$sys.console", BROKER), { signal: reading.signal });
  if ([429, 503].includes(stream.status)) return (await stream.json()).detail;
  reading.abort();
  return `the broker answers, but not to WebSocket: ${UPGRADE}; the broker's log says what it refused`;
}

// ---- The client -------------------------------------------------------------------------------

/** One session with the broker that survives its connections. */
class Connection {
  /**
   * @param {string} url where to connect
   * @param {object} hooks `state(name, text)`, `event(event, frameText)`, `note(kind, text)`,
   *   `gap(since, topics)`, `patterns()`, `facts({session, roundTrip})`
   */
  constructor(url, hooks) {
    this.url = url;
    this.hooks = hooks;
    this.token = "";
    this.snapshot = true;
    this.latest = false;
    this.wanted = false;
    /** Pattern → what has become of it: `{state: "waiting" | "asked" | "live" | "refused", why}`. */
    this.patterns = new Map();
    /** The place up to which everything was received; survives reconnects. */
    this.cursor = null;
    this.attempts = 0;
    this.lastRef = 0;
    this.#forgetSocket();
  }

  connect() {
    this.wanted = true;
    this.attempts = 0;
    this.#open();
  }

  disconnect() {
    this.wanted = false;
    clearTimeout(this.retryTimer);
    this.socket?.close(1000);
    this.#lost("closed", "Disconnected");
  }

  /** Chooses between all events and the newest of each topic, for all patterns: what is live is asked for anew. */
  setLatest(latest) {
    this.latest = latest;
    if (this.ready && this.patterns.size) this.#subscribe([...this.patterns.keys()], this.cursor);
  }

  /** Tries at once where a retry is pending: the network came back, or someone asked. */
  retryNow() {
    if (this.wanted && !this.socket) this.#open();
  }

  subscribe(pattern) {
    this.#setPattern(pattern, "waiting");
    if (this.ready) this.#subscribe([pattern], null);
  }

  unsubscribe(pattern) {
    const { state } = this.patterns.get(pattern) ?? {};
    this.patterns.delete(pattern);
    this.hooks.patterns();
    if (this.ready && state !== "refused") this.#ask({ op: "unsubscribe", topics: [pattern] });
  }

  /** Identifies with another credential; an empty one starts over without any. */
  authenticate(token) {
    this.token = token;
    if (token && this.socket?.readyState === WebSocket.OPEN) {
      this.#auth();
    } else {
      this.disconnect();
      this.connect();
    }
  }

  #forgetSocket() {
    clearInterval(this.heartbeatTimer);
    this.socket = null;
    this.ready = false;
    this.bye = null;
    /** What the broker can't do for now, in its words. */
    this.trouble = null;
    this.pingSentAt = null;
    /** Request number → what it was for. */
    this.asked = new Map();
    /** Numbers of the subscribes whose replay still runs. */
    this.replaying = new Set();
  }

  #open() {
    clearTimeout(this.retryTimer);
    this.#forgetSocket();
    this.hooks.state("connecting", this.attempts ? "Reconnecting…" : "Connecting…");
    const socket = new WebSocket(this.url);
    this.socket = socket;
    socket.onopen = () => { this.openedAt = Date.now(); };
    socket.onmessage = ({ data }) => { if (socket === this.socket) this.#receive(data); };
    socket.onclose = (close) => { if (socket === this.socket) this.#closed(close); };
  }

  #closed({ code, reason }) {
    const { bye } = this;
    if (this.openedAt && Date.now() - this.openedAt >= STABLE_AFTER_MS) this.attempts = 0;
    const neverOpened = !this.openedAt;
    if (neverOpened) this.#tellWhy();
    else this.hooks.note("bad", `connection closed: ${code}${reason ? ` ${reason}` : ""}`);
    const final = bye ? bye.retry_after_ms === undefined : FINAL_CLOSE_CODES.has(code);
    if (final) {
      this.wanted = false;
      this.#lost("refused", code === 4401 ? "A valid credential is needed" : `Closed: ${bye?.code ?? code}`);
    } else {
      this.#retry(bye?.retry_after_ms);
    }
  }

  /** A browser does not say why a WebSocket did not open, so the broker is asked over HTTP. */
  async #tellWhy() {
    const why = await whyNotOpen().catch(() => "the broker is away, or something before it is");
    this.hooks.note("bad", `could not connect: ${why}`);
  }

  #retry(hintMs) {
    const step = Math.min(FIRST_RETRY_MS * 2 ** this.attempts, LONGEST_RETRY_MS);
    const backoff = step / 2 + Math.random() * step / 2;
    const wait = this.attempts === 0 && hintMs !== undefined ? hintMs : Math.max(hintMs ?? 0, backoff);
    this.attempts += 1;
    this.#lost("waiting", "Connection lost, trying again");
    this.hooks.note("", `trying again in ${(wait / 1000).toFixed(1)} s`);
    this.retryTimer = setTimeout(() => this.#open(), wait);
  }

  #lost(state, text) {
    this.openedAt = null;
    this.#forgetSocket();
    for (const [pattern, { state: was }] of this.patterns) {
      if (was !== "refused") this.#setPattern(pattern, "waiting");
    }
    this.hooks.facts({ session: null, roundTrip: null });
    this.hooks.state(state, text);
  }

  #ask(frame) {
    const ref = ++this.lastRef;
    this.asked.set(ref, frame);
    this.socket.send(JSON.stringify({ ref, ...frame }));
    return ref;
  }

  #auth() {
    this.#ask({ op: "auth", token: this.token });
  }

  /** After a connect: everything in one subscribe, from the cursor where there is one. */
  #resume() {
    this.ready = true;
    this.#showOpen();
    const patterns = [...this.patterns.keys()];
    if (patterns.length) this.#subscribe(patterns, this.cursor);
  }

  #showOpen() {
    if (this.trouble) this.hooks.state("waiting", "Connected, but the broker is in trouble");
    else this.hooks.state("open", "Connected");
  }

  #subscribe(topics, since) {
    const frame = { op: "subscribe", topics };
    // Not both: after a gap, everything that is left tells more than the newest of each topic.
    if (since !== null) frame.since = since;
    else if (this.snapshot) frame.snapshot = true;
    if (this.latest) frame.mode = "latest";
    const ref = this.#ask(frame);
    if (since !== null) this.replaying.add(ref);
    for (const topic of topics) this.#setPattern(topic, "asked");
  }

  #setPattern(pattern, state, why = "") {
    this.patterns.set(pattern, { state, why });
    this.hooks.patterns();
  }

  #receive(text) {
    const frame = JSON.parse(text);
    switch (frame.op) {
      case "event": this.#keepPlace(frame); this.hooks.event(frame, text); break;
      case "welcome": this.#welcome(frame); break;
      case "ack": this.#ack(frame); break;
      case "error": this.#refused(frame); break;
      case "gap": this.hooks.gap(frame.since, frame.topics); break;
      case "live": this.#live(frame); break;
      case "cursor": if (this.replaying.size === 0) this.cursor = frame.cursor; break;
      case "pong": this.#pong(); break;
      case "warn": this.hooks.note("bad", `warning: ${frame.message}`); break;
      case "trouble": this.#troubled(frame); break;
      case "goaway": this.hooks.note("", "the broker is about to stop"); break;
      case "bye":
        this.bye = frame;
        this.hooks.note("bad", `bye: ${frame.code}: ${frame.message}`);
        break;
      default: // an op of a later version: not ours to judge
    }
  }

  /**
   * Moves the cursor past an event. Not past a current value or a conflated one, which say nothing
   * of what lies before them; and while replays run, only as far as the only one of them has come,
   * for live events of other patterns overtake it.
   */
  #keepPlace({ id, snapshot, conflated, replay }) {
    if (id === undefined || snapshot || conflated) return;
    const running = this.replaying.size;
    if (running === 0 || (running === 1 && this.replaying.has(replay))) this.cursor = id;
  }

  #welcome({ session, heartbeat }) {
    this.hooks.facts({ session });
    this.hooks.note("good", `connected, session ${session}`);
    const everyMs = Math.max(1, heartbeat ?? 25) * 1000;
    this.heartbeatTimer = setInterval(() => this.#heartbeat(), everyMs);
    if (this.token) this.#auth();
    else this.#resume();
    this.#heartbeat();
  }

  #troubled({ code, message }) {
    this.trouble = code === "over" ? null : message;
    this.hooks.note(this.trouble ? "bad" : "good", message);
    if (this.ready) this.#showOpen();
  }

  /** A browser does not show the broker's pings to the page, so it asks for itself. */
  #heartbeat() {
    if (this.pingSentAt !== null) {
      this.hooks.note("bad", "no answer for a whole heartbeat");
      this.socket.close();
      this.#retry();
      return;
    }
    this.pingSentAt = performance.now();
    this.#ask({ op: "ping" });
  }

  #pong() {
    if (this.pingSentAt === null) return;
    this.hooks.facts({ roundTrip: performance.now() - this.pingSentAt });
    this.pingSentAt = null;
  }

  #ack({ ref }) {
    const frame = this.asked.get(ref);
    this.asked.delete(ref);
    if (frame?.op === "subscribe") this.asked.set(ref, frame); // until its `live`
    if (frame?.op === "auth") {
      this.hooks.note("good", "credential accepted");
      this.#afterAuth();
    }
  }

  #afterAuth() {
    if (!this.ready) return this.#resume();
    const refused = [...this.patterns].filter(([, { state }]) => state === "refused");
    for (const [pattern] of refused) this.#subscribe([pattern], null);
  }

  #live({ ref, cursor }) {
    this.replaying.delete(ref);
    if (this.replaying.size === 0) this.cursor = cursor;
    const frame = this.asked.get(ref);
    this.asked.delete(ref);
    for (const topic of frame?.topics ?? []) {
      if (this.patterns.has(topic)) this.#setPattern(topic, "live");
    }
    const since = frame?.since === undefined ? "" : ", resumed";
    this.hooks.note("good", `live${frame ? ` on ${frame.topics.join(", ")}` : ""}${since}`);
  }

  #refused({ ref, code, message }) {
    const frame = this.asked.get(ref);
    this.asked.delete(ref);
    this.replaying.delete(ref);
    if (frame?.op === "subscribe") this.#subscribeRefused(frame, code, message);
    else this.hooks.note("bad", `${frame ? `${frame.op} refused` : "error"}: ${code}: ${message}`);
    if (frame?.op === "auth") this.#afterAuth();
  }

  /** A subscribe is all or nothing: asked one by one, each pattern gets its own answer. */
  #subscribeRefused({ topics, since }, code, message) {
    if (topics.length > 1) {
      for (const topic of topics.filter((topic) => this.patterns.has(topic))) this.#subscribe([topic], since ?? null);
      return;
    }
    this.hooks.note("bad", `subscribe to ${topics[0]} refused: ${code}: ${message}`);
    if (this.patterns.has(topics[0])) this.#setPattern(topics[0], "refused", `${code}: ${message}`);
  }
}

/**
 * The members of a JSON object, or the elements of an array, each exactly as it was sent, where `JSON.parse` would
 * round large numbers and reorder keys: `[name, text]`, of an element without its name. `json` is known to be valid.
 */
function* rawParts(json) {
  let depth = 0, start = 0, key = "", inString = false;
  for (let at = 0; at < json.length; at++) {
    const c = json[at];
    if (inString) {
      if (c === "\\") at += 1;
      else if (c === '"') inString = false;
    } else if (c === '"') {
      inString = true;
    } else if (c === "{" || c === "[") {
      depth += 1;
      if (depth === 1) start = at + 1;
    } else if (c === ":" && depth === 1) {
      key = json.slice(start, at).trim();
      start = at + 1;
    } else if (c === "}" || c === "]" || (c === "," && depth === 1)) {
      if (c !== ",") depth -= 1;
      if (depth > 1 || (depth === 1 && c !== ",")) continue;
      yield [key, json.slice(start, at).trim()];
      start = at + 1;
    }
  }
}

/** The text of one member of a JSON object; nothing where it is not there. */
function rawMember(json, name) {
  const wanted = JSON.stringify(name);
  for (const [key, text] of rawParts(json)) if (key === wanted) return text;
  return "";
}

/** What a refusal says. */
function problemOf({ status, statusText }, text) {
  let problem = {};
  try { problem = JSON.parse(text); } catch { /* not the broker's */ }
  const { code = statusText, detail = "" } = problem;
  return `${status} ${code}${detail ? `: ${detail}` : ""}`;
}

// ---- Showing ----------------------------------------------------------------------------------

const byId = (id) => document.getElementById(id);

/** An element with text in it and, at the end, children. */
function element(tag, { className, text, ...rest } = {}, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  Object.assign(made, rest);
  made.append(...children);
  return made;
}

const clock = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23",
});

/** The time of day of an RFC 3339 time, or what came where that can't be read. */
function timeOfDay(time) {
  const date = new Date(time);
  return Number.isNaN(date.valueOf()) ? String(time) : clock.format(date);
}

/**
 * The newest events, newest on top, drawn at most once a frame, and seldom enough that drawing takes
 * a quarter of the time: the rest is for receiving, or the broker would find this page too slow.
 */
class EventTable {
  constructor(body, { onDrawn }) {
    this.body = body;
    this.onDrawn = onDrawn;
    this.total = 0;
    this.paused = false;
    this.filter = "";
    /** Row → all of its text, of which the row may show the beginning. */
    this.texts = new WeakMap();
    /** How many rows were asked for beside those that came. */
    this.older = 0;
    /** Not drawn yet, oldest first; never more than fit the table. */
    this.waiting = [];
    this.isScheduled = false;
    this.restUntil = 0;
  }

  add(event, frameText) {
    this.total += 1;
    this.#enqueue({ event, frameText });
  }

  mark(text) {
    this.#enqueue({ marker: text });
  }

  /** Adds events in their place, the newest first, but for those that are there. */
  addOlder(items) {
    const missing = items.filter(({ event: { id } }) => !this.body.querySelector(`[data-id="${CSS.escape(id)}"]`));
    this.older += missing.length;
    for (const item of missing) {
      const isOlder = ({ dataset: { id, snapshot } }) => id !== undefined && !snapshot && inOrder(id, item.event.id) < 0;
      this.body.insertBefore(this.#row(item, false), [...this.body.rows].find(isOlder) ?? null);
    }
    this.onDrawn();
  }

  /** Says at the end that what is older is gone. */
  markOlder(text) {
    this.body.append(this.#row({ marker: text }, false));
    this.onDrawn();
  }

  /** The oldest place that is shown but for current values, which may be older than what is between. */
  oldest() {
    const drawn = [...this.body.rows].findLast((row) => row.dataset.id && !row.dataset.snapshot);
    const waiting = this.waiting.find(({ event }) => event?.id && !event.snapshot);
    return drawn?.dataset.id ?? waiting?.event.id ?? "";
  }

  #enqueue(item) {
    this.waiting.push(item);
    // Dropped in slabs: a hidden page draws no frame, and may receive for hours.
    if (this.waiting.length >= 2 * MAX_ROWS) this.waiting.splice(0, this.waiting.length - MAX_ROWS);
    this.#schedule();
  }

  #schedule() {
    if (this.isScheduled) return;
    this.isScheduled = true;
    const frame = () => requestAnimationFrame(() => this.#draw());
    const rest = this.restUntil - performance.now();
    if (rest > 0) setTimeout(frame, rest);
    else frame();
  }

  setPaused(paused) {
    this.paused = paused;
    this.#draw();
  }

  setFilter(text) {
    this.filter = text.trim().toLowerCase();
    for (const row of this.body.rows) row.hidden = !this.#passes(row);
    this.onDrawn();
  }

  clear() {
    this.waiting = [];
    this.total = 0;
    this.older = 0;
    this.body.replaceChildren();
    this.onDrawn();
  }

  #passes(row) {
    return this.filter === "" || this.texts.get(row).toLowerCase().includes(this.filter);
  }

  #draw() {
    this.isScheduled = false;
    const begun = performance.now();
    if (!this.paused && this.waiting.length) {
      const newest = this.waiting.slice(-MAX_ROWS);
      this.waiting = [];
      const rows = newest.map((item) => this.#row(item, newest.length <= 20)).reverse();
      this.body.prepend(...rows);
      while (this.body.rows.length > MAX_ROWS + this.older) this.body.lastElementChild.remove();
    }
    this.onDrawn();
    // A new task begins after layout and paint, so that they count too.
    setTimeout(() => { this.restUntil = performance.now() + 3 * (performance.now() - begun); });
  }

  #row({ event, frameText, marker }, fresh) {
    const row = marker === undefined ? this.#eventRow(event, frameText) : this.#markerRow(marker);
    row.hidden = !this.#passes(row);
    row.classList.toggle("fresh", fresh);
    return row;
  }

  #markerRow(text) {
    const row = element("tr", { className: "marker" }, element("td", { colSpan: 4, text }));
    this.texts.set(row, text);
    row.dataset.testid = "gap-row";
    return row;
  }

  #eventRow(event, frameText) {
    const data = rawMember(frameText, "data");
    const time = element("button", { type: "button", text: timeOfDay(event.time), title: `${event.time}\n${event.id ?? "not kept: no cursor"}\nInspect` });
    time.setAttribute("aria-expanded", "false");
    const row = element("tr", {},
      element("td", { className: "time" }, time),
      element("td", { className: "topic", text: event.topic }),
      element("td", { className: "type", text: event.type ?? "" }),
      this.#dataCell(event, data));
    time.addEventListener("click", () => this.#inspect(row, time, event));
    this.texts.set(row, `${event.topic} ${event.type ?? ""} ${data} ${event.from?.user ?? ""}`);
    row.dataset.testid = "event-row";
    row.dataset.topic = event.topic;
    if (event.id !== undefined) row.dataset.id = event.id;
    if (event.snapshot) row.dataset.snapshot = "true";
    return row;
  }

  /** Shows or hides all that an event carries beside its data. */
  #inspect(row, button, { op: _, data: __, ...carried }) {
    const shown = row.querySelector(".carried");
    button.setAttribute("aria-expanded", String(!shown));
    if (shown) shown.remove();
    else row.querySelector(".data").append(element("pre", { className: "carried", text: JSON.stringify(carried, null, 2) }));
  }

  #dataCell(event, data) {
    const cell = element("td", { className: "data" });
    if (data.length <= LONG_DATA) {
      cell.append(element("code", { text: data }));
    } else {
      const summary = element("summary", { text: `${data.slice(0, LONG_DATA)}…` });
      const details = element("details", {}, summary);
      details.addEventListener("toggle", () => {
        details.querySelector("pre")?.remove();
        if (details.open) details.append(element("pre", { text: data }));
      });
      cell.append(details);
    }
    const tags = [
      event.snapshot && "current value",
      event.replay !== undefined && "replay",
      event.conflated && (event.skipped ? `newest of ${event.skipped + 1}` : "newest"),
      event.encoding,
      event.from && `from ${event.from.user ?? `session ${event.from.session.slice(0, 8)}…`}`,
      event.removed && (event.reason ? `removed: ${event.reason}` : "removed"),
      event.version !== undefined && `version ${event.version}${event.epoch ? ` of ${event.epoch}` : ""}`,
      event.expires && `expires ${timeOfDay(event.expires)}`,
      event.topic.startsWith("$presence.") && whoOf(event.data),
    ];
    for (const tag of tags) if (tag) cell.append(element("span", { className: "tag", text: tag }));
    return cell;
  }
}

/** Which of two events comes first in the log: cursors are opaque to all clients but this one, which is the broker's own. */
function inOrder(a, b) {
  const [one, other] = [a, b].map((id) => id.split("-").slice(1).map(Number));
  return one[0] - other[0] || one[1] - other[1];
}

/** Who a notice of presence is about, and with how many sessions that person is there. */
function whoOf({ user, info, user_sessions: sessions } = {}) {
  const name = typeof info?.name === "string" ? info.name : user;
  if (name === undefined) return "without a name";
  return sessions === undefined ? name : `${name}: ${sessions === 1 ? "1 session" : `${sessions} sessions`}`;
}

/** What is kept before what is shown, of all patterns; each goes on from its own place. */
class Older {
  constructor(table) {
    this.table = table;
    this.restart();
  }

  /** Begins anew at what is shown. */
  restart() {
    /** Pattern → the place before which to read; null at its end. */
    this.places = new Map();
  }

  /** Whether there may be more of these patterns. */
  hasMore(patterns) {
    return patterns.some((pattern) => this.places.get(pattern) !== null);
  }

  /** Loads a page of each; how many events there were. */
  async load(token, patterns) {
    // One that came later has more to show than what is before all the others.
    const from = this.places.size ? "" : this.table.oldest();
    for (const pattern of patterns) if (!this.places.has(pattern)) this.places.set(pattern, from);
    const left = patterns.filter((pattern) => this.places.get(pattern) !== null);
    const pages = await Promise.all(left.map((pattern) => this.#page(token, pattern)));
    // An event that two patterns match is shown once.
    const items = new Map(pages.flatMap((page) => page.items).map((item) => [item.event.id, item]));
    this.table.addOlder([...items.values()].sort((a, b) => inOrder(b.event.id, a.event.id)));
    pages.forEach(({ next }, at) => this.places.set(left[at], next ?? null));
    if (pages.some(({ gap }) => gap)) this.table.markOlder("Gap: some older events are no longer kept.");
    return items.size;
  }

  async #page(token, pattern) {
    const query = new URLSearchParams({ match: pattern, before: this.places.get(pattern), limit: OLDER_EVENTS });
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const response = await fetch(new URL(`v1/events?${query}`, BROKER), { headers, credentials: "same-origin" });
    const text = await response.text();
    if (!response.ok) throw new Error(problemOf(response, text));
    const { events, next, gap } = JSON.parse(text);
    const raw = [...rawParts(rawMember(text, "events"))];
    return { items: events.map((event, at) => ({ event, frameText: raw[at][1] })), next, gap };
  }
}

/** Events a second over the last minute. */
class RateMeter {
  constructor(figure, line) {
    this.figure = figure;
    this.line = line;
    this.seen = 0;
    this.total = 0;
    this.perSecond = new Array(60).fill(0);
    this.lastTick = performance.now();
    setInterval(() => this.#tick(), 1000);
  }

  count() {
    this.total += 1;
  }

  #tick() {
    const now = performance.now();
    const rate = (this.total - this.seen) * 1000 / (now - this.lastTick);
    this.seen = this.total;
    this.lastTick = now;
    this.perSecond.push(rate);
    this.perSecond.shift();
    this.figure.textContent = rate >= 10 || rate === 0 ? Math.round(rate).toLocaleString() : rate.toFixed(1);
    const highest = Math.max(1, ...this.perSecond);
    const points = this.perSecond.map((each, x) => `${x},${(15 - 14 * each / highest).toFixed(1)}`);
    this.line.setAttribute("points", points.join(" "));
  }
}

/** A line in the connection log, newest on top. */
function logLine(kind, text) {
  const line = element("li", {},
    element("time", { text: clock.format(new Date()) }),
    element("span", { className: "what", text }));
  line.dataset.kind = kind;
  const log = byId("log");
  log.prepend(line);
  while (log.children.length > MAX_LOG_LINES) log.lastElementChild.remove();
}

// ---- Publishing -------------------------------------------------------------------------------

/** What the publish form says, as one request; its path is within the broker. */
function publishRequest() {
  const type = byId("publish-type").value.trim();
  const format = byId("publish-format").value;
  const path = `v1/topics/${encodeURIComponent(byId("publish-topic").value.trim())}`;
  if (format === "removed") return { method: "DELETE", path, headers: {} };
  const headers = { "Content-Type": format === "json" ? "application/json" : "text/plain; charset=utf-8" };
  if (type) headers["X-Event-Type"] = type;
  return { method: "POST", path: `${path}/events`, headers, body: byId("publish-data").value };
}

async function publish(token) {
  const { path, headers, ...request } = publishRequest();
  if (token) headers.Authorization = `Bearer ${token}`;
  const response = await fetch(new URL(path, BROKER), { ...request, headers, credentials: "same-origin" });
  const text = await response.text();
  if (!response.ok) throw new Error(problemOf(response, text));
  return `${response.status} ${JSON.parse(text).id ?? "published, not kept"}`;
}

function showResult(state, text) {
  const result = byId("publish-result");
  result.dataset.state = state;
  result.textContent = text;
}

/** One word for a POSIX shell. */
function shellWord(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

function publishCommand(token) {
  const { method, path, headers, body } = publishRequest();
  const parts = [`curl ${method === "POST" ? "" : `-X ${method} `}${shellWord(BROKER + path)}`];
  for (const [name, value] of Object.entries(headers)) parts.push(`-H ${shellWord(`${name}: ${value}`)}`);
  if (token) parts.push('-H "Authorization: Bearer $FANFARE_API_KEY"');
  if (body !== undefined) parts.push(`--data-raw ${shellWord(body) || "''"}`);
  return parts.join(" \\\n  ");
}

function watchCommand(token, patterns) {
  const query = (patterns.length ? patterns : [">"]).map((pattern) => `topic=${encodeURIComponent(pattern)}`).join("&");
  const auth = token ? ' \\\n  -H "Authorization: Bearer $FANFARE_API_KEY"' : "";
  return `curl -N ${shellWord(`${BROKER}v1/sse?${query}`)}${auth}`;
}

// ---- Wiring -----------------------------------------------------------------------------------

const rate = new RateMeter(byId("rate"), byId("sparkline").querySelector("polyline"));
const table = new EventTable(byId("event-rows"), { onDrawn: showTableState });
const older = new Older(table);
const connection = new Connection(
  new URL("v1/ws", BROKER.replace("http", "ws")).href,
  {
    state: showState,
    event(event, frameText) { rate.count(); table.add(event, frameText); },
    note: logLine,
    gap(since, topics) {
      const what = `events ${topics ? `of ${topics.join(", ")} ` : ""}after ${since} are no longer kept`;
      logLine("bad", `gap: ${what}`);
      table.mark(`Gap: ${what}. What follows is what is left.`);
    },
    patterns: showPatterns,
    facts: showFacts,
  });

function showState(state, text) {
  byId("status").dataset.state = state;
  if (byId("status-text").textContent !== text) byId("status-text").textContent = text;
  byId("connect").textContent = connection.wanted ? "Disconnect" : "Connect";
  showTableState();
}

function showFacts({ session, roundTrip }) {
  if (session !== undefined) {
    byId("session").textContent = session ?? "–";
    byId("session").title = session ?? "";
  }
  if (roundTrip !== undefined) {
    byId("round-trip").textContent = roundTrip === null ? "–" : `${roundTrip.toFixed(1)} ms`;
  }
}

function showTableState() {
  byId("count").textContent = table.total.toLocaleString();
  const waiting = table.paused ? table.waiting.length : 0;
  byId("pause").textContent = !table.paused ? "Pause" : waiting ? `Resume (${waiting < MAX_ROWS ? waiting : `${MAX_ROWS}+`})` : "Resume";
  const rows = [...table.body.rows];
  byId("empty").hidden = rows.some((row) => !row.hidden);
  byId("empty").textContent = rows.length ? "No event matches the filter."
    : connection.patterns.size ? "Nothing yet. Events appear here as they are published."
    : "Subscribe to a topic or pattern to see its events.";
}

const STATE_WORDS = { waiting: "waiting", asked: "…", live: "live", refused: "refused" };

/** Offers what is older, while there may be some. */
function showOlder() {
  byId("older").hidden = !older.hasMore(grantedPatterns());
}

function showPatterns() {
  const chips = byId("chips");
  const known = new Map([...chips.children].map((chip) => [chip.dataset.pattern, chip]));
  for (const [pattern, { state, why }] of connection.patterns) {
    const chip = known.get(pattern) ?? newChip(pattern);
    known.delete(pattern);
    chip.dataset.state = state;
    chip.title = why;
    chip.querySelector(".state").textContent = STATE_WORDS[state];
    if (!chip.isConnected) chips.append(chip);
  }
  for (const chip of known.values()) chip.remove();
  const refusals = [...connection.patterns].filter(([, { state }]) => state === "refused");
  byId("subscribe-error").textContent = refusals.map(([pattern, { why }]) => `${pattern} was refused. ${why}`).join("\n");
  showTableState();
  showOlder();
  showCommands();
}

function newChip(pattern) {
  const remove = element("button", { type: "button", text: "×", title: `Unsubscribe from ${pattern}` });
  remove.setAttribute("aria-label", `Unsubscribe from ${pattern}`);
  remove.addEventListener("click", () => {
    connection.unsubscribe(pattern);
    showInAddress();
    byId("pattern").focus();
  });
  const chip = element("li", { className: "chip" },
    element("span", { className: "name mono", text: pattern }), element("span", { className: "state" }), remove);
  chip.dataset.testid = "chip";
  chip.dataset.pattern = pattern;
  return chip;
}

/** Keeps the page's address such that it can be kept or sent: the patterns, never the credential. */
function showInAddress() {
  const query = [...connection.patterns.keys()].map((pattern) => `topic=${encodeURIComponent(pattern)}`).join("&");
  history.replaceState(null, "", query ? `?${query}` : location.pathname);
}

/** The patterns that the broker has not refused. */
function grantedPatterns() {
  return [...connection.patterns].filter(([, { state }]) => state !== "refused").map(([pattern]) => pattern);
}

function showCommands() {
  byId("curl-publish").textContent = publishCommand(connection.token);
  byId("curl-watch").textContent = watchCommand(connection.token, grantedPatterns());
}

byId("connect").addEventListener("click", () => {
  if (connection.wanted) {
    connection.disconnect();
    logLine("", "disconnected");
  } else {
    connection.connect();
  }
});

byId("token-form").addEventListener("submit", (submit) => {
  submit.preventDefault();
  connection.authenticate(byId("token").value.trim());
  showCommands();
});

byId("subscribe-form").addEventListener("submit", (submit) => {
  submit.preventDefault();
  const pattern = byId("pattern").value.trim();
  if (!pattern) return byId("pattern").focus();
  connection.subscribe(pattern);
  showInAddress();
  byId("pattern").value = "";
});

byId("snapshot").addEventListener("change", (change) => { connection.snapshot = change.target.checked; });
byId("latest").addEventListener("change", (change) => connection.setLatest(change.target.checked));
byId("filter").addEventListener("input", (input) => table.setFilter(input.target.value));
byId("clear").addEventListener("click", () => {
  table.clear();
  older.restart();
  showOlder();
});
byId("older").addEventListener("click", async () => {
  byId("older").disabled = true;
  try {
    if (await older.load(connection.token, grantedPatterns()) === 0) logLine("", "nothing older is kept");
  } catch (error) {
    logLine("bad", `older events: ${error.message}`);
  } finally {
    byId("older").disabled = false;
    showOlder();
  }
});
byId("pause").addEventListener("click", () => {
  table.setPaused(!table.paused);
  byId("pause").setAttribute("aria-pressed", String(table.paused));
});

byId("publish-form").addEventListener("submit", async (submit) => {
  submit.preventDefault();
  if (!byId("publish-topic").value.trim()) return byId("publish-topic").focus();
  byId("publish").disabled = true;
  showResult("", "…");
  try {
    showResult("good", await publish(connection.token));
  } catch (error) {
    showResult("bad", error.message);
  } finally {
    byId("publish").disabled = false;
  }
});

byId("publish-form").addEventListener("input", showCommands);
byId("publish-data").addEventListener("keydown", (key) => {
  if (key.key === "Enter" && (key.ctrlKey || key.metaKey)) byId("publish-form").requestSubmit();
});

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", () => {
    const source = byId(button.dataset.copy);
    // The clipboard exists only on secure origins; elsewhere the text is selected for the keyboard.
    const copied = navigator.clipboard?.writeText(source.textContent) ?? Promise.reject(new Error("no clipboard"));
    copied.then(() => logLine("", "copied"), () => getSelection().selectAllChildren(source));
  });
}

addEventListener("online", () => connection.retryNow());

connection.snapshot = byId("snapshot").checked;
connection.latest = byId("latest").checked;
for (const pattern of new URLSearchParams(location.search).getAll("topic")) {
  if (pattern) connection.subscribe(pattern);
}
showCommands();
connection.connect();

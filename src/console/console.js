// The console: watch topics and publish to them, from a browser and with nothing else.
//
// `Connection` is the broker's own client (`/fanfare.js`), in the words of this page. The rest shows what it says. Nothing that
// came from outside is ever parsed as markup, and what arrives is drawn in batches, however much it is.

import { Fanfare } from "./fanfare.js";

const MAX_ROWS = 500;
const MAX_LOG_LINES = 200;
const LONG_DATA = 160;
const OLDER_EVENTS = 100;

const MEASURE_MS = 25_000;
/** The longest time that a timer takes: a connection that nobody uses stays. */
const FOR_EVER_MS = 2 ** 31 - 1;

/** The broker that served this page, also where a proxy has it under a prefix; ends with `/`. */
const BROKER = new URL(".", location).href;

// In the words of `fanfare check`.
const UPGRADE = 'what stands between does not pass on the upgrade; nginx: proxy_http_version 1.1, proxy_set_header Upgrade $http_upgrade, proxy_set_header Connection "upgrade"';
const FOREIGN = "for the broker's own pages: what stands between tells it another address; pass on host, scheme and client (nginx: proxy_set_header Host $http_host, X-Forwarded-Host $http_host, X-Forwarded-Proto $scheme, X-Forwarded-For $remote_addr: all of them, or clients set what is missing) and set server.trusted_proxies";

/** What to do about what went wrong, where that is known. */
const ADVICE = { origin_not_allowed: FOREIGN, no_websocket: UPGRADE };

// ---- The client -------------------------------------------------------------------------------

/** The client, and what this page shows of it. */
class Connection {
  /**
   * @param {object} hooks `state(name, text)`, `event(event, frameText)`, `note(kind, text)`, `gap(since, topics)`, `patterns()`,
   *   `facts({session, roundTrip})`
   */
  constructor(hooks) {
    this.hooks = hooks;
    this.token = "";
    this.snapshot = true;
    this.latest = false;
    this.wanted = false;
    /** Pattern → what has become of it: `{state: "waiting" | "asked" | "live" | "refused", why, undo}`. */
    this.patterns = new Map();
    this.#begin();
    setInterval(() => this.#measure(), MEASURE_MS);
  }

  #begin() {
    this.fanfare?.close();
    const token = this.token && (() => this.token);
    const fanfare = new Fanfare(BROKER, { token: token || undefined, raw: true, idleClose: FOR_EVER_MS });
    const heard = (deed) => (said) => { if (fanfare === this.fanfare) deed(said); };
    fanfare.on("state", heard((said) => this.#changed(said)));
    // What the client adds is not the broker's.
    fanfare.on("event", heard(({ own: _, raw, ...event }) => this.hooks.event(event, `{"data":${raw}}`)));
    fanfare.on("gap", heard(({ since, topics }) => this.hooks.gap(since, topics)));
    fanfare.on("error", heard((error) => this.#failed(error)));
    this.fanfare = fanfare;
    for (const pattern of this.patterns.keys()) this.subscribe(pattern);
  }

  connect() {
    this.wanted = true;
    this.fanfare.reconnect();
  }

  disconnect() {
    this.wanted = false;
    this.fanfare.disconnect();
  }

  /** Chooses between all events and the newest of each topic, for all patterns: those before stay until the others are live. */
  setLatest(latest) {
    this.latest = latest;
    for (const pattern of this.patterns.keys()) this.subscribe(pattern, false);
  }

  subscribe(pattern, snapshot = this.snapshot) {
    const { undo: before } = this.patterns.get(pattern) ?? {};
    let wasLive = false;
    const undo = this.fanfare.subscribe(pattern, {
      snapshot, latest: this.latest,
      onLive: () => {
        before?.();
        this.hooks.note("good", `live on ${pattern}${wasLive ? ", resumed" : ""}`);
        wasLive = true;
        this.#setPattern(pattern, "live");
      },
      onError: ({ code, message }) => this.#setPattern(pattern, "refused", `${code}: ${message}`),
    }, () => {});
    this.patterns.set(pattern, { undo });
    this.#setPattern(pattern, this.wanted ? "asked" : "waiting");
  }

  unsubscribe(pattern) {
    const { undo } = this.patterns.get(pattern) ?? {};
    this.patterns.delete(pattern);
    undo?.();
    this.hooks.patterns();
  }

  /** Begins anew with another credential, or with none. */
  authenticate(token) {
    this.token = token;
    this.#begin();
    this.connect();
  }

  #setPattern(pattern, state, why = "") {
    const known = this.patterns.get(pattern);
    if (!known) return;
    this.patterns.set(pattern, { ...known, state, why });
    this.hooks.patterns();
  }

  #failed({ code, message, pattern }) {
    const what = pattern ? `subscribe to ${pattern} refused` : "trouble";
    this.hooks.note("bad", `${what}: ${code}: ${message}${ADVICE[code] ? `; ${ADVICE[code]}` : ""}`);
  }

  #changed({ state, attempt, reason, retryAt, trouble }) {
    const { session } = this.fanfare;
    if (trouble !== undefined) {
      this.hooks.note(trouble ? "bad" : "good", trouble ?? "the broker can do its whole job again");
      if (state === "live") this.hooks.state(trouble ? "waiting" : "open", trouble ? "Connected, but the broker is in trouble" : "Connected");
      return;
    }
    if (state === "live") {
      this.hooks.note("good", session ? `connected, session ${session}` : "connected by event streams");
      this.#measure();
    } else {
      for (const [pattern, { state: was }] of this.patterns) if (was !== "refused") this.#setPattern(pattern, "waiting");
    }
    if (retryAt !== undefined) {
      this.hooks.note("bad", `${typeof reason.code === "number" ? "connection closed" : "bye"}: ${reason.code}: ${reason.message}`);
      this.hooks.note("", `trying again in ${((retryAt - Date.now()) / 1000).toFixed(1)} s`);
    }
    if (state === "refused") this.wanted = false;
    this.hooks.facts(state === "live" ? { session } : { session: null, roundTrip: null });
    this.hooks.state(...{
      idle: ["closed", "Disconnected"],
      connecting: ["connecting", attempt ? "Reconnecting…" : "Connecting…"],
      live: ["open", "Connected"],
      waiting: ["waiting", "Connection lost, trying again"],
      refused: ["refused", reason?.code === "unauthorized" ? "A valid credential is needed" : `Closed: ${reason?.code}`],
      closed: ["closed", "Disconnected"],
    }[state]);
  }

  /** How long the broker takes to answer. */
  async #measure() {
    if (this.fanfare.state !== "live" || document.visibilityState === "hidden") return;
    const begun = performance.now();
    const answer = await fetch(new URL("health/live", BROKER), { cache: "no-store" }).catch(() => null);
    if (answer?.ok && this.fanfare.state === "live") this.hooks.facts({ roundTrip: performance.now() - begun });
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

connection.snapshot = byId("snapshot").checked;
connection.latest = byId("latest").checked;
for (const pattern of new URLSearchParams(location.search).getAll("topic")) {
  if (pattern) connection.subscribe(pattern);
}
showCommands();
connection.connect();

// Events in a table, as they come: the newest on top, or at the end, in batches, however many there are.

import { element, h } from "./dom.js";
import { ago, timeOfDay } from "./words.js";

export const MAX_ROWS = 500;
// Style and layout of more take longer than a frame may be blocked.
const ROWS_A_FRAME = 150;
const LONG_DATA = 160;
const OLDER_EVENTS = 100;

/**
 * The members of a JSON object, or the elements of an array, each exactly as it was sent, where `JSON.parse` would
 * round large numbers and reorder keys: `[name, text]`, of an element without its name. `json` is known to be valid.
 */
export function* rawParts(json) {
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
export function rawMember(json, name) {
  const wanted = JSON.stringify(name);
  for (const [key, text] of rawParts(json)) if (key === wanted) return text;
  return "";
}

/** Data as it came, of which what is long is shown when it is asked for. */
export function shortened(data) {
  if (data.length <= LONG_DATA) return h("code", {}, data);
  return h("details", {
    ontoggle: ({ currentTarget: details }) => {
      details.querySelector("pre")?.remove();
      if (details.open) details.append(element(h("pre", {}, data)));
    },
  }, h("summary", {}, `${data.slice(0, LONG_DATA)}…`));
}

/** JSON in lines, digit for digit as it came. */
export function pretty(json, indent = "") {
  const [open, close] = json[0] === "{" ? "{}" : json[0] === "[" ? "[]" : [];
  if (!open) return json;
  const parts = [...rawParts(json)].filter(([, text]) => text);
  const deeper = `${indent}  `;
  const lines = parts.map(([key, text]) => `${deeper}${open === "{" ? `${key}: ` : ""}${pretty(text, deeper)}`);
  return lines.length ? `${open}\n${lines.join(",\n")}\n${indent}${close}` : open + close;
}

/**
 * The newest events, newest on top, drawn at most once a frame, and seldom enough that drawing takes
 * a quarter of the time: the rest is for receiving, or the broker would find this page too slow.
 */
export class EventTable {
  constructor({ onDrawn = () => {}, links = true } = {}) {
    this.body = document.createElement("tbody");
    this.links = links;
    this.onDrawn = onDrawn;
    this.total = 0;
    this.paused = false;
    this.isOldestFirst = false;
    /** Words that rows must have, in `topic`, `type` or all of their `text`. */
    this.filter = [];
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

  /** Says something between the events: of a `gap`, or that it was `resumed`. */
  mark(text, kind = "gap") {
    this.#enqueue({ marker: text, kind });
  }

  /** Adds events in their place, the newest first, but for those that are there. */
  addOlder(items) {
    const ahead = this.isOldestFirst ? 1 : -1;
    const missing = items.filter(({ event: { id } }) => !this.body.querySelector(`[data-id="${CSS.escape(id)}"]`));
    this.older += missing.length;
    for (const item of missing) {
      const isBehind = ({ dataset: { id, snapshot } }) => id !== undefined && !snapshot && inOrder(id, item.event.id) * ahead > 0;
      this.body.insertBefore(this.#row(item, false), [...this.body.rows].find(isBehind) ?? null);
    }
    this.onDrawn();
  }

  /** Says at the end that what is older is gone. */
  markOlder(text) {
    const row = this.#row({ marker: text }, false);
    if (this.isOldestFirst) this.body.prepend(row);
    else this.body.append(row);
    this.onDrawn();
  }

  /** The oldest place that is shown but for current values, which may be older than what is between. */
  oldest() {
    const drawn = [...this.body.rows][this.isOldestFirst ? "find" : "findLast"]((row) => row.dataset.id && !row.dataset.snapshot);
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

  /** Turns the table round. */
  setOldestFirst(isOldestFirst) {
    if (isOldestFirst === this.isOldestFirst) return;
    this.isOldestFirst = isOldestFirst;
    this.body.append(...[...this.body.rows].reverse());
    this.#scrollToNewest();
    this.onDrawn();
  }

  #scrollToNewest() {
    const box = this.body.closest(".table-scroll");
    if (box) box.scrollTop = this.isOldestFirst ? box.scrollHeight : 0;
  }

  setFilter(text) {
    this.filter = text.toLowerCase().split(/\s+/).filter(Boolean).map((word) => {
      const [, of, rest] = /^(topic|type):(.*)$/.exec(word) ?? [null, "text", word];
      return { of, rest };
    });
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
    const of = this.texts.get(row);
    return this.filter.every(({ of: part, rest }) => (of[part] ?? "").toLowerCase().includes(rest));
  }

  #draw() {
    this.isScheduled = false;
    const begun = performance.now();
    if (!this.paused && this.waiting.length) {
      this.waiting = this.waiting.slice(-MAX_ROWS);
      const areFew = this.waiting.length <= 20;
      const rows = this.waiting.splice(0, ROWS_A_FRAME).map((item) => this.#row(item, areFew));
      const box = this.body.closest(".table-scroll");
      const follows = this.isOldestFirst && box && box.scrollTop + box.clientHeight > box.scrollHeight - 40;
      if (this.isOldestFirst) this.body.append(...rows);
      else this.body.prepend(...rows.reverse());
      while (this.body.rows.length > MAX_ROWS + this.older) this.body[this.isOldestFirst ? "firstElementChild" : "lastElementChild"].remove();
      if (follows) this.#scrollToNewest();
    }
    this.onDrawn();
    // A new task begins after layout and paint, so that they count too.
    setTimeout(() => {
      this.restUntil = performance.now() + 3 * (performance.now() - begun);
      if (this.waiting.length && !this.paused) this.#schedule();
    });
  }

  #row({ event, frameText, marker, kind }, fresh) {
    const row = marker === undefined ? this.#eventRow(event, frameText) : this.#markerRow(marker, kind);
    row.hidden = !this.#passes(row);
    row.classList.toggle("fresh", fresh);
    return row;
  }

  #markerRow(text, kind = "gap") {
    const row = element(h("tr", { class: `marker ${kind}` }, h("td", { colspan: 4 }, text)));
    this.texts.set(row, { text });
    row.dataset.testid = `${kind}-row`;
    return row;
  }

  #eventRow(event, frameText) {
    const data = rawMember(frameText, "data");
    const time = h("button", {
      type: "button", "aria-expanded": "false", title: `${ago(event.time)}\n${event.time}\n${event.id ?? "not kept: no cursor"}\nInspect`,
      onclick: ({ currentTarget }) => this.#inspect(row, currentTarget, event, data),
    }, timeOfDay(event.time));
    const row = element(h("tr", {},
      h("td", { class: "time" }, time), h("td", { class: "topic" }, this.#topic(event.topic)), h("td", { class: "type" }, event.type ?? ""), this.#dataCell(event, data)));
    const { topic, type = "", from } = event;
    this.texts.set(row, { topic, type, text: `${topic} ${type} ${data} ${from?.user ?? ""}` });
    row.dataset.testid = "event-row";
    row.dataset.topic = event.topic;
    if (event.id !== undefined) row.dataset.id = event.id;
    if (event.snapshot) row.dataset.snapshot = "true";
    return row;
  }

  #topic(topic) {
    return this.links ? h("a", { href: topicPage(topic) }, topic) : topic;
  }

  /** Shows or hides all that an event carries, and its data in lines. */
  #inspect(row, button, { op: _, data, ...carried }, raw) {
    const shown = row.querySelector(".more");
    button.setAttribute("aria-expanded", `${!shown}`);
    if (shown) shown.remove();
    else row.querySelector(".data").append(element(h("div", { class: "more" }, h("pre", { class: "carried" }, JSON.stringify(carried, null, 2)), carried.id && h("a", { href: `${topicPage(carried.topic)}/${carried.id}` }, "Link to this event"), typeof data === "object" && h("pre", { class: "pretty" }, pretty(raw)))));
  }

  #dataCell(event, data) {
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
    return h("td", { class: "data" }, shortened(data), tags.map((tag) => tag && h("span", { class: "tag" }, tag)));
  }
}

const topicPage = (topic) => `#/topics/${encodeURIComponent(topic)}`;

/** Which of two events comes first in the log: cursors are opaque to all clients but this one, which is the broker's own. */
export function inOrder(a, b) {
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
export class Older {
  constructor(app, table) {
    this.app = app;
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
  async load(patterns) {
    // One that came later has more to show than what is before all the others.
    const from = this.places.size ? "" : this.table.oldest();
    for (const pattern of patterns) if (!this.places.has(pattern)) this.places.set(pattern, from);
    const left = patterns.filter((pattern) => this.places.get(pattern) !== null);
    const pages = await Promise.all(left.map((pattern) => this.#page(pattern)));
    // An event that two patterns match is shown once.
    const items = new Map(pages.flatMap((page) => page.items).map((item) => [item.event.id, item]));
    this.table.addOlder([...items.values()].sort((a, b) => inOrder(b.event.id, a.event.id)));
    pages.forEach(({ next }, at) => this.places.set(left[at], next ?? null));
    if (pages.some(({ gap }) => gap)) this.table.markOlder("Gap: some older events are no longer kept.");
    return items.size;
  }

  async #page(pattern) {
    const query = new URLSearchParams({ match: pattern, before: this.places.get(pattern), limit: OLDER_EVENTS });
    const text = await this.app.ask(`v1/events?${query}`, { read: (answer) => answer });
    const { events, next, gap } = JSON.parse(text);
    const raw = [...rawParts(rawMember(text, "events"))];
    return { items: events.map((event, at) => ({ event, frameText: raw[at][1] })), next, gap };
  }
}

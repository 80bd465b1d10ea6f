// Live state in plain HTML: `<fanfare-value>` and `<fanfare-list>`, for pages without a line of script of their own.
//
// They write nothing but text, so that what an event carries never becomes markup, and the strictest content security policy
// lets them. An element has its store while it is in the page; what is moved, or changed several times, within a turn has
// it once. No element is a live region by itself: numbers that change all the time would talk over everything else.

import { Fanfare } from "../fanfare.js";
import { latest, list, map } from "./stores.js";

const TAIL = 50;

// ---- Clients ----------------------------------------------------------------------------------

/** One client for each broker, by its address. */
const clients = new Map();
/** What `url` says → the address. */
const addresses = new Map();
/** The clients that nobody provided. */
const own = new WeakSet();
/** The elements that are in a page. */
const present = new Set();

function clientOf(url) {
  if (!addresses.has(url)) {
    const fanfare = new Fanfare(url ?? undefined);
    addresses.set(url, fanfare.url);
    own.add(fanfare);
    if (clients.has(fanfare.url)) fanfare.close();
    else clients.set(fanfare.url, fanfare);
  }
  return clients.get(addresses.get(url));
}

/** Has the elements use this client wherever they would make one of their own for its broker. */
function provideFanfare(fanfare) {
  const before = clients.get(fanfare.url);
  clients.set(fanfare.url, fanfare);
  for (const element of present) element.settle();
  // Behind the elements, which leave it in this turn.
  if (own.has(before)) queueMicrotask(() => before.close());
}

// ---- Texts ------------------------------------------------------------------------------------

/** What stands at `path` in the data, or with `@` in the event itself: `cpu.percent`, `items.0`, `@time`, `@from.user`. */
function valueAt(path, { data }, event) {
  let value = path?.startsWith("@") ? event : data;
  for (const name of path?.replace("@", "").split(".").filter(Boolean) ?? []) {
    value = value !== null && value !== undefined && Object.hasOwn(value, name) ? value[name] : undefined;
  }
  return value ?? undefined;
}

const formats = new Map();

/** Made once for each language, for that takes longer than to use it. */
function formatOf(Format, element, how) {
  const language = element.closest("[lang]")?.lang || undefined;
  const key = JSON.stringify([Format.name, language, how]);
  if (!formats.has(key)) formats.set(key, new Format(language, how));
  return formats.get(key);
}

function textOf(value, element, digits) {
  if (typeof value === "number" && /^\d\d?$/.test(digits) && digits <= 20) {
    return formatOf(Intl.NumberFormat, element, { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
  }
  return typeof value === "object" ? JSON.stringify(value) : `${value}`;
}

/** Writes what changed and nothing else: a selection, or a screen reader, stays with the rest. */
function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// ---- Elements ---------------------------------------------------------------------------------

/** Of what a server imports, nothing is an element. */
const Base = globalThis.HTMLElement ?? class {};

/** An element that shows a store: `store(fanfare)` is the one that its attributes ask for, and `draw(now)` shows what it says. */
class Live extends Base {
  #store = null;
  #undo = null;
  #isDue = false;

  connectedCallback() {
    present.add(this);
    this.settle();
  }

  disconnectedCallback() {
    present.delete(this);
    this.settle();
  }

  attributeChangedCallback() {
    this.settle();
  }

  /** Sees to it, at the end of this turn and once all that it encloses is there, that it shows what its attributes say. */
  settle() {
    if (this.#isDue) return;
    this.#isDue = true;
    const settle = () => {
      this.#isDue = false;
      this.#settle();
    };
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", settle, { once: true });
    else queueMicrotask(settle);
  }

  /** A number that an attribute says, if it is one above 0. */
  number(name) {
    const number = Number(this.getAttribute(name));
    return number > 0 && number < Infinity ? number : undefined;
  }

  #settle() {
    const before = this.#store;
    let isTaken = Boolean(this.#undo);
    if (!this.isConnected) {
      this.#release();
      return;
    }
    try {
      this.#store = this.store(() => clientOf(this.getAttribute("url")));
    } catch (error) {
      this.#store = null;
      this.#release();
      return this.#show({ stale: true, error: { code: error.code ?? "invalid_url", message: error.message } });
    }
    if (this.#store !== before) {
      this.#release();
      isTaken = false;
    }
    if (!this.#store) this.#show({ stale: false, error: null });
    else if (isTaken) this.#show(this.#store.current);
    else this.#undo = this.#store.subscribe((now) => this.#show(now));
  }

  #release() {
    this.#undo?.();
    this.#undo = null;
  }

  #show(now) {
    this.toggleAttribute("stale", now.stale);
    if (!now.error) this.removeAttribute("error");
    else if (this.getAttribute("error") !== now.error.code) {
      this.setAttribute("error", now.error.code);
      this.dispatchEvent(new CustomEvent("error", { detail: now.error }));
    }
    this.draw(now);
  }
}

/** The value of a topic, or what stands at `path` in it; while there is none, what the page said. */
class FanfareValue extends Live {
  static observedAttributes = ["topic", "path", "digits", "max-rate", "url"];
  #fallback;

  store(client) {
    const topic = this.getAttribute("topic");
    return topic ? latest(client(), topic, { maxRate: this.number("max-rate") }) : null;
  }

  draw(now) {
    const value = now.data === undefined ? undefined : valueAt(this.getAttribute("path"), now, now.event);
    // Until there was one, all is as the page has it.
    if (value === undefined && this.#fallback === undefined) return;
    this.#fallback ??= this.textContent;
    write(this, value === undefined ? this.#fallback : textOf(value, this, this.getAttribute("digits")));
  }
}

/** What a row is where no template says it: the topic and the data. */
function plainRow() {
  const row = document.createElement("div");
  for (const path of ["@topic", ""]) {
    const field = document.createElement("span");
    field.dataset.field = path;
    row.append(field, " ");
  }
  return row;
}

/** One event, in what a template has as its first element; the rest of what it says stays as it is. */
class Row {
  #event;
  #fields = [];

  constructor(list, template) {
    this.list = list;
    this.node = template ? document.importNode(template.content.firstElementChild, true) : plainRow();
    for (const node of [this.node, ...this.node.querySelectorAll("[data-field]")]) {
      const { field, digits } = node.dataset;
      // What is text elsewhere would be run or applied there.
      if (field !== undefined && !/^(script|style)$/.test(node.localName)) this.#fields.push({ node, path: field, digits, fallback: node.textContent });
    }
  }

  fill(event) {
    if (event === this.#event) return;
    this.#event = event;
    for (const { node, path, digits, fallback } of this.#fields) {
      const value = valueAt(path, event, event);
      const moment = node.localName === "time" ? Date.parse(value) : NaN;
      if (value === undefined) write(node, fallback);
      else if (Number.isNaN(moment)) write(node, textOf(value, this.list, digits));
      else {
        node.dateTime = value;
        write(node, formatOf(Intl.DateTimeFormat, this.list, { dateStyle: "short", timeStyle: "medium" }).format(moment));
      }
    }
  }
}

/** What is on the screen: a removal takes out what its topic said before, and is nothing to show itself. */
function standing(events) {
  const removed = new Set();
  return [...events].reverse().filter((event) => {
    if (event.removed) removed.add(event.topic);
    return !removed.has(event.topic);
  }).reverse();
}

/** The newest events of a pattern, or with `map` the values of its topics: a row for each, where the template stands. */
class FanfareList extends Live {
  static observedAttributes = ["pattern", "tail", "map", "reversed", "max-rate", "url"];
  #rows = new Map();
  #template = null;
  #topics = [];

  store(client) {
    const pattern = this.getAttribute("pattern");
    if (!pattern) return null;
    if (this.hasAttribute("map")) return map(client(), pattern, { maxRate: this.number("max-rate") });
    const tail = Math.ceil(this.number("tail") ?? TAIL);
    return list(client(), pattern, { tail, max: tail });
  }

  draw({ events = [], entries }) {
    const wanted = entries ? this.#sorted(entries) : standing(events).map((event) => [event.id ?? event, event]);
    const template = this.#findTemplate();
    const keys = new Map(wanted);
    for (const [key, { node }] of this.#rows) {
      if (keys.has(key)) continue;
      node.remove();
      this.#rows.delete(key);
    }
    if (!this.hasAttribute("reversed")) wanted.reverse();
    const parent = template?.parentNode ?? this;
    let next = template;
    for (const [key, event] of wanted) {
      if (!this.#rows.has(key)) this.#rows.set(key, new Row(this, template));
      const row = this.#rows.get(key);
      row.fill(event);
      if (row.node.parentNode !== parent || row.node.nextSibling !== next) parent.insertBefore(row.node, next);
      next = row.node;
    }
  }

  /** By topic, as people count: `host.2` before `host.10`. Sorted anew only when there are others. */
  #sorted(entries) {
    if (entries.size !== this.#topics.length || !this.#topics.every((topic) => entries.has(topic))) {
      const { compare } = formatOf(Intl.Collator, this, { numeric: true });
      this.#topics = [...entries.keys()].sort(compare);
    }
    return this.#topics.map((topic) => [topic, entries.get(topic)]);
  }

  /** Its own template, not that of a list in one of its rows. With another one, all rows are others. */
  #findTemplate() {
    if (this.#template && this.contains(this.#template)) return this.#template;
    const templates = [...this.querySelectorAll("template")];
    const template = templates.find((each) => each.content.firstElementChild && each.closest(this.localName) === this) ?? null;
    if (template !== this.#template) {
      for (const { node } of this.#rows.values()) node.remove();
      this.#rows.clear();
    }
    this.#template = template;
    return template;
  }
}

for (const [name, element] of [["fanfare-value", FanfareValue], ["fanfare-list", FanfareList]]) {
  if (globalThis.customElements && !customElements.get(name)) customElements.define(name, element);
}

export { FanfareList, FanfareValue, provideFanfare };

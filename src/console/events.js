// Watching events as they come, of any topics, and publishing.

import { BROKER } from "./ask.js";
import { draw, element, h } from "./dom.js";
import { EventTable, MAX_ROWS, Older } from "./eventtable.js";
import { heading } from "./parts.js";
import { copyButton, PublishForm, shellWord } from "./publish.js";
import { figure } from "./words.js";

const MEASURE_MS = 25_000;
const RATE_SECONDS = 60;
const STATES = { waiting: "waiting", asked: "…", live: "live", refused: "refused" };

/** Whether a pattern matches a topic. */
export function matches(pattern, topic) {
  if (topic.startsWith("$") && !pattern.startsWith("$")) return false;
  const wanted = pattern.split("."), segments = topic.split(".");
  if (wanted.at(-1) === ">") {
    wanted.pop();
    if (segments.length <= wanted.length) return false;
    segments.length = wanted.length;
  }
  return wanted.length === segments.length && wanted.every((each, at) => each === "*" || each === segments[at]);
}

/** What is watched, and what has become of it. */
class Watch {
  snapshot = true;
  latest = false;
  /** Pattern → `{state: "waiting" | "asked" | "live" | "refused", why, undo}`. */
  patterns = new Map();

  constructor(app, { onEvent, onGap, onResumed, onChanged }) {
    Object.assign(this, { app, onEvent, onGap, onResumed, onChanged });
    this.undos = [app.on("client", () => this.#begin()), ...["connecting", "waiting", "idle", "refused"].map((state) => app.on(state, () => this.#wait()))];
    this.#begin();
  }

  #begin() {
    const { fanfare } = this.app;
    this.stop?.();
    const undos = [
      // What the client adds is not the broker's.
      fanfare.on("event", ({ own: _, raw, ...event }) => {
        for (const pattern of this.patterns.keys()) if (matches(pattern, event.topic)) return this.onEvent(event, `{"data":${raw}}`);
      }),
      fanfare.on("gap", ({ since, topics, patterns }) => { if (patterns.some((pattern) => this.patterns.has(pattern))) this.onGap(since, topics); }),
    ];
    this.stop = () => undos.forEach((undo) => undo());
    for (const pattern of this.patterns.keys()) this.subscribe(pattern);
  }

  /** Chooses between all events and the newest of each topic, for all patterns: those before stay until the others are live. */
  setLatest(latest) {
    this.latest = latest;
    for (const pattern of this.patterns.keys()) this.subscribe(pattern, false);
  }

  subscribe(pattern, snapshot = this.snapshot) {
    const { undo: before } = this.patterns.get(pattern) ?? {};
    let wasLive = false;
    const undo = this.app.fanfare.subscribe(pattern, {
      snapshot, latest: this.latest,
      onLive: () => {
        before?.();
        this.app.note("good", `live on ${pattern}${wasLive ? ", resumed" : ""}`);
        if (wasLive && this.resumed !== this.app.fanfare.session) {
          this.resumed = this.app.fanfare.session;
          this.onResumed();
        }
        wasLive = true;
        this.#set(pattern, "live");
      },
      onError: ({ code, message }) => this.#set(pattern, "refused", `${code}: ${message}`),
    }, () => {});
    this.patterns.set(pattern, { undo });
    this.#set(pattern, this.app.isWanted ? "asked" : "waiting");
  }

  unsubscribe(pattern) {
    this.patterns.get(pattern)?.undo();
    this.patterns.delete(pattern);
    this.onChanged();
  }

  /** The patterns that the broker has not refused. */
  granted() {
    return [...this.patterns].filter(([, { state }]) => state !== "refused").map(([pattern]) => pattern);
  }

  #wait() {
    for (const [pattern, { state }] of this.patterns) if (state !== "refused") this.#set(pattern, "waiting");
  }

  #set(pattern, state, why = "") {
    const known = this.patterns.get(pattern);
    if (!known) return;
    this.patterns.set(pattern, { ...known, state, why });
    this.onChanged();
  }

  close() {
    this.stop();
    this.undos.forEach((undo) => undo());
    for (const { undo } of this.patterns.values()) undo();
  }
}

/** Events a second over the last minute. */
class Rate {
  seen = 0;
  perSecond = new Array(RATE_SECONDS).fill(0);
  #at = performance.now();

  tick(total) {
    const now = performance.now();
    this.perSecond.push(Math.max(0, total - this.seen) * 1000 / (now - this.#at));
    this.perSecond.shift();
    [this.seen, this.#at] = [total, now];
  }

  line() {
    const highest = Math.max(1, ...this.perSecond);
    const points = this.perSecond.map((each, x) => `${x},${(15 - 14 * each / highest).toFixed(1)}`);
    return h("svg", { id: "sparkline", viewBox: "0 0 60 16", preserveAspectRatio: "none", "aria-hidden": "true" }, h("polyline", { points: points.join(" ") }));
  }
}

/** How long the broker takes to answer; nothing where it does not. */
async function roundTrip(app) {
  const begun = performance.now();
  const answer = await app.ask("health/live").catch(() => null);
  return answer && performance.now() - begun;
}

export function open(app) {
  const table = new EventTable({ onDrawn: () => app.changed() });
  table.body.id = "event-rows";
  const older = new Older(app, table);
  const rate = new Rate();
  const publishing = new PublishForm(app);
  let trip = null, isWrapped = true, isLoading = false;
  const watch = new Watch(app, {
    onEvent: (event, text) => table.add(event, text),
    onGap: (since, topics) => {
      const what = `events ${topics ? `of ${topics.join(", ")} ` : ""}after ${since} are no longer kept`;
      app.note("bad", `gap: ${what}`);
      table.mark(`Gap: ${what}. What follows is what is left.`);
    },
    onResumed: () => table.mark("Resumed after the connection was lost: what came meanwhile is before this, or a gap is told.", "resumed"),
    onChanged: () => app.changed(),
  });
  for (const pattern of new URLSearchParams(location.search).getAll("topic")) if (pattern) watch.subscribe(pattern);

  const measure = async () => {
    if (document.visibilityState === "hidden" || app.connection.state !== "live") return;
    trip = await roundTrip(app);
    app.changed();
  };
  const undoLive = app.on("live", measure);
  const timers = [setInterval(() => { rate.tick(table.total); app.changed(); }, 1000), setInterval(measure, MEASURE_MS)];
  measure();

  /** Keeps the page's address such that it can be kept or sent: the patterns, never the credential. */
  const showInAddress = () => {
    const query = [...watch.patterns.keys()].map((pattern) => `topic=${encodeURIComponent(pattern)}`).join("&");
    history.replaceState(null, "", `${query ? `?${query}` : location.pathname}#/events`);
  };

  const subscribe = (submit) => {
    submit.preventDefault();
    const input = submit.currentTarget.querySelector("#pattern");
    const pattern = input.value.trim();
    if (!pattern) return input.focus();
    watch.subscribe(pattern);
    showInAddress();
    input.value = "";
  };

  const pause = () => { table.setPaused(!table.paused); app.changed(); };

  const clear = () => {
    table.clear();
    rate.seen = 0;
    older.restart();
  };

  const loadOlder = async () => {
    isLoading = true;
    app.changed();
    try {
      if (await older.load(watch.granted()) === 0) app.note("", "nothing older is kept");
    } catch (error) {
      app.note("bad", `older events: ${error.message}`);
    }
    isLoading = false;
    app.changed();
  };

  const watchCommand = () => {
    const query = (watch.granted().length ? watch.granted() : [">"]).map((pattern) => `topic=${encodeURIComponent(pattern)}`).join("&");
    const auth = app.token ? ' \\\n  -H "Authorization: Bearer $FANFARE_API_KEY"' : "";
    return `curl -N ${shellWord(`${BROKER}v1/sse?${query}`)}${auth}`;
  };

  // The rows are drawn by the table, and the rest of this screen around them.
  const scroll = element(h("div", { class: "table-scroll", id: "events-scroll", tabindex: "0", role: "region", "aria-label": "Events" },
    h("table", { id: "events" },
      h("caption", { class: "visually-hidden" }, "Events as they arrive, newest first; the newest 500 are kept"),
      h("thead", {}, h("tr", {}, ["Time", "Topic", "Type", "Data"].map((name) => h("th", { scope: "col" }, name)))))));
  scroll.firstChild.append(table.body);
  const end = element(h("div", {}));
  scroll.append(end);

  function view() {
    const rows = [...table.body.rows];
    const waiting = table.paused ? table.waiting.length : 0;
    const now = rate.perSecond.at(-1);
    const mayPublish = app.caller?.publish.length > 0;
    draw(end,
      !rows.some((row) => !row.hidden) && h("p", { id: "empty", class: "empty" }, rows.length ? "No event matches the filter."
        : watch.patterns.size ? "Nothing yet. Events appear here as they are published."
        : "Subscribe to a topic or pattern to see its events."),
      older.hasMore(watch.granted()) && h("button", { type: "button", id: "older", class: "button small", disabled: isLoading, onclick: loadOlder }, "Load older"));
    return [
      heading("Events",
        h("span", { class: "spacer" }),
        h("dl", { class: "session" },
          h("div", {}, h("dt", {}, "Session"), h("dd", { id: "session", class: "mono", title: app.fanfare.session ?? "" }, app.connection.state === "live" ? app.fanfare.session ?? "–" : "–")),
          h("div", {}, h("dt", {}, "Round trip"), h("dd", { id: "round-trip", class: "mono" }, app.connection.state !== "live" || trip === null ? "–" : `${trip.toFixed(1)} ms`))),
        h("button", { type: "button", id: "connect", class: "button", onclick: () => app.isWanted ? app.disconnect() : app.connect() }, app.isWanted ? "Disconnect" : "Connect")),
      h("div", { class: "layout" },
        h("section", { class: "watch", "aria-label": "Watch" },
          subscribeForm(watch, subscribe),
          chips(watch, (pattern) => { watch.unsubscribe(pattern); showInAddress(); document.getElementById("pattern").focus(); }),
          h("div", { class: `panel flush events ${isWrapped ? "" : "nowrap"}` },
            h("div", { class: "toolbar" },
              h("p", { class: "meter" }, h("span", { id: "count", class: "mono" }, table.total.toLocaleString("en")), h("span", { class: "quiet" }, " received")),
              h("p", { class: "meter" }, h("span", { id: "rate", class: "mono" }, figure(now)), h("span", { class: "quiet" }, "/s"), rate.line()),
              h("span", { class: "spacer" }),
              h("label", { class: "visually-hidden", for: "filter" }, "Filter the events shown"),
              h("input", { id: "filter", type: "search", "data-filter": true, placeholder: "Filter, topic:, type:", autocomplete: "off", spellcheck: "false", oninput: ({ target }) => { table.setFilter(target.value); } }),
              h("button", { type: "button", id: "order", class: "button", title: "Which events stand on top", onclick: () => table.setOldestFirst(!table.isOldestFirst) }, table.isOldestFirst ? "Oldest first" : "Newest first"),
              h("button", { type: "button", id: "wrap", class: "button", "aria-pressed": `${isWrapped}`, onclick: () => { isWrapped = !isWrapped; app.changed(); } }, "Wrap"),
              h("button", { type: "button", id: "pause", class: "button", "aria-pressed": `${table.paused}`, onclick: pause }, !table.paused ? "Pause" : waiting ? `Resume (${waiting < MAX_ROWS ? waiting : `${MAX_ROWS}+`})` : "Resume"),
              h("button", { type: "button", id: "clear", class: "button", onclick: clear }, "Clear")),
            h("div", { mount: (node) => node.append(scroll), class: "host" }))),
        h("aside", { class: "side", "aria-label": "Publish and watch" },
          mayPublish && h("section", { class: "panel", "aria-labelledby": "publish-heading" }, h("h2", { id: "publish-heading" }, "Publish"), publishing.view()),
          h("section", { class: "panel", "aria-labelledby": "shell-heading" },
            h("h2", { id: "shell-heading" }, "From elsewhere"),
            mayPublish && publishing.snippets(),
            h("div", { class: "snippet" },
              h("div", { class: "snippet-head" }, h("h3", {}, "Watch these"), copyButton(app, "curl-watch", "the command that watches")),
              h("pre", { id: "curl-watch", class: "mono", tabindex: "0", role: "region", "aria-label": "How to watch these" }, watchCommand()))))),
    ];
  }

  return {
    title: "Events", view,
    pressed: (key) => key === "p" && (pause(), true),
    close() {
      watch.close();
      undoLive();
      timers.forEach(clearInterval);
    },
  };
}

function subscribeForm(watch, onsubmit) {
  const refusals = [...watch.patterns].filter(([, { state }]) => state === "refused");
  return [
    h("form", { id: "subscribe-form", class: "subscribe", novalidate: true, onsubmit },
      h("div", { class: "field grow" },
        h("label", { for: "pattern" }, "Subscribe to a topic or pattern"),
        h("input", { id: "pattern", class: "mono", type: "text", autocomplete: "off", autocapitalize: "off", spellcheck: "false", maxlength: "255", placeholder: "orders.>", "aria-describedby": "pattern-help subscribe-error" })),
      h("button", { type: "submit", id: "subscribe", class: "button primary" }, "Subscribe"),
      h("label", { class: "check" }, h("input", { type: "checkbox", id: "snapshot", checked: watch.snapshot, onchange: ({ target }) => { watch.snapshot = target.checked; } }), " Current values first"),
      h("label", { class: "check", title: "While events come faster than this page takes them, only the newest of each topic" }, h("input", { type: "checkbox", id: "latest", checked: watch.latest, onchange: ({ target }) => watch.setLatest(target.checked) }), " Newest only")),
    h("p", { id: "pattern-help", class: "hint" }, h("code", {}, "*"), " stands for one segment, ", h("code", {}, ">"), " at the end for one or more. ", h("code", {}, ">"), " alone is everything."),
    h("p", { id: "subscribe-error", class: "error", role: "alert" }, refusals.map(([pattern, { why }]) => `${pattern} was refused. ${why}`).join("\n")),
  ];
}

function chips(watch, remove) {
  return h("ul", { id: "chips", class: "chips", "aria-label": "Subscriptions" }, [...watch.patterns].map(([pattern, { state, why }]) =>
    h("li", { key: pattern, class: "chip", "data-testid": "chip", "data-pattern": pattern, "data-state": state, title: why },
      h("span", { class: "name mono" }, pattern),
      h("span", { class: "state" }, STATES[state]),
      h("button", { type: "button", title: `Unsubscribe from ${pattern}`, "aria-label": `Unsubscribe from ${pattern}`, onclick: () => remove(pattern) }, "×"))));
}

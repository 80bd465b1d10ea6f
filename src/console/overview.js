// Is it well, and if not, what is wrong; then how much of what there is, and since when.

import { Pointer, tiles } from "./chart.js";
import { h } from "./dom.js";
import { limits, rooms } from "./numbers.js";
import { bar, heading, Reading, refusal, time } from "./parts.js";
import { bytes, count, duration, figure, many } from "./words.js";

const ASK_MS = 5_000;
const most = (a, b) => Math.max(a, b);
const ms = (number) => `${figure(number)} ms`;
const perSecond = (of) => (data) => (of(data) * 1000) / data.period_ms;

/** What is drawn over time: of each node, and how that is made one. */
const CHARTS = [
  { name: "Published", unit: "/s", show: figure, lines: [{ name: "in", of: perSecond(({ second }) => second.published) }] },
  { name: "Delivered", unit: "/s", show: figure, lines: [{ name: "out", of: perSecond(({ second }) => second.delivered) }] },
  { name: "Delivery takes", unit: "", show: ms, lines: [
    { name: "p50", of: ({ latency_ms: { delivery } }) => delivery?.p50, join: most },
    { name: "p99", tone: "second", of: ({ latency_ms: { delivery } }) => delivery?.p99, join: most },
  ] },
  { name: "Sessions", unit: "", show: count, lines: [{ name: "open", of: ({ sessions }) => sessions.websocket + sessions.sse }] },
  { name: "Conflated, and gaps", unit: "/s", show: figure, lines: [
    { name: "conflated", of: perSecond(({ second }) => second.skipped) },
    { name: "gaps", tone: "second", of: perSecond(({ second }) => second.gaps) },
  ] },
  { name: "Waiting", unit: "", show: bytes, lines: [
    { name: "for all clients", of: ({ queue }) => queue.bytes },
    { name: "for the slowest", tone: "second", of: ({ queue }) => queue.largest_bytes, join: most },
  ] },
];

export function open(app) {
  const pointer = new Pointer(() => app.changed());
  // Where the numbers can't be had, at least whether the broker is ready: asked for, and not while nobody looks.
  let ready;

  const charts = () => CHARTS.map(({ lines, ...rest }) => ({ ...rest, lines: lines.map(({ of, join, ...line }) => ({ ...line, points: app.numbers.series(of, join) })) }));

  function view() {
    const { caller, noNumbers: why, numbers } = app;
    const isMissing = Boolean(why) || (caller && !numbers.nodes.size);
    if (isMissing) ready ??= new Reading(app, () => "health/ready", { every: ASK_MS });
    else if (ready) ready = ready.close();
    if (why) return [heading("Overview"), readiness(ready), refusal(app, why, "to see how the broker is")];
    if (!numbers.nodes.size) return [heading("Overview"), readiness(ready), h("p", { class: "empty", "aria-busy": "true" }, "Waiting for the first numbers…")];
    return [
      heading("Overview"),
      verdict(app),
      tiles(charts(), numbers.newest, pointer),
      h("div", { class: "columns" },
        h("section", { class: "panel", "aria-labelledby": "room" }, h("h2", { id: "room" }, "Room"), room(numbers)),
        h("section", { class: "panel", "aria-labelledby": "slow" }, h("h2", { id: "slow" }, "Slowest sessions"), slowest(numbers)),
        h("section", { class: "panel wide", "aria-labelledby": "nodes" }, h("h2", { id: "nodes" }, "Nodes"), nodes(numbers)),
        h("section", { class: "panel wide", "aria-labelledby": "errors" }, h("h2", { id: "errors" }, "Last errors and warnings"), errors(numbers))),
    ];
  }

  return { title: "Overview", view, close: () => ready?.close(), pressed: (key) => key === "r" && (app.fanfare.reconnect(), true) };
}

/** What `/health/ready` says, where nothing more can be known. */
function readiness(ready) {
  if (!ready) return null;
  const { value, error } = ready;
  if (value && !error) return h("p", { class: "verdict good", role: "status" }, "Ready");
  if (error?.status === 503) return h("p", { class: "verdict bad", role: "status" }, "Not ready", h("span", { class: "quiet" }, " /health/ready says 503"));
  return error && h("p", { class: "verdict bad", role: "status" }, error.message);
}

function verdict({ numbers, connection }) {
  const late = numbers.lateness();
  const troubles = numbers.troubles();
  const { isOld } = numbers;
  if (isOld) {
    troubles.unshift({ level: "bad", what: connection.state === "live" ? "No numbers come" : "The broker can't be reached", detail: `what is shown is ${duration(late)} old` });
  }
  const there = numbers.present();
  const sessions = numbers.sum(({ sessions: { websocket, sse } }) => websocket + sse);
  const summary = `${many(there.length, "node")}, ${many(sessions, "session")}, ${many(numbers.sum(({ subscriptions }) => subscriptions), "subscription")}`;
  const level = troubles[0]?.level ?? "good";
  return h("section", { class: `verdict ${level}`, "aria-label": "Health" },
    // Only what changes seldom is read out.
    h("p", { class: "verdict-word" }, h("span", { role: "status" }, { good: "Healthy", warn: "Working, with trouble", bad: isOld ? "Not known" : "Failing" }[level]), h("span", { class: "quiet" }, summary)),
    troubles.length > 0 && h("ul", {}, troubles.slice(0, 12).map(({ level: of, what, detail, node, to, next }) => h("li", { class: of, key: `${what}${node}` },
      h("b", {}, to && to !== "overview" ? h("a", { href: `#/${to}` }, what) : what), detail && h("span", {}, detail), node && h("span", { class: "quiet" }, `node ${node}`),
      next && h("span", { class: "next" }, next.step, h("span", { class: "quiet" }, ` Runbook: ${next.alert}`))))),
    troubles.length > 12 && h("p", { class: "quiet" }, `and ${troubles.length - 12} more`));
}

/** Of each figure with a limit, that of the node that is nearest to it. */
function room(numbers) {
  const nearest = (of) => {
    const found = new Map();
    for (const { name, last } of numbers.present()) {
      for (const each of of(last)) {
        const known = found.get(each.what);
        if (!known || each.used / each.limit > known.used / known.limit) found.set(each.what, { ...each, node: name });
      }
    }
    return [...found.values()];
  };
  const isOne = numbers.present().length < 2;
  return [
    h("p", { class: "hint" }, isOne ? "" : "Of each, the node that is nearest to its limit."),
    nearest(rooms).map((each) => bar({ ...each, full: "the oldest events go" })),
    nearest(limits).map((each) => bar(each)),
  ];
}

function slowest(numbers) {
  const all = numbers.slowest();
  if (!all.length) return h("p", { class: "empty small" }, "Nothing waits for anybody.");
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of slow sessions" }, h("table", {},
    h("caption", { class: "visually-hidden" }, "Sessions for which most waits"),
    h("thead", {}, h("tr", {}, ["Session", "User"].map((name) => h("th", { scope: "col" }, name)), ["Waiting", "Behind", "Left out"].map((name) => h("th", { scope: "col", class: "number" }, name)))),
    h("tbody", {}, all.map(({ session, user, queued_bytes: queued, lag_ms: lag, skipped, limit }) => h("tr", { key: session, class: queued >= limit / 2 ? "warn" : "" },
      h("th", { scope: "row", class: "mono" }, h("a", { href: `#/sessions/${encodeURIComponent(session)}` }, session.slice(0, 8), "…")),
      h("td", {}, user ?? "–"),
      h("td", { class: "number" }, bytes(queued)),
      h("td", { class: "number" }, duration(lag)),
      h("td", { class: "number" }, count(skipped)))))));
}

function nodes(numbers) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of nodes" }, h("table", {},
    h("caption", { class: "visually-hidden" }, "The nodes, with release and how long they run"),
    h("thead", {}, h("tr", {}, ["Node", "State", "Release"].map((name) => h("th", { scope: "col" }, name)), ["Up", "Sessions", "In /s", "Out /s", "Memory"].map((name) => h("th", { scope: "col", class: "number" }, name)))),
    h("tbody", {}, numbers.all().map((node) => {
      const { name, last, at } = node;
      const isAway = numbers.isAway(node);
      const { isOld } = numbers;
      const state = isOld ? "not known" : isAway ? `away for ${duration(numbers.newest - at)}` : last.ready ? "ready" : last.failing.map(({ check }) => check).join(", ");
      const now = (value) => isAway ? "–" : value;
      return h("tr", { key: name, class: isAway ? "away" : "" },
        h("th", { scope: "row", class: "mono" }, h("a", { href: `#/nodes/${encodeURIComponent(name)}` }, name)),
        h("td", {}, h("span", { class: `state ${isOld ? "" : isAway || !last.ready ? "bad" : "good"}` }, state)),
        h("td", {}, last.version),
        h("td", { class: "number" }, now(duration(last.uptime_ms))),
        h("td", { class: "number" }, now(count(last.sessions.websocket + last.sessions.sse))),
        h("td", { class: "number" }, now(figure(last.second.published))),
        h("td", { class: "number" }, now(figure(last.second.delivered))),
        h("td", { class: "number" }, now(bytes(last.memory.rss_bytes))));
    }))));
}

function errors(numbers) {
  const all = numbers.errors();
  if (!all.length) return h("p", { class: "empty small" }, "None since the start.");
  return h("ol", { class: "lines" }, all.map(({ time: at, level, message, node }) => h("li", { key: `${at}${node}${message}`, class: level === "error" ? "bad" : "warn" },
    time(at), h("span", { class: "level" }, level), h("span", { class: "what" }, message), numbers.nodes.size > 1 && h("span", { class: "quiet mono" }, node))));
}

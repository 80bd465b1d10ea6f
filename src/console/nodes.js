// The nodes, one beside the other, and what they share: each with its numbers, its limits, and Redis as it sees it.

import { Pointer, tiles } from "./chart.js";
import { h } from "./dom.js";
import { limits, rooms } from "./numbers.js";
import { bar, heading, old, refusal, time } from "./parts.js";
import { bytes, count, duration, figure, many } from "./words.js";

export function open(app, chosen) {
  const pointer = new Pointer(() => app.changed());

  function view() {
    const { numbers, noNumbers: why } = app;
    if (why) return [heading("Nodes"), refusal(app, why, "to see the nodes")];
    if (!numbers.nodes.size) return [heading("Nodes"), h("p", { class: "empty", "aria-busy": "true" }, "Waiting for the first numbers…")];
    const all = numbers.all();
    const node = all.find(({ name }) => name === chosen) ?? all[0];
    return [
      heading("Nodes"),
      old(numbers),
      redis(numbers),
      all.length > 1 && h("div", { class: "tabs", role: "group", "aria-label": "Which node" }, all.map((each) => h("button", {
        key: each.name, type: "button", class: "button mono", "aria-pressed": `${each === node}`, onclick: () => { chosen = each.name; app.changed(); },
      }, each.name, h("span", { class: `state ${stateOf(numbers, each)[0]}` }, ` ${stateOf(numbers, each)[1]}`)))),
      detail(numbers, node, pointer),
    ];
  }

  return { title: "Nodes", view };
}

function stateOf(numbers, node) {
  if (numbers.isOld) return ["", "not known"];
  if (numbers.isAway(node)) return ["bad", "away"];
  return node.last.ready ? ["good", "ready"] : ["bad", "failing"];
}

/** What the nodes share, as each of them sees it. */
function redis(numbers) {
  const there = numbers.present().filter(({ last }) => last.redis);
  if (!there.length) return h("p", { class: "quiet" }, "This broker is one node by itself: without redis.url there is nothing that it shares.");
  return h("section", { class: "panel", "aria-labelledby": "redis" }, h("h2", { id: "redis" }, "Redis, as each node sees it"),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of what nodes see of Redis" }, h("table", {},
      h("caption", { class: "visually-hidden" }, "Redis, as each node sees it"),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Node"), h("th", { scope: "col" }, "State"), h("th", { scope: "col", class: "number" }, "For"), h("th", { scope: "col", class: "number" }, "Reconnects"), h("th", { scope: "col", class: "number" }, "Nodes it sees"), h("th", { scope: "col", class: "number" }, "Relay p50"), h("th", { scope: "col", class: "number" }, "Relay p99"))),
      h("tbody", {}, there.map(({ name, last: { redis: { state, detail: why, since_ms: since, reconnects, nodes }, latency_ms: { relay } } }) => h("tr", { key: name },
        h("th", { scope: "row", class: "mono" }, name),
        h("td", {}, h("span", { class: `state ${state === "connected" ? "good" : "bad"}` }, state), why && h("span", { class: "quiet" }, ` ${why}`)),
        h("td", { class: "number" }, duration(since)), h("td", { class: "number" }, count(reconnects)),
        h("td", { class: "number" }, nodes === there.length ? count(nodes) : h("span", { class: "state warn" }, `${nodes}, and ${there.length} tell of themselves`)),
        h("td", { class: "number" }, duration(relay?.p50)), h("td", { class: "number" }, duration(relay?.p99))))))));
}

function detail(numbers, node, pointer) {
  const { name, last, at } = node;
  const [level, state] = stateOf(numbers, node);
  const own = { ...numbers, nodes: new Map([[name, node]]) };
  const series = (of) => Object.getPrototypeOf(numbers).series.call(own, of);
  const { sessions, subscriptions, second, latency_ms: latency, process, history, total } = last;
  const facts = [
    ["State", h("span", { class: `state ${level}` }, numbers.isAway(node) ? `away: nothing came for ${duration(numbers.newest - at)}` : state)],
    ...last.failing.map(({ check, detail: why }) => [`Failing: ${check}`, h("span", { class: "state bad" }, why)]),
    ["Release", last.version], ["Started", time(last.started)], ["Up", duration(last.uptime_ms)],
    ["Sessions", `${count(sessions.websocket)} over WebSocket, ${count(sessions.sse)} event streams`], ["Patterns", count(subscriptions)],
    ["In", `${figure(second.published)} a second, ${bytes(second.published_bytes)}`], ["Out", `${figure(second.delivered)} a second, ${bytes(second.written_bytes)}`],
    ["Commit", latency.commit ? `p50 ${duration(latency.commit.p50)}, p99 ${duration(latency.commit.p99)}` : "nothing to commit"],
    ["Delivery", latency.delivery ? `p50 ${duration(latency.delivery.p50)}, p99 ${duration(latency.delivery.p99)}` : "nothing to deliver"],
    ["Kept", `${history.kind}${history.events === undefined ? "" : `: ${many(history.events, "event")} of ${many(history.topics, "topic")}`}`],
    ["Processor", `${figure(process.cpu_ms / (last.period_ms / 100))} % of one, ${many(process.threads, "thread")}`],
    ["Since the start", `${count(total.published)} in, ${count(total.delivered)} out, ${count(total.replayed)} replayed, ${count(total.superseded)} superseded, ${many(total.gaps, "gap")}`],
  ];
  const line = (name, of, show) => ({ name, show, lines: [{ name, points: series(of) }] });
  const reasons = (title, of) => {
    const all = Object.entries(of).sort((a, b) => b[1] - a[1]);
    return all.length > 0 && h("section", { class: "panel", "aria-label": title }, h("h2", {}, title), h("dl", { class: "facts" }, all.map(([reason, number]) => [h("dt", { class: "mono" }, reason), h("dd", { class: "count" }, count(number))])));
  };
  return h("div", { class: "columns", key: name },
    h("section", { class: "panel", "aria-labelledby": "node" }, h("h2", { id: "node" }, "Node ", h("span", { class: "mono" }, name)), h("dl", { class: "facts" }, facts.map(([term, value]) => [h("dt", {}, term), h("dd", {}, value)]))),
    h("section", { class: "panel", "aria-labelledby": "room" }, h("h2", { id: "room" }, "Room"), rooms(last).map((each) => bar({ ...each, full: "the oldest events go" })), limits(last).map((each) => bar(each))),
    tiles([
      line("Processor", ({ process: { cpu_ms: cpu }, period_ms: period }) => (cpu / period) * 100, (value) => `${figure(value)} %`),
      line("Memory", ({ memory }) => memory.rss_bytes, bytes),
      line("Sessions", ({ sessions: { websocket, sse } }) => websocket + sse, count),
    ], numbers.newest, pointer),
    reasons("Closed sessions, since the start", last.closes),
    reasons("Refusals, since the start", last.refusals),
    reasons("Gaps, since the start", last.gaps));
}

// Webhooks, with how far each is behind and what it was answered; and the notices that they carry, as they come.

import { element, h } from "./dom.js";
import { EventTable } from "./eventtable.js";
import { heading, old, refusal } from "./parts.js";
import { duration } from "./words.js";

const NOTICES = ["$sys.sessions", "$sys.topics", "$presence.>"];
const TAIL = 50;

export function open(app) {
  const table = new EventTable({ onDrawn: () => app.changed(), links: false });
  const errors = new Map();
  let undos = [];
  const follow = () => {
    undos.forEach((undo) => undo());
    undos = NOTICES.map((topic) => app.fanfare.subscribe(topic, {
      tail: TAIL,
      onLive: () => { errors.delete(topic); app.changed(); },
      onError: (error) => { errors.set(topic, error); app.changed(); },
    }, ({ own: _, raw, ...event }) => table.add(event, `{"data":${raw}}`)));
  };
  const undoClient = app.on("client", () => { table.clear(); follow(); });
  follow();

  const scroll = element(h("div", { class: "table-scroll low", tabindex: "0", role: "region", "aria-label": "Notices" },
    h("table", {}, h("caption", { class: "visually-hidden" }, "Notices, newest first"),
      h("thead", {}, h("tr", {}, ["Time", "Topic", "Type", "Data"].map((name) => h("th", { scope: "col" }, name)))))));
  scroll.firstChild.append(table.body);

  function view() {
    const { numbers, noNumbers: why } = app;
    return [
      heading("Webhooks and notices"),
      why ? refusal(app, why, "to see webhooks") : [old(numbers), hooks(numbers)],
      h("section", { class: "panel flush events", "aria-labelledby": "notices" },
        h("div", { class: "toolbar" }, h("h2", { id: "notices" }, "Notices as they come"), h("span", { class: "quiet" }, "what is told is chosen in ", h("code", {}, "[notices]"))),
        [...errors].map(([topic, { code, message }]) => h("p", { class: "notice bad", key: topic }, `${topic} is refused: ${code}: ${message}`)),
        h("div", { class: "host", mount: (node) => node.append(scroll) }),
        !table.body.rows.length && !errors.size && h("p", { class: "empty small pad" }, "None yet.")),
    ];
  }

  return { title: "Webhooks", view, close: () => { undoClient(); undos.forEach((undo) => undo()); } };
}

/** Each webhook, as the node tells whose turn it is. */
function hooks(numbers) {
  if (!numbers.nodes.size) return h("p", { class: "empty", "aria-busy": "true" }, "Waiting for the first numbers…");
  const found = new Map();
  for (const { name: node, last } of numbers.present()) {
    for (const hook of last.webhooks) if (hook.turn || !found.has(hook.name)) found.set(hook.name, { ...hook, node });
  }
  if (!found.size) return h("p", { class: "empty" }, "No webhooks are configured: ", h("code", {}, "[[webhooks]]"), " has the notices below posted to an application.");
  const words = { none: ["", "nothing was posted yet"], taken: ["good", "taken"], failed: ["bad", "not taken"] };
  return h("section", { class: "panel flush", "aria-label": "Webhooks" }, h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of webhooks" }, h("table", {},
    h("caption", { class: "visually-hidden" }, "Webhooks, with the last answer to each"),
    h("thead", {}, h("tr", {}, ["Webhook", "Last answer", "When", "Behind", "Posted by"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, [...found.values()].map(({ name, outcome, detail, outcome_ms: since, lag_ms: lag, turn, node }) => h("tr", { key: name, class: outcome === "failed" ? "warn" : "" },
      h("th", { scope: "row" }, name),
      h("td", {}, h("span", { class: `state ${words[outcome]?.[0]}` }, words[outcome]?.[1] ?? outcome), detail && `: ${detail}`),
      h("td", {}, since === undefined ? "–" : `${duration(since)} ago`),
      h("td", {}, lag ? `${duration(lag)}: the oldest notice waits for so long` : "nothing waits"),
      h("td", { class: "mono" }, turn ? node : "no node at the moment")))))));
}

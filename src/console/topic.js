// One topic: why it is as it is, what it says now and has said, who is there, and what may be done to it.

import { draw, element, h } from "./dom.js";
import { EventTable, pretty, rawMember, rawParts, shortened } from "./eventtable.js";
import { button, heading, Reading, silence, time } from "./parts.js";
import { PublishForm } from "./publish.js";
import { bytes, count, duration, many } from "./words.js";

const PAGE = 50;
const EVERY_MS = 5_000;
const NOW = { before: "" };
const WHO = { anyone: "anyone", own: "tokens that grant it, and the user whose own it is", token: "tokens that grant it", nobody: "applications with an API key alone" };

/** The history of a topic, a page at a time, and what comes to it. */
class History {
  table = new EventTable({ links: false });
  /** Whether what comes is shown too. */
  isLive = true;
  /** Where the older and the newer page are. */
  older;
  newer;
  error;
  isReading = false;
  #undo;

  constructor(app, topic, place) {
    Object.assign(this, { app, topic, place });
    this.follow();
    this.goTo(place);
  }

  /** Reads a page before a place, or after one; nothing becomes of it where one has gone elsewhere meanwhile. */
  async read(place) {
    const isOn = place.since !== undefined;
    const { turn } = this;
    this.isReading = true;
    this.app.changed();
    try {
      const text = await this.app.ask(`v1/topics/${encodeURIComponent(this.topic)}/events?${new URLSearchParams({ ...place, limit: PAGE })}`, { read: (answer) => answer });
      if (turn !== this.turn) return;
      const { events, next, gap } = JSON.parse(text);
      const raw = [...rawParts(rawMember(text, "events"))].map(([, each]) => each);
      const items = events.map((event, at) => ({ event, frameText: raw[at] }));
      this.table.addOlder(isOn ? items.reverse() : items);
      if (gap) this.table.markOlder("Gap: some events here are no longer kept.");
      if (!isOn) this.older = next ?? null;
      else this.newer = events.length === PAGE ? next : null;
      this.error = undefined;
    } catch (error) {
      if (turn !== this.turn) return;
      this.error = error;
    }
    this.isReading = false;
    this.app.changed();
  }

  /** Shows what comes from here on. */
  follow() {
    this.#undo?.();
    this.#undo = this.app.fanfare.subscribe(this.topic, {
      onGap: ({ since }) => this.table.mark(`Gap: events after ${since} are no longer kept.`),
      onError: () => {},
    }, ({ own: _, raw, ...event }) => { if (this.isLive) this.table.add(event, `{"data":${raw}}`); });
  }

  /** Goes to what is after a moment or a cursor, or before one; or to the newest, and then what comes is shown too. */
  goTo(place = NOW) {
    this.table.clear();
    this.turn = {};
    this.place = place;
    this.isLive = place === NOW;
    this.older = this.newer = null;
    return this.read(place);
  }

  close() {
    this.#undo?.();
  }
}

export function open(app, topic, event) {
  const path = `v1/topics/${encodeURIComponent(topic)}`;
  const summary = new Reading(app, () => path, { every: EVERY_MS, read: (text) => ({ ...JSON.parse(text), raw: rawMember(rawMember(text, "latest"), "data") }) });
  const rights = new Reading(app, () => `v1/caller?topic=${encodeURIComponent(topic)}`);
  const rule = new Reading(app, () => app.isAdmin ? `${path}/rule` : undefined, { onRead: () => members.again() });
  // Who may see the rule need not ask where the answer is that presence is off.
  const members = new Reading(app, () => app.isAdmin && !rule.value?.presence ? undefined : `${path}/presence?limit=${PAGE}`, { every: EVERY_MS });
  // Cursors are opaque to all clients but this one: an event is the newest before the place after it.
  const history = new History(app, topic, event && { before: event.replace(/\d+$/, (number) => +number + 1) });
  const publishing = new PublishForm(app, topic);
  const undos = [app.on("client", () => history.follow()), app.on("caller", () => { summary.again(); history.goTo(history.place); })];
  let isRaw = false, from = "";
  history.table.onDrawn = () => app.changed();

  const forget = async () => {
    const name = { title: "Forget the history", text: `All ${count(summary.value?.retained ?? 0)} events that are kept of this topic go, on every node, for good. Who comes back to a place before them is told of a gap.`, name: topic, action: "Forget" };
    if (!await app.askForName(name)) return;
    await app.act(`forgot the history of ${topic}`, async () => many((await app.ask(`${path}/events`, { method: "DELETE" })).removed, "event")).catch(() => {});
    history.goTo();
    summary.again();
  };

  const download = async () => {
    const lines = [];
    let since = "";
    await app.act(`downloaded the history of ${topic}`, async () => {
      // As much as a page of this console has to do with.
      for (let pages = 0; pages < 100; pages++) {
        const text = await app.ask(`${path}/events?${new URLSearchParams({ limit: 1000, ...(since && { since }) })}`, { read: (answer) => answer });
        const found = [...rawParts(rawMember(text, "events"))].map(([, each]) => each);
        lines.push(...found);
        since = JSON.parse(text).next;
        if (!found.length || !since) break;
      }
      const link = element(h("a", { href: URL.createObjectURL(new Blob([lines.map((line) => `${line}\n`).join("")], { type: "application/x-ndjson" })), download: `${topic}.ndjson` }));
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
      return many(lines.length, "event");
    }).catch(() => {});
  };

  const scroll = element(h("div", { class: "table-scroll low", tabindex: "0", role: "region", "aria-label": "Events of the topic" },
    h("table", {}, h("caption", { class: "visually-hidden" }, "Events of the topic, newest first"),
      h("thead", {}, h("tr", {}, ["Time", "Topic", "Type", "Data"].map((name) => h("th", { scope: "col" }, name)))))));
  scroll.firstChild.append(history.table.body);
  const end = element(h("div", {}));
  scroll.append(end);

  function view() {
    const may = rights.value?.topic ?? {};
    const isLive = history.isLive && app.connection.state === "live";
    draw(end,
      history.error ? h("p", { class: "notice bad", role: "alert" }, history.error.message) : !history.table.body.rows.length && h("p", { class: "empty" }, history.isReading ? "Reading…" : "Nothing is kept here."),
      history.older && button("Older", () => history.read({ before: history.older }), { key: "older", disabled: history.isReading }),
      history.newer && button("Newer", () => history.read({ since: history.newer }), { key: "newer", disabled: history.isReading }));
    return [
      heading(topic,
        h("span", { class: "spacer" }),
        button("Watch", () => app.watch(topic), { class: "button" }),
        may.forget && h("button", { type: "button", class: "button danger", id: "forget", onclick: forget }, "Forget…")),
      crumbs(topic),
      h("div", { class: "columns" },
        h("section", { class: "panel", "aria-labelledby": "latest" }, h("h2", { id: "latest" }, "Current value"),
          summary.draw("to see this topic", (value) => latest(value, isRaw, () => { isRaw = !isRaw; app.changed(); }))),
        h("section", { class: "panel", "aria-labelledby": "rule" }, h("h2", { id: "rule" }, "What decides"),
          app.isAdmin ? rule.draw("to see rules", decides) : h("p", { class: "quiet" }, "Rules are shown to operators."),
          rights.value && h("p", { class: "rights" }, "This credential ", [["subscribe", may.subscribe], ["publish", may.publish], ["forget", may.forget]].map(([name, is]) => h("span", { class: `state ${is ? "good" : "bad"}` }, ` ${is ? "may" : "may not"} ${name}`)).flatMap((each, at) => at ? [",", each] : each))),
        h("section", { class: "panel flush wide events", "aria-labelledby": "history" },
          h("div", { class: "toolbar" },
            h("h2", { id: "history" }, "History"),
            h("span", { class: `state ${isLive ? "good" : ""}` }, isLive ? "live" : history.isLive ? "waiting" : "from a place"),
            h("span", { class: "spacer" }),
            h("form", { class: "row", onsubmit: (submit) => { submit.preventDefault(); history.goTo(from ? { since: from } : NOW); } },
              h("label", { class: "visually-hidden", for: "from" }, "From a moment, as long ago, or a cursor"),
              h("input", { id: "from", class: "mono", type: "text", placeholder: "-15m, a moment or a cursor", autocomplete: "off", spellcheck: "false", oninput: ({ target }) => { from = target.value.trim(); } }),
              h("button", { type: "submit", class: "button" }, "Go")),
            !history.isLive && button("Back to now", () => history.goTo(), { key: "now", class: "button" }),
            button("Download", download, { key: "download", class: "button", title: "As NDJSON" })),
          h("div", { class: "host", mount: (node) => node.append(scroll) })),
        may.publish && h("section", { class: "panel", "aria-labelledby": "publish-heading" }, h("h2", { id: "publish-heading" }, "Publish"), publishing.view()),
        h("section", { class: "panel", "aria-labelledby": "members" }, h("h2", { id: "members" }, "Members"), present(app, members, rule))),
    ];
  }

  return { title: topic, view, pressed: (key) => key === "r" && (summary.again(), members.again(), true), close: () => { [summary, rights, rule, members, history].forEach((each) => each.close()); undos.forEach((undo) => undo()); } };
}

/** The way to it. */
function crumbs(topic) {
  const segments = topic.split(".");
  return h("nav", { class: "crumbs mono", "aria-label": "Where it stands" }, h("a", { href: "#/topics" }, "topics"), segments.map((segment, at) => {
    const here = segments.slice(0, at + 1).join(".");
    return [" . ", at < segments.length - 1 ? h("a", { href: `#/topics/${encodeURIComponent(here)}` }, segment) : h("span", {}, segment)];
  }));
}

function latest({ latest: event, raw, retained, subscribers, superseded, silent_nodes: silent }, isRaw, toggle) {
  return [
    silence(silent),
    h("dl", { class: "facts" },
      h("dt", {}, "Subscribers"), h("dd", {}, count(subscribers)),
      h("dt", {}, "Events kept"), h("dd", {}, count(retained)),
      superseded > 0 && [h("dt", {}, "Superseded"), h("dd", { class: "state warn" }, `${count(superseded)} were not stored, for a newer version stands here: a publisher has lost its count, or is late`)],
      event && [
        h("dt", {}, "Said"), h("dd", {}, time(event.time)),
        event.type && [h("dt", {}, "Type"), h("dd", { class: "mono" }, event.type)],
        event.version !== undefined && [h("dt", {}, "Version"), h("dd", {}, `${event.version}${event.epoch ? ` of ${event.epoch}` : ""}`)],
        event.expires && [h("dt", {}, "Expires"), h("dd", {}, time(event.expires))],
        event.from && [h("dt", {}, "From"), h("dd", { class: "mono" }, event.from.user ?? event.from.session)],
        event.id && [h("dt", {}, "Cursor"), h("dd", { class: "mono" }, event.id)],
      ]),
    event ? h("div", { class: "value-box" },
      button(isRaw ? "In lines" : "As it came", toggle),
      isRaw ? h("p", { class: "mono" }, shortened(raw)) : h("pre", { class: "mono", tabindex: "0", role: "region", "aria-label": "The current value" }, pretty(raw)))
      : h("p", { class: "empty small" }, retained ? "It was removed: there is no current value." : "Nothing is kept of it."),
  ];
}

function decides(rule) {
  const { origin, number, match, passed } = rule;
  const why = { listed: `The ${ordinal(number)} rule of [[topics]] is the first that matches.`, default: passed.length ? "No rule of [[topics]] matches, so [history] and the defaults decide." : "There are no rules in [[topics]]: [history] and the defaults decide.", broker: "It is the broker's own topic, and no rule matches." }[origin];
  return [
    h("p", { class: "why" }, origin === "listed" && h("code", { class: "rule-match" }, match), " ", why),
    passed.length > 0 && h("p", { class: "hint" }, "Before it, and not matching: ", passed.map((pattern, at) => [at > 0 && ", ", h("code", {}, pattern)])),
    h("dl", { class: "facts" },
      h("dt", {}, "Subscribe"), h("dd", {}, WHO[rule.subscribe]),
      h("dt", {}, "Publish"), h("dd", {}, WHO[rule.publish]),
      h("dt", {}, "Kept"), h("dd", {}, rule.history === "none" ? "nowhere: events are delivered alone" : `on ${rule.history}: ${many(rule.max_events, "event")}, ${bytes(rule.max_bytes)}${rule.max_age_ms === undefined ? "" : `, ${duration(rule.max_age_ms)}`}${rule.keep_newest ? "; the newest stays" : ""}`),
      h("dt", {}, "Presence"), h("dd", {}, rule.presence ? "one may ask who is subscribed" : "off")),
  ];
}

const ordinal = (number) => `${number}${number % 10 === 1 && number % 100 !== 11 ? "st" : number % 10 === 2 && number % 100 !== 12 ? "nd" : number % 10 === 3 && number % 100 !== 13 ? "rd" : "th"}`;

function present(app, members, rule) {
  const isOff = rule.value?.presence === false || members.error?.status === 404;
  if (isOff) return h("p", { class: "quiet" }, "Presence is off for this topic: a rule of [[topics]] with ", h("code", {}, "presence = true"), " turns it on.");
  return members.draw("to see who is here", ({ members: all, next, silent_nodes: silent }) => [
    silence(silent),
    !all.length ? h("p", { class: "empty small" }, "Nobody is subscribed.") : h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Members of the topic" }, h("table", {},
      h("caption", { class: next ? "" : "visually-hidden" }, next ? `The first ${all.length}` : "Who is subscribed"),
      h("thead", {}, h("tr", {}, ["User", "Session", "Since", "Over", "Node"].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, all.map(({ user, info, session, since, transport, node }) => h("tr", { key: session },
        h("th", { scope: "row" }, typeof info?.name === "string" ? `${info.name} (${user})` : user ?? "–"),
        h("td", { class: "mono" }, app.isAdmin ? h("a", { href: `#/sessions/${encodeURIComponent(session)}` }, session.slice(0, 8), "…") : `${session.slice(0, 8)}…`),
        h("td", {}, time(since)), h("td", {}, transport), h("td", { class: "mono" }, node)))))),
  ]);
}

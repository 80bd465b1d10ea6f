// The tree of topics, a page of each branch at a time; and one topic, where its name is given.

import { h } from "./dom.js";
import { button, heading, Reading, refusal, silence, time } from "./parts.js";
import { open as openTopic } from "./topic.js";
import { count, many } from "./words.js";

const PAGE = 100;
/** The most lines that are drawn: with more, what is open first is closed. */
const MAX_LINES = 1_000;
const TYPING_MS = 250;
const EVERY_MS = 10_000;

/** What stands below a topic: the pages that were read of it, and which of it is open. */
class Branch {
  branches = [];
  next;
  silent = 0;
  isReading = false;
  error;
  open = new Map();

  constructor(app, under, find = "") {
    Object.assign(this, { app, under, find });
    this.read();
  }

  /** Reads the first page, or the one behind those that are there. */
  async read(after) {
    const query = new URLSearchParams({ limit: PAGE, ...(this.under && { under: this.under }), ...(this.find && { find: this.find }), ...(after && { after }) });
    this.isReading = true;
    this.app.changed();
    try {
      const { branches, next, silent_nodes: silent = 0 } = await this.app.ask(`v1/topic-tree?${query}`);
      // A page may begin where the one before has ended.
      const known = new Set(after ? this.branches.map(({ topic }) => topic) : []);
      this.branches = [...(after ? this.branches : []), ...branches.filter(({ topic }) => !known.has(topic))];
      Object.assign(this, { next, silent, error: undefined });
    } catch (error) {
      this.error = error;
    }
    this.isReading = false;
    this.app.changed();
  }

  toggle(topic) {
    if (!this.open.delete(topic)) this.open.set(topic, new Branch(this.app, topic));
    this.app.changed();
  }

  /** Reads all that is open again. */
  async again() {
    if (this.branches.length <= PAGE) await this.read();
    for (const branch of this.open.values()) await branch.again();
  }

  lines() {
    let lines = this.branches.length;
    for (const [topic, branch] of this.open) if (this.branches.some((each) => each.topic === topic)) lines += branch.lines();
    return lines;
  }
}

export function open(app, topic, event) {
  return topic ? openTopic(app, topic, event) : openTree(app);
}

/** Of a pattern, all topics in one list. */
const isPattern = (text) => /[*>.]/.test(text);

function openTree(app) {
  let find = "", showsOwn = false, typing;
  let root = new Branch(app);
  let own = [];
  let list;

  const look = () => {
    list?.close();
    list = undefined;
    if (isPattern(find)) {
      const pattern = find.includes("*") || find.includes(">") ? find : `${find.replace(/\.$/, "")}.>`;
      list = new Reading(app, () => `v1/topics?${new URLSearchParams({ match: pattern, limit: PAGE })}`);
    } else {
      root = new Branch(app, undefined, find);
    }
    app.changed();
  };
  const again = () => list ? list.again() : [root, ...own].forEach((branch) => branch.again());
  const undos = [app.on("caller", again), app.on("live", again)];
  const timer = setInterval(() => { if (document.visibilityState === "visible" && !list && !root.isReading && root.lines() <= PAGE) again(); }, EVERY_MS);

  function view() {
    const lines = root.lines();
    return [
      heading("Topics", h("span", { class: "spacer" }), h("form", { class: "row", role: "search", onsubmit: (submit) => { submit.preventDefault(); if (find && !/[*>]/.test(find)) app.go("topics", find); } },
        h("label", { class: "visually-hidden", for: "find" }, "Filter the segments, or list the topics of a pattern"),
        h("input", { id: "find", type: "search", class: "mono", "data-filter": true, placeholder: "Filter, or orders.*", autocomplete: "off", autocapitalize: "off", spellcheck: "false", oninput: ({ target }) => { find = target.value.trim(); clearTimeout(typing); typing = setTimeout(look, TYPING_MS); } }),
        h("label", { class: "check" }, h("input", { type: "checkbox", id: "own", onchange: ({ target }) => { showsOwn = target.checked; own = showsOwn ? ["$sys", "$presence"].map((under) => new Branch(app, under)) : []; app.changed(); } }), " The broker's own"),
        button("Read again", again, { class: "button" }))),
      lines > MAX_LINES && h("p", { class: "notice warn", role: "status" }, `More than ${count(MAX_LINES)} lines are open: close some, or filter.`),
      list ? list.draw("to list these topics", ({ topics, next, silent_nodes: silent }) => [silence(silent), flat(topics, next)])
        : [silence(root.silent), h("div", { class: "panel flush tree" }, head(), tree(app, root, { left: MAX_LINES }), own.map((branch) => h("div", { key: branch.under }, h("p", { class: "tree-root mono" }, branch.under), tree(app, branch, { left: MAX_LINES }))))],
    ];
  }

  return { title: "Topics", view, pressed: (key) => key === "r" && (again(), true), close: () => { clearInterval(timer); clearTimeout(typing); list?.close(); undos.forEach((undo) => undo()); } };
}

const head = () => h("div", { class: "branch branch-head", "aria-hidden": "true" }, h("span", {}, "Segment"), h("span", { class: "number" }, "Topics"), h("span", { class: "number" }, "Events kept"), h("span", {}, "Newest"));

/** The lines of a branch and of what is open in it; `budget.left` is how many may be drawn yet. */
function tree(app, branch, budget) {
  const { branches, next, error, isReading, open: opened } = branch;
  if (error) return refusal(app, error, branch.under ? `to see what is below ${branch.under}` : "to see topics");
  if (!branches.length) {
    return h("p", { class: "empty" }, isReading ? "Reading…" : branch.find ? "No segment holds this text." : branch.under ? "Nothing is below it." : "There are no topics yet. ", !isReading && !branch.find && !branch.under && h("a", { href: "#/events" }, "Publish the first event"));
  }
  const items = [];
  for (const each of branches) {
    if (budget.left-- <= 0) break;
    const below = opened.get(each.topic);
    const hasBelow = each.topics > (each.is_topic ? 1 : 0);
    items.push(h("li", { key: each.topic },
      h("div", { class: "branch" },
        h("span", { class: "segment mono" },
          hasBelow ? h("button", { type: "button", class: "twist", "aria-expanded": `${Boolean(below)}`, "aria-label": `What is below ${each.topic}`, onclick: () => branch.toggle(each.topic) }, below ? "▾" : "▸") : h("span", { class: "twist" }),
          each.is_topic ? h("a", { href: `#/topics/${encodeURIComponent(each.topic)}` }, each.segment) : h("span", {}, each.segment),
          hasBelow && h("span", { class: "quiet" }, ".")),
        h("span", { class: "number" }, h("span", { class: "visually-hidden" }, "topics: "), count(each.topics), each.more && "+"),
        h("span", { class: "number" }, h("span", { class: "visually-hidden" }, "events kept: "), count(each.retained), each.more && "+"),
        h("span", { class: "when" }, time(each.latest_time))),
      below && tree(app, below, budget)));
  }
  return h("ul", { class: branch.under && !branch.under.startsWith("$") ? "below" : "" }, items,
    next && budget.left > 0 && h("li", { key: "…more" }, button(isReading ? "Reading…" : "More", () => branch.read(next), { class: "button small more", disabled: isReading, "aria-label": branch.under ? `More below ${branch.under}` : "More segments" })));
}

function flat(topics, next) {
  if (!topics.length) return h("p", { class: "empty" }, "No topic matches.");
  return h("div", { class: "panel flush" }, h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Topics that match" }, h("table", {},
    h("caption", {}, next ? `The first ${topics.length} that match: narrow the pattern to see others` : `${many(topics.length, "topic")}`),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Topic"), h("th", { scope: "col", class: "number" }, "Subscribers"), h("th", { scope: "col", class: "number" }, "Events kept"), h("th", { scope: "col" }, "Newest"))),
    h("tbody", {}, topics.map(({ topic, subscribers, retained, latest_time: newest }) => h("tr", { key: topic },
      h("th", { scope: "row", class: "mono" }, h("a", { href: `#/topics/${encodeURIComponent(topic)}` }, topic)),
      h("td", { class: "number" }, count(subscribers)), h("td", { class: "number" }, count(retained)), h("td", {}, time(newest))))))));
}

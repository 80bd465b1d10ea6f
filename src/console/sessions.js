// Who is connected, for whom most waits first: read again every two seconds, as `top` does.

import { h } from "./dom.js";
import { button, heading, Reading, silence, time } from "./parts.js";
import { bytes, count, duration, many } from "./words.js";

const PAGE = 100;
const EVERY_MS = 2_000;
const TYPING_MS = 300;

/** What there is to see of a session; those with `sort` are sorted by the broker, over all pages. */
const COLUMNS = [
  { name: "Session" },
  { name: "User", sort: "user" },
  { name: "Address", sort: "address" },
  { name: "Over" },
  { name: "Node" },
  { name: "Since", sort: "since" },
  { name: "Patterns", isNumber: true },
  { name: "Waiting", sort: "queued_bytes", isNumber: true },
  { name: "Behind", isNumber: true },
  { name: "Left out", isNumber: true },
];

export function open(app, chosen) {
  let sort = "queued_bytes", user = "", isPaused = false, typing;
  let places = [""];
  const path = () => `v1/sessions?${new URLSearchParams({ limit: PAGE, ...(sort && { sort }), ...(user && { user }), ...(places.at(-1) && { after: places.at(-1) }) })}`;
  const list = new Reading(app, () => isPaused ? undefined : path(), { every: EVERY_MS });
  const revocations = new Reading(app, () => "v1/revocations", { every: 10 * EVERY_MS });

  const restart = () => {
    places = [""];
    list.again();
  };
  const pause = () => {
    isPaused = !isPaused;
    if (!isPaused) list.again();
    app.changed();
  };
  const choose = (session) => {
    chosen = chosen === session ? undefined : session;
    app.changed();
  };
  const done = () => { list.again(); revocations.again(); };

  function view() {
    return [
      heading("Sessions", h("span", { class: "spacer" }),
        h("div", { class: "row" },
          h("label", { class: "visually-hidden", for: "user" }, "Only sessions of this user"),
          h("input", { id: "user", class: "mono", type: "search", "data-filter": true, placeholder: "User", autocomplete: "off", spellcheck: "false", oninput: ({ target }) => { user = target.value.trim(); clearTimeout(typing); typing = setTimeout(restart, TYPING_MS); } }),
          h("button", { type: "button", class: "button", "aria-pressed": `${isPaused}`, onclick: pause }, isPaused ? "Resume" : "Pause"),
          user && app.isAdmin && h("button", { type: "button", class: "button danger", onclick: () => endUser(app, user, done) }, "End all…"))),
      list.draw("to see sessions", (page) => [
        silence(page.silent_nodes),
        !page.sessions.length ? h("p", { class: "empty" }, user ? `No session is ${user}'s.` : "Nobody is connected but those who look.")
          : h("div", { class: "panel flush" }, table(app, page, { sort, chosen, choose, done, by: (name) => { sort = name; restart(); } })),
        h("div", { class: "row under" },
          places.length > 1 && button("Back", () => { places.pop(); list.again(); }, { key: "back", class: "button" }),
          page.next && button("Next", () => { places.push(page.next); list.again(); }, { key: "next", class: "button" }),
          h("span", { class: "quiet" }, places.length > 1 || page.next ? `Page ${places.length}, ${PAGE} each` : many(page.sessions.length, "session")), isPaused && h("span", { class: "state warn" }, "paused")),
        chosen && !page.sessions.some(({ session }) => session === chosen) && h("p", { class: "notice" }, "Session ", h("code", {}, chosen.slice(0, 8), "…"), " is not on this page, or has ended."),
        revoked(revocations),
      ]),
    ];
  }

  return { title: "Sessions", view, pressed: (key) => key === "p" ? (pause(), true) : key === "r" && (list.again(), true), close: () => { clearTimeout(typing); list.close(); revocations.close(); } };
}

function table(app, { sessions }, { sort, chosen, choose, done, by }) {
  const headings = COLUMNS.map(({ name, sort: own, isNumber }) => h("th", { scope: "col", class: isNumber ? "number" : "", "aria-sort": own && own === sort ? (own === "queued_bytes" ? "descending" : "ascending") : undefined },
    own ? h("button", { type: "button", class: "sort", onclick: () => by(own === sort ? undefined : own) }, name, own === sort && (own === "queued_bytes" ? " ▾" : " ▴")) : name));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of sessions" }, h("table", { class: "rows" },
    h("caption", { class: "visually-hidden" }, "Connected sessions"),
    h("thead", {}, h("tr", {}, headings)),
    h("tbody", {}, sessions.flatMap((each) => [row(each, chosen, choose), each.session === chosen && detail(app, each, done)]))));
}

function row({ session, user, address, transport, node, since, subscriptions, queued_bytes: queued, lag_ms: lag, skipped }, chosen, choose) {
  return h("tr", { key: session, class: lag >= 2000 ? "warn" : "", "data-session": session },
    h("th", { scope: "row", class: "mono" }, h("button", { type: "button", class: "plain", "aria-expanded": `${session === chosen}`, title: session, onclick: () => choose(session) }, session === chosen ? "▾ " : "▸ ", session.slice(0, 8), "…")),
    h("td", {}, user ?? "–"), h("td", { class: "mono" }, address ?? "–"), h("td", {}, transport), h("td", { class: "mono" }, node ?? "–"), h("td", {}, time(since)),
    h("td", { class: "number" }, count(subscriptions.length)), h("td", { class: "number" }, bytes(queued)), h("td", { class: "number" }, duration(lag)), h("td", { class: "number" }, count(skipped)));
}

function detail(app, { session, user, token, subscriptions }, done) {
  const revoke = (body, title, text, name) => act(app, { title, text, name, action: "Revoke" }, `revoked ${title.slice(7)}`, async () => {
    const { ended, silent_nodes: silent = 0 } = await app.ask("v1/revocations", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
    return `${many(ended, "session")} ended on all nodes${silent ? ` but ${silent} that did not answer, and there as soon as they hear of it` : ""}; it lasts for auth.revocation_window`;
  }, done);
  return h("tr", { key: `${session} detail`, class: "detail" }, h("td", { colspan: COLUMNS.length },
    h("dl", { class: "facts" },
      h("dt", {}, "Session"), h("dd", { class: "mono" }, session),
      token && [h("dt", {}, "Token"), h("dd", { class: "mono" }, token)],
      h("dt", {}, "Patterns"), h("dd", { class: "mono" }, subscriptions.length ? subscriptions.slice(0, 100).map((pattern) => h("div", { key: pattern }, pattern)) : "none", subscriptions.length > 100 && h("div", {}, `and ${subscriptions.length - 100} more`))),
    h("div", { class: "row wrap" },
      h("button", { type: "button", class: "button danger", "data-act": "end", onclick: () => act(app, { title: "End the session", text: "Its client is told that it is over (4410), and does not come back by itself. This does not keep anybody from connecting again.", name: session.slice(0, 8), action: "End it" }, `ended session ${session.slice(0, 8)}…`, async () => {
        await app.ask(`v1/sessions/${encodeURIComponent(session)}`, { method: "DELETE" });
        return "on its node; it may connect again";
      }, done) }, "End…"),
      token && h("button", { type: "button", class: "button danger", key: "token", "data-act": "revoke-token", onclick: () => revoke({ token }, "Revoke this token", "The token is refused from here on, on every node, and all sessions that came in with it are ended.", session.slice(0, 8)) }, "Revoke the token…"),
      user && h("button", { type: "button", class: "button danger", key: "user", "data-act": "revoke-user", onclick: () => revoke({ user }, `Revoke all tokens of ${user}`, "All tokens that were issued to this user up to now are refused, on every node, and the sessions that came in with them are ended. Newer ones are accepted.", user) }, `Revoke all of ${user}'s…`))));
}

/** Asks for the name, and does it. */
async function act(app, question, what, deed, done) {
  if (!await app.askForName(question)) return;
  await app.act(what, deed).catch(() => {});
  done();
}

function endUser(app, user, done) {
  return act(app, { title: `End all sessions of ${user}`, text: "Their clients are told that it is over. This does not keep anybody from connecting again.", name: user, action: "End them" }, `ended all sessions of ${user}`, async () => {
    const { ended } = await app.ask(`v1/users/${encodeURIComponent(user)}/sessions`, { method: "DELETE" });
    return `${many(ended, "session")} on all nodes; they may connect again`;
  }, done);
}

function revoked(revocations) {
  const all = revocations.value?.revocations ?? [];
  if (!all.length) return null;
  return h("details", { class: "panel under" }, h("summary", {}, `${many(all.length, "revocation")} in force`),
    h("ul", { class: "lines" }, all.slice(0, 100).map(({ user, token, at }) => h("li", { key: `${user}${token}` }, time(at), h("span", {}, user ? "all tokens of " : "token ", h("code", {}, user ?? token))))));
}

// A token explained: who it is, until when, what it may do here, and why not. It goes to this broker and nowhere else.

import { h } from "./dom.js";
import { heading, refusal, time } from "./parts.js";

export function open(app) {
  let token = "", answer, error, isAsking = false;

  const explain = async (submit) => {
    submit.preventDefault();
    if (!token) return document.getElementById("explained").focus();
    isAsking = true;
    app.changed();
    try {
      answer = await app.ask("v1/tokens/explain", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ token }) });
      error = undefined;
    } catch (refused) {
      [answer, error] = [undefined, refused];
    }
    isAsking = false;
    app.changed();
  };

  function view() {
    return [
      heading("Explain a token"),
      app.forbidden ? refusal(app, app.forbidden, "to have a token explained") : h("form", { class: "panel", onsubmit: explain },
        h("div", { class: "field" },
          h("label", { for: "explained" }, "A token or an API key"),
          h("textarea", { id: "explained", class: "mono", rows: 4, "data-filter": true, autocomplete: "off", spellcheck: "false", "aria-describedby": "explained-help", oninput: ({ target }) => { token = target.value.trim(); } })),
        h("p", { class: "hint", id: "explained-help" }, "It is sent to this broker alone, and kept nowhere. ", h("code", {}, "fanfare token explain"), " does the same in a terminal."),
        h("div", { class: "row under" }, h("button", { type: "submit", class: "button primary", disabled: isAsking }, "Explain"))),
      error && refusal(app, error, "to have a token explained"),
      answer && h("div", { "aria-live": "polite" }, explained(answer)),
    ];
  }

  return { title: "Explain a token", view, close: () => { token = ""; } };
}

function explained({ valid, open, detail, header, claims, caller }) {
  const moment = (seconds) => typeof seconds === "number" ? time(new Date(seconds * 1000).toISOString()) : undefined;
  const patterns = (all) => all.length ? all.map((pattern) => h("code", { key: pattern, class: "pattern" }, pattern)) : "nothing";
  const facts = (all) => h("dl", { class: "facts" }, all.filter(([, value]) => value !== undefined).map(([term, value]) => [h("dt", {}, term), h("dd", {}, value)]));
  return [
    h("section", { class: `verdict ${open ? "warn" : valid ? "good" : "bad"}`, id: "verdict", "aria-label": "Verdict" },
      h("p", { class: "verdict-word" }, open ? "Not looked at" : valid ? "It is taken" : "It is refused"),
      h("p", {}, open ? "This broker is open: no credentials are configured, so that everyone has every right, whatever they show." : valid ? whose(caller) : detail)),
    h("div", { class: "columns" },
      valid && !open && h("section", { class: "panel", "aria-labelledby": "may" }, h("h2", { id: "may" }, "What it may do here"), facts([
        ["Subscribe", patterns(caller.subscribe)], ["Publish", patterns(caller.publish)],
        ["Its own", caller.own.length ? patterns(caller.own) : undefined],
        ["Not its own", caller.not_own ? h("span", { class: "state warn" }, "none of ", caller.not_own.join(", "), ": its sub is not one plain segment of a topic") : undefined],
        ["Operate", caller.admin ? "yes: sessions, revocations, forgetting, numbers" : "no"],
        ["Until", caller.expires ? time(caller.expires) : "for as long as the key is configured"],
      ])),
      claims && h("section", { class: "panel", "aria-labelledby": "says" }, h("h2", { id: "says" }, "What it says"),
        !valid && h("p", { class: "notice warn" }, "It is not valid: anybody may have written this."),
        facts([["Algorithm", header?.alg], ["Key", header?.kid], ["Whose", claims.sub], ["Made", moment(claims.iat)], ["Valid from", moment(claims.nbf)], ["Expires", moment(claims.exp)], ["Issuer", claims.iss], ["Audience", claims.aud === undefined ? undefined : [claims.aud].flat().join(", ")]]),
        h("pre", { class: "mono", tabindex: "0", role: "region", "aria-label": "The claims" }, JSON.stringify(claims, null, 2)))),
  ];
}

const whose = ({ kind, name, user }) => ({ user: `For the user ${user}.`, key: `As the API key ${name}.`, application: "As an API key with full rights.", anonymous: "As nobody." })[kind];

// What asks before something is done: who one is, and the name of what is to be destroyed.

import { draw, h } from "./dom.js";

/** Shows a dialog until it is closed; resolves with what it is closed with. */
function show(dialog, describe) {
  return new Promise((closed) => {
    const again = () => draw(dialog, describe(again));
    draw(dialog);
    again();
    dialog.returnValue = "";
    dialog.onclose = () => closed(dialog.returnValue);
    dialog.showModal();
  });
}

const heading = (text) => h("h2", { id: "dialog-heading" }, text);

/** Asks for a credential. */
export function signIn(dialog, app) {
  let error = "", isAsking = false, token = "";
  const use = async (again) => {
    [isAsking, error] = [true, ""];
    again();
    await app.authenticate(token.trim());
    [isAsking, error] = [false, app.callerError?.message ?? ""];
    if (!error) dialog.close("done");
    else again();
  };
  return show(dialog, (again) => h("form", { onsubmit: (submit) => { submit.preventDefault(); use(again); } },
    heading("Sign in"),
    h("div", { class: "field" },
      h("label", { for: "token" }, "Token or API key"),
      h("input", { id: "token", class: "mono", type: "password", autocomplete: "off", spellcheck: "false", autofocus: true, "aria-describedby": "token-help token-error", oninput: ({ target }) => { token = target.value; } })),
    h("p", { class: "hint", id: "token-help" }, "It is kept in this page's memory, and forgotten with it. What it may not do is not offered."),
    h("p", { class: "error", id: "token-error", role: "alert" }, error),
    h("div", { class: "row end" },
      h("button", { type: "button", class: "button", onclick: () => dialog.close() }, "Cancel"),
      h("button", { type: "submit", class: "button primary", id: "token-apply", disabled: isAsking }, "Use"))));
}

/**
 * Asks for the name of what is to be destroyed: `{title, text, name, action}`. Resolves with whether it was given.
 */
export async function askForName(dialog, { title, text, name, action }) {
  let typed = "";
  const said = await show(dialog, (again) => h("form", { onsubmit: (submit) => { submit.preventDefault(); if (typed.trim() === name) dialog.close("yes"); } },
    heading(title),
    h("p", {}, text),
    h("div", { class: "field" },
      h("label", { for: "name" }, "To go on, type ", h("code", {}, name)),
      h("input", { id: "name", class: "mono", type: "text", autocomplete: "off", spellcheck: "false", autocapitalize: "off", autofocus: true, oninput: ({ target }) => { typed = target.value; again(); } })),
    h("div", { class: "row end" },
      h("button", { type: "button", class: "button", onclick: () => dialog.close() }, "Cancel"),
      h("button", { type: "submit", class: "button danger", id: "go-on", disabled: typed.trim() !== name }, action))));
  return said === "yes";
}

const KEYS = [
  ["g o", "Overview"], ["g t", "Topics"], ["g s", "Sessions"], ["g n", "Nodes"], ["g e", "Events"], ["g w", "Webhooks"], ["g k", "Tokens"], ["g c", "Settings"],
  ["/", "to the filter of the screen"], ["p", "pause, and go on"], ["r", "read again"], ["?", "these keys"], ["Esc", "close what is open"],
];

export function showHelp(dialog) {
  return show(dialog, () => h("form", { method: "dialog" },
    heading("Keys"),
    h("dl", { class: "keys" }, KEYS.map(([key, what]) => h("div", {}, h("dt", {}, key.split(" ").map((each) => h("kbd", {}, each))), h("dd", {}, what)))),
    h("div", { class: "row end" }, h("button", { class: "button", autofocus: true }, "Close"))));
}

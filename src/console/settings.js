// The configuration in force, with where each value comes from. Secrets are not in what the broker answers.

import { h } from "./dom.js";
import { heading, Reading, time } from "./parts.js";

export function open(app) {
  const settings = new Reading(app, () => "v1/settings");
  let filter = "", onlyChanged = false;

  function view() {
    return [
      heading("Settings", h("span", { class: "spacer" }), h("div", { class: "row" },
        h("label", { class: "visually-hidden", for: "setting" }, "Filter the settings"),
        h("input", { id: "setting", type: "search", "data-filter": true, placeholder: "Filter", autocomplete: "off", spellcheck: "false", oninput: ({ target }) => { filter = target.value.trim().toLowerCase(); app.changed(); } }),
        h("label", { class: "check" }, h("input", { type: "checkbox", onchange: ({ target }) => { onlyChanged = target.checked; app.changed(); } }), " Other than the default"))),
      settings.draw("to see the configuration", (value) => shown(value, filter, onlyChanged)),
    ];
  }

  return { title: "Settings", view, pressed: (key) => key === "r" && (settings.again(), true), close: () => settings.close() };
}

function shown({ settings, warnings, since, needs_restart: waiting }, filter, onlyChanged) {
  const wanted = settings.filter(({ key, value, origin }) => (!onlyChanged || origin) && `${key} ${value ?? ""}`.toLowerCase().includes(filter));
  const sections = Map.groupBy(wanted, ({ key }) => key.split(".")[0]);
  return [
    waiting?.length > 0 && h("div", { class: "notice warn", role: "status" }, "Changed since the start, and in force with the next one: ", waiting.join(", ")),
    warnings.map((warning) => h("p", { class: "notice warn", key: warning }, warning)),
    h("p", { class: "quiet" }, "Read ", time(since), ". What is blotted out is a secret, which the broker tells nobody."),
    !wanted.length && h("p", { class: "empty" }, "No setting matches."),
    [...sections].map(([section, all]) => h("section", { class: "panel flush under", key: section, "aria-labelledby": `of-${section}` },
      h("h2", { id: `of-${section}`, class: "mono" }, `[${section}]`),
      h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Table of ${section}` }, h("table", { class: "settings" },
        h("caption", { class: "visually-hidden" }, `Settings of ${section}`),
        h("thead", {}, h("tr", {}, ["Setting", "Value", "From"].map((name) => h("th", { scope: "col" }, name)))),
        h("tbody", {}, all.map(({ key, value, origin, about }) => h("tr", { key, class: origin ? "changed" : "" },
          h("th", { scope: "row", class: "mono", title: about }, key.slice(section.length + 1) || key),
          h("td", { class: "mono" }, value ?? h("span", { class: "quiet" }, "not set")),
          h("td", { class: origin ? "" : "quiet" }, origin ?? "default")))))))),
  ];
}

// Lines over the last 15 minutes. Drawn as SVG, so that they have the colours of the page and are sharp on paper too.
//
// All charts of a page show the same moment where one points at any of them. What they show can be read without that: the newest values
// stand above them, and `table` has them all.

import { h } from "./dom.js";
import { button } from "./parts.js";
import { timeOfDay } from "./words.js";

const HEIGHT = 100;

/** How the charts of a page are looked at: the moment that is pointed at, as a place among the points, and whether all that they show is in a table too. */
export class Pointer {
  place = null;
  isTable = false;

  constructor(changed) {
    this.changed = changed;
  }

  follow = (move) => {
    const { left, width } = move.currentTarget.getBoundingClientRect();
    this.#set(Math.min(1, Math.max(0, (move.clientX - left) / width)));
  };

  leave = () => this.#set(null);

  toggle = () => {
    this.isTable = !this.isTable;
    this.changed();
  };

  #set(place) {
    if (place === this.place) return;
    this.place = place;
    this.changed();
  }
}

/** A round number at or above one, for the top of a chart. */
function ceiling(most) {
  if (!(most > 0)) return 1;
  const unit = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 5, 10].find((step) => step * unit >= most) * unit;
}

/** A line through the points, broken where there are none. */
function path(points, top) {
  let line = "", isDown = false;
  points.forEach((value, at) => {
    if (value === undefined) isDown = false;
    else {
      line += `${isDown ? "L" : "M"}${at} ${(HEIGHT - (HEIGHT * value) / top).toFixed(1)}`;
      // A point by itself is a line too.
      if (!isDown) line += "h.1";
      isDown = true;
    }
  });
  return line;
}

/** The newest that is known: a node may not have said anything in a second that has just begun. */
const newest = (points) => points.at(-1) ?? points.at(-2);

/**
 * A chart of `lines`, each `{name, points, tone}`; `end` is the moment of the last point and `step` the milliseconds between two.
 */
function chart({ name, lines, end, step = 1000, show, pointer }) {
  const length = lines[0].points.length;
  const known = lines.flatMap(({ points }) => points.filter((value) => value !== undefined));
  const top = ceiling(known.length ? Math.max(...known) : 0);
  const at = pointer?.place === null || !pointer ? null : Math.round(pointer.place * (length - 1));
  const moment = (place) => new Date(end - (length - 1 - place) * step);
  const said = (value) => lines.map(({ name: line, points }) => `${line} ${value(points) === undefined ? "–" : show(value(points))}`).join(", ");
  return h("figure", { class: "chart", role: "img", "aria-label": `${name}, the last ${Math.round((length * step) / 60_000)} minutes: now ${said(newest)}, at most ${show(known.length ? Math.max(...known) : 0)}` },
    h("svg", { viewBox: `0 0 ${length} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true", onpointermove: pointer?.follow, onpointerleave: pointer?.leave },
      [0.5].map((part) => h("path", { class: "rule", d: `M0 ${HEIGHT * part}H${length}` })),
      lines.map(({ points, tone = "" }) => h("path", { class: `line ${tone}`, d: path(points, top) })),
      at !== null && h("path", { class: "pointer", d: `M${at} 0V${HEIGHT}` })),
    h("span", { class: "top", "aria-hidden": "true" }, show(top)),
    at !== null && h("span", { class: "said", "aria-hidden": "true" }, `${timeOfDay(moment(at)).slice(0, 8)}  ${said((points) => points[at])}`));
}

/** Charts, each with its newest values above it, and all as a table for who wants them so; `end` is the moment of the last point. */
export function tiles(charts, end, pointer) {
  const { isTable, toggle } = pointer;
  return [
    h("section", { class: "tiles wide", "aria-label": "Charts" }, charts.map((each) => tile(each, end, pointer))),
    h("p", { class: "under wide" }, button(isTable ? "Hide the table" : "Show as a table", toggle, { "aria-expanded": `${isTable}` })),
    isTable && table({ charts, end }),
  ];
}

function tile({ name, unit = "", show, lines }, end, pointer) {
  return h("div", { class: "tile", key: name },
    h("h2", {}, name),
    h("p", { class: "values" }, lines.map(({ name: line, points, tone = "" }) => h("span", { class: `value ${tone}` },
      h("b", {}, newest(points) === undefined ? "–" : show(newest(points)), unit), lines.length > 1 && h("span", { class: "quiet" }, ` ${line}`)))),
    chart({ name, lines, show: (value) => `${show(value)}${unit}`, end, pointer }));
}

/** The same as a table, a minute each. */
function table({ charts, end, step = 1000 }) {
  const length = charts[0].lines[0].points.length;
  const minute = 60_000 / step;
  const places = Array.from({ length: Math.floor(length / minute) }, (_, back) => length - 1 - back * minute);
  const lines = charts.flatMap(({ name, show, lines: of }) => of.map((line) => ({ ...line, name: of.length > 1 ? `${name}: ${line.name}` : name, show })));
  return h("div", { class: "scroll wide", tabindex: "0", role: "region", "aria-label": "The charts as a table" },
    h("table", {},
      h("caption", {}, "The last 15 minutes, the newest first"),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Time"), lines.map(({ name }) => h("th", { scope: "col", class: "number" }, name)))),
      h("tbody", {}, places.map((place) => h("tr", {},
        h("th", { scope: "row" }, timeOfDay(new Date(end - (length - 1 - place) * step)).slice(0, 8)),
        lines.map(({ points, show }) => h("td", { class: "number" }, points[place] === undefined ? "–" : show(points[place]))))))));
}

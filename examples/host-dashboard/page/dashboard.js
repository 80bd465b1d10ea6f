// Draws what machines publish to `host.{name}.{cpu|memory|network|disk}`.
//
// All that has to do with the broker is `follow`, and the client that it uses. All else is charts.
// A sample is drawn at the time it was taken, which it carries itself, not when it arrived, so
// what `readBack` finds of the minutes before the page was opened may come in any order with it.

import { Fanfare } from "./fanfare.js";

const WINDOW_MS = 120_000;
const FRAME_MS = 95;

const byId = (id) => document.getElementById(id);

// ---- The client -------------------------------------------------------------------------------

const WORDS = { idle: "Disconnected", connecting: "Connecting…", live: "Live", waiting: "Disconnected, trying again", closed: "Disconnected" };

/**
 * Follows a pattern for as long as the page is open: the newest value of each topic first, then
 * each event once, also those published while the connection was down.
 *
 * @param {{http: string, token?: string}} broker
 * @param {string} pattern
 * @param {object} on `event(event)`, `gap()`, `state(name, text)`, `error(text)`
 */
function follow(broker, pattern, on) {
  const fanfare = new Fanfare(broker.http, { token: broker.token });
  fanfare.on("state", ({ state, reason, trouble }) => {
    if (trouble) on.state("waiting", "Connected, but the broker is in trouble");
    else on.state(state, WORDS[state] ?? `Disconnected: ${reason.code}`);
  });
  fanfare.on("error", ({ code, message }) => on.error(`${code}: ${message}`));
  fanfare.subscribe(pattern, { snapshot: true, onGap: on.gap }, on.event);
}

/** Reads what the broker keeps of a topic from the time that the charts show. */
async function readBack(broker, topic, show) {
  const headers = broker.token ? { authorization: `Bearer ${broker.token}` } : {};
  const url = `${broker.http}/v1/topics/${encodeURIComponent(topic)}/events?since=-${WINDOW_MS / 1000}s&limit=1000`;
  const answer = await fetch(url, { headers });
  if (answer.ok) for (const event of (await answer.json()).events) show(event);
}

// ---- Numbers ----------------------------------------------------------------------------------

/** 1234567 → ["1.23", "MB"] */
function bytes(count) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let unit = 0;
  while (count >= 999.5 && unit < units.length - 1) {
    count /= 1000;
    unit += 1;
  }
  return [unit === 0 ? String(Math.round(count)) : count.toPrecision(3), units[unit]];
}

const rate = (count) => { const [figure, unit] = bytes(count); return [figure, `${unit}/s`]; };
const percent = (share) => [share.toFixed(1), "%"];
const joined = ([figure, unit]) => `${figure} ${unit}`;

/** The next of 1, 2, 5, 10, 20, 50… at or above `value`. */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);
}

// ---- Charts -----------------------------------------------------------------------------------

/** One canvas: lines over the last two minutes, moving to the left. */
class Chart {
  /** @param {object} scale `fixed` top of the axis, or the `least` it may be; `label(value)` */
  constructor(figure, scale) {
    this.figure = figure;
    this.canvas = figure.querySelector("canvas");
    this.scale = scale;
    /** `{at, sample, lines: [main, second?], faint: []}`, oldest first. */
    this.points = [];
    this.gaps = [];
  }

  /** Adds a point where its time belongs; one of the same time replaces it. */
  add(point) {
    let place = this.points.length;
    while (place > 0 && this.points[place - 1].at >= point.at) place -= 1;
    this.points.splice(place, this.points[place]?.at === point.at ? 1 : 0, point);
    const begin = this.points.at(-1).at - WINDOW_MS - 5_000;
    while (this.points[0].at < begin) this.points.shift();
    this.gaps = this.gaps.filter((at) => at >= begin);
    Object.assign(this.figure.dataset, {
      points: this.points.length, first: this.points[0].sample, last: this.points.at(-1).sample, latest: this.points.at(-1).at,
    });
  }

  addGap() {
    this.gaps.push(this.points.at(-1)?.at ?? Date.now());
    this.figure.dataset.gaps = this.gaps.length;
  }

  #top() {
    if (this.scale.fixed) return this.scale.fixed;
    return roundUp(Math.max(this.scale.least, ...this.points.flatMap(({ lines }) => lines)) * 1.05);
  }

  draw(now, colours) {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const density = window.devicePixelRatio || 1;
    if (this.canvas.width !== Math.round(width * density) || this.canvas.height !== Math.round(height * density)) {
      this.canvas.width = Math.round(width * density);
      this.canvas.height = Math.round(height * density);
    }
    const pen = this.canvas.getContext("2d");
    pen.setTransform(density, 0, 0, density, 0, 0);
    pen.clearRect(0, 0, width, height);

    const top = this.#top();
    const area = { left: 0, right: width, top: 16, bottom: height - 18 };
    const x = (at) => area.right - ((now - at) / WINDOW_MS) * (area.right - area.left);
    const y = (value) => area.bottom - Math.min(value / top, 1) * (area.bottom - area.top);

    this.#grid(pen, area, top, x, y, now, colours);
    const faint = this.points.at(-1)?.faint.length ?? 0;
    for (let n = 0; n < faint; n++) {
      this.#line(pen, x, (point) => y(point.faint[n] ?? 0), colours.quiet, 0.8, 0.35);
    }
    const lines = this.points.at(-1)?.lines.length ?? 0;
    for (let n = lines - 1; n >= 0; n--) {
      const colour = n === 0 ? colours.first : colours.second;
      if (n === 0) this.#fill(pen, area, x, (point) => y(point.lines[0]), colour);
      this.#line(pen, x, (point) => y(point.lines[n] ?? 0), colour, 2, 1);
    }
    this.#gapMarks(pen, area, x, colours);
  }

  #grid(pen, area, top, x, y, now, colours) {
    pen.font = "11px system-ui, sans-serif";
    pen.lineWidth = 1;
    pen.strokeStyle = colours.line;
    pen.fillStyle = colours.quiet;
    pen.textBaseline = "bottom";
    pen.textAlign = "left";
    for (const part of [0, 0.5, 1]) {
      const level = Math.round(y(top * part)) + 0.5;
      pen.beginPath();
      pen.moveTo(area.left, level);
      pen.lineTo(area.right, level);
      pen.stroke();
      if (part > 0) pen.fillText(this.scale.label(top * part), area.left, level - 2);
    }
    pen.textBaseline = "top";
    for (const seconds of [120, 90, 60, 30, 0]) {
      pen.textAlign = seconds === 120 ? "left" : seconds === 0 ? "right" : "center";
      pen.fillText(seconds === 0 ? "now" : `−${seconds} s`, x(now - seconds * 1000), area.bottom + 5);
    }
  }

  /** The runs of points between which no sample is missing. */
  *#runs() {
    let run = [];
    for (const point of this.points) {
      if (run.length && point.at - run.at(-1).at > 2_500) {
        yield run;
        run = [];
      }
      run.push(point);
    }
    if (run.length) yield run;
  }

  #line(pen, x, level, colour, width, alpha) {
    pen.save();
    pen.strokeStyle = colour;
    pen.fillStyle = colour;
    pen.globalAlpha = alpha;
    pen.lineWidth = width;
    pen.lineJoin = "round";
    for (const run of this.#runs()) {
      pen.beginPath();
      for (const point of run) pen.lineTo(x(point.at), level(point));
      pen.stroke();
      if (run.length === 1) pen.fillRect(x(run[0].at) - width, level(run[0]) - width, 2 * width, 2 * width);
    }
    pen.restore();
  }

  #fill(pen, area, x, level, colour) {
    pen.save();
    pen.fillStyle = colour;
    pen.globalAlpha = 0.12;
    for (const run of this.#runs()) {
      pen.beginPath();
      pen.moveTo(x(run[0].at), area.bottom);
      for (const point of run) pen.lineTo(x(point.at), level(point));
      pen.lineTo(x(run.at(-1).at), area.bottom);
      pen.fill();
    }
    pen.restore();
  }

  #gapMarks(pen, area, x, colours) {
    pen.save();
    pen.strokeStyle = colours.bad;
    pen.fillStyle = colours.bad;
    pen.setLineDash([4, 3]);
    pen.textAlign = "left";
    pen.textBaseline = "top";
    for (const at of this.gaps) {
      pen.beginPath();
      pen.moveTo(x(at), area.top);
      pen.lineTo(x(at), area.bottom);
      pen.stroke();
      pen.fillText("gap", x(at) + 4, area.top + 2);
    }
    pen.restore();
  }
}

// ---- Hosts ------------------------------------------------------------------------------------

/** What each kind of sample shows: the points of its chart and the figures above it. */
const KINDS = {
  cpu: {
    scale: { fixed: 100, label: (value) => `${value} %` },
    read: ({ total, cores }) => ({
      lines: [total],
      faint: cores,
      figures: { total: percent(total), cores: `${cores.length} cores, busiest ${Math.max(...cores).toFixed(0)} %` },
    }),
  },
  memory: {
    scale: { fixed: 100, label: (value) => `${value} %` },
    read: ({ used, total, swap_used, swap_total }) => ({
      lines: [100 * used / total],
      figures: {
        used: percent(100 * used / total),
        of: `${joined(bytes(used))} of ${joined(bytes(total))}${swap_total ? `, swap ${joined(bytes(swap_used))}` : ""}`,
      },
    }),
  },
  network: {
    scale: { least: 10_000, label: (value) => joined(rate(value)) },
    read: (data) => ({ lines: [data.in, data.out], figures: { in: rate(data.in), out: rate(data.out) } }),
  },
  disk: {
    scale: { least: 100_000, label: (value) => joined(rate(value)) },
    read: ({ read, write, used, total }) => ({
      lines: [read, write],
      figures: {
        read: rate(read),
        write: rate(write),
        of: total ? `${joined(bytes(used))} of ${joined(bytes(total))} used` : "",
      },
    }),
  },
};

/** One machine: four charts and their figures. */
class Host {
  constructor(name) {
    this.element = byId("host-template").content.cloneNode(true).firstElementChild;
    this.element.dataset.host = name;
    this.element.querySelector("h2").textContent = name;
    this.newest = 0;
    this.charts = {};
    for (const figure of this.element.querySelectorAll("figure")) {
      this.charts[figure.dataset.chart] = new Chart(figure, KINDS[figure.dataset.chart].scale);
    }
  }

  show(kind, data) {
    const { lines, faint = [], figures } = KINDS[kind].read(data);
    const chart = this.charts[kind];
    const isNewest = !(data.at < chart.points.at(-1)?.at);
    chart.add({ at: data.at, sample: data.sample, lines, faint });
    this.newest = Math.max(this.newest, data.at);
    if (isNewest) for (const [name, value] of Object.entries(figures)) this.#figure(chart, name, value);
  }

  #figure(chart, name, value) {
    const place = chart.figure.querySelector(`[data-figure="${name}"]`);
    if (typeof value === "string") {
      place.textContent = value;
    } else {
      const unit = document.createElement("span");
      unit.className = "unit";
      unit.textContent = value[1];
      place.replaceChildren(value[0], unit);
    }
  }

  draw(now, colours) {
    const silent = Math.round((now - this.newest) / 1000);
    const age = silent > 4 ? `last sample ${silent} s ago` : "";
    const place = this.element.querySelector(".age");
    if (place.textContent !== age) place.textContent = age;
    for (const chart of Object.values(this.charts)) chart.draw(now, colours);
  }
}

// ---- The page ---------------------------------------------------------------------------------

const hosts = new Map();
let colours = null;

function hostNamed(name, own) {
  if (!hosts.has(name)) {
    const host = new Host(name);
    hosts.set(name, host);
    byId("empty").hidden = true;
    if (name === own) byId("hosts").prepend(host.element);
    else byId("hosts").append(host.element);
  }
  return hosts.get(name);
}

function readColours() {
  const style = getComputedStyle(document.documentElement);
  colours = Object.fromEntries(["line", "quiet", "first", "second", "bad"].map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

function showGap() {
  const line = document.createElement("li");
  line.textContent = `Gap reported at ${new Date().toLocaleTimeString()}: the broker no longer keeps every sample from before.`;
  byId("gaps").append(line);
  while (byId("gaps").children.length > 3) byId("gaps").firstElementChild.remove();
  for (const host of hosts.values()) for (const chart of Object.values(host.charts)) chart.addGap();
}

let lastFrame = 0;
function drawAll(time) {
  requestAnimationFrame(drawAll);
  if (time - lastFrame < FRAME_MS) return;
  lastFrame = time;
  // A second behind, so that the line reaches the right edge instead of jumping there.
  const now = Date.now() - 1000;
  for (const host of hosts.values()) host.draw(now, colours);
}

readColours();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", readColours);
requestAnimationFrame(drawAll);

const broker = await (await fetch("config.json")).json();

function show({ topic, data }) {
  const [, name, kind, ...more] = topic.split(".");
  if (Object.hasOwn(KINDS, kind ?? "") && more.length === 0) hostNamed(name, broker.name).show(kind, data);
}

follow(broker, "host.>", {
  event(event) {
    show(event);
    // What cannot be read now is drawn as it comes, as without this.
    if (event.snapshot) readBack(broker, event.topic, show).catch(() => {});
  },
  gap: showGap,
  state(state, text) {
    byId("status").dataset.state = state;
    byId("status-text").textContent = text;
    if (state === "live") byId("notice").textContent = "";
  },
  error(text) { byId("notice").textContent = text; },
});

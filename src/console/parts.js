// What several screens have: moments, bars, refusals, and something that is read from the broker.

import { h } from "./dom.js";
import { NEAR } from "./numbers.js";
import { ago, duration, many, moment, percent } from "./words.js";

/** The heading of a screen, and what stands beside it. */
export const heading = (title, ...beside) => h("div", { class: "head" }, h("h1", { tabindex: "-1" }, title), beside);

export const time = (text) => text ? h("time", { datetime: text, title: `${ago(text)}\n${text}` }, moment(text)) : "–";

export const button = (text, onclick, rest) => h("button", { type: "button", class: "button small", onclick, ...rest }, text);

/** A figure with its limit: from 80 % on it says so in words too. */
export function bar({ what, used, limit, show, free, full = "near the limit" }) {
  const part = limit ? Math.min(1, used / limit) : 0;
  const level = part >= 0.95 ? "bad" : part >= NEAR ? "warn" : "";
  return h("div", { class: `bar ${level}`, key: what },
    h("div", { class: "bar-words" },
      h("span", {}, what),
      h("span", { class: "quiet" }, h("b", {}, show(used)), ` of ${show(limit)}`, free !== undefined && `, ${show(free)} free`,
        level && h("strong", { class: "level" }, ` ${percent(used, limit)}, ${full}`))),
    h("div", { class: "track", "aria-hidden": "true" }, h("span", { style: { width: `${part * 100}%` } })));
}

/** What is missing because nodes did not answer. */
export const silence = (nodes) => nodes > 0 && h("p", { class: "notice warn", role: "status" },
  `${many(nodes, "node")} did not answer in time: what ${nodes === 1 ? "it" : "they"} would have said is missing here.`);

/** That nothing newer came of the nodes. */
export const old = (numbers) => numbers.isOld && h("p", { class: "notice bad" }, `What is shown is ${duration(numbers.lateness())} old.`);

/** A refusal, and what to do about it: never drawn as if there were nothing. */
export function refusal(app, error, what) {
  const { status, code, detail, message } = error;
  const [title, next] =
    status === 401 || code === "unauthorized" ? [`A credential is needed ${what}`, app.token ? "Sign in with another one." : "Sign in with a token or an API key."]
    : status === 403 || code === "forbidden" ? [`There is no right ${what}`, "An API key with full rights or with admin = true has it ([[auth.keys]]), or a rule of [[topics]]."]
    : status === 503 || code === "unavailable" ? [`The broker can't say this now`, "It is tried again by itself."]
    : status === 0 || code === "unreachable" ? ["The broker can't be reached", "It is tried again as soon as the connection is back."]
    : [`It could not be read`, ""];
  return h("div", { class: "refusal", role: "alert", "data-status": status ?? code },
    h("p", { class: "refusal-title" }, title),
    h("p", {}, detail ?? message),
    h("p", { class: "quiet" }, next),
    (status === 401 || status === 403 || /^(unauthorized|forbidden)$/.test(code)) && button("Sign in", () => app.signIn(), { class: "button" }));
}

/** Something that is read from the broker, again from time to time while somebody looks. */
export class Reading {
  value;
  error;
  isReading = false;
  #abort;
  #timer;
  #undo;

  /** `path()` says what to read, and is nothing while there is nothing to read. */
  constructor(app, path, { every, read, onRead } = {}) {
    Object.assign(this, { app, path, every, onRead, options: read ? { read } : {} });
    const again = () => this.again();
    // Whoever comes back, or is somebody else, may see other things.
    const undos = [app.on("live", again), app.on("caller", again)];
    this.#undo = () => undos.forEach((undo) => undo());
    this.again();
  }

  async again() {
    clearTimeout(this.#timer);
    this.#abort?.abort();
    const path = this.path();
    if (path === undefined) return;
    const { signal } = this.#abort = new AbortController();
    this.isReading = true;
    this.app.changed();
    try {
      const value = await this.app.ask(path, { signal, ...this.options });
      if (signal.aborted) return;
      [this.value, this.error] = [value, undefined];
      this.onRead?.();
    } catch (error) {
      if (signal.aborted) return;
      this.error = error;
    }
    this.isReading = false;
    this.app.changed();
    if (this.every) this.#timer = setTimeout(() => this.#soon(), this.every);
  }

  /** Not while nobody looks. */
  #soon() {
    if (document.visibilityState === "visible") return this.again();
    this.#timer = setTimeout(() => this.#soon(), 500);
  }

  /** What is read, by `view`, or why it is not. What was read before stays where it is only late. */
  draw(what, view) {
    const { value, error } = this;
    if (error && (value === undefined || [401, 403].includes(error.status))) return refusal(this.app, error, what);
    if (value === undefined) return h("p", { class: "empty", "aria-busy": "true" }, "Reading…");
    return [error && h("p", { class: "notice warn", role: "status" }, `What is shown is old: ${error.message}`), view(value)];
  }

  close() {
    clearTimeout(this.#timer);
    this.#abort?.abort();
    this.#undo();
  }
}

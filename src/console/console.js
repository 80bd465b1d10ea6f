// The console: one connection, one screen at a time, and what all screens share.
//
// Each screen is a module of its own, loaded when it is opened: `open(app, ...place)` gives `{title, view(), close()}`. `view` says what is to
// be seen, and is asked again after each `app.changed()`, at most ten times a second and never while nobody looks.

import { Fanfare } from "./fanfare.js";
import { ask, BROKER } from "./console/ask.js";
import { askForName, showHelp, signIn } from "./console/dialogs.js";
import { draw, element, h } from "./console/dom.js";
import { Numbers, PAST, TOPIC } from "./console/numbers.js";
import { showUtc, timeOfDay } from "./console/words.js";

const SCREENS = ["overview", "topics", "sessions", "nodes", "events", "webhooks", "token", "settings"];
/** Pressed after `g`. */
const KEYS = { o: "overview", t: "topics", s: "sessions", n: "nodes", e: "events", w: "webhooks", k: "token", c: "settings" };
const BETWEEN_DRAWS_MS = 100;
const BETWEEN_NUDGES_MS = 3_000;
const LOG_LINES = 200;
/** How much is seen of what stands before the screen that is open, where not all of them fit. */
const NAV_MARGIN = 60;
/** The longest time that a timer takes: a connection that nobody uses stays. */
const FOR_EVER_MS = 2 ** 31 - 1;
const THEMES = ["auto", "light", "dark"];
const KEPT = "fanfare.console";

// In the words of `fanfare check`.
const UPGRADE = 'what stands between does not pass on the upgrade; nginx: proxy_http_version 1.1, proxy_set_header Upgrade $http_upgrade, proxy_set_header Connection "upgrade"';
const FOREIGN = "for the broker's own pages: what stands between tells it another address; pass on host, scheme and client (nginx: proxy_set_header Host $http_host, X-Forwarded-Host $http_host, X-Forwarded-Proto $scheme, X-Forwarded-For $remote_addr: all of them, or clients set what is missing) and set server.trusted_proxies";

/** What to do about what went wrong, where that is known. */
const ADVICE = { origin_not_allowed: FOREIGN, no_websocket: UPGRADE };

const byId = (id) => document.getElementById(id);

/** What stays beyond this page: how it looks, and never who uses it. */
function kept() {
  try { return JSON.parse(localStorage.getItem(KEPT)) ?? {}; } catch { return {}; }
}

class App {
  /** The credential, in this page's memory and nowhere else. */
  token = "";
  /** Who that is: undefined until it is known. */
  caller;
  /** Why it is not known. */
  callerError;
  /** How the connection stands. */
  connection = { state: "idle" };
  trouble = null;
  numbers = new Numbers();
  /** Why there are no numbers. */
  numbersError;
  preferences = { theme: "auto", utc: false, ...kept() };
  #screen;
  #listeners = new Set();
  #wanted = false;
  #undoNumbers;
  /** The connection was lost since they came. */
  #missesNumbers = false;
  #isForgotten = false;
  #nudgedAt = 0;
  #drawnAt = 0;
  #isScheduled = false;

  start() {
    this.#prefer({});
    addEventListener("popstate", () => this.#route(true));
    // Gone with the page, also where the browser keeps that for a way back.
    addEventListener("pagehide", () => { if (this.token) this.#isForgotten = !(this.token = ""); });
    addEventListener("pageshow", () => { if (this.#isForgotten) this.authenticate(""); });
    addEventListener("keydown", (key) => this.#pressed(key));
    document.addEventListener("visibilitychange", () => this.changed());
    byId("skip").onclick = (click) => { click.preventDefault(); byId("main").focus(); };
    setInterval(() => this.#tick(), 1000);
    this.authenticate("");
    this.#route(false);
  }

  /** What is shown goes stale by itself. Numbers come once a second: where none does, the connection may be dead and nobody told, or it is to wait for
   * longer than who looks at it will. */
  #tick() {
    if (this.numbers.isOld && Date.now() > this.#nudgedAt + BETWEEN_NUDGES_MS && document.visibilityState === "visible") {
      this.#nudgedAt = Date.now();
      // The client hears it: it asks whether anybody is there, and tries again at once where it waits.
      dispatchEvent(new Event("online"));
    }
    this.changed();
  }

  // ---- Who, and over what ----

  /** Begins anew with another credential, or with none. */
  authenticate(token) {
    this.token = token;
    this.#isForgotten = false;
    this.caller = this.callerError = this.numbersError = undefined;
    this.numbers = new Numbers();
    this.#undoNumbers = undefined;
    this.fanfare?.close();
    const fanfare = new Fanfare(BROKER, { token: token ? () => this.token : undefined, raw: true, idleClose: FOR_EVER_MS });
    const heard = (deed) => (said) => { if (fanfare === this.fanfare) deed(said); };
    fanfare.on("state", heard((said) => this.#heardState(said)));
    fanfare.on("error", heard(({ code, message, pattern }) => {
      const what = pattern ? `subscribe to ${pattern} refused` : "trouble";
      this.note("bad", `${what}: ${code}: ${message}${ADVICE[code] ? `; ${ADVICE[code]}` : ""}`);
    }));
    this.fanfare = fanfare;
    this.#tell("client");
    this.connect();
    return this.identify();
  }

  /** Asks who the credential makes of this page. */
  async identify() {
    const { token } = this;
    // It is asked again with each connection until it is known, and who is told twice begins anew twice.
    const isOver = () => token !== this.token || this.caller;
    try {
      const caller = await ask("v1/caller", { token });
      if (isOver()) return;
      [this.caller, this.callerError] = [caller, undefined];
      if (caller.admin) this.#hearNumbers();
    } catch (error) {
      if (isOver()) return;
      this.callerError = error;
    }
    this.#tell("caller");
    this.changed();
  }

  /** Hears the numbers of all nodes, from where it has them: they are kept nowhere, so no cursor leads back to them. */
  #hearNumbers() {
    const { fanfare, numbers } = this;
    const missing = numbers.lateness() / 1000 + 5;
    this.#missesNumbers = false;
    this.#undoNumbers?.();
    this.#undoNumbers = fanfare.subscribe(TOPIC, {
      last: missing < PAST ? Math.ceil(missing) : PAST,
      onLive: () => { this.numbersError = undefined; },
      onError: (error) => { if (fanfare === this.fanfare) this.numbersError = error; this.changed(); },
    }, (event) => { numbers.add(event); this.changed(); });
  }

  get isWanted() {
    return this.#wanted;
  }

  connect() {
    this.#wanted = true;
    this.fanfare.reconnect();
  }

  disconnect() {
    this.#wanted = false;
    this.fanfare.disconnect();
    this.note("", "disconnected");
  }

  #heardState(said) {
    const { state, reason, retryAt, trouble } = said;
    if (trouble !== undefined) {
      this.trouble = trouble;
      this.note(trouble ? "bad" : "good", trouble ?? "the broker can do its whole job again");
    } else {
      this.connection = said;
      if (state !== "live" && this.numbers.heardAt) this.#missesNumbers = true;
      if (state === "live") {
        this.note("good", this.fanfare.session ? `connected, session ${this.fanfare.session}` : "connected by event streams");
        // What was not known may be now, and what was known may be otherwise.
        if (!this.caller) this.identify();
        else if (this.isAdmin && this.#missesNumbers) this.#hearNumbers();
      } else if (state === "refused") this.#wanted = false;
      if (retryAt !== undefined) {
        this.note("bad", `${typeof reason.code === "number" ? "connection closed" : "bye"}: ${reason.code}: ${reason.message}`);
        this.note("", `trying again in ${((retryAt - Date.now()) / 1000).toFixed(1)} s`);
      }
    }
    this.#tell(state);
    this.changed();
  }

  /** Hears of `client`, `caller` and the states of the connection; returns an undo. */
  on(name, listener) {
    const one = { name, listener };
    this.#listeners.add(one);
    return () => this.#listeners.delete(one);
  }

  #tell(name) {
    for (const { name: wanted, listener } of [...this.#listeners]) if (wanted === name) listener();
  }

  ask(path, options) {
    return ask(path, { token: this.token, ...options });
  }

  get isAdmin() {
    return this.caller?.admin === true;
  }

  /** The refusal of what is for operators; nothing where this is one, or who this is is not known. */
  get forbidden() {
    const { caller } = this;
    return caller && !caller.admin && { status: caller.kind === "anonymous" ? 401 : 403, detail: "This is for operators." };
  }

  /** Why the numbers of the nodes can't be seen, if they can't. */
  get noNumbers() {
    return this.numbersError ?? (this.caller ? this.forbidden : this.callerError);
  }

  // ---- What is seen ----

  /** A line in the journal, newest on top. */
  note(kind, text) {
    const line = element(h("li", { "data-kind": kind }, h("time", { datetime: new Date().toISOString() }, timeOfDay(new Date())), h("span", { class: "what" }, text)));
    const log = byId("log");
    log.prepend(line);
    while (log.children.length > LOG_LINES) log.lastElementChild.remove();
    byId("newest").textContent = text;
  }

  go(...place) {
    location.hash = `#/${place.map(encodeURIComponent).join("/")}`;
  }

  /** Shows the events of a pattern as they come; the page stays, and with it who uses it. */
  watch(pattern) {
    history.pushState(null, "", `?topic=${encodeURIComponent(pattern)}#/events`);
    this.#route(true);
  }

  /** Does something that changes the broker, and has it in the journal, whatever comes of it. */
  async act(what, deed) {
    try {
      const said = await deed();
      this.note("good", `${what}${said ? `: ${said}` : ""}`);
      return said;
    } catch (error) {
      this.note("bad", `${what}: ${error.message}`);
      throw error;
    } finally {
      this.changed();
    }
  }

  askForName(question) {
    return askForName(byId("dialog"), question);
  }

  signIn() {
    return signIn(byId("dialog"), this);
  }

  async #route(isMove) {
    const place = location.hash.startsWith("#/") ? location.hash.slice(2).split("/").map(decoded) : [];
    const watches = new URLSearchParams(location.search).has("topic");
    const [name] = SCREENS.includes(place[0]) ? place : [place[0] = watches ? "events" : "overview"];
    for (const link of document.querySelectorAll(".screens a")) {
      if (link.hash === `#/${name}`) {
        link.setAttribute("aria-current", "page");
        link.parentElement.scrollLeft = link.offsetLeft - NAV_MARGIN;
      } else {
        link.removeAttribute("aria-current");
      }
    }
    this.#screen?.close?.();
    const screen = this.#screen = { title: "", view: () => h("p", { class: "empty" }, "…") };
    byId("screen").ariaBusy = true;
    try {
      const { open } = await import(`./console/${name}.js`);
      if (screen !== this.#screen) return;
      this.#screen = open(this, ...place.slice(1));
    } catch (error) {
      if (screen !== this.#screen) return;
      screen.view = () => h("p", { class: "empty" }, `This screen can't be shown: ${error.message}. `, h("button", { class: "button", type: "button", onclick: () => location.reload() }, "Load the page anew"));
    }
    byId("screen").replaceChildren();
    byId("screen").ariaBusy = false;
    this.#draw();
    document.title = `${this.#screen.title || name} · Fanfare console`;
    if (isMove) byId("screen").querySelector("h1")?.focus();
  }

  /** Has all be drawn again soon. */
  changed() {
    if (this.#isScheduled || document.visibilityState === "hidden") return;
    this.#isScheduled = true;
    const frame = () => requestAnimationFrame(() => { this.#isScheduled = false; this.#draw(); });
    const rest = this.#drawnAt + BETWEEN_DRAWS_MS - performance.now();
    if (rest > 0) setTimeout(frame, rest);
    else frame();
  }

  #draw() {
    this.#drawnAt = performance.now();
    this.numbers.tidy();
    const { activeElement } = document;
    this.#drawFrame();
    draw(byId("banner"), this.#banner());
    draw(byId("screen"), this.#screen.view());
    // What was moved has lost it.
    if (activeElement !== document.activeElement && activeElement?.isConnected && document.activeElement === document.body) activeElement.focus({ preventScroll: true });
  }

  #drawFrame() {
    const [state, text] = this.#words();
    const status = byId("status");
    if (status.dataset.state !== state) status.dataset.state = state;
    if (byId("status-text").textContent !== text) byId("status-text").textContent = text;
    const { theme, utc } = this.preferences;
    const button = (id, label, title, onclick, rest) => h("button", { type: "button", class: "button small", id, title, onclick, ...rest }, label);
    draw(byId("tools"),
      this.#who(button),
      button("utc", "UTC", "Shows times in UTC, or in this machine's time", () => this.#prefer({ utc: !this.preferences.utc }), { "aria-pressed": `${utc}` }),
      button("theme", { auto: "◐", light: "☀", dark: "☾" }[theme], "Light, dark, or as the system is", () => this.#prefer({ theme: THEMES[(THEMES.indexOf(this.preferences.theme) + 1) % 3] }), { "aria-label": `Colours: ${theme}` }),
      button("help", "?", "Keys", () => showHelp(byId("dialog")), { "aria-label": "Keys" }));
  }

  #who(button) {
    const { caller } = this;
    if (!this.token) return caller?.open ? h("span", { class: "tag" }, "open") : button("sign-in", "Sign in", "With a token or an API key", () => this.signIn());
    const name = caller && { application: "API key", key: `key ${caller.name}`, user: caller.user, anonymous: "nobody" }[caller.kind];
    return [
      h("span", { class: "tag", title: caller?.expires && `until ${caller.expires}` }, name ?? "…", caller && !caller.admin && " · read-only"),
      button("sign-out", "Sign out", "Forgets the credential", () => { this.authenticate(""); this.note("", "signed out"); }),
    ];
  }

  #banner() {
    const { caller, callerError } = this;
    if (callerError?.status === 401) {
      return h("p", { class: "notice bad", role: "alert" }, `The credential is not taken: ${callerError.detail}. `, h("button", { type: "button", class: "button small", onclick: () => this.signIn() }, "Sign in"));
    }
    if (this.trouble) return h("p", { class: "notice bad", role: "alert" }, `The broker is in trouble: ${this.trouble}`);
    return caller?.open && h("p", { class: "notice" }, "This broker is open: no credentials are configured, so everyone who reaches it may publish, read and end sessions. ", h("code", {}, "fanfare token key"), " makes a key for ", h("code", {}, "auth.api_keys"), ".");
  }

  #words() {
    const { state, attempt, reason } = this.connection;
    return {
      idle: ["closed", "Disconnected"],
      connecting: ["connecting", attempt ? "Reconnecting…" : "Connecting…"],
      live: this.trouble ? ["waiting", "Connected, but the broker is in trouble"] : ["open", "Connected"],
      waiting: ["waiting", "Connection lost, trying again"],
      refused: ["refused", reason?.code === "unauthorized" ? "A valid credential is needed" : `Closed: ${reason?.code}`],
      closed: ["closed", "Disconnected"],
    }[state];
  }

  #prefer(changed) {
    Object.assign(this.preferences, changed);
    const { theme, utc } = this.preferences;
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    showUtc(utc);
    if (Object.keys(changed).length === 0) return;
    try { localStorage.setItem(KEPT, JSON.stringify(this.preferences)); } catch { /* not where storage is off */ }
    this.changed();
  }

  #pressed(key) {
    const isTyping = /^(INPUT|TEXTAREA|SELECT)$/.test(key.target.tagName) || byId("dialog").open;
    if (isTyping || key.ctrlKey || key.metaKey || key.altKey) return;
    const wasG = this.pressedG > performance.now() - 1500;
    this.pressedG = key.key === "g" ? performance.now() : 0;
    if (wasG && KEYS[key.key]) this.go(KEYS[key.key]);
    else if (key.key === "/") byId("screen").querySelector("[data-filter]")?.focus();
    else if (key.key === "?") showHelp(byId("dialog"));
    else if (!this.#screen.pressed?.(key.key)) return;
    key.preventDefault();
  }
}

function decoded(text) {
  try { return decodeURIComponent(text); } catch { return text; }
}

new App().start();

// Fanfare's own client: live events, each once and in order over any number of connections, or a gap that says so.
//
// This file decides when to connect and says how it goes. What to ask for is in `resume.js`, one connection in `link.js`,
// how it goes on the pages and machines in `wake.js`. What not every page needs is loaded where it is needed: publishing, loops,
// tokens, schemas, and event streams, where WebSockets do not come through.

import { backoff } from "./fanfare/backoff.js";
import { Link } from "./fanfare/link.js";
import { Resume, matcher } from "./fanfare/resume.js";
import { isHidden, watch } from "./fanfare/wake.js";

/** How long a welcome may take, twice as long after two that did not come; how long a connection stands that is no failure. */
const WELCOME_MS = 5_000, STABLE_MS = 5_000, AGAIN_MS = 5_000;
/** How long event streams are what a tab begins with, once only they came through. */
const STREAMS_MS = 600_000;

/** What this client and its broker have in common, where they are of one release. */
const RELEASE = "0.1.";

/** Loads what not every page needs, as long as it is wanted. Browsers of before 2026 keep an import that failed, and have it under another address. */
const lazy = (load, isWanted) => load().catch(() => import(`${/"(.+)"/.exec(load)?.[1]}?${Date.now()}`)).catch(async (error) => {
  if (!isWanted?.()) throw error;
  await new Promise((next) => setTimeout(next, AGAIN_MS));
  return lazy(load, isWanted);
});

/** Whether there are options that are none, or not of their kind; what else is loaded for one says so of it itself. */
const isOdd = (more, functions, numbers) => Object.keys(more)[0] || functions.some((each) => each && !each.call) || numbers.some((each) => each?.at || !((each ?? 1) > 0));

/** Rejects with what is wrong with options, in words. */
const refuse = async (...given) => (await lazy(() => import("./fanfare/options.js"))).refuse(...given);

const report = (error) => (globalThis.reportError ?? console.error)(error);

/** Whether this tab found out lately that only event streams come through to a broker. */
function recalls(url) {
  // Not everything has a storage, or lets it be used.
  try { return Date.now() - sessionStorage.getItem(`fanfare.streams ${url}`) < STREAMS_MS; } catch {}
}

const failure = (said) => Object.assign(new Error(said.message ?? said.code), said);

function expect(isSo, message) {
  if (!isSo) throw new TypeError(message);
}

/** The broker's address that ends with `/`; without one, the broker that this file came from. */
function brokerOf(url) {
  const base = url ? new URL(`${url}`.replace(/^ws/, "http").replace(/\/*$/, "/"), globalThis.location?.href) : new URL(".", import.meta.url);
  expect(/^https?:..[^/@?#]+[^?#]+$/.test(base), `say where the broker is: http://host:8080, not ${url}`);
  return base.href;
}

export class Fanfare {
  /** What every connection of this client is: `idle`, `connecting`, `live`, `waiting`, `refused` or `closed`. */
  state = "idle";
  #options;
  #resume = new Resume();
  #publishing = null;
  #loading = null;
  /** Publishes that are not answered yet. */
  #unanswered = 0;
  #tokens = null;
  #listeners = new Map();
  #link = null;
  /** The connection that is to take the place of `#link`, while it opens. */
  #next = null;
  #opening = null;
  #attempt = 0;
  #failures = 0;
  #isLive = false;
  #stableAt = Infinity;
  /** The last error that was told, so that each is told once. */
  #told;
  #refusal;
  /** How often what was refused for a while has been asked for. */
  #again;
  #printed;
  #stayUntil = 0;
  #timers = {};
  #unwatch;
  #reason;
  #version;
  /** What fills in the data of an event where an application says what it is. */
  #read;

  /** `url` is the broker's; nothing is opened before something is wanted. See `fanfare.d.ts` for the options. */
  constructor(url, options = {}) {
    if (url && typeof url === "object" && !url.href) [url, options] = [undefined, url];
    this.url = brokerOf(url);
    this.#options = { idleClose: 5_000, WebSocket: globalThis.WebSocket, read: JSON.parse, write: JSON.stringify, ...options };
    if (recalls(this.url)) this.#failures = 2;
    this.#unwatch = watch(() => this.#wake(), () => this.#suspend());
  }

  /** The broker's name of the present session, if there is one. */
  get session() {
    return this.#link?.session ?? null;
  }

  // ---- What an application says ---------------------------------------------------------------

  /** Hears the events of a pattern. Returns an undo, which is also what `for await` runs over where there is no handler. */
  subscribe(pattern, options, handler) {
    if (typeof options === "function") [options, handler] = [{}, options];
    options ??= {};
    if (this.state === "closed") throw failure({ code: "closed" });
    expect(pattern && pattern.split && (!handler || handler.call), "subscribe(pattern, options, handler)");
    const { snapshot, last, tail, since, latest, maxRate, signal, onGap, onLive, onError, buffer, overflow, ...more } = options;
    const begin = last ? { last } : tail ? { tail } : snapshot ? { snapshot } : {};
    const undo = () => {
      signal?.removeEventListener("abort", undo);
      this.#resume.remove(subscription);
      subscription.end();
      // What was let go of waits for more to be wanted, not for less.
      if (this.state !== "idle") this.#soon();
    };
    let feed;
    const early = [];
    // While it is loaded, no more waits than will for the loop.
    const toFeed = (deed) => feed ? deed(feed) : early.push(deed) > (buffer ?? 1000) + 1 && early.shift();
    const loop = !handler && lazy(() => import("./fanfare/feed.js"), () => this.#resume.subscriptions.has(subscription)).then(({ Feed }) => { feed = new Feed(undo, options, early); }, () => {});
    handler ??= (event) => { toFeed((each) => each.push(event)); };
    const subscription = {
      pattern, begin, undo, at: since, latest: latest || maxRate, rate: maxRate,
      hand: (event) => this.#call(handler, event),
      gap: (gap, isNews) => {
        this.#call(onGap, gap);
        if (isNews) this.#emit("gap", gap);
      },
      live: () => this.#call(onLive),
      refused: (error) => {
        // Where what says what is wrong with options does not come, it is the options all the same.
        error.code ??= "invalid_option";
        this.#call(onError, error);
        subscription.end(failure(error));
        const isPassing = /^(unavailable|internal|too_many)$/.test(error.code);
        if (isPassing) this.#later("again", 4 * backoff(this.#again), () => { this.#again += 1; this.#resume.again(); this.#drive(); });
        // What is refused for what there is too much of, or too little, says so once for all of it.
        if (!isPassing || error.message !== this.#refusal) this.#fail(error, onError?.call || loop);
        this.#refusal = error.message;
      },
      end: (error) => toFeed((each) => each.fail(error)),
    };
    undo[Symbol.dispose ?? "dispose"] = undo;
    undo[Symbol.asyncIterator] = async function* () { await loop; yield* feed ?? []; };
    if (signal?.aborted) undo();
    else if (isOdd(more, [onGap, onLive, onError], [last, tail, maxRate, buffer]) || tail && (last || snapshot)) refuse(options, pattern).catch(subscription.refused);
    else {
      signal?.addEventListener("abort", undo);
      this.#resume.add(subscription);
      this.#soon();
    }
    return undo;
  }

  /**
   * Publishes, and resolves with the broker's answer, `{id}`. While there is no connection it waits for the first one, and
   * rejects at once where that was lost (`offline`), unless `queue` says to wait.
   */
  async publish(topic, data, options) {
    const given = { queue: this.#options.queue, ...options, topic };
    const { state } = this;
    const off = failure({ code: state === "closed" ? state : "offline" });
    if (state === "closed" || !given.queue && /waiting|refused/.test(state)) throw off;
    // As it is now, whatever becomes of it.
    let text;
    try { text = this.#options.write(data); } catch (error) { text = { error }; }
    const begun = performance.now();
    this.#unanswered += 1;
    try {
      if (!this.#publishing) {
        const load = () => lazy(() => import("./fanfare/publishing.js"), () => given.queue && this.state !== "closed").then(({ Publishing }) => { this.#publishing ??= new Publishing((error) => this.#fail(error)); }, () => {});
        // One look after the other, for a later publish must not find first what an earlier one looks for again in a while.
        await (this.#loading = given.queue && this.#loading?.then(load) || load());
      }
      const answer = this.state !== "closed" && this.#publishing?.add(given, text, begun);
      if (!answer) throw off;
      this.#soon();
      return await answer;
    } finally {
      this.#unanswered -= 1;
      this.#soon();
    }
  }

  /** Hears of "state", "gap", "error", and "event" (each one that was handed to somebody). Returns an undo. */
  on(name, listener) {
    expect(/^(state|gap|error|event)$/.test(name) && listener?.call, "on(state|gap|error|event, listener)");
    const entry = { listener };
    this.#listeners.set(entry, name);
    return () => { this.#listeners.delete(entry); };
  }

  /** Resolves once everything is live, and rejects where the broker refuses. */
  async ready() {
    while (this.state !== "live") {
      if (/refused|closed/.test(this.state)) throw failure(this.#reason ?? { code: this.state });
      await new Promise((next) => {
        const undo = this.on("state", () => { undo(); next(); });
      });
    }
  }

  /** Connects anew, from where it stands; at once, whatever it waits for. */
  reconnect() {
    this.#attempt = this.#failures = 0;
    this.#letSoon("connecting");
  }

  /** Lets go of the connection, until something else is wanted, or `reconnect`. */
  disconnect() {
    this.#set("idle");
    this.#letSoon("idle");
  }

  /** Asks `token` for another one and shows it to the broker, in place. */
  async renew() {
    const link = this.#link;
    if (!link?.ready) return this.reconnect();
    if (link.isStreams) {
      // A stream can't be given another token: others take over, from where it stands.
      const error = await this.#replace(true);
      if (error) throw error;
      return;
    }
    const token = await this.token();
    // It belongs to the connection that it was asked for.
    if (!token || link.over) return;
    await link.auth(token);
    this.#resume.again();
    this.#drive();
  }

  /** Ends everything, for good. */
  close() {
    this.#let("closed");
    this.#unwatch();
    Object.values(this.#timers).forEach(clearTimeout);
    this.#publishing?.fail("closed", "closed");
    this.#tokens?.end();
    for (const { undo } of this.#resume.subscriptions) undo();
  }

  // ---- Telling --------------------------------------------------------------------------------

  #call(deed, ...given) {
    try {
      const result = deed?.call?.(null, ...given);
      result?.catch?.((error) => this.#threw(error));
    } catch (error) {
      this.#threw(error);
    }
  }

  /** A handler that throws stops nobody else. */
  #threw(error, code = "handler") {
    this.#emit("error", { code, message: `${error?.message ?? error}`, error }) || report(error);
  }

  /** An error that nobody hears is on the console, once. */
  #fail(error, isHeard) {
    const said = `fanfare: ${error.code}: ${error.message}`;
    if (!this.#emit("error", error) && !isHeard && said !== this.#printed) console.warn(this.#printed = said);
  }

  /** Tells all who listen, and returns whether anybody does. */
  #emit(name, detail) {
    let isHeard = false;
    for (const [entry, of] of [...this.#listeners]) {
      if (of !== name || !this.#listeners.has(entry)) continue;
      isHeard = true;
      try { entry.listener(detail); } catch (error) { report(error); }
    }
    return isHeard;
  }

  #set(state, more = {}) {
    if (this.state === "closed" || state === this.state && state !== "waiting" && !("trouble" in more)) return;
    this.state = state;
    this.#emit("state", { state, attempt: this.#attempt, reason: this.#reason, ...more });
  }

  // ---- When to connect ------------------------------------------------------------------------

  #later(name, ms, deed) {
    clearTimeout(this.#timers[name]);
    this.#timers[name] = setTimeout(deed, ms);
  }

  /** What was said in this turn goes out together; what was taken back in it, never. */
  #soon() {
    this.#later("soon", 0, () => this.#drive());
  }

  get #wanted() {
    return this.#resume.subscriptions.size || this.#unanswered || this.#publishing?.holds;
  }

  /** Sends what is to be sent, and sees to it that there is a connection as long as there is something to do. */
  #drive() {
    const link = this.#link;
    if (this.state === "closed") return;
    if (this.#wanted) {
      clearTimeout(this.#timers.idle);
      delete this.#timers.idle;
      if (this.state === "idle") this.#connect();
    } else if (this.state !== "idle") {
      // Nobody wants anything: the connection is given back.
      this.#timers.idle ??= setTimeout(() => {
        delete this.#timers.idle;
        this.#reason = undefined;
        if (!this.#wanted) this.#let("idle");
      }, this.#options.idleClose);
    }
    if (!link?.isOpen) return;
    let request;
    while ((request = this.#resume.next(link.nextRef()))) link.send(request);
    // Asked before: a pause that ends between the two would be waited for by nobody.
    const pauseMs = this.#publishing?.pauseMs;
    while ((request = this.#publishing?.next(() => link.nextRef(), link.session))) link.send(request);
    if (pauseMs) this.#later("publish", pauseMs, () => this.#drive());
    if (!this.#isLive && this.#resume.settled) {
      this.#isLive = true;
      this.#reason = this.#told = undefined;
      const isNews = this.state !== "live" && link.socket.why;
      this.#set("live");
      if (isNews) this.#tell(isNews);
    }
  }

  /** Lets go of every connection. */
  #let(state) {
    clearTimeout(this.#timers.retry);
    this.#opening = null;
    const links = [this.#next, this.#link];
    this.#next = this.#link = null;
    for (const link of links) link?.end("cut");
    this.#cut();
    this.#set(state);
  }

  /** Not from within a handler, whose event has not been counted yet. */
  #letSoon(state) {
    setTimeout(() => {
      this.#let(state);
      if (state !== "idle") this.#connect();
    });
  }

  #cut() {
    this.#isLive = false;
    this.#resume.cut();
    this.#publishing?.cut();
  }

  /** The page goes: an open connection would keep it out of the back/forward cache. */
  #suspend() {
    if (!/connecting|live/.test(this.state)) return;
    this.#reason = { code: "left" };
    this.#let("waiting");
  }

  /** Whatever was thought of the network may be wrong by now. */
  #wake() {
    this.#link?.check();
    this.#tokens?.check();
    if (this.state === "waiting") this.#connect();
  }

  // ---- Connecting -----------------------------------------------------------------------------

  #connect() {
    if (this.state === "closed" || this.#opening || this.#link) return;
    clearTimeout(this.#timers.retry);
    this.#set("connecting");
    // Event streams where WebSockets failed twice, and then each by turns.
    this.#open(!this.#options.WebSocket || this.#failures > 1 && this.#failures % 2 === 0);
  }

  /** Begins to open a connection, unless nobody waits for it any more once it could. */
  async #open(isStreams) {
    const opening = this.#opening = {};
    try {
      const { token: _, queue, idleClose, parse, raw, read, write, schemas, WebSocket, ...more } = this.#options;
      if (isOdd(more, [WebSocket, parse], [idleClose + 1])) await refuse(this.#options);
      const token = await this.token();
      if (parse || raw || schemas) this.#read ??= (await lazy(() => import("./fanfare/reading.js"))).reader(this.#options, matcher);
      const { Streams } = isStreams ? await lazy(() => import("./fanfare/streams.js")) : {};
      if (this.#opening !== opening) return;
      const socket = Streams ? new Streams(this.url, token, WebSocket) : new WebSocket(`${this.url.replace("http", "ws")}v1/ws`);
      const link = new Link(socket, token, WELCOME_MS * (this.#failures < 2 ? 1 : 2), {
        read,
        ready: () => this.#ready(link),
        frame: (frame, text) => this.#take(link, frame, text),
        end: (reason) => this.#ended(link, reason),
      });
      link.isStreams = isStreams;
      if (this.#link) this.#next = link;
      else this.#link = link;
    } catch (error) {
      if (this.#opening !== opening || this.#link) return error;
      // Browsers have numbers for what they forbid: to a page of https, what has no TLS.
      const { code, message, final } = error;
      if (isStreams || code > 0) this.#failures += 1;
      this.#retry({ code: code?.at ? code : "unreachable", message, final });
    } finally {
      if (this.#opening === opening) this.#opening = null;
    }
  }

  /** A token as each connection shows it, for requests of other kinds. */
  async token() {
    const { token } = this.#options;
    if (token === undefined) return;
    const { Tokens } = await lazy(() => import("./fanfare/tokens.js"));
    this.#tokens ??= new Tokens(token, () => this.#link?.ready && this.renew(), (error) => this.#tell(error, true));
    return this.#tokens.get();
  }

  #ready(link) {
    const old = link === this.#next ? this.#link : null;
    if (old) [this.#link, this.#next] = [link, null];
    if (link !== this.#link) return;
    // Nothing comes over an old one from here on; what was under way there is said again here.
    this.#cut();
    this.#refusal = undefined;
    this.#again = 1;
    this.#resume.lanes = link.isStreams;
    this.#resume.again();
    Promise.resolve(this.#publishing?.bindAgain()).then(() => old?.end("replaced"));
    const { version = RELEASE } = link;
    if (version !== this.#version && !(this.#version = version).startsWith(RELEASE)) this.#fail({ code: "version", message: `${version}, not ${RELEASE}x` });
    this.#stableAt = Date.now() + STABLE_MS;
    if (!link.socket.why) this.#failures = 0;
    this.#drive();
  }

  /** Opens another connection beside this one, which is let go of once that is there. */
  async #replace(isStreams) {
    if (!this.#next && !this.#opening && this.#link?.ready) return this.#open(isStreams);
  }

  #ended(link, reason) {
    if (link === this.#next) {
      this.#next = null;
      this.#link?.socket.missed?.(link.isStreams);
    }
    if (link !== this.#link) return;
    const wasLive = this.#isLive;
    [this.#link, this.#next] = [this.#next, null];
    this.#cut();
    if (Date.now() >= this.#stableAt) this.#attempt = 0;
    this.#stableAt = Infinity;
    if (this.#link) return this.#set("connecting");
    if (!link.welcomed || link.isStreams) this.#failures += 1;
    this.#retry(reason);
    if (link.isStreams && !wasLive) this.#tell(reason);
  }

  #retry({ code, message, final, retry_after_ms: hintMs }) {
    if (final && code === "unauthorized") message += this.#tokens?.hint ?? "";
    this.#reason = { code, message };
    // The end of a token is no refusal of who can have another one.
    if (final && (code !== "unauthorized" || typeof this.#options.token !== "function" || this.#told === code)) {
      this.#set("refused");
      this.#tell({ code, message }, true);
      return;
    }
    if (final) this.#told = code;
    const wait = backoff(this.#attempt, { hintMs, hidden: isHidden() });
    this.#attempt += 1;
    this.#set("waiting", { retryAt: Date.now() + wait });
    this.#later("retry", wait, () => this.#connect());
    if (code === "token") this.#tell({ code, message }, true);
  }

  /** An error event; where the same was told before, only `anew`. */
  #tell({ code, message }, anew) {
    if (anew || code !== this.#told) this.#fail({ code, message });
    this.#told = code;
  }

  // ---- What the broker says -------------------------------------------------------------------

  #take(link, frame, text) {
    if (link !== this.#link) return;
    if (this.#publishing?.take(frame, () => this.#take(link, frame, text))) return this.#drive();
    const { op, ref, code, message } = frame;
    if (op === "event") return this.#event(frame, text);
    if (op === "trouble") return this.#set(this.state, { trouble: code === "over" ? null : message });
    if (op === "warn") return this.#tokens?.renew();
    if (op === "goaway") {
      // Another broker may be behind the same address; where it is this one, it says so again.
      if (Date.now() < this.#stayUntil) return;
      this.#stayUntil = Date.now() + frame.within_ms;
      return this.#replace(link.isStreams && !frame.socket);
    }
    if (op === "error" && ref === undefined) {
      this.#fail({ code, message });
      if (code === "forbidden") this.#resume.doubt();
    } else {
      const patterns = this.#resume.take(frame);
      if (patterns?.length) this.#emit("gap", { since: frame.since, topics: frame.topics, patterns });
    }
    this.#drive();
  }

  #event(event, text) {
    event.own = Boolean(this.#publishing?.isOwn(event, this.session));
    try {
      this.#read?.(event, text);
    } catch (error) {
      this.#threw(error, error?.code ?? "parse");
      // Nobody hears of such a topic; and it is not asked for again.
      return this.#resume.take({ ...event, topic: "$" });
    }
    this.#resume.take(event);
    this.#emit("event", event);
  }
}

// One connection to the broker, and the tabs that share it.
//
// To each tab it is a session of its own (`docs/protocol.md`), with its own requests and its own places; to the broker all of
// them are one. Who wants what is put together by the rules that the client itself follows (`resume.js`); here each event
// finds its way back, as the text that it came as. Where a tab stands is the tab's to know: any connection, of any
// tab, goes on from there.

import { Resume, later } from "./resume.js";

/** So many messages wait for a tab, or for the end of what it asked for; a tab that has more to catch up with goes its own way. */
const MOST = 10_000;

/** A frame with more members, which count as the later ones do. */
const withMore = (message, frame, more) => typeof message === "string" ? `${message.trimEnd().slice(0, -1)},${JSON.stringify(more).slice(1)}` : { ...frame, ...more };

/** A frame without one of the marks of how it comes, which the broker writes behind all else. */
function without(message, frame, mark) {
  if (frame[mark] === undefined) return message;
  if (typeof message === "string") return message.replace(new RegExp(`,"${mark}":(true|\\d+)(?=(,"\\w+":(true|\\d+))*}\\s*$)`), "");
  const { [mark]: _, ...rest } = frame;
  return rest;
}

export class Hub {
  #socket;
  #hooks;
  #resume = new Resume();
  #sessions = new Map();
  /** Request number → whose request it is, and its number there. */
  #answers = new Map();
  #ref = 0;
  /** The number of the one subscribe that is not live yet. */
  #askedRef;
  #part = -1;
  #welcome;
  #trouble;
  /** What is being heard, while it is. */
  #heard = null;
  /** Up to where all was handed on, and up to where the broker says so. */
  #place;
  #floor;

  /** `hooks`: `read(message)`, `goaway(frame)`, `over()`, once. */
  constructor(socket, hooks) {
    this.#socket = socket;
    this.#hooks = hooks;
    socket.onmessage = ({ data }) => this.#hear(data);
    socket.onclose = ({ code, reason }) => this.end(code, reason);
    socket.onerror = () => setTimeout(() => this.end(1006));
  }

  get isEmpty() {
    return !this.#sessions.size;
  }

  // ---- What tabs say ------------------------------------------------------------------------------

  /** Takes a tab in; `send(message)` and `over(code, reason)` go to it. */
  open(id, { send, over, alone }) {
    const session = { id, send, over, alone, subscriptions: new Set(), isHealing: false, last: null, lastNewest: null };
    this.#sessions.set(id, session);
    if (this.#welcome) send(this.#welcome);
    if (this.#trouble) send(this.#trouble);
  }

  close(id) {
    const session = this.#sessions.get(id);
    if (!this.#sessions.delete(id)) return;
    for (const subscription of session.subscriptions) this.#resume.remove(subscription);
    if (this.isEmpty) this.end(1000);
    else this.#drive();
  }

  /** Takes what a tab says. */
  take(id, text) {
    const session = this.#sessions.get(id);
    if (!session) return;
    const { op, ref, ...request } = JSON.parse(text);
    if (op === "subscribe") this.#subscribe(session, ref, request);
    else if (op === "unsubscribe") this.#unsubscribe(session, ref, request);
    else if (op === "publish" && request.bound) {
      this.#say(session, { op: "error", ref, code: "bound_needs_websocket", message: "a `bound` value lives with a session, and this one is shared by tabs" });
    } else {
      if (op === "auth") session.isKnown = true;
      this.#answers.set(++this.#ref, { session, ref });
      this.#socket.send(text.replace(/"ref":\d+/, `"ref":${this.#ref}`));
    }
  }

  /** Ends it for all tabs, for a reason of the broker's or of this page. */
  end(code, reason = "") {
    if (!this.#hooks) return;
    const { over } = this.#hooks;
    this.#hooks = null;
    this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.onerror = () => {};
    try { this.#socket.close(1000); } catch { /* never opened */ }
    for (const session of this.#sessions.values()) session.over(code, reason);
    this.#sessions.clear();
    over();
  }

  #say(session, frame) {
    session.send(typeof this.#welcome === "string" ? JSON.stringify(frame) : frame);
  }

  #drive() {
    if (!this.#hooks || !this.#welcome) return;
    let request;
    while ((request = this.#resume.next(this.#ref + 1))) {
      this.#ref += 1;
      if (request.op === "subscribe") this.#askedRef = this.#ref;
      this.#socket.send(JSON.stringify(request));
    }
  }

  #subscribe(session, ref, { topics, since, mode, max_rate: rate, snapshot, last, tail }) {
    const begin = last ? { last } : tail ? { tail } : snapshot ? { snapshot } : {};
    const request = { session, ref, left: new Set(topics), subscriptions: new Set(), isAcked: false, isOver: false, last: null, ids: new Set() };
    request.isPlain = since === undefined && !Object.keys(begin).length;
    // What is asked for together is granted together, and has one place until it is live: so it waits for its whole.
    request.held = topics.length > 1 ? [] : null;
    for (const pattern of topics) {
      const subscription = {
        pattern, begin, at: since, latest: Boolean(mode || rate), rate, request,
        hand: () => this.#hand(subscription),
        gap: ({ since: from, topics: of }) => this.#gap(subscription, from, of),
        live: () => this.#live(subscription),
        refused: ({ code, message }) => this.#refuse(request, code, message),
      };
      session.subscriptions.add(subscription);
      request.subscriptions.add(subscription);
      this.#resume.add(subscription);
      // With nobody else's: what is refused to one is not asked for in halves for another.
      subscription.part = this.#part;
    }
    this.#part -= 1;
    this.#drive();
  }

  #unsubscribe(session, ref, { topics }) {
    for (const subscription of [...session.subscriptions]) if (topics.includes(subscription.pattern)) this.#drop(subscription);
    this.#say(session, { op: "ack", ref });
    this.#drive();
  }

  #drop(subscription) {
    const { request, pattern } = subscription;
    request.session.subscriptions.delete(subscription);
    request.subscriptions.delete(subscription);
    this.#resume.remove(subscription);
    if (request.isOver || !request.left.delete(pattern) || request.left.size) return;
    // Its last one: of what is left of it, all is live; of nothing, nothing is said.
    if (request.subscriptions.size) this.#finish(request);
    else request.isOver = true;
  }

  #refuse(request, code, message) {
    if (request.isOver) return;
    request.isOver = true;
    const { session, ref } = request;
    for (const subscription of [...request.subscriptions]) this.#drop(subscription);
    this.#say(session, { op: "error", ref, code, message });
  }

  // ---- What the broker says -----------------------------------------------------------------------

  #hear(message) {
    let frame;
    try { frame = this.#hooks.read(message); } catch { return this.end(1006, "not a broker"); }
    const { op, ref } = frame;
    this.#heard = { message, frame };
    const answer = this.#answers.get(ref);
    if (answer) {
      this.#answers.delete(ref);
      if (this.#sessions.has(answer.session.id)) answer.session.send(withMore(message, frame, { ref: answer.ref }));
    } else if (op === "event") this.#event(frame);
    else if (op === "welcome") this.#tellAll(this.#welcome = message);
    else if (op === "bye") this.#tellAll(message);
    else if (op === "goaway") this.#hooks.goaway(frame);
    else if (op === "warn") [...this.#sessions.values()].find(({ isKnown }) => isKnown)?.send(message);
    else if (op === "trouble") this.#tellAll(this.#trouble = message);
    else if (op === "error" && ref === undefined) {
      if (frame.code === "forbidden") this.#resume.doubt();
      this.#tellAll(message);
    } else if (op !== "pong" && op !== "heartbeat") this.#control(frame);
    this.#heard = null;
    if (op !== "event") this.#drive();
  }

  #tellAll(message) {
    for (const session of this.#sessions.values()) session.send(message);
  }

  #event(frame) {
    const { id, replay, snapshot, conflated } = frame;
    this.#resume.take(frame);
    if (id && replay === undefined && !snapshot && !conflated) this.#advance(id);
  }

  #control(frame) {
    const { op, ref, cursor } = frame;
    if (op === "ack" && ref === this.#askedRef) this.#grant();
    if (op === "live" || op === "cursor") {
      this.#floor = cursor;
      this.#advance(cursor);
    }
    this.#resume.take(frame);
    if (op === "cursor") this.#tellAll(this.#heard.message);
  }

  /** What was asked for last is granted, and begins. */
  #grant() {
    for (const session of this.#sessions.values()) {
      for (const each of session.subscriptions) {
        if (each.phase !== "asked") continue;
        each.isGranted = true;
        if (!each.request.held && !each.request.isOver) this.#ack(each.request);
      }
    }
  }

  #advance(cursor) {
    this.#place = this.#place === undefined ? cursor : later(this.#place, cursor);
  }

  /** What is for a request that is not live yet, once however many of its patterns it is for. */
  #push(request, message) {
    if (request.last === this.#heard.frame) return;
    request.last = this.#heard.frame;
    if (!request.held) {
      this.#ack(request);
      return request.session.send(message);
    }
    // What begins now has not begun before all of it has.
    if (request.isPlain && ![...request.subscriptions].every(({ phase, isGranted }) => isGranted || phase === "live")) return;
    // Where another tab wants some of its patterns otherwise, they come one after the other, and may have events in common.
    const { id, snapshot, conflated } = this.#heard.frame;
    const place = snapshot || conflated ? undefined : id;
    if (request.ids.has(id)) {
      // A value that comes once more stands behind older ones that came meanwhile, as the newest of its topic.
      const before = place ? -1 : request.held.findIndex((each) => each.id === id && !each.place);
      if (before < 0) return;
      request.held.splice(before, 1);
    }
    if (id) request.ids.add(id);
    // In their order, for what some of the patterns share with others may have come before.
    let at = request.held.length;
    while (place && at && request.held[at - 1].place && later(request.held[at - 1].place, place) !== place) at -= 1;
    request.held.splice(at, 0, { id, place, message });
    if (request.held.length <= MOST) return;
    request.isOver = true;
    request.session.alone();
  }

  #ack(request) {
    if (request.isAcked) return;
    request.isAcked = true;
    this.#say(request.session, { op: "ack", ref: request.ref });
  }

  #hand({ request, begin }) {
    const { message, frame } = this.#heard;
    const { session, ref, isOver } = request;
    // What is not kept comes once for all, be they live or not.
    const isForAll = frame.id === undefined && !frame.snapshot && !request.held;
    if (!isOver && !isForAll) return this.#push(request, frame.snapshot ? message : withMore(message, frame, { replay: ref }));
    // A value that another tab asked for stands for what waited here for a slow screen; only behind a gap it is one here as well.
    if (!frame.snapshot || session.isHealing && (begin.snapshot || begin.last)) this.#handOnce(session, "last", without(message, frame, "replay"));
    else this.#handOnce(session, "lastNewest", withMore(without(message, frame, "snapshot"), { ...frame, snapshot: undefined }, { conflated: true }));
  }

  /** Whichever of its patterns it is for. */
  #handOnce(session, form, message) {
    if (session[form] === this.#heard.frame) return;
    session[form] = this.#heard.frame;
    session.send(message);
  }

  #gap({ request }, since, topics) {
    const { session, ref, isOver } = request;
    const frame = { op: "gap", since, ...topics && { topics } };
    const say = (said) => typeof this.#welcome === "string" ? JSON.stringify(said) : said;
    if (!isOver) return this.#push(request, say({ ...frame, ref }));
    session.isHealing = true;
    this.#handOnce(session, "last", say(frame));
  }

  #live({ pattern, request, latest }) {
    const { session } = request;
    if (!request.isOver) {
      request.latest = latest;
      if (request.left.delete(pattern) && !request.left.size) this.#finish(request);
      return;
    }
    // Behind a gap some values may be asked for anew; only with the last of them the tab has all again.
    const isWhole = [...session.subscriptions].every((each) => !each.request.isOver || each.phase === "live");
    if (!session.isHealing || !isWhole) return;
    session.isHealing = false;
    this.#say(session, { op: "live", cursor: this.#floor });
  }

  #finish(request) {
    const { session, ref, held, latest } = request;
    request.isOver = true;
    this.#ack(request);
    for (const { message } of held ?? []) session.send(message);
    request.held = request.ids = null;
    this.#say(session, { op: "live", ref, cursor: latest ? this.#floor : this.#place });
    // A later subscribe to a pattern replaces the earlier one.
    const patterns = new Set([...request.subscriptions].map(({ pattern }) => pattern));
    for (const other of [...session.subscriptions]) if (other.request !== request && other.request.isOver && patterns.has(other.pattern)) this.#drop(other);
  }
}

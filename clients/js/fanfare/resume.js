// Where each subscription stands, and what to ask the broker for next.
//
// Pure state, without socket and clock: frames go in by `take`, requests come out by `next`. A subscription that is not
// live has a place of its own (`at`), from which it goes on; those that are live share the place of their connection.
// The broker begins subscriptions one after the other, for a current value does not say whose it is. A place moves
// behind the hand-over: what was not handed over comes again.

const MAX_REQUEST_CHARS = 60_000;
const MAX_ROUTES = 1_000;

/** A test for topics that a pattern matches: `*` is one segment, a final `>` one or more; `$` stands only for itself. */
export function matcher(pattern) {
  const parts = pattern.split(".");
  const open = parts.at(-1) === ">" && parts.pop();
  return (topic) => {
    if (topic[0] === "$" && pattern[0] !== "$") return false;
    const segments = topic.split(".");
    return (open ? segments.length > parts.length : segments.length === parts.length)
      && parts.every((part, n) => part === "*" || part === segments[n]);
  };
}

/**
 * The later of two cursors, `b` where they can't be compared. Cursors are opaque to all but the broker's own client: beside
 * conflated subscriptions a `cursor` may lie below what was handed over already, which must not come again.
 */
export function later(a, b) {
  const [[log, epoch, number], [log2, epoch2, number2]] = [a, b].map((cursor) => cursor.split("-"));
  return log === log2 && (epoch - epoch2 || number - number2) > 0 ? a : b;
}

const isLater = (id, than) => id !== than && (!than || later(than, id) === id);

/** How many values of each topic a beginning asks for, also after a gap. */
const values = ({ snapshot, last }) => last ?? (snapshot ? 1 : 0);

export class Resume {
  /** Whether each request has a connection of its own, with its own place. */
  lanes = false;
  subscriptions = new Set();
  /** Pattern → what the broker has: `{mode, values, lane}`. */
  #wire = new Map();
  /** Lane → up to where everything was handed over, of those that get all (`true`) and those that get the latest (`false`). */
  #places = new Map();
  /** The one request that is not live yet: `{ref, topics, isOne, mode, values, group, moved, acked}`. */
  #asked = null;
  /** Patterns to give back before anything else is asked for. */
  #dropped = new Set();
  #lostLanes = new Set();
  #routes = new Map();
  #parts = 0;
  /** Whether something has changed since `next` had nothing to ask for. */
  #stirred = false;

  /**
   * Takes a subscription: `{pattern, begin: {snapshot?, last?, tail?}, at?, latest?, rate?}` and what it is told by:
   * `hand(event)`, `gap(gap, isNews)` (nobody else tells of it), `live()`, `refused(error)`.
   */
  add(subscription) {
    this.subscriptions.add(Object.assign(subscription, { matches: matcher(subscription.pattern), phase: "new", part: 0, lane: 0, shown: new Map() }));
    this.#routes.clear();
    this.#stirred = true;
  }

  /** Gives it back; what the broker has is given back by `next`. */
  remove(subscription) {
    if (!this.subscriptions.delete(subscription)) return;
    this.#routes.clear();
    this.#stirred = true;
    const { lane } = subscription;
    if (lane && ![...this.subscriptions].some((other) => other.lane === lane)) this.#lostLanes.add(lane);
  }

  /** Whether everything that can be live is. */
  get settled() {
    return !this.#asked && ![...this.subscriptions].some(({ phase }) => phase === "new");
  }

  /** The connection is gone: each goes on from where it stands. */
  cut() {
    for (const subscription of this.subscriptions) {
      const { phase, lane, pattern, heals, latest, shown } = subscription;
      // A gap is behind its place already, and the current values that follow it may not have come.
      if (phase === "live") subscription.at = heals ? undefined : this.#placeOf(lane, this.#getsAll(subscription)) ?? subscription.at;
      else if (phase === "asked") {
        subscription.at = this.#asked?.moved ?? subscription.at;
        // It may have had fewer values than it asked for: who gets all has the replay instead.
        latest || shown.clear();
      }
      this.#startOver(subscription);
      // So what came of other topics than the gap named is gone as well.
      if (phase === "live" && heals) subscription.gap({ since: heals, patterns: [pattern] }, true);
    }
    this.#dropped.clear();
    this.#forget();
  }

  /** Some of what the broker had may be gone, as rights were: each is asked for again, from where it stands. */
  doubt() {
    const had = [...this.#wire.keys(), ...this.#asked?.topics ?? []];
    this.cut();
    this.#dropped = new Set(had);
  }

  /** What was refused is asked for again. */
  again() {
    for (const subscription of this.subscriptions) if (subscription.phase === "refused") this.#startOver(subscription);
  }

  #startOver(subscription) {
    this.#stirred = true;
    const { phase, part } = subscription;
    // What was refused must not be the end of the others.
    Object.assign(subscription, { phase: "new", lane: 0, heals: 0, part: phase === "refused" ? -1 : Math.min(part, 0) });
  }

  #forget() {
    this.#asked = null;
    this.#wire.clear();
    this.#places.clear();
    this.#lostLanes.clear();
  }

  /** The next request, or nothing while one is under way or nothing is wanted; `ref` becomes its number. */
  next(ref) {
    if (!this.#stirred) return;
    // Who joins is told of it, and may stir something.
    this.#stirred = false;
    const request = this.#giveBack(ref) ?? (this.#asked ? null : this.#joins() ?? this.#begin(ref) ?? this.#change(ref));
    if (request) this.#stirred = true;
    return request;
  }

  /** A request that gives back what nobody wants any more. */
  #giveBack(ref) {
    const wanted = new Set([...this.subscriptions].map(({ pattern }) => pattern));
    const asked = this.#asked;
    for (const pattern of [...this.#wire.keys(), ...asked?.topics ?? []]) {
      if (wanted.has(pattern)) continue;
      this.#wire.delete(pattern);
      this.#dropped.add(pattern);
    }
    if (asked) {
      asked.topics = asked.topics.filter((pattern) => !this.#dropped.has(pattern));
      if (!asked.topics.length) {
        // Behind this no more of it comes, nor its `live`.
        this.#lostLanes.add(asked.ref);
        this.#asked = null;
      }
    }
    const [topics, lanes] = [[...this.#dropped], [...this.#lostLanes]];
    this.#dropped.clear();
    this.#lostLanes.clear();
    if (this.lanes ? lanes.length : topics.length) return { op: "unsubscribe", ref, topics, ...this.lanes && { lanes } };
  }

  /** What every holder of a pattern gets enough by: all events, else the highest rate. */
  #mode(pattern) {
    let most = 0;
    for (const subscription of this.subscriptions) {
      if (subscription.pattern !== pattern || subscription.phase === "refused") continue;
      most = Math.max(most, subscription.latest ? subscription.rate ?? Number.MAX_VALUE : Infinity);
    }
    return most;
  }

  /** Who wants what comes from now on of a pattern that is live already, has it without a word. */
  #joins() {
    for (const subscription of this.subscriptions) {
      const { phase, pattern, at, begin } = subscription;
      const has = this.#wire.get(pattern);
      if (phase !== "new" || at !== undefined || Object.keys(begin).length || has?.mode !== this.#mode(pattern)) continue;
      subscription.lane = has.lane;
      this.#goLive(subscription);
    }
  }

  /** All that may begin together does: the same mode, the same way to begin, the same place. A tail is of one pattern. */
  #begin(ref) {
    let key, chars = 0;
    const group = [];
    const modes = new Map();
    for (const subscription of this.subscriptions) {
      const { phase, pattern, begin, at, part } = subscription;
      if (phase !== "new") continue;
      if (!modes.has(pattern)) modes.set(pattern, this.#mode(pattern));
      const own = JSON.stringify([modes.get(pattern), begin, at, part, begin.tail && pattern]);
      key ??= own;
      if (own !== key || (chars += pattern.length) > MAX_REQUEST_CHARS) continue;
      group.push(subscription);
      subscription.phase = "asked";
    }
    if (!group.length) return null;
    const [{ pattern, begin, at }] = group;
    return this.#ask(ref, [...new Set(group.map((each) => each.pattern))], modes.get(pattern), begin, at, group);
  }

  /** A pattern that is wanted in another way than the broker has it. */
  #change(ref) {
    if (this.lanes) return null;
    for (const [pattern, { mode, values: has }] of this.#wire) {
      const wanted = this.#mode(pattern);
      if (!wanted || wanted === mode) continue;
      const begin = has > 1 ? { last: has } : has ? { snapshot: true } : {};
      return this.#ask(ref, [pattern], wanted, begin, this.#placeOf(0, mode === Infinity), []);
    }
    return null;
  }

  #ask(ref, topics, mode, begin, at, group) {
    this.#asked = { ref, topics, isOne: topics.length === 1, mode, values: values(begin), group };
    const frame = { op: "subscribe", ref, topics, ...begin };
    if (at !== undefined) frame.since = at;
    if (mode === Number.MAX_VALUE) frame.mode = "latest";
    else if (mode !== Infinity) frame.max_rate = mode;
    return frame;
  }

  /** Whether the broker was asked for all of its pattern; in a lane of its own, whatever another lane has of it. */
  #getsAll({ pattern, lane }) {
    return lane ? !!this.#placeOf(lane, true) : this.#wire.get(pattern)?.mode === Infinity;
  }

  #placeOf(lane, isAll) {
    return this.#places.get(lane)?.[isAll];
  }

  #advance(lane, isAll, cursor) {
    const places = this.#places.get(lane) ?? {};
    this.#places.set(lane, { ...places, [isAll]: later(places[isAll] ?? cursor, cursor) });
  }

  /** All was sent up to here, whoever it was for. */
  #advanceBoth(lane, cursor) {
    for (const isAll of [true, false]) if (this.#placeOf(lane, isAll)) this.#advance(lane, isAll, cursor);
    const place = this.#placeOf(lane, false) ?? cursor;
    // What is not live begins at a place of its own, which may lie below.
    for (const { shown, phase, lane: own } of this.subscriptions) for (const [topic, id] of shown) if (phase === "live" && own === lane && !isLater(id, place)) shown.delete(topic);
  }

  /** Takes what the broker says. Of a `gap`, returns the patterns that it is of. */
  take(frame) {
    const { op, ref, lane = 0 } = frame;
    if (op === "event") return this.#event(frame, lane);
    this.#stirred = true;
    const asked = this.#asked?.ref === ref ? this.#asked : null;
    if (op === "gap") return this.#gap(frame, lane, asked);
    else if (op === "live") this.#live(frame, lane, asked);
    else if (op === "ack" && asked) asked.acked = true;
    else if (op === "error" && asked) this.#refuse(frame);
    else if (op === "cursor") this.#advanceBoth(lane, frame.cursor);
  }

  #event(event, lane) {
    const { id, replay, snapshot, conflated, topic } = event;
    const asked = this.#asked;
    const isReplay = replay !== undefined, isNewest = snapshot || conflated;
    // An event that is not kept comes once for all; a current value is of what begins, or of all that heal. Beside a place only a gap
    // brings values.
    const ofAsked = asked?.acked && (isReplay ? replay === asked.ref : snapshot ? asked.values : id === undefined);
    for (const subscription of this.#route(topic)) {
      const { phase, pattern, latest, shown, heals, at } = subscription;
      if (!this.subscriptions.has(subscription)) continue;
      // Who was shown something newer has no use for it: though the pattern be asked for anew for somebody who gets all, and though
      // a value that a gap brought came amid a replay.
      const isFresh = !id || isLater(id, shown.get(topic));
      let isHeard = ofAsked && phase === "asked" && (snapshot ? !id || heals || at === undefined : isFresh);
      if (phase === "live" && subscription.lane === lane) {
        // Who gets all has had what still waits for a slow screen.
        const getsAll = this.#getsAll(subscription);
        isHeard = !isReplay && !(conflated && getsAll) && (snapshot ? heals : isFresh)
          // What waits is not sent any more once a newer value of the topic is sent, whoever it was for.
          || isNewest && !this.lanes && !getsAll && id && isLater(id, shown.get(topic) ?? this.#placeOf(lane, false));
      }
      if (!isHeard) continue;
      if (id && isFresh && (latest || snapshot)) shown.set(topic, id);
      subscription.hand(event);
    }
    if (id === undefined || isNewest) return;
    if (!isReplay) this.#advance(lane, true, id);
    // Whoever it was handed to may have had it all asked for anew.
    else if (ofAsked) asked.moved = id;
  }

  #route(topic) {
    let route = this.#routes.get(topic);
    if (!route) {
      if (this.#routes.size >= MAX_ROUTES) this.#routes.clear();
      route = [...this.subscriptions].filter(({ matches }) => matches(topic));
      this.#routes.set(topic, route);
    }
    return route;
  }

  #gap({ since, topics, ref }, lane, asked) {
    if (ref !== undefined && !asked) return [];
    const { group = [], acked } = this.#asked ?? {};
    const isOf = ({ phase, lane: own }) => phase === "live" ? own === lane : acked && !this.lanes && phase === "asked";
    const told = asked ? group : [...this.subscriptions].filter(isOf);
    const patterns = new Set();
    for (const subscription of told) {
      const { pattern, phase, begin, matches } = subscription;
      if (!this.subscriptions.has(subscription) || topics && !topics.some(matches)) continue;
      patterns.add(pattern);
      // Current values are sent behind a gap, to who asked for them.
      const wanted = values(begin);
      subscription.heals = wanted && since;
      // The broker sends values again as the last request for the pattern said; who wants more of them begins anew, of all topics.
      const isAnew = phase === "live" && wanted > this.#wire.get(pattern)?.values;
      if (isAnew) Object.assign(subscription, { at: undefined, phase: "new" });
      subscription.gap({ since, patterns: [pattern], ...!isAnew && { topics } });
    }
    return [...patterns];
  }

  #live({ cursor, ref }, lane, asked) {
    if (ref !== undefined && !asked) return;
    if (asked) {
      const { topics, mode, values, moved } = asked;
      this.#asked = null;
      for (const pattern of topics) this.#wire.set(pattern, { mode, values, lane });
      if (moved && mode === Infinity) this.#advance(lane, true, moved);
      this.#advance(lane, mode === Infinity, cursor);
    }
    // Where tabs share a connection, what they get all of may be further than what still waits for a slow screen.
    if (asked?.mode !== Infinity) this.#advanceBoth(lane, cursor);
    for (const subscription of asked?.group ?? this.subscriptions) {
      if (!this.subscriptions.has(subscription) || !asked && (subscription.phase !== "live" || subscription.lane !== lane)) continue;
      subscription.lane = lane;
      this.#goLive(subscription);
    }
  }

  #goLive(subscription) {
    Object.assign(subscription, { phase: "live", heals: 0 });
    subscription.live();
  }

  /**
   * A subscribe is refused whole: halves find out which pattern it is. Where a session is full, they find where: what is left of them is
   * refused with the first that finds no room. (What `last` asks for may be too much for itself.)
   */
  #refuse({ code, message }) {
    const { topics, isOne, group, values } = this.#asked;
    const half = new Set(topics.slice(topics.length / 2));
    this.#asked = null;
    this.#parts += 2;
    // As good as had: it is not asked for again and again.
    if (isOne && !group.length) this.#wire.get(topics[0]).mode = this.#mode(topics[0]);
    for (const subscription of this.subscriptions) {
      const { phase, part, pattern } = subscription;
      if (phase !== "asked" && (phase !== "new" || part < 1 || !isOne || values > 1 || code !== "too_many" || this.#wire.has(pattern))) continue;
      subscription.phase = isOne ? "refused" : "new";
      subscription.part = this.#parts + half.has(pattern);
      if (isOne) subscription.refused({ code, message, pattern });
    }
  }
}

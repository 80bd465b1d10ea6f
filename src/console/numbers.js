// What the nodes say of themselves once a second (`$sys.metrics`), with the last 15 minutes: sums, rates, and what is wrong.

import { bytes, count, duration, many } from "./words.js";

export const TOPIC = "$sys.metrics";
/** Seconds that are remembered, and asked for. */
export const PAST = 900;

/** A node of which nothing came for so long is away: each says something once a second. */
const AWAY_MS = 4_000;
/** How long a change counts as one of now. */
const LATELY_S = 60;
/** A figure this near to its limit is worth a word. */
export const NEAR = 0.8;
const MANY_NODES = 64;
const SLOW_MS = 2_000;

/** All nodes, by name. */
export class Numbers {
  nodes = new Map();
  /** The newest moment that any node has told of, in milliseconds since 1970. */
  newest = 0;
  /** When something came last, by this machine's clock, which goes on while it sleeps. */
  heardAt = 0;

  add({ data, time }) {
    if (typeof data?.node !== "string") return;
    const at = Date.parse(time);
    let node = this.nodes.get(data.node);
    if (!node) this.nodes.set(data.node, node = { name: data.node, past: [] });
    // After each connection the past comes again.
    if (node.last && data.number <= node.last.number) return;
    node.last = data;
    node.at = at;
    // Of what is past, only figures are of use.
    const { slowest: _, errors: __, webhooks: ___, failing: ____, issuer: _____, ...figures } = data;
    node.past.push({ at, data: figures });
    this.newest = Math.max(this.newest, at);
    this.heardAt = Date.now();
    const from = this.newest - PAST * 1000;
    while (node.past.length > PAST || node.past[0]?.at < from) node.past.shift();
  }

  /** Forgets nodes of which nothing is left. */
  tidy() {
    const from = this.newest - PAST * 1000;
    for (const [name, node] of this.nodes) if (node.at < from) this.nodes.delete(name);
    while (this.nodes.size > MANY_NODES) this.nodes.delete([...this.nodes.values()].sort((a, b) => a.at - b.at)[0].name);
  }

  /** How late the newest is: more than a few seconds while nothing comes. */
  lateness(now = Date.now()) {
    return this.heardAt ? now - this.heardAt : undefined;
  }

  /** Nothing is known of now. */
  get isOld() {
    return this.lateness() > AWAY_MS;
  }

  isAway(node) {
    return this.newest - node.at > AWAY_MS;
  }

  /** By name, those that are there before those that are away. */
  all() {
    return [...this.nodes.values()].sort((a, b) => this.isAway(a) - this.isAway(b) || (a.name < b.name ? -1 : 1));
  }

  present() {
    return this.all().filter((node) => !this.isAway(node));
  }

  /** What the nodes that are there come to; nothing where `of` finds nothing in any. */
  sum(of) {
    const found = this.present().map(({ last }) => of(last)).filter((each) => each !== undefined);
    return found.length ? found.reduce((sum, each) => sum + each) : undefined;
  }

  most(of) {
    const found = this.present().map(({ last }) => of(last)).filter((each) => each !== undefined);
    return found.length ? Math.max(...found) : undefined;
  }

  /**
   * A figure over the last 15 minutes, a second each, the newest last; `undefined` where no node said anything. `join` makes one of what
   * several nodes say.
   */
  series(of, join = (a, b) => a + b) {
    const end = Math.floor(this.newest / 1000);
    const points = new Array(PAST).fill(undefined);
    for (const { past } of this.nodes.values()) {
      const own = new Array(PAST);
      for (const { at, data } of past) {
        const place = PAST - 1 - (end - Math.floor(at / 1000));
        if (place >= 0 && place < PAST) own[place] = of(data) ?? null;
      }
      // A period is a little longer than a second, and a report may fall into the next one.
      for (let place = PAST - 1; place > 0; place--) if (own[place] === undefined && own[place - 1] !== undefined) own[place] = own[place - 1];
      own.forEach((value, place) => {
        if (typeof value === "number") points[place] = points[place] === undefined ? value : join(points[place], value);
      });
    }
    return points;
  }

  /** How much a total of a node has grown within the last minute. */
  lately({ past, last }, of, seconds = LATELY_S) {
    const from = this.newest - seconds * 1000;
    const before = past.findLast(({ at }) => at <= from) ?? past[0];
    // A node that has just come began at nothing.
    const begun = before.at > from && before.data.number === 1 ? 0 : of(before.data) ?? 0;
    return (of(last) ?? 0) - begun;
  }

  /** The sessions for which most waits, of all nodes. */
  slowest() {
    const all = this.present().flatMap(({ name, last }) => last.slowest.map((each) => ({ ...each, node: name, limit: last.queue.limit_bytes })));
    return all.sort((a, b) => b.queued_bytes - a.queued_bytes).slice(0, 8);
  }

  /** The newest lines of the log, of all nodes. */
  errors() {
    const all = this.all().flatMap(({ name, last }) => last.errors.map((each) => ({ ...each, node: name })));
    return all.sort((a, b) => (a.time < b.time ? 1 : -1)).slice(0, 12);
  }

  /**
   * What is wrong, the worst first: `{level: "bad" | "warn", what, detail, node?, to?, next?}`. `next` is what to do, and the name of the alert of
   * which there is a runbook: the same as `fanfare top` says.
   */
  troubles() {
    const found = [];
    for (const node of this.all()) found.push(...(this.isAway(node) ? this.#away(node) : this.#wrongOf(node)));
    const versions = new Set(this.present().map(({ last }) => last.version));
    if (versions.size > 1) found.push({ level: "warn", what: "Nodes of different releases", detail: [...versions].join(", "), to: "nodes" });
    return found.sort((a, b) => (a.level > b.level) - (a.level < b.level));
  }

  /** A node has another name after each start: one that has begun since is taken for the same. */
  *#away({ name, at, last }) {
    const isBack = this.present().some((other) => Date.parse(other.last.started) > at - 1000);
    const isMeant = isBack || last.failing.some(({ check }) => check === "serving");
    const since = this.newest - at;
    if (isMeant && since > LATELY_S * 1000) return;
    const what = isBack ? "A node was started anew" : isMeant ? "A node has stopped" : "A node is away";
    yield { level: isMeant ? "warn" : "bad", node: name, to: "nodes", what, detail: `nothing came of it for ${duration(since)}`, next: isMeant ? undefined : NEXT.away };
  }

  *#wrongOf(node) {
    const { name, last } = node;
    const say = (level, what, detail, to, next) => ({ level, what, detail, node: name, to, next });
    yield* this.#checks(node, say);
    if (last.issuer?.state === "away") {
      const { detail, since_ms: since, has_keys: hasKeys } = last.issuer;
      yield say(hasKeys ? "warn" : "bad", "The token issuer is down", `${detail}, for ${duration(since)}: ${hasKeys ? "known keys still hold" : "tokens can't be checked"}`, "token", NEXT.issuer);
    }
    for (const { what, used, limit, show } of limits(last)) {
      if (limit && used / limit >= NEAR) yield say(used / limit >= 0.95 ? "bad" : "warn", `${what} near the limit`, `${show(used)} of ${show(limit)}`);
    }
    for (const { session, user, lag_ms: lag, queued_bytes: queued, skipped } of last.slowest) {
      if (lag >= SLOW_MS || queued >= last.queue.limit_bytes / 2) {
        const left = skipped ? `, ${many(skipped, "event")} left out` : "";
        yield say("warn", `A client is slow: ${user ?? `session ${session.slice(0, 8)}…`}`, `${bytes(queued)} wait, ${duration(lag)} behind${left}`, "sessions", NEXT.slow);
      }
    }
    for (const { name: hook, outcome, detail, lag_ms: lag, turn } of last.webhooks) {
      if (turn && outcome === "failed") yield say("warn", `Webhook ${hook} is not taken`, `${detail}; the oldest notice waits for ${duration(lag)}`, "webhooks", NEXT.webhook);
    }
    yield* this.#lately(node, say);
  }

  *#checks({ last }, say) {
    const away = last.failing.find(({ check }) => check === "redis");
    for (const { check, detail, since_ms: since } of last.failing) {
      // Behind Redis the history fails with it, in the same words: then Redis is what to look at.
      if (check === "history" && away?.detail === detail) continue;
      yield say("bad", CHECKS[check] ?? `Failing: ${check}`, since === undefined ? detail : `${detail}, for ${duration(since)}`, check === "redis" ? "nodes" : undefined, NEXT[check]);
    }
    if (last.redis?.state === "away" && !away) {
      yield say("bad", CHECKS.redis, [last.redis.detail, `for ${duration(last.redis.since_ms)}`].filter(Boolean).join(", "), "nodes", NEXT.redis);
    }
  }

  *#lately(node, say) {
    const cut = this.lately(node, ({ closes: { slow_consumer: slow = 0, stalled = 0 } }) => slow + stalled);
    if (cut > 0) yield say("warn", "Slow clients were cut off", `${count(cut)} within a minute`, "sessions", NEXT.slow);
    const gaps = this.lately(node, ({ total }) => total.gaps);
    if (gaps > 0) yield say("warn", "Gaps were told", `${count(gaps)} within a minute: clients lost events`, "overview");
    const connected = this.lately(node, ({ total }) => total.connected, 10);
    const there = node.last.sessions.websocket + node.last.sessions.sse;
    if (connected > 100 && connected > there / 4) yield say("warn", "Many clients come at once", `${count(connected)} within 10 s`, "sessions", NEXT.herd);
    const refusals = Object.keys(node.last.refusals).map((reason) => [reason, this.lately(node, (data) => data.refusals[reason])]);
    const now = refusals.filter(([, number]) => number > 0).sort((a, b) => b[1] - a[1]);
    if (now.length) yield say("warn", "Refused within a minute", now.map(([reason, number]) => `${count(number)} ${reason}`).join(", "));
  }
}

const NEXT = {
  history: { step: "Make space, or see what holds up the disk of history.path; nothing has to be restarted.", alert: "FanfareHistoryFails" },
  redis: { step: "See that Redis runs and this node reaches it; publishes are refused until then.", alert: "FanfareRedisAway" },
  away: { step: "See whether its process runs; its clients come back to the other nodes.", alert: "FanfareDown" },
  issuer: { step: "Fetch auth.jwks_url from this node; sessions stay until their token is over.", alert: "FanfareIssuerDown" },
  slow: { step: "It wants mode \"latest\", max_rate or fewer topics; many at once are a network.", alert: "FanfareSlowClients" },
  herd: { step: "See how their sessions ended before; limits.connects_per_second holds back.", alert: "FanfareHerd" },
  webhook: { step: "Have its target answer 2xx; what waits is posted again, in order, for a day.", alert: "FanfareWebhookFails" },
};

const CHECKS = { history: "The history can't be written", redis: "Redis is away", serving: "A node is stopping" };

/** Figures of a node that have a limit at which something goes wrong. */
export const limits = ({ sessions, sockets, queue, memory, process, history }) => [
  { what: "Sessions", used: sessions.websocket + sessions.sse, limit: sessions.limit, show: count },
  { what: "Connections", used: sockets.open, limit: sockets.limit, show: count },
  { what: "Memory", used: memory.rss_bytes, limit: memory.limit_bytes, show: bytes },
  { what: "The largest queue of a client", used: queue.largest_bytes, limit: queue.limit_bytes, show: bytes },
  { what: "Events that wait for a worker", used: queue.inbox, limit: queue.inbox_limit, show: count },
  { what: "Events that wait for the history", used: history.pending_bytes, limit: history.pending_limit_bytes, show: bytes },
  { what: "File descriptors", used: process.descriptors, limit: process.descriptors_limit, show: count },
].filter(({ used, limit }) => used !== undefined && limit);

/** Figures of a node that may stand at their limit for good: then the oldest events go. */
export const rooms = ({ disk, history }) => [
  disk && { what: "Disk", used: disk.used_bytes, limit: disk.limit_bytes, show: bytes, free: disk.free_bytes },
  history.limit_bytes && { what: `History (${history.kind})`, used: history.bytes, limit: history.limit_bytes, show: bytes },
].filter(Boolean);

// A page, as the attack has it: a client in a process of its own, which can be frozen and thawed, and does as it is told.
//
// What each handler is told is kept in order, and given when it is asked for.

import { Fanfare } from "../fanfare.js";
import { tokenFor } from "./harness.mjs";
import { dice as diceOf } from "./model.mjs";

const { url, secret, grant, seed, isWithout } = JSON.parse(process.argv[2]);
const dice = diceOf(seed);

const window = new EventTarget();
globalThis.document = Object.assign(new EventTarget(), { visibilityState: "visible" });
globalThis.addEventListener = window.addEventListener.bind(window);

/** When the token is over that was shown last. */
let endsAt = Infinity;

/** A token that is over soon; some can't be had, and some take their time. */
async function token() {
  if (dice.may(0.1)) throw new Error("no network");
  if (dice.may(0.2)) await new Promise((next) => setTimeout(next, dice.below(300)));
  const seconds = 2 + dice.below(4);
  endsAt = (Math.floor(Date.now() / 1000) + seconds) * 1000;
  return tokenFor(secret, { sub: `page${seed}`, seconds, subscribe: grant, publish: grant });
}

const fanfare = new Fanfare(url, { token, ...isWithout && { WebSocket: null } });
const said = { errors: [], gaps: [], states: [] };
fanfare.on("state", ({ state, reason }) => {
  said.states.push([state, reason?.code]);
  // Frozen, or without a processor, a page may show two tokens that are over, and is refused by right: its user signs in again.
  if (state === "refused" && Date.now() >= endsAt) fanfare.reconnect();
});
fanfare.on("error", ({ code, message }) => said.errors.push([code, message]));
fanfare.on("gap", (gap) => said.gaps.push(gap));

/** Number → `{told, undo}`: events as `[id, topic, data, kind]`, and `["gap", topics, since]`, `["live"]`, `["error", code]`. */
const subscriptions = new Map();

function subscribe({ n, pattern, how }) {
  const told = [];
  const undo = fanfare.subscribe(pattern, {
    ...how,
    onGap: ({ topics, since }) => told.push(["gap", topics, since]),
    onLive: () => told.push(["live"]),
    onError: ({ code }) => told.push(["error", code]),
  }, ({ id, topic, data, snapshot, conflated }) => { told.push([id, topic, data, snapshot ? "value" : conflated ? "conflated" : ""]); });
  subscriptions.set(n, { told, undo });
}

/** The newest of each topic that each subscription has been told. */
function newest() {
  const all = {};
  for (const [n, { told }] of subscriptions) all[n] = Object.fromEntries(told.filter(([, topic]) => typeof topic === "string" && topic.includes(".")).map(([id, topic]) => [topic, id]));
  return all;
}

const deeds = {
  subscribe,
  undo: ({ n }) => subscriptions.get(n).undo(),
  reconnect: () => fanfare.reconnect(),
  disconnect: () => { fanfare.disconnect(); setTimeout(() => fanfare.reconnect(), 20); },
  renew: () => { fanfare.renew().catch(() => {}); },
  wake: () => document.dispatchEvent(new Event("visibilitychange")),
  hide: () => window.dispatchEvent(new Event("pagehide")),
  show: () => window.dispatchEvent(new Event("pageshow")),
  publish({ topic, data, except }) {
    fanfare.publish(topic, data, { queue: true, ...except && { except: true } }).then(({ id }) => process.send({ data, topic, id }), ({ code }) => process.send({ data, topic, code }));
  },
  how: () => ({ isLive: fanfare.state === "live", begun: [...subscriptions].filter(([, { told }]) => told.some(([what]) => what === "live")).map(([n]) => n), newest: newest() }),
  all: () => ({ ...said, told: Object.fromEntries([...subscriptions].map(([n, { told }]) => [n, told])) }),
};

process.on("message", ({ ask, deed, ...more }) => {
  const answer = deeds[deed](more);
  if (ask) process.send({ ask, answer });
});
process.send({ ready: true });

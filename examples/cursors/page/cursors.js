// Everyone's cursor on everyone's board. All that has to do with the broker is here; what moves and paints is in `board.js`.

import { Fanfare } from "fanfare";
import { connection, map, publisher } from "fanfare/stores";
import { Board } from "./board.js";

const RATE = 30;

/** Who this browser is, and a fresh token; the same again for each tab and each connection. */
async function guest() {
  const pass = localStorage.getItem("cursors") ?? undefined;
  const answer = await fetch("guest", { method: "POST", body: JSON.stringify({ pass }) });
  if (!answer.ok) throw new Error(await answer.text());
  const given = await answer.json();
  localStorage.setItem("cursors", given.pass);
  return given;
}

const { user } = await guest();
const fanfare = new Fanfare({ token: async () => (await guest()).token });

// Ends with this tab, and is said again on each connection. Without a key, for the next value replaces it anyway.
const put = publisher(fanfare, `cursors.${user}.{session}`, { bound: true, key: null, throttle: 1000 / RATE });
// While there is no connection nobody is to be told where the cursor has been meanwhile.
const ignore = () => {};

const board = new Board(user, {
  move: (x, y) => put([x, y]).catch(ignore),
  leave: () => put(undefined, { bound: false, removed: true }).catch(ignore),
  click: (x, y) => fanfare.publish("clicks.{session}", [x, y], { except: true }).catch(ignore),
});

map(fanfare, "cursors.*.*", { maxRate: RATE }).subscribe(({ entries }) => {
  board.show([...entries.values()].filter(({ own }) => !own).map(({ topic, data, from }) => [topic, from.user, data]));
});
fanfare.subscribe("clicks.*", ({ data, from }) => board.ripple(data, from.user));
connection(fanfare).subscribe(({ state }) => board.say(state));

// A thousand prices. What has to do with the broker is here; the table, which paints what can be seen, is in `table.js`.

import { Fanfare } from "fanfare";
import { Table } from "./table.js";

const SLOW_RATE = 1;
const STATES = { live: "", connecting: "Connecting…", waiting: "Offline: prices are old", refused: "The broker refuses this page" };

const byId = (id) => document.getElementById(id);
const fanfare = new Fanfare();
const table = new Table(byId("scroll"), byId("rows"));
let updates = 0, skipped = 0;

function take({ topic, data, snapshot, skipped: more = 0 }) {
  updates += 1;
  skipped += more;
  table.set(topic.slice("ticks.".length), data, more, snapshot);
}

/** The newest price of each symbol: as fast as this page takes them, or for a slow screen at most so many a second of each. */
const follow = (maxRate) => fanfare.subscribe("ticks.*", { snapshot: true, latest: true, maxRate }, take);

let stop = follow();
byId("slow").onchange = ({ target }) => {
  stop();
  stop = follow(target.checked ? SLOW_RATE : undefined);
};
byId("find").oninput = ({ target }) => table.find(target.value.trim().toUpperCase());

fanfare.on("state", ({ state }) => {
  byId("state").textContent = STATES[state] ?? "";
  document.body.dataset.state = state;
});

setInterval(() => {
  byId("updates").textContent = updates.toLocaleString();
  byId("skipped").textContent = skipped.toLocaleString();
  byId("frames").textContent = table.frames;
  updates = table.frames = 0;
}, 1000);

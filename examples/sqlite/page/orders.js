// The orders: what the application's own API says, and then what comes. There is no seam between the two.

import { Fanfare } from "fanfare";
import { reduced } from "fanfare/stores";

const fanfare = new Fanfare();

/** The rows and the place of the log that was read before them, from where events go on. */
async function load() {
  const answer = await fetch("orders");
  if (!answer.ok) throw new Error(await answer.text());
  const { since, orders } = await answer.json();
  return { since, state: new Map(orders.map((order) => [order.id, order])) };
}

/** An event says what a row is. What was committed while the rows were read comes once more, and changes nothing. */
function reduce(orders, { data: order }) {
  return orders.get(order.id)?.version >= order.version ? orders : new Map(orders).set(order.id, order);
}

reduced(fanfare, "orders.*", { load, reduce }).subscribe(({ state, stale, error }) => {
  const standing = document.querySelector("#standing");
  standing.dataset.standing = stale ? "stale" : "live";
  standing.textContent = error?.message ?? (stale ? "catching up" : "live");
  if (state) draw(state);
});

/** Says what an order is to be, until that is answered: said twice, it is so once. */
async function put({ id, item, quantity, shipped }) {
  for (let wait = 200; ; wait = Math.min(2 * wait, 5000)) {
    const body = JSON.stringify({ item, quantity, shipped });
    const answer = await fetch(`orders/${id}`, { method: "PUT", body }).catch(() => null);
    if (answer?.ok) return;
    if (answer?.status < 500) return document.querySelector("#refused").textContent = await answer.text();
    await new Promise((next) => setTimeout(next, wait));
  }
}

document.querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  put({ id: crypto.randomUUID(), ...Object.fromEntries(new FormData(event.target)), shipped: false });
});

const rows = new Map();

function draw(orders) {
  for (const order of orders.values()) {
    const known = rows.get(order.id);
    if (known?.order === order) continue;
    const row = known?.row ?? rowOf(order.id);
    rows.set(order.id, { row, order });
    const [item, quantity, status] = row.cells;
    item.textContent = order.item;
    quantity.textContent = order.quantity;
    status.firstChild.checked = order.shipped;
    status.firstChild.ariaLabel = `${order.quantity} × ${order.item}: shipped`;
    row.classList.toggle("shipped", Boolean(order.shipped));
  }
  const all = [...orders.values()];
  const open = all.filter(({ shipped }) => !shipped).length;
  document.querySelector("#sums").textContent = `${all.length} ${all.length === 1 ? "order" : "orders"}, ${open} open, ${all.reduce((sum, { quantity }) => sum + quantity, 0)} items`;
}

function rowOf(id) {
  const row = document.querySelector("tbody").insertRow(0);
  row.dataset.id = id;
  const [, , status] = [row.insertCell(), row.insertCell(), row.insertCell()];
  status.append(Object.assign(document.createElement("input"), { type: "checkbox" }), " shipped");
  status.firstChild.addEventListener("change", ({ target }) => put({ ...rows.get(id).order, shipped: target.checked }));
  return row;
}

// The page of the game. It knows no rules: what it asks for, the referee judges, and what the referee says is drawn.

import { Fanfare } from "fanfare";

const COLUMNS = 7, ROWS = 6;
const find = (selector) => document.querySelector(selector);

// Who this tab is: what only it knows, and a reload does not change.
const tab = sessionStorage;
tab.secret ??= crypto.getRandomValues(new Uint32Array(5)).join("-");
tab.name ??= ["Ada", "Alan", "Barbara", "Edsger", "Grace", "Katherine", "Niklaus", "Radia"].at(Math.random() * 8);

find("#name").value = tab.name;
find("#name").addEventListener("change", ({ target }) => {
  tab.name = target.value;
  if (tab.seat) sit(tab.seat);
});

async function identify() {
  const answer = await fetch("token", { method: "POST", body: JSON.stringify({ secret: tab.secret }) });
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

const { guest } = await identify();
const fanfare = new Fanfare({ token: async () => (await identify()).token });
const seatTopic = `four.seats.${guest}`;
const nameOf = { red: "Red", yellow: "Yellow" };

/** The newest state that the referee published. */
let game = null;

// ---- What is asked for ------------------------------------------------------------------------

/** A seat ends with the tab, for the value that asks for it does. */
function sit(seat) {
  tab.seat = seat;
  ask(fanfare.publish(seatTopic, { seat, name: tab.name }, { bound: true, queue: true }));
}

function stand() {
  tab.removeItem("seat");
  ask(fanfare.publish(seatTopic, undefined, { removed: true, queue: true }));
}

const play = (move) => ask(fanfare.publish(`four.moves.${guest}`, move));

async function ask(published) {
  try { await published; } catch ({ code, message }) { refuse(code === "offline" ? "There is no connection just now." : message); }
}

function refuse(why) {
  const refusal = find("#refusal");
  refusal.textContent = why;
  refusal.hidden = false;
  clearTimeout(refuse.timer);
  refuse.timer = setTimeout(() => { refusal.hidden = true; }, 5000);
}

// ---- What is heard ----------------------------------------------------------------------------

fanfare.subscribe("four.board", { snapshot: true }, ({ data }) => { game = data; draw(); });

fanfare.subscribe(`four.told.${guest}`, ({ data: { about, why } }) => {
  if (about === "seats") stand();
  refuse(why);
});

const here = new Set();
fanfare.subscribe("$presence.four.board", {
  snapshot: true,
  onGap: () => here.clear(),
  onLive: () => drawWatching(),
}, ({ type, data }) => {
  if (type === "presence.left") here.delete(data.session);
  else here.add(data.session);
  drawWatching();
});

fanfare.on("state", ({ state }) => Object.assign(find("#connection"), { textContent: state }).dataset.state = state);
fanfare.on("error", ({ message }) => refuse(message));

if (tab.seat) sit(tab.seat);

// ---- What is drawn ----------------------------------------------------------------------------

const columns = Array.from({ length: COLUMNS }, (_, at) => {
  const column = document.createElement("button");
  column.type = "button";
  column.append(...Array.from({ length: ROWS }, () => Object.assign(document.createElement("i"), { className: "hole" })));
  column.addEventListener("click", () => play({ column: at }));
  find("#board").append(column);
  return column;
});

function draw() {
  const { board, seats, turn, winner, line } = game;
  const mine = Object.keys(seats).find((seat) => seats[seat].user === guest);
  board.forEach((discs, x) => {
    columns[x].ariaLabel = `Column ${x + 1}: ${discs.length ? `${discs.join(", ")} from the bottom` : "empty"}`;
    [...columns[x].children].forEach((hole, fromTop) => {
      const y = ROWS - 1 - fromTop;
      const isInLine = line.some(([column, row]) => column === x && row === y);
      hole.className = ["hole", discs[y] ?? "", isInLine ? "line" : ""].join(" ").trim();
    });
  });
  for (const card of document.querySelectorAll(".seat")) {
    const { seat } = card.dataset, who = seats[seat];
    card.classList.toggle("turn", seat === turn);
    card.classList.toggle("mine", seat === mine);
    card.querySelector("h2").textContent = seat === mine ? `${nameOf[seat]} · you` : nameOf[seat];
    card.querySelector(".who").textContent = who?.name ?? "free";
    const button = card.querySelector("button");
    button.textContent = seat === mine ? "Stand up" : "Sit down";
    button.ariaLabel = `${button.textContent}, ${seat}`;
    button.hidden = mine ? seat !== mine : Boolean(who);
    button.onclick = seat === mine ? stand : () => sit(seat);
  }
  const name = (seat) => seats[seat]?.name ?? nameOf[seat];
  find("#board").classList.toggle("yours", Boolean(mine) && mine === turn);
  find("#said").textContent = winner ? `${winner === mine ? "You have" : `${name(winner)} has`} four in a row!`
    : !turn ? "The board is full: a draw."
    : turn === mine ? "It is your turn."
    : seats[turn] ? `It is ${name(turn)}’s turn.` : `${nameOf[turn]} is to move: the seat is free.`;
  find("#again").hidden = Boolean(turn) || !mine;
  document.title = mine && turn === mine ? "● Your turn – Four in a row" : "Four in a row";
}

function drawWatching() {
  find("#watching").textContent = here.size === 1 ? "You are alone here." : `${here.size} are here.`;
}

find("#again").addEventListener("click", () => play({ again: true }));
addEventListener("keydown", ({ key, target, ctrlKey, metaKey, altKey }) => {
  if (target.matches("input") || ctrlKey || metaKey || altKey) return;
  if (key >= "1" && key <= `${COLUMNS}`) columns[key - 1].click();
  const at = columns.indexOf(target);
  const step = { ArrowLeft: -1, ArrowRight: 1 }[key];
  if (at >= 0 && step) columns[(at + step + COLUMNS) % COLUMNS].focus();
});

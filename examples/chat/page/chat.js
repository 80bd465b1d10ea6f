// A room: what was said, who is here, who is typing. What has to do with the broker is the first half; the second paints.

import { Fanfare } from "fanfare";
import { connection, list, presence } from "fanfare/stores";

const ROOM = "chat.lobby", TYPING = "chat.lobby.typing";
const PAGE = 50;
const TYPING_MS = 3_000;

const byId = (id) => document.getElementById(id);

async function ask(path, body) {
  const answer = await fetch(path, { method: "POST", body: JSON.stringify(body) });
  if (!answer.ok) throw Object.assign(new Error(await answer.text()), { status: answer.status });
  return answer;
}

// ---- Live -------------------------------------------------------------------------------------

function enter({ pass, name }) {
  const fanfare = new Fanfare({
    token: () => ask("token", { pass }).then((answer) => answer.text(), (error) => {
      if (error.status === 401) logOut();
      throw error;
    }),
  });
  const messages = list(fanfare, ROOM, { tail: PAGE });
  /** What was written here and has not come back yet: it is shown at once, behind all that has. */
  let unconfirmed = [];
  /** One goes behind the other, so that they stand in this order wherever they go out. */
  let sent = Promise.resolve();

  messages.subscribe(({ events, more, loading }) => {
    const confirmed = new Set(events.filter(({ from }) => from?.user === name).map(({ data }) => data?.nonce));
    unconfirmed = unconfirmed.filter(({ nonce }) => !confirmed.has(nonce));
    paintMessages(events, unconfirmed, name);
    paintOlder(more, loading);
  });
  byId("older").onclick = () => messages.older(PAGE).catch(({ message }) => paintState(message));

  presence(fanfare, ROOM).subscribe(({ members }) => paintMembers(new Set(members.map(({ user }) => user)), name));
  connection(fanfare).subscribe(({ state, trouble }) => paintState(trouble ? "The broker is in trouble" : WORDS[state] ?? "", state));

  function send(text) {
    const message = { text, nonce: crypto.randomUUID() };
    unconfirmed.push(message);
    typedAt = 0;
    paintMessages(messages.current.events, unconfirmed, name);
    scrollDown();
    // Waits for a connection if need be, and is kept once, however often that breaks.
    sent = sent.then(() => fanfare.publish(ROOM, message, { queue: true })).catch((error) => {
      message.failed = error.message;
      paintMessages(messages.current.events, unconfirmed, name);
    });
  }

  // Typing is told to who is here, and not kept.
  let typedAt = 0;
  function type() {
    if (Date.now() - typedAt < TYPING_MS) return;
    typedAt = Date.now();
    fanfare.publish(TYPING, null, { keep: false, except: true }).catch(() => {});
  }
  const typing = new Map();
  const quiet = (user) => {
    clearTimeout(typing.get(user));
    typing.delete(user);
    paintTyping([...typing.keys()]);
  };
  fanfare.subscribe(TYPING, ({ from: { user } }) => {
    clearTimeout(typing.get(user));
    typing.set(user, setTimeout(quiet, TYPING_MS + 1_500, user));
    paintTyping([...typing.keys()]);
  });
  fanfare.subscribe(ROOM, ({ from }) => quiet(from?.user));

  compose(send, type);
}

// ---- Paint ------------------------------------------------------------------------------------

const WORDS = {
  connecting: "Connecting…",
  waiting: "Offline. What you write is sent once the connection is back.",
  refused: "The broker refuses this page",
};
const GROUP_MS = 300_000;
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });

function element(name, className, ...children) {
  const made = document.createElement(name);
  made.className = className;
  made.append(...children);
  return made;
}

/** The same colour for a name on every screen. */
function avatar(name) {
  let hue = 0;
  for (const character of name) hue = (hue * 31 + character.codePointAt(0)) % 360;
  const made = element("span", "avatar", [...name][0].toUpperCase());
  made.style.setProperty("--hue", hue);
  made.ariaHidden = "true";
  return made;
}

/** Key → the message as it stands on the page. */
let nodes = new Map();

const node = (key, user, text) => nodes.get(key) ?? element("li", "", avatar(user), element("b", "who", user), element("time", ""), element("p", "", text));

function paintMessages(events, unconfirmed, me) {
  const scroll = byId("scroll"), log = byId("log");
  const below = scroll.scrollHeight - scroll.scrollTop, first = log.firstChild;
  const wasAtEnd = below - scroll.clientHeight < 40;

  let last = {};
  const shown = new Map();
  for (const { id, data, from, time } of events) {
    // Others may say anything, for a topic takes any JSON; what nobody signed is no message.
    if (typeof data?.text !== "string" || !from) continue;
    const key = from.user === me ? data.nonce ?? id : id;
    const made = node(key, from.user, data.text), at = new Date(time);
    made.className = from.user === me ? "mine" : "";
    made.classList.toggle("goes-on", from.user === last.user && at - last.at < GROUP_MS);
    Object.assign(made.querySelector("time"), { dateTime: time, textContent: clock.format(at), title: moment.format(at) });
    last = { user: from.user, at };
    shown.set(key, made);
  }
  for (const { nonce, text, failed } of unconfirmed) {
    const made = node(nonce, me, text);
    made.className = failed ? "mine failed" : "mine sending";
    made.classList.toggle("goes-on", last.user === me);
    made.querySelector("time").textContent = failed ? `not sent: ${failed}` : "sending…";
    last = { user: me };
    shown.set(nonce, made);
  }
  nodes = shown;
  place(log, shown.values());

  if (wasAtEnd) scrollDown();
  else if (log.firstChild !== first) scroll.scrollTop = scroll.scrollHeight - below;
}

/** Makes `wanted` the children, and touches only what is not there yet, so that only that is read aloud. */
function place(parent, wanted) {
  let next = parent.firstChild;
  for (const child of wanted) {
    if (child === next) next = next.nextSibling;
    else parent.insertBefore(child, next);
  }
  while (next) {
    const gone = next;
    next = next.nextSibling;
    gone.remove();
  }
}

function scrollDown() {
  byId("scroll").scrollTop = byId("scroll").scrollHeight;
}

function paintOlder(more, loading) {
  byId("older").hidden = !more;
  byId("older").disabled = loading;
  byId("older").textContent = loading ? "Loading…" : "Load older";
  // Who listens wants to hear what is said, not what was.
  if (loading) byId("log").ariaBusy = "true";
  else setTimeout(() => { byId("log").ariaBusy = "false"; }, 500);
}

function paintMembers(users, me) {
  const sorted = [...users].sort((a, b) => (b === me) - (a === me) || a.localeCompare(b));
  byId("members").replaceChildren(...sorted.map((user) => element("li", "", avatar(user), element("span", "name", user === me ? `${user} (you)` : user))));
  byId("here").textContent = `Here now: ${users.size}`;
}

function paintTyping(users) {
  const names = users.length > 3 ? "Several people" : new Intl.ListFormat("en").format(users);
  byId("typing").textContent = users.length ? `${names} ${users.length > 1 ? "are" : "is"} typing…` : "";
}

function paintState(words, state) {
  byId("state").textContent = words;
  if (state) byId("room").dataset.state = state;
}

function compose(send, type) {
  const text = byId("text");
  byId("room").hidden = false;
  byId("login").hidden = true;
  text.focus();
  text.oninput = () => { if (text.value.trim()) type(); };
  text.onkeydown = (press) => {
    if (press.key !== "Enter" || press.shiftKey || press.isComposing) return;
    press.preventDefault();
    byId("say").requestSubmit();
  };
  byId("say").onsubmit = (submit) => {
    submit.preventDefault();
    const said = text.value.trim();
    text.value = "";
    if (said) send(said);
  };
}

// ---- Who this is: of this tab, so that two tabs may be two people ------------------------------

function logOut() {
  sessionStorage.removeItem("chat");
  location.reload();
}

byId("login").onsubmit = async (submit) => {
  submit.preventDefault();
  try {
    const answer = await ask("login", { name: byId("name").value });
    const identity = await answer.json();
    sessionStorage.setItem("chat", JSON.stringify(identity));
    enter(identity);
  } catch (error) {
    byId("refused").textContent = error.message;
  }
};

const identity = sessionStorage.getItem("chat");
if (identity) enter(JSON.parse(identity));
else byId("login").hidden = false;

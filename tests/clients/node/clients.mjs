// The common Node libraries as clients of a broker: each prints `live`, and then the data of each event, once, in order.
//
//     node clients.mjs LIBRARY ws://HOST:PORT http://HOST:PORT

import { EventSource } from "eventsource";
import EventSource2 from "eventsource-2";
import { EventSource as EventSource3 } from "eventsource-3";
import PartySocket from "partysocket/ws";
import ReconnectingWebSocket from "reconnecting-websocket";
import { EventSource as UndiciEventSource, WebSocket as UndiciSocket } from "undici";
import WebSocket from "ws";

let told = false;
function live() {
  if (!told) console.log("live");
  told = true;
}
const handle = (data) => console.log(JSON.stringify(data));

let cursor = null;

/** What a message says. The cursor moves when the event was handled, so that one whose handling failed comes again. */
function take(text) {
  const frame = JSON.parse(text);
  if (frame.op === "event") {
    handle(frame.data);
    if (frame.id && !frame.snapshot && !frame.conflated) cursor = frame.id;
  } else if (frame.op === "live" || frame.op === "cursor") {
    cursor = frame.cursor;
    live();
  }
  return frame;
}

/** Where the client goes on. */
const url = (base) => `${base}/v1/ws?${new URLSearchParams({ topic: "clients.>", ...(cursor && { since: cursor }) })}`;

function withWs(base) {
  const socket = new WebSocket(url(base));
  // A ping comes every 25 s and is answered by itself; after a minute of silence nobody is there.
  let silence;
  const alive = () => { clearTimeout(silence); silence = setTimeout(() => socket.terminate(), 60_000); };
  socket.on("open", alive).on("ping", alive).on("message", take);
  socket.on("error", () => {}); // "close" comes as well
  socket.on("close", () => { clearTimeout(silence); setTimeout(withWs, 1000, base); });
}

// For reconnecting-websocket and partysocket: a function, for the cursor is in the URL.
function withReconnecting(Reconnecting, base) {
  const socket = new Reconnecting(() => url(base), [], { WebSocket, maxRetries: Infinity });
  socket.onmessage = ({ data }) => {
    const frame = take(data);
    // The same would end the same way.
    if (frame.op === "bye" && frame.retry_after_ms === undefined) socket.close();
  };
}

function withUndici(base) {
  const socket = new UndiciSocket(url(base));
  socket.onmessage = ({ data }) => take(data);
  // It does not come back by itself, and some cuts come as an error alone.
  let over = false;
  socket.onclose = socket.onerror = () => { if (!over) setTimeout(withUndici, 1000, base); over = true; };
}

function withEventSource(EventSource, base, since = "") {
  const source = new EventSource(`${base}/v1/sse?topic=clients.%3E${since && `&since=${since}`}`);
  const keep = ({ lastEventId }) => { since = lastEventId || since; };
  for (const name of ["fanfare.live", "fanfare.cursor"]) source.addEventListener(name, keep);
  source.addEventListener("fanfare.live", live);
  source.onmessage = (event) => { handle(JSON.parse(event.data).data); keep(event); };
  // It comes back by itself, with Last-Event-ID, but gives up for good at any status other than 200, a proxy's 502 say:
  // then another one goes on where it was.
  source.onerror = () => {
    if (source.readyState === source.CLOSED) setTimeout(withEventSource, 1000, EventSource, base, since);
  };
}

const [, , library, sockets, http] = process.argv;
const libraries = {
  ws: () => withWs(sockets),
  "reconnecting-websocket": () => withReconnecting(ReconnectingWebSocket, sockets),
  partysocket: () => withReconnecting(PartySocket, sockets),
  undici: () => withUndici(sockets),
  "undici-events": () => {
    // While it waits before it comes back, it does not keep a program alive that does nothing else.
    setInterval(() => {}, 60_000);
    withEventSource(UndiciEventSource, http);
  },
  eventsource: () => withEventSource(EventSource, http),
  "eventsource-2": () => withEventSource(EventSource2, http),
  "eventsource-3": () => withEventSource(EventSource3, http),
};
libraries[library]();

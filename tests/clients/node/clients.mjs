// The common Node libraries as clients of a broker: each prints `live`, and then the data of each event, once, in order.
//
//     node clients.mjs LIBRARY ws://HOST:PORT http://HOST:PORT

import { EventSource } from "eventsource";
import WebSocket from "ws";

let told = false;
function live() {
  if (!told) console.log("live");
  told = true;
}
const handle = (data) => console.log(JSON.stringify(data));

function withWs(base) {
  let cursor = null;
  function open() {
    const query = new URLSearchParams({ topic: "clients.>", ...(cursor && { since: cursor }) });
    const socket = new WebSocket(`${base}/v1/ws?${query}`);
    // A ping comes every 25 s and is answered by itself; after a minute of silence nobody is there.
    let silence;
    const alive = () => { clearTimeout(silence); silence = setTimeout(() => socket.terminate(), 60_000); };
    socket.on("open", alive).on("ping", alive);
    socket.on("message", (text) => {
      const frame = JSON.parse(text);
      if (frame.op === "event") {
        handle(frame.data);
        if (frame.id && !frame.snapshot && !frame.conflated) cursor = frame.id; // now that it was handled
      } else if (frame.op === "live" || frame.op === "cursor") {
        cursor = frame.cursor;
        live();
      }
    });
    socket.on("error", () => {}); // "close" comes as well
    socket.on("close", () => { clearTimeout(silence); setTimeout(open, 1000); });
  }
  open();
}

function withEventSource(base) {
  // Comes back by itself with Last-Event-ID, but gives up at any status other than 200.
  const source = new EventSource(`${base}/v1/sse?topic=clients.%3E`);
  source.addEventListener("fanfare.live", live);
  source.onmessage = ({ data }) => handle(JSON.parse(data).data);
}

const [, , library, sockets, http] = process.argv;
if (library === "ws") withWs(sockets);
else withEventSource(http);

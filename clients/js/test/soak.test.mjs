// Memory, over as many connections as one likes: FANFARE_RECONNECTS=10000 for the long form.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { client, modelSocket } from "./harness.mjs";
import { ModelBroker } from "./model.mjs";

const RECONNECTS = Number(process.env.FANFARE_RECONNECTS ?? 600);
/** The noise of what is compiled and collected now and then; and far less than a connection each would be. */
const NOISE_BYTES = 400_000, BYTES_A_RECONNECT = 20;

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc");

async function heap() {
  for (let n = 0; n < 3; n++) {
    await new Promise(setImmediate);
    collect();
  }
  return process.memoryUsage().heapUsed;
}

test(`R33 memory is flat over ${RECONNECTS} reconnects`, { timeout: 600_000 }, async (t) => {
  const broker = new ModelBroker();
  const WebSocket = modelSocket(broker);
  const { fanfare, states } = client(t, "http://broker.example", { WebSocket, token: () => `token ${Math.random()}` });
  let got = 0;
  fanfare.subscribe("a.*", { snapshot: true }, () => { got += 1; });
  fanfare.subscribe("a.x", { tail: 3 }, () => { got += 1; });
  async function reconnect(n) {
    const [socket] = WebSocket.opened;
    // Each way in which a connection ends, and what goes on meanwhile.
    if (n % 3 === 0) socket.break();
    const stop = new AbortController();
    const undo = fanfare.subscribe(`b.${n}`, { signal: stop.signal }, () => {});
    if (n % 3 === 1) socket.session?.say({ op: "bye", code: "restart", message: "", retry_after_ms: 0 });
    fanfare.reconnect();
    // Now and then the wait for the next attempt is over before: that one is let go of as well.
    while (WebSocket.opened.length < 2 || fanfare.state !== "live" || !fanfare.session) await new Promise((next) => setTimeout(next));
    if (n % 2) undo(); else stop.abort();
    await fanfare.publish("a.x", n);
    WebSocket.opened.splice(0, WebSocket.opened.length - 1);
    broker.log.splice(0, broker.log.length - 3);
    states.length = 0;
  }
  fanfare.subscribe("c", () => {});
  await fanfare.ready();
  for (let n = 0; n < 200; n++) await reconnect(n);
  const most = NOISE_BYTES + RECONNECTS * BYTES_A_RECONNECT;
  let n = 200, more = Infinity;
  // What is kept of a connection is so in each round; what is compiled, or let go of late on a slow machine, is not.
  for (let round = 0; round < 3 && more >= most; round++) {
    const before = await heap();
    for (const end = n + RECONNECTS; n < end; n++) await reconnect(n);
    more = await heap() - before;
    t.diagnostic(`${more} bytes more over ${RECONNECTS} reconnects`);
  }
  assert.ok(got > RECONNECTS);
  assert.ok(more < most, `${more} bytes more`);
});

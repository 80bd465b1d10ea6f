// An event stream behind Node's `compression`, the middleware of most Express applications: it holds back what it
// encodes until it has a few kilobytes, unless the answer forbids to encode it.

import assert from "node:assert/strict";
import { createServer, get } from "node:http";
import { test } from "node:test";
import compression from "compression";
import { eventually, publish, startBroker } from "./harness.mjs";

const options = { timeout: 60_000 };

/** What stands before the broker: passes everything on, through `compression` with its defaults. */
async function startApplication(t, port) {
  const compress = compression();
  const server = createServer((request, response) => {
    compress(request, response, () => {
      const { url, headers } = request;
      const asked = get({ port, host: "127.0.0.1", path: url, headers }, (answer) => {
        response.writeHead(answer.statusCode, answer.headers);
        answer.pipe(response);
      });
      response.on("close", () => asked.destroy());
    });
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  t.after(() => { server.closeAllConnections(); server.close(); });
  return `http://127.0.0.1:${server.address().port}`;
}

test("an event stream comes through Node's compression as it is, and other answers are compressed", options, async (t) => {
  const broker = await startBroker(t);
  const application = await startApplication(t, broker.port);
  const headers = { "accept-encoding": "gzip", accept: "text/event-stream" };
  let seen = "", encoding = "none yet";
  const stream = get(`${application}/v1/sse?topic=a`, { headers }, (answer) => {
    encoding = answer.headers["content-encoding"];
    answer.setEncoding("utf8").on("data", (text) => { seen += text; }).on("error", () => {});
  });
  stream.on("error", () => {});
  t.after(() => stream.destroy());
  await eventually(() => seen.includes("event: fanfare.live"), "the stream is live");
  assert.equal(encoding, undefined);
  const { id } = await publish(broker.url, "a", { n: 1 });
  await eventually(() => seen.includes(`id: ${id}\n`), "the event comes at once");

  const page = await new Promise((answered) => get(`${application}/docs`, { headers }, answered));
  page.resume();
  assert.equal(page.headers["content-encoding"], "gzip", "the middleware does its work");
});

// A server on `ws` as one would write it: a set of sockets for each topic, an event sent to each.
import { createServer } from "node:http";
import { WebSocketServer } from "ws";

const subscribers = new Map();

const server = createServer((request, response) => {
  const topic = request.url.slice("/publish/".length);
  let body = "";
  request.setEncoding("utf8");
  request.on("data", (part) => (body += part));
  request.on("end", () => {
    if (request.method === "POST") {
      const frame = Buffer.from(JSON.stringify({ topic, time: new Date(), data: JSON.parse(body) }));
      for (const socket of subscribers.get(topic) ?? []) socket.send(frame, { binary: false });
    }
    response.writeHead(201, { "content-type": "application/json" }).end("{}");
  });
});
server.keepAliveTimeout = 75_000;

new WebSocketServer({ server, perMessageDeflate: false }).on("connection", (socket, request) => {
  const topics = new URL(request.url, "http://localhost").searchParams.getAll("topic");
  for (const topic of topics) {
    if (!subscribers.has(topic)) subscribers.set(topic, new Set());
    subscribers.get(topic).add(socket);
  }
  socket.on("close", () => topics.forEach((topic) => subscribers.get(topic).delete(socket)));
  socket.send("live");
});

server.listen(Number(process.argv[2]), "127.0.0.1");

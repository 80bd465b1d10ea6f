// A server on socket.io as its documentation has it: a room for each topic, an event emitted to it.
import { createServer } from "node:http";
import { Server } from "socket.io";

const server = createServer((request, response) => {
  const topic = request.url.slice("/publish/".length);
  let body = "";
  request.setEncoding("utf8");
  request.on("data", (part) => (body += part));
  request.on("end", () => {
    if (request.method === "POST") {
      io.to(topic).emit("event", { topic, time: new Date(), data: JSON.parse(body) });
    }
    response.writeHead(201, { "content-type": "application/json" }).end("{}");
  });
});
server.keepAliveTimeout = 75_000;

const io = new Server(server, { transports: ["websocket"], perMessageDeflate: false });
io.on("connection", (socket) => {
  socket.on("subscribe", (topics) => {
    socket.join(topics);
    socket.emit("live");
  });
});

server.listen(Number(process.argv[2]), "127.0.0.1");

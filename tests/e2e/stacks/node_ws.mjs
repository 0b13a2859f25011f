// Node ws. PORT [--handle-errors] [--keepalive SECONDS] [--deflate takeover|no-takeover] [--listen-after SECONDS]
// With --handle-errors the process outlives exceptions, and closes its clients on SIGTERM.
import { WebSocketServer } from "ws";

const [port, ...flags] = process.argv.slice(2);
const forget = flags[flags.indexOf("--deflate") + 1] === "no-takeover";
const deflate = { serverNoContextTakeover: forget, clientNoContextTakeover: forget, threshold: 0 };
if (flags.includes("--listen-after")) {
  await new Promise((resolve) => setTimeout(resolve, 1000 * Number(flags[flags.indexOf("--listen-after") + 1])));
}
const server = new WebSocketServer({
  host: "127.0.0.1",
  port: Number(port),
  perMessageDeflate: flags.includes("--deflate") && deflate,
});

server.on("connection", (socket) => {
  socket.alive = true;
  socket.on("pong", () => { socket.alive = true; });
  socket.on("message", (data, isBinary) => {
    if (!isBinary && data.toString() === "raise") throw new Error("told to");
    if (!isBinary && data.toString() === "close") socket.close(4001, "done");
    else socket.send(data, { binary: isBinary });
  });
  socket.on("close", (code, reason) => console.log("saw", code, reason.toString()));
});

if (flags.includes("--handle-errors")) {
  process.on("uncaughtException", (error) => console.error(error));
  process.on("SIGTERM", () => {
    server.close(() => process.exit(0));
    for (const socket of server.clients) socket.close(1001, "server shutting down");
  });
}

// The heartbeat of the README of ws: a client that has not answered by the next ping is terminated.
if (flags.includes("--keepalive")) {
  const seconds = Number(flags[flags.indexOf("--keepalive") + 1]);
  setInterval(() => {
    for (const socket of server.clients) {
      if (!socket.alive) socket.terminate();
      socket.alive = false;
      socket.ping();
    }
  }, seconds * 1000);
}

// Node ws. PORT [--handle-errors] [--keepalive SECONDS]
// With --handle-errors the process outlives exceptions, and closes its clients on SIGTERM.
import { WebSocketServer } from "ws";

const [port, ...flags] = process.argv.slice(2);
const server = new WebSocketServer({ host: "127.0.0.1", port: Number(port) });

server.on("connection", (socket) => {
  socket.alive = true;
  socket.on("pong", () => { socket.alive = true; });
  socket.on("message", (data, isBinary) => {
    if (data.toString() === "raise") throw new Error("told to");
    socket.send(data, { binary: isBinary });
  });
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

// Node ws in a cluster of two workers; each says its process id to "pid". PORT
import cluster from "node:cluster";
import { WebSocketServer } from "ws";

if (cluster.isPrimary) {
  cluster.fork();
  cluster.fork();
  cluster.on("exit", () => cluster.fork());
} else {
  const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[2]) });
  server.on("connection", (socket) => {
    socket.on("message", (data) => {
      if (data.toString() === "raise") throw new Error("told to");
      socket.send(data.toString() === "pid" ? String(process.pid) : data, { binary: false });
    });
  });
}

// Node ws in a cluster of two workers; each says its process id to "pid". PORT
// SIGUSR2 reloads as pm2 does: a new worker for each old one, which gets SIGINT when the new one listens.
import cluster from "node:cluster";
import { WebSocketServer } from "ws";

if (cluster.isPrimary) {
  cluster.fork();
  cluster.fork();
  cluster.on("exit", (worker) => worker.exitedAfterDisconnect || worker.replaced || cluster.fork());
  process.on("SIGUSR2", () => {
    for (const old of Object.values(cluster.workers)) {
      old.replaced = true;
      cluster.fork().once("listening", () => old.process.kill("SIGINT"));
    }
  });
} else {
  const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[2]) });
  server.on("connection", (socket) => {
    socket.on("message", (data) => {
      if (data.toString() === "raise") throw new Error("told to");
      socket.send(data.toString() === "pid" ? String(process.pid) : data, { binary: false });
    });
  });
}

// npm socket.io: echoes every event's argument, disconnects when told to. PORT [--keepalive]
import { Server } from "socket.io";

const beat = process.argv.includes("--keepalive") ? { pingInterval: 1000, pingTimeout: 1500 } : {};
const server = new Server(beat);
server.on("connection", (socket) => {
  socket.on("echo", (data, answer) => answer(data));
  socket.on("close", () => socket.disconnect(true));
});
server.listen(Number(process.argv[2]));

// npm socket.io: echoes every event's argument, disconnects when told to. PORT
import { Server } from "socket.io";

const server = new Server();
server.on("connection", (socket) => {
  socket.on("echo", (data, answer) => answer(data));
  socket.on("close", () => socket.disconnect(true));
});
server.listen(Number(process.argv[2]));

// SockJS, its raw WebSocket endpoint /echo/websocket. PORT
import { createServer } from "node:http";
import sockjs from "sockjs";

const echo = sockjs.createServer({ log: () => {} });
echo.on("connection", (connection) => {
  connection.on("data", (data) => {
    if (data === "raise") throw new Error("told to");
    if (data === "return") connection.close();
    else connection.write(data);
  });
});
const server = createServer();
echo.installHandlers(server, { prefix: "/echo" });
server.listen(Number(process.argv[2]), "127.0.0.1");

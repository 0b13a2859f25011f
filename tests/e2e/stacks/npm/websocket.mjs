// websocket (WebSocket-Node). PORT
import { createServer } from "node:http";
import websocket from "websocket";

const http = createServer().listen(Number(process.argv[2]), "127.0.0.1");
const server = new websocket.server({
  httpServer: http,
  autoAcceptConnections: true,
  maxReceivedMessageSize: 65536,
  maxReceivedFrameSize: 65536,
  keepaliveInterval: 1000,
  keepaliveGracePeriod: 1000,
});
server.on("connect", (connection) => {
  connection.on("message", ({ utf8Data }) => {
    if (utf8Data === "raise") throw new Error("told to");
    if (utf8Data === "return") connection.close();
    else connection.sendUTF(utf8Data);
  });
});

// faye-websocket. PORT
import { createServer } from "node:http";
import WebSocket from "faye-websocket";

createServer()
  .on("upgrade", (request, socket, head) => {
    const ws = new WebSocket(request, socket, head, [], { maxLength: 65536 });
    ws.on("message", ({ data }) => {
      if (data === "raise") throw new Error("told to");
      if (data === "return") ws.close();
      else ws.send(data);
    });
  })
  .listen(Number(process.argv[2]), "127.0.0.1");

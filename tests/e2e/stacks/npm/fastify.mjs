// Fastify with @fastify/websocket: the handler is an async function. PORT
import websocket from "@fastify/websocket";
import Fastify from "fastify";

const app = Fastify();
await app.register(websocket, { options: { maxPayload: 65536 } });
app.get("/", { websocket: true }, async (socket) => {
  socket.on("message", (data) => {
    if (data.toString() === "raise") throw new Error("told to");
    if (data.toString() === "return") socket.close();
    else socket.send(data, { binary: false });
  });
});
process.on("SIGTERM", () => app.close());
await app.listen({ host: "127.0.0.1", port: Number(process.argv[2]) });

// Elysia on Bun. PORT
import { Elysia } from "elysia";

new Elysia()
  .ws("/", {
    maxPayloadLength: 65536,
    message: (ws, message) => {
      if (message === "raise") throw new Error("told to");
      if (message === "return") ws.close();
      else ws.send(message);
    },
  })
  .listen({ hostname: "127.0.0.1", port: Number(process.argv[2]) });

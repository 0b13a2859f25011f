// npm socket.io-client. URL TRANSPORTS(comma) LEAVE(client|server)
// Sends text, an object, an empty string, and 64 KiB of bytes; prints one JSON line of what came back and of the end.
import { io } from "socket.io-client";

const [url, transports, leave] = process.argv.slice(2);
const bytes = Buffer.alloc(65536, Buffer.from(Array.from({ length: 256 }, (_, at) => at)));
const socket = io(url, { transports: transports.split(","), reconnection: false });
const told = { echoes: [], transport: "", end: "" };

socket.on("connect", async () => {
  if (socket.io.engine.transport.name !== "websocket") {
    await new Promise((resolve) => socket.io.engine.once("upgrade", resolve));
  }
  for (const data of ["hello, grüße", { list: [1, null, ""] }, "", bytes]) {
    const echo = await socket.emitWithAck("echo", data);
    told.echoes.push(Buffer.isBuffer(echo) ? echo.toString("base64") : echo);
  }
  told.transport = socket.io.engine.transport.name;
  if (leave === "client") socket.disconnect();
  else socket.emit("close");
});
socket.on("disconnect", (reason) => {
  told.end = reason;
  console.log(JSON.stringify(told));
});
socket.on("connect_error", (error) => { console.error(error); process.exit(1); });

// A Node ws client. URL FILE DEFLATE(on|off): plays the messages of FILE, see ../test_interop.py; prints one JSON line.
import { readFileSync } from "node:fs";
import WebSocket from "ws";

const [url, file, deflate] = process.argv.slice(2);
const messages = JSON.parse(readFileSync(file, "utf8"));
const told = { extensions: "", messages: [], closes: [] };
const opened = () => new WebSocket(url, {
  perMessageDeflate: deflate === "on" && { threshold: 0 },
});

const first = opened();
first.on("open", () => {
  for (const { kind, parts } of messages) {
    parts.forEach((part, number) => first.send(Buffer.from(part, "base64"), {
      binary: kind === "binary", fin: number === parts.length - 1,
    }));
  }
});
first.on("message", (data, isBinary) => {
  told.messages.push([isBinary ? "binary" : "text", data.toString("base64")]);
  if (!isBinary && data.toString() === "over") first.close(4000, "bye");
});
first.on("upgrade", (answer) => { told.extensions = answer.headers["sec-websocket-extensions"] ?? ""; });
first.on("close", (code, reason) => {
  told.closes.push([code, reason.toString()]);
  const second = opened();
  second.on("open", () => second.send("close"));
  second.on("close", (code, reason) => {
    told.closes.push([code, reason.toString()]);
    console.log(JSON.stringify(told));
  });
});

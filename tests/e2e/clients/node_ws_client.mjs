// A Node ws client. URL ACTION: close | close-4001 | terminate | exit
// Echoes one message first, then leaves in the way that ACTION says.
import WebSocket from "ws";

const [url, action] = process.argv.slice(2);
const socket = new WebSocket(url);
socket.on("open", () => socket.send("hello"));
socket.on("message", () => {
  if (action === "close") socket.close();
  else if (action === "close-4001") socket.close(4001, "x");
  else if (action === "terminate") socket.terminate();
  else process.exit(0);
});

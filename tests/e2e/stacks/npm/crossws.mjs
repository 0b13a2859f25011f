// crossws on Node. PORT
import { createServer } from "node:http";
import nodeAdapter from "crossws/adapters/node";

const ws = nodeAdapter({
  hooks: {
    message(peer, message) {
      const text = message.text();
      if (text === "raise") throw new Error("told to");
      if (text === "return") peer.close();
      else peer.send(text);
    },
  },
});
createServer().on("upgrade", ws.handleUpgrade).listen(Number(process.argv[2]), "127.0.0.1");

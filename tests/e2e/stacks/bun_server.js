// Bun's own WebSocket server. PORT
Bun.serve({
  hostname: "127.0.0.1",
  port: Number(process.argv[2]),
  fetch: (request, server) => (server.upgrade(request) ? undefined : new Response("WebSocket only", { status: 400 })),
  websocket: {
    maxPayloadLength: 65536,
    message: (socket, message) => {
      if (message === "raise") throw new Error("told to");
      socket.send(message);
    },
  },
});

// Deno's own WebSocket server. PORT
Deno.serve({ hostname: "127.0.0.1", port: Number(Deno.args[0]), onListen() {} }, (request) => {
  const { socket, response } = Deno.upgradeWebSocket(request, { idleTimeout: 1 });
  socket.onmessage = ({ data }) => {
    if (data === "raise") throw new Error("told to");
    socket.send(data);
  };
  return response;
});

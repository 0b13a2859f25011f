// Pike's Protocols.WebSocket. PORT

void accept(array(string) protocols, Protocols.WebSocket.Request request) {
  Protocols.WebSocket.Connection connection = request->websocket_accept(0);
  connection->onmessage = lambda(Protocols.WebSocket.Frame frame, mixed id) {
    if (frame->opcode != Protocols.WebSocket.FRAME_TEXT) return;
    if (frame->text == "raise") error("told to\n");
    if (frame->text == "return") connection->close();
    else connection->send_text(frame->text);
  };
}

int main(int count, array(string) arguments) {
  Protocols.WebSocket.Port(0, accept, (int)arguments[1], "127.0.0.1");
  return -1;
}

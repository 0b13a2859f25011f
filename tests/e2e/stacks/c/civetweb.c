// CivetWeb. PORT. A callback that returns 0 ends the session.
#include <civetweb.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static int message(struct mg_connection *connection, int bits, char *data, size_t size, void *user) {
  if ((bits & 0x0f) == MG_WEBSOCKET_OPCODE_CONNECTION_CLOSE) return 0;
  if (size == 5 && !memcmp(data, "raise", 5)) return 0;
  if ((bits & 0x0f) == MG_WEBSOCKET_OPCODE_TEXT) mg_websocket_write(connection, MG_WEBSOCKET_OPCODE_TEXT, data, size);
  return 1;
}

int main(int count, char **arguments) {
  char port[32] = "127.0.0.1:";
  if (count < 2) return 1;
  strncat(port, arguments[1], 8);
  const char *options[] = {"listening_ports", port, "num_threads", "8", "enable_websocket_ping_pong", "yes",
                           "websocket_timeout_ms", "1500", NULL};
  mg_init_library(MG_FEATURES_WEBSOCKET);
  struct mg_callbacks callbacks = {0};
  struct mg_context *context = mg_start(&callbacks, NULL, options);
  if (!context) return 1;
  mg_set_websocket_handler(context, "/", NULL, NULL, message, NULL, NULL);
  for (;;) pause();
}

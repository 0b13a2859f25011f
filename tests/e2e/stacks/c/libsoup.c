// libsoup 3. PORT
#include <libsoup/soup.h>
#include <stdlib.h>
#include <string.h>

static void message(SoupWebsocketConnection *connection, SoupWebsocketDataType type, GBytes *bytes, gpointer user) {
  const char *text = g_bytes_get_data(bytes, NULL);
  if (!strcmp(text, "raise")) abort();
  if (!strcmp(text, "return"))
    soup_websocket_connection_close(connection, SOUP_WEBSOCKET_CLOSE_NORMAL, NULL);
  else
    soup_websocket_connection_send_message(connection, type, bytes);
}

static void opened(SoupServer *server, SoupServerMessage *request, const char *path, SoupWebsocketConnection *connection,
                   gpointer user) {
  soup_websocket_connection_set_max_incoming_payload_size(connection, 65536);
  g_signal_connect(connection, "message", G_CALLBACK(message), NULL);
  g_signal_connect(connection, "closed", G_CALLBACK(g_object_unref), NULL);
  g_object_ref(connection);
}

int main(int count, char **arguments) {
  if (count < 2) return 1;
  SoupServer *server = soup_server_new(NULL, NULL);
  soup_server_add_websocket_handler(server, "/", NULL, NULL, opened, NULL, NULL);
  GSocketAddress *address = g_inet_socket_address_new_from_string("127.0.0.1", atoi(arguments[1]));
  if (!soup_server_listen(server, address, 0, NULL)) return 1;
  g_main_loop_run(g_main_loop_new(NULL, FALSE));
}

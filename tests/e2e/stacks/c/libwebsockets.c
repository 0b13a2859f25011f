// libwebsockets. PORT. A failed callback returns -1, which closes the session.
#include <libwebsockets.h>
#include <stdlib.h>
#include <string.h>

struct session {
  size_t length;
  unsigned char data[LWS_PRE + 65536];
};

static int echo(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t length) {
  struct session *session = user;
  if (reason == LWS_CALLBACK_RECEIVE) {
    if (length == 5 && !memcmp(in, "raise", 5)) return -1;
    if (length > 65536) return -1;
    memcpy(session->data + LWS_PRE, in, length);
    session->length = length;
    lws_callback_on_writable(wsi);
  } else if (reason == LWS_CALLBACK_SERVER_WRITEABLE && session->length) {
    lws_write(wsi, session->data + LWS_PRE, session->length, LWS_WRITE_TEXT);
    session->length = 0;
  }
  return 0;
}

int main(int count, char **arguments) {
  static const struct lws_protocols protocols[] = {{"http", echo, sizeof(struct session), 65536, 0, NULL, 0},
                                                   {NULL, NULL, 0, 0, 0, NULL, 0}};
  // A ping after 1 s without traffic; the session ends 2 s later without a pong.
  static const lws_retry_bo_t retry = {.secs_since_valid_ping = 1, .secs_since_valid_hangup = 3};
  struct lws_context_creation_info info = {0};
  if (count < 2) return 1;
  lws_set_log_level(0, NULL);
  info.port = atoi(arguments[1]);
  info.iface = "127.0.0.1";
  info.protocols = protocols;
  info.retry_and_idle_policy = &retry;
  struct lws_context *context = lws_create_context(&info);
  while (context && lws_service(context, 0) >= 0) {
  }
  return 1;
}

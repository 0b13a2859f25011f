// The least that any proxy on sockets can cost: reads up to 256 KiB from one side, writes it to the other. It knows
// nothing of HTTP or WebSocket, observes nothing and ends both sides on the first end of either.
//
//   relay --port P --upstream P
#include "common.h"

typedef struct side {
  int fd;
  uint32_t events;
  uint8_t gone;
  struct side *other;
  uint8_t *unsent;
  size_t unsent_size, unsent_at;
} side;

static int loop;
static uint8_t buffer[READ_SIZE];
static side *dead[2 * EVENTS];
static int dead_many;

static void rewatch(side *s, uint32_t events) {
  if (s->events != events) watch(loop, s->fd, s->events = events, s, EPOLL_CTL_MOD);
}

static void drop(side *s) {  // freed when this round of events is over: one of them may still name it
  for (side *each = s; !each->gone; each = each->other) {
    each->gone = 1;
    close(each->fd);
    dead[dead_many++] = each;
  }
}

static void readable(side *s) {
  ssize_t got = recv(s->fd, buffer, sizeof buffer, 0);
  if (got < 0 && errno == EAGAIN) return;
  if (got <= 0) {
    drop(s);
    return;
  }
  side *to = s->other;
  ssize_t sent = send(to->fd, buffer, (size_t)got, MSG_NOSIGNAL);
  if (sent < 0 && errno != EAGAIN) {
    drop(s);
    return;
  }
  if (sent < 0) sent = 0;
  if (sent < got) {
    to->unsent_size = (size_t)(got - sent), to->unsent_at = 0;
    to->unsent = malloc(to->unsent_size);
    memcpy(to->unsent, buffer + sent, to->unsent_size);
    rewatch(to, to->events | EPOLLOUT);
    rewatch(s, s->events & ~(uint32_t)EPOLLIN);
  }
}

static void writable(side *s) {
  if (s->unsent_size) {
    ssize_t sent = send(s->fd, s->unsent + s->unsent_at, s->unsent_size, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) {
      drop(s);
      return;
    }
    if (sent > 0) s->unsent_at += (size_t)sent, s->unsent_size -= (size_t)sent;
    if (s->unsent_size) return;
    free(s->unsent);
    s->unsent = NULL;
  }
  rewatch(s, s->events & ~(uint32_t)EPOLLOUT);
  rewatch(s->other, s->other->events | EPOLLIN);
}

static void welcome(int listener, const struct sockaddr_in *upstream) {
  int fd;
  while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
    side *client = calloc(1, sizeof *client), *server = calloc(1, sizeof *server);
    client->fd = fd, server->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    client->other = server, server->other = client;
    no_delay(client->fd);
    no_delay(server->fd);
    if (connect(server->fd, (const struct sockaddr *)upstream, sizeof *upstream) && errno != EINPROGRESS) die("connect");
    watch(loop, client->fd, client->events = 0, client, EPOLL_CTL_ADD);
    watch(loop, server->fd, server->events = EPOLLIN | EPOLLOUT, server, EPOLL_CTL_ADD);
  }
}

int main(int argc, char **argv) {
  ready_process();
  loop = epoll_create1(0);
  struct sockaddr_in upstream = loopback(atoi(argument(argc, argv, "--upstream", "9000")));
  int listener = listen_on(atoi(argument(argc, argv, "--port", "9001")));
  watch(loop, listener, EPOLLIN, NULL, EPOLL_CTL_ADD);
  struct epoll_event happened[EVENTS];
  for (;;) {
    int many = epoll_wait(loop, happened, EVENTS, -1);
    for (int i = 0; i < many; i++) {
      side *s = happened[i].data.ptr;
      if (!s) welcome(listener, &upstream);
      else if (!s->gone && happened[i].events & EPOLLOUT) writable(s);
      if (s && !s->gone && happened[i].events & ~(uint32_t)EPOLLOUT) readable(s);
    }
    while (dead_many) {
      side *s = dead[--dead_many];
      free(s->unsent);
      free(s);
    }
  }
}

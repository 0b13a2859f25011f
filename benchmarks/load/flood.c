// Hostile clients of the benchmark: many connections that send as fast as they may and discard what comes back.
//
//   flood --port P --opening FILE [--repeat FILE] [--connections N] [--sources S] [--rate R]
//
// Each connection sends the bytes of one file once, then those of the other without end; none is sent of an empty one. A
// connection that is closed is opened again RETRY later. N clients come from S addresses of the loopback network. With
// --rate R all connections together send R bytes a second at most. Runs until it is killed.
#include "common.h"
#include <sys/stat.h>

#define RETRY 20000000  // nanoseconds
#define BATCH (64 * 1024)

typedef struct {
  int fd;
  uint32_t events;
  size_t opened, at;  // bytes of the opening that are out; where the next send begins in `batch`
} client;

static int loop, many, sources;
static char *opening, *batch;
static size_t opening_size, unit, batch_size;
static uint8_t in[READ_SIZE];
static struct sockaddr_in target;
static double allowed, rate;

static char *content(const char *path, size_t *size) {
  struct stat about;
  FILE *file = fopen(path, "rb");
  if (!file || fstat(fileno(file), &about)) die(path);
  char *bytes = malloc((size_t)about.st_size + 1);
  *size = fread(bytes, 1, (size_t)about.st_size, file);
  fclose(file);
  return bytes;
}

static void start(client *c, uint32_t number) {
  memset(c, 0, sizeof *c);
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (c->fd < 0) die("socket");
  struct sockaddr_in from = loopback(0);
  from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + number % (uint32_t)sources);
  int one = 1;
  setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
  if (bind(c->fd, (struct sockaddr *)&from, sizeof from)) die("bind");
  if (connect(c->fd, (struct sockaddr *)&target, sizeof target) && errno != EINPROGRESS) die("connect");
  watch(loop, c->fd, c->events = EPOLLIN | EPOLLOUT, c, EPOLL_CTL_ADD);
}

static int send_some(client *c) {  // 1 if there is nothing to send any more, -1 if the connection is gone
  ssize_t sent;
  if (c->opened < opening_size) {
    sent = send(c->fd, opening + c->opened, opening_size - c->opened, MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN ? 0 : -1;
    c->opened += (size_t)sent;
    return 0;
  }
  if (!unit) return 1;
  if (rate > 0 && allowed <= 0) return 0;
  sent = send(c->fd, batch + c->at, batch_size - c->at, MSG_NOSIGNAL);
  if (sent < 0) return errno == EAGAIN ? 0 : -1;
  allowed -= (double)sent;
  c->at = (c->at + (size_t)sent) % batch_size;
  return 0;
}

static int discard(client *c) {
  ssize_t got = recv(c->fd, in, sizeof in, MSG_TRUNC);
  return got > 0 || (got < 0 && errno == EAGAIN) ? 0 : -1;
}

static void happened(client *c, uint32_t what) {
  int end = what & ~(uint32_t)EPOLLOUT ? discard(c) : 0;
  if (!end && what & EPOLLOUT) end = send_some(c);
  if (end < 0) {
    close(c->fd);
    c->fd = -1;
  } else if (end > 0) {
    watch(loop, c->fd, c->events = EPOLLIN, c, EPOLL_CTL_MOD);
  }
}

int main(int argc, char **argv) {
  many = atoi(argument(argc, argv, "--connections", "1")), sources = atoi(argument(argc, argv, "--sources", "8"));
  rate = atof(argument(argc, argv, "--rate", "0"));
  target = loopback(atoi(argument(argc, argv, "--port", "9000")));
  opening = content(argument(argc, argv, "--opening", "/dev/null"), &opening_size);
  char *repeated = content(argument(argc, argv, "--repeat", "/dev/null"), &unit);
  batch_size = unit ? (BATCH + unit - 1) / unit * unit : 0;
  batch = malloc(batch_size + 1);
  for (size_t at = 0; at < batch_size; at += unit) memcpy(batch + at, repeated, unit);
  ready_process();
  loop = epoll_create1(0);
  client *clients = calloc((size_t)many, sizeof *clients);
  for (int i = 0; i < many; i++) clients[i].fd = -1;
  struct epoll_event events[EVENTS];
  uint64_t retried = 0, refilled = now_ns();
  for (;;) {
    uint64_t now = now_ns();
    if (now - retried >= RETRY) {
      retried = now;
      for (int i = 0; i < many; i++)
        if (clients[i].fd < 0) start(&clients[i], (uint32_t)i);
    }
    if (rate > 0) {
      allowed += rate * (double)(now - refilled) / 1e9;
      if (allowed > rate / 50) allowed = rate / 50;
      if (allowed <= 0) usleep(1000);
    }
    refilled = now;
    int came = epoll_wait(loop, events, EVENTS, (int)(RETRY / 1000000));
    for (int i = 0; i < came; i++) {
      client *c = events[i].data.ptr;
      if (c->fd >= 0) happened(c, events[i].events);
    }
  }
}

// What the three C programs of the benchmark share: sockets, time, arguments, frame headers (RFC 6455, section 5.2).
#ifndef COMMON_H
#define COMMON_H
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define READ_SIZE (256 * 1024)  // one recv(2); what a bulk transfer likes best
#define EVENTS 512              // that one epoll_wait(2) may return

enum { CONTINUATION = 0, TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };

static inline void die(const char *what) {
  perror(what);
  exit(1);
}

static inline uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

// The value of "--name value" among the arguments, or `otherwise`.
static inline const char *argument(int argc, char **argv, const char *name, const char *otherwise) {
  for (int i = 1; i + 1 < argc; i += 2)
    if (!strcmp(argv[i], name)) return argv[i + 1];
  return otherwise;
}

static inline void ready_process(void) {
  signal(SIGPIPE, SIG_IGN);
  struct rlimit most;
  getrlimit(RLIMIT_NOFILE, &most);
  most.rlim_cur = most.rlim_max;
  setrlimit(RLIMIT_NOFILE, &most);
}

static inline void no_delay(int fd) {
  int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static inline struct sockaddr_in loopback(int port) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return a;
}

static inline int listen_on(int port) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  struct sockaddr_in a = loopback(port);
  if (bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 4096)) die("listen");
  return fd;
}

static inline void watch(int epoll, int fd, uint32_t events, void *what, int operation) {
  struct epoll_event e = {.events = events, .data.ptr = what};
  if (epoll_ctl(epoll, operation, fd, &e)) die("epoll_ctl");
}

// A frame header that may arrive in pieces.
typedef struct {
  uint8_t bytes[14], have;
  uint8_t first, masked, mask[4];
  uint64_t length;
} header;

static inline int header_size(uint8_t second) {
  int seven = second & 127;
  return 2 + (seven == 126 ? 2 : seven == 127 ? 8 : 0) + (second & 128 ? 4 : 0);
}

// Takes bytes at *at until the header is complete; returns whether it is.
static inline int take_header(header *h, const uint8_t **at, const uint8_t *end) {
  while (*at < end) {
    h->bytes[h->have++] = *(*at)++;
    if (h->have < 2 || h->have < header_size(h->bytes[1])) continue;
    int seven = h->bytes[1] & 127, wide = seven == 126 ? 2 : seven == 127 ? 8 : 0;
    h->first = h->bytes[0];
    h->masked = h->bytes[1] >> 7;
    h->length = wide ? 0 : (uint64_t)seven;
    for (int i = 0; i < wide; i++) h->length = h->length << 8 | h->bytes[2 + i];
    if (h->masked) memcpy(h->mask, h->bytes + 2 + wide, 4);
    h->have = 0;
    return 1;
  }
  return 0;
}

// Writes a header; masked if `mask` is not NULL. Returns its size.
static inline int put_header(uint8_t *to, uint8_t first, uint64_t length, const uint8_t *mask) {
  int wide = length < 126 ? 0 : length < 65536 ? 2 : 8, size = 2;
  to[0] = first;
  to[1] = (uint8_t)((mask ? 128 : 0) | (wide == 0 ? length : wide == 2 ? 126 : 127));
  for (int i = wide; i-- > 0;) to[size++] = (uint8_t)(length >> (8 * i));
  if (mask) memcpy(to + size, mask, 4), size += 4;
  return size;
}
#endif

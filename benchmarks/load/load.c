// The clients of the benchmark: many WebSocket connections on one thread, a measured window, one JSON object at its end.
//
//   load --port P --mode MODE [--path /echo] [--connections N] [--size BYTES] [--window K] [--rate R]
//        [--warm SECONDS] [--seconds SECONDS] [--sources S] [--verify 1]
//
// MODE is one of
//   echo    every connection keeps K messages of SIZE bytes under way and counts what comes back. With --rate R it sends
//           R messages a second over all connections instead, whatever has come back (an open loop).
//   stream  only counts the frames that the server sends (path /stream/SIZE/MANY).
//   churn   connect, upgrade, one echo, Close 1000, its answer, end of TCP; then again. N at a time; with --rate R an
//           open loop of R new connections a second, N at most.
//   idle    opens N connections, one echo each, and leaves them alone for SECONDS.
//
// When the window begins, and when it ends, the program writes a line ("begin", "end") and waits for one on its standard
// input: whoever measures the proxy samples it there, while no load is made. Latencies are in microseconds; in an open
// loop they count from when the message or connection was due, so that waiting in line is not left out.
#include "common.h"

typedef enum { FREE, CONNECTING, UPGRADING, OPEN, CLOSING, ENDING } state;

typedef struct {
  int fd;
  uint32_t events;
  state at;
  uint8_t head[16], head_size, head_end;
  header frame;
  uint64_t left, position;
  uint64_t to_send, sent;      // whole frames still to send; bytes of the first of them that are out
  uint64_t *due, head_due, tail_due;  // when each message under way was due: a ring
  uint64_t began;
  uint8_t echoed;
} client;

enum { ECHO, STREAM, CHURN, IDLE };
static const char *const MODES[] = {"echo", "stream", "churn", "idle"};
static const uint8_t MASK[4] = {0x37, 0xfa, 0x21, 0x3d};
#define RING 65536     // messages under way on a connection in an open loop
#define WAIT_LIMIT 10e9  // nanoseconds that opening or closing a connection may take
#define SECOND 1e9

static int loop, mode, verify, many, window, sources;
static uint64_t size, frame_size, batch;  // of a message; of its frame; frames in `frames`
static uint8_t *frames, *payload, in[READ_SIZE];
static struct sockaddr_in target;
static char request[512];
static client *clients;
static uint64_t open_now, under_way, ring;
static double rate;

static int measuring;
static uint64_t units, bytes, errors, due_next, started;
static uint64_t histogram[64 * 64];  // 64 buckets for each power of two: 1.6 % wide

static void count(uint64_t ns) {
  int shift = 63 - __builtin_clzll(ns | 63) - 5;
  histogram[shift * 64 + (ns >> shift)]++;
}

static double percentile(double part) {
  uint64_t total = 0, seen = 0;
  for (int i = 0; i < 64 * 64; i++) total += histogram[i];
  for (int i = 0; total && i < 64 * 64; i++)
    if ((seen += histogram[i]) > part * (double)total) return ((double)(i % 64) + 0.5) * (double)(1ull << (i / 64)) / 1e3;
  return 0;
}

static void rewatch(client *c, uint32_t events) {
  if (c->events != events) watch(loop, c->fd, c->events = events, c, EPOLL_CTL_MOD);
}

static void finish(client *c) {
  close(c->fd);
  open_now -= c->at >= OPEN;
  under_way--;
  c->at = FREE;
}

static void fail(client *c) {
  errors++;
  finish(c);
}

static void start(client *c, uint64_t due) {
  static uint32_t turn;
  int one = 1;
  uint64_t *ring_kept = c->due;
  memset(c, 0, sizeof *c);
  c->due = ring_kept;
  c->began = due;
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (c->fd < 0) die("socket");
  no_delay(c->fd);
  // One source address has 28,000 ports; several keep a churn from running out of them.
  struct sockaddr_in from = loopback(0);
  from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + turn++ % (uint32_t)sources);
  setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
  if (bind(c->fd, (struct sockaddr *)&from, sizeof from)) die("bind");
  if (connect(c->fd, (struct sockaddr *)&target, sizeof target) && errno != EINPROGRESS) die("connect");
  c->at = CONNECTING;
  under_way++;
  watch(loop, c->fd, c->events = EPOLLOUT, c, EPOLL_CTL_ADD);
}

static int flush(client *c) {  // 0, or -1 if the connection is gone
  while (c->to_send) {
    uint64_t ready = (c->to_send < batch ? c->to_send : batch) * frame_size;
    ssize_t sent = send(c->fd, frames + c->sent, ready - c->sent, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) return -1;
    if (sent < 0) {
      rewatch(c, EPOLLIN | EPOLLOUT);
      return 0;
    }
    uint64_t out = c->sent + (uint64_t)sent;
    c->to_send -= out / frame_size, c->sent = out % frame_size;
  }
  rewatch(c, EPOLLIN);
  return 0;
}

static int queue(client *c, uint64_t messages, uint64_t due) {
  if (c->head_due + messages - c->tail_due > ring) return -1;
  c->to_send += messages;
  while (messages--) c->due[c->head_due++ % ring] = due;
  return flush(c);
}

static int say_close(client *c) {
  uint8_t frame[8] = {0x80 | CLOSE, 0x82, MASK[0], MASK[1], MASK[2], MASK[3], (1000 >> 8) ^ MASK[0], (1000 & 255) ^ MASK[1]};
  c->at = CLOSING;
  return send(c->fd, frame, sizeof frame, MSG_NOSIGNAL) == sizeof frame ? 0 : -1;
}

static int frame_done(client *c, uint64_t *back, uint64_t now) {
  int opcode = c->frame.first & 15;
  if (opcode == CLOSE) {
    if (c->at != CLOSING) return -1;
    c->at = ENDING;
    return 0;
  }
  if (opcode > CLOSE) return 0;
  if (mode != STREAM) {
    // A proxy may fragment a message anew: the message is back with its last frame.
    if (!(c->frame.first & 0x80)) return 0;
    uint64_t due = c->due[c->tail_due++ % ring];
    if (measuring && mode == ECHO) count(now - due);
    if (mode == CHURN) return say_close(c);
    c->echoed = 1;
    ++*back;
  }
  if (measuring && mode != CHURN) units++, bytes += c->frame.length;
  return 0;
}

static int hear(client *c, const uint8_t *at, const uint8_t *end, uint64_t now) {
  uint64_t back = 0;
  while (at < end) {
    if (!c->left) {
      if (!take_header(&c->frame, &at, end)) break;
      if (c->frame.masked) return -1;  // a server must not (RFC 6455, section 5.1)
      c->left = c->frame.length, c->position = 0;
      int whole = (c->frame.first & 0x80) && (c->frame.first & 15) && (c->frame.first & 15) < CLOSE;
      if (mode != STREAM && whole && c->left != size) return -1;
    }
    uint64_t step = (uint64_t)(end - at) < c->left ? (uint64_t)(end - at) : c->left;
    if (verify && mode == ECHO && c->frame.first & 0x80 && (c->frame.first & 15) == BINARY &&
        memcmp(at, payload + c->position, step)) return -1;
    at += step, c->left -= step, c->position += step;
    if (!c->left && frame_done(c, &back, now)) return -1;
  }
  return back && mode == ECHO && rate == 0 && c->at == OPEN ? queue(c, back, now) : 0;
}

static int upgraded(client *c, const uint8_t **at, const uint8_t *end) {  // 1 yes, 0 not yet, -1 refused
  while (*at < end && c->head_end < 4) {
    if (c->head_size < 12) c->head[c->head_size++] = **at;
    c->head_end = **at == "\r\n\r\n"[c->head_end] ? c->head_end + 1 : **at == '\r';
    ++*at;
  }
  if (c->head_end < 4) return 0;
  return memcmp(c->head + 9, "101", 3) ? -1 : 1;
}

static int readable(client *c) {  // 1 at a good end, -1 at a bad one
  // What is not looked at need not be copied: the kernel discards the middle of a large payload (tcp(7), MSG_TRUNC).
  int discard = !verify && c->at == OPEN && c->left > 16384;
  ssize_t got = recv(c->fd, in, discard ? c->left - 1 : sizeof in, discard ? MSG_TRUNC : 0);
  if (got < 0) return errno == EAGAIN ? 0 : -1;
  uint64_t now = now_ns();
  if (!got) {
    if (c->at != ENDING) return -1;
    if (measuring) units++, count(now - c->began);
    return 1;
  }
  if (discard) {
    c->left -= (uint64_t)got, c->position += (uint64_t)got;
    return 0;
  }
  const uint8_t *at = in, *end = in + got;
  if (c->at == UPGRADING) {
    int is = upgraded(c, &at, end);
    if (is <= 0) return is;
    c->at = OPEN;
    open_now++;
    if (mode == ECHO && rate == 0 && queue(c, (uint64_t)window, now)) return -1;
    if ((mode == CHURN || mode == IDLE) && queue(c, 1, now)) return -1;
  }
  return hear(c, at, end, now);
}

static void happened(client *c, uint32_t what) {
  if (c->at == FREE) return;
  if (c->at == CONNECTING) {
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    size_t whole = strlen(request);
    if (error || send(c->fd, request, whole, MSG_NOSIGNAL) != (ssize_t)whole) {
      fail(c);
      return;
    }
    c->at = UPGRADING;
    rewatch(c, EPOLLIN);
    return;
  }
  int end = what & EPOLLOUT ? flush(c) : 0;
  if (!end && what & ~(uint32_t)EPOLLOUT) end = readable(c);
  if (end < 0) fail(c);
  if (end > 0) finish(c);
}

static void start_due(uint64_t now) {  // connections: all of them at first, for a churn whenever one is free
  static uint64_t next;
  if (mode != CHURN) {
    while (started < (uint64_t)many && under_way - open_now < 64) start(&clients[started++], now);
    return;
  }
  for (int tries = 0; tries < many && under_way < (uint64_t)many; tries++) {
    if (rate > 0 && due_next > now) return;
    client *c = &clients[next++ % (uint64_t)many];
    if (c->at != FREE) continue;
    start(c, rate > 0 ? due_next : now);
    if (rate > 0) due_next += (uint64_t)(SECOND / rate);
  }
}

static void send_due(uint64_t now) {  // messages of an open loop, to each connection in turn
  static uint64_t next;
  for (; due_next <= now; due_next += (uint64_t)(SECOND / rate)) {
    client *c = &clients[next++ % (uint64_t)many];
    if (c->at == OPEN && queue(c, 1, due_next)) fail(c);
  }
}

static void drop_late(uint64_t now) {
  for (int i = 0; i < many; i++) {
    client *c = &clients[i];
    if (c->at != FREE && c->at != OPEN && (double)now - (double)c->began > WAIT_LIMIT) fail(c);
  }
}

static int is_ready(void) {
  if (mode == CHURN) return 1;
  if (open_now < (uint64_t)many) return 0;
  for (int i = 0; mode == IDLE && i < many; i++)
    if (!clients[i].echoed) return 0;
  return 1;
}

static uint64_t meet(const char *word) {  // tell whoever measures, wait for the go-ahead
  char line[8];
  printf("%s\n", word);
  fflush(stdout);
  while (read(0, line, sizeof line) < 0 && errno == EINTR) {}
  return now_ns();
}

static int wait_until(uint64_t when, struct epoll_event *events) {
  uint64_t now = now_ns(), left = when > now ? when - now : 0;
  struct timespec wait = {.tv_sec = (time_t)(left / 1000000000), .tv_nsec = (long)(left % 1000000000)};
  return epoll_pwait2(loop, events, EVENTS, &wait, NULL);
}

static void make_frames(void) {
  uint8_t head[14];
  int head_size = put_header(head, 0x80 | BINARY, size, MASK);
  frame_size = (uint64_t)head_size + size;
  batch = frame_size > 512 * 1024 ? 1 : 512 * 1024 / frame_size;
  frames = malloc(batch * frame_size), payload = malloc(size + 1);
  for (uint64_t i = 0; i < size; i++) payload[i] = (uint8_t)(i * 7 + i / 251);
  for (uint64_t b = 0; b < batch; b++) {
    uint8_t *to = frames + b * frame_size;
    memcpy(to, head, (size_t)head_size);
    for (uint64_t i = 0; i < size; i++) to[(uint64_t)head_size + i] = payload[i] ^ MASK[i & 3];
  }
}

int main(int argc, char **argv) {
#define NUMBER(name, otherwise) atof(argument(argc, argv, name, otherwise))
  const char *called = argument(argc, argv, "--mode", "echo");
  while (mode < 4 && strcmp(called, MODES[mode])) mode++;
  if (mode == 4) return fprintf(stderr, "load: --mode %s: expected echo, stream, churn or idle\n", called), 2;
  many = (int)NUMBER("--connections", "1"), size = (uint64_t)NUMBER("--size", "128"), window = (int)NUMBER("--window", "1");
  rate = NUMBER("--rate", "0"), sources = (int)NUMBER("--sources", "8"), verify = (int)NUMBER("--verify", "0");
  double warm = NUMBER("--warm", "0.5") * SECOND, length = NUMBER("--seconds", "2") * SECOND;
  target = loopback((int)NUMBER("--port", "9000"));
  snprintf(request, sizeof request,
           "GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
           argument(argc, argv, "--path", "/echo"));
  ready_process();
  prctl(PR_SET_TIMERSLACK, 1);  // what is due in an open loop is sent when it is due, not 50 us later
  make_frames();
  loop = epoll_create1(0);
  ring = rate > 0 ? RING : (uint64_t)window;
  clients = calloc((size_t)many, sizeof *clients);
  for (int i = 0; i < many; i++) clients[i].due = malloc(ring * sizeof(uint64_t));

  struct epoll_event events[EVENTS];
  uint64_t ready = 0, begin = 0, looked = 0;
  uint64_t launched = now_ns();
  due_next = launched;
  for (;;) {
    uint64_t now = now_ns();
    start_due(now);
    if (mode == ECHO && rate > 0 && ready) send_due(now);
    if (!ready && is_ready()) ready = due_next = now;
    if (!ready && (double)(now - launched) > 6 * WAIT_LIMIT) break;
    if (ready && !begin && (double)(now - ready) >= warm) {
      begin = due_next = meet("begin");
      measuring = 1;
    }
    if (begin && (double)(now - begin) >= length && now > begin) break;
    if (ready && mode != CHURN && !open_now) break;
    if (now - looked > 1e9) drop_late(looked = now);
    int came = wait_until(rate > 0 && ready ? due_next : now + 20000000, events);
    for (int i = 0; i < came; i++) happened(events[i].data.ptr, events[i].events);
  }
  double seconds = begin ? (double)(now_ns() - begin) / SECOND : 0;
  if (begin) meet("end");
  printf("{\"mode\": \"%s\", \"seconds\": %.4f, \"units\": %lu, \"bytes\": %lu, \"errors\": %lu, \"open\": %lu, "
         "\"p50_us\": %.2f, \"p99_us\": %.2f, \"p999_us\": %.2f}\n",
         called, seconds, units, bytes, errors, open_now, percentile(.5), percentile(.99), percentile(.999));
  return 0;
}

// The app of the benchmark: a WebSocket server on one thread, cheap enough never to be what is measured.
//
//   server --port P
//
//   /echo              every data frame comes back unmasked, piece by piece as it arrives; nothing is gathered
//   /stream/SIZE/MANY  frames of SIZE bytes without end, MANY to a send(2)
//   /sink              everything is discarded, nothing is answered
//
// Pings are answered, a Close is answered and then TCP is closed, as RFC 6455 (section 7.1.1) asks of a server.
#include "common.h"

typedef struct {
  int fd;
  uint32_t events;
  uint8_t open, streams, sinks, ending;
  char *head;  // the request so far, until the 101
  size_t head_size;
  header frame;
  uint64_t left, position;  // of the current payload: bytes to come, bytes seen
  uint8_t control[128];
  int stream_size, stream_many;
  size_t stream_at;
  uint8_t *unsent;
  size_t unsent_size, unsent_at;
} peer;

static int loop;
static uint8_t in[READ_SIZE], out[READ_SIZE];  // what goes out is never more than what came in
static uint8_t *stream;  // the batch that all streams send; one shape a run
static size_t stream_length;

static uint32_t rotate(uint32_t v, int by) { return v << by | v >> (32 - by); }

static void sha1(const char *text, uint8_t digest[20]) {  // RFC 3174; up to 119 bytes
  uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
  uint8_t block[128] = {0};
  size_t size = strlen(text), total = size < 56 ? 64 : 128;
  memcpy(block, text, size);
  block[size] = 0x80;
  block[total - 2] = (uint8_t)(size * 8 >> 8);
  block[total - 1] = (uint8_t)(size * 8);
  for (size_t o = 0; o < total; o += 64) {
    uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
    for (int i = 0; i < 80; i++) {
      const uint8_t *p = block + o + 4 * i;
      w[i] = i < 16 ? (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3]
                    : rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
      uint32_t f = i < 20   ? ((b & c) | (~b & d)) + 0x5A827999
                   : i < 40 ? (b ^ c ^ d) + 0x6ED9EBA1
                   : i < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8F1BBCDC
                            : (b ^ c ^ d) + 0xCA62C1D6;
      uint32_t t = rotate(a, 5) + f + e + w[i];
      e = d, d = c, c = rotate(b, 30), b = a, a = t;
    }
    h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
  }
  for (int i = 0; i < 20; i++) digest[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
}

static void base64(const uint8_t *data, int size, char *to) {
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (int i = 0; i < size; i += 3) {
    uint32_t v = data[i] << 16 | (i + 1 < size ? data[i + 1] << 8 : 0) | (i + 2 < size ? data[i + 2] : 0);
    *to++ = digits[v >> 18];
    *to++ = digits[v >> 12 & 63];
    *to++ = i + 1 < size ? digits[v >> 6 & 63] : '=';
    *to++ = i + 2 < size ? digits[v & 63] : '=';
  }
  *to = 0;
}

static int push(peer *p, const uint8_t *data, size_t size) {  // 0, or -1 if the connection is gone
  if (!p->unsent_size) {
    ssize_t sent = send(p->fd, data, size, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) return -1;
    if (sent > 0) data += sent, size -= (size_t)sent;
  }
  if (size) {
    uint8_t *grown = malloc(p->unsent_size + size);
    if (p->unsent_size) memcpy(grown, p->unsent + p->unsent_at, p->unsent_size);
    memcpy(grown + p->unsent_size, data, size);
    free(p->unsent);
    p->unsent = grown, p->unsent_at = 0, p->unsent_size += size;
  }
  return 0;
}

static void begin_stream(peer *p) {
  if (!stream) {
    uint8_t h[14];
    int size = put_header(h, 0x80 | BINARY, (uint64_t)p->stream_size, NULL);
    stream_length = (size_t)(size + p->stream_size) * (size_t)p->stream_many;
    stream = calloc(1, stream_length);
    for (int i = 0; i < p->stream_many; i++) memcpy(stream + i * (size + p->stream_size), h, (size_t)size);
  }
  p->streams = 1;
}

static int answer(peer *p) {
  char *key = strcasestr(p->head, "\nsec-websocket-key:"), text[128] = "", accept[32], response[256];
  if (!key || sscanf(key + 19, " %40s", text) != 1) return -1;
  strcat(text, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11");  // RFC 6455, section 1.3
  uint8_t digest[20];
  sha1(text, digest);
  base64(digest, 20, accept);
  int size = snprintf(response, sizeof response,
                      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                      "Sec-WebSocket-Accept: %s\r\n\r\n", accept);
  p->open = 1;
  p->sinks = !strncmp(p->head, "GET /sink ", 10);
  if (sscanf(p->head, "GET /stream/%d/%d", &p->stream_size, &p->stream_many) == 2) begin_stream(p);
  return push(p, (uint8_t *)response, (size_t)size);
}

static void unmask(uint8_t *to, const uint8_t *from, size_t size, const header *h, uint64_t position) {
  uint8_t key[8] = {0};
  if (h->masked)
    for (int i = 0; i < 8; i++) key[i] = h->mask[(position + (uint64_t)i) & 3];
  uint64_t wide, v;
  memcpy(&wide, key, 8);
  size_t i = 0;
  for (; i + 8 <= size; i += 8) memcpy(&v, from + i, 8), v ^= wide, memcpy(to + i, &v, 8);
  for (; i < size; i++) to[i] = from[i] ^ key[i & 7];
}

static int frames(peer *p, const uint8_t *at, const uint8_t *end) {
  uint8_t *to = out;
  while (at < end && !p->ending) {
    if (!p->left) {
      if (!take_header(&p->frame, &at, end)) break;
      p->left = p->frame.length, p->position = 0;
      int opcode = p->frame.first & 15;
      if (opcode >= CLOSE && p->left > 125) return -1;
      if (opcode < CLOSE) to += put_header(to, p->frame.first, p->left, NULL);
    }
    int opcode = p->frame.first & 15;
    size_t size = (size_t)(end - at) < p->left ? (size_t)(end - at) : p->left;
    unmask(opcode < CLOSE ? to : p->control + p->position, at, size, &p->frame, p->position);
    if (opcode < CLOSE) to += size;
    at += size, p->left -= size, p->position += size;
    if (!p->left && (opcode == CLOSE || opcode == PING)) {
      to += put_header(to, (uint8_t)(0x80 | (opcode == PING ? PONG : CLOSE)), p->frame.length, NULL);
      memcpy(to, p->control, p->frame.length);
      to += p->frame.length;
      p->ending = opcode == CLOSE;
      if (p->ending && p->streams) return -1;  // somewhere inside a frame: no place for a Close
    }
  }
  if (to > out && push(p, out, (size_t)(to - out))) return -1;
  return p->ending && !p->unsent_size ? -1 : 0;
}

static int readable(peer *p) {
  if (p->open) {
    ssize_t got = recv(p->fd, in, READ_SIZE, p->sinks ? MSG_TRUNC : 0);
    if (got <= 0) return got < 0 && errno == EAGAIN ? 0 : -1;
    if (p->sinks) return 0;
    return frames(p, in, in + got);
  }
  if (!p->head) p->head = malloc(8193);
  ssize_t got = recv(p->fd, p->head + p->head_size, 8192 - p->head_size, 0);
  if (got <= 0) return got < 0 && errno == EAGAIN ? 0 : -1;
  p->head_size += (size_t)got;
  p->head[p->head_size] = 0;
  char *end = strstr(p->head, "\r\n\r\n");
  if (!end) return p->head_size == 8192 ? -1 : 0;
  if (answer(p)) return -1;
  int rc = p->sinks ? 0 : frames(p, (uint8_t *)end + 4, (uint8_t *)p->head + p->head_size);
  free(p->head);
  p->head = NULL;
  return rc;
}

static int writable(peer *p) {
  if (p->unsent_size) {
    ssize_t sent = send(p->fd, p->unsent + p->unsent_at, p->unsent_size, MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN ? 0 : -1;
    p->unsent_at += (size_t)sent, p->unsent_size -= (size_t)sent;
    if (p->unsent_size) return 0;
    free(p->unsent);
    p->unsent = NULL;
    return p->ending ? -1 : 0;
  }
  if (!p->streams) return 0;
  ssize_t sent = send(p->fd, stream + p->stream_at, stream_length - p->stream_at, MSG_NOSIGNAL);
  if (sent < 0) return errno == EAGAIN ? 0 : -1;
  p->stream_at = (p->stream_at + (size_t)sent) % stream_length;
  return 0;
}

static void drop(peer *p) {
  close(p->fd);
  free(p->head);
  free(p->unsent);
  free(p);
}

static void welcome(int listener) {
  int fd;
  while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
    no_delay(fd);
    peer *p = calloc(1, sizeof *p);
    p->fd = fd, p->events = EPOLLIN;
    watch(loop, fd, EPOLLIN, p, EPOLL_CTL_ADD);
  }
}

int main(int argc, char **argv) {
  ready_process();
  loop = epoll_create1(0);
  int listener = listen_on(atoi(argument(argc, argv, "--port", "9000")));
  watch(loop, listener, EPOLLIN, NULL, EPOLL_CTL_ADD);
  struct epoll_event happened[EVENTS];
  for (;;) {
    int many = epoll_wait(loop, happened, EVENTS, -1);
    for (int i = 0; i < many; i++) {
      peer *p = happened[i].data.ptr;
      if (!p) {
        welcome(listener);
        continue;
      }
      uint32_t what = happened[i].events;
      int gone = what & EPOLLOUT ? writable(p) : 0;
      if (!gone && what & ~(uint32_t)EPOLLOUT && !p->unsent_size) gone = readable(p);
      if (gone) {
        drop(p);
        continue;
      }
      uint32_t wanted = p->unsent_size ? EPOLLOUT : p->streams ? EPOLLIN | EPOLLOUT : EPOLLIN;
      if (wanted != p->events) watch(loop, p->fd, p->events = wanted, p, EPOLL_CTL_MOD);
    }
  }
}

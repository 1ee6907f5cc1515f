/* limit - the least that a WebSocket server can do: what anybody sends goes to all others in the room, unread.
 *
 *     limit PORT MS     one write for each connection every MS milliseconds: what a joined writer can reach at best
 *     limit PORT 0      one `send` for each message and connection: what most servers do, without their work
 *
 * One thread, epoll. For loopback and trusted peers alone: it checks nothing that the load generator does not get wrong. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ROOMS 4096
#define IN_SIZE 16384
#define OUT_LIMIT (8u << 20)

typedef unsigned char u8;
typedef struct Conn {
    int fd, open, index, dirty;
    struct Room *room;
    size_t in_len, out_len, out_cap;
    u8 *out, in[IN_SIZE];
} Conn;
typedef struct Room { char name[80]; Conn **conns; int n, cap; } Room;

static Room rooms[ROOMS];
static Conn **dirty;
static int n_dirty, dirty_cap, tick_ms;

static void die(const char *what) { perror(what), exit(1); }

/* ------------------------------------------------------------------ the handshake: SHA-1 (RFC 3174) and base64 */
static uint32_t rol(uint32_t v, int n) { return v << n | v >> (32 - n); }
static void sha1(const u8 *data, size_t len, u8 out[20]) {
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    u8 buf[128] = {0}; /* at most 119 bytes: two blocks */
    size_t blocks = (len + 8) / 64 + 1;
    memcpy(buf, data, len), buf[len] = 0x80;
    for (int i = 0; i < 8; i++) buf[blocks * 64 - 1 - (size_t)i] = (u8)((uint64_t)len * 8 >> (8 * i));
    for (size_t b = 0; b < blocks; b++) {
        uint32_t w[80], v[5];
        for (int i = 0; i < 16; i++) { const u8 *p = buf + b * 64 + 4 * i; w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]; }
        for (int i = 16; i < 80; i++) w[i] = rol(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        memcpy(v, h, sizeof v);
        for (int i = 0; i < 80; i++) {
            uint32_t f = i < 20 ? (v[1] & v[2]) | (~v[1] & v[3]) : i < 40 || i >= 60 ? v[1] ^ v[2] ^ v[3] : (v[1] & v[2]) | (v[1] & v[3]) | (v[2] & v[3]);
            uint32_t k = i < 20 ? 0x5A827999 : i < 40 ? 0x6ED9EBA1 : i < 60 ? 0x8F1BBCDC : 0xCA62C1D6, t = rol(v[0], 5) + f + v[4] + k + w[i];
            v[4] = v[3], v[3] = v[2], v[2] = rol(v[1], 30), v[1] = v[0], v[0] = t;
        }
        for (int i = 0; i < 5; i++) h[i] += v[i];
    }
    for (int i = 0; i < 20; i++) out[i] = (u8)(h[i / 4] >> (24 - 8 * (i % 4)));
}
static void base64(const u8 *in, int n, char *out) {
    static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)in[i] << 16 | (i + 1 < n ? (uint32_t)in[i + 1] << 8 : 0) | (i + 2 < n ? in[i + 2] : 0);
        *out++ = set[v >> 18], *out++ = set[v >> 12 & 63], *out++ = i + 1 < n ? set[v >> 6 & 63] : '=', *out++ = i + 2 < n ? set[v & 63] : '=';
    }
    *out = 0;
}

/* ------------------------------------------------------------------ connections */
static void leave(Conn *c) {
    if (c->room) c->room->conns[c->index] = c->room->conns[--c->room->n], c->room->conns[c->index]->index = c->index;
    for (int i = 0; i < n_dirty; i++)
        if (dirty[i] == c) dirty[i] = dirty[--n_dirty], i--;
    close(c->fd), free(c->out), free(c);
}
static void enter(Conn *c, const char *name) {
    unsigned hash = 5381;
    for (const char *p = name; *p; p++) hash = hash * 33 + (u8)*p;
    Room *r = &rooms[hash % ROOMS];
    while (r->name[0] && strcmp(r->name, name)) r = r == &rooms[ROOMS - 1] ? rooms : r + 1;
    snprintf(r->name, sizeof r->name, "%s", name);
    if (r->n == r->cap) r->conns = realloc(r->conns, sizeof(Conn *) * (size_t)(r->cap = r->cap ? r->cap * 2 : 16));
    c->index = r->n, r->conns[r->n++] = c, c->room = r;
}
static void flush(Conn *c) { /* what the kernel does not take waits for the next tick */
    ssize_t n = send(c->fd, c->out, c->out_len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) memmove(c->out, c->out + n, c->out_len -= (size_t)n);
}
static void put(Conn *c, const u8 *data, size_t len) {
    if (c->out_len + len > OUT_LIMIT) return; /* a reader that stands still loses */
    if (c->out_len + len > c->out_cap) c->out = realloc(c->out, c->out_cap = 2 * (c->out_len + len));
    memcpy(c->out + c->out_len, data, len), c->out_len += len;
    if (!tick_ms) { flush(c); if (!c->out_len) return; }
    if (!c->dirty) {
        if (n_dirty == dirty_cap) dirty = realloc(dirty, sizeof(Conn *) * (size_t)(dirty_cap = dirty_cap ? dirty_cap * 2 : 256));
        dirty[n_dirty++] = c, c->dirty = 1;
    }
}
static void tick(void) {
    int kept = 0;
    for (int i = 0; i < n_dirty; i++) {
        flush(dirty[i]);
        if (dirty[i]->out_len) dirty[kept++] = dirty[i]; else dirty[i]->dirty = 0;
    }
    n_dirty = kept;
}
static int handshake(Conn *c) { /* 1: done, 0: not whole yet, -1: none */
    c->in[c->in_len] = 0;
    char *text = (char *)c->in, *end = strstr(text, "\r\n\r\n"), *key = strcasestr(text, "\r\nsec-websocket-key:"), *room = strstr(text, "room=");
    if (!end) return c->in_len + 1 >= IN_SIZE ? -1 : 0;
    if (!key || !room) return -1;
    char name[80], both[100], accept[32], answer[200];
    u8 digest[20];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(room + 5, "& \r"), room + 5);
    key += 20, key += strspn(key, " ");
    int n = snprintf(both, sizeof both, "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    sha1((u8 *)both, (size_t)n, digest), base64(digest, 20, accept);
    n = snprintf(answer, sizeof answer, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", accept);
    if (send(c->fd, answer, (size_t)n, MSG_NOSIGNAL) != n) return -1;
    enter(c, name), c->open = 1;
    size_t used = (size_t)(end + 4 - text);
    memmove(c->in, c->in + used, c->in_len -= used);
    return 1;
}
static int frames(Conn *c) { /* -1: the end */
    size_t at = 0;
    static u8 frame[IN_SIZE];
    while (c->in_len - at >= 6) {
        u8 *p = c->in + at;
        size_t len = p[1] & 127, head = 2;
        if (len == 126) { if (c->in_len - at < 8) break; len = (size_t)p[2] << 8 | p[3], head = 4; }
        if (len >= IN_SIZE - 16) return -1;
        if (c->in_len - at < head + 4 + len) break;
        if ((p[0] & 15) == 8) return -1;
        memcpy(frame, p, head), frame[1] &= 127;
        for (size_t i = 0; i < len; i++) frame[head + i] = p[head + 4 + i] ^ p[head + (i & 3)];
        for (int i = 0; i < c->room->n && (p[0] & 15) < 8; i++)
            if (c->room->conns[i] != c) put(c->room->conns[i], frame, head + len);
        at += head + 4 + len;
    }
    memmove(c->in, c->in + at, c->in_len -= at);
    return 0;
}
static long long now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

int main(int argc, char **argv) {
    if (argc != 3) return fprintf(stderr, "usage: limit PORT MS\n"), 2;
    tick_ms = atoi(argv[2]);
    int ls = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), ep = epoll_create1(0), yes = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(ls, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(ls, (struct sockaddr *)&at, sizeof at) || listen(ls, 4096)) die("listen");
    struct epoll_event ev[256] = {{.events = EPOLLIN, .data.ptr = NULL}};
    epoll_ctl(ep, EPOLL_CTL_ADD, ls, ev);
    long long next = 0;
    for (;;) {
        int wait = !n_dirty ? -1 : tick_ms ? (int)(next - now_ms()) : 1;
        int n = epoll_wait(ep, ev, 256, wait < -1 ? 0 : wait);
        for (int i = 0; i < n; i++) {
            Conn *c = ev[i].data.ptr;
            if (!c) {
                for (int fd; (fd = accept4(ls, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
                    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
                    c = calloc(1, sizeof *c), c->fd = fd;
                    struct epoll_event add = {.events = EPOLLIN, .data.ptr = c};
                    epoll_ctl(ep, EPOLL_CTL_ADD, fd, &add);
                }
                continue;
            }
            int quiet = !n_dirty;
            ssize_t got = recv(c->fd, c->in + c->in_len, IN_SIZE - 1 - c->in_len, 0);
            if (got <= 0) { if (got == 0 || errno != EAGAIN) leave(c); continue; }
            c->in_len += (size_t)got;
            if ((!c->open && handshake(c) < 0) || (c->open && frames(c) < 0)) { leave(c); continue; }
            if (quiet && n_dirty) next = now_ms() + tick_ms;
        }
        if (n_dirty && (!tick_ms || now_ms() >= next)) tick(), next = now_ms() + tick_ms;
    }
}

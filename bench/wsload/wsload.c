/* wsload - an open-loop WebSocket fan-out load generator (one thread, epoll, plain ws://).
 *
 * N connections, connection i in room i % R; the first S connections of each room send a templated
 * message at a fixed rate.  Each message carries its *intended* send time as a 16-digit number after a
 * marker; every receiver finds the marker in whatever frames arrive (one message a frame, many messages a
 * frame, or a byte stream cut into frames) and records now - intended, so a late generator or a
 * back-pressuring server is never hidden.  The 16 digits may be those of a fraction ("x":0.1000004321...):
 * they fit into a double, and a server that writes the number anew drops only zeros at its end, which are
 * put back here.  See usage() for the options; bench/generator.py has the templates. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define TS_BASE 1000000000000000ULL /* 16 digits, below 2^53: exact in any JSON reader */
#define TS_DIGITS 16
#define MAX_STEPS 64
#define MAX_SCRIPT 16
#define MAX_PIDS 32
#define OUT_LIMIT (1 << 20) /* a connection with more unsent bytes skips its turn (counted: blocked) */
#define RX_SIZE (1 << 18)
#define SUB 128 /* histogram: SUB / 2 buckets per power of two, so 1.6 % wide */

typedef unsigned char u8;
typedef uint64_t u64;

static void die(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    fputs("wsload: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    exit(2);
}

/* ------------------------------------------------------------------ time, random, histogram */
static u64 t_zero, rng = 0x9E3779B97F4A7C15ULL;
static u64 now_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (u64)ts.tv_sec * 1000000000ULL + (u64)ts.tv_nsec - t_zero;
}
static u64 rnd(void) {
    rng ^= rng << 13, rng ^= rng >> 7, rng ^= rng << 17;
    return rng;
}

typedef struct { u64 n, max, sum, b[64 * SUB]; } Hist;
static void h_add(Hist *h, u64 v) {
    unsigned e = v < SUB ? 0 : 63 - (unsigned)__builtin_clzll(v) - 6;
    h->b[e ? e * SUB + ((v >> e) & (SUB / 2 - 1)) + SUB / 2 : v]++;
    h->n++, h->sum += v;
    if (v > h->max) h->max = v;
}
static double h_pct(const Hist *h, double q) { /* milliseconds */
    u64 want = (u64)(q * (double)h->n + 0.5), seen = 0;
    if (!h->n) return 0;
    for (unsigned i = 0; i < 64 * SUB; i++)
        if ((seen += h->b[i]) >= (want ? want : 1)) {
            u64 v = i < SUB ? i : (u64)(i % SUB + 1) << (i / SUB); /* a bucket's upper edge */
            return (double)(v > h->max ? h->max : v) / 1e6;
        }
    return (double)h->max / 1e6;
}

/* ------------------------------------------------------------------ templates */
enum { P_LIT, P_I, P_ROOM, P_TS, P_SEQ, P_X, P_Y, P_LEN, P_BODY, P_VLEN, P_V3SEQ, P_V3I, P_TOKEN };
typedef struct { int kind, add; char *lit; size_t len; } Part;
typedef struct { Part *p; int n; } Tpl;

static char *unescape(const char *s, size_t n, size_t *out) {
    char *r = malloc(n + 1), *d = r;
    for (size_t i = 0; i < n; i++) {
        if (s[i] != '\\' || i + 1 == n) { *d++ = s[i]; continue; }
        char c = s[++i];
        if (c == 'x' && i + 2 < n && isxdigit((u8)s[i + 1]) && isxdigit((u8)s[i + 2])) {
            char h[3] = {s[i + 1], s[i + 2], 0};
            *d++ = (char)strtol(h, NULL, 16), i += 2;
        } else *d++ = c == 'n' ? '\n' : c == 'r' ? '\r' : c == 't' ? '\t' : c == '0' ? 0 : c;
    }
    *d = 0, *out = (size_t)(d - r);
    return r;
}
static Tpl tpl_parse(const char *s) {
    static const struct { const char *name; int kind; } names[] = {
        {"{i}", P_I}, {"{room}", P_ROOM}, {"{ts}", P_TS}, {"{seq}", P_SEQ}, {"{x}", P_X}, {"{y}", P_Y},
        {"{len}", P_LEN}, {"{body}", P_BODY}, {"{v3seq}", P_V3SEQ}, {"{v3i}", P_V3I},
        {"{token}", P_TOKEN}};
    Tpl t = {NULL, 0};
    const char *lit = s;
    for (const char *c = s;; c++) {
        int kind = P_LIT, add = 0;
        size_t used = 0;
        if (*c == '{') {
            for (size_t k = 0; k < sizeof names / sizeof *names; k++)
                if (!strncmp(c, names[k].name, strlen(names[k].name))) kind = names[k].kind, used = strlen(names[k].name);
            int m = 0;
            if (!used && sscanf(c, "{vlen+%d}%n", &add, &m) == 1 && m) kind = P_VLEN, used = (size_t)m;
        }
        if (kind == P_LIT && *c) continue;
        t.p = realloc(t.p, sizeof(Part) * (size_t)(t.n + 2));
        if (c > lit) {
            Part *q = &t.p[t.n++];
            q->kind = P_LIT, q->lit = unescape(lit, (size_t)(c - lit), &q->len);
        }
        if (kind != P_LIT) t.p[t.n++] = (Part){kind, add, NULL, 0}, c += used - 1, lit = c + 1;
        if (!*c) return t;
    }
}
typedef struct { int i, room; u64 ts, seq; const char *body; size_t body_len; } Ctx;
static char **tokens; /* one a connection, from -T; empty past the end of the file */
static int n_token;
static const char *token_of(int i) { return i < n_token ? tokens[i] : ""; }
static void tokens_file(const char *name) {
    char line[8192];
    FILE *f = fopen(name, "r");
    if (!f) die("%s: %s", name, strerror(errno));
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\r\n")] = 0;
        tokens = realloc(tokens, sizeof *tokens * (size_t)(n_token + 1));
        tokens[n_token++] = strdup(line);
    }
    fclose(f);
}
static size_t tpl_render(const Tpl *t, const Ctx *c, char *out, size_t cap) {
    size_t n = 0;
    for (int k = 0; k < t->n; k++) {
        const Part *p = &t->p[k];
        const char *token = p->kind == P_TOKEN ? token_of(c->i) : "";
        if (n + 64 + strlen(token) + p->len + c->body_len > cap) die("template renders past %zu bytes", cap);
        switch (p->kind) {
        case P_LIT: memcpy(out + n, p->lit, p->len), n += p->len; break;
        case P_I: n += (size_t)sprintf(out + n, "%d", c->i); break;
        case P_ROOM: n += (size_t)sprintf(out + n, "%d", c->room); break;
        case P_TS: n += (size_t)sprintf(out + n, "%016llu", (unsigned long long)(c->ts + TS_BASE)); break;
        case P_SEQ: n += (size_t)sprintf(out + n, "%llu", (unsigned long long)c->seq); break;
        case P_X: case P_Y: n += (size_t)sprintf(out + n, "%d", 100 + (int)(rnd() % 900)); break;
        case P_TOKEN: n += (size_t)sprintf(out + n, "%s", token); break;
        case P_LEN: n += (size_t)sprintf(out + n, "%zu", c->body_len); break;
        case P_BODY: memcpy(out + n, c->body, c->body_len), n += c->body_len; break;
        default: { /* lib0 variable-length integers; v3*: always three bytes */
            u64 v = p->kind == P_VLEN ? c->body_len + (u64)p->add : 16384 + (p->kind == P_V3I ? (u64)c->i : c->seq % 2000000);
            while (v > 127) out[n++] = (char)(128 | (v & 127)), v >>= 7;
            out[n++] = (char)v;
        }
        }
    }
    return n;
}

/* ------------------------------------------------------------------ configuration */
static char host[256] = "127.0.0.1", port[16] = "80", path_raw[2048] = "/", headers[4096], *marker = "\"ts\":", *ping_pat, *ping_reply;
static size_t marker_len, ping_len, pong_len;
static Tpl tpl_path, tpl_headers, tpl_send, tpl_body, script[MAX_SCRIPT];
static char *script_wait[MAX_SCRIPT];
static int n_script, binary_send, echo = 1, send_set, body_set;
static int n_conn = 10, n_room = 1, n_sender = -1, json_out, same_phase;
static double rates[MAX_STEPS], dur = 5, warm = 1, drain_s = 2, settle = 0.5, stop_p99 = 0, connect_limit = 30;
static int n_rate, pids[MAX_PIDS], n_pid, conn_window = 64, want_last;
static const char *label = "";

static void config_line(char *line) {
    char *eq = strchr(line, '=');
    if (!eq || line[0] == '#') return;
    char *k = line, *v = eq + 1, *e = eq;
    while (e > k && isspace((u8)e[-1])) e--;
    *e = 0;
    while (*v == ' ') v++;
    size_t n = strlen(v), u;
    while (n && (v[n - 1] == '\n' || v[n - 1] == '\r')) v[--n] = 0;
    v = strdup(v);
    if (!strcmp(k, "path")) snprintf(path_raw, sizeof path_raw, "%s", v);
    else if (!strcmp(k, "header")) strncat(headers, v, sizeof headers - strlen(headers) - 3), strcat(headers, "\r\n");
    else if (!strcmp(k, "first") && n_script < MAX_SCRIPT) script[n_script++] = tpl_parse(v);
    else if (!strcmp(k, "await") && n_script < MAX_SCRIPT) script_wait[n_script++] = unescape(v, strlen(v), &u);
    else if (!strcmp(k, "send")) tpl_send = tpl_parse(v), send_set = 1;
    else if (!strcmp(k, "body")) tpl_body = tpl_parse(v), body_set = 1;
    else if (!strcmp(k, "marker")) marker = unescape(v, strlen(v), &u);
    else if (!strcmp(k, "binary")) binary_send = atoi(v);
    else if (!strcmp(k, "echo")) echo = atoi(v);
    else if (!strcmp(k, "ping")) ping_pat = unescape(v, strlen(v), &ping_len);
    else if (!strcmp(k, "pong")) ping_reply = unescape(v, strlen(v), &pong_len);
    else die("template: unknown key '%s'", k);
}
static void config_file(const char *name) {
    char line[8192];
    FILE *f = fopen(name, "r");
    if (!f) die("%s: %s", name, strerror(errno));
    while (fgets(line, sizeof line, f)) config_line(line);
    fclose(f);
}

/* ------------------------------------------------------------------ connections */
enum { C_NEW, C_CONNECTING, C_HTTP, C_SCRIPT, C_READY, C_DEAD };
typedef struct {
    int fd, id, state, step, want_out;
    char *out, *pre;                       /* unsent bytes; text gathered until the script is done */
    size_t out_len, out_off, out_cap, pre_len;
    u64 seq, msgs, frames;
    u8 hdr[14], hdr_len;                   /* partial frame header */
    u8 op, fin, rsv, in_frame;             /* current frame */
    u64 left;
    u8 ctl[125], ctl_len;                  /* control payload, or the start of a possible app-level ping */
    char tail[128];                        /* end of the last chunk: a marker may span two */
    u8 tail_len;
} Conn;

static Conn *conns;
static int ep, n_ready, n_dead, n_open, *room_size;
static Hist lat, lag;
static u64 win_lo, win_hi, /* intended send times that count in this step */ win_recv, arr_msgs, frames_total, bytes_total, rsv_frames, blocked, tx_msgs, win_sent, win_expected, bad_ts, recv_time;
static void conn_dead(Conn *c, const char *why) {
    if (c->state == C_DEAD) return;
    if (n_dead < 3) fprintf(stderr, "wsload: connection %d closed: %s\n", c->id, why);
    if (c->state == C_READY) n_ready--;
    c->state = C_DEAD, n_dead++;
    close(c->fd);
}
static void conn_watch(Conn *c, int out) {
    if (c->want_out == out) return;
    struct epoll_event ev = {.events = EPOLLIN | (out ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &ev);
    c->want_out = out;
}
static void conn_flush(Conn *c) {
    while (c->out_off < c->out_len) {
        ssize_t k = send(c->fd, c->out + c->out_off, c->out_len - c->out_off, MSG_NOSIGNAL);
        if (k < 0) {
            if (errno != EAGAIN && errno != EINTR) conn_dead(c, strerror(errno)); else conn_watch(c, 1);
            return;
        }
        c->out_off += (size_t)k;
    }
    c->out_off = c->out_len = 0;
    conn_watch(c, 0);
}
static void conn_write(Conn *c, const void *d, size_t n) {
    if (c->out_len + n > c->out_cap) c->out = realloc(c->out, c->out_cap = (c->out_len + n) * 2);
    memcpy(c->out + c->out_len, d, n), c->out_len += n;
    if (!c->want_out) conn_flush(c);
}
static void ws_send(Conn *c, int op, const char *d, size_t n) {
    static u8 f[1 << 17];
    size_t h = 2;
    if (n > sizeof f - 32) die("message too long");
    f[0] = (u8)(0x80 | op);
    if (n < 126) f[1] = (u8)(0x80 | n);
    else if (n < 65536) f[1] = 0xFE, f[2] = (u8)(n >> 8), f[3] = (u8)n, h = 4;
    else { f[1] = 0xFF; for (int i = 0; i < 8; i++) f[2 + i] = (u8)(n >> (56 - 8 * i)); h = 10; }
    u64 key = rnd() & 0xFFFFFFFF, w;
    key |= key << 32;
    memcpy(f + h, &key, 4), h += 4; /* masked eight bytes at a time; the overrun stays inside f */
    memcpy(f + h, d, n);
    for (size_t i = 0; i < n; i += 8) memcpy(&w, f + h + i, 8), w ^= key, memcpy(f + h + i, &w, 8);
    conn_write(c, f, h + n);
}
static void script_run(Conn *c) {
    static char buf[1 << 16], body[1 << 16];
    Ctx x = {.i = c->id, .room = c->id % n_room, .ts = now_ns()};
    if (body_set) x.body_len = tpl_render(&tpl_body, &x, body, sizeof body), x.body = body;
    while (c->step < n_script && c->state == C_SCRIPT) {
        if (script_wait[c->step]) {
            size_t w = strlen(script_wait[c->step]);
            char *hit = c->pre_len ? memmem(c->pre, c->pre_len, script_wait[c->step], w) : NULL;
            if (!hit) return;
            size_t used = (size_t)(hit - c->pre) + w;
            memmove(c->pre, c->pre + used, c->pre_len -= used);
        } else {
            size_t n = tpl_render(&script[c->step], &x, buf, sizeof buf);
            ws_send(c, 1 + binary_send, buf, n);
        }
        c->step++;
    }
    if (c->state == C_SCRIPT) c->state = C_READY, n_ready++, free(c->pre), c->pre = NULL;
}

/* --last: of each message of this step how many have it; when all do, the last one's latency counts */
#define LAST_SLOTS (1 << 16)
typedef struct { u64 ts; int left; } Sent;
static Sent sent_msgs[LAST_SLOTS];
static Hist last;
static u64 last_missed;
static Sent *sent_slot(u64 ts) { /* linear probing; the slot of ts, or the free one where it would be */
    for (u64 k = ts * 0x9E3779B97F4A7C15ULL >> 48, n = 0; n < LAST_SLOTS; k++, n++) {
        Sent *s = &sent_msgs[k & (LAST_SLOTS - 1)];
        if (s->ts == ts || !s->ts) return s;
    }
    die("--last is for at most %d messages a step", LAST_SLOTS);
    return NULL;
}
static void sent_note(u64 ts, int receivers) { *sent_slot(ts) = (Sent){ts, receivers}; }
static void sent_arrived(u64 ts, u64 took) {
    Sent *s = sent_slot(ts);
    if (s->ts == ts && s->left > 0 && --s->left == 0) h_add(&last, took);
}

/* a marker was found; at p stand up to 16 digits, and at least as many bytes in all */
static void on_message(Conn *c, const char *p) {
    u64 v = 0;
    int i = 0;
    for (unsigned d; i < TS_DIGITS && (d = (unsigned)(p[i] - '0')) <= 9; i++) v = v * 10 + d;
    if (i < 6) { bad_ts++; return; } /* no time: ours are never that round */
    for (; i < TS_DIGITS; i++) v *= 10;
    v -= TS_BASE;
    c->msgs++, arr_msgs++;
    if (v >= win_lo && v < win_hi) {
        u64 took = recv_time > v ? recv_time - v : 0;
        win_recv++, h_add(&lat, took);
        if (want_last) sent_arrived(v, took);
    }
}
static void scan(Conn *c, const char *d, size_t n) {
    const size_t need = marker_len + TS_DIGITS;
    if (c->tail_len) { /* look for a marker that begins in the kept tail */
        char j[256];
        size_t take = n < need - 1 ? n : need - 1, tot = c->tail_len + take;
        memcpy(j, c->tail, c->tail_len), memcpy(j + c->tail_len, d, take);
        for (char *p = j; (p = memmem(p, (size_t)(j + tot - p), marker, marker_len)) && p < j + c->tail_len; p++)
            if (p + need <= j + tot) on_message(c, p + marker_len);
        if (n < need - 1) { /* a chunk shorter than a message's mark: keep joining */
            size_t keep = tot < need - 1 ? tot : need - 1;
            memcpy(c->tail, j + tot - keep, keep), c->tail_len = (u8)keep;
            return;
        }
    }
    for (const char *p = d; (p = memmem(p, (size_t)(d + n - p), marker, marker_len)) && p + need <= d + n; p += need)
        on_message(c, p + marker_len);
    size_t keep = n < need - 1 ? n : need - 1;
    memcpy(c->tail, d + n - keep, keep), c->tail_len = (u8)keep;
}
static void on_chunk(Conn *c, const u8 *d, size_t n, int last) {
    if (c->op >= 8) { /* control */
        size_t room = sizeof c->ctl - c->ctl_len, k = n < room ? n : room;
        memcpy(c->ctl + c->ctl_len, d, k), c->ctl_len = (u8)(c->ctl_len + k);
        if (!last) return;
        if (c->op == 9) ws_send(c, 10, (char *)c->ctl, c->ctl_len);
        if (c->op == 8) conn_dead(c, c->ctl_len > 2 ? "close frame with a reason" : "close frame");
        return;
    }
    if (c->rsv) return;
    if (ping_pat && last && n == ping_len && !memcmp(d, ping_pat, n)) ws_send(c, 1 + binary_send, ping_reply, pong_len);
    if (c->state == C_SCRIPT) {
        c->pre = realloc(c->pre, c->pre_len + n + 1);
        memcpy(c->pre + c->pre_len, d, n), c->pre_len += n;
        script_run(c);
        return;
    }
    scan(c, (const char *)d, n);
    if (last && c->fin && !binary_send) c->tail_len = 0; /* text messages do not run into each other */
}
static void on_ws(Conn *c, const u8 *d, size_t n) {
    while (n && c->state != C_DEAD) {
        if (!c->in_frame) {
            size_t need = 2;
            if (c->hdr_len >= 2) need = (c->hdr[1] & 127) == 126 ? 4 : (c->hdr[1] & 127) == 127 ? 10 : 2;
            while (c->hdr_len < need && n) {
                c->hdr[c->hdr_len++] = *d++, n--;
                if (c->hdr_len == 2) need = (c->hdr[1] & 127) == 126 ? 4 : (c->hdr[1] & 127) == 127 ? 10 : 2;
            }
            if (c->hdr_len < need) return;
            if (c->hdr[1] & 0x80) { conn_dead(c, "masked server frame"); return; }
            int op = c->hdr[0] & 15;
            c->fin = c->hdr[0] >> 7;
            c->op = (u8)op;
            if (op >= 8) c->ctl_len = 0;
            else if (op) c->rsv = (c->hdr[0] >> 6) & 1;
            c->left = c->hdr[1] & 127;
            if (need > 2) { c->left = 0; for (size_t i = 2; i < need; i++) c->left = c->left << 8 | c->hdr[i]; }
            c->in_frame = 1, c->hdr_len = 0;
            if (op < 8) c->frames++, frames_total++, rsv_frames += c->rsv;
        }
        size_t k = n < c->left ? n : (size_t)c->left;
        c->left -= k;
        if (!c->left) c->in_frame = 0;
        on_chunk(c, d, k, !c->left);
        d += k, n -= k;
    }
}
static void on_readable(Conn *c) {
    static char rx[RX_SIZE + 1];
    ssize_t n = recv(c->fd, rx, RX_SIZE, 0);
    if (n <= 0) {
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
        conn_dead(c, n ? strerror(errno) : "end of stream");
        return;
    }
    recv_time = now_ns(), bytes_total += (u64)n;
    if (c->state >= C_SCRIPT) { on_ws(c, (u8 *)rx, (size_t)n); return; }
    c->pre = realloc(c->pre, c->pre_len + (size_t)n + 1); /* the HTTP reply */
    memcpy(c->pre + c->pre_len, rx, (size_t)n), c->pre_len += (size_t)n, c->pre[c->pre_len] = 0;
    char *end = memmem(c->pre, c->pre_len, "\r\n\r\n", 4), *all = c->pre;
    if (!end) return;
    if (c->pre_len < 12 || memcmp(c->pre + 8, " 101", 4) || !strcasestr(c->pre, "sec-websocket-accept:")) {
        fprintf(stderr, "%.120s\n", c->pre);
        conn_dead(c, "the handshake was refused");
        return;
    }
    size_t rest = c->pre_len - (size_t)(end + 4 - all);
    c->pre = NULL, c->pre_len = 0, c->state = C_SCRIPT, n_open++;
    script_run(c);
    if (rest) on_ws(c, (u8 *)end + 4, rest);
    free(all);
}
static void conn_start(Conn *c, const struct addrinfo *ai) {
    c->fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) die("socket: %s", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    c->state = C_CONNECTING, c->want_out = 1;
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
    if (connect(c->fd, ai->ai_addr, ai->ai_addrlen) && errno != EINPROGRESS) { conn_dead(c, strerror(errno)); return; }
    epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev);
}
static void conn_handshake(Conn *c) {
    static const char b64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char key[25] = "", req[12288], path[2100], head[8192];
    Ctx x = {.i = c->id, .room = c->id % n_room};
    for (int i = 0; i < 21; i++) key[i] = b64[rnd() >> 20 & 63];
    strcpy(key + 21, "A==");
    path[tpl_render(&tpl_path, &x, path, sizeof path - 1)] = 0;
    head[tpl_render(&tpl_headers, &x, head, sizeof head - 1)] = 0;
    int n = snprintf(req, sizeof req, "GET %s HTTP/1.1\r\nHost: %s:%s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n%s\r\n", path, host, port, key, head);
    c->state = C_HTTP, c->want_out = 0;
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &ev);
    conn_write(c, req, (size_t)n);
}
static void poll_once(u64 until) {
    struct epoll_event ev[256];
    u64 t = now_ns(), w = until > t ? until - t : 0;
    struct timespec ts = {(time_t)(w / 1000000000ULL), (long)(w % 1000000000ULL)};
    int k = epoll_pwait2(ep, ev, 256, &ts, NULL);
    for (int i = 0; i < k; i++) {
        Conn *c = ev[i].data.ptr;
        if (c->state == C_DEAD) continue;
        if (c->state == C_CONNECTING) {
            int err = 0;
            socklen_t l = sizeof err;
            if (!(ev[i].events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) continue;
            getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &l);
            if (err) conn_dead(c, strerror(err)); else conn_handshake(c);
            continue;
        }
        if (ev[i].events & EPOLLOUT) conn_flush(c);
        if (c->state != C_DEAD && ev[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) on_readable(c);
    }
}

/* ------------------------------------------------------------------ the servers' own costs */
static double pid_cpu(void) {
    double t = 0;
    for (int i = 0; i < n_pid; i++) {
        char name[64], buf[1024];
        snprintf(name, sizeof name, "/proc/%d/stat", pids[i]);
        FILE *f = fopen(name, "r");
        if (!f) continue;
        size_t n = fread(buf, 1, sizeof buf - 1, f);
        fclose(f), buf[n] = 0;
        unsigned long u, s;
        char *p = strrchr(buf, ')');
        if (p && sscanf(p + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &u, &s) == 2) t += (double)(u + s) / (double)sysconf(_SC_CLK_TCK);
    }
    return t;
}
static long pid_rss_kb(void) {
    long sum = 0, v;
    for (int i = 0; i < n_pid; i++) {
        char name[64], line[256];
        snprintf(name, sizeof name, "/proc/%d/status", pids[i]);
        FILE *f = fopen(name, "r");
        while (f && fgets(line, sizeof line, f))
            if (sscanf(line, "VmRSS: %ld", &v) == 1) sum += v;
        if (f) fclose(f);
    }
    return sum;
}
static double self_cpu(void) {
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) + (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

/* ------------------------------------------------------------------ one step at one rate */
static int *senders, n_send_total;
static void send_one(Conn *c, u64 at) {
    static char buf[1 << 16], body[1 << 16];
    u64 t = now_ns();
    int in = at >= win_lo && at < win_hi;
    int receivers = room_size[c->id % n_room] - !echo;
    if (in) win_expected += (u64)receivers, h_add(&lag, t > at ? t - at : 0);
    if (in && want_last) sent_note(at, receivers);
    if (c->state != C_READY || c->out_len - c->out_off > OUT_LIMIT) { blocked++; return; }
    Ctx x = {.i = c->id, .room = c->id % n_room, .ts = at, .seq = ++c->seq};
    if (body_set) x.body_len = tpl_render(&tpl_body, &x, body, sizeof body), x.body = body;
    size_t n = tpl_render(&tpl_send, &x, buf, sizeof buf);
    ws_send(c, 1 + binary_send, buf, n);
    tx_msgs++, win_sent += (u64)in;
}
static int run_step(int idx, double rate) {
    memset(&lat, 0, sizeof lat), memset(&lag, 0, sizeof lag), memset(&last, 0, sizeof last), memset(sent_msgs, 0, sizeof sent_msgs), last_missed = 0, win_recv = win_sent = win_expected = blocked = tx_msgs = 0;
    u64 begin = now_ns() + 20000000, m = 0, next, total_ns = (u64)((warm + dur) * 1e9);
    win_lo = begin + (u64)(warm * 1e9), win_hi = begin + total_ns;
    double gap = n_send_total && rate > 0 ? 1e9 / (rate * n_send_total) : 0, cpu0 = 0, scpu0 = 0, cpu1 = 0, scpu1 = 0;
    u64 msgs0 = 0, bytes0 = 0, frames0 = 0, t0 = 0, msgs1 = 0, bytes1 = 0, frames1 = 0, t1 = 0;
    int started = 0, dead0 = n_dead;
    for (u64 t = now_ns(); t < win_hi; t = now_ns()) {
        if (!started && t >= win_lo) started = 1, t0 = t, cpu0 = self_cpu(), scpu0 = pid_cpu(), msgs0 = arr_msgs, bytes0 = bytes_total, frames0 = frames_total;
        next = win_hi;
        for (int k = 0; gap > 0 && k < 64; k++, m++) {
            u64 round = m / (u64)n_send_total;
            next = begin + (same_phase ? (u64)((double)round * 1e9 / rate) : (u64)((double)m * gap));
            if (next > t || next >= win_hi) break;
            send_one(&conns[senders[m % (u64)n_send_total]], next);
        }
        if (next > win_hi) next = win_hi;
        poll_once(!started && win_lo < next ? win_lo : next);
        if (n_dead == n_conn) break;
    }
    t1 = now_ns(), cpu1 = self_cpu(), scpu1 = pid_cpu(), msgs1 = arr_msgs, bytes1 = bytes_total, frames1 = frames_total;
    long rss = pid_rss_kb();
    if (!started) t0 = t1 - 1;
    for (u64 end = now_ns() + (u64)(drain_s * 1e9); now_ns() < end && win_recv < win_expected && n_dead < n_conn;) poll_once(now_ns() + 10000000);
    for (int i = 0; want_last && i < LAST_SLOTS; i++) last_missed += sent_msgs[i].left > 0;
    double el = (double)(t1 - t0) / 1e9, offered = (double)win_expected / dur;
    u64 lo = ~0ULL, hi = 0;
    for (int i = 0; i < n_conn; i++) { u64 v = conns[i].msgs; lo = v < lo ? v : lo, hi = v > hi ? v : hi, conns[i].msgs = 0; }
    double mps = (double)(msgs1 - msgs0) / el, p99 = h_pct(&lat, .99);
    if (json_out)
        printf("%s{\"rate_hz\":%g,\"offered_per_s\":%.0f,\"msgs_per_s\":%.0f,\"frames_per_s\":%.0f,\"bytes_per_s\":%.0f,"
            "\"sent\":%llu,\"expected\":%llu,\"received\":%llu,\"loss\":%.6f,\"blocked\":%llu,\"disconnects\":%d,"
            "\"conn_min\":%llu,\"conn_max\":%llu,\"ms\":{\"p50\":%.3f,\"p90\":%.3f,\"p99\":%.3f,\"p999\":%.3f,\"max\":%.3f,\"mean\":%.3f},"
            "\"last_ms\":{\"n\":%llu,\"missed\":%llu,\"p50\":%.3f,\"p99\":%.3f,\"max\":%.3f},"
            "\"send_lag_p99_ms\":%.3f,\"gen_cpu\":%.3f,\"srv_cpu\":%.3f,\"srv_us_per_msg\":%.3f,\"srv_rss_kb\":%ld}",
            idx ? ",\n" : "", rate, offered, mps, (double)(frames1 - frames0) / el, (double)(bytes1 - bytes0) / el,
            (unsigned long long)win_sent, (unsigned long long)win_expected, (unsigned long long)win_recv,
            win_expected ? 1 - (double)win_recv / (double)win_expected : 0, (unsigned long long)blocked, n_dead - dead0,
            (unsigned long long)lo, (unsigned long long)hi, h_pct(&lat, .5), h_pct(&lat, .9), p99, h_pct(&lat, .999),
            (double)lat.max / 1e6, lat.n ? (double)lat.sum / (double)lat.n / 1e6 : 0,
            (unsigned long long)last.n, (unsigned long long)last_missed, h_pct(&last, .5), h_pct(&last, .99), (double)last.max / 1e6, h_pct(&lag, .99), (cpu1 - cpu0) / el,
            (scpu1 - scpu0) / el, msgs1 > msgs0 ? (scpu1 - scpu0) * 1e6 / (double)(msgs1 - msgs0) : 0, rss);
    else
        printf("%7.1f Hz offered %8.0f/s got %8.0f/s frames %8.0f/s %7.2f MB/s loss %.4f%% p50 %.2f p90 %.2f p99 %.2f p99.9 %.2f max %.1f ms"
            " | lag99 %.2f blocked %llu dead %d | cpu gen %.2f srv %.2f (%.2f us/msg) rss %ld KB\n", rate, offered, mps,
            (double)(frames1 - frames0) / el, (double)(bytes1 - bytes0) / el / 1e6, win_expected ? 100 * (1 - (double)win_recv / (double)win_expected) : 0,
            h_pct(&lat, .5), h_pct(&lat, .9), p99, h_pct(&lat, .999), (double)lat.max / 1e6, h_pct(&lag, .99), (unsigned long long)blocked, n_dead - dead0,
            (cpu1 - cpu0) / el, (scpu1 - scpu0) / el, msgs1 > msgs0 ? (scpu1 - scpu0) * 1e6 / (double)(msgs1 - msgs0) : 0, rss);
    fflush(stdout);
    return stop_p99 > 0 && (p99 > stop_p99 || (double)win_recv < 0.99 * (double)win_expected);
}

static void usage(void) {
    fputs("usage: wsload [options] ws://host:port/path   (path may hold {i} and {room})\n"
        "  -n N connections (10)   -R rooms (1)   -S senders per room (all)   -r HZ[,HZ...] one step per rate\n"
        "  -d measured s (5)   -w warm-up s (1)   -g drain s (2)   -s settle s before the first step (0.5)\n"
        "  -t FILE template   -T FILE tokens, one a line and connection   -C s for all to connect (30)   -H 'K: V' header   -p PID[,PID] server processes to account   -c connects in flight (64)\n"
        "  --same all senders at one instant (else evenly spread)   --stop MS end at a step with p99 above MS or >1 % loss\n"
        "  --last also how long until all receivers had a message   --json   --label TEXT\n"
        "template keys: path header first await send body marker binary echo ping pong; placeholders {i} {room} {ts} {seq}\n"
        "  {token} {x} {y} {body} {len} (of body) {vlen+N} {v3seq} {v3i}; escapes \\n \\r \\t \\0 \\xNN\n", stderr);
    exit(2);
}
int main(int argc, char **argv) {
    t_zero = now_ns(), rng ^= t_zero * 2654435761u;
    char *url = NULL;
    for (int i = 1; i < argc; i++) {
        char *a = argv[i], *v = i + 1 < argc ? argv[i + 1] : NULL;
        if (!strcmp(a, "--json")) { json_out = 1; continue; }
        if (!strcmp(a, "--same")) { same_phase = 1; continue; }
        if (!strcmp(a, "--last")) { want_last = 1; continue; }
        if (a[0] != '-') { url = a; continue; }
        if (!v) usage();
        i++;
        if (!strcmp(a, "-n")) n_conn = atoi(v);
        else if (!strcmp(a, "-R")) n_room = atoi(v);
        else if (!strcmp(a, "-S")) n_sender = atoi(v);
        else if (!strcmp(a, "-d")) dur = atof(v);
        else if (!strcmp(a, "-w")) warm = atof(v);
        else if (!strcmp(a, "-g")) drain_s = atof(v);
        else if (!strcmp(a, "-s")) settle = atof(v);
        else if (!strcmp(a, "-c")) conn_window = atoi(v);
        else if (!strcmp(a, "-t")) config_file(v);
        else if (!strcmp(a, "-T")) tokens_file(v);
        else if (!strcmp(a, "-C")) connect_limit = atof(v);
        else if (!strcmp(a, "-H")) strncat(headers, v, sizeof headers - strlen(headers) - 3), strcat(headers, "\r\n");
        else if (!strcmp(a, "--stop")) stop_p99 = atof(v);
        else if (!strcmp(a, "--label")) label = v;
        else if (!strcmp(a, "-r")) for (char *p = strtok(v, ","); p && n_rate < MAX_STEPS; p = strtok(NULL, ",")) rates[n_rate++] = atof(p);
        else if (!strcmp(a, "-p")) for (char *p = strtok(v, ","); p && n_pid < MAX_PIDS; p = strtok(NULL, ",")) pids[n_pid++] = atoi(p);
        else usage();
    }
    if (!url || strncmp(url, "ws://", 5) || n_conn < 1 || n_room < 1 || n_room > n_conn) usage();
    char hp[512], *slash = strchr(url + 5, '/');
    if (slash) snprintf(path_raw, sizeof path_raw, "%s", slash);
    snprintf(hp, sizeof hp, "%.*s", slash ? (int)(slash - url - 5) : 500, url + 5);
    char *colon = strrchr(hp, ':');
    if (colon) *colon = 0, snprintf(port, sizeof port, "%s", colon + 1);
    snprintf(host, sizeof host, "%.255s", hp), tpl_path = tpl_parse(path_raw), tpl_headers = tpl_parse(headers);
    if (!send_set) tpl_send = tpl_parse("{\"type\":\"event\",\"method\":\"cursor\",\"data\":{\"userId\":\"user-{i}\",\"status\":\"online\","
        "\"activity\":{\"type\":\"drawing\"},\"cursor\":{\"x\":{x},\"y\":{y}},\"lastSeen\":1700000000000},\"timestamp\":1700000000000,\"ts\":{ts}}");
    marker_len = strlen(marker);
    if (!marker_len || marker_len > 64) die("marker of 1 to 64 bytes, please");
    if (!n_rate) rates[n_rate++] = 20;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *ai;
    if (getaddrinfo(host, port, &hints, &ai)) die("cannot resolve %s:%s", host, port);
    if (n_sender < 0) n_sender = (n_conn + n_room - 1) / n_room;
    conns = calloc((size_t)n_conn, sizeof *conns), room_size = calloc((size_t)n_room, sizeof *room_size);
    senders = calloc((size_t)n_conn, sizeof *senders);
    for (int i = 0; i < n_conn; i++) {
        conns[i].id = i, room_size[i % n_room]++;
        if (i / n_room < n_sender) senders[n_send_total++] = i;
    }
    ep = epoll_create1(EPOLL_CLOEXEC);
    long rss0 = pid_rss_kb();
    u64 c0 = now_ns(), limit = c0 + (u64)(connect_limit * 1e9);
    int begun = 0;
    while (n_ready + n_dead < n_conn && now_ns() < limit) {
        while (begun < n_conn && begun - n_ready - n_dead < conn_window) conn_start(&conns[begun++], ai);
        poll_once(now_ns() + 100000000);
    }
    freeaddrinfo(ai);
    double connect_s = (double)(now_ns() - c0) / 1e9;
    if (n_ready < n_conn) die("only %d of %d connections became ready (%d opened, %d closed)", n_ready, n_conn, n_open, n_dead);
    for (u64 e = now_ns() + (u64)(settle * 1e9); now_ns() < e;) poll_once(e);
    long rss1 = pid_rss_kb();
    if (json_out)
        printf("{\"label\":\"%s\",\"conns\":%d,\"rooms\":%d,\"senders\":%d,\"connect_s\":%.3f,\"rss_before_kb\":%ld,\"rss_connected_kb\":%ld,\"kb_per_conn\":%.2f,\"steps\":[",
            label, n_conn, n_room, n_send_total, connect_s, rss0, rss1, (double)(rss1 - rss0) / n_conn);
    else
        printf("%s %d connections, %d rooms, %d senders; connected in %.2f s; server RSS %ld -> %ld KB (%.2f KB/conn)\n",
            label, n_conn, n_room, n_send_total, connect_s, rss0, rss1, (double)(rss1 - rss0) / n_conn);
    for (int s = 0; s < n_rate; s++)
        if (run_step(s, rates[s])) break;
    if (json_out) printf("]}\n");
    if (bad_ts) fprintf(stderr, "wsload: %llu markers without a number\n", (unsigned long long)bad_ts);
    return n_dead ? 1 : 0;
}

// load.c - SSE load generator for black-box benchmarks (single thread, epoll, loopback).
//
//   load --port P --path /chat --body FILE [--header 'k: v'] -c 16 -r 1000
//        [--no-keepalive] [--abort-after K [--rst]] [--read-rate BYTES_PER_S [--rcvbuf B]]
//        [--first Alpha] [--last EOT.] [--tick zeta] [--max-time S] [--ramp-ms M] [--backoff-ms M]
//        [--rate PER_S [--warm-ms M] [--drain-ms M] [--good-ttft-ms M] [--good-gap-ms M]]
//
// Closed loop: each of the -c clients asks again when it has its answer, --backoff-ms later if that was a 503. With
// --rate an open loop: requests arrive by chance (Poisson, always the same ones) for --max-time seconds, however many
// are still open, over at most -c connections; a request's time starts when it was due. Those that are due after
// --warm-ms count, and have --drain-ms to finish after the last one; a run is good if it is whole, its first token came
// within --good-ttft-ms and no gap was over --good-gap-ms. A 503 is counted apart, with the time until it was there.
//
// The text "@BID@" in the body becomes the request number, so that the fake provider can name the
// request in its abort records. One JSON object is printed at the end:
//   ttft: request sent -> the first-token marker is in the body;  ttfb: -> first body byte;
//   total: -> end of the body;  gap: time between reads that completed at least one event
//   (events that come in one read count as gap 0 after the first);  aborts: [bid, close_ns, ticks].
// Build: gcc -O2 -Wall -o load load.c -lm
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/tcp.h>
#include <signal.h>
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

enum { HEAD, BODY_LEN, BODY_EOF, CH_SIZE, CH_DATA, CH_CRLF, CH_TRAIL, DONE };
enum { BUF = 65536, TAIL = 32, REFUSED = 503 };

typedef struct {
  int fd, state, status, keep, connected, nl, crlf, saw_last, reused;
  char head[8192]; int head_len;      // response head, or a chunk-size line
  uint64_t left;                      // bytes left in this chunk / body
  char tail[TAIL]; int tail_len;      // end of the previous piece, for markers across reads
  char *req; size_t req_len, req_pos;
  long bid, events, ticks, bytes;
  int64_t t0, t_first, t_body, t_event, gap_max, start_at;  // start_at: not before, 0 for at once
  int counted;                        // open loop: due after the warm-up
} Slot;

static struct sockaddr_in addr;
static const char *first_m = "Alpha", *last_m = "EOT.", *tick_m = "zeta";
static char *path = "/chat", *body, *host = "127.0.0.1"; static char headers[4096];
static int port = 8000, C = 1, keepalive = 1, rst, rcvbuf, ep, abort_after; static long R = 1, read_rate;
static long started, finished, ok, errors, bad_status, events, bytes, ticks, lasts, conns, completed_body, short_body;
static double *ttft, *ttfb, *total, *refused; static long n_ttft, n_ttfb, n_total, n_refused;
static double rate; static int backoff_ms; static int64_t good_ttft, good_gap, warm_until;
static Slot **idle; static int n_idle, n_waiting;   // open loop: slots without a request; closed: those that back off
static struct { long arrived, good, failed, late_first, late_gap, no_slot; } open_loop;
static struct { long bid, ticks; int64_t ns; } *aborts; static long n_aborts;
static long status_count[600];

static int64_t now_ns(void) {
  struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

// ---- gap histogram: 32 buckets per power of two, ~3% wide -----------------------------------
static long hist[64 * 32], nhist; static int64_t gap_max;
static void gap(int64_t v, long n) {
  if (v > gap_max) gap_max = v;
  int e = v < 32 ? 0 : 58 - __builtin_clzll(v);
  hist[e * 32 + (e ? (v >> e) : v)] += n; nhist += n;
}
static double gap_q(double q) {
  long want = nhist * q, s = 0;
  for (int i = 0; i < 64 * 32; i++)
    if ((s += hist[i]) > want) {  // the inverse of the above: a bucket holds v >> e, from 32 to 63 unless e is 0
      int e = i < 64 ? 0 : i / 32 - 1;
      return (i - e * 32 + 0.5) * (double)(1ULL << e) / 1e3;
    }
  return 0;
}
static int cmp(const void *a, const void *b) { double x = *(double *)a, y = *(double *)b; return (x > y) - (x < y); }
static void summary(const char *name, double *v, long n) {
  qsort(v, n, sizeof *v, cmp);
  double s = 0;
  for (long i = 0; i < n; i++) s += v[i];
#define Q(q) (n ? v[(long)((n - 1) * (q))] : 0)
  printf("\"%s\":{\"n\":%ld,\"min\":%.4f,\"p50\":%.4f,\"p90\":%.4f,\"p99\":%.4f,\"max\":%.4f,\"mean\":%.4f},",
         name, n, Q(0), Q(.5), Q(.9), Q(.99), Q(1), n ? s / n : 0);
}

// ---- one request -------------------------------------------------------------------------
static void arm(Slot *s, uint32_t ev, int op) {
  struct epoll_event e = {.events = ev, .data.ptr = s};
  epoll_ctl(ep, op, s->fd, &e);
}
static void hang_up(Slot *s) { if (s->fd >= 0) close(s->fd); s->fd = -1; s->connected = 0; }
static void writable(Slot *s);
static void begin(Slot *s, int64_t due) {
  if (started >= R) { hang_up(s); return; }
  s->counted = !rate || due >= warm_until;
  if (rate && s->counted) open_loop.arrived++;
  s->bid = started++;
  s->state = HEAD; s->head_len = s->nl = s->tail_len = s->saw_last = s->status = 0;
  s->events = s->ticks = s->bytes = s->gap_max = s->start_at = 0; s->t_first = s->t_body = s->t_event = 0; s->req_pos = 0; s->keep = 1;
  // request text, with @BID@ replaced
  char num[24]; int nl = sprintf(num, "%06ld", s->bid);
  const char *at = strstr(body, "@BID@");
  size_t bl = strlen(body) + (at ? nl - 5 : 0);
  s->req = realloc(s->req, bl + strlen(path) + strlen(headers) + 300);
  int n = sprintf(s->req, "POST %s HTTP/1.1\r\nHost: %s:%d\r\nContent-Type: application/json\r\nAccept: text/event-stream\r\n"
      "%s%sContent-Length: %zu\r\n\r\n", path, host, port, headers, keepalive ? "" : "Connection: close\r\n", bl);
  if (at) n += sprintf(s->req + n, "%.*s%s%s", (int)(at - body), body, num, at + 5);
  else n += sprintf(s->req + n, "%s", body);
  s->req_len = n;
  s->t0 = rate ? due : now_ns();
  s->reused = s->fd >= 0;
  if (s->fd < 0) {
    int one = 1;
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0); conns++;
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (rcvbuf) setsockopt(s->fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof rcvbuf);
    connect(s->fd, (void *)&addr, sizeof addr);
    arm(s, EPOLLOUT | (read_rate ? 0 : EPOLLIN), EPOLL_CTL_ADD);
  } else writable(s);
}
static void judge(Slot *s, int whole, int64_t t) {  // open loop: was this a good run?
  if (s->status == REFUSED) return;
  if (s->t_event && t - s->t_event > s->gap_max) s->gap_max = t - s->t_event;
  if (!whole) open_loop.failed++;
  else if (s->t_first - s->t0 > good_ttft) open_loop.late_first++;
  else if (s->gap_max > good_gap) open_loop.late_gap++;
  else open_loop.good++;
}
static void next(Slot *s, int64_t t) {  // what a client does when its request is over
  if (rate) { idle[n_idle++] = s; return; }
  if (s->status == REFUSED && backoff_ms) { s->start_at = t + backoff_ms * 1000000LL; n_waiting++; return; }
  begin(s, now_ns());
}
static void finish(Slot *s, int good) {
  int64_t t = now_ns();
  int whole = good && s->status == 200 && s->saw_last;
  finished++;
  if (whole) ok++; else errors++;
  if (s->status != 200) bad_status++;
  if (s->status > 0 && s->status < 600) status_count[s->status]++;
  if (s->counted && s->status == REFUSED) refused[n_refused++] = (t - s->t0) / 1e6;
  if (rate && s->counted) judge(s, whole, t);
  if (good) { completed_body++; total[n_total++] = (t - s->t0) / 1e6; } else short_body++;
  if (!good || !s->keep || !keepalive) hang_up(s);
  next(s, t);
}
static void give_up(Slot *s) {  // the client walks away
  if (rst) { struct linger l = {1, 0}; setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &l, sizeof l); }
  aborts[n_aborts].bid = s->bid; aborts[n_aborts].ticks = s->ticks; aborts[n_aborts++].ns = now_ns();
  hang_up(s);
  finished++;
  next(s, now_ns());
}
static void writable(Slot *s) {
  while (s->req_pos < s->req_len) {
    ssize_t r = send(s->fd, s->req + s->req_pos, s->req_len - s->req_pos, MSG_NOSIGNAL);
    if (r < 0) {
      if (errno == EAGAIN) { arm(s, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD); return; }
      finish(s, 0); return;
    }
    s->req_pos += r;
  }
  arm(s, read_rate ? 0 : EPOLLIN, EPOLL_CTL_MOD);
}
static long count(const char *p, size_t n, const char *m) {
  long k = 0; size_t l = strlen(m);
  for (const char *e = p + n; (p = memmem(p, e - p, m, l)); p += l) k++;
  return k;
}
static long body_piece(Slot *s, const char *p, size_t n, int64_t t) {  // payload bytes; returns new events
  static char j[2 * TAIL + 1];
  long ev = 0;
  if (!s->t_body) { s->t_body = t; ttfb[n_ttfb++] = (t - s->t0) / 1e6; }
  s->bytes += n; bytes += n;
  for (const char *q = p, *e = p + n; q < e; q++) {  // events end at a blank line
    if (*q == '\n') { if (++s->nl == 2) { ev++; s->nl = 0; s->crlf = 0; } }
    else if (*q != '\r') {
      s->nl = 0;
      const char *z = memchr(q, '\n', e - q);   // skip to the end of this line
      if (!z) break;
      q = z - 1;
    }
  }
  s->events += ev; events += ev;
  // markers inside this piece, and across the border with the previous one
  struct { const char *m; } ms[3] = {{first_m}, {last_m}, {tick_m}};
  for (int i = 0; i < 3; i++) {
    if (i == 0 && s->t_first) continue;
    size_t l = strlen(ms[i].m);
    long k = count(p, n, ms[i].m);
    size_t a = s->tail_len < l - 1 ? s->tail_len : l - 1, b = n < l - 1 ? n : l - 1;
    memcpy(j, s->tail + s->tail_len - a, a); memcpy(j + a, p, b);
    k += count(j, a + b, ms[i].m);
    if (!k) continue;
    if (i == 0) { s->t_first = t; if (s->counted) ttft[n_ttft++] = (t - s->t0) / 1e6; }
    else if (i == 1) { s->saw_last = 1; lasts += k; }
    else { s->ticks += k; ticks += k; }
  }
  if (n >= TAIL) { memcpy(s->tail, p + n - TAIL, TAIL); s->tail_len = TAIL; }
  else {
    int keep = s->tail_len + n > TAIL ? TAIL - n : s->tail_len;
    memmove(s->tail, s->tail + s->tail_len - keep, keep);
    memcpy(s->tail + keep, p, n); s->tail_len = keep + n;
  }
  return ev;
}
static void head_done(Slot *s) {
  s->head[s->head_len] = 0;
  s->status = atoi(s->head + 9);
  if (strcasestr(s->head, "\r\nconnection: close")) s->keep = 0;
  char *cl = strcasestr(s->head, "\r\ncontent-length:");
  if (strcasestr(s->head, "\r\ntransfer-encoding: chunked")) s->state = CH_SIZE;
  else if (cl) { s->left = strtoull(cl + 17, NULL, 10); s->state = s->left ? BODY_LEN : DONE; }
  else { s->state = BODY_EOF; s->keep = 0; }
  s->head_len = 0;
}
// Feed raw bytes; stops at DONE.
static void feed(Slot *s, const char *p, size_t n, int64_t t) {
  long ev = 0;
  for (const char *e = p + n; p < e && s->state != DONE;) {
    switch (s->state) {
      case HEAD:
        s->head[s->head_len++] = *p++;
        if (s->head_len >= 4 && !memcmp(s->head + s->head_len - 4, "\r\n\r\n", 4)) head_done(s);
        else if (s->head_len == sizeof s->head - 1) s->head_len = 0;
        break;
      case CH_SIZE:
        if (*p != '\n') { if (s->head_len < 63) s->head[s->head_len++] = *p; p++; break; }
        p++; s->head[s->head_len] = 0; s->head_len = 0;
        s->left = strtoull(s->head, NULL, 16);
        s->state = s->left ? CH_DATA : CH_TRAIL;
        break;
      case CH_CRLF: if (*p++ == '\n') s->state = CH_SIZE; break;
      case CH_TRAIL: if (*p++ == '\n') s->state = DONE; break;
      default: {
        size_t k = e - p;
        if (s->state != BODY_EOF && k > s->left) k = s->left;
        ev += body_piece(s, p, k, t);
        p += k;
        if (s->state != BODY_EOF && !(s->left -= k)) s->state = s->state == CH_DATA ? CH_CRLF : DONE;
      }
    }
  }
  if (ev) {
    if (s->t_event) {
      gap(t - s->t_event, 1);
      if (t - s->t_event > s->gap_max) s->gap_max = t - s->t_event;
    }
    if (ev > 1) gap(0, ev - 1);
    s->t_event = t;
  }
}
static void readable(Slot *s, size_t limit) {
  static char buf[BUF];
  long bid = s->bid;
  for (size_t got = 0; got < limit && s->fd >= 0 && s->bid == bid;) {
    ssize_t r = recv(s->fd, buf, limit - got < BUF ? limit - got : BUF, 0);
    if (r < 0 && errno == EAGAIN) return;
    if (r <= 0) { finish(s, r == 0 && s->state == BODY_EOF); return; }
    got += r;
    feed(s, buf, r, now_ns());
    if (s->state == DONE) { finish(s, 1); return; }
    if (abort_after && s->t_first && s->events >= abort_after) { give_up(s); return; }
  }
}
static double chance(void) {  // uniform in (0, 1], the same numbers each time
  static uint64_t x = 88172645463325252ULL;
  x ^= x << 13; x ^= x >> 7; x ^= x << 17;
  return ((x >> 11) + 1) / 9007199254740992.0;
}
int main(int argc, char **argv) {
  double max_time = 60; int ramp = 0, warm_ms = 0, drain_ms = 3000, good_ttft_ms = 1000, good_gap_ms = 1000;
  for (int i = 1; i < argc; i++) {
    char *o = argv[i], *v = i + 1 < argc ? argv[i + 1] : "";
    if (!strcmp(o, "--no-keepalive")) { keepalive = 0; continue; }
    if (!strcmp(o, "--rst")) { rst = 1; continue; }
    i++;
    if (!strcmp(o, "--port")) port = atoi(v);
    else if (!strcmp(o, "--path")) path = v;
    else if (!strcmp(o, "--header")) { strcat(headers, v); strcat(headers, "\r\n"); }
    else if (!strcmp(o, "-c")) C = atoi(v);
    else if (!strcmp(o, "-r")) R = atol(v);
    else if (!strcmp(o, "--abort-after")) abort_after = atoi(v);
    else if (!strcmp(o, "--read-rate")) read_rate = atol(v);
    else if (!strcmp(o, "--rcvbuf")) rcvbuf = atoi(v);
    else if (!strcmp(o, "--first")) first_m = v;
    else if (!strcmp(o, "--last")) last_m = v;
    else if (!strcmp(o, "--tick")) tick_m = v;
    else if (!strcmp(o, "--max-time")) max_time = atof(v);
    else if (!strcmp(o, "--ramp-ms")) ramp = atoi(v);
    else if (!strcmp(o, "--backoff-ms")) backoff_ms = atoi(v);
    else if (!strcmp(o, "--rate")) rate = atof(v);
    else if (!strcmp(o, "--warm-ms")) warm_ms = atoi(v);
    else if (!strcmp(o, "--drain-ms")) drain_ms = atoi(v);
    else if (!strcmp(o, "--good-ttft-ms")) good_ttft_ms = atoi(v);
    else if (!strcmp(o, "--good-gap-ms")) good_gap_ms = atoi(v);
    else if (!strcmp(o, "--body")) {
      FILE *f = fopen(v, "r");
      if (!f) { perror(v); return 2; }
      body = calloc(1, 1 << 20);
      if (!fread(body, 1, (1 << 20) - 1, f)) return 2;
      fclose(f);
    } else { fprintf(stderr, "load: unknown option %s\n", o); return 2; }
  }
  if (!body) body = strdup("{}");
  signal(SIGPIPE, SIG_IGN);
  addr = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  refused = malloc(8 * R); ttft = malloc(8 * R); ttfb = malloc(8 * R); total = malloc(8 * R); aborts = malloc(sizeof *aborts * R);
  ep = epoll_create1(0);
  Slot *s = calloc(C, sizeof *s);
  int64_t t0 = now_ns(), end = t0 + (int64_t)(max_time * 1e9), next_read = t0;
  int64_t due = t0, last_due = end;
  int alive = 0;
  idle = malloc(C * sizeof *idle);
  for (int i = C; i--;) { s[i].fd = -1; if (rate) idle[n_idle++] = &s[i]; }
  if (rate) { alive = C; end += drain_ms * 1000000LL; }
  warm_until = t0 + warm_ms * 1000000LL; good_ttft = good_ttft_ms * 1000000LL; good_gap = good_gap_ms * 1000000LL;
  struct epoll_event ev[256];
  while (finished < R) {
    int64_t t = now_ns();
    if (t > end || (rate && due > last_due && n_idle == C)) break;
    for (; alive < C && t >= t0 + (int64_t)alive * ramp * 1000000 / C; alive++) begin(&s[alive], t);  // ramp-up
    for (; rate && due <= t && due <= last_due; due += -log(chance()) / rate * 1e9) {  // arrivals
      if (n_idle) begin(idle[--n_idle], due);
      else if (due >= warm_until) { open_loop.arrived++; open_loop.no_slot++; }
    }
    for (int i = 0; n_waiting && i < alive; i++)
      if (s[i].start_at && s[i].start_at <= t) { n_waiting--; begin(&s[i], t); }
    if (read_rate && t >= next_read) {  // slow reader: a slice every 50 ms
      for (int i = 0; i < alive; i++) if (s[i].fd >= 0 && s[i].req_pos == s[i].req_len) readable(&s[i], read_rate / 20 + 1);
      next_read = t + 50000000;
    }
    int64_t wait = (alive < C ? 1 : read_rate || n_waiting ? 10 : 200) * 1000000LL;
    if (rate && due <= last_due) wait = (t = now_ns()) < due ? due - t : 0;
    struct timespec ts = {wait / 1000000000, wait % 1000000000};
    int k = epoll_pwait2(ep, ev, 256, &ts, NULL);
    for (int i = 0; i < k; i++) {
      Slot *x = ev[i].data.ptr;
      if (x->fd < 0) continue;
      if (x->state == DONE) { hang_up(x); continue; }  // no request open: the server ends an idle connection
      if (x->req_pos < x->req_len && (ev[i].events & (EPOLLOUT | EPOLLERR))) { writable(x); continue; }
      if (read_rate) { if (ev[i].events & (EPOLLERR)) finish(x, 0); continue; }
      if (ev[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(x, 1 << 20);
    }
  }
  double wall = (now_ns() - t0) / 1e9;
  struct rusage ru; getrusage(RUSAGE_SELF, &ru);
  printf("{\"requests\":%ld,\"finished\":%ld,\"ok\":%ld,\"errors\":%ld,\"bad_status\":%ld,\"short\":%ld,\"unfinished\":%ld,"
         "\"events\":%ld,\"bytes\":%ld,\"ticks\":%ld,\"lasts\":%ld,\"connections\":%ld,\"wall_s\":%.4f,\"cpu_s\":%.4f,",
         started, finished, ok, errors, bad_status, short_body, started - finished, events, bytes, ticks, lasts, conns, wall,
         ru.ru_utime.tv_sec + ru.ru_stime.tv_sec + (ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6);
  summary("ttft_ms", ttft, n_ttft); summary("ttfb_ms", ttfb, n_ttfb); summary("total_ms", total, n_total);
  summary("refused_ms", refused, n_refused);
  printf("\"open_loop\":{\"window_s\":%.3f,\"arrived\":%ld,\"good\":%ld,\"refused\":%ld,\"failed\":%ld,\"late_first\":%ld,"
         "\"late_gap\":%ld,\"no_slot\":%ld},", max_time - warm_ms / 1e3, open_loop.arrived, open_loop.good, n_refused,
         open_loop.failed, open_loop.late_first, open_loop.late_gap, open_loop.no_slot);
  printf("\"gap_us\":{\"n\":%ld,\"p50\":%.1f,\"p99\":%.1f,\"max\":%.1f},\"status\":{", nhist, gap_q(.5), gap_q(.99), gap_max / 1e3);
  for (int i = 0, c = 0; i < 600; i++) if (status_count[i]) printf("%s\"%d\":%ld", c++ ? "," : "", i, status_count[i]);
  printf("},\"aborts\":[");
  for (long i = 0; i < n_aborts; i++) printf("%s[%ld,%ld,%ld]", i ? "," : "", aborts[i].bid, (long)aborts[i].ns, aborts[i].ticks);
  printf("]}\n");
  return 0;
}

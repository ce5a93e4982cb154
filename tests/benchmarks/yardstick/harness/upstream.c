// upstream.c - fake LLM provider for black-box benchmarks (single thread, epoll).
//
//   POST /v1/chat/completions   OpenAI Chat Completions SSE   ("data: {...}\n\n", [DONE])
//   POST /v1/messages           Anthropic Messages SSE        ("event: x\ndata: {...}\n\n")
//   POST /v1/responses          OpenAI Responses SSE          ("event: x\ndata: {...}\n\n")
//   GET  /stats                 counters + list of aborted streams (CLOCK_MONOTONIC ns)
//   POST /reset                 zero the counters
//
// Behaviour is chosen per request by the model name: "bench" followed by -<letter><int>:
//   n500 text tokens        d20 ms between units      b1 units per write (one HTTP chunk)
//   f20  ms before first    t1  tool variant: first reply = 20 text deltas + one tool call whose
//   arguments arrive in 10 fragments; a request that carries a tool result gets N text deltas.
//   x100 cut the connection after unit 100 (no terminator); e429 answer that HTTP status;
//   s10 fall silent after unit 10 (the connection stays open).
// Defaults come from flags. The first text token is "Alpha", the last " EOT.", every 8th " zeta":
// a client counts those to prove that the relay is complete. A user message may hold "bid=<n>";
// the number is echoed in the abort records, so a load generator can pair both ends of an abort.
// With --tls-port, --cert and --key the same is spoken over TLS on that port as well: one OpenSSL session
// for each connection, on the same epoll, so that all relays meet the same peer. The counters are common.
// Build: gcc -O2 -Wall -o upstream upstream.c -lssl -lcrypto
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CHAT, ANTHROPIC, RESPONSES };
enum { FIRST_TEXT = 20, FRAGS = 10, MAXREC = 65536, BURST = 64, SILENCE_MS = 3600 * 1000 };

typedef struct {
  int n, d, b, f, tool, cut, err, silent;  // see the model-name letters above
} Plan;

typedef struct Conn {
  int fd, streaming, close_after, want_out;
  SSL *tls;                            // NULL: clear text
  char *in; size_t in_len, in_cap;     // request bytes
  char *out; size_t out_len, out_pos, out_cap;
  int api, unit, units, ntext, has_tool, usage;  // stream: next unit / total / text tokens / tool call?
  Plan p;
  int64_t req_ns, due; int heap_i;     // heap_i < 0: not in the timer heap
  long bid, toks, serial;
} Conn;

static struct {
  long requests, open, open_max, finished, aborted, cut, tokens, bytes, conns, tool_first, tool_second, tool_ok, bad;
} S;
static struct { long bid, toks, left; int64_t req_ns, eof_ns; } rec[MAXREC];
static long nrec, serial;
static int ep;
static SSL_CTX *tls_context;
static Plan dflt = {.n = 500, .b = 1, .f = -1};
static const char *ARGS = "{\"city\":\"Paris\",\"unit\":\"celsius\",\"days\":3}";
static const char *WORDS[8] = {" the", " answer", " is", ",", " quick\\n", " na\\u00efve", " \\\"x\\\"", " zeta"};

static int64_t now_ns(void) {
  struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

// ---- timer heap (min on due) -------------------------------------------------------------
static Conn **heap; static int nheap, caphp;
static void hput(int i, Conn *c) { heap[i] = c; c->heap_i = i; }
static void hup(int i) {
  Conn *c = heap[i];
  for (; i && heap[(i - 1) / 2]->due > c->due; i = (i - 1) / 2) hput(i, heap[(i - 1) / 2]);
  hput(i, c);
}
static void hdown(int i) {
  Conn *c = heap[i];
  for (int k; (k = 2 * i + 1) < nheap; i = k) {
    if (k + 1 < nheap && heap[k + 1]->due < heap[k]->due) k++;
    if (heap[k]->due >= c->due) break;
    hput(i, heap[k]);
  }
  hput(i, c);
}
static void timer_add(Conn *c, int64_t due) {
  if (nheap == caphp) heap = realloc(heap, (caphp = caphp * 2 + 64) * sizeof *heap);
  c->due = due; hput(nheap++, c); hup(nheap - 1);
}
static void timer_del(Conn *c) {
  int i = c->heap_i;
  if (i < 0) return;
  c->heap_i = -1;
  Conn *last = heap[--nheap];
  if (last == c) return;
  hput(i, last); hup(i); hdown(last->heap_i);
}

// ---- output buffer -----------------------------------------------------------------------
static void room(Conn *c, size_t k) {
  if (c->out_len + k <= c->out_cap) return;
  c->out_cap = (c->out_len + k) * 2;
  c->out = realloc(c->out, c->out_cap);
}
static void put(Conn *c, const char *fmt, ...) {
  va_list a;
  for (int k = 1024;;) {
    room(c, k);
    va_start(a, fmt);
    int r = vsnprintf(c->out + c->out_len, k, fmt, a);
    va_end(a);
    if (r < k) { c->out_len += r; return; }
    k = r + 1;
  }
}

// ---- the three dialects: write unit u of the stream ---------------------------------------
// Unit layout: 0 = preamble, 1..ntext = text, [tool open, FRAGS fragments], last = tail.
static const char *token(Conn *c, int i) {
  return i == 0 ? "Alpha" : i == c->ntext - 1 ? " EOT." : WORDS[i % 8];
}
static void frag(char *dst, int j) {  // j-th tenth of ARGS, JSON-escaped
  int len = strlen(ARGS), a = len * j / FRAGS, b = len * (j + 1) / FRAGS;
  for (; a < b; a++) { if (ARGS[a] == '"') *dst++ = '\\'; *dst++ = ARGS[a]; }
  *dst = 0;
}
static void esc_args(char *dst) {
  for (const char *p = ARGS; *p; p++) { if (*p == '"') *dst++ = '\\'; *dst++ = *p; }
  *dst = 0;
}
static void chat_unit(Conn *c, int u) {
#define HEAD "data: {\"id\":\"chatcmpl-C%08ldslfkBeAs8l4bebGdFO\",\"object\":\"chat.completion.chunk\"," \
  "\"created\":1781570283,\"model\":\"gpt-4o-2024-08-06\",\"service_tier\":\"default\"," \
  "\"system_fingerprint\":\"fp_fc9f1d7035\",\"choices\":["
#define USAGE (c->usage ? ",\"usage\":null" : "")
#define CHUNK(delta, fin, ...) put(c, HEAD "{\"index\":0,\"delta\":{" delta "},\"logprobs\":null,\"finish_reason\":" fin \
  "}]%s,\"obfuscation\":\"aB3dE9x\"}\n\n", c->serial, ##__VA_ARGS__, USAGE)
  char f[64];
  int t = u - 1 - c->ntext;
  if (u == 0) CHUNK("\"role\":\"assistant\",\"content\":\"\",\"refusal\":null", "null");
  else if (t < 0) { CHUNK("\"content\":\"%s\"", "null", token(c, u - 1)); c->toks++; }
  else if (u == c->units - 1) {
    CHUNK("", "\"%s\"", c->has_tool ? "tool_calls" : "stop");
    if (c->usage)
      put(c, HEAD "],\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":%d,\"total_tokens\":%d,"
          "\"prompt_tokens_details\":{\"cached_tokens\":0,\"audio_tokens\":0},\"completion_tokens_details\":"
          "{\"reasoning_tokens\":0,\"audio_tokens\":0,\"accepted_prediction_tokens\":0,"
          "\"rejected_prediction_tokens\":0}},\"obfuscation\":\"q\"}\n\n", c->serial, c->ntext, c->ntext + 19);
    put(c, "data: [DONE]\n\n");
  } else if (t == 0)
    CHUNK("\"tool_calls\":[{\"index\":0,\"id\":\"call_bench%08ld\",\"type\":\"function\",\"function\":"
          "{\"name\":\"get_weather\",\"arguments\":\"\"}}]", "null", c->serial);
  else {
    frag(f, t - 1);
    CHUNK("\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"%s\"}}]", "null", f);
  }
}
static void ant_unit(Conn *c, int u) {
#define EV(type, rest, ...) put(c, "event: " type "\ndata: {\"type\":\"" type "\"" rest "}\n\n", ##__VA_ARGS__)
  char f[64];
  int t = u - 1 - c->ntext;
  if (u == 0) {
    EV("message_start", ",\"message\":{\"id\":\"msg_01%08ldPcPwqnnJ\",\"type\":\"message\",\"role\":\"assistant\","
       "\"model\":\"claude-sonnet-4-20250514\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":"
       "{\"input_tokens\":19,\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":0,\"output_tokens\":1,"
       "\"service_tier\":\"standard\"}}", c->serial);
    EV("content_block_start", ",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}");
    EV("ping", "");
  } else if (t < 0) {
    EV("content_block_delta", ",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"%s\"}", token(c, u - 1));
    c->toks++;
  } else if (u == c->units - 1) {
    EV("content_block_stop", ",\"index\":%d", c->has_tool);
    EV("message_delta", ",\"delta\":{\"stop_reason\":\"%s\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":%d}",
       c->has_tool ? "tool_use" : "end_turn", c->ntext);
    EV("message_stop", "");
  } else if (t == 0) {
    EV("content_block_stop", ",\"index\":0");
    EV("content_block_start", ",\"index\":1,\"content_block\":{\"type\":\"tool_use\",\"id\":\"call_bench%08ld\","
       "\"name\":\"get_weather\",\"input\":{}}", c->serial);
  } else {
    frag(f, t - 1);
    EV("content_block_delta", ",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"%s\"}", f);
  }
}
static void resp_unit(Conn *c, int u) {
  char f[128];
  int t = u - 1 - c->ntext, q = u + 2;  // q ~ sequence_number
#define RESP "\"response\":{\"id\":\"resp_%08ld\",\"object\":\"response\",\"created_at\":1781570283,\"status\":\"%s\"," \
  "\"error\":null,\"incomplete_details\":null,\"instructions\":null,\"model\":\"gpt-4o-2024-08-06\",\"output\":[%s]," \
  "\"parallel_tool_calls\":true,\"temperature\":1.0,\"tool_choice\":\"auto\",\"tools\":[],\"top_p\":1.0,\"usage\":%s}"
#define FC(status) "{\"id\":\"fc_%08ld\",\"type\":\"function_call\",\"status\":\"" status "\",\"arguments\":\"%s\"," \
  "\"call_id\":\"call_bench%08ld\",\"name\":\"get_weather\"}"
  if (u == 0) {
    EV("response.created", ",\"sequence_number\":0," RESP, c->serial, "in_progress", "", "null");
    EV("response.in_progress", ",\"sequence_number\":1," RESP, c->serial, "in_progress", "", "null");
    EV("response.output_item.added", ",\"sequence_number\":2,\"output_index\":0,\"item\":{\"id\":\"msg_%08ld\",\"type\":"
       "\"message\",\"status\":\"in_progress\",\"role\":\"assistant\",\"content\":[]}", c->serial);
    EV("response.content_part.added", ",\"sequence_number\":3,\"item_id\":\"msg_%08ld\",\"output_index\":0,"
       "\"content_index\":0,\"part\":{\"type\":\"output_text\",\"text\":\"\",\"annotations\":[]}", c->serial);
  } else if (t < 0) {
    EV("response.output_text.delta", ",\"sequence_number\":%d,\"item_id\":\"msg_%08ld\",\"output_index\":0,"
       "\"content_index\":0,\"delta\":\"%s\",\"logprobs\":[],\"obfuscation\":\"aB3dE9x\"", q, c->serial, token(c, u - 1));
    c->toks++;
  } else if (u == c->units - 1) {
    if (c->has_tool) {
      char *item = NULL; esc_args(f);
      if (asprintf(&item, FC("completed"), c->serial, f, c->serial) < 0) exit(1);
      EV("response.function_call_arguments.done", ",\"sequence_number\":%d,\"item_id\":\"fc_%08ld\",\"output_index\":1,"
         "\"arguments\":\"%s\"", q, c->serial, f);
      EV("response.output_item.done", ",\"sequence_number\":%d,\"output_index\":1,\"item\":%s", q, item);
      EV("response.completed", ",\"sequence_number\":%d," RESP, q, c->serial, "completed", item,
         "{\"input_tokens\":19,\"output_tokens\":30,\"total_tokens\":49}");
      free(item);
    } else {
      EV("response.output_text.done", ",\"sequence_number\":%d,\"item_id\":\"msg_%08ld\",\"output_index\":0,"
         "\"content_index\":0,\"text\":\"(full text)\"", q, c->serial);
      EV("response.output_item.done", ",\"sequence_number\":%d,\"output_index\":0,\"item\":{\"id\":\"msg_%08ld\",\"type\":"
         "\"message\",\"status\":\"completed\",\"role\":\"assistant\",\"content\":[]}", q, c->serial);
      EV("response.completed", ",\"sequence_number\":%d," RESP, q, c->serial, "completed", "",
         "{\"input_tokens\":19,\"output_tokens\":30,\"total_tokens\":49}");
    }
  } else if (t == 0)
    EV("response.output_item.added", ",\"sequence_number\":%d,\"output_index\":1,\"item\":" FC("in_progress"), q,
       c->serial, "", c->serial);
  else {
    frag(f, t - 1);
    EV("response.function_call_arguments.delta", ",\"sequence_number\":%d,\"item_id\":\"fc_%08ld\",\"output_index\":1,"
       "\"delta\":\"%s\"", q, c->serial, f);
  }
}

// ---- connection life ---------------------------------------------------------------------
static void watch(Conn *c, int out) {
  if (c->want_out == out) return;
  c->want_out = out;
  struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP | (out ? EPOLLOUT : 0), .data.ptr = c};
  epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
}
static void drop(Conn *c) {
  if (c->streaming) {
    S.open--; S.aborted++;
    int i = nrec++ % MAXREC;
    rec[i].bid = c->bid; rec[i].toks = c->toks; rec[i].req_ns = c->req_ns;
    rec[i].eof_ns = now_ns(); rec[i].left = c->ntext - c->toks;
  }
  timer_del(c);
  SSL_free(c->tls);
  close(c->fd);
  free(c->in); free(c->out);
  c->fd = -1; c->streaming = 0; c->tls = NULL; c->in = c->out = NULL;
}
static Conn **dead; static int ndead, capdead;  // freed after the epoll batch
static void kill_conn(Conn *c) {
  if (c->fd < 0) return;
  drop(c);
  if (ndead == capdead) dead = realloc(dead, (capdead = capdead * 2 + 64) * sizeof *dead);
  dead[ndead++] = c;
}
// read(2) and write(2) of a connection, whatever it speaks: -1 with errno EAGAIN when it would block.
static ssize_t tls_result(Conn *c, int r) {
  int why = SSL_get_error(c->tls, r);
  if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) { errno = EAGAIN; return -1; }
  if (why == SSL_ERROR_ZERO_RETURN) return 0;
  ERR_clear_error();
  errno = EPIPE;
  return -1;
}
static ssize_t conn_read(Conn *c, char *p, size_t n) {
  if (!c->tls) return recv(c->fd, p, n, 0);
  int r = SSL_read(c->tls, p, n);
  return r > 0 ? r : tls_result(c, r);
}
static ssize_t conn_write(Conn *c, const char *p, size_t n) {
  if (!c->tls) return send(c->fd, p, n, MSG_NOSIGNAL);
  int r = SSL_write(c->tls, p, n);
  return r > 0 ? r : tls_result(c, r);
}
// Returns 1 when all output is written, 0 when blocked, -1 when the connection died.
static int flush(Conn *c) {
  while (c->out_pos < c->out_len) {
    ssize_t r = conn_write(c, c->out + c->out_pos, c->out_len - c->out_pos);
    if (r < 0) {
      if (errno == EAGAIN) { watch(c, 1); return 0; }
      if (errno == EINTR) continue;
      kill_conn(c); return -1;
    }
    c->out_pos += r; S.bytes += r;
  }
  c->out_pos = c->out_len = 0;
  watch(c, 0);
  return 1;
}
static void parse(Conn *c);

// Emit up to b units as one HTTP chunk; append the terminator after the last one.
static void emit_write(Conn *c) {
  size_t at = c->out_len;
  put(c, "00000000\r\n");
  for (int k = 0; k < c->p.b && c->unit < c->units; k++) {
    int u = c->unit++;
    (c->api == CHAT ? chat_unit : c->api == ANTHROPIC ? ant_unit : resp_unit)(c, u);
    if (c->p.cut && u == c->p.cut) c->close_after = 1;
  }
  char hex[12];
  snprintf(hex, sizeof hex, "%08zx", c->out_len - at - 10);
  memcpy(c->out + at, hex, 8);
  put(c, "\r\n");
  if (c->unit == c->units) put(c, "0\r\n\r\n");
}
static void pump(Conn *c) {
  for (int k = 0; c->streaming; k++) {
    int r = flush(c);
    if (r <= 0) return;
    if (c->close_after && c->streaming) { c->streaming = 0; S.open--; S.cut++; kill_conn(c); return; }
    if (c->unit == c->units) {
      c->streaming = 0; S.open--; S.finished++;
      parse(c);
      return;
    }
    int silent = c->p.silent && c->unit > c->p.silent;
    int64_t wait = (silent ? SILENCE_MS : c->unit == 0 ? c->p.f : c->p.d) * 1000000LL;
    if (c->heap_i >= 0) return;
    int64_t t = now_ns();
    if (wait || k >= BURST) {  // paced, or give other connections a turn
      timer_add(c, wait ? (c->unit && c->due ? c->due + wait : t + wait) : t);
      return;
    }
    long before = c->toks;
    emit_write(c);
    S.tokens += c->toks - before;
  }
}
static void tick(Conn *c) {  // timer fired
  if (c->want_out) { return; }  // blocked: EPOLLOUT will resume
  long before = c->toks;
  emit_write(c);
  S.tokens += c->toks - before;
  pump(c);
}

// ---- requests ----------------------------------------------------------------------------
static int has(const char *b, const char *key, const char *val) {  // "key" : val, any spacing
  char k[64];
  snprintf(k, sizeof k, "\"%s\"", key);
  for (const char *p = b; (p = strstr(p, k));) {
    p += strlen(k);
    while (*p == ' ' || *p == '\n' || *p == ':') p++;
    if (!strncmp(p, val, strlen(val))) return 1;
  }
  return 0;
}
static Plan plan_of(const char *b) {
  Plan p = dflt;
  const char *m = strstr(b, "\"model\"");
  if (m && (m = strchr(m + 7, '"'))) {
    m++;
    if (!strncmp(m, "bench", 5))
      for (m += 5; *m == '-'; m += strcspn(m, "-\"")) {
        int v = atoi(m + 2);
        switch (m[1]) {
          case 'n': p.n = v; break; case 'd': p.d = v; break; case 'b': p.b = v; break; case 'f': p.f = v; break;
          case 't': p.tool = v; break; case 'x': p.cut = v; break; case 'e': p.err = v; break; case 's': p.silent = v; break;
        }
        m++;
      }
  }
  if (p.f < 0) p.f = p.d;
  if (p.b < 1) p.b = 1;
  return p;
}
static void reply(Conn *c, int code, const char *body) {
  put(c, "HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n", code, strlen(body));
  put(c, "%s", body);
  flush(c);
}
static void stats(Conn *c) {
  size_t cap = 1024 + 120 * (size_t)(nrec < MAXREC ? nrec : MAXREC), l;
  char *b = malloc(cap);
  l = sprintf(b, "{\"requests\":%ld,\"open\":%ld,\"open_max\":%ld,\"finished\":%ld,\"aborted\":%ld,\"cut\":%ld,"
      "\"tokens\":%ld,\"bytes\":%ld,\"connections\":%ld,\"tool_first\":%ld,\"tool_second\":%ld,\"tool_ok\":%ld,"
      "\"bad\":%ld,\"now_ns\":%ld,\"aborts\":[", S.requests, S.open, S.open_max, S.finished, S.aborted, S.cut, S.tokens,
      S.bytes, S.conns, S.tool_first, S.tool_second, S.tool_ok, S.bad, (long)now_ns());
  for (long i = 0; i < nrec && i < MAXREC; i++)
    l += sprintf(b + l, "%s[%ld,%ld,%ld,%ld,%ld]", i ? "," : "", rec[i].bid, (long)rec[i].req_ns, (long)rec[i].eof_ns,
                 rec[i].toks, rec[i].left);
  sprintf(b + l, "]}");
  reply(c, 200, b);
  free(b);
}
static void start(Conn *c, int api, const char *body) {
  S.requests++;
  c->api = api; c->p = plan_of(body); c->req_ns = now_ns(); c->due = 0;
  c->serial = ++serial; c->toks = 0; c->unit = 0;
  const char *bid = strstr(body, "bid=");
  c->bid = bid ? atol(bid + 4) : -1;
  if (c->p.err) {
    char e[200];
    snprintf(e, sizeof e, "{\"error\":{\"message\":\"bench error %d\",\"type\":\"server_error\",\"code\":null}}", c->p.err);
    reply(c, c->p.err, e);
    return;
  }
  if (!has(body, "stream", "true")) { S.bad++; reply(c, 400, "{\"error\":{\"message\":\"stream only\"}}"); return; }
  int result = has(body, "role", "\"tool\"") || has(body, "type", "\"tool_result\"") ||
               has(body, "type", "\"function_call_output\"");
  c->has_tool = c->p.tool && !result;
  if (c->has_tool) S.tool_first++;
  if (c->p.tool && result) {  // correct loop: our call id, and the arguments came back whole
    S.tool_second++;
    if (strstr(body, "call_bench") && strstr(body, "Paris") && strstr(body, "celsius")) S.tool_ok++;
  }
  c->ntext = c->has_tool ? FIRST_TEXT : c->p.n;
  c->units = 1 + c->ntext + (c->has_tool ? 1 + FRAGS : 0) + 1;
  c->usage = has(body, "include_usage", "true");
  put(c, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
      "x-request-id: req_%08ld\r\ntransfer-encoding: chunked\r\n\r\n", c->serial);
  c->streaming = 1;
  if (++S.open > S.open_max) S.open_max = S.open;
  pump(c);
}
static void parse(Conn *c) {  // one complete request in c->in? act on it
  while (c->fd >= 0 && !c->streaming && c->in_len) {
    c->in[c->in_len] = 0;
    char *e = strstr(c->in, "\r\n\r\n");
    if (!e) return;
    size_t clen = 0, hl = e + 4 - c->in;
    char *h = strcasestr(c->in, "\r\ncontent-length:");
    if (h && h < e) clen = strtoul(h + 17, NULL, 10);
    else if ((h = strcasestr(c->in, "\r\ntransfer-encoding:")) && h < e) { reply(c, 411, "{}"); kill_conn(c); return; }
    if (c->in_len < hl + clen) return;
    char save = c->in[hl + clen];
    c->in[hl + clen] = 0;
    char *req = strdup(c->in);
    c->in[hl + clen] = save;
    memmove(c->in, c->in + hl + clen, c->in_len -= hl + clen);
    char *b = req + hl;
    if (!strncmp(req, "POST /v1/chat/completions", 25)) start(c, CHAT, b);
    else if (!strncmp(req, "POST /v1/messages", 17)) start(c, ANTHROPIC, b);
    else if (!strncmp(req, "POST /v1/responses", 18)) start(c, RESPONSES, b);
    else if (!strncmp(req, "GET /stats", 10)) stats(c);
    else if (!strncmp(req, "POST /reset", 11)) {
      long o = S.open; memset(&S, 0, sizeof S); S.open = S.open_max = o; nrec = 0;
      reply(c, 200, "{}");
    } else { S.bad++; reply(c, 404, "{\"error\":{\"message\":\"no such path\"}}"); }
    free(req);
  }
}
static void readable(Conn *c) {
  for (;;) {
    if (c->in_cap - c->in_len < 4096) c->in = realloc(c->in, (c->in_cap = c->in_cap * 2 + 8192));
    ssize_t r = conn_read(c, c->in + c->in_len, c->in_cap - c->in_len - 1);
    if (r > 0) { c->in_len += r; continue; }
    if (r < 0 && errno == EAGAIN) break;
    if (r < 0 && errno == EINTR) continue;
    kill_conn(c);
    return;
  }
  parse(c);
}
static int listener(int port) {
  int ls = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
  setsockopt(ls, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (bind(ls, (void *)&a, sizeof a) || listen(ls, 4096)) { perror("upstream: bind"); exit(1); }
  return ls;
}
static void use_certificate(const char *cert, const char *key) {
  tls_context = SSL_CTX_new(TLS_server_method());
  SSL_CTX_set_mode(tls_context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
  if (!cert || !key || SSL_CTX_use_certificate_chain_file(tls_context, cert) != 1 ||
      SSL_CTX_use_PrivateKey_file(tls_context, key, SSL_FILETYPE_PEM) != 1) {
    fprintf(stderr, "upstream: --tls-port needs --cert and --key (PEM)\n");
    ERR_print_errors_fp(stderr);
    exit(2);
  }
}
static void accept_all(int ls, int tls) {
  for (int fd, one = 1; (fd = accept4(ls, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    Conn *c = calloc(1, sizeof *c);
    c->fd = fd; c->heap_i = -1; S.conns++;
    if (tls) { c->tls = SSL_new(tls_context); SSL_set_fd(c->tls, fd); SSL_set_accept_state(c->tls); }
    struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = c};
    epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
  }
}
int main(int argc, char **argv) {
  int port = 9000, tls_port = 0;
  const char *cert = NULL, *key = NULL;
  for (int i = 1; i + 1 < argc; i += 2) {
    int v = atoi(argv[i + 1]);
    if (!strcmp(argv[i], "--port")) port = v;
    else if (!strcmp(argv[i], "--tls-port")) tls_port = v;
    else if (!strcmp(argv[i], "--cert")) cert = argv[i + 1];
    else if (!strcmp(argv[i], "--key")) key = argv[i + 1];
    else if (!strcmp(argv[i], "--tokens")) dflt.n = v;
    else if (!strcmp(argv[i], "--delay")) dflt.d = v;
    else if (!strcmp(argv[i], "--batch")) dflt.b = v;
    else if (!strcmp(argv[i], "--first")) dflt.f = v;
    else if (!strcmp(argv[i], "--tool")) dflt.tool = v;
    else {
      fprintf(stderr, "usage: upstream [--port P --tls-port P --cert FILE --key FILE --tokens N --delay MS --batch B --first MS --tool 0|1]\n");
      return 2;
    }
  }
  signal(SIGPIPE, SIG_IGN);
  int ls = listener(port), tls_ls = -1;
  if (tls_port) { use_certificate(cert, key); tls_ls = listener(tls_port); }
  ep = epoll_create1(0);
  struct epoll_event e = {.events = EPOLLIN, .data.ptr = &ls}, ev[256];
  epoll_ctl(ep, EPOLL_CTL_ADD, ls, &e);
  e.data.ptr = &tls_ls;
  if (tls_port) epoll_ctl(ep, EPOLL_CTL_ADD, tls_ls, &e);
  for (;;) {
    struct timespec ts, *tp = NULL;
    if (nheap) {
      int64_t w = heap[0]->due - now_ns();
      if (w < 0) w = 0;
      ts.tv_sec = w / 1000000000; ts.tv_nsec = w % 1000000000; tp = &ts;
    }
    int k = epoll_pwait2(ep, ev, 256, tp, NULL);
    for (int i = 0; i < k; i++) {
      Conn *c = ev[i].data.ptr;
      if (ev[i].data.ptr == &ls) { accept_all(ls, 0); continue; }
      if (ev[i].data.ptr == &tls_ls) { accept_all(tls_ls, 1); continue; }
      if (c->fd < 0) continue;
      if (ev[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) readable(c);
      if (c->fd >= 0 && (ev[i].events & EPOLLOUT)) {
        if (c->streaming) pump(c); else flush(c);
      }
    }
    if (nheap) {
      int64_t t = now_ns();
      for (int m = nheap; m-- && nheap && heap[0]->due <= t;) { Conn *c = heap[0]; timer_del(c); tick(c); }
    }
    while (ndead) free(dead[--ndead]);
  }
}

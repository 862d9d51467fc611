/* A small reverse proxy that decides by Curfew which requests may pass: one upstream, HTTP/1.1, one
 * thread, epoll.
 *
 *   proxy --region /run/app.region --upstream 127.0.0.1:8080 [--listen 127.0.0.1:8000] [--cookie sid]
 *         [--idle SECONDS] [--lifetime SECONDS] [--capacity SESSIONS]
 *
 *   cc -std=c11 proxy.c forward.c http.c cookies.c options.c -o proxy $(pkg-config --cflags --libs curfew)
 *
 * A session begins when the application issues its id, that is, when a response sets the cookie; whose
 * it is the application may say in the header Curfew-Subject, which is not passed on. It goes on under
 * a new id when the application replaces the cookie, and ends when the application clears it, or says
 * that the new id is somebody else's. None begins in place of one that ended while the application was at
 * the request. Interim responses (103 Early Hints) are passed on without what they set. All requests but
 * those for /login need a session that may go on; others are answered 401 and do not reach the
 * application. A request for /login that has no such session is passed on without the cookie, so that the
 * application revives none that has ended.
 *
 * A connection whose session ends, by whatever means and in whichever process, is closed then, also in
 * the middle of a download or a WebSocket: each has a curfew_watch, and the loop sleeps no longer than
 * until curfew_next_due. What was cut is reported with the bytes that the client got. Bytes from the
 * client are activity, also in a WebSocket and an upload.
 *
 * What it does not do: TLS, HTTP/2, Upgrade to anything but WebSocket (the header is dropped), more than
 * one request of a connection at a time (what is pipelined waits). Heads have 8 KiB, connections are 512. */
#define _GNU_SOURCE
#include <curfew.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cookies.h"
#include "forward.h"
#include "http.h"
#include "options.h"

enum {
  MOST_HEAD = 8192,
  MOST_PAIRS = 512,
  MOST_SLEEP_MS = 200, /* what other processes end is noticed within */
  PATIENCE_MS = 30000, /* with a peer that does nothing */
  LINGER_MS = 1000,    /* for what a client still sends after it was answered */
  ADVANCE = 1000,
};

struct pair;

struct end {
  int fd; /* -1: not connected */
  uint32_t watched;
  bool connecting, eof, unwatched;
  struct pair *pair;
  struct buffer in, out;
};

/* A client, and its own connection to the upstream. */
struct pair {
  struct pair *next, **link;
  struct end client, upstream;
  enum { WAITING, FORWARDING, PIPING, CLOSING, LINGERING, CLOSED } state;
  struct framing request, response;
  bool head_sent; /* of the response: to the client */
  bool is_head, keep_alive, is_upgrade;
  struct session session; /* of its latest request */
  curfew_tick end;        /* when that ends if nothing happens, and why */
  uint32_t due;
  uint64_t sent; /* to the client, since its latest request */
  curfew_tick patience;
};

static struct options options;
static curfew_table table;
static uint32_t policy;
static curfew_tick now, nearest = CURFEW_NEVER; /* the least end of all pairs */
static uint64_t changes_seen;
static struct pair *pairs, *closed;
static unsigned pair_count;
static int epoll, listener;
static bool is_listening;

static void watch(int fd, uint32_t events, void *data, int how) {
  struct epoll_event event = {.events = events, .data.ptr = data};
  if (epoll_ctl(epoll, how, fd, &event) != 0 && how != EPOLL_CTL_DEL) fail("epoll_ctl", strerror(errno));
}

static void listen_again(void) {
  bool want = pair_count < MOST_PAIRS;
  if (want == is_listening) return;
  watch(listener, want ? EPOLLIN : 0, &listener, EPOLL_CTL_MOD);
  is_listening = want;
}

static void close_end(struct end *end) {
  if (end->fd >= 0) close(end->fd);
  end->fd = -1;
  end->connecting = end->eof = end->unwatched = false;
  end->watched = 0;
  end->in.length = end->out.length = 0;
}

/* Freed at the end of the round: an event of the same round may still point here. */
static void close_pair(struct pair *pair) {
  if (pair->state == CLOSED) return;
  pair->state = CLOSED;
  close_end(&pair->client);
  close_end(&pair->upstream);
  *pair->link = pair->next;
  if (pair->next) pair->next->link = pair->link;
  pair->next = closed;
  closed = pair;
  pair_count--;
}

/* From now on the pair ends with the session that this verdict is about. */
static void follow(struct pair *pair, const curfew_verdict *verdict) {
  pair->session.is_live = true;
  pair->end = now + verdict->end_left_ms;
  pair->due = verdict->end_left_ms == verdict->lifetime_left_ms ? CURFEW_CAUSE_LIFETIME : CURFEW_CAUSE_IDLE;
  if (pair->end < nearest) nearest = pair->end;
}

/* Closes the pair if its session is over, or if nobody can tell. False if it has. */
static bool may_go_on(struct pair *pair, curfew_status status, const curfew_verdict *verdict) {
  bool is_over = verdict->state == CURFEW_ENDED || verdict->state == CURFEW_UNKNOWN;
  if (status == CURFEW_OK && !is_over) {
    follow(pair, verdict);
    return true;
  }
  /* One whose lifetime is over may be forgotten at once, and does not say why. */
  uint32_t cause = verdict->cause ? verdict->cause : pair->end <= now ? pair->due : (uint32_t)CURFEW_CAUSE_EVICTED;
  if (pair->state == FORWARDING || pair->state == PIPING)
    curfew_report_cut(table, &pair->session.watch, cause, pair->sent, now);
  close_pair(pair);
  return false;
}

/* Answers a request ourselves, and takes no more of this connection. */
static void answer(struct pair *pair, const char *status, const char *header, const char *body) {
  char text[512];
  int length = snprintf(text, sizeof text,
                        "HTTP/1.1 %s\r\n%sContent-Type: text/plain\r\nCache-Control: no-store\r\n"
                        "Content-Length: %zu\r\nConnection: close\r\n\r\n%s",
                        status, header, strlen(body), pair->is_head ? "" : body);
  /* Behind a half-sent response it would be taken for a part of it. */
  if (!pair->head_sent && length > 0 && (size_t)length < sizeof text) put(&pair->client.out, text, (size_t)length);
  pair->state = CLOSING;
  close_end(&pair->upstream);
}

static void connect_upstream(struct pair *pair) {
  struct end *end = &pair->upstream;
  end->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (end->fd < 0) return;
  int one = 1;
  setsockopt(end->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (connect(end->fd, (struct sockaddr *)&options.upstream, sizeof options.upstream) != 0 && errno != EINPROGRESS) {
    close_end(end);
    return;
  }
  end->connecting = true;
  end->watched = 0;
  watch(end->fd, 0, end, EPOLL_CTL_ADD);
}

/* Whether this request may pass. If not, it has been answered. */
static bool is_allowed(struct pair *pair, struct text target, struct headers headers) {
  struct text id;
  int cookies = find_cookie(headers, options.cookie, &id);
  curfew_verdict verdict = curfew_verdict_init();
  curfew_status status = CURFEW_OK;

  pair->session = (struct session){.has_id = cookies > 0 && id.length > 0};
  if (cookies < 0) {
    answer(pair, "400 Bad Request", "", "two session cookies\n");
    return false;
  }
  if (pair->session.has_id) {
    status = curfew_derive_key(table, (const uint8_t *)id.at, id.length, &pair->session.id);
    if (status == CURFEW_OK) status = curfew_touch(table, &pair->session.id, 0, now, &verdict);
    if (status != CURFEW_OK) {
      fprintf(stderr, "proxy: touch: %s\n", curfew_status_text(status));
      answer(pair, "503 Service Unavailable", "", "no decision\n");
      return false;
    }
    if (verdict.passes) {
      pair->session.watch = curfew_watch_init(pair->session.id, 0);
      follow(pair, &verdict);
    }
  }
  /* Nothing below it: that may be written like /login/../account. */
  bool is_login = target.length >= 6 && memcmp(target.at, "/login", 6) == 0 &&
                  (target.length == 6 || target.at[6] == '?');
  if (verdict.passes || is_login) return true;
  char header[128], body[128];
  const char *why = verdict.state == CURFEW_ENDED ? curfew_cause_name(verdict.cause)
                    : verdict.state == 0          ? "missing"
                                                  : curfew_state_name(verdict.state);
  snprintf(header, sizeof header, "WWW-Authenticate: Session realm=\"proxy\", error=\"%s\"\r\n", why);
  snprintf(body, sizeof body, "no session: %s\n", why);
  answer(pair, "401 Unauthorized", header, body);
  return false;
}

#define UPGRADE "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

/* Takes a request from the client's input. False if there is none yet. */
static bool take_request(struct pair *pair) {
  struct buffer *in = &pair->client.in, *out = &pair->upstream.out;
  struct text part[3];
  struct headers headers;
  size_t length = head_length(in->data, in->length);

  pair->head_sent = pair->is_head = false;
  pair->sent = 0;
  if (length == 0 && in->length < MOST_HEAD) return false;
  if (length == 0 || length > MOST_HEAD) {
    answer(pair, "431 Request Header Fields Too Large", "", "the head is too large\n");
    return true;
  }
  /* What is written to the upstream is at most half as long again, and its buffer is empty. */
  if (!parse_head(in->data, length, part, &headers) || part[1].length == 0 || part[1].at[0] != '/') {
    answer(pair, "400 Bad Request", "", "not a request that this proxy understands\n");
    return true;
  }
  if (!text_is(part[2], "HTTP/1.1")) {
    answer(pair, "505 HTTP Version Not Supported", "", "HTTP/1.1, please\n");
    return true;
  }
  pair->is_head = text_is(part[0], "HEAD");
  int refused = framing_of(headers, false, &pair->request);
  if (refused) {
    answer(pair, refused == 501 ? "501 Not Implemented" : "400 Bad Request", "", "where does the body end?\n");
    return true;
  }
  pair->keep_alive = !asks_for(headers, "close");
  pair->is_upgrade = pair->request.done && wants_websocket(headers);
  if (!is_allowed(pair, part[1], headers)) return true;

  /* The upstream may have closed its connection meanwhile. */
  if (pair->upstream.fd >= 0 && (pair->upstream.eof || pair->upstream.in.length > 0)) close_end(&pair->upstream);
  if (pair->upstream.fd < 0) connect_upstream(pair);
  if (pair->upstream.fd < 0) {
    answer(pair, "502 Bad Gateway", "", "the application cannot be reached\n");
    return true;
  }
  put(out, part[0].at, part[0].length);
  put_text(out, " ");
  put(out, part[1].at, part[1].length);
  put_text(out, " HTTP/1.1\r\n");
  put_headers(out, headers, pair->session.is_live ? REQUEST : REQUEST_WITHOUT_SESSION, options.cookie);
  put_text(out, pair->is_upgrade ? UPGRADE : "Connection: keep-alive\r\n\r\n");
  drop(in, length);
  pair->response = (struct framing){0};
  pair->state = FORWARDING;
  return true;
}

/* Takes a response's head from the upstream's input. False if there is none yet. */
static bool take_response(struct pair *pair) {
  struct buffer *in = &pair->upstream.in, *out = &pair->client.out;
  struct text part[3];
  struct headers headers;
  size_t length = head_length(in->data, in->length);

  if (length == 0 && in->length < MOST_HEAD && !pair->upstream.eof) return false;
  /* A header may become a space longer: a quarter more at the most. */
  if (length > 0 && length <= MOST_HEAD && room(out) < length + length / 4 + 64) return false;
  if (length == 0 || length > MOST_HEAD || !parse_head(in->data, length, part, &headers) ||
      strncmp(part[0].at, "HTTP/1.", 7) != 0 || part[1].length != 3) {
    answer(pair, "502 Bad Gateway", "", "the application gave no response\n");
    return true;
  }
  int status = (part[1].at[0] - '0') * 100 + (part[1].at[1] - '0') * 10 + (part[1].at[2] - '0');
  bool is_upgraded = status == 101 && pair->is_upgrade;
  if (status < 100 || status > 599 || (status == 101 && !is_upgraded) || framing_of(headers, true, &pair->response)) {
    answer(pair, "502 Bad Gateway", "", "the application's response makes no sense\n");
    return true;
  }
  if (status < 200 && !is_upgraded) { /* 100 Continue, 103 Early Hints: the response is still to come */
    put_status_line(out, part);
    put_headers(out, headers, INTERIM_RESPONSE, options.cookie);
    put_text(out, "\r\n");
    drop(in, length);
    return true;
  }
  if (pair->is_head || status == 204 || status == 304) {
    pair->response = (struct framing){.kind = BODY_NONE, .done = true};
  }
  const struct place place = {table, policy, now};
  curfew_status taken = take_cookies(&place, &pair->session, headers, options.cookie, status >= 400);
  if (taken != CURFEW_OK) {
    fprintf(stderr, "proxy: no session: %s\n", curfew_status_text(taken));
    answer(pair, "503 Service Unavailable", "", "there can be no session for this cookie\n");
    return true;
  }
  if (pair->session.is_new) pair->end = nearest = now; /* asked about in the next round */
  if (is_upgraded && !pair->session.is_live) { /* nothing would ever close it */
    answer(pair, "401 Unauthorized", "", "no session: a WebSocket needs one\n");
    return true;
  }
  if (pair->response.kind == BODY_UNTIL_CLOSE || asks_for(headers, "close")) pair->keep_alive = false;
  put_status_line(out, part);
  put_headers(out, headers, RESPONSE, options.cookie);
  put_text(out, is_upgraded        ? UPGRADE
                : pair->keep_alive ? "Connection: keep-alive\r\n\r\n"
                                   : "Connection: close\r\n\r\n");
  drop(in, length);
  pair->head_sent = true;
  if (is_upgraded) {
    pair->state = PIPING;
    pair->patience = CURFEW_NEVER; /* its session ends it, or a peer */
  }
  return true;
}

/* One step of a request. False if it has to wait for a peer. */
static bool step(struct pair *pair) {
  struct end *client = &pair->client, *upstream = &pair->upstream;
  if (pair->state == WAITING) {
    /* The rest of an earlier response must be out: what we write next has the whole buffer. */
    return client->out.length == 0 && upstream->out.length == 0 && take_request(pair);
  }
  if (pair->state == PIPING) {
    bool has_moved = pipe_on(&client->in, &upstream->out);
    has_moved = pipe_on(&upstream->in, &client->out) || has_moved;
    if ((client->eof && client->in.length + upstream->out.length == 0) || (upstream->eof && upstream->in.length == 0)) {
      pair->state = CLOSING;
      pair->patience = now + PATIENCE_MS;
      return true;
    }
    return has_moved;
  }
  if (pair->state != FORWARDING) return false;
  bool moved = false;
  if (!pair->request.done) {
    moved = pass(&pair->request, &client->in, &upstream->out);
    if (pair->request.bad) {
      answer(pair, "400 Bad Request", "", "where does the body end?\n");
      return true;
    }
  }
  if (!pair->head_sent) return take_response(pair) || moved;
  if (!pair->response.done) {
    moved = pass(&pair->response, &upstream->in, &client->out) || moved;
    if (upstream->eof && upstream->in.length == 0 && pair->response.kind == BODY_UNTIL_CLOSE) pair->response.done = true;
    else if (pair->response.bad || (upstream->eof && upstream->in.length == 0 && !pair->response.done)) {
      pair->state = CLOSING; /* the client sees that the response is cut short */
      return true;
    }
  }
  if (pair->response.done) {
    pair->state = pair->keep_alive && pair->request.done ? WAITING : CLOSING;
    return true;
  }
  return moved;
}

/* False if the connection is broken. */
static bool receive(struct end *end) {
  while (room(&end->in) > 0 && !end->eof) {
    ssize_t got = recv(end->fd, end->in.data + end->in.length, room(&end->in), 0);
    if (got < 0) return errno == EAGAIN || errno == EINTR;
    end->eof = got == 0;
    end->in.length += (size_t)got;
  }
  return true;
}

static bool transmit(struct end *end) {
  while (end->out.length > 0) {
    ssize_t sent = send(end->fd, end->out.data, end->out.length, MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN || errno == EINTR;
    drop(&end->out, (size_t)sent);
  }
  return true;
}

static void rewatch(struct end *end, bool wants_input) {
  if (end->fd < 0 || end->unwatched) return;
  uint32_t want = 0;
  if (end->out.length > 0 || end->connecting) want |= EPOLLOUT;
  if (wants_input && !end->eof && room(&end->in) > 0 && !end->connecting) want |= EPOLLIN;
  if (want != end->watched) watch(end->fd, want, end, EPOLL_CTL_MOD);
  end->watched = want;
}

/* Moves everything that can be moved. */
static void run(struct pair *pair) {
  do {
    while (step(pair)) {
    }
    if (pair->upstream.fd >= 0 && !pair->upstream.connecting && !transmit(&pair->upstream)) pair->upstream.eof = true;
    size_t length = pair->client.out.length;
    if (!transmit(&pair->client)) {
      close_pair(pair);
      return;
    }
    pair->sent += length - pair->client.out.length;
  } while (step(pair));
  bool is_idle = pair->state == WAITING && pair->client.out.length == 0;
  bool is_cut = pair->client.eof && pair->state == FORWARDING && !pair->request.done && pair->client.in.length == 0;
  if (pair->state == CLOSING && pair->client.out.length == 0) {
    /* If the client is still sending, closing now could make its system throw our answer away. */
    shutdown(pair->client.fd, SHUT_WR);
    pair->state = LINGERING;
    pair->patience = now + LINGER_MS;
    close_end(&pair->upstream);
  }
  if (pair->state == LINGERING) pair->client.in.length = 0;
  if ((pair->state == LINGERING && pair->client.eof) || (is_idle && pair->client.eof) || is_cut) {
    close_pair(pair);
    return;
  }
  rewatch(&pair->client, pair->state != CLOSING);
  rewatch(&pair->upstream, true);
}

static void on_event(struct end *end, uint32_t events) {
  struct pair *pair = end->pair;
  if (pair->state == CLOSED || end->fd < 0) return;
  bool is_client = end == &pair->client, is_fine = true;
  if (pair->state != LINGERING && pair->state != PIPING) pair->patience = now + PATIENCE_MS;
  if (end->connecting && events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(end->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    end->connecting = false;
    is_fine = error == 0;
  }
  size_t length = end->in.length;
  if (is_fine && events & (EPOLLIN | EPOLLHUP | EPOLLERR)) is_fine = receive(end);
  bool is_open = pair->state == FORWARDING || pair->state == PIPING;
  if (is_client && end->in.length > length && pair->session.is_live && is_open) {
    curfew_verdict verdict = curfew_verdict_init();
    curfew_status status = curfew_touch_watched(table, &pair->session.watch, now, &verdict);
    if (!may_go_on(pair, status, &verdict)) return;
  }
  if (!is_fine && is_client) {
    close_pair(pair);
    return;
  }
  if (!is_fine && pair->state == FORWARDING && !pair->head_sent && end->in.length == 0)
    answer(pair, "502 Bad Gateway", "", "the application cannot be reached\n");
  else if (!is_fine)
    end->eof = true;
  if (is_client && end->eof && events & EPOLLHUP) { /* both ways: nobody will read what we send */
    close_pair(pair);
    return;
  }
  if (!is_client && end->eof && !end->unwatched) { /* we would be told of it again and again */
    watch(end->fd, 0, end, EPOLL_CTL_DEL);
    end->unwatched = true;
  }
  if (!is_client && end->eof && pair->state == WAITING) close_end(end);
  run(pair);
}

static void accept_all(void) {
  while (pair_count < MOST_PAIRS) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) break;
    struct pair *pair = calloc(1, sizeof *pair);
    if (!pair) {
      close(fd);
      break;
    }
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    pair->client.fd = fd;
    pair->upstream.fd = -1;
    pair->client.pair = pair->upstream.pair = pair;
    pair->patience = now + PATIENCE_MS;
    pair->next = pairs;
    pair->link = &pairs;
    if (pairs) pairs->link = &pair->next;
    pairs = pair;
    pair_count++;
    pair->client.watched = EPOLLIN;
    watch(fd, EPOLLIN, &pair->client, EPOLL_CTL_ADD);
  }
}

/* Ends what is due, and closes the connections of sessions that have ended, whoever ended them. */
static void enforce(void) {
  uint32_t more = 0;
  uint64_t changes = 0;
  do {
    if (curfew_advance(table, now, ADVANCE, NULL, &more) != CURFEW_OK) break;
  } while (more);
  /* Nearly always nothing has happened, and nobody need be asked. */
  bool is_told = curfew_changes(table, &changes) == CURFEW_OK;
  bool asks = !is_told || changes != changes_seen || nearest <= now;
  changes_seen = changes;
  if (asks) nearest = CURFEW_NEVER;
  for (struct pair *pair = pairs, *next; pair; pair = next) {
    next = pair->next;
    if (pair->patience <= now) {
      close_pair(pair);
    } else if (asks && pair->session.is_live) {
      curfew_verdict verdict = curfew_verdict_init();
      may_go_on(pair, curfew_peek_watched(table, &pair->session.watch, now, &verdict), &verdict);
    }
  }
}

static int time_to_sleep(void) {
  curfew_tick due;
  if (curfew_now(table, &now) != CURFEW_OK || curfew_next_due(table, &due) != CURFEW_OK) return MOST_SLEEP_MS;
  if (nearest < due) due = nearest;
  if (due <= now) return 0;
  return due - now < MOST_SLEEP_MS ? (int)(due - now) : MOST_SLEEP_MS;
}

static void open_table(void) {
  curfew_config config = curfew_config_init(options.capacity);
  curfew_policy limits = curfew_policy_init();
  curfew_error error = curfew_error_init();
  limits.idle_ms = options.idle_ms;
  limits.lifetime_ms = options.lifetime_ms;
  if (curfew_open_or_create(options.region, &config, &error, &table) != CURFEW_OK ||
      curfew_now(table, &now) != CURFEW_OK ||
      curfew_set_policy(table, "web", &limits, now, &error, &policy) != CURFEW_OK)
    fail(options.region, error.message);
}

int main(int count, char **arguments) {
  options = read_options(count, arguments);
  open_table();

  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGTERM);
  sigaddset(&ends, SIGINT);
  sigprocmask(SIG_BLOCK, &ends, NULL);
  int stop = signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);

  socklen_t size = sizeof options.listen;
  int one = 1;
  listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (stop < 0 || listener < 0 || bind(listener, (struct sockaddr *)&options.listen, size) != 0 ||
      listen(listener, 128) != 0 || getsockname(listener, (struct sockaddr *)&options.listen, &size) != 0)
    fail("cannot listen", strerror(errno));
  epoll = epoll_create1(EPOLL_CLOEXEC);
  if (epoll < 0) fail("epoll_create1", strerror(errno));
  watch(listener, EPOLLIN, &listener, EPOLL_CTL_ADD);
  is_listening = true;
  watch(stop, EPOLLIN, &stop, EPOLL_CTL_ADD);
  printf("listening on 127.0.0.1:%d\n", ntohs(options.listen.sin_port));
  fflush(stdout);

  for (bool stopped = false; !stopped;) {
    struct epoll_event events[64];
    int ready = epoll_wait(epoll, events, 64, time_to_sleep());
    if (ready < 0 && errno != EINTR) fail("epoll_wait", strerror(errno));
    if (curfew_now(table, &now) != CURFEW_OK) fail("curfew_now", "no clock");
    enforce();
    for (int i = 0; i < ready; i++) {
      if (events[i].data.ptr == &listener) accept_all();
      else if (events[i].data.ptr == &stop) stopped = true;
      else on_event(events[i].data.ptr, events[i].events);
    }
    while (closed) {
      struct pair *next = closed->next;
      free(closed);
      closed = next;
    }
    listen_again();
  }
  while (pairs) close_pair(pairs);
  while (closed) {
    struct pair *next = closed->next;
    free(closed);
    closed = next;
  }
  close(listener);
  close(stop);
  close(epoll);
  curfew_close(table);
  return 0;
}

#include "forward.h"

#include <string.h>

#include "cookies.h"

size_t room(const struct buffer *buffer) { return BUFFER - buffer->length; }

bool put(struct buffer *buffer, const void *data, size_t length) {
  if (length > room(buffer)) return false;
  memcpy(buffer->data + buffer->length, data, length);
  buffer->length += length;
  return true;
}

bool put_text(struct buffer *buffer, const char *text) { return put(buffer, text, strlen(text)); }

void drop(struct buffer *buffer, size_t length) {
  memmove(buffer->data, buffer->data + length, buffer->length - length);
  buffer->length -= length;
}

/* The cookies of a request, but for the one of the session that there is not. */
static void put_other_cookies(struct buffer *out, struct text cookies, const char *session_cookie) {
  struct text cookie;
  bool is_first = true;
  while (next_part(&cookies, &cookie)) {
    if (cookie.length == 0 || may_have_cookie(cookie, session_cookie)) continue;
    put_text(out, is_first ? "Cookie: " : "; ");
    put(out, cookie.at, cookie.length);
    is_first = false;
  }
  if (!is_first) put_text(out, "\r\n");
}

void put_headers(struct buffer *out, struct headers headers, enum message message, const char *session_cookie) {
  struct headers all = headers;
  struct text name, value;
  while (next_header(&headers, &name, &value)) {
    /* What frames the body is passed as it is, whatever the peer says about it. */
    bool frames = text_is(name, "content-length") || text_is(name, "transfer-encoding");
    if (is_hop_by_hop(name) || text_is(name, "curfew-subject")) continue;
    if (!frames && is_named_by_connection(all, name)) continue;
    /* It has no body, and no session begins with it: the client must not get an id that nobody took. */
    if (message == INTERIM_RESPONSE && (frames || text_is(name, "set-cookie"))) continue;
    if (message == REQUEST_WITHOUT_SESSION && text_is(name, "cookie")) {
      put_other_cookies(out, value, session_cookie);
      continue;
    }
    put(out, name.at, name.length);
    put_text(out, ": ");
    put(out, value.at, value.length);
    put_text(out, "\r\n");
  }
}

void put_status_line(struct buffer *out, const struct text part[3]) {
  put_text(out, "HTTP/1.1 ");
  put(out, part[1].at, part[1].length);
  put_text(out, " ");
  put(out, part[2].at, part[2].length);
  put_text(out, "\r\n");
}

bool pass(struct framing *framing, struct buffer *in, struct buffer *out) {
  size_t length = in->length < room(out) ? in->length : room(out);
  size_t taken = framing_take(framing, in->data, length);
  put(out, in->data, taken);
  drop(in, taken);
  return taken > 0;
}

bool pipe_on(struct buffer *in, struct buffer *out) {
  size_t length = in->length < room(out) ? in->length : room(out);
  put(out, in->data, length);
  drop(in, length);
  return length > 0;
}

#define _GNU_SOURCE
#include "http.h"

#include <string.h>
#include <strings.h>

bool text_is(struct text text, const char *word) {
  return text.length == strlen(word) && strncasecmp(text.at, word, text.length) == 0;
}

static bool is_token(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         (c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

struct text trimmed(const char *at, const char *end) {
  while (at < end && (*at == ' ' || *at == '\t')) at++;
  while (at < end && (end[-1] == ' ' || end[-1] == '\t')) end--;
  return (struct text){at, (size_t)(end - at)};
}

size_t head_length(const char *data, size_t length) {
  const char *end = memmem(data, length, "\r\n\r\n", 4);
  return end ? (size_t)(end - data) + 4 : 0;
}

/* A line that ends with CR LF, and has no other control characters in it. */
static bool next_line(const char **at, const char *end, struct text *line) {
  const char *cr = memchr(*at, '\r', (size_t)(end - *at));
  if (!cr || cr + 1 >= end || cr[1] != '\n') return false;
  *line = (struct text){*at, (size_t)(cr - *at)};
  *at = cr + 2;
  for (size_t i = 0; i < line->length; i++) {
    unsigned char c = (unsigned char)line->at[i];
    if ((c < ' ' && c != '\t') || c == 127) return false;
  }
  return true;
}

bool next_header(struct headers *headers, struct text *name, struct text *value) {
  struct text line;
  if (headers->bad || headers->at == headers->end) return false;
  if (!next_line(&headers->at, headers->end, &line)) {
    headers->bad = true;
    return false;
  }
  if (line.length == 0) return false;
  size_t colon = 0;
  while (colon < line.length && is_token(line.at[colon])) colon++;
  /* Also a continuation line, or a space before the colon, is how requests are smuggled. */
  if (colon == 0 || colon == line.length || line.at[colon] != ':') {
    headers->bad = true;
    return false;
  }
  *name = (struct text){line.at, colon};
  *value = trimmed(line.at + colon + 1, line.at + line.length);
  return true;
}

bool parse_head(const char *head, size_t length, struct text part[3], struct headers *headers) {
  const char *at = head, *end = head + length;
  struct text line;
  if (!next_line(&at, end, &line)) return false;
  const char *line_end = line.at + line.length;
  const char *first = memchr(line.at, ' ', line.length);
  if (!first) return false;
  const char *second = memchr(first + 1, ' ', (size_t)(line_end - first - 1));
  if (!second) second = line_end; /* a status line without a reason */
  part[0] = (struct text){line.at, (size_t)(first - line.at)};
  part[1] = (struct text){first + 1, (size_t)(second - first - 1)};
  part[2] = second < line_end ? (struct text){second + 1, (size_t)(line_end - second - 1)} : (struct text){second, 0};
  *headers = (struct headers){at, end, false};
  struct headers all = *headers;
  struct text name, value;
  while (next_header(&all, &name, &value)) {
  }
  return !all.bad;
}

bool is_hop_by_hop(struct text name) {
  static const char *const names[] = {"connection", "keep-alive", "proxy-connection", "te", "upgrade",
                                      "proxy-authenticate", "proxy-authorization"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (text_is(name, names[i])) return true;
  return false;
}

bool is_named_by_connection(struct headers headers, struct text wanted) {
  struct text name, value;
  while (next_header(&headers, &name, &value)) {
    if (!text_is(name, "connection")) continue;
    const char *at = value.at, *end = value.at + value.length;
    while (at < end) {
      const char *comma = memchr(at, ',', (size_t)(end - at));
      if (!comma) comma = end;
      const char *last = comma;
      while (at < last && (*at == ' ' || *at == '\t')) at++;
      while (at < last && (last[-1] == ' ' || last[-1] == '\t')) last--;
      if ((size_t)(last - at) == wanted.length && strncasecmp(at, wanted.at, wanted.length) == 0) return true;
      at = comma + (comma < end);
    }
  }
  return false;
}

bool asks_for(struct headers headers, const char *word) {
  return is_named_by_connection(headers, (struct text){word, strlen(word)});
}

bool wants_websocket(struct headers headers) {
  struct text name, value;
  struct headers all = headers;
  unsigned upgrades = 0;
  bool is_websocket = false;
  while (next_header(&headers, &name, &value)) {
    if (!text_is(name, "upgrade")) continue;
    is_websocket = text_is(value, "websocket");
    upgrades++;
  }
  return upgrades == 1 && is_websocket && is_named_by_connection(all, (struct text){"upgrade", 7});
}

int framing_of(struct headers headers, bool is_response, struct framing *framing) {
  struct text name, value;
  bool has_length = false, is_chunked = false;
  uint64_t length = 0;
  while (next_header(&headers, &name, &value)) {
    if (text_is(name, "transfer-encoding")) {
      if (is_chunked || !text_is(value, "chunked")) return 501;
      is_chunked = true;
    } else if (text_is(name, "content-length")) {
      uint64_t this = 0;
      if (value.length == 0 || value.length > 18) return 400;
      for (size_t i = 0; i < value.length; i++) {
        if (value.at[i] < '0' || value.at[i] > '9') return 400;
        this = this * 10 + (uint64_t)(value.at[i] - '0');
      }
      if (has_length && this != length) return 400;
      has_length = true;
      length = this;
    }
  }
  /* Two answers to where the body ends: the other side might choose the other one. */
  if (has_length && is_chunked) return 400;
  *framing = (struct framing){0};
  if (is_chunked) {
    framing->kind = BODY_CHUNKED;
  } else if (has_length) {
    framing->kind = BODY_LENGTH;
    framing->left = length;
    framing->done = length == 0;
  } else if (is_response) {
    framing->kind = BODY_UNTIL_CLOSE;
  } else {
    framing->kind = BODY_NONE;
    framing->done = true;
  }
  return 0;
}

static int digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

/* One byte of a chunked body that is not data. */
static void chunk_byte(struct framing *f, char c) {
  switch (f->chunk) {
  case CHUNK_SIZE:
    if (digit(c) >= 0 && f->digits < 15) {
      f->left = f->left * 16 + (uint64_t)digit(c);
      f->digits++;
    } else if (f->digits > 0 && c == ';') {
      f->chunk = CHUNK_EXTENSION;
    } else if (f->digits > 0 && c == '\r') {
      f->chunk = CHUNK_SIZE_LF;
    } else {
      f->bad = true;
    }
    break;
  case CHUNK_EXTENSION:
    if (c == '\r') f->chunk = CHUNK_SIZE_LF;
    if (c == '\n') f->bad = true;
    break;
  case CHUNK_SIZE_LF:
    f->bad = c != '\n';
    f->chunk = f->left > 0 ? CHUNK_DATA : TRAILER_START;
    break;
  case CHUNK_CR:
    f->bad = c != '\r';
    f->chunk = CHUNK_LF;
    break;
  case CHUNK_LF:
    f->bad = c != '\n';
    f->chunk = CHUNK_SIZE;
    f->digits = 0;
    break;
  case TRAILER_START:
    f->chunk = c == '\r' ? LAST_LF : TRAILER;
    f->bad = c == '\n';
    break;
  case TRAILER:
    if (c == '\r') f->chunk = TRAILER_LF;
    if (c == '\n') f->bad = true;
    break;
  case TRAILER_LF:
    f->bad = c != '\n';
    f->chunk = TRAILER_START;
    break;
  case LAST_LF:
    f->bad = c != '\n';
    f->done = true;
    break;
  case CHUNK_DATA:
    break;
  }
}

size_t framing_take(struct framing *f, const char *data, size_t length) {
  size_t taken = 0;
  while (taken < length && !f->done && !f->bad) {
    size_t here = length - taken;
    if (f->kind == BODY_UNTIL_CLOSE) return length;
    if (f->kind == BODY_CHUNKED && f->chunk != CHUNK_DATA) {
      chunk_byte(f, data[taken++]);
      continue;
    }
    if (here > f->left) here = (size_t)f->left;
    taken += here;
    f->left -= here;
    if (f->left > 0) continue;
    if (f->kind == BODY_CHUNKED) f->chunk = CHUNK_CR;
    else f->done = true;
  }
  return taken;
}

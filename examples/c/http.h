/* As much of HTTP/1.1 (RFC 9112) as a proxy must understand: heads, and where a body ends. */
#ifndef HTTP_H
#define HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct text {
  const char *at;
  size_t length;
};

bool text_is(struct text text, const char *word);        /* without regard to case */
struct text trimmed(const char *at, const char *end); /* without the white space around it */

/* One header line after the other. */
struct headers {
  const char *at, *end;
  bool bad; /* a line that is no header: the message must be refused */
};

bool next_header(struct headers *headers, struct text *name, struct text *value);

/* Length of the head at the start of `data`, with its empty line; 0 if its end is not there yet. */
size_t head_length(const char *data, size_t length);

/* The first line's three parts, and the headers after it. */
bool parse_head(const char *head, size_t length, struct text part[3], struct headers *headers);

/* Whether a header belongs to this connection alone and is not passed on. */
bool is_hop_by_hop(struct text name);

/* Whether Connection headers name it, which makes it one of those as well (RFC 9110, 7.6.1). */
bool is_named_by_connection(struct headers headers, struct text wanted);
bool asks_for(struct headers headers, const char *word); /* the same: close, say */

/* A WebSocket. Anything else that a connection may be made into would go round the next decision. */
bool wants_websocket(struct headers headers);

/* Where a body ends. */
struct framing {
  enum { BODY_NONE, BODY_LENGTH, BODY_CHUNKED, BODY_UNTIL_CLOSE } kind;
  bool done, bad;
  uint64_t left;
  enum { CHUNK_SIZE, CHUNK_EXTENSION, CHUNK_SIZE_LF, CHUNK_DATA, CHUNK_CR, CHUNK_LF, TRAILER_START, TRAILER,
         TRAILER_LF, LAST_LF } chunk;
  unsigned digits;
};

/* What the headers of a message say about its body. Answers the status to refuse it with, or 0. */
int framing_of(struct headers headers, bool is_response, struct framing *framing);

/* How many of these bytes belong to the body. */
size_t framing_take(struct framing *framing, const char *data, size_t length);

#endif

/* What a proxy passes on: heads without what is not for the other side, and bodies as they are. */
#ifndef FORWARD_H
#define FORWARD_H

#include "http.h"

enum { BUFFER = 16384 };

struct buffer {
  char data[BUFFER];
  size_t length;
};

size_t room(const struct buffer *buffer);
bool put(struct buffer *buffer, const void *data, size_t length); /* all of it or nothing */
bool put_text(struct buffer *buffer, const char *text);
void drop(struct buffer *buffer, size_t length); /* from the front */

enum message { REQUEST, REQUEST_WITHOUT_SESSION, INTERIM_RESPONSE, RESPONSE };

void put_status_line(struct buffer *out, const struct text part[3]);

/* Those headers that are for the other side. */
void put_headers(struct buffer *out, struct headers headers, enum message message, const char *session_cookie);

/* Passes on as much of a body as there is, and room for. False if that is nothing. */
bool pass(struct framing *framing, struct buffer *in, struct buffer *out);

/* The same for what is no message of HTTP any more. */
bool pipe_on(struct buffer *in, struct buffer *out);

#endif

/* The cookie that has the session id (RFC 6265): where applications may find it in a request, and what a response does
 * with it to sessions. */
#ifndef COOKIES_H
#define COOKIES_H

#include <curfew.h>

#include "http.h"

/* The value of a cookie. 1 if it is there, 0 if not, -1 if it is there twice, or where the application might find it
 * and this does not. */
int find_cookie(struct headers headers, const char *name, struct text *value);

/* One cookie of a Cookie header, or one attribute of a Set-Cookie header, after the other. */
bool next_part(struct text *header, struct text *part);

/* Whether some application might find the cookie in this part of a Cookie header. */
bool may_have_cookie(struct text part, const char *name);

/* The session of a request. */
struct session {
  bool has_id;        /* its client sent one, */
  curfew_key id;      /* this */
  bool is_live;       /* as far as is known; a session that the response ended is not */
  curfew_watch watch; /* of a live one */
  bool is_new;        /* the response has begun it, or given it its id */
};

/* Where sessions are, what they begin with, and what time it is. */
struct place {
  curfew_table table;
  uint32_t policy;
  curfew_tick now;
};

/* Does to sessions what a response says by its Set-Cookie headers of this name, and by Curfew-Subject. Unless that is
 * CURFEW_OK, there can be no session for the cookie, and the client must not get it. A response with an error
 * (`has_failed`) begins no session. */
curfew_status take_cookies(const struct place *place, struct session *session, struct headers headers, const char *name,
                           bool has_failed);

#endif

/* The cookie that has the session id (RFC 6265). */
#ifndef COOKIES_H
#define COOKIES_H

#include "http.h"

/* The value of a cookie. 1 if it is there, 0 if not, -1 if it is there twice, or where the application might find it and
 * this does not. */
int find_cookie(struct headers headers, const char *name, struct text *value);

/* The value that a Set-Cookie header gives to a cookie. */
bool set_cookie(struct text header, const char *name, struct text *value);

#endif

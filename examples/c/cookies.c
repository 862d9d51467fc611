#define _GNU_SOURCE
#include "cookies.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static bool cookie_pair(const char *at, const char *end, const char *name, struct text *value) {
  struct text pair = trimmed(at, end);
  const char *equals = memchr(pair.at, '=', pair.length);
  if (!equals) return false;
  struct text key = trimmed(pair.at, equals);
  if (key.length != strlen(name) || memcmp(key.at, name, key.length) != 0) return false;
  *value = trimmed(equals + 1, pair.at + pair.length);
  return true;
}

static bool is_blank(char c) { return (unsigned char)c <= ' ' || (unsigned char)c >= 0x7f; }

/* The byte that a text begins with, which may be percent-encoded, as some applications read names. */
static char spelt(const char **at, const char *end) {
  char c = *(*at)++;
  if (c != '%' || end - *at < 2 || !isxdigit((unsigned char)(*at)[0]) || !isxdigit((unsigned char)(*at)[1])) return c;
  const char digits[] = {(*at)[0], (*at)[1], 0};
  *at += 2;
  return (char)strtol(digits, NULL, 16);
}

/* Whether some application might find the cookie where a text begins. White space of any kind may stand around its
 * name, and PHP has "_" for ".", a space and "[". */
static bool may_be_cookie(const char *at, const char *end, const char *name) {
  for (; *name; name++) {
    if (at == end) return false;
    char c = spelt(&at, end);
    bool is_it = tolower((unsigned char)c) == tolower((unsigned char)*name);
    if (!is_it && !(*name == '_' && strchr(". [+", c) && c)) return false;
  }
  while (at < end && is_blank(*at)) at++;
  return at < end && *at == '=';
}

int find_cookie(struct headers headers, const char *name, struct text *value) {
  struct text header, cookies;
  int found = 0, may_be = 0;
  while (next_header(&headers, &header, &cookies)) {
    if (!text_is(header, "cookie")) continue;
    const char *at = cookies.at, *end = cookies.at + cookies.length;
    for (const char *from = at; from < end; from++)
      if (from == at || from[-1] == ';' || from[-1] == ',' || is_blank(from[-1])) may_be += may_be_cookie(from, end, name);
    while (at < end) {
      const char *semicolon = memchr(at, ';', (size_t)(end - at));
      if (!semicolon) semicolon = end;
      found += cookie_pair(at, semicolon, name, value);
      at = semicolon + (semicolon < end);
    }
  }
  return found > 1 || may_be != found ? -1 : found;
}

bool set_cookie(struct text header, const char *name, struct text *value) {
  const char *semicolon = memchr(header.at, ';', header.length);
  return cookie_pair(header.at, semicolon ? semicolon : header.at + header.length, name, value);
}

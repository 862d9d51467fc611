#define _GNU_SOURCE
#include "cookies.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum {
  OVERLAP_MS = 5000, /* how long an id that was replaced still answers, for requests that are on their way */
  TRIES = 16,        /* how often others may replace one while this does */
};

bool next_part(struct text *header, struct text *part) {
  if (header->length == 0) return false;
  const char *at = header->at, *end = at + header->length;
  const char *semicolon = memchr(at, ';', header->length);
  if (!semicolon) semicolon = end;
  *part = trimmed(at, semicolon);
  header->at = semicolon + (semicolon < end);
  header->length = (size_t)(end - header->at);
  return true;
}

static bool split(struct text part, struct text *name, struct text *value) {
  const char *equals = memchr(part.at, '=', part.length);
  if (!equals) return false;
  *name = trimmed(part.at, equals);
  *value = trimmed(equals + 1, part.at + part.length);
  return true;
}

static bool is_cookie(struct text part, const char *name, struct text *value) {
  struct text its, found;
  if (!split(part, &its, &found) || its.length != strlen(name) || memcmp(its.at, name, its.length) != 0) return false;
  *value = found;
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
 * name, and PHP has "_" for ".", a space and "[". It reads "+" as a space, and decodes before it skips spaces in front
 * and ends the name at a NUL. */
static bool may_be_cookie(const char *at, const char *end, const char *name) {
  while (at < end && (*at == '+' || *at == '%')) {
    const char *next = at;
    char c = spelt(&next, end);
    if (c != '+' && !is_blank(c)) break;
    at = next;
  }
  for (; *name; name++) {
    if (at == end) return false;
    char c = spelt(&at, end);
    bool is_it = tolower((unsigned char)c) == tolower((unsigned char)*name);
    if (!is_it && !(*name == '_' && strchr(". [+", c) && c)) return false;
  }
  while (at < end && *at != '=') {
    char c = spelt(&at, end);
    if (c == 0) return true; /* what follows would be looked through again for each */
    if (!is_blank(c)) return false;
  }
  return at < end;
}

/* In how many places of a part some application might find the cookie. A few separate cookies by white space too. */
static int places(struct text part, const char *name) {
  const char *end = part.at + part.length;
  int count = 0;
  for (const char *at = part.at; at < end; at++)
    if (at == part.at || at[-1] == ',' || is_blank(at[-1])) count += may_be_cookie(at, end, name);
  return count;
}

bool may_have_cookie(struct text part, const char *name) { return places(part, name) > 0; }

int find_cookie(struct headers headers, const char *name, struct text *value) {
  struct text header, cookies, part;
  int found = 0, may_be = 0;
  while (next_header(&headers, &header, &cookies)) {
    if (!text_is(header, "cookie")) continue;
    while (next_part(&cookies, &part)) {
      found += is_cookie(part, name, value);
      may_be += places(part, name);
    }
  }
  return found > 1 || may_be != found ? -1 : found;
}

/* Reads whether a Max-Age leaves no time. Clients ignore one that is no number. */
static bool read_age(struct text value, bool *is_over) {
  size_t sign = value.length > 0 && value.at[0] == '-';
  bool is_zero = true;
  if (value.length == sign) return false;
  for (size_t i = sign; i < value.length; i++) {
    if (!isdigit((unsigned char)value.at[i])) return false;
    is_zero = is_zero && value.at[i] == '0';
  }
  *is_over = sign || is_zero;
  return true;
}

/* Reads whether a date is in the past. All dates are in GMT, whatever they say. */
static void read_date(struct text value, bool *is_over) {
  static const char *const forms[] = {"%a, %d %b %Y %H:%M:%S", "%a, %d-%b-%Y %H:%M:%S", "%a, %d-%b-%y %H:%M:%S",
                                      "%a %b %d %H:%M:%S %Y"};
  char text[64];
  if (value.length >= sizeof text) return;
  memcpy(text, value.at, value.length);
  text[value.length] = 0;
  for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
    struct tm date = {0};
    /* "%Y" takes two digits as well, for a year of the Romans. */
    if (!strptime(text, forms[i], &date) || date.tm_year < 1601 - 1900) continue;
    *is_over = timegm(&date) <= time(NULL);
    return;
  }
}

/* Whether a Set-Cookie makes the client forget the cookie. Frameworks also give it a value then, and a time that is
 * over. */
static bool clears(struct text value, struct text attributes) {
  struct text attribute, name, its;
  bool has_age = false, is_aged = false, is_past = false;
  if (value.length == 0 || text_is(value, "\"\"")) return true;
  while (next_part(&attributes, &attribute)) {
    if (!split(attribute, &name, &its)) continue;
    if (text_is(name, "max-age") && read_age(its, &is_aged)) has_age = true;
    else if (text_is(name, "expires")) read_date(its, &is_past);
  }
  return has_age ? is_aged : is_past;
}

/* Where a cookie belongs: clients have one for each. */
struct home {
  struct text domain, path;
};

static struct home home_of(struct text attributes) {
  struct text attribute, name, its;
  struct home home = {{NULL, 0}, {NULL, 0}};
  while (next_part(&attributes, &attribute)) {
    if (!split(attribute, &name, &its)) continue;
    if (text_is(name, "path")) home.path = its;
    if (text_is(name, "domain")) home.domain = its;
  }
  if (home.domain.length > 0 && home.domain.at[0] == '.') home.domain.at++, home.domain.length--;
  return home;
}

static bool is_equal(struct text one, struct text other) {
  return one.length == other.length && (one.length == 0 || strncasecmp(one.at, other.at, one.length) == 0);
}

enum change { KEPT, CLEARED, SET, ANEW };

static bool next_change(struct headers *headers, const char *name, struct text *value, struct text *attributes) {
  struct text header, part;
  while (next_header(headers, &header, attributes))
    if (text_is(header, "set-cookie") && next_part(attributes, &part) && is_cookie(part, name, value)) return true;
  return false;
}

/* What all Set-Cookie headers of a response together do to a cookie: a value counts before a clearing, and of several
 * values the last one. If one of the same domain and path is cleared as well, it is another session's. */
static enum change change_of(struct headers headers, const char *name, struct text *value) {
  struct text its, attributes;
  struct home home = {{NULL, 0}, {NULL, 0}};
  enum change change = KEPT;
  for (struct headers rest = headers; next_change(&rest, name, &its, &attributes);) {
    if (clears(its, attributes)) {
      if (change == KEPT) change = CLEARED;
      continue;
    }
    *value = its;
    home = home_of(attributes);
    change = SET;
  }
  if (change != SET) return change;
  for (struct headers rest = headers; next_change(&rest, name, &its, &attributes);) {
    struct home other = home_of(attributes);
    if (clears(its, attributes) && is_equal(other.domain, home.domain) && is_equal(other.path, home.path)) change = ANEW;
  }
  return change;
}

static bool is_same(const curfew_key *one, const curfew_key *other) { return memcmp(one, other, sizeof *one) == 0; }

/* Whether a live session is this subject's. */
static bool is_of(const struct place *place, const curfew_key *key, curfew_subject subject) {
  curfew_session *sessions = NULL;
  size_t room = 0, count = 0;
  bool is_its = false;
  while (curfew_list_subject(place->table, subject, place->now, sessions, room, &count) == CURFEW_OK && count > room) {
    free(sessions);
    room = count + 8; /* others may begin meanwhile */
    sessions = calloc(room, sizeof *sessions);
    if (!sessions) return false;
    sessions[0] = curfew_session_init();
  }
  for (size_t i = 0; i < count; i++) is_its = is_its || is_same(&sessions[i].key, key);
  free(sessions);
  return is_its;
}

/* Whom the application says that the session belongs to; zero if it does not say. */
static curfew_status read_subject(const struct place *place, struct headers headers, curfew_subject *subject) {
  struct text name, value;
  curfew_status status = CURFEW_OK;
  *subject = 0;
  while (status == CURFEW_OK && next_header(&headers, &name, &value)) {
    if (text_is(name, "curfew-subject"))
      status = curfew_derive_subject(place->table, (const uint8_t *)value.at, value.length, subject);
  }
  return status;
}

/* What else is open of the session is closed. The request that ends it gets its answer. */
static curfew_status end(const struct place *place, struct session *session) {
  session->is_live = false;
  return curfew_end(place->table, &session->watch.key, CURFEW_CAUSE_LOGOUT, place->now);
}

static curfew_status begin(const struct place *place, const curfew_key *key, curfew_subject subject) {
  curfew_start_options start = curfew_start_options_init(place->policy);
  start.subject = subject;
  return curfew_start(place->table, key, &start, place->now, NULL);
}

/* Whether an id is the one that the client came with. */
static bool is_clients(const struct place *place, const struct session *session, struct text id) {
  curfew_key key;
  return session->has_id && curfew_derive_key(place->table, (const uint8_t *)id.at, id.length, &key) == CURFEW_OK &&
         is_same(&key, &session->id);
}

/* Gives a live session its new id, if it is this subject's. Another process may do so at the same time: then it is asked
 * again whose it is, and which key it has. */
static curfew_status renew(const struct place *place, struct session *session, const curfew_key *key,
                           curfew_subject subject, bool *is_its) {
  curfew_watch *watch = &session->watch;
  for (int i = 0; i < TRIES; i++) {
    curfew_key before = watch->key;
    curfew_verdict verdict = curfew_verdict_init();
    curfew_status status = CURFEW_OK;
    *is_its = subject == 0 || is_of(place, &before, subject);
    if (*is_its) {
      if (is_same(key, &session->id) || is_same(key, &before)) return CURFEW_OK; /* not a new one */
      status = curfew_rotate(place->table, &before, key, OVERLAP_MS, place->now, NULL);
      session->is_new = status == CURFEW_OK;
      if (session->is_new) *watch = curfew_watch_init(*key, 0);
      if (status != CURFEW_ROTATED_ALREADY) return status;
    }
    curfew_status asked = curfew_peek_watched(place->table, watch, place->now, &verdict);
    if (asked != CURFEW_OK) return asked;
    if (is_same(&watch->key, &before)) return status;
  }
  return CURFEW_ROTATED_ALREADY;
}

/* The application has issued an id: a session goes on under it, unless it is somebody else's. */
static curfew_status take_id(const struct place *place, struct session *session, struct text id, curfew_subject subject,
                             bool has_failed) {
  curfew_key key;
  curfew_status status = curfew_derive_key(place->table, (const uint8_t *)id.at, id.length, &key);
  if (status != CURFEW_OK) return status;
  bool is_its = false;
  if (session->is_live) status = renew(place, session, &key, subject, &is_its);
  if (status != CURFEW_OK || is_its) return status;
  /* If somebody ended it a moment ago, no other one takes its place. */
  if (session->is_live) status = end(place, session);
  if (status != CURFEW_OK || has_failed) return status;
  /* Whoever gave the client its id may know it. */
  status = is_clients(place, session, id) ? CURFEW_KEY_TAKEN : begin(place, &key, subject);
  if (status != CURFEW_OK) return status;
  session->watch = curfew_watch_init(key, 0);
  session->is_live = session->is_new = true;
  return CURFEW_OK;
}

curfew_status take_cookies(const struct place *place, struct session *session, struct headers headers, const char *name,
                           bool has_failed) {
  struct text id = {NULL, 0};
  curfew_subject subject;
  curfew_verdict verdict = curfew_verdict_init();
  enum change change = change_of(headers, name, &id);
  if (change == KEPT || (change == CLEARED && !session->is_live)) return CURFEW_OK;
  /* A request beside this one may have got the session a new id meanwhile: the watch learns of it here. */
  curfew_status status = CURFEW_OK;
  if (session->is_live) status = curfew_peek_watched(place->table, &session->watch, place->now, &verdict);
  if (status != CURFEW_OK) return status;
  /* Nothing is taken away where the same is given again. */
  if (change == ANEW && is_clients(place, session, id)) change = SET;
  if (session->is_live && change != SET) {
    status = end(place, session);
    /* One that had ended before is as the application wants it; but no other one takes its place. */
    bool had_ended = status == CURFEW_SESSION_ENDED || status == CURFEW_UNKNOWN_SESSION;
    if (change == CLEARED) return had_ended ? CURFEW_OK : status;
    if (status != CURFEW_OK) return status;
  }
  status = read_subject(place, headers, &subject);
  return status == CURFEW_OK ? take_id(place, session, id, subject, has_failed) : status;
}

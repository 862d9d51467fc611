/* Looks at a region that a proxy has open, and ends sessions in it.
 *
 *   sessions REGION list                 every session: key, state, idle and total time left
 *   sessions REGION events               what has ended and what was cut, as far as it is remembered
 *   sessions REGION stats
 *   sessions REGION end KEY              one session, by the key that list shows
 *   sessions REGION end-subject NAME     all sessions of a user
 *   sessions REGION snapshot FILE        everything, for after a reboot; the proxy goes on meanwhile
 *   sessions REGION restore FILE [CAPACITY]
 *                                        makes the region from that, larger if need be; the proxy is not running
 *
 * Exits with 0 if done, 1 if there was nothing to end, 2 if it could not. */
#include <curfew.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failed(const char *what, const char *why) {
  fprintf(stderr, "sessions: %s: %s\n", what, why);
  return 2;
}

static int refused(const char *what, curfew_status status) { return failed(what, curfew_status_text(status)); }

static int list(curfew_table table, curfew_tick now) {
  uint64_t cursor = 0;
  while (cursor != CURFEW_LAST_PAGE) {
    curfew_session page[64];
    size_t count = 0;
    page[0] = curfew_session_init();
    curfew_status status = curfew_list(table, now, &cursor, page, 64, &count);
    if (status != CURFEW_OK) return refused("list", status);
    for (size_t i = 0; i < count; i++) {
      const curfew_session *session = &page[i];
      char key[CURFEW_KEY_TEXT_SIZE], policy[CURFEW_POLICY_NAME_SIZE] = "?";
      curfew_key_text(&session->key, key, sizeof key);
      curfew_policy_name(table, session->policy, policy, sizeof policy);
      printf("%s %s %s policy=%s subject=%016" PRIx64 " age=%" PRIu64 " idle=%" PRIu64 " ", key,
             curfew_state_name(session->state), curfew_cause_name(session->cause), policy, session->subject,
             now > session->start ? now - session->start : 0, now > session->last ? now - session->last : 0);
      if (session->end == CURFEW_NEVER) printf("end=never\n");
      else printf("end=%+" PRId64 "\n", (int64_t)session->end - (int64_t)now);
    }
  }
  return 0;
}

static int events(curfew_table table) {
  uint64_t cursor = 0;
  size_t count;
  curfew_status status = curfew_event_range(table, &cursor, NULL);
  if (status != CURFEW_OK) return refused("events", status);
  do {
    curfew_event page[64];
    page[0] = curfew_event_init();
    status = curfew_read_events(table, &cursor, page, 64, &count, NULL);
    if (status != CURFEW_OK) return refused("events", status);
    for (size_t i = 0; i < count; i++) {
      char key[CURFEW_KEY_TEXT_SIZE];
      const char *what = page[i].what == CURFEW_EVENT_ENDED ? "ended"
                         : page[i].what == CURFEW_EVENT_CUT ? "cut"
                                                            : "rotated";
      curfew_key_text(&page[i].key, key, sizeof key);
      printf("%" PRIu64 " %s %s %s at=%" PRIu64 " age=%" PRIu64 " idle=%" PRIu64, page[i].number, key, what,
             curfew_cause_name(page[i].cause), page[i].at, page[i].age_ms, page[i].idle_ms);
      if (page[i].what == CURFEW_EVENT_CUT) printf(" bytes=%" PRIu64, page[i].bytes);
      printf("\n");
    }
  } while (count > 0);
  return 0;
}

static int stats(curfew_table table) {
  curfew_stats stats = curfew_stats_init();
  curfew_status status = curfew_get_stats(table, &stats);
  if (status != CURFEW_OK) return refused("stats", status);
  printf("capacity=%" PRIu64 " used=%" PRIu64 " live=%" PRIu64 " started=%" PRIu64, stats.capacity, stats.used,
         stats.live, stats.started);
  for (uint32_t cause = 1; cause < 10; cause++) printf(" %s=%" PRIu64, curfew_cause_name(cause), stats.ended[cause]);
  printf("\n");
  return 0;
}

static int end(curfew_table table, const char *text, curfew_tick now) {
  curfew_key key;
  if (curfew_key_parse(text, &key) != CURFEW_OK) return failed(text, "a key has 32 hexadecimal digits");
  curfew_status status = curfew_end(table, &key, CURFEW_CAUSE_REVOKED, now);
  if (status == CURFEW_OK) return 0;
  refused(text, status);
  return status == CURFEW_UNKNOWN_SESSION || status == CURFEW_SESSION_ENDED ? 1 : 2;
}

static int end_subject(curfew_table table, const char *name, curfew_tick now) {
  curfew_subject subject;
  uint64_t ended = 0;
  curfew_status status = curfew_derive_subject(table, (const uint8_t *)name, strlen(name), &subject);
  if (status == CURFEW_OK) status = curfew_end_subject(table, subject, CURFEW_CAUSE_REVOKED, now, &ended);
  if (status != CURFEW_OK) return refused(name, status);
  printf("%" PRIu64 "\n", ended);
  return ended > 0 ? 0 : 1;
}

static int snapshot(curfew_table table, const char *file) {
  curfew_error error = curfew_error_init();
  curfew_snapshotted written = curfew_snapshotted_init();
  if (curfew_snapshot(table, file, &error, &written) != CURFEW_OK) return failed(file, error.message);
  printf("live=%" PRIu64 " ended=%" PRIu64 " bytes=%" PRIu64 "\n", written.live, written.ended, written.bytes);
  return 0;
}

static int restore(const char *region, const char *file, const char *capacity) {
  curfew_table table;
  curfew_error error = curfew_error_init();
  curfew_restored restored = curfew_restored_init();
  curfew_restore_options options = curfew_restore_options_init();
  if (capacity) options.capacity = strtoull(capacity, NULL, 10);
  if (curfew_restore(file, region, &options, &error, &restored, &table) != CURFEW_OK)
    return failed(file, error.message);
  printf("live=%" PRIu64 " over=%" PRIu64 " ended=%" PRIu64 " downtime=%" PRIu64 "\n", restored.live, restored.over,
         restored.ended, restored.downtime_ms);
  curfew_close(table);
  return 0;
}

int main(int count, char **arguments) {
  curfew_table table;
  curfew_tick now;
  curfew_error error = curfew_error_init();
  int result = 2;
  if (count < 3)
    return failed("usage", "sessions REGION list | events | stats | end KEY | end-subject NAME | snapshot FILE | "
                           "restore FILE [CAPACITY]");
  if (!strcmp(arguments[2], "restore") && (count == 4 || count == 5))
    return restore(arguments[1], arguments[3], count == 5 ? arguments[4] : NULL);
  if (curfew_open(arguments[1], &error, &table) != CURFEW_OK) return failed(arguments[1], error.message);
  curfew_status status = curfew_now(table, &now);
  if (status != CURFEW_OK) result = refused("now", status);
  else if (!strcmp(arguments[2], "list") && count == 3) result = list(table, now);
  else if (!strcmp(arguments[2], "events") && count == 3) result = events(table);
  else if (!strcmp(arguments[2], "stats") && count == 3) result = stats(table);
  else if (!strcmp(arguments[2], "end") && count == 4) result = end(table, arguments[3], now);
  else if (!strcmp(arguments[2], "end-subject") && count == 4) result = end_subject(table, arguments[3], now);
  else if (!strcmp(arguments[2], "snapshot") && count == 4) result = snapshot(table, arguments[3]);
  else result = failed(arguments[2], "no such thing to do");
  curfew_close(table);
  return result;
}

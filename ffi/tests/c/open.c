/* Goes with look() of docs/c-api.md, which tests/check puts before it: 20,000 connections, of which exactly those are cut
 * whose sessions have ended, for whatever cause. */
#include <stdio.h>
#include <stdlib.h>

enum { CONNECTIONS = 20000, USERS = 100 };
static unsigned cuts;

static void cut(struct open *open) {
  cuts++;
  open->watch.key = (curfew_key){{0}}; /* as if closed; asked again, it would be cut again, and counted */
}

/* Those that were cut leave, as a program would do it. */
static void sweep(struct opens *opens) {
  size_t left = 0;
  for (size_t i = 0; i < opens->count; i++) {
    static const curfew_key none;
    if (memcmp(&opens->all[i].watch.key, &none, sizeof none) != 0) opens->all[left++] = opens->all[i];
  }
  opens->count = left;
}

static void expect(curfew_table table, struct opens *opens, curfew_tick now, unsigned expected, int line) {
  cuts = 0;
  curfew_status status = look(table, opens, now, cut);
  sweep(opens);
  if (status == CURFEW_OK && cuts == expected) return;
  fprintf(stderr, "open.c:%d: %s, %u cuts, not %u\n", line, curfew_status_name(status), cuts, expected);
  exit(1);
}
#define EXPECT(now, expected) expect(table, &opens, now, expected, __LINE__)

int main(void) {
  curfew_table table;
  curfew_config config = curfew_config_init(2 * CONNECTIONS);
  curfew_policy limits = curfew_policy_init();
  struct opens opens = {.all = calloc(CONNECTIONS, sizeof *opens.all), .nearest = CURFEW_NEVER};
  curfew_key key, second;
  uint32_t policy;
  limits.idle_ms = 60000;
  if (!opens.all || curfew_create_private(&config, NULL, &table) != CURFEW_OK) return 1;
  if (curfew_set_policy(table, "staff", &limits, 0, NULL, &policy) != CURFEW_OK) return 1;
  curfew_changes(table, &opens.seen);
  for (unsigned i = 0; i < CONNECTIONS; i++) {
    curfew_start_options start = curfew_start_options_init(policy);
    start.subject = 1 + i % USERS;
    curfew_derive_key(table, (const uint8_t *)&i, sizeof i, &key);
    if (curfew_start(table, &key, &start, i, NULL) != CURFEW_OK) return 1;
    opens.all[opens.count++] = (struct open){curfew_watch_init(key, 0), i + 60000, CURFEW_CAUSE_IDLE, i};
    if (opens.nearest > i + 60000) opens.nearest = i + 60000;
  }
  EXPECT(30000, 0);
  /* By subject; a rotation ends nothing, also not when the old id has stopped to answer. */
  curfew_end_subject(table, 7, CURFEW_CAUSE_REVOKED, 30000, NULL);
  EXPECT(30000, CONNECTIONS / USERS);
  EXPECT(30000, 0);
  key = opens.all[0].watch.key;
  curfew_derive_key(table, (const uint8_t *)"second", 6, &second);
  curfew_rotate(table, &key, &second, 10, 30000, NULL);
  EXPECT(30005, 0);
  EXPECT(50000, 0);
  if (memcmp(&opens.all[0].watch.key, &second, sizeof second) != 0) return 1;
  /* Deadlines, which nobody has put on record: those that began in the first 100 ms, less one of user 7, but the one
   * that bytes came from. */
  curfew_verdict verdict = curfew_verdict_init();
  curfew_touch_watched(table, &opens.all[0].watch, 50000, &verdict);
  if (!verdict.passes || opens.nearest != 60000) return 1;
  EXPECT(59999, 0);
  EXPECT(60099, 98);
  EXPECT(60099, 0);
  /* A tighter policy is a change as well: all but the one have been idle for longer than a second. */
  limits.idle_ms = 20000;
  if (curfew_set_policy(table, "staff", &limits, 60200, NULL, &policy) != CURFEW_OK) return 1;
  EXPECT(60200, CONNECTIONS - CONNECTIONS / USERS - 98 - 1);
  EXPECT(69999, 0);
  EXPECT(70000, 1);

  /* Every cut is an event with its bytes, as far as they are remembered; there are more than that. */
  curfew_event event = curfew_event_init();
  uint64_t cursor = 0, seen = 0;
  size_t count;
  while (curfew_read_events(table, &cursor, &event, 1, &count, NULL) == CURFEW_OK && count == 1)
    seen += event.what == CURFEW_EVENT_CUT && event.bytes < CONNECTIONS;
  if (seen < 100) return 1;
  free(opens.all);
  return curfew_close(table);
}

/* What a program may do wrong, and what it is told. Plain C against the library as
 * it is installed: abuse DIRECTORY, which must be empty. */
#include "check.h"

static void null_pointers_are_told(void) {
  curfew_table table = create(NULL), other;
  curfew_config config = curfew_config_init(10);
  curfew_policy policy = curfew_policy_init();
  curfew_start_options options = curfew_start_options_init(0);
  curfew_verdict verdict = curfew_verdict_init();
  curfew_session session = curfew_session_init();
  curfew_event event = curfew_event_init();
  curfew_filter filter = curfew_filter_init();
  curfew_key key = start(table, "id");
  curfew_watch watch = curfew_watch_init(key, 0);
  uint64_t cursor = 0;
  size_t count = 0;
  uint32_t number;
  (void)filter;
#define NULLS(call) ANSWERS(CURFEW_NULL_ARGUMENT, call)
  NULLS(curfew_bytes_needed(NULL, NULL, &count));
  NULLS(curfew_bytes_needed(&config, NULL, NULL));
  NULLS(curfew_create_private(NULL, NULL, &other));
  NULLS(curfew_create_private(&config, NULL, NULL));
  NULLS(curfew_create(NULL, &config, NULL, &other));
  NULLS(curfew_create(path_of("null"), NULL, NULL, &other));
  NULLS(curfew_create(path_of("null"), &config, NULL, NULL));
  NULLS(curfew_open(NULL, NULL, &other));
  NULLS(curfew_open(path_of("null"), NULL, NULL));
  NULLS(curfew_open_or_create(NULL, &config, NULL, &other));
  NULLS(curfew_create_in(NULL, 1 << 20, NULL, &config, NULL, &other));
  NULLS(curfew_open_in(NULL, 1 << 20, path_of("null"), NULL, &other));
  NULLS(curfew_now(table, NULL));
  NULLS(curfew_tick_of_unix_time(table, 0, NULL));
  NULLS(curfew_next_due(table, NULL));
  NULLS(curfew_get_stats(table, NULL));
  NULLS(curfew_set_policy(table, NULL, &policy, T, NULL, &number));
  NULLS(curfew_set_policy(table, "x", NULL, T, NULL, &number));
  NULLS(curfew_set_policy(table, "x", &policy, T, NULL, NULL));
  NULLS(curfew_find_policy(table, NULL, &number));
  NULLS(curfew_find_policy(table, "staff", NULL));
  NULLS(curfew_get_policy(table, 0, NULL));
  NULLS(curfew_policy_name(table, 0, NULL, 100));
  NULLS(curfew_derive_key(table, NULL, 1, &key));
  NULLS(curfew_derive_key(table, (const uint8_t *)"x", 1, NULL));
  NULLS(curfew_derive_subject(table, NULL, 1, &cursor));
  NULLS(curfew_derive_binding(table, NULL, 1, &cursor));
  NULLS(curfew_key_text(NULL, (char *)&verdict, 40));
  NULLS(curfew_key_text(&key, NULL, 40));
  NULLS(curfew_key_parse(NULL, &key));
  NULLS(curfew_touch(table, NULL, 0, T, &verdict));
  NULLS(curfew_touch(table, &key, 0, T, NULL));
  NULLS(curfew_peek(table, NULL, 0, T, &verdict));
  NULLS(curfew_touch_id(table, NULL, 1, 0, T, &verdict));
  NULLS(curfew_peek_id(table, (const uint8_t *)"x", 1, 0, T, NULL));
  NULLS(curfew_touch_many(table, NULL, NULL, 1, T, &verdict));
  NULLS(curfew_touch_many(table, &key, NULL, 1, T, NULL));
  NULLS(curfew_start(table, NULL, &options, T, NULL));
  NULLS(curfew_start(table, &key, NULL, T, NULL));
  NULLS(curfew_start_id(table, NULL, 1, &options, T, NULL));
  NULLS(curfew_reauthenticate(table, NULL, NULL, T));
  NULLS(curfew_rotate(table, NULL, &key, 0, T, NULL));
  NULLS(curfew_rotate(table, &key, NULL, 0, T, NULL));
  NULLS(curfew_end(table, NULL, CURFEW_CAUSE_LOGOUT, T));
  NULLS(curfew_end_all(table, NULL, CURFEW_CAUSE_LOGOUT, T, NULL));
  NULLS(curfew_list(table, T, NULL, &session, 1, &count));
  NULLS(curfew_list(table, T, &cursor, NULL, 1, &count));
  NULLS(curfew_list(table, T, &cursor, &session, 1, NULL));
  NULLS(curfew_list_subject(table, 1, T, NULL, 1, &count));
  NULLS(curfew_read_events(table, NULL, &event, 1, &count, NULL));
  NULLS(curfew_read_events(table, &cursor, NULL, 1, &count, NULL));
  NULLS(curfew_read_events(table, &cursor, &event, 1, NULL, NULL));
  NULLS(curfew_changes(table, NULL));
  NULLS(curfew_peek_watched(table, NULL, T, &verdict));
  NULLS(curfew_peek_watched(table, &watch, T, NULL));
  NULLS(curfew_touch_watched(table, NULL, T, &verdict));
  NULLS(curfew_touch_watched(table, &watch, T, NULL));
  NULLS(curfew_report_cut(table, NULL, CURFEW_CAUSE_LOGOUT, 0, T));
  /* Where null is allowed, it is. */
  OK(curfew_advance(table, T, 1, NULL, NULL));
  OK(curfew_end_subject(table, 0, CURFEW_CAUSE_LOGOUT, T, NULL));
  OK(curfew_list_subject(table, 1, T, NULL, 0, &count));
  OK(curfew_touch_many(table, NULL, NULL, 0, T, NULL));
  OK(curfew_event_range(table, NULL, NULL));
  OK(curfew_touch_id(table, NULL, 0, 0, T, &verdict));
  CHECK(verdict.state == CURFEW_UNKNOWN && !verdict.passes);
  CHECK(passes(table, &key));
  OK(curfew_close(table));
}

static void what_is_out_of_range_is_told(void) {
  curfew_table table = create(NULL), other;
  curfew_key key = start(table, "id");
  curfew_verdict verdict = curfew_verdict_init();
  uint64_t cursor = 0, ended;
  size_t count;
  uint32_t number;
  char small[8];

  ANSWERS(CURFEW_INVALID_ARGUMENT, curfew_derive_key(table, (const uint8_t *)"x", (size_t)-1, &key));
  ANSWERS(CURFEW_INVALID_ARGUMENT, curfew_touch_id(table, (const uint8_t *)"x", SIZE_MAX / 2, 0, T, &verdict));
  ANSWERS(CURFEW_INVALID_ARGUMENT, curfew_touch_many(table, &key, NULL, SIZE_MAX / 16, T, &verdict));
  curfew_session session = curfew_session_init();
  ANSWERS(CURFEW_INVALID_ARGUMENT, curfew_list(table, T, &cursor, &session, SIZE_MAX, &count));
  ANSWERS(CURFEW_INVALID_ARGUMENT, curfew_list(table, T, &cursor, &session, 0, &count));
  curfew_event event = curfew_event_init();
  ANSWERS(CURFEW_INVALID_ARGUMENT, curfew_read_events(table, &cursor, &event, SIZE_MAX, &count, NULL));
  cursor = UINT64_MAX - 5;
  OK(curfew_read_events(table, &cursor, &event, 1, &count, NULL));
  CHECK(count == 0 && cursor < 10);
  cursor = UINT64_MAX - 5;
  OK(curfew_list(table, T, &cursor, &session, 1, &count));
  CHECK(count == 0 && cursor == CURFEW_LAST_PAGE);

  for (uint32_t cause = 10; cause < 20; cause++) ANSWERS(CURFEW_INVALID_ARGUMENT, curfew_end(table, &key, cause, T));
  ANSWERS(CURFEW_INVALID_ARGUMENT, curfew_end(table, &key, 0, T));
  ANSWERS(CURFEW_INVALID_ARGUMENT, curfew_end(table, &key, UINT32_MAX, T));
  ANSWERS(CURFEW_INVALID_ARGUMENT, curfew_end_subject(table, 1, 256 + CURFEW_CAUSE_IDLE, T, &ended));
  curfew_watch watch = curfew_watch_init(key, 0);
  for (uint32_t cause = 10; cause < 300; cause++)
    ANSWERS(CURFEW_INVALID_ARGUMENT, curfew_report_cut(table, &watch, cause, 0, T));
  ANSWERS(CURFEW_INVALID_ARGUMENT, curfew_report_cut(table, &watch, CURFEW_CAUSE_NONE, 0, T));

  curfew_start_options options = curfew_start_options_init(63);
  ANSWERS(CURFEW_UNKNOWN_POLICY, curfew_start_id(table, (const uint8_t *)"x", 1, &options, T, NULL));
  options.policy = 256;
  ANSWERS(CURFEW_UNKNOWN_POLICY, curfew_start_id(table, (const uint8_t *)"x", 1, &options, T, NULL));
  options = curfew_start_options_init(0);
  options.token = 0;
  ANSWERS(CURFEW_TOKEN_EXPIRED, curfew_start_id(table, (const uint8_t *)"x", 1, &options, T, NULL));
  options.reserved = 1;
  ANSWERS(CURFEW_UNSUPPORTED, curfew_start_id(table, (const uint8_t *)"x", 1, &options, T, NULL));

  curfew_policy policy = curfew_policy_init();
  ANSWERS(CURFEW_NO_LIMIT, curfew_set_policy(table, "none", &policy, T, NULL, &number));
  policy.idle_ms = UINT64_MAX;
  ANSWERS(CURFEW_TOO_LONG, curfew_set_policy(table, "long", &policy, T, NULL, &number));
  policy.idle_ms = 1;
  policy.grace_mode = 2;
  ANSWERS(CURFEW_UNSUPPORTED, curfew_set_policy(table, "mode", &policy, T, NULL, &number));
  policy.grace_mode = 0;
  ANSWERS(CURFEW_BAD_NAME, curfew_set_policy(table, "", &policy, T, NULL, &number));
  ANSWERS(CURFEW_BAD_NAME, curfew_set_policy(table, "\xff", &policy, T, NULL, &number));
  ANSWERS(CURFEW_BAD_NAME,
          curfew_set_policy(table, "a name that is longer than it may be", &policy, T, NULL, &number));
  ANSWERS(CURFEW_UNKNOWN_POLICY, curfew_find_policy(table, "nobody", &number));
  ANSWERS(CURFEW_UNKNOWN_POLICY, curfew_get_policy(table, 999, &policy));
  ANSWERS(CURFEW_BUFFER_TOO_SMALL, curfew_policy_name(table, 0, small, 5));
  OK(curfew_policy_name(table, 0, small, 6));
  CHECK(strcmp(small, "staff") == 0);

  curfew_config config = curfew_config_init(0);
  curfew_error error = curfew_error_init();
  ANSWERS(CURFEW_OUT_OF_RANGE, curfew_create_private(&config, &error, &other));
  CHECK(strstr(error.message, "capacity 0 is out of range") && error.status == CURFEW_OUT_OF_RANGE);
  config.capacity = UINT64_MAX;
  ANSWERS(CURFEW_OUT_OF_RANGE, curfew_create_private(&config, NULL, &other));
  config = curfew_config_init(10);
  config.flags = 1u << 31;
  ANSWERS(CURFEW_UNSUPPORTED, curfew_create_private(&config, NULL, &other));
  char endless[5000];
  memset(endless, 'x', sizeof endless);
  endless[sizeof endless - 1] = 0;
  ANSWERS(CURFEW_INVALID_ARGUMENT, curfew_open(endless, NULL, &other));
  ANSWERS(CURFEW_NOT_FOUND, curfew_open(path_of("nothing"), &error, &other));
  CHECK(error.os_error == ENOENT && strstr(error.message, "nothing"));

  char text[CURFEW_KEY_TEXT_SIZE];
  curfew_key again;
  ANSWERS(CURFEW_BUFFER_TOO_SMALL, curfew_key_text(&key, text, sizeof text - 1));
  OK(curfew_key_text(&key, text, sizeof text));
  OK(curfew_key_parse(text, &again));
  CHECK(memcmp(&key, &again, sizeof key) == 0);
  text[5] = 'g';
  ANSWERS(CURFEW_INVALID_ARGUMENT, curfew_key_parse(text, &again));
  ANSWERS(CURFEW_INVALID_ARGUMENT, curfew_key_parse("00", &again));

  curfew_tick tick;
  OK(curfew_tick_of_unix_time(table, INT64_MIN, &tick));
  CHECK(tick == 0);
  OK(curfew_tick_of_unix_time(table, INT64_MAX, &tick));
  CHECK(tick == CURFEW_NEVER);
  OK(curfew_touch(table, &key, 0, UINT64_MAX, &verdict));
  CHECK(verdict.state == CURFEW_ENDED || verdict.state == CURFEW_UNKNOWN);
  OK(curfew_close(table));
}

static void structs_of_other_versions_are_understood_and_sizes_that_no_version_has_are_told(void) {
  curfew_table table = create(NULL);
  curfew_key key = start(table, "id");
  struct {
    curfew_verdict verdict;
    uint64_t later[2], behind;
  } larger;
  static const size_t wrong[] = {0, 1, 7, sizeof(curfew_verdict) - 1, 5000, SIZE_MAX};

  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    memset(&larger, 7, sizeof larger);
    larger.verdict.struct_size = wrong[i];
    ANSWERS(CURFEW_STRUCT_SIZE, curfew_touch(table, &key, 0, T, &larger.verdict));
    ANSWERS(CURFEW_STRUCT_SIZE, curfew_touch_many(table, &key, NULL, 1, T, &larger.verdict));
    CHECK(larger.verdict.passes == 0x07070707);
  }
  memset(&larger, 7, sizeof larger);
  larger.verdict.struct_size = sizeof larger.verdict + sizeof larger.later;
  OK(curfew_touch(table, &key, 0, T, &larger.verdict));
  CHECK(larger.verdict.passes == 1 && larger.verdict.struct_size == sizeof larger.verdict + sizeof larger.later);
  CHECK(larger.later[0] == 0 && larger.later[1] == 0 && larger.behind == 0x0707070707070707);

  struct {
    curfew_verdict verdict;
    uint64_t later;
  } verdicts[3];
  curfew_key keys[3] = {key, {{1}}, key};
  memset(verdicts, 7, sizeof verdicts);
  verdicts[0].verdict.struct_size = sizeof verdicts[0];
  OK(curfew_touch_many(table, keys, NULL, 3, T, &verdicts[0].verdict));
  CHECK(verdicts[0].verdict.passes && !verdicts[1].verdict.passes && verdicts[2].verdict.passes);
  CHECK(verdicts[1].verdict.state == CURFEW_UNKNOWN && verdicts[2].later == 0);

  struct {
    curfew_policy policy;
    uint64_t later;
  } policy = {curfew_policy_init(), 0};
  uint32_t number;
  policy.policy.idle_ms = 1000;
  policy.policy.struct_size = sizeof policy;
  OK(curfew_set_policy(table, "later", &policy.policy, T, NULL, &number));
  policy.later = 1;
  ANSWERS(CURFEW_UNSUPPORTED, curfew_set_policy(table, "later", &policy.policy, T, NULL, &number));
  curfew_error error = curfew_error_init();
  error.struct_size = 3;
  ANSWERS(CURFEW_STRUCT_SIZE, curfew_set_policy(table, "later", &policy.policy, T, &error, &number));
  OK(curfew_close(table));
}

/* The size that the struct had before it got `bytes`. */
static void an_event_of_the_first_version_is_written_as_far_as_it_went(void) {
  enum { FIRST = offsetof(curfew_event, bytes) };
  curfew_table table = create(NULL);
  curfew_key key = start(table, "id");
  curfew_watch watch = curfew_watch_init(key, 0);
  struct {
    char events[3][FIRST];
    uint64_t behind;
  } old;
  uint64_t cursor = 0;
  size_t count, size = FIRST;
  OK(curfew_end(table, &key, CURFEW_CAUSE_LOGOUT, T));
  OK(curfew_report_cut(table, &watch, CURFEW_CAUSE_LOGOUT, 77, T + 1));
  memset(&old, 7, sizeof old);
  memcpy(old.events[0], &size, sizeof size);
  OK(curfew_read_events(table, &cursor, (curfew_event *)(void *)old.events, 2, &count, NULL));
  CHECK(count == 2);
  for (uint64_t i = 0; i < 2; i++) {
    curfew_event event;
    memset(&event, 0, sizeof event);
    memcpy(&event, old.events[i], FIRST);
    CHECK(event.struct_size == FIRST && event.number == i && event.cause == CURFEW_CAUSE_LOGOUT && event.reserved == 0);
    CHECK(event.what == (i ? CURFEW_EVENT_CUT : CURFEW_EVENT_ENDED) && memcmp(&event.key, &key, sizeof key) == 0);
  }
  for (size_t i = 0; i < FIRST; i++) CHECK(old.events[2][i] == 7);
  CHECK(old.behind == 0x0707070707070707);
  OK(curfew_close(table));
}

static void watches_of_other_versions_are_understood_and_sizes_that_none_has_are_told(void) {
  curfew_table table = create(NULL);
  curfew_key key = start(table, "id");
  curfew_verdict verdict = curfew_verdict_init();
  struct {
    curfew_watch watch;
    uint64_t later, behind;
  } larger = {curfew_watch_init(key, 0), 0, 7}, before;
  static const size_t wrong[] = {0, 1, 31, 4097, SIZE_MAX};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    larger.watch.struct_size = wrong[i];
    before = larger;
    ANSWERS(CURFEW_STRUCT_SIZE, curfew_peek_watched(table, &larger.watch, T, &verdict));
    ANSWERS(CURFEW_STRUCT_SIZE, curfew_touch_watched(table, &larger.watch, T, &verdict));
    ANSWERS(CURFEW_STRUCT_SIZE, curfew_report_cut(table, &larger.watch, CURFEW_CAUSE_IDLE, 0, T));
    CHECK(memcmp(&before, &larger, sizeof larger) == 0 && verdict.state == 0);
  }
  larger.watch.struct_size = offsetof(__typeof__(larger), behind);
  OK(curfew_peek_watched(table, &larger.watch, T, &verdict));
  CHECK(verdict.passes && larger.later == 0 && larger.behind == 7);
  larger.later = 1;
  ANSWERS(CURFEW_UNSUPPORTED, curfew_touch_watched(table, &larger.watch, T, &verdict));
  CHECK(larger.later == 1);
  larger.watch = curfew_watch_init(key, 0);
  verdict.struct_size = 1;
  before = larger;
  ANSWERS(CURFEW_STRUCT_SIZE, curfew_peek_watched(table, &larger.watch, T, &verdict));
  CHECK(memcmp(&before, &larger, sizeof larger) == 0);
  OK(curfew_close(table));
}

static void what_is_open_is_followed_through_rotations_and_cut_with_its_session(void) {
  curfew_table table = create(NULL);
  curfew_key first = start(table, "first"), second;
  curfew_watch watch = curfew_watch_init(first, 0), lagging = watch;
  curfew_verdict verdict = curfew_verdict_init();
  uint64_t before, after;
  OK(curfew_changes(table, &before));
  OK(curfew_changes(table, &after));
  CHECK(before == after);
  OK(curfew_derive_key(table, (const uint8_t *)"second", 6, &second));
  OK(curfew_rotate(table, &first, &second, 1000, T, NULL));
  OK(curfew_changes(table, &after));
  CHECK(before != after);

  /* Ten minutes later the old id has long stopped to answer, and both are with the new one. */
  curfew_tick later = T + 600000;
  OK(curfew_peek_watched(table, &watch, later, &verdict));
  CHECK(verdict.state == CURFEW_ACTIVE && verdict.idle_left_ms == 300000);
  CHECK(memcmp(&watch.key, &second, sizeof second) == 0 && watch.struct_size == sizeof watch && watch.binding == 0);
  OK(curfew_touch_watched(table, &lagging, later, &verdict));
  CHECK(verdict.state == CURFEW_ACTIVE && verdict.idle_left_ms == 900000);
  CHECK(memcmp(&lagging.key, &second, sizeof second) == 0);
  OK(curfew_peek_watched(table, &watch, later, &verdict));
  CHECK(verdict.idle_left_ms == 900000);

  OK(curfew_changes(table, &before));
  OK(curfew_end(table, &second, CURFEW_CAUSE_REVOKED, later));
  OK(curfew_changes(table, &after));
  CHECK(before != after);
  OK(curfew_touch_watched(table, &watch, later, &verdict));
  CHECK(verdict.state == CURFEW_ENDED && verdict.cause == CURFEW_CAUSE_REVOKED && !verdict.passes);
  OK(curfew_report_cut(table, &watch, verdict.cause, 12345678901, later + 5));

  curfew_event events[4];
  uint64_t cursor = 0;
  size_t count;
  events[0] = curfew_event_init();
  OK(curfew_read_events(table, &cursor, events, 4, &count, NULL));
  CHECK(count == 3 && events[0].what == CURFEW_EVENT_ROTATED && events[1].what == CURFEW_EVENT_ENDED);
  CHECK(events[0].bytes == 0 && events[1].bytes == 0);
  CHECK(events[2].what == CURFEW_EVENT_CUT && events[2].bytes == 12345678901 && events[2].at == later + 5);
  CHECK(events[2].cause == CURFEW_CAUSE_REVOKED && memcmp(&events[2].key, &second, sizeof second) == 0);
  OK(curfew_close(table));
}

/* A watch that lies where its own verdict goes is beyond use afterwards, and nothing else is. */
static void a_watch_may_lie_anywhere(void) {
  curfew_table table = create(NULL);
  curfew_key key = start(table, "id");
  curfew_watch watch = curfew_watch_init(key, 0);
  curfew_verdict verdict = curfew_verdict_init();
  struct {
    char bytes[200];
    uint64_t behind;
  } shared;
  memset(&shared, 7, sizeof shared);
  memcpy(shared.bytes + 1, &watch, sizeof watch);
  OK(curfew_touch_watched(table, (curfew_watch *)(void *)(shared.bytes + 1), T, &verdict));
  CHECK(verdict.passes && memcmp(shared.bytes + 1, &watch, sizeof watch) == 0);
  memcpy(shared.bytes + 32, &verdict, sizeof verdict);
  memcpy(shared.bytes + 32 - sizeof watch, &watch, sizeof watch);
  OK(curfew_peek_watched(table, (curfew_watch *)(void *)(shared.bytes + 32 - sizeof watch), T,
                         (curfew_verdict *)(void *)(shared.bytes + 32)));
  memcpy(&verdict, shared.bytes + 32, sizeof verdict);
  CHECK(verdict.passes && shared.behind == 0x0707070707070707);
  watch.struct_size = sizeof verdict;
  memset(shared.bytes, 0, sizeof shared.bytes);
  memcpy(shared.bytes, &watch, sizeof watch);
  OK(curfew_peek_watched(table, (curfew_watch *)(void *)shared.bytes, T, (curfew_verdict *)(void *)shared.bytes));
  CHECK(shared.bytes[sizeof verdict] == 0 && shared.behind == 0x0707070707070707);
  OK(curfew_close(table));
}

static void a_batch_of_any_size_is_answered_as_one_by_one(void) {
  enum { MOST = 600 };
  static const size_t sizes[] = {1, 15, 16, 17, 63, 64, 65, 255, 256, 257, MOST};
  static curfew_verdict verdicts[MOST + 1];
  curfew_table table = create(NULL);
  curfew_key keys[MOST];
  curfew_binding bindings[MOST];
  for (size_t i = 0; i < MOST; i++) {
    char id[16];
    curfew_start_options options = curfew_start_options_init(0);
    OK(curfew_derive_key(table, (const uint8_t *)id, (size_t)snprintf(id, sizeof id, "%zu", i), &keys[i]));
    options.binding = i % 5 ? 0 : 7;
    bindings[i] = i % 10 ? 0 : 7;
    if (i % 3) OK(curfew_start(table, &keys[i], &options, T + i, NULL));
    if (i % 7 == 1 && i % 3) OK(curfew_end(table, &keys[i], CURFEW_CAUSE_LOGOUT, T + i));
  }
  for (size_t nth = 0; nth < sizeof sizes / sizeof *sizes; nth++) {
    size_t size = sizes[nth];
    memset(verdicts, 7, sizeof verdicts);
    verdicts[0].struct_size = sizeof verdicts[0];
    OK(curfew_touch_many(table, keys, bindings, size, T + MOST, verdicts));
    for (size_t i = 0; i < size; i++) {
      curfew_verdict one = curfew_verdict_init();
      OK(curfew_touch(table, &keys[i], bindings[i], T + MOST, &one));
      CHECK(memcmp(&one, &verdicts[i], sizeof one) == 0);
    }
    CHECK(verdicts[size].passes == 0x07070707);
  }
  OK(curfew_close(table));
}

static void arguments_may_overlap_and_need_not_be_aligned(void) {
  curfew_table table = create(NULL);
  curfew_key key = start(table, "id");
  union {
    curfew_key key;
    curfew_verdict verdict;
    char bytes[200];
  } shared, *shifted = (void *)(shared.bytes + 1);

  /* A key that lies where its own verdict goes, after the size. */
  shared.verdict.struct_size = sizeof shared.verdict;
  memcpy(shared.bytes + sizeof(size_t), &key, sizeof key);
  OK(curfew_touch(table, (const curfew_key *)(const void *)(shared.bytes + sizeof(size_t)), 0, T, &shared.verdict));
  CHECK(shared.verdict.passes);

  curfew_verdict verdict = curfew_verdict_init();
  memcpy(shifted, &verdict, sizeof verdict);
  memcpy(shared.bytes + 101, &key, sizeof key);
  OK(curfew_touch(table, (const curfew_key *)(const void *)(shared.bytes + 101), 0, T,
                  (curfew_verdict *)(void *)(shared.bytes + 1)));
  memcpy(&verdict, shifted, sizeof verdict);
  CHECK(verdict.passes && verdict.idle_left_ms == 900000);

  /* An id that lies where its key goes. */
  strcpy(shared.bytes, "id");
  OK(curfew_derive_key(table, (const uint8_t *)shared.bytes, 2, &shared.key));
  CHECK(memcmp(&shared.key, &key, sizeof key) == 0);

  curfew_verdict verdicts[2];
  verdicts[0] = curfew_verdict_init();
  ANSWERS(CURFEW_INVALID_ARGUMENT,
          curfew_touch_many(table, (const curfew_key *)(const void *)&verdicts[1], NULL, 2, T, verdicts));
  ANSWERS(CURFEW_INVALID_ARGUMENT,
          curfew_touch_many(table, &key, (const curfew_binding *)(const void *)verdicts, 1, T, verdicts));
  OK(curfew_close(table));
}

static void a_handle_that_was_closed_or_never_was_one_is_told(void) {
  curfew_table table = create(NULL), again, none = {0}, garbage = {0xdeadbeefcafe};
  curfew_key key = start(table, "id");
  curfew_verdict verdict = curfew_verdict_init();
  curfew_watch watch = curfew_watch_init(key, 0);
  uint64_t changes = 7;
  OK(curfew_close(table));
  ANSWERS(CURFEW_CLOSED, curfew_close(table));
  again = create(NULL);
  curfew_table handles[] = {table, none, garbage, {again.id + 1}, {again.id << 8}, {UINT64_MAX}};
  for (size_t i = 0; i < sizeof handles / sizeof *handles; i++) {
    ANSWERS(CURFEW_CLOSED, curfew_touch(handles[i], &key, 0, T, &verdict));
    ANSWERS(CURFEW_CLOSED, curfew_close(handles[i]));
    ANSWERS(CURFEW_CLOSED, curfew_repair(handles[i]));
    ANSWERS(CURFEW_CLOSED, curfew_changes(handles[i], &changes));
    ANSWERS(CURFEW_CLOSED, curfew_peek_watched(handles[i], &watch, T, &verdict));
    ANSWERS(CURFEW_CLOSED, curfew_touch_watched(handles[i], &watch, T, &verdict));
    ANSWERS(CURFEW_CLOSED, curfew_report_cut(handles[i], &watch, CURFEW_CAUSE_IDLE, 0, T));
  }
  CHECK(!verdict.passes && verdict.state == 0 && changes == 7 && memcmp(&watch.key, &key, sizeof key) == 0);
  OK(curfew_close(again));

  curfew_table many[300];
  curfew_config config = curfew_config_init(1);
  size_t count = 0;
  int32_t status;
  while ((status = curfew_create_private(&config, NULL, &many[count])) == CURFEW_OK) count++;
  CHECK(status == CURFEW_TOO_MANY_TABLES && count == 256);
  for (size_t i = 0; i < count; i++) OK(curfew_close(many[i]));
  OK(curfew_create_private(&config, NULL, &again));
  OK(curfew_close(again));
}

static void files_that_cannot_be_used_are_refused_by_name(void) {
  curfew_config config = curfew_config_init(1000);
  curfew_table table = create("file"), other;
  curfew_error error = curfew_error_init();
  char *path = path_of("file");
  OK(curfew_close(table));
  ANSWERS(CURFEW_EXISTS, curfew_create(path, &config, &error, &other));
  CHECK(strstr(error.message, "exists"));

  /* As another version of the library would have made it. */
  change_byte(path, 8);
  ANSWERS(CURFEW_OTHER_VERSION, curfew_open(path, &error, &other));
  unsigned theirs, ours;
  const char *told = strstr(error.message, "layout version ");
  CHECK(told && sscanf(told, "layout version %u, this program uses %u", &theirs, &ours) == 2);
  CHECK(theirs == (ours ^ 64));
  ANSWERS(CURFEW_OTHER_VERSION, curfew_open_or_create(path, &config, &error, &other));
  change_byte(path, 8);
  OK(curfew_open(path, NULL, &table));
  OK(curfew_close(table));

  change_byte(path, 60);
  ANSWERS(CURFEW_DAMAGED, curfew_open(path, &error, &other));
  change_byte(path, 60);
  CHECK(chmod(path, 0644) == 0);
  ANSWERS(CURFEW_UNSAFE_FILE, curfew_open(path, &error, &other));
  CHECK(chmod(path, 0600) == 0 && truncate(path, 100) == 0);
  ANSWERS(CURFEW_DAMAGED, curfew_open(path, &error, &other));
  ANSWERS(CURFEW_NOT_A_REGION, curfew_open(directory, &error, &other));
  ANSWERS(CURFEW_NOT_FOUND, curfew_create(path_of("no/such/directory"), &config, &error, &other));
}

static void an_outside_thread_sees_every_end_exactly_once(void) {
  curfew_table table = create(NULL);
  curfew_event events[4];
  uint64_t cursor, missed, seen = 0;
  size_t count;
  OK(curfew_event_range(table, NULL, &cursor));
  for (unsigned i = 0; i < 10; i++) {
    char id[2] = {(char)('a' + i), 0};
    curfew_key key = start(table, id);
    OK(curfew_end(table, &key, CURFEW_CAUSE_LOGOUT, T + i));
  }
  do {
    events[0] = curfew_event_init();
    OK(curfew_read_events(table, &cursor, events, 4, &count, &missed));
    for (size_t i = 0; i < count; i++) CHECK(events[i].number == seen++ && events[i].cause == CURFEW_CAUSE_LOGOUT);
    CHECK(missed == 0);
  } while (count > 0);
  CHECK(seen == 10);
  curfew_stats stats = curfew_stats_init();
  OK(curfew_get_stats(table, &stats));
  CHECK(stats.ended[CURFEW_CAUSE_LOGOUT] == 10 && stats.live == 0 && stats.started == 10);
  OK(curfew_close(table));
}

static void header_and_library_are_of_one_version(void) {
  CHECK(strcmp(curfew_version(), CURFEW_VERSION) == 0 && curfew_version_number() == CURFEW_VERSION_NUMBER);
  for (int32_t status = -3; status < 200; status++)
    CHECK(curfew_status_name(status)[0] && curfew_status_text(status)[0]);
  for (uint32_t number = 0; number < 300; number++)
    CHECK(curfew_state_name(number)[0] && curfew_cause_name(number)[0]);
  CHECK(strcmp(curfew_status_name(CURFEW_FULL), "full") == 0);
}

int main(int count, char **arguments) {
  begin(count, arguments);
  RUN(header_and_library_are_of_one_version);
  RUN(null_pointers_are_told);
  RUN(what_is_out_of_range_is_told);
  RUN(structs_of_other_versions_are_understood_and_sizes_that_no_version_has_are_told);
  RUN(an_event_of_the_first_version_is_written_as_far_as_it_went);
  RUN(watches_of_other_versions_are_understood_and_sizes_that_none_has_are_told);
  RUN(what_is_open_is_followed_through_rotations_and_cut_with_its_session);
  RUN(a_watch_may_lie_anywhere);
  RUN(a_batch_of_any_size_is_answered_as_one_by_one);
  RUN(arguments_may_overlap_and_need_not_be_aligned);
  RUN(a_handle_that_was_closed_or_never_was_one_is_told);
  RUN(an_outside_thread_sees_every_end_exactly_once);
  RUN(files_that_cannot_be_used_are_refused_by_name);
  return 0;
}

/* Snapshots from C: what comes back, what the time in between does, and what is refused. Plain C against the library
 * as it is installed: snapshots DIRECTORY, which must be empty. */
#include "check.h"
#include <dirent.h>

enum { IDLE = 900000 };

static curfew_verdict peek(curfew_table table, const curfew_key *key, curfew_tick now) {
  curfew_verdict verdict = curfew_verdict_init();
  OK(curfew_peek(table, key, 0, now, &verdict));
  return verdict;
}

static bool exists(const char *path) {
  struct stat status;
  return lstat(path, &status) == 0;
}

/* Whether the directory has files that somebody began and did not finish. */
static bool has_leavings(void) {
  DIR *entries = opendir(directory);
  bool has = false;
  CHECK(entries);
  for (struct dirent *entry; (entry = readdir(entries));) has = has || strstr(entry->d_name, ".new");
  closedir(entries);
  return has;
}

static void what_a_region_holds_comes_back_in_one_of_any_size(void) {
  curfew_table table = create(NULL), back;
  curfew_start_options options = curfew_start_options_init(0);
  curfew_key live, ended = start(table, "ended"), again;
  curfew_snapshotted written = curfew_snapshotted_init();
  curfew_restored restored = curfew_restored_init();
  curfew_restore_options larger = curfew_restore_options_init();
  uint64_t cursor, next;
  struct stat file;

  OK(curfew_derive_subject(table, (const uint8_t *)"alice", 5, &options.subject));
  OK(curfew_derive_binding(table, (const uint8_t *)"phone", 5, &options.binding));
  OK(curfew_derive_key(table, (const uint8_t *)"live", 4, &live));
  OK(curfew_start(table, &live, &options, T, NULL));
  OK(curfew_end(table, &ended, CURFEW_CAUSE_REVOKED, T + 1));
  OK(curfew_event_range(table, NULL, &cursor));
  OK(curfew_snapshot(table, path_of("all"), NULL, &written));
  CHECK(written.live == 1 && written.ended == 1 && written.damaged == 0);
  CHECK(stat(path_of("all"), &file) == 0 && (file.st_mode & 0777) == 0600 && (uint64_t)file.st_size == written.bytes);
  CHECK(passes(table, &live) == false); /* bound, and nothing was presented: the snapshot has changed nothing */
  OK(curfew_close(table));

  larger.capacity = 5000;
  OK(curfew_restore_private(path_of("all"), &larger, NULL, &restored, &back));
  CHECK(restored.live == 1 && restored.ended == 1 && restored.over == 0 && restored.forgotten == 0);
  CHECK(restored.downtime_ms < 3600000 && restored.now >= T);
  OK(curfew_derive_key(back, (const uint8_t *)"live", 4, &again));
  CHECK(memcmp(&again, &live, sizeof live) == 0);
  curfew_verdict verdict = curfew_verdict_init();
  OK(curfew_touch(back, &live, options.binding, restored.now, &verdict));
  CHECK(verdict.passes && verdict.age_ms == restored.now - T);
  CHECK(peek(back, &live, restored.now).state == CURFEW_MISMATCH);
  verdict = peek(back, &ended, restored.now);
  CHECK(verdict.state == CURFEW_ENDED && verdict.cause == CURFEW_CAUSE_REVOKED && verdict.ended_at == T + 1);
  curfew_stats stats = curfew_stats_init();
  OK(curfew_get_stats(back, &stats));
  CHECK(stats.capacity == 5000 && stats.live == 1);
  uint32_t number;
  OK(curfew_find_policy(back, "staff", &number));
  OK(curfew_event_range(back, NULL, &next));
  CHECK(next == cursor);
  curfew_tick now;
  OK(curfew_now(back, &now));
  CHECK(now >= restored.now && now < restored.now + 3600000);
  OK(curfew_check(back, NULL));
  OK(curfew_close(back));

  /* Without options and without saying what came back. */
  OK(curfew_restore_private(path_of("all"), NULL, NULL, NULL, &back));
  OK(curfew_get_stats(back, &stats));
  CHECK(stats.capacity == 1000);
  OK(curfew_close(back));
}

static void the_time_in_between_counts(void) {
  curfew_table table = create(NULL), back;
  curfew_key key = start(table, "id");
  curfew_restored restored = curfew_restored_init();
  curfew_restore_options options = curfew_restore_options_init();
  OK(curfew_snapshot(table, path_of("time"), NULL, NULL));

  options.downtime_ms = 600000;
  OK(curfew_restore_private(path_of("time"), &options, NULL, &restored, &back));
  CHECK(restored.downtime_ms == 600000 && restored.live == 1);
  curfew_verdict verdict = peek(back, &key, restored.now);
  CHECK(verdict.passes && verdict.idle_left_ms == T + IDLE - restored.now && verdict.idle_left_ms <= 301000);
  OK(curfew_close(back));

  options.downtime_ms = IDLE + T;
  OK(curfew_restore_private(path_of("time"), &options, NULL, &restored, &back));
  CHECK(restored.live == 0 && restored.over == 1);
  verdict = peek(back, &key, restored.now);
  CHECK(verdict.state == CURFEW_ENDED && verdict.cause == CURFEW_CAUSE_IDLE && verdict.ended_at == T + IDLE);
  uint64_t cursor;
  OK(curfew_event_range(back, NULL, &cursor));
  OK(curfew_advance(back, restored.now, 1000, NULL, NULL));
  curfew_event events[2] = {curfew_event_init()};
  size_t count;
  OK(curfew_read_events(back, &cursor, events, 2, &count, NULL));
  CHECK(count == 1 && events[0].at == T + IDLE && events[0].cause == CURFEW_CAUSE_IDLE);
  OK(curfew_close(back));
  OK(curfew_close(table));
}

static void open_what_was_restored(void *with) {
  curfew_key *key = with;
  curfew_table table;
  curfew_tick now;
  OK(curfew_open(path_of("grown"), NULL, &table));
  OK(curfew_now(table, &now));
  CHECK(peek(table, key, now).passes);
  OK(curfew_end(table, key, CURFEW_CAUSE_REVOKED, now));
  OK(curfew_close(table));
}

static void a_region_file_is_made_anew_and_never_replaced(void) {
  curfew_table table = create("grown"), other = {0};
  curfew_error error = curfew_error_init();
  curfew_restore_options options = curfew_restore_options_init();
  char *region = path_of("grown"), *file = path_of("grown.snapshot");
  curfew_key key = start(table, "id"), more = start(table, "more");
  OK(curfew_snapshot(table, file, &error, NULL));

  /* The wrong one of two paths. */
  ANSWERS(CURFEW_EXISTS, curfew_snapshot(table, region, &error, NULL));
  OK(curfew_open(region, NULL, &other));
  OK(curfew_close(other));
  other.id = 0;

  /* The old state is left: what is there, and what is in use. */
  ANSWERS(CURFEW_EXISTS, curfew_restore(file, region, NULL, &error, NULL, &other));
  CHECK(error.status == CURFEW_EXISTS && strstr(error.message, region) && other.id == 0);
  CHECK(passes(table, &key));
  OK(curfew_close(table));
  CHECK(unlink(region) == 0);

  options.capacity = 1;
  ANSWERS(CURFEW_FULL, curfew_restore(file, region, &options, &error, NULL, &other));
  ANSWERS(CURFEW_FULL, curfew_restore_private(file, &options, &error, NULL, &other));
  options.capacity = UINT64_MAX;
  ANSWERS(CURFEW_OUT_OF_RANGE, curfew_restore(file, region, &options, &error, NULL, &other));
  CHECK(strstr(error.message, "out of range"));
  ANSWERS(CURFEW_NOT_FOUND, curfew_restore(file, path_of("no/such/directory"), NULL, &error, NULL, &other));
  CHECK(error.os_error == ENOENT);
  CHECK(!exists(region) && !has_leavings() && other.id == 0);

  options.capacity = 4000;
  options.events = 64;
  OK(curfew_restore(file, region, &options, &error, NULL, &table));
  in_child(open_what_was_restored, &key);
  CHECK(!passes(table, &key) && passes(table, &more));
  curfew_stats stats = curfew_stats_init();
  OK(curfew_get_stats(table, &stats));
  CHECK(stats.capacity == 4000);
  OK(curfew_check(table, NULL));
  OK(curfew_close(table));
  CHECK(!has_leavings());
}

static curfew_table original;
static curfew_key of_original;

static void refused(curfew_status status, const char *snapshot) {
  curfew_table none = {0};
  curfew_error error = curfew_error_init();
  ANSWERS(status, curfew_restore(snapshot, path_of("refused"), NULL, &error, NULL, &none));
  CHECK(error.status == status && error.message[0]);
  ANSWERS(status, curfew_restore_private(snapshot, NULL, NULL, NULL, &none));
  CHECK(none.id == 0 && !exists(path_of("refused")) && passes(original, &of_original));
}

static void what_is_no_snapshot_or_a_damaged_one_is_refused_by_name(void) {
  char *file = path_of("bad"), *link = path_of("link");
  curfew_snapshotted written = curfew_snapshotted_init();
  curfew_table region = create("a.region");
  OK(curfew_close(region));
  original = create(NULL);
  of_original = start(original, "id");
  OK(curfew_snapshot(original, file, NULL, &written));

  refused(CURFEW_NOT_FOUND, path_of("nothing"));
  refused(CURFEW_NOT_A_SNAPSHOT, directory);
  refused(CURFEW_NOT_A_SNAPSHOT, path_of("a.region"));
  change_byte(file, 8); /* as another version of the library would have made it */
  refused(CURFEW_SNAPSHOT_VERSION, file);
  change_byte(file, 8);
  for (uint64_t at = 16; at < written.bytes; at += 1 + at / 16) {
    change_byte(file, (off_t)at);
    refused(CURFEW_SNAPSHOT_DAMAGED, file);
    change_byte(file, (off_t)at);
  }
  CHECK(chmod(file, 0640) == 0);
  refused(CURFEW_UNSAFE_FILE, file);
  CHECK(chmod(file, 0600) == 0);
  CHECK(symlink(file, link) == 0);
  refused(CURFEW_UNSAFE_FILE, link);
  /* After all of that it is as it was. */
  OK(curfew_restore_private(file, NULL, NULL, NULL, &region));
  OK(curfew_close(region));
  for (off_t length = (off_t)written.bytes - 1; length > 0; length /= 2) {
    CHECK(truncate(file, length) == 0);
    refused(CURFEW_SNAPSHOT_TRUNCATED, file);
  }
  CHECK(truncate(file, 0) == 0);
  refused(CURFEW_SNAPSHOT_TRUNCATED, file);
  OK(curfew_close(original));
}

static void what_cannot_be_written_leaves_the_last_one(void) {
  curfew_table table = create(NULL), back;
  curfew_key key = start(table, "id");
  curfew_error error = curfew_error_init();
  curfew_snapshotted written = curfew_snapshotted_init();
  CHECK(mkdir(path_of("folder"), 0700) == 0);
  OK(curfew_snapshot(table, path_of("folder/last"), NULL, NULL));

  ANSWERS(CURFEW_NOT_FOUND, curfew_snapshot(table, path_of("no/such/directory"), &error, &written));
  CHECK(error.os_error == ENOENT && strstr(error.message, "no/such/directory"));
  ANSWERS(CURFEW_EXISTS, curfew_snapshot(table, path_of("folder"), &error, &written));
  char name[300] = {0};
  memset(name, 'n', sizeof name - 1);
  ANSWERS(CURFEW_SYSTEM, curfew_snapshot(table, path_of(name), &error, &written));
  CHECK(error.os_error == ENAMETOOLONG && strstr(error.message, "nnnn"));
  CHECK(written.bytes == 0 && written.struct_size == sizeof written && !has_leavings());

  OK(curfew_restore_private(path_of("folder/last"), NULL, NULL, NULL, &back));
  CHECK(passes(back, &key));
  OK(curfew_close(back));

  /* A link is neither followed nor replaced. */
  char *target = path_of("target"), *file = path_of("by-link"), to[4096];
  CHECK(symlink(target, file) == 0);
  ANSWERS(CURFEW_EXISTS, curfew_snapshot(table, file, NULL, NULL));
  CHECK(!exists(target) && readlink(file, to, sizeof to) > 0);
  OK(curfew_close(table));
}

static void ticks_of_another_clock_are_told(void) {
  curfew_table table = create(NULL), back = {0};
  curfew_error error = curfew_error_init();
  curfew_restore_options options = curfew_restore_options_init();
  curfew_key key = start(table, "id");
  curfew_verdict verdict = curfew_verdict_init();
  /* Active ten minutes from now. */
  OK(curfew_touch(table, &key, 0, 600000, &verdict));
  OK(curfew_snapshot(table, path_of("ahead"), NULL, NULL));
  ANSWERS(CURFEW_CLOCKS, curfew_restore_private(path_of("ahead"), NULL, &error, NULL, &back));
  CHECK(strstr(error.message, "downtime"));
  options.downtime_ms = 1;
  OK(curfew_restore_private(path_of("ahead"), &options, &error, NULL, &back));
  CHECK(peek(back, &key, 600000).passes);
  OK(curfew_close(back));
  /* Active some hours from now, as all others are. */
  for (curfew_tick now = 600000; now < 4 * 3600000; now += 600000) OK(curfew_touch(table, &key, 0, now, &verdict));
  ANSWERS(CURFEW_CLOCKS, curfew_snapshot(table, path_of("far"), &error, NULL));
  CHECK(!exists(path_of("far")) && strstr(error.message, "clock"));
  OK(curfew_close(table));
}

static void null_and_sizes_and_flags_are_told(void) {
  curfew_table table = create(NULL), back = {0};
  curfew_snapshotted written = curfew_snapshotted_init();
  curfew_restored restored = curfew_restored_init();
  curfew_error error = curfew_error_init();
  curfew_restore_options options = curfew_restore_options_init();
  char *file = path_of("abused"), *region = path_of("abused.region");
  start(table, "id");
  OK(curfew_snapshot(table, file, NULL, NULL));
#define NULLS(call) ANSWERS(CURFEW_NULL_ARGUMENT, call)
  NULLS(curfew_snapshot(table, NULL, NULL, NULL));
  NULLS(curfew_restore(NULL, region, NULL, NULL, NULL, &back));
  NULLS(curfew_restore(file, NULL, NULL, NULL, NULL, &back));
  NULLS(curfew_restore(file, region, NULL, NULL, NULL, NULL));
  NULLS(curfew_restore_private(NULL, NULL, NULL, NULL, &back));
  NULLS(curfew_restore_private(file, NULL, NULL, NULL, NULL));

  static const size_t wrong[] = {0, 1, 39, 5000, SIZE_MAX};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    written.struct_size = restored.struct_size = options.struct_size = error.struct_size = wrong[i];
    ANSWERS(CURFEW_STRUCT_SIZE, curfew_snapshot(table, file, NULL, &written));
    ANSWERS(CURFEW_STRUCT_SIZE, curfew_snapshot(table, file, &error, NULL));
    ANSWERS(CURFEW_STRUCT_SIZE, curfew_restore(file, region, &options, NULL, NULL, &back));
    ANSWERS(CURFEW_STRUCT_SIZE, curfew_restore(file, region, NULL, NULL, &restored, &back));
    ANSWERS(CURFEW_STRUCT_SIZE, curfew_restore_private(file, &options, NULL, NULL, &back));
    ANSWERS(CURFEW_STRUCT_SIZE, curfew_restore_private(file, NULL, NULL, &restored, &back));
  }
  CHECK(back.id == 0 && restored.now == 0 && written.bytes == 0 && !exists(region));

  options = curfew_restore_options_init();
  options.flags = CURFEW_OWN_EPOCH;
  ANSWERS(CURFEW_UNSUPPORTED, curfew_restore_private(file, &options, NULL, NULL, &back));
  options.flags = CURFEW_HUGE_PAGES;
  options.reserved = 1;
  ANSWERS(CURFEW_UNSUPPORTED, curfew_restore_private(file, &options, NULL, NULL, &back));
  options.reserved = 0;
  OK(curfew_restore_private(file, &options, NULL, NULL, &back));
  OK(curfew_close(back));

  /* What came back may lie where the options were, and a later version's struct is written whole. */
  struct {
    curfew_restored restored;
    uint64_t later, behind;
  } larger;
  memset(&larger, 7, sizeof larger);
  larger.restored.struct_size = sizeof larger.restored + sizeof larger.later;
  OK(curfew_restore_private(file, NULL, NULL, &larger.restored, &back));
  CHECK(larger.restored.live == 1 && larger.later == 0 && larger.behind == 0x0707070707070707);
  OK(curfew_close(back));
  union {
    curfew_restore_options options;
    curfew_restored restored;
  } shared;
  memset(&shared, 0, sizeof shared);
  shared.restored.struct_size = sizeof shared.restored; /* the options of a version that has two words more */
  shared.options.downtime_ms = 5000;
  OK(curfew_restore_private(file, &shared.options, NULL, &shared.restored, &back));
  CHECK(shared.restored.downtime_ms == 5000 && shared.restored.live == 1);
  OK(curfew_close(back));
  ANSWERS(CURFEW_CLOSED, curfew_snapshot(back, file, NULL, NULL));
  OK(curfew_close(table));
  ANSWERS(CURFEW_CLOSED, curfew_snapshot(table, file, NULL, NULL));
}

static void snapshot_in_child(void *with) {
  curfew_table *tables = with, own;
  curfew_key key = {{0}};
  curfew_verdict verdict = curfew_verdict_init();
  ANSWERS(CURFEW_FORKED, curfew_snapshot(tables[0], path_of("childs"), NULL, NULL));
  CHECK(!exists(path_of("childs")));
  ANSWERS(CURFEW_FORKED, curfew_touch(tables[1], &key, 0, T, &verdict));
  OK(curfew_restore_private(path_of("parents"), NULL, NULL, NULL, &own));
  OK(curfew_snapshot(own, path_of("childs"), NULL, NULL));
  OK(curfew_close(own));
}

static void a_forked_child_restores_for_itself(void) {
  curfew_table tables[2] = {create("parents.region")};
  start(tables[0], "id");
  OK(curfew_snapshot(tables[0], path_of("parents"), NULL, NULL));
  OK(curfew_restore(path_of("parents"), path_of("parents.again"), NULL, NULL, NULL, &tables[1]));
  in_child(snapshot_in_child, tables);
  CHECK(exists(path_of("childs")));
  OK(curfew_close(tables[0]));
  OK(curfew_close(tables[1]));
}

static volatile bool done;

static void *churn(void *with) {
  curfew_table table = *(curfew_table *)with;
  static unsigned numbers;
  unsigned number = __atomic_fetch_add(&numbers, 1, __ATOMIC_RELAXED);
  for (unsigned round = 0; !__atomic_load_n(&done, __ATOMIC_RELAXED); round++) {
    char id[32];
    curfew_key key;
    curfew_verdict verdict = curfew_verdict_init();
    curfew_start_options options = curfew_start_options_init(0);
    int length = snprintf(id, sizeof id, "%u-%u", number, round % 50);
    OK(curfew_derive_key(table, (const uint8_t *)id, (size_t)length, &key));
    curfew_start(table, &key, &options, T, NULL);
    OK(curfew_touch(table, &key, 0, T, &verdict));
    if (round % 97 == 0) curfew_end(table, &key, CURFEW_CAUSE_LOGOUT, T);
    if (round % 64 == 63) usleep(100);
  }
  return NULL;
}

static void a_snapshot_is_taken_while_others_work(void) {
  curfew_table table = create("busy.region"), back;
  curfew_key key = start(table, "there all the time");
  pthread_t threads[8];
  for (unsigned i = 0; i < 8; i++) CHECK(pthread_create(&threads[i], NULL, churn, &table) == 0);
  for (unsigned round = 0; round < 20; round++) {
    OK(curfew_snapshot(table, path_of("busy"), NULL, NULL));
    OK(curfew_restore_private(path_of("busy"), NULL, NULL, NULL, &back));
    CHECK(passes(back, &key));
    OK(curfew_check(back, NULL));
    OK(curfew_close(back));
  }
  __atomic_store_n(&done, true, __ATOMIC_RELAXED);
  for (unsigned i = 0; i < 8; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  OK(curfew_close(table));
}

int main(int count, char **arguments) {
  begin(count, arguments);
  RUN(what_a_region_holds_comes_back_in_one_of_any_size);
  RUN(the_time_in_between_counts);
  RUN(a_region_file_is_made_anew_and_never_replaced);
  RUN(what_is_no_snapshot_or_a_damaged_one_is_refused_by_name);
  RUN(what_cannot_be_written_leaves_the_last_one);
  RUN(ticks_of_another_clock_are_told);
  RUN(null_and_sizes_and_flags_are_told);
  RUN(a_forked_child_restores_for_itself);
  RUN(a_snapshot_is_taken_while_others_work);
  return 0;
}

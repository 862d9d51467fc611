/* Many threads, children and other processes at one table, and what each of them is told. Plain C against the
 * library as it is installed: together DIRECTORY, which must be empty. */
#include "check.h"

struct work {
  curfew_table table;
  unsigned number;
  uint64_t calls, closed;
};

static void *work(void *with) {
  struct work *work = with;
  for (unsigned round = 0; round < 3000; round++) {
    char id[32];
    curfew_key key, other;
    curfew_verdict verdict = curfew_verdict_init();
    curfew_start_options options = curfew_start_options_init(0);
    curfew_tick now = T + round;
    int length = snprintf(id, sizeof id, "%u-%u", work->number % 4, round % 64);
    int32_t status = curfew_derive_key(work->table, (const uint8_t *)id, (size_t)length, &key);
    if (status == CURFEW_CLOSED) {
      work->closed++;
      continue;
    }
    CHECK(status == CURFEW_OK);
    curfew_derive_subject(work->table, (const uint8_t *)id, 1, &options.subject);
    curfew_start(work->table, &key, &options, now, NULL);
    curfew_touch(work->table, &key, 0, now, &verdict);
    curfew_watch watch = curfew_watch_init(key, 0);
    curfew_touch_watched(work->table, &watch, now, &verdict);
    if (round % 50 == 0) curfew_report_cut(work->table, &watch, CURFEW_CAUSE_LOGOUT, round, now);
    if (round % 7 == work->number % 7) curfew_end(work->table, &key, CURFEW_CAUSE_LOGOUT, now);
    if (round % 11 == 3) {
      curfew_derive_key(work->table, (const uint8_t *)id, 1, &other);
      curfew_rotate(work->table, &key, &other, 5, now, NULL);
    }
    if (round % 50 == 9) curfew_end_subject(work->table, options.subject, CURFEW_CAUSE_REVOKED, now, NULL);
    if (round % 20 == 1) curfew_advance(work->table, now, 100, NULL, NULL);
    if (round % 100 == 5) {
      curfew_session page[16];
      uint64_t cursor = 0;
      size_t count;
      page[0] = curfew_session_init();
      while (curfew_list(work->table, now, &cursor, page, 16, &count) == CURFEW_OK && cursor != CURFEW_LAST_PAGE) {
      }
    }
    work->calls++;
  }
  return NULL;
}

static void run_threads(curfew_table table, struct work *works, pthread_t *threads) {
  for (unsigned i = 0; i < 16; i++) {
    works[i] = (struct work){table, i, 0, 0};
    CHECK(pthread_create(&threads[i], NULL, work, &works[i]) == 0);
  }
}

static void sixteen_threads_may_use_one_handle(void) {
  curfew_table table = create("threads");
  struct work works[16];
  pthread_t threads[16];
  run_threads(table, works, threads);
  for (unsigned i = 0; i < 16; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  curfew_error error = curfew_error_init();
  if (curfew_check(table, &error) != CURFEW_OK) fprintf(stderr, "%s\n", error.message);
  OK(curfew_check(table, NULL));
  OK(curfew_close(table));
}

static void a_table_may_be_closed_under_sixteen_threads(void) {
  for (unsigned round = 0; round < 5; round++) {
    curfew_table table = create(NULL);
    struct work works[16];
    pthread_t threads[16];
    run_threads(table, works, threads);
    usleep(2000 * round);
    OK(curfew_close(table));
    for (unsigned i = 0; i < 16; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    ANSWERS(CURFEW_CLOSED, curfew_repair(table));
  }
}

static void use_in_child(void *with) {
  curfew_table *table = with, own;
  curfew_key key = {{0}};
  curfew_verdict verdict = curfew_verdict_init();
  curfew_tick now;
  curfew_watch watch = curfew_watch_init(key, 0);
  ANSWERS(CURFEW_FORKED, curfew_touch(*table, &key, 0, T, &verdict));
  ANSWERS(CURFEW_FORKED, curfew_changes(*table, &now));
  ANSWERS(CURFEW_FORKED, curfew_peek_watched(*table, &watch, T, &verdict));
  ANSWERS(CURFEW_FORKED, curfew_touch_watched(*table, &watch, T, &verdict));
  ANSWERS(CURFEW_FORKED, curfew_report_cut(*table, &watch, CURFEW_CAUSE_IDLE, 0, T));
  ANSWERS(CURFEW_FORKED, curfew_now(*table, &now));
  ANSWERS(CURFEW_FORKED, curfew_advance(*table, T, 1, NULL, NULL));
  CHECK(verdict.state == 0 && !verdict.passes);
  own = create(NULL);
  start(own, "own");
  OK(curfew_close(*table));
  ANSWERS(CURFEW_CLOSED, curfew_close(*table));
  ANSWERS(CURFEW_CLOSED, curfew_touch(*table, &key, 0, T, &verdict));
  OK(curfew_close(own));
}

static void open_in_child(void *with) {
  curfew_table table;
  use_in_child(with);
  OK(curfew_open(path_of("forked"), NULL, &table));
  curfew_key key;
  OK(curfew_derive_key(table, (const uint8_t *)"id", 2, &key));
  CHECK(passes(table, &key));
  in_child(use_in_child, &table);
  OK(curfew_end(table, &key, CURFEW_CAUSE_LOGOUT, T));
  /* Left open: the kernel gives back what it held. */
}

static void a_forked_child_is_told_and_opens_for_itself(void) {
  curfew_table private_one = create(NULL), table = create("forked");
  curfew_key key = start(table, "id");
  in_child(use_in_child, &private_one);
  in_child(open_in_child, &table);
  curfew_verdict verdict = curfew_verdict_init();
  OK(curfew_touch(table, &key, 0, T, &verdict));
  CHECK(verdict.state == CURFEW_ENDED && verdict.cause == CURFEW_CAUSE_LOGOUT);
  OK(curfew_close(table));
  OK(curfew_close(private_one));
}

/* How many of the places of owners are taken, as everybody else sees it. */
static unsigned owners_alive(const char *path) {
  int fd = open(path, O_RDWR | O_CLOEXEC);
  CHECK(fd >= 0);
  unsigned alive = 0;
  for (unsigned number = 0; number < 256; number++) {
    struct flock lock = {.l_type = F_WRLCK, .l_start = ((off_t)1 << 60) + number, .l_len = 1};
    CHECK(fcntl(fd, F_OFD_GETLK, &lock) == 0);
    alive += lock.l_type != F_UNLCK;
  }
  close(fd);
  return alive;
}

static void a_child_that_lives_on_does_not_make_its_dead_parent_seem_alive(void) {
  int report[2], release[2];
  CHECK(pipe2(report, O_CLOEXEC) == 0 && pipe2(release, O_CLOEXEC) == 0);
  pid_t parent = fork();
  CHECK(parent >= 0);
  if (parent == 0) {
    create("orphan");
    CHECK(owners_alive(path_of("orphan")) == 1);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) { /* outlives its parent, with everything it inherited, until it is told to go */
      char byte;
      close(release[1]);
      CHECK(write(report[1], "c", 1) == 1);
      CHECK(read(release[0], &byte, 1) == 0);
      _exit(0);
    }
    for (;;) pause();
  }
  char byte;
  CHECK(read(report[0], &byte, 1) == 1);
  CHECK(owners_alive(path_of("orphan")) == 1);
  CHECK(kill(parent, SIGKILL) == 0 && waitpid(parent, NULL, 0) == parent);
  CHECK(owners_alive(path_of("orphan")) == 0);
  close(release[1]);
  close(release[0]);
  close(report[0]);
  close(report[1]);
}

static void *fork_often(void *with) {
  curfew_table *table = with;
  for (unsigned round = 0; round < 100; round++) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      curfew_tick now;
      int32_t status = curfew_now(*table, &now);
      _exit(status == CURFEW_FORKED ? 0 : 1);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  return NULL;
}

static void *open_often(void *with) {
  (void)with;
  for (unsigned round = 0; round < 300; round++) {
    curfew_table table;
    OK(curfew_open(path_of("busy"), NULL, &table));
    OK(curfew_close(table));
  }
  return NULL;
}

static void forks_at_any_moment_leave_parent_and_children_in_order(void) {
  curfew_table table = create("busy");
  struct work works[16];
  pthread_t threads[16], forker, opener;
  run_threads(table, works, threads);
  CHECK(pthread_create(&forker, NULL, fork_often, &table) == 0);
  CHECK(pthread_create(&opener, NULL, open_often, NULL) == 0);
  for (unsigned i = 0; i < 16; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  CHECK(pthread_join(forker, NULL) == 0 && pthread_join(opener, NULL) == 0);
  OK(curfew_check(table, NULL));
  CHECK(owners_alive(path_of("busy")) == 1);
  OK(curfew_close(table));
}

struct lent {
  void *memory;
  size_t bytes;
  char *locks;
  curfew_table parents;
  curfew_key key;
};

static void open_lent_in_child(void *with) {
  struct lent *lent = with;
  curfew_table table;
  curfew_tick now;
  ANSWERS(CURFEW_FORKED, curfew_now(lent->parents, &now));
  OK(curfew_open_in(lent->memory, lent->bytes, lent->locks, NULL, &table));
  CHECK(passes(table, &lent->key));
  OK(curfew_end(table, &lent->key, CURFEW_CAUSE_REVOKED, T));
  OK(curfew_close(table));
}

static void memory_that_the_caller_owns_is_shared_with_children(void) {
  curfew_config config = curfew_config_init(1000);
  struct lent lent = {.locks = path_of("locks")};
  curfew_table table;
  curfew_error error = curfew_error_init();
  OK(curfew_bytes_needed(&config, NULL, &lent.bytes));
  lent.memory = mmap(NULL, lent.bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(lent.memory != MAP_FAILED);
  ANSWERS(CURFEW_NOT_A_REGION, curfew_open_in(lent.memory, lent.bytes, lent.locks, NULL, &table));
  ANSWERS(CURFEW_MEMORY, curfew_create_in(lent.memory, lent.bytes - 1, NULL, &config, &error, &table));
  ANSWERS(CURFEW_MEMORY, curfew_create_in((char *)lent.memory + 1, lent.bytes, NULL, &config, &error, &table));
  ANSWERS(CURFEW_INVALID_ARGUMENT, curfew_create_in(lent.memory, SIZE_MAX, NULL, &config, &error, &table));
  OK(curfew_create_in(lent.memory, lent.bytes, lent.locks, &config, NULL, &lent.parents));
  ANSWERS(CURFEW_EXISTS, curfew_create_in(lent.memory, lent.bytes, lent.locks, &config, &error, &table));
  set_policy(lent.parents);
  lent.key = start(lent.parents, "id");
  in_child(open_lent_in_child, &lent);
  CHECK(!passes(lent.parents, &lent.key));
  OK(curfew_close(lent.parents));

  memset(lent.memory, 0, lent.bytes);
  OK(curfew_create_in(lent.memory, lent.bytes, NULL, &config, NULL, &lent.parents));
  ANSWERS(CURFEW_NOT_SHARED, curfew_open_in(lent.memory, lent.bytes, lent.locks, &error, &table));
  OK(curfew_close(lent.parents));
  munmap(lent.memory, lent.bytes);
}

static void open_as_another_version(void *with) {
  struct lent *lent = with;
  curfew_config config = curfew_config_init(1000);
  curfew_table table = {0};
  curfew_error error = curfew_error_init();
  ANSWERS(CURFEW_OTHER_VERSION, curfew_open(path_of("versions"), &error, &table));
  ANSWERS(CURFEW_OTHER_VERSION, curfew_open_or_create(path_of("versions"), &config, &error, &table));
  ANSWERS(CURFEW_EXISTS, curfew_create(path_of("versions"), &config, &error, &table));
  ANSWERS(CURFEW_OTHER_VERSION, curfew_open_in(lent->memory, lent->bytes, lent->locks, &error, &table));
  CHECK(table.id == 0 && strstr(error.message, "layout version"));
}

/* The versions differ in the layout's number, which is all that either of them looks at. */
static void a_process_with_another_version_is_refused_while_others_go_on(void) {
  curfew_config config = curfew_config_init(1000);
  struct lent lent = {.locks = path_of("versions.locks"), .parents = create("versions")};
  curfew_table inside;
  curfew_key key = start(lent.parents, "id");
  OK(curfew_bytes_needed(&config, NULL, &lent.bytes));
  lent.memory = mmap(NULL, lent.bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(lent.memory != MAP_FAILED);
  OK(curfew_create_in(lent.memory, lent.bytes, lent.locks, &config, NULL, &inside));
  set_policy(inside);
  lent.key = start(inside, "id");

  change_byte(path_of("versions"), 8);
  ((char *)lent.memory)[8] ^= 64;
  in_child(open_as_another_version, &lent);
  CHECK(passes(lent.parents, &key) && passes(inside, &lent.key));
  OK(curfew_check(lent.parents, NULL));
  change_byte(path_of("versions"), 8);
  ((char *)lent.memory)[8] ^= 64;
  in_child(open_lent_in_child, &(struct lent){lent.memory, lent.bytes, lent.locks, inside, lent.key});
  OK(curfew_close(inside));
  OK(curfew_close(lent.parents));
  munmap(lent.memory, lent.bytes);
}

static void processes_agree_about_the_time(void) {
  curfew_table table = create("time"), other;
  curfew_tick first, second, third, expiry;
  struct timespec wall;
  OK(curfew_open(path_of("time"), NULL, &other));
  OK(curfew_now(table, &first));
  OK(curfew_now(other, &second));
  OK(curfew_now(table, &third));
  CHECK(first <= second && second <= third && first < 60000);
  clock_gettime(CLOCK_REALTIME, &wall);
  OK(curfew_tick_of_unix_time(table, wall.tv_sec + 3600, &expiry));
  CHECK(expiry > third + 3590000 && expiry < third + 3610000);
  OK(curfew_close(other));
  OK(curfew_close(table));
}

int main(int count, char **arguments) {
  begin(count, arguments);
  RUN(processes_agree_about_the_time);
  RUN(sixteen_threads_may_use_one_handle);
  RUN(a_table_may_be_closed_under_sixteen_threads);
  RUN(a_forked_child_is_told_and_opens_for_itself);
  RUN(a_child_that_lives_on_does_not_make_its_dead_parent_seem_alive);
  RUN(forks_at_any_moment_leave_parent_and_children_in_order);
  RUN(memory_that_the_caller_owns_is_shared_with_children);
  RUN(a_process_with_another_version_is_refused_while_others_go_on);
  return 0;
}

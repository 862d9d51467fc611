/* Forks at the worst moments: what a child has copied half-done must not keep it from a table of its own. */
#define _GNU_SOURCE
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/syscall.h>

/* A child that hangs is ended, and fails. */
static void opens_and_closes_its_own(void *with) {
  (void)with;
  alarm(30);
  OK(curfew_close(create(NULL)));
}

static void with_few_descriptors(void *with) {
  (void)with;
  curfew_config config = curfew_config_init(100);
  curfew_error error = curfew_error_init();
  curfew_table table;
  struct rlimit limit = {3, 3};
  int low = dup(0);
  CHECK(low >= 0 && close(low) == 0 && getrlimit(RLIMIT_NOFILE, &limit) == 0);
  rlim_t before = limit.rlim_cur;
  limit.rlim_cur = (rlim_t)low;
  CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  ANSWERS(CURFEW_SYSTEM, curfew_create_private(&config, &error, &table));
  CHECK(error.os_error == EMFILE);
  limit.rlim_cur = before;
  CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  opens_and_closes_its_own(NULL);
}

static void who_had_no_descriptors_left_once_has_them_later(void) { in_child(with_few_descriptors, NULL); }

static atomic_uint opening;

static void *opens_first(void *with) {
  (void)with;
  atomic_store(&opening, 1);
  create(NULL);
  return NULL;
}

static void forks_while_the_first_is_opened(void *with) {
  unsigned *wait = with;
  pthread_t opener;
  atomic_store(&opening, 0);
  CHECK(pthread_create(&opener, NULL, opens_first, NULL) == 0);
  while (!atomic_load(&opening)) {
  }
  for (volatile unsigned turn = 0; turn < *wait; turn++) {
  }
  in_child(opens_and_closes_its_own, NULL);
  CHECK(pthread_join(opener, NULL) == 0);
  in_child(opens_and_closes_its_own, NULL);
}

static void a_child_opens_a_table_though_its_parent_was_opening_the_first(void) {
  for (unsigned wait = 0; wait < 60000; wait += 300) in_child(forks_while_the_first_is_opened, &wait);
}

static atomic_uint is_over;

static void *uses_what_is_closed(void *with) {
  curfew_tick now;
  while (!atomic_load(&is_over)) ANSWERS(CURFEW_CLOSED, curfew_now(*(curfew_table *)with, &now));
  return NULL;
}

static void a_child_closes_its_table_though_others_were_in_one_of_that_place(void) {
  curfew_table closed = create(NULL);
  OK(curfew_close(closed));
  pthread_t user;
  CHECK(pthread_create(&user, NULL, uses_what_is_closed, &closed) == 0);
  for (unsigned round = 0; round < 300; round++) in_child(opens_and_closes_its_own, NULL);
  atomic_store(&is_over, 1);
  CHECK(pthread_join(user, NULL) == 0);
}

/* The file that each descriptor from 3 on is of. */
static void files(ino_t *numbers) {
  for (int fd = 3; fd < 12; fd++) {
    struct stat meta;
    numbers[fd - 3] = fstat(fd, &meta) == 0 ? meta.st_ino : 0;
  }
}

static void has_the_same_files(void *with) {
  ino_t own[9];
  files(own);
  CHECK(memcmp(own, with, sizeof own) == 0);
}

static void closes_all_and_opens_others(void *with) {
  ino_t own[9];
  (void)with;
  CHECK(syscall(SYS_close_range, 3, ~0u, 0) == 0);
  for (unsigned nth = 0; nth < 9; nth++) {
    char name[16];
    snprintf(name, sizeof name, "file%u", nth);
    CHECK(open(path_of(name), O_CREAT | O_RDWR, 0600) >= 0);
  }
  files(own);
  in_child(has_the_same_files, own);
}

static void what_a_child_opens_in_the_place_of_its_parents_files_is_left_alone(void) {
  curfew_table table = create("parents");
  in_child(closes_all_and_opens_others, NULL);
  OK(curfew_close(table));
}

int main(int count, char **arguments) {
  begin(count, arguments);
  RUN(who_had_no_descriptors_left_once_has_them_later);
  RUN(a_child_opens_a_table_though_its_parent_was_opening_the_first);
  RUN(a_child_closes_its_table_though_others_were_in_one_of_that_place);
  RUN(what_a_child_opens_in_the_place_of_its_parents_files_is_left_alone);
  return 0;
}

/* What the C tests have in common. Each is a program of its own: TEST DIRECTORY, which must be empty. */
#ifndef CHECK_H
#define CHECK_H

#define _GNU_SOURCE
#include <curfew.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition)                                                                                     \
  do {                                                                                                       \
    if (!(condition)) {                                                                                      \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                        \
      _exit(1);                                                                                              \
    }                                                                                                        \
  } while (0)
#define ANSWERS(status, call)                                                                                \
  do {                                                                                                       \
    int32_t answer_ = (call);                                                                                \
    if (answer_ != (status)) {                                                                               \
      fprintf(stderr, "%s:%d: %s answered %s\n", __FILE__, __LINE__, #call, curfew_status_name(answer_));    \
      _exit(1);                                                                                              \
    }                                                                                                        \
  } while (0)
#define OK(call) ANSWERS(CURFEW_OK, call)

static const char *directory;
static const curfew_tick T = 1000;

/* The path of a file in the directory, which lives as long as the program. Threads may ask for known ones only. */
static inline char *path_of(const char *name) {
  static struct known {
    struct known *next;
    char path[4096];
  } *all;
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", directory, name);
  for (struct known *known = all; known; known = known->next)
    if (strcmp(known->path, path) == 0) return known->path;
  struct known *known = malloc(sizeof *known);
  CHECK(known);
  strcpy(known->path, path);
  known->next = all;
  all = known;
  return known->path;
}

static inline uint32_t set_policy(curfew_table table) {
  curfew_policy policy = curfew_policy_init();
  uint32_t number;
  policy.idle_ms = 900000;
  policy.lifetime_ms = 28800000;
  OK(curfew_set_policy(table, "staff", &policy, T, NULL, &number));
  return number;
}

static inline curfew_table create(const char *name) {
  curfew_config config = curfew_config_init(1000);
  curfew_table table;
  if (name) OK(curfew_create(path_of(name), &config, NULL, &table));
  else OK(curfew_create_private(&config, NULL, &table));
  set_policy(table);
  return table;
}

static inline curfew_key start(curfew_table table, const char *id) {
  curfew_start_options options = curfew_start_options_init(0);
  curfew_key key;
  OK(curfew_derive_key(table, (const uint8_t *)id, strlen(id), &key));
  OK(curfew_start(table, &key, &options, T, NULL));
  return key;
}

static inline bool passes(curfew_table table, const curfew_key *key) {
  curfew_verdict verdict = curfew_verdict_init();
  OK(curfew_touch(table, key, 0, T, &verdict));
  return verdict.passes;
}

/* Runs something in a forked child, which must end well. */
static inline void in_child(void (*what)(void *), void *with) {
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    what(with);
    _exit(0);
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static inline void change_byte(const char *path, off_t at) {
  int fd = open(path, O_RDWR);
  char byte;
  CHECK(fd >= 0 && pread(fd, &byte, 1, at) == 1);
  byte ^= 64;
  CHECK(pwrite(fd, &byte, 1, at) == 1 && close(fd) == 0);
}

#define RUN(test)                                                                                            \
  printf("%s\n", #test);                                                                                     \
  fflush(stdout);                                                                                            \
  test()

/* Before the tests: where they may work, and an end to whatever hangs. */
static inline void begin(int count, char **arguments) {
  CHECK(count == 2);
  directory = arguments[1];
  alarm(600);
}

#endif

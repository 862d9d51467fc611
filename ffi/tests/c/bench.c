/* Nanoseconds per touch through the C library, beside what `curfew-bench touch` says of the engine: the same
 * numbers of sessions, in random order, `now` moving on by a millisecond every thousand touches. */
#define _GNU_SOURCE
#include <curfew.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { TOUCHES = 2000000, ROUNDS = 5, MANY = 256 };

static double seconds(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static uint64_t state = 88172645463325252u;

static uint64_t draw(void) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

static void must(curfew_status status) {
  if (status == CURFEW_OK) return;
  fprintf(stderr, "bench: %s\n", curfew_status_text(status));
  exit(2);
}

static void measure(size_t sessions) {
  curfew_config config = curfew_config_init(sessions + sessions / 8);
  curfew_policy policy = curfew_policy_init();
  curfew_table table;
  uint32_t number;
  curfew_key *keys = malloc(sessions * sizeof *keys), *drawn = malloc(TOUCHES * sizeof *drawn);
  if (!keys || !drawn) must(CURFEW_SYSTEM);
  must(curfew_create_private(&config, NULL, &table));
  policy.idle_ms = 1000u * 3600 * 1000;
  must(curfew_set_policy(table, "long", &policy, 0, NULL, &number));
  curfew_start_options start = curfew_start_options_init(number);
  for (size_t i = 0; i < sessions; i++) {
    must(curfew_derive_key(table, (const uint8_t *)&i, sizeof i, &keys[i]));
    must(curfew_start(table, &keys[i], &start, 0, NULL));
  }
  for (size_t i = 0; i < TOUCHES; i++) drawn[i] = keys[draw() % sessions];

  double alone = 1e9, many = 1e9, nothing = 1e9;
  uint64_t passed = 0;
  curfew_tick now = 1;
  for (int round = 0; round < ROUNDS; round++) {
    curfew_verdict verdict = curfew_verdict_init(), verdicts[MANY];
    double began = seconds();
    for (size_t i = 0; i < TOUCHES; i++) {
      must(curfew_touch(table, &drawn[i], 0, now + i / 1000, &verdict));
      passed += verdict.passes;
    }
    double end = seconds();
    if (end - began < alone) alone = end - began;
    now += TOUCHES / 1000;
    verdicts[0] = verdict;
    began = seconds();
    for (size_t i = 0; i + MANY <= TOUCHES; i += MANY) {
      must(curfew_touch_many(table, &drawn[i], NULL, MANY, now + i / 1000, verdicts));
      passed += verdicts[MANY - 1].passes;
    }
    end = seconds();
    if (end - began < many) many = end - began;
    now += TOUCHES / 1000;
    /* The way there and back alone: a call that does next to nothing with the table. */
    began = seconds();
    for (size_t i = 0; i < TOUCHES; i++) {
      uint64_t next;
      must(curfew_event_range(table, NULL, &next));
    }
    end = seconds();
    if (end - began < nothing) nothing = end - began;
  }
  if (passed == 0) must(CURFEW_UNKNOWN_SESSION);
  printf("| %zu | %.1f | %.1f | %.1f |\n", sessions, alone * 1e9 / TOUCHES, many * 1e9 / (TOUCHES / MANY * MANY),
         nothing * 1e9 / TOUCHES);
  must(curfew_close(table));
  free(keys);
  free(drawn);
}

int main(void) {
  printf("| sessions | curfew_touch, ns | curfew_touch_many of %d, ns | a call that only looks, ns |\n|---|---|---|---|\n",
         MANY);
  measure(100000);
  measure(1000000);
  return 0;
}

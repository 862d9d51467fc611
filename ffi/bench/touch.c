/* Touches on demand through the C library: touch SESSIONS TOUCHES. A line of standard input names what to do, and the
 * answer is nanoseconds of processor time per touch. ffi/bench/run asks this program and its like in turn. */
#define _GNU_SOURCE
#include <curfew.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { A_MILLISECOND = 1000, MOST = 4096 };

/* Of the processor: whoever else had it meanwhile does not count. */
static double nanoseconds(void) {
  struct timespec time;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static uint64_t draw(void) {
  static uint64_t state = 88172645463325252u;
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

static void must(curfew_status status) {
  if (status == CURFEW_OK) return;
  fprintf(stderr, "touch: %s\n", curfew_status_text(status));
  exit(2);
}

static curfew_table table;
static curfew_key *drawn;
static size_t touches;
static curfew_tick now = 1;

static size_t one_by_one(void) {
  curfew_verdict verdict = curfew_verdict_init();
  size_t passed = 0;
  for (size_t i = 0; i < touches; i++) {
    must(curfew_touch(table, &drawn[i], 0, now + i / A_MILLISECOND, &verdict));
    passed += verdict.passes;
  }
  return passed;
}

static size_t in_batches(size_t size) {
  static curfew_verdict verdicts[MOST];
  size_t passed = 0;
  verdicts[0] = curfew_verdict_init();
  for (size_t i = 0; i < touches; i += size) {
    size_t count = touches - i < size ? touches - i : size;
    must(curfew_touch_many(table, &drawn[i], NULL, count, now + i / A_MILLISECOND, verdicts));
    for (size_t nth = 0; nth < count; nth++) passed += verdicts[nth].passes;
  }
  return passed;
}

/* The way into the library and out of it: the number of an event is all that is looked at. */
static size_t in_and_out(void) {
  for (size_t i = 0; i < touches; i++) {
    uint64_t next;
    must(curfew_event_range(table, NULL, &next));
  }
  return touches;
}

int main(int count, char **arguments) {
  if (count != 3) return 2;
  size_t sessions = strtoull(arguments[1], NULL, 10);
  curfew_config config = curfew_config_init(sessions);
  curfew_policy policy = curfew_policy_init();
  uint32_t number;
  touches = strtoull(arguments[2], NULL, 10);
  curfew_key *keys = malloc(sessions * sizeof *keys);
  drawn = malloc(touches * sizeof *drawn);
  if (!keys || !drawn) must(CURFEW_SYSTEM);
  must(curfew_create_private(&config, NULL, &table));
  policy.idle_ms = 8u * 3600 * 1000;
  policy.lifetime_ms = 30ull * 24 * 3600 * 1000;
  must(curfew_set_policy(table, "bench", &policy, 0, NULL, &number));
  curfew_start_options start = curfew_start_options_init(number);
  for (size_t i = 0; i < sessions; i++) {
    /* Keys are digests, and random bytes are as good. */
    uint64_t halves[2] = {draw(), draw()};
    memcpy(&keys[i], halves, sizeof halves);
    must(curfew_start(table, &keys[i], &start, 0, NULL));
  }
  for (size_t i = 0; i < touches; i++) drawn[i] = keys[draw() % sessions];
  free(keys);
  printf("ready\n");
  fflush(stdout);

  char what[32];
  while (fgets(what, sizeof what, stdin)) {
    size_t size = strtoull(what, NULL, 10);
    if (size > MOST) return 2;
    double began = nanoseconds();
    size_t passed = size ? in_batches(size) : what[0] == 't' ? one_by_one() : in_and_out();
    double took = nanoseconds() - began;
    if (passed != touches) must(CURFEW_UNKNOWN_SESSION);
    printf("%f\n", took / (double)touches);
    fflush(stdout);
    now += touches / A_MILLISECOND + 1;
  }
  return curfew_close(table);
}

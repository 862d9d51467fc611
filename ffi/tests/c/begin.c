/* Goes with begin() of docs/c-api.md, which tests/check puts before it: the first start, a restart, and the start after a
 * reboot, each of which must find the session. begin DIRECTORY, which must be empty. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static int step(const char *what, const char *region, const char *saved, int is_first) {
  curfew_table table;
  curfew_tick now;
  curfew_key key;
  uint32_t number;
  curfew_error error = curfew_error_init();
  curfew_policy policy = curfew_policy_init();
  curfew_verdict verdict = curfew_verdict_init();
  policy.idle_ms = 900000;
  curfew_status status = begin(region, saved, &table, &error);
  if (status != CURFEW_OK) return fprintf(stderr, "%s: %s\n", what, error.message);
  curfew_now(table, &now);
  curfew_derive_key(table, (const uint8_t *)"id", 2, &key);
  curfew_set_policy(table, "staff", &policy, now, NULL, &number);
  if (is_first) {
    curfew_start_options options = curfew_start_options_init(number);
    curfew_start(table, &key, &options, now, NULL);
  }
  curfew_touch(table, &key, 0, now, &verdict);
  if (!verdict.passes) return fprintf(stderr, "%s: the session is %s\n", what, curfew_state_name(verdict.state));
  status = curfew_snapshot(table, saved, &error, NULL);
  if (status != CURFEW_OK) return fprintf(stderr, "%s: %s\n", what, error.message);
  return curfew_close(table);
}

/* As another version would have made it: all that the program sees of another boot or layout is such a status. */
static int spoil(const char *region) {
  int fd = open(region, O_RDWR);
  char byte;
  if (fd < 0 || pread(fd, &byte, 1, 8) != 1) return 1;
  byte ^= 4;
  return pwrite(fd, &byte, 1, 8) != 1 || close(fd) != 0;
}

int main(int count, char **arguments) {
  char region[4096], saved[4096];
  if (count != 2) return 2;
  snprintf(region, sizeof region, "%s/app.region", arguments[1]);
  snprintf(saved, sizeof saved, "%s/app.snapshot", arguments[1]);
  return step("first", region, saved, 1) || step("restart", region, saved, 0) || spoil(region) ||
         step("other version", region, saved, 0) || unlink(region) || step("reboot", region, saved, 0);
}

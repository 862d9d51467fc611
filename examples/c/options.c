#include "options.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

noreturn void fail(const char *what, const char *why) {
  fprintf(stderr, "proxy: %s: %s\n", what, why);
  exit(2);
}

static struct sockaddr_in address(const char *text) {
  struct sockaddr_in address = {.sin_family = AF_INET};
  char host[64];
  unsigned port;
  if (sscanf(text, "%63[0-9.]:%u", host, &port) != 2 || port > 65535 || inet_pton(AF_INET, host, &address.sin_addr) != 1)
    fail(text, "an address is like 127.0.0.1:8080");
  address.sin_port = htons((uint16_t)port);
  return address;
}

static uint64_t number(const char *text) {
  char *end;
  errno = 0;
  unsigned long long number = strtoull(text, &end, 10);
  if (errno || end == text || *end || text[0] == '-' || number > 1000000000) fail(text, "not a number that makes sense");
  return number;
}

struct options read_options(int count, char **arguments) {
  struct options options = {.cookie = "sid", .idle_ms = 15 * 60000, .lifetime_ms = 8 * 3600000, .capacity = 100000};
  options.listen = address("127.0.0.1:0");
  for (int i = 1; i < count; i += 2) {
    const char *name = arguments[i], *value = i + 1 < count ? arguments[i + 1] : NULL;
    if (!value) fail(name, "an option without a value");
    if (!strcmp(name, "--region")) options.region = value;
    else if (!strcmp(name, "--listen")) options.listen = address(value);
    else if (!strcmp(name, "--upstream")) options.upstream = address(value);
    else if (!strcmp(name, "--cookie")) options.cookie = value;
    else if (!strcmp(name, "--idle")) options.idle_ms = number(value) * 1000;
    else if (!strcmp(name, "--lifetime")) options.lifetime_ms = number(value) * 1000;
    else if (!strcmp(name, "--capacity")) options.capacity = number(value);
    else fail(name, "no such option");
  }
  if (!options.region || !options.upstream.sin_port) fail("--region and --upstream", "needed");
  return options;
}

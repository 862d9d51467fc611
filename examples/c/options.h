/* The command line of the proxy. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <netinet/in.h>
#include <stdint.h>
#include <stdnoreturn.h>

struct options {
  const char *region, *cookie;
  struct sockaddr_in listen, upstream;
  uint64_t idle_ms, lifetime_ms, capacity;
};

/* Ends the program, with what is wrong on standard error. */
noreturn void fail(const char *what, const char *why);

/* Fails if they make no sense. */
struct options read_options(int count, char **arguments);

#endif
